//! What a program may do: its session in the manifest says, nothing else.

use core::net::SocketAddr;
use libipc::sock::{Kind, SessionSpec};

/// A permission that a call needed and the program's manifest entry lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `bind` does not cover this port.
    Port(u16),
    /// `connect` is not set.
    Connect,
    /// `ping` is not set.
    Ping,
    /// The badge belongs to no session.
    Session,
}

impl core::fmt::Display for Missing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "bind port {port}: its session's `bind` lacks it"),
            Self::Connect => f.write_str("connect: its session lacks `connect = true`"),
            Self::Ping => f.write_str("ping: its session lacks `ping = true`"),
            Self::Session => f.write_str("use sockets: it has no session"),
        }
    }
}

/// Whether a session may open a socket of this kind.
///
/// # Errors
/// The permission that is missing.
pub fn may_open(spec: &SessionSpec, kind: Kind) -> Result<(), Missing> {
    if kind == Kind::Ping && !spec.ping { Err(Missing::Ping) } else { Ok(()) }
}

/// Whether a session may bind this address; port 0 means any free port and is always allowed.
///
/// # Errors
/// The permission that is missing.
pub fn may_bind(spec: &SessionSpec, addr: SocketAddr) -> Result<(), Missing> {
    let port = addr.port();
    let listed = spec.bind.iter().any(|&(low, high)| (low..=high).contains(&port));
    if port == 0 || listed { Ok(()) } else { Err(Missing::Port(port)) }
}

/// Whether a session may name a peer for a socket of this kind.
///
/// # Errors
/// The permission that is missing.
pub fn may_connect(spec: &SessionSpec, kind: Kind) -> Result<(), Missing> {
    if spec.connect || kind == Kind::Ping && spec.ping { Ok(()) } else { Err(Missing::Connect) }
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
            ping: true,
        }
    }

    #[test]
    fn ports_are_inclusive_ranges_and_zero_is_free() {
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        for (port, allowed) in
            [(0, true), (7, true), (6, false), (8000, true), (8010, true), (8011, false)]
        {
            let want = if allowed { Ok(()) } else { Err(Missing::Port(port)) };
            assert_eq!(may_bind(&spec(), at(port)), want);
        }
    }

    #[test]
    fn ping_needs_no_connect_and_connect_gives_no_ping() {
        assert_eq!(may_connect(&spec(), Kind::Tcp), Err(Missing::Connect));
        assert_eq!(may_connect(&spec(), Kind::Ping), Ok(()));
        let other = SessionSpec { connect: true, ping: false, ..spec() };
        assert_eq!(may_open(&other, Kind::Ping), Err(Missing::Ping));
        assert_eq!(may_connect(&other, Kind::Udp), Ok(()));
    }
}
