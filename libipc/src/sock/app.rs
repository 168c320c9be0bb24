//! A program's words of one socket: its indices and its options.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::*};

/// The program's words of one socket, 64 bytes. An option of 0 means what Linux does when nobody
/// says anything. netd believes none of them: what is out of range counts as the nearest value.
///
/// Sockets that belong to a listener (handshakes, connections that wait) have the listener's
/// options; the program copies them ([`AppSock::inherit`]) when it has accepted one.
#[repr(C, align(64))]
pub struct AppSock {
    /// Bytes ever written into the send ring.
    pub tx_tail: AtomicU64,
    /// Bytes ever taken from the receive ring.
    pub rx_head: AtomicU64,
    /// Streams: for how many milliseconds data may go unacknowledged, or a connect unanswered, before
    /// the connection ends with [`Error::TimedOut`](super::Error::TimedOut) (RFC 5482, TCP_USER_TIMEOUT); 0: as TCP does,
    /// minutes. netd reads it when a retransmission is due.
    pub user_timeout_ms: AtomicU32,
    /// [`option`] bits. netd looks at them when it looks at the indices.
    pub options: AtomicU32,
    /// TCP_KEEPIDLE, seconds of silence before the first keep-alive probe; 0: 7200.
    pub keep_idle_s: AtomicU16,
    /// TCP_KEEPINTVL, seconds between probes; 0: 75.
    pub keep_interval_s: AtomicU16,
    /// TCP_KEEPCNT, probes without an answer that end the connection; 0: 9.
    pub keep_count: AtomicU8,
    /// TCP_SYNCNT, retransmissions of a SYN; 0: 6.
    pub syn_retries: AtomicU8,
    /// IP_TTL and IPV6_UNICAST_HOPS; 0: 64.
    pub ttl: AtomicU8,
    /// IP_TOS and IPV6_TCLASS. A stream's ECN bits are TCP's own.
    pub tos: AtomicU8,
    /// Datagrams: IP_MULTICAST_TTL with its lowest bit inverted, so that 0 is the default, 1.
    /// Listeners: [`Self::defer_accept_s`].
    pub multicast_ttl: AtomicU8,
    /// TCP_CONGESTION: [`congestion`].
    pub congestion: AtomicU8,
    /// TCP_MAXSEG: the largest segment wanted in either direction; 0: what the path carries.
    pub max_seg: AtomicU16,
    /// TCP_LINGER2, seconds in FIN-WAIT-2 after close; 0: 60, [`AppSock::NO_LINGER2`]: none.
    pub linger2_s: AtomicU16,
    /// Listeners: TCP_FASTOPEN, requests that may wait for their handshake; 0: no Fast Open.
    /// Datagrams: [`Self::leaves_by`].
    pub queue: AtomicU16,
    /// With [`option::URGENT`]: the count (as `tx_tail`, modulo 2^32) after the last urgent byte
    /// (MSG_OOB). Written before `tx_tail` passes it. Datagrams: not 0 while the program waits for
    /// room for a datagram longer than [`Dgram::UNCUT`](super::Dgram::UNCUT).
    pub tx_urgent: AtomicU32,
    /// Streams: TCP_NOTSENT_LOWAT: a send ring with so many bytes never sent is not writable; 0: no limit.
    /// Raw sockets: [`Self::icmp_filter`].
    pub notsent_lowat: AtomicU32,
    /// SO_RCVLOWAT: fewer bytes are not worth waking the program for; 0: 1.
    pub rcv_lowat: AtomicU32,
    /// TCP_WINDOW_CLAMP, or SO_RCVBUF with [`AppSock::RCVBUF`] (the smaller of both): the largest
    /// window advertised; 0: as the stack thinks right, up to what the ring holds.
    pub window_clamp: AtomicU32,
    /// SO_MAX_PACING_RATE, bytes a second; 0: no limit.
    pub pacing_rate: AtomicU64,
}

const _: () = assert!(size_of::<AppSock>() == 64);

impl AppSock {
    /// [`AppSock::linger2_s`]: no FIN-WAIT-2 after close.
    pub const NO_LINGER2: u16 = u16::MAX;

    /// [`AppSock::window_clamp`]: said by SO_RCVBUF, so that the window is not tuned.
    pub const RCVBUF: u32 = 1 << 31;

    /// Of a listener: TCP_DEFER_ACCEPT, seconds.
    pub const fn defer_accept_s(&self) -> &AtomicU8 {
        &self.multicast_ttl
    }

    /// Of a datagram socket: IP_MULTICAST_IF, the interface's number, and, in the high byte, IP_UNICAST_IF; 0: by route.
    pub const fn leaves_by(&self) -> &AtomicU16 {
        &self.queue
    }

    /// Of a raw socket: ICMP_FILTER, types of ICMP that are not wanted, a bit each.
    pub const fn icmp_filter(&self) -> &AtomicU32 {
        &self.notsent_lowat
    }

    /// All 0: no socket.
    pub const fn new() -> Self {
        Self {
            tx_tail: AtomicU64::new(0),
            rx_head: AtomicU64::new(0),
            user_timeout_ms: AtomicU32::new(0),
            options: AtomicU32::new(0),
            keep_idle_s: AtomicU16::new(0),
            keep_interval_s: AtomicU16::new(0),
            keep_count: AtomicU8::new(0),
            syn_retries: AtomicU8::new(0),
            ttl: AtomicU8::new(0),
            tos: AtomicU8::new(0),
            multicast_ttl: AtomicU8::new(0),
            congestion: AtomicU8::new(0),
            max_seg: AtomicU16::new(0),
            linger2_s: AtomicU16::new(0),
            queue: AtomicU16::new(0),
            tx_urgent: AtomicU32::new(0),
            notsent_lowat: AtomicU32::new(0),
            rcv_lowat: AtomicU32::new(0),
            window_clamp: AtomicU32::new(0),
            pacing_rate: AtomicU64::new(0),
        }
    }

    /// Begins anew: the id has no socket.
    pub fn clear(&self) {
        self.tx_tail.store(0, Relaxed);
        self.take_options(&Self::new());
        self.tx_urgent.store(0, Relaxed);
        self.rx_head.store(0, Release);
    }

    /// Takes over a listener's options for a connection that was accepted from it.
    pub fn inherit(&self, listener: &Self) {
        self.take_options(listener);
        // These two mean something else there.
        self.multicast_ttl.store(0, Relaxed);
        self.queue.store(0, Relaxed);
    }

    /// Takes over all options, and no index.
    pub fn take_options(&self, from: &Self) {
        macro_rules! copy {
            ($($word:ident)*) => { $(self.$word.store(from.$word.load(Relaxed), Relaxed);)* };
        }
        copy!(user_timeout_ms options keep_idle_s keep_interval_s keep_count syn_retries ttl tos
            multicast_ttl congestion max_seg linger2_s queue notsent_lowat rcv_lowat window_clamp
            pacing_rate);
    }
}

impl Default for AppSock {
    fn default() -> Self {
        Self::new()
    }
}

/// Which values an option takes that is a number, and which a word of 0 means: Linux's.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// The least.
    pub least: i64,
    /// The most.
    pub most: i64,
    /// Linux's default.
    pub default: i64,
}

impl Number {
    const fn new(least: i64, most: i64, default: i64) -> Self {
        Self { least, most, default }
    }
    /// TCP_KEEPIDLE, seconds.
    pub const KEEP_IDLE_S: Self = Self::new(1, 32_767, 7200);
    /// TCP_KEEPINTVL, seconds.
    pub const KEEP_INTERVAL_S: Self = Self::new(1, 32_767, 75);
    /// TCP_KEEPCNT.
    pub const KEEP_COUNT: Self = Self::new(1, 127, 9);
    /// TCP_SYNCNT.
    pub const SYN_RETRIES: Self = Self::new(1, 127, 6);
    /// IP_TOS, IPV6_TCLASS.
    pub const TOS: Self = Self::new(0, 255, 0);
    /// IP_TTL, IPV6_UNICAST_HOPS.
    pub const TTL: Self = Self::new(1, 255, 64);
    /// TCP_USER_TIMEOUT, milliseconds.
    pub const USER_TIMEOUT_MS: Self = Self::new(0, i32::MAX as i64, 0);
    /// TCP_NOTSENT_LOWAT, bytes.
    pub const NOTSENT_LOWAT: Self = Self::new(0, u32::MAX as i64, u32::MAX as i64);
    /// TCP_FASTOPEN.
    pub const FAST_OPEN_QUEUE: Self = Self::new(0, u16::MAX as i64, 0);
    /// IP_MULTICAST_IF.
    pub const MULTICAST_IF: Self = Self::new(0, u8::MAX as i64, 0);
}

/// TCP_DEFER_ACCEPT in repetitions of a SYN-ACK, a second after it and with doubling pauses, that `seconds`
/// have room for (Linux's `secs_to_retrans`).
pub const fn defer_retries(seconds: u8) -> u8 {
    (u8::BITS - seconds.leading_zeros()) as u8
}

/// Bits of [`AppSock::options`].
pub mod option {
    /// The program counts changes of any option here, modulo 32: netd reads the others when this
    /// word is not as it was.
    pub const CHANGES: u32 = 31 << 27;
    /// One more.
    pub const CHANGE: u32 = 1 << 27;
    /// TCP_NODELAY: a small segment does not wait for an ACK of the one before (RFC 9293 3.7.4
    /// asks for the choice).
    pub const NODELAY: u32 = 1;
    /// TCP_CORK, MSG_MORE: a small segment waits for more, at most 200 ms.
    pub const CORK: u32 = 1 << 1;
    /// TCP_NODELAY was set once more, even if it was set already: what waits is pushed. Its change counts.
    pub const NODELAY_SAID: u32 = 1 << 2;
    /// SO_KEEPALIVE.
    pub const KEEPALIVE: u32 = 1 << 3;
    /// SO_OOBINLINE. Of no concern to netd: urgent bytes always lie in the ring.
    pub const OOBINLINE: u32 = 1 << 4;
    /// SO_BROADCAST.
    pub const BROADCAST: u32 = 1 << 5;
    /// IP_MULTICAST_LOOP 0.
    pub const MULTICAST_LOOP_OFF: u32 = 1 << 6;
    /// IP_RECVERR.
    pub const RECVERR: u32 = 1 << 7;
    /// IP_MTU_DISCOVER, two bits: [`PMTU_WANT`] and so on.
    pub const PMTU: u32 = 3 << PMTU_SHIFT;
    /// Where they are.
    pub const PMTU_SHIFT: u32 = 8;
    /// [`PMTU`]: what fits is sent with DF, what does not in fragments.
    pub const PMTU_WANT: u32 = 0;
    /// [`PMTU`]: always DF; what does not fit is refused.
    pub const PMTU_DO: u32 = 1 << PMTU_SHIFT;
    /// [`PMTU`]: never DF.
    pub const PMTU_DONT: u32 = 2 << PMTU_SHIFT;
    /// [`PMTU`]: always DF, and what is known of the path is ignored.
    pub const PMTU_PROBE: u32 = 3 << PMTU_SHIFT;
    /// IP_RECVTTL and IPV6_RECVHOPLIMIT.
    pub const RECVTTL: u32 = 1 << 10;
    /// IP_RECVTOS and IPV6_RECVTCLASS.
    pub const RECVTOS: u32 = 1 << 11;
    /// IP_PKTINFO and IPV6_RECVPKTINFO.
    pub const PKTINFO: u32 = 1 << 12;
    /// IPV6_V6ONLY. Read at bind and listen.
    pub const V6ONLY: u32 = 1 << 13;
    /// Asks for ECN in our SYN (Linux: `tcp_ecn` 1, or the route's feature).
    pub const ECN: u32 = 1 << 14;
    /// The last TCP_QUICKACK was 0: ACKs wait for data of ours to go with.
    pub const DELAYED_ACK: u32 = 1 << 15;
    /// TCP_FASTOPEN_CONNECT: `connect` waits for the first data (RFC 7413).
    pub const FASTOPEN_CONNECT: u32 = 1 << 16;
    /// TCP_FASTOPEN_NO_COOKIE.
    pub const FASTOPEN_NO_COOKIE: u32 = 1 << 17;
    /// SO_REUSEADDR. Read at bind and listen.
    pub const REUSEADDR: u32 = 1 << 18;
    /// SO_REUSEPORT. Read at bind and listen.
    pub const REUSEPORT: u32 = 1 << 19;
    /// [`AppSock::tx_urgent`](super::AppSock::tx_urgent) says something.
    pub const URGENT: u32 = 1 << 20;
    /// IP_MULTICAST_ALL 0: only groups that this socket has joined.
    pub const MULTICAST_ALL_OFF: u32 = 1 << 21;
    /// IP_HDRINCL, of raw sockets.
    pub const HDRINCL: u32 = 1 << 22;
    /// SO_NO_CHECK: UDP checksum 0 (IPv4).
    pub const NO_CHECK: u32 = 1 << 23;
    /// MSG_MORE of the last write: as [`CORK`], until the next one.
    pub const MORE: u32 = 1 << 24;
    /// TCP_QUICKACK was said so often, modulo 4. Its change counts, as TCP may have chosen otherwise since.
    pub const QUICKACK_SAID: u32 = 3 << 25;

    /// `bits` after TCP_NODELAY was set to `on`.
    pub const fn with_nodelay(bits: u32, on: bool) -> u32 {
        if on { (bits | NODELAY) ^ NODELAY_SAID } else { bits & !NODELAY }
    }

    /// `bits` after TCP_QUICKACK was set to `on`.
    pub const fn with_quickack(bits: u32, on: bool) -> u32 {
        let said = bits.wrapping_add(1 << 25) & QUICKACK_SAID;
        let bits = bits & !(QUICKACK_SAID | DELAYED_ACK) | said;
        if on { bits } else { bits | DELAYED_ACK }
    }
}

/// Values of [`AppSock::congestion`].
pub mod congestion {
    /// CUBIC (RFC 9438).
    pub const CUBIC: u8 = 0;
    /// NewReno (RFC 5681, 6582), `reno` in Linux.
    pub const RENO: u8 = 1;
    /// BBR, version 1, for up to 16 connections of a program; others have [`CUBIC`].
    pub const BBR: u8 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_socket_has_the_listeners_options_and_its_own_indices() {
        let (listener, child) = (AppSock::new(), AppSock::new());
        listener.options.store(option::NODELAY | option::KEEPALIVE, Relaxed);
        listener.keep_idle_s.store(7, Relaxed);
        listener.multicast_ttl.store(3, Relaxed);
        listener.queue.store(16, Relaxed);
        child.tx_tail.store(9, Relaxed);
        child.rx_head.store(11, Relaxed);
        child.inherit(&listener);
        assert_eq!(child.options.load(Relaxed), option::NODELAY | option::KEEPALIVE);
        assert_eq!(child.keep_idle_s.load(Relaxed), 7);
        assert_eq!((child.multicast_ttl.load(Relaxed), child.queue.load(Relaxed)), (0, 0));
        assert_eq!((child.tx_tail.load(Relaxed), child.rx_head.load(Relaxed)), (9, 11));
        child.clear();
        assert_eq!((child.options.load(Relaxed), child.keep_idle_s.load(Relaxed)), (0, 0));
        assert_eq!((child.tx_tail.load(Relaxed), child.rx_head.load(Relaxed)), (0, 0));
    }
}
