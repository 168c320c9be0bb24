//! What a socket is, and what state it is in.

use serde::{Deserialize, Serialize};

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// TCP connection (or a socket that may become one).
    Tcp = 1,
    /// TCP listener.
    Listener = 2,
    /// UDP.
    Udp = 3,
    /// ICMP echo: datagrams out are echo requests (payload: u16 id is netd's, u16 sequence number
    /// big-endian, then data), datagrams in are the replies in the same form.
    Ping = 4,
    /// IP packets of one protocol, which is the port of the address that it is bound to. Datagrams in are
    /// payloads, of IPv4 with their headers; datagrams out are payloads, or packets with
    /// [`option::HDRINCL`](super::option::HDRINCL).
    Raw = 5,
    /// A packet tap: datagrams in are copies of frames, datagrams out are filters
    /// ([`filter`](super::filter)).
    Capture = 6,
}

impl Kind {
    /// From its number.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::Tcp,
            2 => Self::Listener,
            3 => Self::Udp,
            4 => Self::Ping,
            5 => Self::Raw,
            6 => Self::Capture,
            _ => return None,
        })
    }
}

/// State of a socket as its program sees it; TCP's are RFC 9293's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum State {
    /// No socket here.
    Free = 0,
    /// Open, not connected (TCP), or bound or not (UDP, ping).
    Open = 1,
    Listen = 2,
    SynSent = 3,
    SynReceived = 4,
    Established = 5,
    FinWait1 = 6,
    FinWait2 = 7,
    CloseWait = 8,
    Closing = 9,
    LastAck = 10,
    TimeWait = 11,
    /// Ended; [`Record::error`](super::Record::error) says how.
    Closed = 12,
}

impl State {
    /// From its number.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            0 => Self::Free,
            1 => Self::Open,
            2 => Self::Listen,
            3 => Self::SynSent,
            4 => Self::SynReceived,
            5 => Self::Established,
            6 => Self::FinWait1,
            7 => Self::FinWait2,
            8 => Self::CloseWait,
            9 => Self::Closing,
            10 => Self::LastAck,
            11 => Self::TimeWait,
            12 => Self::Closed,
            _ => return None,
        })
    }
}
