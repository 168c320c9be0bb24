//! TCP_INFO: what a connection is about at the moment.

use super::Conn;
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Record, TcpInfo, event, flags, tcp_info};

fn us(ns: u64) -> u32 {
    (ns / 1000).min(u32::MAX as u64) as u32
}

/// Options in use, as TCP_INFO has them: what was agreed, and what the record tells.
pub fn options(agreed: u16, rec: &Record) -> u8 {
    let bit = |flag: u16, bit: u8| if agreed & flag != 0 { bit } else { 0 };
    let syn_data = rec.events.load(Relaxed) & event::SYN_DATA != 0;
    bit(flags::TIMESTAMPS, tcp_info::TIMESTAMPS)
        | bit(flags::SACK, tcp_info::SACK)
        | bit(flags::WINDOW_SCALE, tcp_info::WSCALE)
        | bit(flags::ECN, tcp_info::ECN)
        | if syn_data { tcp_info::SYN_DATA } else { 0 }
}

impl Conn {
    /// Bytes sent and not acknowledged.
    pub fn flight(&self) -> u32 {
        let una = self.una.max(self.iss + 1);
        if una.lt(self.max) { self.max.min(self.tail) - una.min(self.tail) } else { 0 }
    }

    /// Bytes never sent, and a FIN that was not.
    fn unsent_yet(&self) -> u32 {
        let end = self.tail + self.fin.is_some() as u32;
        if self.max.lt(end) { end - self.max } else { 0 }
    }

    /// State and figures, except what only the program's words tell.
    pub fn info(&self, now: u64) -> TcpInfo {
        let ms = |at: u64| (now.saturating_sub(at) / 1_000_000).min(u32::MAX as u64) as u32;
        let tally = &self.recovery.tally;
        let delivery = self.delivery_rate();
        let info = TcpInfo {
            state: TcpInfo::state_of(self.state),
            retransmits: self.retries,
            ca_state: self.recovery.phase as u8,
            backoff: self.rtt.backoff(),
            probes: self.patience.probes(),
            options: options(self.agreed, self.rec),
            snd_wscale: self.snd_shift,
            rcv_wscale: self.rcv_shift,
            rto: us(self.rtt.rto()),
            ato: us(self.delay.for_ns),
            snd_mss: self.mss,
            rcv_mss: self.delay.size as u32,
            unacked: self.board.segments() + (self.una == self.iss && self.una != self.max) as u32,
            sacked: self.board.sacked.segments,
            lost: self.board.lost.segments,
            retrans: self.board.resent.segments,
            delivered: tally.delivered,
            dsack_dups: tally.duplicates,
            rcv_ooopack: tally.out_of_order,
            total_rto: tally.timeouts,
            reord_seen: self.recovery.rack.seen,
            reordering: self.recovery.rack.reordering as u32,
            rtt: us(self.rtt.srtt()),
            rttvar: us(self.rtt.variance()),
            min_rtt: us(self.rtt.least()),
            snd_ssthresh: self.cc.ssthresh().map_or(0x7fff_ffff, |s| s / self.mss.max(1)),
            last_data_sent: ms(self.last_sent),
            last_data_recv: ms(match self.delay.last {
                0 => self.patience.heard_at(),
                at => at,
            }),
            last_ack_recv: ms(self.patience.heard_at()),
            // Less what timestamps take of each segment.
            advmss: self.config.mss as u32 - if self.timed() { 12 } else { 0 },
            soft_error: self.patience.soft(),
            congestion: self.cc.algorithm() as u8,
            snd_cwnd: self.cc.window() / self.mss.max(1),
            notsent_bytes: self.unsent_yet(),
            snd_wnd: self.wnd,
            rcv_wnd: self.rcv_adv - self.rcv_nxt,
            rcv_ssthresh: self.tuning.slow(),
            rcv_space: self.tuning.taken(),
            rcv_rtt: self.tuning.rtt(),
            pacing_rate: match self.pacing_rate() {
                0 => self.fair_rate().unwrap_or(u64::MAX),
                rate => rate,
            },
            delivery_rate: delivery.0,
            app_limited: delivery.1,
            max_pacing_rate: match self.opts().pacing_rate {
                0 => u64::MAX,
                rate => rate,
            },
            ..TcpInfo::default()
        };
        self.add_figures(info, now)
    }
}
