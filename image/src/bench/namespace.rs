//! A network of our own: everything that a measurement sets up vanishes with its process, and
//! nothing of the host's network is touched.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::Error;

/// Where tap interfaces come from.
const TUN: &str = "/dev/net/tun";

/// Moves this process, and all that it will start, into a network namespace of its own; for users
/// also a user namespace, in which they are root. The process must have one thread yet.
///
/// # Errors
/// If `ip` or /dev/net/tun is missing, nothing has been done.
pub fn enter() -> Result<(), Error> {
    // Asked first: from inside there is no way back, and without `ip` not even a loopback.
    let ip_works = Command::new("ip").arg("-V").output().is_ok_and(|o| o.status.success());
    ip_works.then_some(()).ok_or(Error::NoIp)?;
    File::options().read(true).write(true).open(TUN).map_err(Error::Tun)?;
    let (uid, gid) = (geteuid(), getegid());
    let failed = |e: nix::Error| Error::Namespace(e.into());
    if uid.is_root() {
        unshare(CloneFlags::CLONE_NEWNET).map_err(failed)?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(failed)?;
        let write = |file: &str, text: String| {
            std::fs::write(format!("/proc/self/{file}"), text).map_err(Error::Namespace)
        };
        write("setgroups", "deny".into())?;
        write("uid_map", format!("0 {uid} 1"))?;
        write("gid_map", format!("0 {gid} 1"))?;
    }
    // Otherwise each interface would talk IPv6 to its guest. Absent where there is no IPv6.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    ip("link set lo up")
}

/// Makes the tap interface `name`, with the host's address on it and the guest's neighbour entry:
/// a lost ARP request would cost a second.
pub fn tap(name: &str, host: Ipv4Addr, guest: Ipv4Addr, mac: &str) -> Result<(), Error> {
    ip(&format!("tuntap add {name} mode tap"))?;
    ip(&format!("addr add {host}/24 dev {name}"))?;
    ip(&format!("link set {name} up"))?;
    ip(&format!("neigh replace {guest} lladdr {mac} dev {name} nud permanent"))
}

fn ip(arguments: &str) -> Result<(), Error> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|_| Error::NoIp)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::Ip { arguments: arguments.into(), said })
}
