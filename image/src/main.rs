//! The one tool for everything that is not `cargo test`: `cargo run -- SUBCOMMAND`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use image::authority::Format;
use image::bench::figure;
use image::harness::{Guest, Setup};
use image::net::TapError;
use image::run::{Behind, Boot};
use image::{
    authority, bench, build, install, iso, manifest, pcap, qemu, run, suite, trace, workspace,
};
use netd::addressing::ArgError;
use netd::{Addressing, Addressing6};

/// Builds Breakwater, boots it under QEMU and tests it.
///
/// Without a subcommand: `run`. QEMU is installed when it is missing, where apt-get is there to do
/// it; everything else comes with Rust.
#[derive(Parser)]
#[command(name = "cargo run --", bin_name = "cargo run --")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
    /// The manifest: which servers and programs the system has [default: image/system.toml]
    #[arg(long, value_name = "FILE", global = true)]
    manifest: Option<PathBuf>,
}

impl Cli {
    /// Reads the command line. `run`'s own options may stand alone, but before another subcommand
    /// they would be lost.
    fn read() -> Self {
        let mut command = Self::command();
        let matches = command.get_matches_mut();
        if matches.subcommand_name().is_some() {
            let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
            let lost =
                matches.ids().map(|id| id.as_str()).find(|id| *id != "manifest" && given(id));
            if let Some(id) = lost.filter(|id| command.get_arguments().any(|a| a.get_id() == *id)) {
                let text = format!("`--{id}` belongs behind the subcommand");
                command.error(ErrorKind::ArgumentConflict, text).exit();
            }
        }
        Self::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
    }
}

#[derive(Subcommand)]
enum Command {
    /// Build and boot; the terminal becomes the system's console
    ///
    /// Prints which ports of the host lead where, then boots. On the console, `help` lists the
    /// commands; `poweroff` ends the system, and so does Ctrl-A X. The exit status is 0 after
    /// either, and a failure when the kernel panics or the machine resets.
    Run(Run),
    /// Build kernel, servers and programs, and pack the boot bundle
    Build(Build),
    /// Write an image that BIOS and UEFI machines boot: for a CD, a stick, a virtual machine
    ///
    /// The image is a CD's and a disk's at once; docs/running.md says how to put it where. GRUB, which it
    /// boots through, is installed when it is missing, where apt-get is there to do it.
    Image(Disk),
    /// Boot the system once for each test, and check what it does
    ///
    /// Console and frames of a failed test are kept in target/qemu-tests. `cargo test` runs these
    /// tests too, after those that need no machine.
    Test(Test),
    /// Throw random system calls at the kernel from an unprivileged program
    ///
    /// The network must go on answering, and nothing may be left behind. A seed does the same again: a
    /// failure says which, and from where.
    FuzzKernel(FuzzKernel),
    /// Fuzz the stack on this machine: frames, calls, or both, led by coverage
    ///
    /// Needs a C++ compiler (libFuzzer is compiled here). New inputs are kept in target/fuzz-stack; those in the
    /// repository are run again by `cargo test -p netd`.
    FuzzStack(FuzzStack),
    /// Say who holds what: memory, devices, endpoints
    ///
    /// As the manifest declares it; with --running, as it is in a system that is booted for it, and
    /// whether both are the same. Every build checks that no program reaches a device's
    /// registers, another's memory, or what nobody declared.
    Authority(Authority),
    /// Record what happens, as a timeline for a browser
    ///
    /// Boots the system, traces it under a small load, or while the commands after `--` run in
    /// its shell, and writes OUT as Chrome trace JSON: open it at https://ui.perfetto.dev or
    /// chrome://tracing.
    Trace(Trace),
    /// Capture packets of a running system into a file for Wireshark
    ///
    /// Takes them from the system's own taps, so loopback is there, too, and what the card cuts into segments is
    /// whole. Ends with Ctrl-C; the file is right at any time. `cargo run -q -- pcap - | wireshark -k -i -` shows
    /// them as they come.
    Pcap(Pcap),
    /// Try the system against Linux's own stack, on a tap interface in a network namespace
    ///
    /// Streams with every congestion control on clean, slow and bad lines, keep-alive, ECN, Fast Open, urgent data,
    /// fragments, IPv6, multicast, and the usual tools. Needs root or user namespaces; docs/interop.md says more.
    Interop(Interop),
    /// Measure: instructions, time and memory, beside a Linux guest
    ///
    /// Without a name: prints which measurements there are.
    Bench(Bench),
}

#[derive(Args)]
struct Pcap {
    /// Where to write the capture; `-`: to standard output
    #[arg(value_name = "OUT")]
    out: String,
    /// Where the system's capture service is
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2002")]
    from: String,
    /// End after so many frames
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Only these: as for tcpdump, for instance `tcp port 80 and host 10.0.2.2`; docs/stack.md has the words
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

#[derive(Args)]
struct Run {
    /// What is behind the network card: `user` gives the system an address by DHCP, a way out,
    /// and the forwarded ports of the manifest; `tap:IF` is a tap interface of the host; `none`
    /// gives nothing. Given twice, the system has two cards (image/nics.toml)
    #[arg(long, value_name = "user|none|tap:IF", default_value = "user", value_parser = behind)]
    net: Vec<Behind>,
    #[command(flatten)]
    own: Own,
    /// Who loads the kernel: QEMU itself, or a BIOS or UEFI firmware from a disk, through GRUB
    #[arg(long, value_enum, default_value = "kernel")]
    boot: Boot,
    /// The machine
    #[arg(long, value_enum, default_value = "pc")]
    machine: qemu::Chipset,
    /// With --machine q35: without an IOMMU, so that the network card reaches all memory
    #[arg(long)]
    no_iommu: bool,
    /// The network card
    #[arg(long, value_enum, default_value = "82540em")]
    nic: qemu::Nic,
    /// How instructions are run; `auto` takes KVM where it works, else TCG
    #[arg(long, value_enum, default_value = "auto")]
    accel: qemu::Accel,
    /// Memory of the machine
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(64..=65536))]
    mem: u32,
    /// The test agent (docs/agent.md): makes socket calls for a test host that talks to it over the Unix
    /// socket PATH. The system is that of image/agent.toml, and has at least 640 MiB
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Record every frame in FILE, for Wireshark or tcpdump
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Stop before the first instruction and wait for a debugger on port 1234
    #[arg(long)]
    gdb: bool,
    /// Show the console, but read nothing: for scripts and CI
    #[arg(long)]
    headless: bool,
    /// Kernel command line
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
}

/// The system's own address.
#[derive(Args)]
struct Own {
    /// Address of the system, instead of asking for one by DHCP
    #[arg(long, value_name = "ADDRESS/LENGTH", value_parser = network)]
    ip: Option<(Ipv4Addr, u8)>,
    /// With --ip: where other networks are
    #[arg(long, value_name = "ADDRESS", requires = "ip")]
    gateway: Option<Ipv4Addr>,
    /// With --ip: the name server
    #[arg(long, value_name = "ADDRESS", requires = "ip")]
    dns: Option<Ipv4Addr>,
    /// Addresses of IPv6: `auto` (as routers say), `off`, or ADDRESS/LENGTH
    #[arg(long, value_name = "HOW", value_parser = six)]
    ip6: Option<Addressing6>,
    /// With an address as --ip6: where other networks are
    #[arg(long, value_name = "ADDRESS", requires = "ip6")]
    gateway6: Option<Ipv6Addr>,
    /// With an address as --ip6: the name server
    #[arg(long, value_name = "ADDRESS", requires = "ip6")]
    dns6: Option<Ipv6Addr>,
}

#[derive(Args)]
struct Disk {
    /// Where to write it; call it .iso or .img
    #[arg(value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    own: Own,
    /// Kernel command line
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
}

#[derive(Args)]
struct Build {
    /// Check the guest's code with clippy instead, warnings denied
    #[arg(long)]
    clippy: bool,
}

#[derive(Args)]
struct Test {
    /// Which; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print their names instead, and what each shows
    #[arg(long)]
    list: bool,
}

#[derive(Args)]
struct Interop {
    /// Which cases; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print their names instead, and what each shows
    #[arg(long)]
    list: bool,
    /// What decides which frames a bad line loses
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct Authority {
    /// Graphviz text
    #[arg(long)]
    dot: bool,
    /// A picture
    #[arg(long, conflicts_with = "dot")]
    svg: bool,
    /// JSON
    #[arg(long, conflicts_with_all = ["dot", "svg"])]
    json: bool,
    /// Boot the system, ask its kernel, and compare
    #[arg(long)]
    running: bool,
}

#[derive(Args)]
struct Trace {
    /// Where to write the timeline
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Trace at least so long
    #[arg(long, value_name = "N", default_value_t = 2)]
    seconds: u64,
    /// Boot nothing: read a trace from a file, or from a system whose shell says `trace send`
    #[arg(long, value_name = "FILE|ADDRESS:PORT", conflicts_with_all = ["seconds", "load"])]
    from: Option<String>,
    /// The machine
    #[arg(long, value_enum, default_value = "pc")]
    machine: qemu::Chipset,
    /// Commands for the system's shell, one an argument, instead of pings and web pages
    #[arg(value_name = "COMMAND", last = true)]
    load: Vec<String>,
}

#[derive(Args)]
struct FuzzKernel {
    /// System calls
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// What decides them, instead of chance
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Number of the sandbox to begin with: where a failure was
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
}

#[derive(Args)]
struct FuzzStack {
    /// What
    #[arg(value_enum)]
    target: image::fuzz::Target,
    /// For so long
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Instead: of all inputs put those that matter into the repository
    #[arg(long)]
    minimise: bool,
}

#[derive(Args)]
struct Bench {
    /// Which
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// One JSON object a line: name, value, unit, and where they exist aim and peers
    #[arg(long)]
    json: bool,
    /// The table in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Draw what Linux needs too, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Only these parts of it
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    reps: u32,
    /// Operations of each load, instead of what is usual for it
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    n: Option<u64>,
    /// Processor of every guest
    #[arg(long, default_value = "qemu64")]
    cpu: String,
    /// Memory of every guest
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    mem: u32,
}

/// Memory of a system with the agent: rings for thousands of connections.
const AGENT_MIB: u32 = 640;
/// Seconds for which an image's menu shows itself.
const MENU: u32 = 2;

/// Reads `--net`.
fn behind(text: &str) -> std::result::Result<Behind, String> {
    match (text, text.strip_prefix("tap:")) {
        ("user", _) => Ok(Behind::User),
        ("none", _) => Ok(Behind::None),
        (_, Some(name)) => name.parse().map(Behind::Tap).map_err(|e: TapError| e.to_string()),
        _ => Err("write user, none, or tap:IF with the name of a tap interface".into()),
    }
}

/// Reads `--ip`.
fn network(text: &str) -> std::result::Result<(Ipv4Addr, u8), String> {
    let what = "write a host's address and the length of its network's prefix, as in 10.9.0.2/24";
    netd::addressing::network(text).ok_or_else(|| what.into())
}

/// Reads `--ip6`.
fn six(text: &str) -> std::result::Result<Addressing6, String> {
    let arg = format!("ip6={text}");
    let what = "write auto, off, or an address and its prefix's length, as in 2001:db8::2/64";
    Addressing6::parse(&arg).map_err(|_| what.into())
}

/// Reads the options about addresses of both families, as the stack will.
fn own(o: &Own) -> Result<manifest::Own> {
    let v6 = match o.ip6 {
        Some(Addressing6::Static { addr, prefix, .. }) => {
            Some(Addressing6::Static { addr, prefix, gateway: o.gateway6, dns: o.dns6 })
        }
        _ if o.gateway6.is_some() || o.dns6.is_some() => {
            return Err(
                "--gateway6 and --dns6 go with an address as --ip6: with auto routers say".into()
            );
        }
        how => how,
    };
    if let Some(Err(e)) = v6.map(|v6| v6.to_string()).as_deref().map(Addressing6::parse) {
        return Err(e.to_string().into());
    }
    Ok(manifest::Own { v4: addressing(o)?, v6 })
}

/// Reads `--ip`, `--gateway` and `--dns` together, as the stack will.
fn addressing(o: &Own) -> Result<Option<Addressing>> {
    let Some((addr, prefix)) = o.ip else { return Ok(None) };
    let addressing = Addressing::Static { addr, prefix, gateway: o.gateway, dns: o.dns };
    let text = addressing.to_string();
    Ok(match Addressing::parse(&text) {
        Ok(same) => Some(same),
        Err(ArgError::Gateway(_)) => {
            return Err(format!("--gateway must be another host in the network of {text}").into());
        }
        Err(e) => return Err(e.to_string().into()),
    })
}

fn main() -> ExitCode {
    let cli = Cli::read();
    let run = match &cli.command {
        None => Some(&cli.run),
        Some(Command::Run(o)) => Some(o),
        _ => None,
    };
    let (with_agent, cards) = run.map_or((false, 1), |o| (o.agent.is_some(), o.net.len()));
    let usual = || match (with_agent, cards) {
        (true, _) => workspace::agent_manifest(),
        (false, 1) => workspace::manifest(),
        _ => workspace::nics_manifest(),
    };
    let manifest = cli.manifest.unwrap_or_else(usual);
    let result = match cli.command {
        None => boot(&cli.run, &manifest),
        Some(Command::Run(o)) => boot(&o, &manifest),
        Some(Command::Image(o)) => disk(&o, &manifest),
        Some(Command::Build(o)) => make(&o, &manifest),
        Some(Command::Test(o)) => test(&o, &manifest),
        Some(Command::FuzzKernel(o)) => fuzz_kernel(&o),
        Some(Command::FuzzStack(o)) => {
            let time = std::time::Duration::from_secs(60 * o.minutes);
            let done = image::fuzz::fuzz(o.target, time, o.minimise);
            done.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Some(Command::Authority(o)) => show(&o, &manifest),
        Some(Command::Trace(o)) => record(&o, &manifest),
        Some(Command::Pcap(o)) => {
            let time = o.seconds.map(std::time::Duration::from_secs);
            let filter = o.filter.join(" ");
            match pcap::capture(&o.from, &o.out, &filter, o.count, time) {
                Ok(frames) => {
                    eprintln!("\r{frames} frames are in {}", o.out);
                    Ok(ExitCode::SUCCESS)
                }
                Err(e) => Err(e.into()),
            }
        }
        Some(Command::Interop(o)) => interop(&o),
        Some(Command::Bench(o)) => measure(&o),
    };
    result.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::FAILURE
    })
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn boot(o: &Run, manifest: &Path) -> Result<ExitCode> {
    let options = run::Options {
        net: o.net.first().cloned().unwrap_or(Behind::User),
        other_nets: o.net.iter().skip(1).cloned().collect(),
        chipset: o.machine,
        boot: o.boot,
        iommu: !o.no_iommu,
        nic: o.nic,
        accel: o.accel,
        mem_mib: if o.agent.is_some() { o.mem.max(AGENT_MIB) } else { o.mem },
        agent: o.agent.clone(),
        pcap: o.pcap.clone(),
        gdb: o.gdb,
        headless: o.headless,
        append: o.append.clone(),
    };
    let own = own(&o.own)?;
    options.check(&own.v4.unwrap_or(Addressing::Dhcp))?;
    install::ensure()?;
    let image = build::build_with(manifest, &own, false)?;
    Ok(run::run(&image, &options)?)
}

fn disk(o: &Disk, manifest: &Path) -> Result<ExitCode> {
    let append = o.append.as_deref();
    iso::check(&o.out, append)?;
    let own = own(&o.own)?;
    install::ensure_tool(install::Tool::Grub)?;
    let image = build::build_with(manifest, &own, false)?;
    iso::write(&image, append, MENU, &o.out)?;
    println!("{}: boots by BIOS and UEFI, from CD, disk or stick", o.out.display());
    Ok(ExitCode::SUCCESS)
}

fn make(o: &Build, manifest: &Path) -> Result<ExitCode> {
    if o.clippy {
        build::clippy()?;
        return Ok(ExitCode::SUCCESS);
    }
    let image = build::build(manifest, false)?;
    println!("kernel: {}", image.kernel.display());
    println!("bundle: {}", image.bundle.display());
    Ok(ExitCode::SUCCESS)
}

fn test(o: &Test, manifest: &Path) -> Result<ExitCode> {
    let mut tests = Vec::new();
    for name in &o.names {
        let unknown = || format!("there is no test called `{name}`; `--list` prints their names");
        tests.push(*suite::find(name).ok_or_else(unknown)?);
    }
    if o.names.is_empty() {
        tests = suite::ALL.to_vec();
    }
    if o.list {
        for t in &tests {
            println!("{:22}{}", t.name, t.shows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    install::ensure()?;
    let image = build::build(manifest, false)?;
    Ok(suite::run(&tests, image, Default::default()).exit_code())
}

fn interop(o: &Interop) -> Result<ExitCode> {
    if o.list {
        for c in image::interop::ALL {
            println!("{:14}{}", c.name, c.shows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let passed = image::interop::run(&o.names, o.seed)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(o: &Authority, manifest: &Path) -> Result<ExitCode> {
    let format = match (o.dot, o.svg, o.json) {
        (true, ..) => Format::Dot,
        (_, true, _) => Format::Svg,
        (.., true) => Format::Json,
        _ => Format::Text,
    };
    if !o.running {
        let plan = build::plan(manifest)?;
        print!("{}", authority::show(&authority::declared::graph(&plan.system), format));
        return Ok(ExitCode::SUCCESS);
    }
    install::ensure()?;
    let image = build::build(manifest, false)?;
    let (shown, wrong) = authority::compare(&image, format).map_err(|e| e.to_string())?;
    print!("{shown}");
    if wrong.is_empty() {
        eprintln!("the running system holds what the manifest declares, and nothing else");
        return Ok(ExitCode::SUCCESS);
    }
    Err(wrong.join("\n").into())
}

fn record(o: &Trace, manifest: &Path) -> Result<ExitCode> {
    let capture = match &o.from {
        Some(source) => trace::from(source)?,
        None => {
            install::ensure()?;
            let image = build::build(manifest, false)?;
            let setup = Setup { chipset: o.machine, ..Setup::new("trace-command") };
            let time = std::time::Duration::from_secs(o.seconds);
            let load = trace::Load { commands: o.load.clone(), time };
            trace::of_guest(&image, &setup, &load)?
        }
    };
    println!("{}", trace::write(&capture, &o.out)?);
    Ok(ExitCode::SUCCESS)
}

fn fuzz_kernel(o: &FuzzKernel) -> Result<ExitCode> {
    install::ensure()?;
    let image = build::build(&workspace::root().join("image/usertests.toml"), false)?;
    let mut guest = Guest::boot(&image, &Setup::new("fuzz-kernel")).map_err(|e| e.to_string())?;
    let what = suite::Fuzz { calls: o.calls, seed: o.seed, from: o.from };
    match suite::fuzz(&mut guest, &what, |line| println!("{line}")) {
        Ok(done) => println!("{done}"),
        Err(e) => return Err(format!("{e}\n{}", guest.report()).into()),
    }
    guest.forget_recording();
    Ok(ExitCode::SUCCESS)
}

fn measure(o: &Bench) -> Result<ExitCode> {
    let Some(name) = &o.name else {
        for b in bench::ALL {
            println!("{:10}{}", b.name, b.shows);
        }
        return Ok(ExitCode::SUCCESS);
    };
    install::ensure()?;
    let options = bench::Options {
        format: match (o.json, o.markdown) {
            (true, _) => figure::Format::Json,
            (_, true) => figure::Format::Markdown,
            _ => figure::Format::Text,
        },
        plot: o.plot.clone(),
        only: o.only.clone(),
        reps: o.reps,
        n: o.n,
        cpu: o.cpu.clone(),
        mem_mib: o.mem,
    };
    bench::run(name, &options)?;
    Ok(ExitCode::SUCCESS)
}
