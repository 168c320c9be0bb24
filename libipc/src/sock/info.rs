//! What a connection is about at the moment (TCP_INFO).

use super::Error;
use serde::{Deserialize, Serialize};

/// State and figures of a connection, in the units of Linux's `struct tcp_info`: times in
/// microseconds where nothing else is said, amounts in segments where nothing is said of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are Linux's, and so is what they mean.
pub struct TcpInfo {
    /// [`TcpInfo::state_of`].
    pub state: u8,
    /// 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    /// [`tcp_info`] bits.
    pub options: u8,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub app_limited: bool,
    pub fastopen_client_fail: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    /// Milliseconds, as the next two.
    pub last_data_sent: u32,
    pub last_data_recv: u32,
    pub last_ack_recv: u32,
    /// Bytes.
    pub pmtu: u32,
    /// Bytes.
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    /// Bytes.
    pub rcv_space: u32,
    pub total_retrans: u32,
    /// Bytes a second, as the next; `u64::MAX`: no limit.
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    /// Bytes a second.
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    /// Bytes, as the next.
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    /// Milliseconds.
    pub total_rto_time: u32,
    /// What ICMP has said of the way while the connection stands (RFC 5461; SO_ERROR tells it).
    pub soft_error: Option<Error>,
    /// The congestion control that runs, which need not be the one that was asked for
    /// ([`congestion`](super::congestion)). Linux tells it apart (TCP_CONGESTION).
    pub congestion: u8,
}

/// Bits of [`TcpInfo::options`].
pub mod tcp_info {
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 1;
    /// SACK.
    pub const SACK: u8 = 2;
    /// Window scale.
    pub const WSCALE: u8 = 4;
    /// ECN was negotiated.
    pub const ECN: u8 = 8;
    /// A packet with ECT has been received.
    pub const ECN_SEEN: u8 = 16;
    /// Data of our SYN was acknowledged by the SYN-ACK (Fast Open).
    pub const SYN_DATA: u8 = 32;
}

impl TcpInfo {
    /// Bytes of Linux's structure.
    pub const LINUX: usize = 248;

    /// Linux's number of a state.
    pub const fn state_of(state: super::State) -> u8 {
        use super::State::*;
        match state {
            Established => 1,
            SynSent => 2,
            SynReceived => 3,
            FinWait1 => 4,
            FinWait2 => 5,
            TimeWait => 6,
            Closed | Open | Free => 7,
            CloseWait => 8,
            LastAck => 9,
            Listen => 10,
            Closing => 11,
        }
    }

    /// As Linux's `struct tcp_info` lies in memory (x86-64).
    #[rustfmt::skip] // A group of equal words a line.
    pub fn to_linux(&self) -> [u8; Self::LINUX] {
        let mut w = Writer { out: [0; Self::LINUX], at: 0 };
        w.put(&[self.state, self.ca_state, self.retransmits, self.probes, self.backoff, self.options]);
        w.put(&[self.snd_wscale & 15 | self.rcv_wscale << 4]);
        w.put(&[self.app_limited as u8 | (self.fastopen_client_fail & 3) << 1]);
        w.words(&[self.rto, self.ato, self.snd_mss, self.rcv_mss]);
        // `fackets` and `last_ack_sent` are 0 in Linux, too.
        w.words(&[self.unacked, self.sacked, self.lost, self.retrans, 0]);
        w.words(&[self.last_data_sent, 0, self.last_data_recv, self.last_ack_recv]);
        w.words(&[self.pmtu, self.rcv_ssthresh, self.rtt, self.rttvar, self.snd_ssthresh, self.snd_cwnd]);
        w.words(&[self.advmss, self.reordering, self.rcv_rtt, self.rcv_space, self.total_retrans]);
        w.longs(&[self.pacing_rate, self.max_pacing_rate, self.bytes_acked, self.bytes_received]);
        w.words(&[self.segs_out, self.segs_in, self.notsent_bytes, self.min_rtt]);
        w.words(&[self.data_segs_in, self.data_segs_out]);
        w.longs(&[self.delivery_rate, self.busy_time, self.rwnd_limited, self.sndbuf_limited]);
        w.words(&[self.delivered, self.delivered_ce]);
        w.longs(&[self.bytes_sent, self.bytes_retrans]);
        // The last one is `rehash`.
        w.words(&[self.dsack_dups, self.reord_seen, self.rcv_ooopack, self.snd_wnd, self.rcv_wnd, 0]);
        w.put(&self.total_rto.to_le_bytes());
        w.put(&self.total_rto_recoveries.to_le_bytes());
        w.words(&[self.total_rto_time]);
        w.out
    }
}

struct Writer {
    out: [u8; TcpInfo::LINUX],
    at: usize,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.put(&word.to_le_bytes());
        }
    }
    fn longs(&mut self, words: &[u64]) {
        for word in words {
            self.put(&word.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets as a C compiler has them for Linux's structure.
    #[test]
    fn fields_lie_where_linux_has_them() {
        let info = TcpInfo {
            state: 1,
            snd_wscale: 7,
            rcv_wscale: 10,
            rto: 2,
            unacked: 3,
            rcv_mss: 4,
            pmtu: 5,
            rtt: 6,
            snd_cwnd: 7,
            total_retrans: 8,
            pacing_rate: 9,
            bytes_received: 10,
            segs_out: 11,
            min_rtt: 12,
            delivery_rate: 13,
            sndbuf_limited: 14,
            delivered: 15,
            bytes_sent: 16,
            snd_wnd: 17,
            rcv_wnd: 18,
            total_rto_time: 19,
            ..TcpInfo::default()
        };
        let b = info.to_linux();
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        assert_eq!((b[0], b[6]), (1, 7 | 10 << 4));
        let at = |offsets: &[usize]| -> [u32; 16] {
            core::array::from_fn(|i| offsets.get(i).map_or(0, |at| word(*at)))
        };
        let offsets = [8, 24, 20, 60, 68, 80, 100, 104, 128, 136, 148, 160, 184, 192, 200, 228];
        assert_eq!(at(&offsets), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!((word(232), word(244)), (18, 19));
    }
}
