//! The `run` command: boots the image and connects the terminal to its console.

use std::process::{ExitCode, Stdio};

use crate::build::Image;
use crate::qemu::{self, Accel, Console, End, Machine, Pcap};
use crate::qmp::Qmp;
use crate::{install, ports};

/// What to run with.
#[derive(Clone, Debug)]
pub struct Options {
    /// User-mode networking, or none.
    pub net: bool,
    /// Accelerator.
    pub accel: Accel,
    /// RAM.
    pub mem_mib: u32,
    /// Where to record frames.
    pub pcap: Option<std::path::PathBuf>,
    /// Wait for a debugger.
    pub gdb: bool,
    /// Leave stdin alone.
    pub headless: bool,
    /// Kernel command line.
    pub append: Option<String>,
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No QEMU.
    #[error(transparent)]
    Install(#[from] install::Error),
    /// No ports.
    #[error("no free port on 127.0.0.1 for the forwards of the manifest; try `--net none`")]
    Ports,
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

/// Boots `image` and stays until it ends. The status is failure if the kernel panicked, the
/// machine reset or QEMU failed.
///
/// # Errors
/// If it cannot be started.
pub fn run(image: &Image, o: &Options) -> Result<ExitCode, Error> {
    if let Some(path) = &o.pcap {
        // QEMU would say this after the boot message, and less clearly.
        let check = std::fs::File::create(path);
        check.map_err(|source| Error::Pcap { path: path.display().to_string(), source })?;
    }
    let qmp = Qmp::listen().map_err(Error::Start)?;
    let net = match o.net {
        true => Some(ports::choose(&image.plan.forwards, true).ok_or(Error::Ports)?),
        false => None,
    };
    let machine = Machine {
        kernel: image.kernel.clone(),
        bundle: image.bundle.clone(),
        append: o.append.clone(),
        mem_mib: o.mem_mib,
        accel: o.accel.resolve(),
        net,
        pcap: o.pcap.clone().map(|path| Pcap { path, snap: None }),
        gdb: o.gdb,
        icount: false,
        console: if o.headless { Console::Plain } else { Console::Terminal },
        qmp: Some(qmp.path().into()),
    };
    announce(&machine, o);
    let mut command = machine.command();
    if o.headless {
        command.stdin(Stdio::null());
    }
    let status = command.status().map_err(Error::Start)?;
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

fn announce(m: &Machine, o: &Options) {
    let accel = if m.accel == Accel::Kvm { "KVM" } else { "TCG" };
    eprintln!("booting: {} MiB, {accel}", m.mem_mib);
    for mapping in m.net.iter().flatten() {
        let host = mapping.host;
        let (what, port) = (&mapping.what, mapping.port);
        if port == 80 {
            eprintln!("  http://127.0.0.1:{host}/ leads to port {port} ({what})");
        } else {
            eprintln!("  127.0.0.1:{host} ({}) leads to port {port} ({what})", protocols(mapping));
        }
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
