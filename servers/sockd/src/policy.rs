//! What a program may do: its session in the manifest says, nothing else.

use core::net::SocketAddr;
use libipc::permission::Permission;
use libipc::sock::{Kind, SessionSpec};

/// What a program tried that its manifest entry does not permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// To bind this port.
    Bind(u16),
    /// To name a peer.
    Connect,
    /// To name a broadcast address.
    Broadcast,
    /// To send echo requests.
    Ping,
    /// To have raw sockets.
    Raw,
    /// To capture packets.
    Capture,
    /// To have sockets: the caller's badge belongs to no session.
    Sockets,
}

impl Forbidden {
    /// The permission that it lacks.
    pub fn permission(self) -> Permission {
        match self {
            Self::Bind(_) => Permission::Bind,
            Self::Connect => Permission::Connect,
            Self::Broadcast => Permission::Broadcast,
            Self::Ping => Permission::Ping,
            Self::Raw => Permission::Raw,
            Self::Capture => Permission::Capture,
            Self::Sockets => Permission::Sockets,
        }
    }
}

impl core::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bind(port) => write!(f, "bind port {port}"),
            Self::Connect => f.write_str("connect"),
            Self::Broadcast => f.write_str("send to broadcast addresses"),
            Self::Ping => f.write_str("send echo requests"),
            Self::Raw => f.write_str("use raw sockets"),
            Self::Capture => f.write_str("capture packets"),
            Self::Sockets => f.write_str("use sockets"),
        }
    }
}

/// Whether a session may open a socket of this kind.
///
/// # Errors
/// What it may not.
pub fn may_open(spec: &SessionSpec, kind: Kind) -> Result<(), Forbidden> {
    match kind {
        Kind::Ping if !spec.ping => Err(Forbidden::Ping),
        Kind::Raw if !spec.raw => Err(Forbidden::Raw),
        Kind::Capture if !spec.capture => Err(Forbidden::Capture),
        _ => Ok(()),
    }
}

/// Whether a session may bind this address; port 0 means any free port and is always allowed.
///
/// # Errors
/// What it may not.
pub fn may_bind(spec: &SessionSpec, kind: Kind, addr: SocketAddr) -> Result<(), Forbidden> {
    let port = addr.port();
    // A raw socket's is a protocol.
    if port == 0 || kind == Kind::Raw || spec.lists(port) {
        Ok(())
    } else {
        Err(Forbidden::Bind(port))
    }
}

/// Whether a session may name a peer for a socket of this kind.
///
/// # Errors
/// What it may not.
pub fn may_connect(spec: &SessionSpec, kind: Kind) -> Result<(), Forbidden> {
    let apart = kind == Kind::Ping && spec.ping || kind == Kind::Raw && spec.raw;
    if spec.connect || apart { Ok(()) } else { Err(Forbidden::Connect) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SessionSpec {
        SessionSpec {
            program: "p".parse().unwrap(),
            sockets: 4,
            tx_len: 0,
            rx_len: 0,
            bind: [(7, 7), (8000, 8010)].into_iter().collect(),
            connect: false,
            broadcast: false,
            ping: true,
            raw: false,
            capture: false,
        }
    }

    #[test]
    fn ports_are_inclusive_ranges_and_zero_is_free() {
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        for (port, allowed) in
            [(0, true), (7, true), (6, false), (8000, true), (8010, true), (8011, false)]
        {
            let want = if allowed { Ok(()) } else { Err(Forbidden::Bind(port)) };
            assert_eq!(may_bind(&spec(), Kind::Udp, at(port)), want);
        }
    }

    #[test]
    fn ping_needs_no_connect_and_connect_gives_no_ping() {
        assert_eq!(may_connect(&spec(), Kind::Tcp), Err(Forbidden::Connect));
        assert_eq!(may_connect(&spec(), Kind::Ping), Ok(()));
        let other = SessionSpec { connect: true, ping: false, ..spec() };
        assert_eq!(may_open(&other, Kind::Ping), Err(Forbidden::Ping));
        assert_eq!(may_connect(&other, Kind::Udp), Ok(()));
    }
}
