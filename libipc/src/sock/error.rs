//! What can go wrong with a socket.

use serde::{Deserialize, Serialize};

use crate::permission::Permission;

/// Why a socket call failed. The meaning is that of the Linux error of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// EAGAIN: nothing now, look again when the socket is ready.
    WouldBlock,
    /// ECONNREFUSED.
    ConnectionRefused,
    /// ECONNRESET.
    ConnectionReset,
    /// ECONNABORTED: ended by this side (netd restarted without its state, session closed).
    ConnectionAborted,
    /// ETIMEDOUT.
    TimedOut,
    /// EHOSTUNREACH.
    HostUnreachable,
    /// ENETUNREACH: no route, or no address yet.
    NetworkUnreachable,
    /// EADDRINUSE.
    AddrInUse,
    /// EADDRNOTAVAIL.
    AddrNotAvailable,
    /// ENOTCONN.
    NotConnected,
    /// EISCONN.
    AlreadyConnected,
    /// EINVAL: the call does not fit the socket's kind or state.
    Invalid,
    /// EBADF: no such socket.
    BadSocket,
    /// EMFILE: the session has no free socket; `sockets.count` in the manifest is the limit.
    TooManySockets,
    /// ENOBUFS: the session's regions have no room for the rings; ask for smaller ones or give the
    /// program more memory in the manifest (`sockets.tx_kib`, `sockets.rx_kib`).
    NoBuffers,
    /// EACCES: the program's manifest entry lacks this permission.
    NotPermitted(Permission),
    /// EPIPE: the sending half is shut down.
    BrokenPipe,
    /// EMSGSIZE.
    MessageTooLong,
    /// No session yet: call `OpenSession`.
    NoSession,
    /// The server could not be reached or answered nonsense; try again.
    Server,
    /// EINPROGRESS: a connect is under way.
    InProgress,
    /// EAFNOSUPPORT.
    Unsupported,
    /// EALREADY: a connect is under way already.
    AlreadyInProgress,
    /// ENOENT: no such thing by this name (a congestion control).
    NotFound,
    /// EOPNOTSUPP: not with a socket of this kind, or in this state.
    NotSupported,
    /// ENOPROTOOPT: no such option; ICMP protocol unreachable.
    NoOption,
    /// EHOSTDOWN: ICMP host unknown.
    HostDown,
    /// ENONET: ICMP source host isolated.
    NoNetwork,
    /// ENETDOWN: the interface is down.
    NetworkDown,
    /// EDESTADDRREQ: no peer was named, and none is connected.
    NoDestination,
    /// EPROTO: what the program sent is no request. Its session has been ended for that; call
    /// `OpenSession` to begin anew.
    Protocol,
    /// EACCES: a router or a firewall lets no such packets through.
    Prohibited,
    /// ENODEV: no network interface has this number, name or address.
    NoDevice,
}

impl Error {
    /// By number, from 1.
    const NUMBERED: [Self; 33] = [
        Self::WouldBlock,
        Self::ConnectionRefused,
        Self::ConnectionReset,
        Self::ConnectionAborted,
        Self::TimedOut,
        Self::HostUnreachable,
        Self::NetworkUnreachable,
        Self::AddrInUse,
        Self::AddrNotAvailable,
        Self::NotConnected,
        Self::AlreadyConnected,
        Self::Invalid,
        Self::BadSocket,
        Self::TooManySockets,
        Self::NoBuffers,
        Self::NotPermitted(Permission::Sockets),
        Self::BrokenPipe,
        Self::MessageTooLong,
        Self::NoSession,
        Self::Server,
        Self::InProgress,
        Self::Unsupported,
        Self::Protocol,
        Self::AlreadyInProgress,
        Self::NotFound,
        Self::NotSupported,
        Self::NoOption,
        Self::HostDown,
        Self::NoNetwork,
        Self::NetworkDown,
        Self::NoDestination,
        Self::Prohibited,
        Self::NoDevice,
    ];

    /// Its number, in the low byte; the permission's above it.
    pub fn to_raw(self) -> u16 {
        let same = |e: &Self| core::mem::discriminant(e) == core::mem::discriminant(&self);
        let number = Self::NUMBERED.iter().position(same).map_or(0, |i| i as u16 + 1);
        match self {
            Self::NotPermitted(p) => number | (p as u16) << 8,
            _ => number,
        }
    }

    /// The number of the Linux error of the same meaning (x86_64).
    pub const fn errno(self) -> i32 {
        match self {
            Self::WouldBlock => 11,
            Self::ConnectionRefused => 111,
            Self::ConnectionReset => 104,
            Self::ConnectionAborted => 103,
            Self::TimedOut => 110,
            Self::HostUnreachable => 113,
            Self::NetworkUnreachable => 101,
            Self::AddrInUse => 98,
            Self::AddrNotAvailable => 99,
            Self::NotConnected => 107,
            Self::AlreadyConnected => 106,
            Self::Invalid => 22,
            Self::BadSocket => 9,
            Self::TooManySockets => 24,
            Self::NoBuffers => 105,
            Self::NotPermitted(_) => 13,
            Self::BrokenPipe => 32,
            Self::MessageTooLong => 90,
            Self::NoDevice => 19,
            // ENXIO and EREMOTEIO: Linux knows no such thing; its nearest words.
            Self::NoSession => 6,
            Self::Server => 121,
            Self::InProgress => 115,
            Self::Unsupported => 97,
            Self::Protocol => 71,
            Self::AlreadyInProgress => 114,
            Self::NotFound => 2,
            Self::NotSupported => 95,
            Self::NoOption => 92,
            Self::HostDown => 112,
            Self::NoNetwork => 64,
            Self::NetworkDown => 100,
            Self::NoDestination => 89,
            Self::Prohibited => 13,
        }
    }

    /// From its number; 0 is none, unknown ones read as [`Error::Server`].
    pub fn from_raw(raw: u16) -> Option<Self> {
        let [number, permission] = raw.to_le_bytes();
        let index = match raw {
            0 => return None,
            _ => number.wrapping_sub(1) as usize,
        };
        Some(match Self::NUMBERED.get(index) {
            Some(Self::NotPermitted(_)) => {
                Permission::from_raw(permission).map_or(Self::Server, Self::NotPermitted)
            }
            Some(e) if permission == 0 => *e,
            _ => Self::Server,
        })
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotPermitted(permission) => return write!(f, "not permitted: {permission}"),
            Self::WouldBlock => "operation would block",
            Self::ConnectionRefused => "connection refused",
            Self::ConnectionReset => "connection reset by peer",
            Self::ConnectionAborted => "connection aborted",
            Self::TimedOut => "timed out",
            Self::HostUnreachable => "no route to host",
            Self::NetworkUnreachable => "network is unreachable",
            Self::AddrInUse => "address in use",
            Self::AddrNotAvailable => "address not available",
            Self::NotConnected => "not connected",
            Self::AlreadyConnected => "already connected",
            Self::Invalid => "invalid argument or state",
            Self::BadSocket => "no such socket",
            Self::TooManySockets => "no socket left: `sockets.count` of this program in the manifest is used up",
            Self::NoBuffers => "no buffer space left: `sockets.tx_kib` or `sockets.rx_kib` of this program in the manifest is \
                 used up",
            Self::BrokenPipe => "broken pipe",
            Self::MessageTooLong => "message too long",
            Self::NoSession => "no session",
            Self::NoDevice => "no such network interface",
            Self::Server => "server did not answer",
            Self::InProgress => "connection in progress",
            Self::Unsupported => "not supported",
            Self::AlreadyInProgress => "operation already in progress",
            Self::NotFound => "no such thing",
            Self::NotSupported => "operation not supported",
            Self::NoOption => "no such option or protocol",
            Self::HostDown => "host is down",
            Self::NoNetwork => "host is not on the network",
            Self::NetworkDown => "network is down",
            Self::NoDestination => "destination address required",
            Self::Protocol => "protocol error: a router found a packet malformed, or what was sent is no request and the session was ended",
            Self::Prohibited => "a router or firewall on the way does not allow it, or it goes to all of a network and SO_BROADCAST is not set",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_errors_share_an_errno() {
        for (i, a) in Error::NUMBERED.iter().enumerate() {
            for b in &Error::NUMBERED[..i] {
                // EACCES is what a program may not do, here or on the way.
                let denied = matches!(a, Error::Prohibited) && matches!(b, Error::NotPermitted(_))
                    || matches!(b, Error::Prohibited) && matches!(a, Error::NotPermitted(_));
                assert!(denied || a.errno() != b.errno(), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn errors_survive_their_numbers() {
        for raw in 0..=u16::MAX {
            let error = Error::from_raw(raw);
            assert_eq!(error.is_none(), raw == 0);
            if let Some(e) = error.filter(|e| *e != Error::Server) {
                assert_eq!(e.to_raw(), raw);
            }
        }
        for e in Error::NUMBERED {
            assert_eq!(Error::from_raw(e.to_raw()), Some(e));
        }
    }
}
