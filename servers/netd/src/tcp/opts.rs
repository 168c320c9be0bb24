//! What the program wants of a connection: a copy of its words ([`AppSock`]), made within bounds.

use super::Conn;
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{AppSock, Number, option};

const SECOND: u64 = 1_000_000_000;

/// The options of a connection. A default is Linux's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opts {
    /// [`option`] bits as netd saw them last.
    pub bits: u32,
    /// [`AppSock::tx_urgent`].
    pub urgent: u32,
    /// [`AppSock::notsent_lowat`].
    pub notsent_lowat: u32,
    /// [`AppSock::window_clamp`], [`AppSock::RCVBUF`] included.
    pub window_clamp: u32,
    /// [`AppSock::pacing_rate`].
    pub pacing_rate: u64,
    user_timeout_ms: u32,
    keep_idle_s: u16,
    keep_interval_s: u16,
    max_seg: u16,
    linger2_s: u16,
    keep_count: u8,
    syn_retries: u8,
    /// [`AppSock::ttl`].
    pub ttl: u8,
    /// [`AppSock::tos`].
    pub tos: u8,
    /// [`AppSock::congestion`].
    pub congestion: u8,
}

impl Opts {
    /// Reads a program's words.
    pub fn read(app: &AppSock) -> Self {
        Self {
            // First: a change after this look is seen with the next.
            bits: app.options.load(core::sync::atomic::Ordering::Acquire),
            urgent: app.tx_urgent.load(Relaxed),
            notsent_lowat: app.notsent_lowat.load(Relaxed),
            window_clamp: app.window_clamp.load(Relaxed),
            pacing_rate: app.pacing_rate.load(Relaxed),
            user_timeout_ms: app.user_timeout_ms.load(Relaxed),
            keep_idle_s: app.keep_idle_s.load(Relaxed),
            keep_interval_s: app.keep_interval_s.load(Relaxed),
            max_seg: app.max_seg.load(Relaxed),
            linger2_s: app.linger2_s.load(Relaxed),
            keep_count: app.keep_count.load(Relaxed),
            syn_retries: app.syn_retries.load(Relaxed),
            ttl: app.ttl.load(Relaxed),
            tos: app.tos.load(Relaxed),
            congestion: app.congestion.load(Relaxed),
        }
    }

    /// Whether a boolean option is on.
    pub const fn has(&self, bit: u32) -> bool {
        self.bits & bit != 0
    }
    /// Whether segments may be cut on the way (IP_PMTUDISC_DONT).
    #[inline]
    pub const fn may_be_cut(&self) -> bool {
        self.bits & option::PMTU == option::PMTU_DONT
    }
    /// TCP_USER_TIMEOUT, ns; 0: none.
    pub const fn user_timeout(&self) -> u64 {
        self.user_timeout_ms as u64 * 1_000_000
    }
    /// TCP_KEEPIDLE, ns.
    pub const fn keep_idle(&self) -> u64 {
        or(self.keep_idle_s as u64, Number::KEEP_IDLE_S.default as u64) * SECOND
    }
    /// TCP_KEEPINTVL, ns.
    pub const fn keep_interval(&self) -> u64 {
        or(self.keep_interval_s as u64, Number::KEEP_INTERVAL_S.default as u64) * SECOND
    }
    /// TCP_KEEPCNT.
    pub const fn keep_count(&self) -> u8 {
        or(self.keep_count as u64, Number::KEEP_COUNT.default as u64) as u8
    }
    /// TCP_SYNCNT.
    pub const fn syn_retries(&self) -> u8 {
        or(self.syn_retries as u64, Number::SYN_RETRIES.default as u64) as u8
    }
    /// Repetitions of a listener's SYN-ACKs: TCP_SYNCNT, or `tcp_synack_retries`.
    pub const fn syn_ack_retries(&self) -> u8 {
        or(self.syn_retries as u64, 5) as u8
    }
    /// The largest segment wanted, at most `path`.
    pub fn max_seg(&self, path: u16) -> u16 {
        if self.max_seg == 0 { path } else { self.max_seg.clamp(88, path.max(88)).min(path) }
    }
    /// How long FIN-WAIT-2 lasts after close, ns; `None`: not at all (TCP_LINGER2).
    pub fn fin_wait_2(&self) -> Option<u64> {
        match self.linger2_s {
            AppSock::NO_LINGER2 => None,
            s => Some(or(s.min(120) as u64, 60) * SECOND),
        }
    }
}

const fn or(value: u64, default: u64) -> u64 {
    if value == 0 { default } else { value }
}

impl Conn {
    /// What the program wants.
    pub fn opts(&self) -> &Opts {
        &self.config.opts
    }

    /// Whether a small segment waits for the ACK of the one before.
    pub(super) fn nagle(&self) -> bool {
        self.config.nagle && !self.opts().has(option::NODELAY)
    }

    /// Whether small segments are kept back for more to come.
    pub(super) fn corked(&self) -> bool {
        self.more || (self.opts().has(option::CORK) && self.pushed.lt(self.tail))
    }

    /// Whether the program is to hear that it may write again (TCP_NOTSENT_LOWAT).
    pub fn is_below_lowat(&self) -> bool {
        let lowat = self.opts().notsent_lowat;
        lowat != 0 && (!self.max.lt(self.tail) || self.tail - self.max < lowat)
    }

    /// Takes over what the program wants now.
    pub fn set_opts(&mut self, opts: Opts, now: u64) {
        let old = core::mem::replace(&mut self.config.opts, opts);
        if (old.bits ^ opts.bits) & option::QUICKACK_SAID != 0 {
            self.set_quick_ack(!opts.has(option::DELAYED_ACK));
        }
        if opts.has(option::URGENT) && (!old.has(option::URGENT) || old.urgent != opts.urgent) {
            self.urgent_until(opts.urgent);
        }
        if old.congestion != opts.congestion {
            self.choose_congestion(now);
        }
        self.push_by(&old);
        if old.window_clamp != opts.window_clamp {
            self.set_clamp();
        }
        if old.has(option::KEEPALIVE) != opts.has(option::KEEPALIVE) {
            // From now on, however long the peer has been silent.
            self.arm_keep_alive(now, now);
        } else if old.keep_idle() != opts.keep_idle() {
            self.arm_keep_alive(self.patience.heard_at(), now);
        }
    }

    /// What a change of options means for small segments that wait.
    fn push_by(&mut self, old: &Opts) {
        let opts = *self.opts();
        self.more &= opts.has(option::MORE);
        self.more |= opts.has(option::MORE) && !old.has(option::MORE);
        if opts.has(option::NODELAY) && (old.bits ^ opts.bits) & option::NODELAY_SAID != 0 {
            // It is set, again perhaps: what waits is pushed, in spite of a cork.
            (self.more, self.pushed) = (false, self.tail);
        }
    }
}
