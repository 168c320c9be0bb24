//! QEMU's command line, and what its end means.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::install;
use crate::net::Net;
use crate::qmp::Stop;

/// How the guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// KVM where it works, else TCG.
    Auto,
    /// QEMU's own translator: everywhere, slower.
    Tcg,
    /// The processor's virtualisation.
    Kvm,
}

impl Accel {
    /// Chooses for `auto`. /dev/kvm alone proves nothing: some machines let it be opened without
    /// a processor that can do it, and guests hang there.
    pub fn resolve(self) -> Self {
        let opens = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        match self {
            Self::Auto if cpu_virtualises() && opens() => Self::Kvm,
            Self::Auto => Self::Tcg,
            chosen => chosen,
        }
    }
}

fn cpu_virtualises() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| has_virtualisation(&text))
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|l| l.starts_with("flags"))
        .any(|l| l.split_whitespace().any(|f| f == "vmx" || f == "svm"))
}

/// QEMU's machines that the system runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Chipset {
    /// A PC of 1996: i440FX, PCI.
    #[default]
    Pc,
    /// One of 2009: Q35, PCI Express.
    Q35,
}

/// Network cards that there is a driver for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Nic {
    /// Intel 82540EM, PCI.
    #[default]
    #[value(name = "82540em")]
    I82540em,
    /// Intel 82544GC, PCI.
    #[value(name = "82544gc")]
    I82544gc,
    /// Intel 82545EM, PCI-X.
    #[value(name = "82545em")]
    I82545em,
    /// Intel 82574L, PCI Express.
    #[value(name = "82574l")]
    I82574l,
}

impl Nic {
    /// QEMU's name of it.
    fn device(self) -> &'static str {
        match self {
            Self::I82540em => "e1000",
            Self::I82544gc => "e1000-82544gc",
            Self::I82545em => "e1000-82545em",
            Self::I82574l => "e1000e",
        }
    }
}

/// Where the console goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The terminal, with QEMU's monitor behind Ctrl-A.
    Terminal,
    /// stdin and stdout, as they are.
    Plain,
}

/// What the machine's firmware boots from.
#[derive(Clone, Debug)]
pub struct Medium {
    /// An image that `iso` has written.
    pub image: PathBuf,
    /// A CD; else a disk.
    pub cd: bool,
    /// UEFI firmware; `None`: QEMU's BIOS.
    pub uefi: Option<PathBuf>,
}

/// A machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel.
    pub kernel: PathBuf,
    /// The bundle.
    pub bundle: PathBuf,
    /// Kernel command line.
    pub append: Option<String>,
    /// Where firmware finds them; `None`: QEMU itself loads them.
    pub medium: Option<Medium>,
    /// RAM.
    pub mem_mib: u32,
    /// Processors, of which the system uses one.
    pub processors: u32,
    /// Resolved accelerator.
    pub accel: Accel,
    /// Chipset.
    pub chipset: Chipset,
    /// With an IOMMU, if it is a q35: the other chipset cannot have one.
    pub iommu: bool,
    /// Network card.
    pub nic: Nic,
    /// What is behind it.
    pub net: Net,
    /// What is behind further cards of the kind.
    pub other_nets: Vec<Net>,
    /// Where frames are recorded.
    pub pcap: Option<Pcap>,
    /// Whether a debugger starts it.
    pub gdb: bool,
    /// One instruction a nanosecond of guest time; TCG only.
    pub icount: bool,
    /// QEMU's `-plugin`.
    pub plugin: Option<String>,
    /// Processor model; `None`: the host's under KVM, all that TCG can do else.
    pub cpu: Option<&'static str>,
    /// Socket behind the second serial port.
    pub agent: Option<PathBuf>,
    /// Console.
    pub console: Console,
    /// Control socket, on which we listen.
    pub qmp: Option<PathBuf>,
}

/// A recording of frames.
#[derive(Clone, Debug)]
pub struct Pcap {
    /// The file.
    pub path: PathBuf,
    /// Bytes kept of each frame; `None`: all.
    pub snap: Option<u32>,
}

/// A file name in an option list: a comma is doubled.
pub(crate) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A disk whose image stays as it is.
fn written_away(image: &Path) -> String {
    format!("format=raw,snapshot=on,file={}", escaped(image))
}

impl Machine {
    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut c = Command::new(install::QEMU);
        c.args(self.args());
        c
    }

    fn args(&self) -> Vec<OsString> {
        let mut a: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| a.extend(words.iter().map(OsString::from));
        let kvm = self.accel == Accel::Kvm;
        add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        let chipset = if self.chipset == Chipset::Q35 { "q35" } else { "pc" };
        let accel = if kvm { "kvm" } else { "tcg" };
        add(&["-machine", &format!("{chipset},accel={accel}")]);
        add(&["-cpu", self.cpu.unwrap_or(if kvm { "host" } else { "max" })]);
        add(&["-m", &self.mem_mib.to_string()]);
        if self.processors != 1 {
            add(&["-smp", &self.processors.to_string()]);
        }
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        if self.iommu && self.chipset == Chipset::Q35 {
            // Before the devices that it is to confine.
            add(&["-device", "intel-iommu"]);
        }
        add(&["-serial", if self.console == Console::Terminal { "mon:stdio" } else { "stdio" }]);
        if let Some(socket) = &self.agent {
            let path = escaped(socket);
            add(&["-chardev", &format!("socket,id=agent,path={path},server=on,wait=off")]);
            add(&["-serial", "chardev:agent"]);
        }
        add(&["-netdev", &self.net.netdev(0)]);
        // Without its boot ROM the firmware loses no time trying to boot from the network.
        add(&["-device", &format!("{},netdev=n0,romfile=", self.nic.device())]);
        for (n, net) in (1..).zip(&self.other_nets) {
            add(&["-netdev", &net.netdev(n)]);
            // Where a card has an interrupt line that no other has: firmware wires slots 4, 8 and so on as the fourth.
            let slot = 4 * n;
            let device = self.nic.device();
            add(&["-device", &format!("{device},netdev=n{n},romfile=,addr={slot:#x}")]);
        }
        if let Some(pcap) = &self.pcap {
            let snap = pcap.snap.map_or_else(String::new, |n| format!(",maxlen={n}"));
            let dump = format!("filter-dump,id=dump,netdev=n0,file={}{snap}", escaped(&pcap.path));
            add(&["-object", &dump]);
        }
        if let Some(socket) = &self.qmp {
            add(&["-chardev", &format!("socket,id=qmp,path={}", escaped(socket))]);
            add(&["-mon", "chardev=qmp,mode=control"]);
        }
        if self.gdb {
            add(&["-s", "-S"]);
        }
        if let Some(plugin) = &self.plugin {
            add(&["-plugin", plugin]);
        }
        if self.icount {
            add(&["-icount", "shift=0,sleep=off"]);
        }
        let Some(medium) = &self.medium else {
            if let Some(append) = &self.append {
                add(&["-append", append]);
            }
            a.extend(["-kernel".into(), self.kernel.clone().into_os_string()]);
            a.extend(["-initrd".into(), self.bundle.clone().into_os_string()]);
            return a;
        };
        let file = |path| format!("format=raw,readonly=on,file={}", escaped(path));
        if let Some(uefi) = &medium.uefi {
            add(&["-drive", &format!("if=pflash,unit=0,{}", file(uefi))]);
        }
        // A disk that is read-only is none for AHCI: what is written is thrown away instead.
        let drive = if medium.cd { file(&medium.image) } else { written_away(&medium.image) };
        add(&["-drive", &format!("if=none,id=boot,{drive}")]);
        let device = if medium.cd { "ide-cd" } else { "ide-hd" };
        add(&["-device", &format!("{device},drive=boot,bootindex=0")]);
        a
    }
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It switched itself off, or the user ended it.
    Clean,
    /// The kernel panicked: it wrote [`PANIC`] to the debug-exit port.
    Panic,
    /// init gave up: the system cannot be what the manifest says.
    InitFailed,
    /// The processor reset: a triple fault.
    Reset,
    /// QEMU gave up or was killed.
    Failed,
}

/// What the kernel writes to port 0xf4 when it panics.
pub const PANIC: i32 = 0x7f;
/// What init writes there when it cannot go on.
pub const INIT_FAILED: i32 = 0x31;

/// Reads exit status and reason together: QEMU exits with 0 both when the machine switches itself
/// off and when a triple fault resets it.
pub fn end(status: ExitStatus, stop: Option<Stop>) -> End {
    match (status.code(), stop) {
        (Some(code), _) if code == PANIC << 1 | 1 => End::Panic,
        (Some(code), _) if code == INIT_FAILED << 1 | 1 => End::InitFailed,
        (Some(0), Some(Stop::Reset)) => End::Reset,
        (Some(0), _) => End::Clean,
        _ => End::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            kernel: "k".into(),
            bundle: "b".into(),
            append: None,
            medium: None,
            mem_mib: 128,
            processors: 1,
            accel: Accel::Tcg,
            chipset: Chipset::Pc,
            iommu: true,
            nic: Nic::I82540em,
            net: Net::None,
            other_nets: Vec::new(),
            pcap: None,
            gdb: false,
            icount: false,
            plugin: None,
            cpu: None,
            agent: None,
            console: Console::Plain,
            qmp: None,
        }
    }

    fn line(m: &Machine) -> String {
        m.args().join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn what_is_asked_for_reaches_the_command_line() {
        let mut m = machine();
        m.pcap = Some(Pcap { path: "a,b.pcap".into(), snap: Some(160) });
        let text = line(&m);
        assert!(text.contains("-kernel k -initrd b") && text.contains("-cpu max"), "{text}");
        assert!(text.contains("-machine pc,accel=tcg"), "{text}");
        assert!(text.contains("-netdev stream,id=n0,server=on"), "{text}");
        assert!(text.contains("-device e1000,netdev=n0"), "{text}");
        assert!(!text.contains("intel-iommu"), "{text}");
        assert!(text.contains("file=a,,b.pcap,maxlen=160"), "{text}");
        (m.chipset, m.nic) = (Chipset::Q35, Nic::I82574l);
        let text = line(&m);
        assert!(text.contains("-machine q35,accel=tcg"), "{text}");
        assert!(text.contains("-device e1000e,netdev=n0"), "{text}");
        let uefi = Some("code.fd".into());
        m.medium = Some(Medium { image: "x,y.iso".into(), cd: true, uefi });
        let text = line(&m);
        assert!(!text.contains("-kernel") && !text.contains("-initrd"), "{text}");
        assert!(text.contains("if=pflash,unit=0,format=raw,readonly=on,file=code.fd"), "{text}");
        assert!(text.contains("file=x,,y.iso -device ide-cd,drive=boot"), "{text}");
        let at = |what| text.find(what).expect(what);
        assert!(at("-device intel-iommu") < at("-device e1000e"), "{text}");
        m.iommu = false;
        assert!(!line(&m).contains("intel-iommu"));
    }

    #[test]
    fn only_a_flag_line_counts() {
        assert!(has_virtualisation("model name\t: x\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags : svm\n"));
        assert!(!has_virtualisation("flags : fpu sse\nmodel name : svm\n"));
        assert!(!has_virtualisation("vmx flags : ept\nflags : fpu\n"));
    }

    #[cfg(unix)]
    #[test]
    fn a_reset_is_not_a_clean_end() {
        use std::os::unix::process::ExitStatusExt;
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(end(exit(255), None), End::Panic);
        assert_eq!(end(exit(99), None), End::InitFailed);
        assert_eq!(end(exit(0), Some(Stop::Shutdown)), End::Clean);
        assert_eq!(end(exit(0), Some(Stop::Reset)), End::Reset);
        assert_eq!(end(exit(1), None), End::Failed);
    }
}
