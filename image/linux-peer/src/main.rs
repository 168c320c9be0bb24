//! PID 1 of the Linux guest that our system is compared with: loads the driver of the network card,
//! sets the address and offers the measuring services of `netbench` (userland), each in the way
//! that is quick on Linux.
//!
//! The kernel hands what it does not know of its command line to this process as environment:
//! `ADDRESS=10.9.1.2`.

mod interface;
mod tcp;
mod udp;

use std::error::Error;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;

use nix::kmod::{ModuleInitFlags, finit_module};

/// One of the services, running for ever.
type Service = fn() -> Result<()>;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    if let Err(e) = run() {
        println!("linux-peer: {e}");
    }
    // The end of PID 1 is a kernel panic: everything that can be said has been said.
    loop {
        std::thread::park();
    }
}

fn run() -> Result<()> {
    let address: Ipv4Addr = std::env::var("ADDRESS")?.parse()?;
    load("/e1000.ko")?;
    interface::up("eth0", address, Ipv4Addr::new(255, 255, 255, 0))?;
    let services: [(&str, Service); 8] = [
        ("UDP echo", udp::echo),
        ("TCP echo", tcp::echo),
        ("one byte", tcp::one_byte),
        ("sink", tcp::sink),
        ("source", tcp::source),
        ("count", udp::count),
        ("blast", udp::blast),
        ("many", tcp::many),
    ];
    for (name, service) in services {
        std::thread::spawn(move || {
            if let Err(e) = service() {
                println!("linux-peer: {name}: {e}");
            }
        });
    }
    println!("linux-peer: ready");
    Ok(())
}

/// `MODULE_INIT_COMPRESSED_FILE` of finit_module(2).
const COMPRESSED: u32 = 4;

/// Loads a kernel module.
fn load(path: &str) -> Result<()> {
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    // Some distributions compress modules; the kernel takes both.
    let flags = match &magic == b"\x7fELF" {
        true => ModuleInitFlags::empty(),
        false => ModuleInitFlags::from_bits_retain(COMPRESSED),
    };
    Ok(finit_module(&file, &CString::default(), flags)?)
}
