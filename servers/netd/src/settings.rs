//! What Linux calls sysctls: choices that hold for the whole stack. The defaults are Linux's unless the
//! field says otherwise.

use crate::addressing::ArgError;
use crate::tcp::Levels;
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
    /// Pages that all streams may hold (`tcp_mem`); `None`: five eighths, three quarters and fifteen sixteenths of all rings.
    pub tcp_mem: Option<Levels>,
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

/// The word of the manifest that is read here; [`crate::Addressing`] passes over it.
const TCP_MEM: &str = "tcp_mem";

/// Whether `arg` is read here.
pub(crate) fn is_word(arg: &str) -> bool {
    arg.split_once('=').is_some_and(|(word, _)| word == TCP_MEM)
}

impl Settings {
    /// Reads arguments, separated by spaces: `tcp_mem=LOW,PRESSURE,MOST` in KiB. Words about addresses are passed over.
    ///
    /// # Errors
    /// The first argument that is wrong.
    pub fn parse(args: &str) -> Result<Self, ArgError<'_>> {
        let mut settings = Self::default();
        for arg in args.split_whitespace().filter(|a| is_word(a)) {
            let levels = arg.split_once('=').and_then(|(_, text)| levels(text));
            let levels = levels.ok_or(ArgError::Levels(arg))?;
            if settings.tcp_mem.replace(levels).is_some() {
                return Err(ArgError::Twice(arg));
            }
        }
        Ok(settings)
    }
}

/// `LOW,PRESSURE,MOST` in KiB, ascending.
fn levels(text: &str) -> Option<Levels> {
    let mut words = text.split(',').map(|kib| kib.parse::<u32>().ok());
    let (low, pressure, most) = (words.next()??, words.next()??, words.next()??);
    let ordered = words.next().is_none() && 0 < low && low <= pressure && pressure <= most;
    ordered.then_some(Levels { low: low / 4, pressure: pressure / 4, most: most / 4 })
}

#[cfg(test)]
#[test]
fn levels_are_read_and_wrong_ones_refused() {
    let levels = |args| Settings::parse(args).map(|s| s.tcp_mem);
    let some = Levels { low: 250, pressure: 500, most: 1000 };
    assert_eq!(levels("dhcp tcp_mem=1000,2000,4000"), Ok(Some(some)));
    assert_eq!(levels("ip=10.9.0.2/24"), Ok(None));
    for wrong in [
        "tcp_mem=",
        "tcp_mem=1,2",
        "tcp_mem=1,2,3,4",
        "tcp_mem=3,2,1",
        "tcp_mem=0,1,2",
        "tcp_mem=1,2,x",
    ] {
        assert_eq!(levels(wrong), Err(ArgError::Levels(wrong)));
    }
    assert_eq!(levels("tcp_mem=1,2,3 tcp_mem=1,2,3"), Err(ArgError::Twice("tcp_mem=1,2,3")));
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nagle: true,
            mtu_probing: false,
            max_orphans: 4096,
            tcp_mem: None,
            rfc1337: false,
            reuse: Reuse::Loopback,
            fast_open: FastOpen::CLIENT.union(FastOpen::SERVER),
            fast_open_pause_s: 0,
            fast_open_key: None,
            long_way: false,
        }
    }
}
