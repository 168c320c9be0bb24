//! Options of a socket: Linux's, in Linux's units and with Linux's checks. They are words of this
//! program's own ([`AppSock`]) that netd looks at: none of these is a call.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::*};
use libipc::sock::{AppSock, Error, Number, congestion, option};

use super::socket::Socket;

/// The options of a socket. A setter says [`Error::Invalid`] where Linux's `setsockopt` would; a
/// getter tells what is in force, the default included.
#[derive(Clone, Copy)]
pub struct Opts<'a> {
    socket: &'a Socket,
}

/// Linux's `rmem_max` and `wmem_max`.
const LARGEST_BUFFER: i64 = 212_992;

/// What a stored number is made from.
trait Word {
    fn store(&self, value: i64);
    fn load(&self) -> i64;
}

macro_rules! word {
    ($($atomic:ty: $plain:ty),*) => {$(
        impl Word for $atomic {
            fn store(&self, value: i64) {
                self.store(value as $plain, Relaxed);
            }
            fn load(&self) -> i64 {
                self.load(Relaxed) as i64
            }
        }
    )*};
}
word!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32);

/// One more change of an option, so that netd looks at all of them.
fn count_change(words: &AppSock, bits: u32) {
    let count = (words.options.load(Relaxed) & option::CHANGES).wrapping_add(option::CHANGE);
    words.options.store(bits & !option::CHANGES | count, Release);
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $set:ident, $get:ident: $word:ident, $number:ident;)*) => {
        impl Opts<'_> {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`Error::Invalid`] if it is out of range.
            pub fn $set(self, value: i64) -> Result<(), Error> {
                if !(Number::$number.least..=Number::$number.most).contains(&value) {
                    return Err(Error::Invalid);
                }
                Word::store(&self.words().$word, value);
                self.changed();
                Ok(())
            }
            #[doc = concat!("See [`Self::", stringify!($set), "`].")]
            pub fn $get(self) -> i64 {
                match Word::load(&self.words().$word) {
                    0 => Number::$number.default,
                    value => value,
                }
            }
        )*}
    };
}

numbers! {
    /// TCP_KEEPIDLE: seconds of silence before the first keep-alive probe.
    set_keep_idle_s, keep_idle_s: keep_idle_s, KEEP_IDLE_S;
    /// TCP_KEEPINTVL: seconds between keep-alive probes.
    set_keep_interval_s, keep_interval_s: keep_interval_s, KEEP_INTERVAL_S;
    /// TCP_KEEPCNT: unanswered probes that end the connection.
    set_keep_count, keep_count: keep_count, KEEP_COUNT;
    /// TCP_SYNCNT: retransmissions of a SYN.
    set_syn_retries, syn_retries: syn_retries, SYN_RETRIES;
    /// IP_TOS, IPV6_TCLASS.
    set_tos, tos: tos, TOS;
    /// TCP_USER_TIMEOUT: milliseconds that data may go unacknowledged; 0: as TCP does.
    set_user_timeout_ms, user_timeout_ms: user_timeout_ms, USER_TIMEOUT_MS;
    /// TCP_NOTSENT_LOWAT: no more to write while so many bytes were never sent; 0: no limit.
    set_notsent_lowat, notsent_lowat: notsent_lowat, NOTSENT_LOWAT;
    /// TCP_FASTOPEN of a listener: requests that may wait for their handshake.
    set_fast_open_queue, fast_open_queue: queue, FAST_OPEN_QUEUE;
    /// IP_MULTICAST_IF of a datagram socket: the interface's number; 0: by route.
    set_multicast_if, multicast_if: queue, MULTICAST_IF;
}

impl<'a> Opts<'a> {
    pub(super) fn new(socket: &'a Socket) -> Self {
        Self { socket }
    }

    fn words(self) -> &'static AppSock {
        self.socket.words()
    }

    fn changed(self) {
        let words = self.words();
        count_change(words, words.options.load(Relaxed));
        self.socket.rt.submit(self.socket.id);
    }

    fn bits(self) -> u32 {
        self.words().options.load(Relaxed)
    }

    fn set_all(self, bits: u32) {
        count_change(self.words(), bits);
        self.socket.rt.submit(self.socket.id);
    }

    fn set_bits(self, mask: u32, bits: u32) {
        self.set_all(self.bits() & !mask | bits);
    }

    /// Sets or clears a boolean option, a bit of [`option`].
    pub fn set_flag(self, bit: u32, on: bool) {
        match bit {
            option::NODELAY => self.set_all(option::with_nodelay(self.bits(), on)),
            _ => self.set_bits(bit, if on { bit } else { 0 }),
        }
    }

    /// Whether a boolean option is on.
    pub fn flag(self, bit: u32) -> bool {
        self.words().options.load(Relaxed) & bit != 0
    }

    /// TCP_QUICKACK: ACKs are sent at once, or wait for something to go with. TCP may change that again
    /// as the conversation goes.
    pub fn set_quickack(self, on: bool) {
        self.set_all(option::with_quickack(self.bits(), on));
    }

    /// What was asked for last; at first, quick.
    pub fn quickack(self) -> bool {
        !self.flag(option::DELAYED_ACK)
    }

    /// IP_MTU_DISCOVER in Linux's numbers: 0 never DF, 1 as the path wants, 2 always DF, 3 probe.
    ///
    /// # Errors
    /// [`Error::Invalid`] for others.
    pub fn set_mtu_discover(self, value: i64) -> Result<(), Error> {
        let bits = match value {
            0 => option::PMTU_DONT,
            1 => option::PMTU_WANT,
            2 => option::PMTU_DO,
            3 => option::PMTU_PROBE,
            _ => return Err(Error::Invalid),
        };
        self.set_bits(option::PMTU, bits);
        Ok(())
    }

    /// See [`Self::set_mtu_discover`].
    pub fn mtu_discover(self) -> i64 {
        match self.words().options.load(Relaxed) & option::PMTU {
            option::PMTU_DONT => 0,
            option::PMTU_DO => 2,
            option::PMTU_PROBE => 3,
            _ => 1,
        }
    }

    /// IP_TTL, IPV6_UNICAST_HOPS; -1: the default.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is neither that nor 1 to 255.
    pub fn set_ttl(self, value: i64) -> Result<(), Error> {
        let value = match value {
            -1 => 0,
            1..=255 => value as u8,
            _ => return Err(Error::Invalid),
        };
        self.words().ttl.store(value, Relaxed);
        self.changed();
        Ok(())
    }

    /// See [`Self::set_ttl`].
    pub fn ttl(self) -> i64 {
        match self.words().ttl.load(Relaxed) {
            0 => Number::TTL.default,
            ttl => ttl as i64,
        }
    }

    /// IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS; -1: the default, 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is neither that nor 0 to 255.
    pub fn set_multicast_ttl(self, value: i64) -> Result<(), Error> {
        let value = if value == -1 { 1 } else { value };
        let value = u8::try_from(value).map_err(|_| Error::Invalid)?;
        self.words().multicast_ttl.store(value ^ 1, Relaxed);
        self.changed();
        Ok(())
    }

    /// See [`Self::set_multicast_ttl`].
    pub fn multicast_ttl(self) -> i64 {
        (self.words().multicast_ttl.load(Relaxed) ^ 1) as i64
    }

    /// TCP_DEFER_ACCEPT of a listener, seconds.
    ///
    /// # Errors
    /// None at present: too much counts as the most.
    pub fn set_defer_accept_s(self, value: i64) -> Result<(), Error> {
        self.words().defer_accept_s().store(value.clamp(0, 255) as u8, Relaxed);
        self.changed();
        Ok(())
    }

    /// See [`Self::set_defer_accept_s`].
    pub fn defer_accept_s(self) -> i64 {
        self.words().defer_accept_s().load(Relaxed) as i64
    }

    /// TCP_MAXSEG: the largest segment wanted; 0: what the path carries.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is neither 0 nor 88 to 32767.
    pub fn set_max_seg(self, value: i64) -> Result<(), Error> {
        if value != 0 && !(88..=32767).contains(&value) {
            return Err(Error::Invalid);
        }
        self.words().max_seg.store(value as u16, Relaxed);
        self.changed();
        Ok(())
    }

    /// What was asked for, 0 if nothing was. A connection's segment size is in
    /// [`super::TcpStream::tcp_info`].
    pub fn max_seg(self) -> i64 {
        self.words().max_seg.load(Relaxed) as i64
    }

    /// TCP_LINGER2: seconds in FIN-WAIT-2 after close; 0: the default, negative: none.
    ///
    /// # Errors
    /// None at present: more than 120 counts as 120.
    pub fn set_linger2_s(self, value: i64) -> Result<(), Error> {
        let word = if value < 0 { AppSock::NO_LINGER2 } else { value.min(120) as u16 };
        self.words().linger2_s.store(word, Relaxed);
        self.changed();
        Ok(())
    }

    /// See [`Self::set_linger2_s`]; -1: none.
    pub fn linger2_s(self) -> i64 {
        match self.words().linger2_s.load(Relaxed) {
            0 => 60,
            AppSock::NO_LINGER2 => -1,
            s => s as i64,
        }
    }

    /// SO_RCVLOWAT: fewer bytes do not make a stream readable.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is negative. More than half the ring counts as that.
    pub fn set_rcv_lowat(self, value: i64) -> Result<(), Error> {
        if value < 0 {
            return Err(Error::Invalid);
        }
        let most = self.socket.rx_size() as i64 / 2;
        self.words().rcv_lowat.store(value.min(most) as u32, Relaxed);
        self.changed();
        Ok(())
    }

    /// See [`Self::set_rcv_lowat`].
    pub fn rcv_lowat(self) -> i64 {
        self.words().rcv_lowat.load(Relaxed).max(1) as i64
    }

    /// TCP_WINDOW_CLAMP: the largest window advertised; 0: what the receive ring holds.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is negative. Less than 1152 counts as that, as on Linux.
    pub fn set_window_clamp(self, value: i64) -> Result<(), Error> {
        let value = match value {
            0 => 0,
            1.. => value.clamp(1152, LARGEST_BUFFER),
            _ => return Err(Error::Invalid),
        };
        let old = self.words().window_clamp.load(Relaxed);
        let word = match old & AppSock::RCVBUF {
            0 => value as u32,
            // SO_RCVBUF stands.
            _ if value == 0 => old,
            locked => locked | (value as u32).min(old & !AppSock::RCVBUF),
        };
        self.words().window_clamp.store(word, Relaxed);
        self.changed();
        Ok(())
    }

    /// See [`Self::set_window_clamp`].
    pub fn window_clamp(self) -> i64 {
        match self.words().window_clamp.load(Relaxed) & !AppSock::RCVBUF {
            0 => self.socket.rx_size() as i64,
            clamp => clamp as i64,
        }
    }

    /// SO_MAX_PACING_RATE, bytes a second; `u64::MAX` and 0: no limit.
    pub fn set_pacing_rate(self, rate: u64) {
        self.words().pacing_rate.store(if rate == u64::MAX { 0 } else { rate }, Relaxed);
        self.changed();
    }

    /// See [`Self::set_pacing_rate`]; `u64::MAX`: no limit.
    pub fn pacing_rate(self) -> u64 {
        match self.words().pacing_rate.load(Relaxed) {
            0 => u64::MAX,
            rate => rate,
        }
    }

    /// TCP_CONGESTION: `cubic` or `reno`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for other names.
    pub fn set_congestion(self, name: &str) -> Result<(), Error> {
        let number = match name {
            "cubic" => congestion::CUBIC,
            "reno" => congestion::RENO,
            "bbr" => congestion::BBR,
            _ => return Err(Error::NotFound),
        };
        self.words().congestion.store(number, Relaxed);
        self.changed();
        Ok(())
    }

    /// What was asked for; what a connection has is in [`super::TcpStream::tcp_info`].
    pub fn congestion(self) -> &'static str {
        match self.words().congestion.load(Relaxed) {
            congestion::RENO => "reno",
            congestion::BBR => "bbr",
            _ => "cubic",
        }
    }

    /// SO_LINGER, seconds: dropping the socket waits so long for the peer to have everything; 0:
    /// it resets the connection. `None`: it goes on in the background.
    pub fn set_linger(self, seconds: Option<u16>) {
        self.socket.linger.set(seconds);
    }

    /// See [`Self::set_linger`].
    pub fn linger(self) -> Option<u16> {
        self.socket.linger.get()
    }

    /// SO_SNDBUF: how many bytes may be written and not acknowledged. As on Linux twice as much is
    /// granted, but no more than the ring holds, whose size is chosen with [`super::Options`].
    pub fn set_send_buffer(self, bytes: i64) {
        let granted = bytes.clamp(2304, LARGEST_BUFFER) as u64 * 2;
        self.socket.tx_limit.set(granted.min(self.socket.tx_size()));
        self.socket.tx_locked.set(true);
    }

    /// What [`Self::set_send_buffer`] granted, or what the stack thinks right at the moment.
    pub fn send_buffer(self) -> i64 {
        self.socket.send_limit() as i64
    }

    /// SO_RCVBUF: the largest window advertised is so large, and twice as much is said to be granted,
    /// as on Linux.
    pub fn set_recv_buffer(self, bytes: i64) {
        let bytes = bytes.clamp(1152, LARGEST_BUFFER) as u32;
        self.words().window_clamp.store(AppSock::RCVBUF | bytes, Relaxed);
        self.changed();
    }

    /// What [`Self::set_recv_buffer`] granted; at first, the ring's size.
    pub fn recv_buffer(self) -> i64 {
        match self.words().window_clamp.load(Relaxed) {
            word if word & AppSock::RCVBUF == 0 => self.socket.rx_size() as i64,
            word => (word & !AppSock::RCVBUF) as i64 * 2,
        }
    }
}
