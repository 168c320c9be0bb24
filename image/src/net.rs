//! What is behind the network card, as QEMU is told it.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use netd::Addressing;
use nix::net::if_::InterfaceFlags;

use crate::manifest::Protocol;
use crate::ports::Mapping;
use crate::qemu::escaped;

/// The other end of the cable.
#[derive(Clone, Debug)]
pub enum Net {
    /// The link is up and every frame is lost.
    None,
    /// QEMU's user-mode networking: a gateway, DHCP, and ports of the host that lead inside.
    User {
        /// Those ports.
        forwards: Vec<Mapping>,
        /// The address that the system has by itself; [`Addressing::Dhcp`]: QEMU gives it one.
        addressing: Addressing,
    },
    /// A tap interface of the host.
    Tap(Tap),
    /// Somebody who listens on a Unix socket for frames, each behind its length (u32, big-endian).
    Peer(PathBuf),
}

impl Net {
    /// Ports of the host that lead inside.
    pub fn forwards(&self) -> &[Mapping] {
        match self {
            Self::User { forwards, .. } => forwards,
            _ => &[],
        }
    }

    /// QEMU's `-netdev` of card number `n`, called `n0`, `n1` and so on.
    pub fn netdev(&self, n: usize) -> String {
        match self {
            // A socket to which nobody connects. (An empty hub, or no other end at all, QEMU warns
            // of.)
            Self::None => format!(
                "stream,id=n{n},server=on,addr.type=unix,addr.abstract=on,addr.path=breakwater-{}-{n}",
                std::process::id()
            ),
            Self::User { forwards, addressing } => user(n, forwards, addressing),
            Self::Tap(tap) => format!("tap,id=n{n},ifname={tap},script=no,downscript=no"),
            Self::Peer(path) => {
                format!("stream,id=n{n},server=off,addr.type=unix,addr.path={}", escaped(path))
            }
        }
    }
}

fn user(n: usize, forwards: &[Mapping], addressing: &Addressing) -> String {
    let (mut text, mut inside) = (format!("user,id=n{n}"), String::new());
    if let Addressing::Static { addr, prefix, gateway, dns } = *addressing {
        let net = addr.to_bits() & !hosts(prefix);
        let free = |taken: &[Ipv4Addr]| {
            let all = (1..hosts(prefix)).map(|host| Ipv4Addr::from_bits(net | host));
            all.into_iter().find(|a| !taken.contains(a)).unwrap_or(addr)
        };
        let gateway = gateway.unwrap_or_else(|| free(&[addr]));
        // One outside is reached through the gateway, without QEMU's doing.
        let near =
            |a: &Ipv4Addr| a.to_bits() & !hosts(prefix) == net && ![addr, gateway].contains(a);
        let dns = dns.filter(near).unwrap_or_else(|| free(&[addr, gateway]));
        let net = Ipv4Addr::from_bits(net);
        text += &format!(",net={net}/{prefix},host={gateway},dns={dns},dhcpstart={addr}");
        inside = addr.to_string();
    }
    for m in forwards {
        for protocol in &m.protocols {
            let protocol = if *protocol == Protocol::Tcp { "tcp" } else { "udp" };
            text += &format!(",hostfwd={protocol}:127.0.0.1:{}-{inside}:{}", m.host, m.port);
        }
    }
    text
}

/// The bits of an address that name a host.
fn hosts(prefix: u8) -> u32 {
    u32::MAX.checked_shr(prefix as u32).unwrap_or(0)
}

/// Whether user-mode networking can serve a system with this address: QEMU wants a gateway and a
/// name server in the network, besides the system itself.
pub fn user_has_room(addressing: &Addressing) -> bool {
    !matches!(addressing, Addressing::Static { prefix: 30.., .. })
}

/// The name of a tap interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap(String);

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tap {
    type Err = TapError;

    /// A name that Linux would give an interface.
    fn from_str(name: &str) -> Result<Self, TapError> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if matches!(name.len(), 1..=15) && name.chars().all(fine) && ![".", ".."].contains(&name) {
            Ok(Self(name.into()))
        } else {
            Err(TapError::Name(name.into()))
        }
    }
}

/// Why there is no such tap interface for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// No interface can be called so.
    #[error("`{0}` is no interface's name: 1 to 15 letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// It does not exist.
    #[error(
        "there is no interface `{0}`; make one: `sudo ip tuntap add {0} mode tap user $USER && \
         sudo ip addr add 10.9.0.1/24 dev {0} && sudo ip link set {0} up`, and run with \
         `--net tap:{0} --ip 10.9.0.2/24 --gateway 10.9.0.1`"
    )]
    Missing(String),
    /// An interface of another kind.
    #[error("`{0}` is no tap interface; make one: `sudo ip tuntap add NAME mode tap user $USER`")]
    OtherKind(String),
    /// It is down, so the host would drop every frame.
    #[error("the interface `{0}` is down; `sudo ip link set {0} up` makes it work")]
    Down(String),
}

impl Tap {
    /// Whether it is there, a tap, and up.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn check(&self) -> Result<(), TapError> {
        // Of our own network namespace, whatever is mounted on /sys.
        let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
        let up = all
            .filter(|i| i.interface_name == self.0)
            .map(|i| i.flags.contains(InterfaceFlags::IFF_UP))
            .next();
        self.check_in(up, &Path::new("/sys/class/net").join(&self.0))
    }

    /// `up`: whether it is, if it is there at all.
    fn check_in(&self, up: Option<bool>, sys: &Path) -> Result<(), TapError> {
        let up = up.ok_or_else(|| TapError::Missing(self.0.clone()))?;
        // /sys may show another namespace, without such an interface: QEMU will tell then.
        let kind = std::fs::read_to_string(sys.join("tun_flags")).ok();
        let kind =
            kind.and_then(|t| u32::from_str_radix(t.trim().trim_start_matches("0x"), 16).ok());
        match kind {
            None if sys.exists() => Err(TapError::OtherKind(self.0.clone())),
            Some(kind) if kind & IFF_TAP == 0 => Err(TapError::OtherKind(self.0.clone())),
            _ if !up => Err(TapError::Down(self.0.clone())),
            _ => Ok(()),
        }
    }
}

/// linux/if_tun.h.
const IFF_TAP: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn netdev(args: &str) -> String {
        let addressing = Addressing::parse(args).unwrap();
        let protocols = vec![Protocol::Tcp, Protocol::Udp];
        let forwards = vec![Mapping { host: 7007, port: 7, protocols, what: "echo".into() }];
        Net::User { forwards, addressing }.netdev(0)
    }

    #[test]
    fn forwards_lead_to_the_systems_address() {
        let text = netdev("dhcp");
        let forwards = "hostfwd=tcp:127.0.0.1:7007-:7,hostfwd=udp:127.0.0.1:7007-:7";
        assert_eq!(text, format!("user,id=n0,{forwards}"));
        let text = netdev("ip=10.9.0.2/24 gw=10.9.0.1 dns=9.9.9.9");
        assert!(text.contains("net=10.9.0.0/24,host=10.9.0.1,dns=10.9.0.3,dhcpstart=10.9.0.2"));
        assert!(text.contains("hostfwd=tcp:127.0.0.1:7007-10.9.0.2:7,"), "{text}");
        let text = netdev("ip=10.9.0.1/29 dns=10.9.0.5");
        assert!(text.contains("host=10.9.0.2,dns=10.9.0.5,"), "{text}");
    }

    #[test]
    fn small_networks_have_no_room() {
        let room = |args| user_has_room(&Addressing::parse(args).unwrap());
        assert!(room("dhcp") && room("ip=10.9.0.2/29") && !room("ip=10.9.0.2/30"));
    }

    #[test]
    fn names_of_interfaces() {
        for name in ["tap0", "br-lan.7", "a"] {
            assert_eq!(name.parse::<Tap>().unwrap().to_string(), name);
        }
        for name in ["", ".", "..", "sixteen-letters-", "a,b", "a/b", "a b", "ä"] {
            assert!(name.parse::<Tap>().is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_interface_is_said() {
        let tap: Tap = "tap0".parse().unwrap();
        let dir = std::env::temp_dir().join(format!("breakwater-net-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let missing = tap.check_in(None, &dir).unwrap_err();
        assert!(missing.to_string().contains("ip tuntap add tap0 mode tap"), "{missing}");
        assert_eq!(tap.check_in(Some(true), &dir), Ok(()), "another /sys");
        std::fs::create_dir_all(&dir).unwrap();
        let other = Err(TapError::OtherKind("tap0".into()));
        assert_eq!(tap.check_in(Some(true), &dir), other);
        std::fs::write(dir.join("tun_flags"), "0x1001\n").unwrap();
        assert_eq!(tap.check_in(Some(true), &dir), other, "a tun");
        std::fs::write(dir.join("tun_flags"), "0x1002\n").unwrap();
        let down = tap.check_in(Some(false), &dir).unwrap_err();
        assert!(down.to_string().contains("ip link set tap0 up"));
        assert_eq!(tap.check_in(Some(true), &dir), Ok(()));
        let _ = std::fs::remove_dir_all(&dir);
    }
}
