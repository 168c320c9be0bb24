//! The `run` command: boots the image and connects the terminal to its console.

use std::process::{ExitCode, Stdio};

use netd::Addressing;

use crate::build::Image;
use crate::child::Guarded;
use crate::net::{Net, Tap, TapError, user_has_room};
use crate::qemu::{self, Accel, Chipset, Console, End, Machine, Medium, Nic, Pcap};
use crate::qmp::Qmp;
use crate::{install, iso, ports};

/// What to run with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is behind the network card.
    pub net: Behind,
    /// What is behind further cards.
    pub other_nets: Vec<Behind>,
    /// Chipset.
    pub chipset: Chipset,
    /// Who loads the kernel.
    pub boot: Boot,
    /// With an IOMMU, if the chipset can have one.
    pub iommu: bool,
    /// Network card.
    pub nic: Nic,
    /// Accelerator.
    pub accel: Accel,
    /// RAM.
    pub mem_mib: u32,
    /// The test agent's socket, made by QEMU.
    pub agent: Option<std::path::PathBuf>,
    /// Where to record frames.
    pub pcap: Option<std::path::PathBuf>,
    /// Wait for a debugger.
    pub gdb: bool,
    /// Leave stdin alone.
    pub headless: bool,
    /// Kernel command line.
    pub append: Option<String>,
}

/// Who loads the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Boot {
    /// QEMU itself.
    #[default]
    Kernel,
    /// A BIOS and GRUB, from a disk.
    Bios,
    /// UEFI firmware and GRUB, from a disk.
    Uefi,
}

impl Boot {
    /// The medium to boot `image` from, made beside its bundle; `None`: none is needed.
    ///
    /// # Errors
    /// If a tool or a file is missing.
    pub fn medium(
        self,
        image: &Image,
        append: Option<&str>,
        cd: bool,
    ) -> Result<Option<Medium>, Error> {
        let uefi = match self {
            Self::Kernel => return Ok(None),
            Self::Bios => None,
            Self::Uefi => Some(install::firmware()?),
        };
        let path = image.bundle.with_extension("boot.iso");
        iso::write(image, append, 0, &path)?;
        Ok(Some(Medium { image: path, cd, uefi }))
    }
}

/// What is to be behind the network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// User-mode networking.
    User,
    /// Nothing.
    None,
    /// A tap interface.
    Tap(Tap),
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No QEMU.
    #[error(transparent)]
    Install(#[from] install::Error),
    /// No image to boot from.
    #[error(transparent)]
    Iso(#[from] iso::Error),
    /// No ports.
    #[error("no free port on 127.0.0.1 for the forwards of the manifest; try `--net none`")]
    Ports,
    /// No tap.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// An address for which user-mode networking has no place.
    #[error(
        "QEMU's user-mode networking needs a network with room for a gateway and a name server: \
         use a prefix length of 29 or less, or `--net tap:IF`"
    )]
    Small,
    /// The recording cannot be written.
    #[error("cannot write {path}: {source}")]
    Pcap {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// QEMU does not start, or its socket.
    #[error("cannot start QEMU: {0}")]
    Start(std::io::Error),
}

impl Options {
    /// Whether a system that gets its address in this way can run; to be asked before building.
    ///
    /// # Errors
    /// What does not go together, or is not there.
    pub fn check(&self, addressing: &Addressing) -> Result<(), Error> {
        for net in &self.other_nets {
            if let Behind::Tap(tap) = net {
                tap.check()?;
            }
        }
        match &self.net {
            Behind::Tap(tap) => tap.check()?,
            Behind::User if !user_has_room(addressing) => return Err(Error::Small),
            Behind::User | Behind::None => {}
        }
        Ok(())
    }
}

/// Boots `image` and stays until it ends. The status is failure if the kernel panicked, the
/// machine reset or QEMU failed.
///
/// # Errors
/// If it cannot be started.
pub fn run(image: &Image, o: &Options) -> Result<ExitCode, Error> {
    o.check(&image.plan.addressing)?;
    if let Some(path) = &o.pcap {
        // QEMU would say this after the boot message, and less clearly.
        let check = std::fs::File::create(path);
        check.map_err(|source| Error::Pcap { path: path.display().to_string(), source })?;
    }
    let qmp = Qmp::listen().map_err(Error::Start)?;
    let net = match &o.net {
        Behind::None => Net::None,
        Behind::Tap(tap) => Net::Tap(tap.clone()),
        Behind::User => Net::User {
            forwards: ports::choose(&image.plan.forwards, true).ok_or(Error::Ports)?,
            addressing: image.plan.addressing,
        },
    };
    let all =
        image.plan.other_addressing.iter().copied().chain(std::iter::repeat(Addressing::Dhcp));
    let other_nets = o.other_nets.iter().zip(all).map(|(net, addressing)| match net {
        Behind::None => Net::None,
        Behind::Tap(tap) => Net::Tap(tap.clone()),
        // The ports lead to the first card.
        Behind::User => Net::User { forwards: Vec::new(), addressing },
    });
    let machine = Machine {
        other_nets: other_nets.collect(),
        kernel: image.kernel.clone(),
        bundle: image.bundle.clone(),
        append: o.append.clone(),
        medium: o.boot.medium(image, o.append.as_deref(), false)?,
        mem_mib: o.mem_mib,
        processors: 1,
        accel: o.accel.resolve(),
        chipset: o.chipset,
        iommu: o.iommu,
        nic: o.nic,
        net,
        pcap: o.pcap.clone().map(|path| Pcap { path, snap: None }),
        gdb: o.gdb,
        icount: false,
        plugin: None,
        cpu: None,
        agent: o.agent.clone(),
        console: if o.headless { Console::Plain } else { Console::Terminal },
        qmp: Some(qmp.path().into()),
    };
    announce(&machine, o, image.plan.addressing);
    let mut command = machine.command();
    if o.headless {
        command.stdin(Stdio::null());
    }
    let status = Guarded::spawn(&mut command).and_then(|mut q| q.wait()).map_err(Error::Start)?;
    let end = qemu::end(status, qmp.stop());
    match end {
        End::Clean => {}
        End::Panic => eprintln!("the kernel panicked: its last words are above"),
        End::InitFailed => eprintln!("init could not go on: its last words are above"),
        End::Reset => eprintln!("the machine reset (a triple fault): a bug of the kernel"),
        End::Failed => eprintln!("QEMU failed ({status})"),
    }
    Ok(if end == End::Clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn announce(m: &Machine, o: &Options, addressing: Addressing) {
    let accel = if m.accel == Accel::Kvm { "KVM" } else { "TCG" };
    eprintln!("booting: {} MiB, {accel}", m.mem_mib);
    if let (Net::Tap(tap), Addressing::Static { addr, .. }) = (&m.net, addressing) {
        eprintln!("  {addr} behind {tap}: `ping {addr}`, `curl http://{addr}/`");
    }
    for mapping in m.net.forwards() {
        let host = mapping.host;
        let (what, port) = (&mapping.what, mapping.port);
        if port == 80 {
            eprintln!("  http://127.0.0.1:{host}/ leads to port {port} ({what})");
        } else {
            eprintln!("  127.0.0.1:{host} ({}) leads to port {port} ({what})", protocols(mapping));
        }
    }
    if let Some(socket) = &m.agent {
        eprintln!("  the test agent answers on {}", socket.display());
    }
    if let Some(pcap) = &m.pcap {
        eprintln!("  frames are recorded in {}", pcap.path.display());
    }
    if m.gdb {
        eprintln!("  waiting for a debugger; in another terminal:");
        eprintln!("    gdb {} -ex 'target remote :1234' -ex continue", m.kernel.display());
    }
    if !o.headless {
        eprintln!("  leave with `poweroff`, or Ctrl-A X");
    }
}

fn protocols(m: &ports::Mapping) -> String {
    let names = m.protocols.iter().map(|p| match p {
        crate::manifest::Protocol::Tcp => "TCP",
        crate::manifest::Protocol::Udp => "UDP",
    });
    names.collect::<Vec<_>>().join(" and ")
}
