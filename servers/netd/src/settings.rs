//! What Linux calls sysctls: choices that hold for the whole stack. The defaults are Linux's unless the
//! field says otherwise.

use bitflags::bitflags;

/// Settings of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether small TCP segments wait for ACKs (Nagle, RFC 9293 3.7.4) where a program has no say.
    pub nagle: bool,
    /// Whether a connection whose segments get no answer for three seconds looks for the size that the
    /// path carries (RFC 4821, `tcp_mtu_probing`; Linux's 1 or 0). Off: where ICMP is heard it would
    /// only cut what is repeated to somebody who is gone.
    pub mtu_probing: bool,
    /// Connections that no program holds, at most (`tcp_max_orphans`): one more is reset when it is closed.
    pub max_orphans: u32,
    /// Whether an RST leaves TIME-WAIT as it is (RFC 1337 3, `tcp_rfc1337`).
    pub rfc1337: bool,
    /// Whether an active open may take the place of a connection in TIME-WAIT (`tcp_tw_reuse`).
    pub reuse: Reuse,
    /// What is done of Fast Open (`tcp_fastopen`). Linux's default has a client only; here a listener
    /// that asks for it (TCP_FASTOPEN) has it, too.
    pub fast_open: FastOpen,
    /// For how many seconds no Fast Open is tried after a path seems to have swallowed some, longer each
    /// time (`tcp_fastopen_blackhole_timeout_sec`); 0: it goes on.
    pub fast_open_pause_s: u32,
    /// The key of Fast Open cookies (`tcp_fastopen_key`); `None`: one that nobody knows.
    pub fast_open_key: Option<(u64, u64)>,
    /// Every frame takes the long way: what leaves is the same, which is what a test makes sure of.
    pub long_way: bool,
}

bitflags! {
    /// Choices about Fast Open (RFC 7413), Linux's bits of `tcp_fastopen`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FastOpen: u16 {
        /// Programs may ask for it when they connect.
        const CLIENT = 1;
        /// Listeners may.
        const SERVER = 2;
        /// Data goes with every SYN, with a cookie or without.
        const CLIENT_WITHOUT_COOKIE = 4;
        /// Data is taken from every SYN, with a cookie or without.
        const SERVER_WITHOUT_COOKIE = 0x200;
        /// Listeners have it without asking, for as many handshakes as their backlogs say.
        const SERVER_WITHOUT_OPTION = 0x400;
    }
}

/// Whether, and where, an active open may take the place of a connection in TIME-WAIT that has
/// timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Never.
    Never,
    /// On the loop.
    Loopback,
    /// Wherever.
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nagle: true,
            mtu_probing: false,
            max_orphans: 4096,
            rfc1337: false,
            reuse: Reuse::Loopback,
            fast_open: FastOpen::CLIENT.union(FastOpen::SERVER),
            fast_open_pause_s: 0,
            fast_open_key: None,
            long_way: false,
        }
    }
}
