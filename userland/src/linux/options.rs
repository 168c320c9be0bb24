//! Socket options that are words or bits of [`AppSock`], and what else a socket remembers.

use alloc::collections::BTreeMap;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};
use core::time::Duration;
use libipc::sock::{AppSock, Number, option};

use super::Result;
use super::numbers::{Errno, ip, ipproto, ipv6, so, tcp};

/// What a socket was told, whether or not sockd has made it yet.
pub struct Settings {
    /// Options as netd reads them; its indices are not used.
    pub words: AppSock,
    /// SO_LINGER, seconds.
    pub linger: Cell<Option<u32>>,
    /// SO_RCVTIMEO.
    pub receive_timeout: Cell<Option<Duration>>,
    /// SO_SNDTIMEO.
    pub send_timeout: Cell<Option<Duration>>,
    /// SO_SNDBUF as getsockopt tells it; 0: not set.
    pub send_buffer: Cell<u32>,
    /// SO_RCVBUF, likewise.
    pub receive_buffer: Cell<u32>,
    /// Interface that it is bound to (SO_BINDTODEVICE); once it is made its record says that.
    pub device: Cell<u8>,
    /// What is remembered and changes nothing.
    pub noted: RefCell<BTreeMap<(i32, i32), i32>>,
}

impl Settings {
    /// Linux's defaults.
    pub const fn new() -> Self {
        Self {
            words: AppSock::new(),
            linger: Cell::new(None),
            receive_timeout: Cell::new(None),
            send_timeout: Cell::new(None),
            send_buffer: Cell::new(0),
            receive_buffer: Cell::new(0),
            device: Cell::new(0),
            noted: RefCell::new(BTreeMap::new()),
        }
    }

    /// The value of an option that is remembered and changes nothing in netd; 0: never set.
    pub fn noted(&self, level: i32, name: i32) -> i32 {
        self.noted.borrow().get(&(level, name)).copied().unwrap_or(0)
    }

    /// Remembers one.
    pub fn note(&self, level: i32, name: i32, value: i32) {
        self.noted.borrow_mut().insert((level, name), value);
    }

    /// What a connection takes over from the listener that it came through.
    pub fn inherited(&self) -> Self {
        let child = Self::new();
        child.words.inherit(&self.words);
        child.linger.set(self.linger.get());
        child.receive_timeout.set(self.receive_timeout.get());
        child.send_timeout.set(self.send_timeout.get());
        child.send_buffer.set(self.send_buffer.get());
        child.receive_buffer.set(self.receive_buffer.get());
        child.device.set(self.device.get());
        child.noted.borrow_mut().clone_from(&self.noted.borrow());
        child
    }
}

/// Where an option lies.
pub enum Word {
    /// A bit.
    Bit(u32),
    /// A bit that means the opposite.
    Not(u32),
    /// A word of 8, 16 or 32 bits.
    U8(fn(&AppSock) -> &AtomicU8),
    /// See [`Word::U8`].
    U16(fn(&AppSock) -> &AtomicU16),
    /// See [`Word::U8`].
    U32(fn(&AppSock) -> &AtomicU32),
}

/// A word's option: where it lies, which values it may have, what 0 in the word means.
pub struct Entry {
    /// Where.
    pub word: Word,
    /// Lowest and highest value.
    pub range: (i32, i32),
    /// Linux's default, which the word has as 0.
    pub default: i32,
}

/// Any value at all.
const ANY: (i32, i32) = (i32::MIN, i32::MAX);

/// The option's entry.
pub fn find(level: i32, name: i32) -> Option<Entry> {
    let bit = |bit| Some(Entry { word: Word::Bit(bit), range: ANY, default: 0 });
    let not = |bit| Some(Entry { word: Word::Not(bit), range: ANY, default: 0 });
    let any = |word, default| Some(Entry { word, range: ANY, default });
    let number = |word, of: Number| {
        let range = (of.least as i32, of.most as i32);
        Some(Entry { word, range, default: of.default as i32 })
    };
    match (level, name) {
        (so::SOCKET, so::REUSEADDR) => bit(option::REUSEADDR),
        (so::SOCKET, so::REUSEPORT) => bit(option::REUSEPORT),
        (so::SOCKET, so::KEEPALIVE) => bit(option::KEEPALIVE),
        (so::SOCKET, so::OOBINLINE) => bit(option::OOBINLINE),
        (so::SOCKET, so::BROADCAST) => bit(option::BROADCAST),
        (so::SOCKET, so::NO_CHECK) => bit(option::NO_CHECK),
        (so::SOCKET, so::RCVLOWAT) => any(Word::U32(|w| &w.rcv_lowat), 1),
        (ipproto::TCP, tcp::NODELAY) => bit(option::NODELAY),
        (ipproto::TCP, tcp::CORK) => bit(option::CORK),
        (ipproto::TCP, tcp::QUICKACK) => not(option::DELAYED_ACK),
        (ipproto::TCP, tcp::FASTOPEN_CONNECT) => bit(option::FASTOPEN_CONNECT),
        (ipproto::TCP, tcp::FASTOPEN_NO_COOKIE) => bit(option::FASTOPEN_NO_COOKIE),
        (ipproto::TCP, tcp::MAXSEG) => {
            Some(Entry { word: Word::U16(|w| &w.max_seg), range: (0, 32767), default: 536 })
        }
        (ipproto::TCP, tcp::KEEPIDLE) => number(Word::U16(|w| &w.keep_idle_s), Number::KEEP_IDLE_S),
        (ipproto::TCP, tcp::KEEPINTVL) => {
            number(Word::U16(|w| &w.keep_interval_s), Number::KEEP_INTERVAL_S)
        }
        (ipproto::TCP, tcp::KEEPCNT) => number(Word::U8(|w| &w.keep_count), Number::KEEP_COUNT),
        (ipproto::TCP, tcp::SYNCNT) => number(Word::U8(|w| &w.syn_retries), Number::SYN_RETRIES),
        (ipproto::TCP, tcp::USER_TIMEOUT) => {
            number(Word::U32(|w| &w.user_timeout_ms), Number::USER_TIMEOUT_MS)
        }
        (ipproto::TCP, tcp::NOTSENT_LOWAT) => any(Word::U32(|w| &w.notsent_lowat), -1),
        (ipproto::TCP, tcp::FASTOPEN) => number(Word::U16(|w| &w.queue), Number::FAST_OPEN_QUEUE),
        (ipproto::IP, ip::TTL) => number(Word::U8(|w| &w.ttl), Number::TTL),
        (ipproto::IP, ip::TOS) | (ipproto::IPV6, ipv6::TCLASS) => {
            number(Word::U8(|w| &w.tos), Number::TOS)
        }
        (ipproto::IP, ip::RECVERR) | (ipproto::IPV6, ipv6::RECVERR) => bit(option::RECVERR),
        (ipproto::IP, ip::RECVTTL) | (ipproto::IPV6, ipv6::RECVHOPLIMIT) => bit(option::RECVTTL),
        (ipproto::IP, ip::RECVTOS) | (ipproto::IPV6, ipv6::RECVTCLASS) => bit(option::RECVTOS),
        (ipproto::IP, ip::PKTINFO) | (ipproto::IPV6, ipv6::RECVPKTINFO) => bit(option::PKTINFO),
        (ipproto::IP, ip::MULTICAST_ALL) => not(option::MULTICAST_ALL_OFF),
        (ipproto::IP, ip::MULTICAST_LOOP) | (ipproto::IPV6, ipv6::MULTICAST_LOOP) => {
            not(option::MULTICAST_LOOP_OFF)
        }
        (ipproto::IP, ip::HDRINCL) => bit(option::HDRINCL),
        (ipproto::IPV6, ipv6::UNICAST_HOPS) => number(Word::U8(|w| &w.ttl), Number::TTL),
        (ipproto::IPV6, ipv6::V6ONLY) => bit(option::V6ONLY),
        _ => None,
    }
}

impl Entry {
    /// Changes the option.
    ///
    /// # Errors
    /// [`Errno::EINVAL`]: not such a value.
    pub fn set(&self, words: &AppSock, value: i32) -> Result<()> {
        let bits = |bit: u32, on| {
            let old = words.options.load(Relaxed);
            words.options.store(if on { old | bit } else { old & !bit }, Relaxed);
        };
        match &self.word {
            Word::Bit(bit) => bits(*bit, value != 0),
            Word::Not(bit) => bits(*bit, value == 0),
            _ if value < self.range.0 || value > self.range.1 => return Err(Errno::EINVAL),
            Word::U8(at) => at(words).store(value as u8, Relaxed),
            Word::U16(at) => at(words).store(value as u16, Relaxed),
            Word::U32(at) => at(words).store(value as u32, Relaxed),
        }
        Ok(())
    }

    /// Its value.
    pub fn get(&self, words: &AppSock) -> i32 {
        let bit = |bit: u32| words.options.load(Relaxed) & bit != 0;
        let number = match &self.word {
            Word::Bit(of) => return bit(*of) as i32,
            Word::Not(of) => return !bit(*of) as i32,
            Word::U8(at) => at(words).load(Relaxed) as i32,
            Word::U16(at) => at(words).load(Relaxed) as i32,
            Word::U32(at) => at(words).load(Relaxed) as i32,
        };
        if number == 0 { self.default } else { number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_keep_their_values_and_ranges() {
        let words = AppSock::new();
        for (level, name, default, value, refused) in [
            (6, 4, 7200, 30, Some(0)),
            (6, 6, 9, 127, Some(128)),
            (6, 1, 0, 1, None),
            (6, 12, 1, 0, None),
            (0, 2, 64, 255, Some(256)),
            (0, 34, 1, 0, None),
            (1, 18, 1, 100, None),
        ] {
            let entry = find(level, name).unwrap();
            assert_eq!(entry.get(&words), default, "{level} {name}");
            assert_eq!(entry.set(&words, value), Ok(()));
            assert_eq!(entry.get(&words), value, "{level} {name}");
            if let Some(refused) = refused {
                assert_eq!(entry.set(&words, refused), Err(Errno::EINVAL), "{level} {name}");
                assert_eq!(entry.get(&words), value);
            }
        }
        assert!(find(6, 14).is_none() && find(99, 1).is_none());
    }
}
