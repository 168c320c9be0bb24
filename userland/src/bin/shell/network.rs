//! Sockets, ping, counters: requests to netd and sockd.

use core::fmt::Write;
use core::net::IpAddr;
use core::time::Duration;
use libipc::counters::Counters;
use libipc::msg::{self, CallError, interface};
use libipc::nic::Counter;
use libipc::sock::{self, State};
use libipc::{net, proc};
use userland::net::{Ping, device_number};
use userland::{dns, mem};

use super::failure::{Done, Failure, clip};
use super::{Shell, out};

/// Data bytes of a ping, as everywhere else.
const PING_DATA: usize = 56;
const PING_TIMEOUT: Duration = Duration::from_secs(1);

impl Shell {
    pub(super) fn sockets(&mut self) -> Done {
        out!(
            self,
            "{:<8} {:<13} {:>7} {:>7} {:>7} {:<22} {:<22} SESSION.ID",
            "KIND",
            "STATE",
            "RX-Q",
            "TX-Q",
            "DROPPED",
            "LOCAL",
            "REMOTE"
        );
        let mut skip = 0;
        loop {
            let net::Reply::Sockets(some) = self.netd(&net::Request::Sockets { skip })? else {
                return Err(Failure::Nonsense("netd"));
            };
            for s in &some {
                let mut local = heapless::String::<56>::new();
                let mut remote = heapless::String::<56>::new();
                let _ = write!(local, "{}", s.local);
                let _ = match s.remote {
                    Some(r) => write!(remote, "{r}"),
                    None => write!(remote, "-"),
                };
                let kind = match s.kind {
                    sock::Kind::Tcp => "tcp",
                    sock::Kind::Listener => "tcp",
                    sock::Kind::Udp => "udp",
                    sock::Kind::Ping => "ping",
                    sock::Kind::Raw => "raw",
                    sock::Kind::Capture => "capture",
                };
                let mut owner = heapless::String::<16>::new();
                let _ = match s.sock {
                    net::SockInfo::NOBODYS => write!(owner, "-"),
                    sock => write!(owner, "{}.{}", sock.session, sock.id),
                };
                out!(
                    self,
                    "{:<8} {:<13} {:>7} {:>7} {:>7} {:<22} {:<22} {}",
                    kind,
                    state_name(s.state),
                    s.rx_queue,
                    s.tx_queue,
                    s.dropped,
                    local,
                    remote,
                    owner
                );
            }
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    /// The addresses of a name.
    pub(super) fn host(&mut self, name: &str) -> Done {
        for ip in self.names.lookup(name).map_err(|e| Failure::Dns(clip(name), e))? {
            out!(self, "{ip}");
        }
        Ok(())
    }

    /// An address as it is written, or the first of a name.
    pub(super) fn address(&self, word: &str) -> Result<IpAddr, Failure> {
        let found = self.names.lookup(word).map_err(|e| Failure::Dns(clip(word), e))?;
        found.first().copied().ok_or(Failure::Dns(clip(word), dns::Error::NoAddress))
    }

    /// As [`Self::address`], with the number of the interface that it is on if that is said: `fe80::1%eth0`.
    pub(super) fn zoned(&self, word: &str) -> Result<(IpAddr, u8), Failure> {
        let Some((ip, name)) = word.split_once('%') else { return Ok((self.address(word)?, 0)) };
        let number = device_number(name).ok_or(Failure::NoCard(clip(name)))?;
        Ok((self.address(ip)?, number))
    }

    pub(super) fn ping(&mut self, to: &str, count: &str) -> Done {
        let (addr, device) = self.zoned(to)?;
        let Some(count) = count.parse::<u16>().ok().filter(|c| *c > 0) else {
            return Err(Failure::NoNumber("ping", clip(count)));
        };
        let socket = match Ping::open(self.rt) {
            Ok(socket) => socket,
            Err(e) => return Err(Failure::Ping(e)),
        };
        socket.bind_device(device).map_err(Failure::Ping)?;
        out!(self, "PING {addr}: {PING_DATA} data bytes");
        let (mut sent, mut received) = (0, 0);
        let (mut least, mut most, mut sum) = (u64::MAX, 0, 0);
        for seq in 1..=count {
            let begun = self.rt.now();
            sent += 1;
            match socket.ping(addr, seq, PING_DATA, PING_TIMEOUT) {
                Ok(time) => {
                    let us = time.as_micros() as u64;
                    received += 1;
                    (least, most, sum) = (least.min(us), most.max(us), sum + us);
                    let size = PING_DATA + 8;
                    let (ms, fraction) = (us / 1000, us % 1000);
                    out!(self, "{size} bytes from {addr}: seq={seq} time={ms}.{fraction:03} ms");
                }
                Err(e) => out!(self, "no answer from {addr}: seq={seq}: {e}"),
            }
            let next = begun + PING_TIMEOUT;
            if self.out.interrupted() || seq < count && self.out.sleep_until(next) {
                out!(self, "^C");
                break;
            }
        }
        let loss = (sent - received) * 100 / sent;
        out!(self, "{sent} sent, {received} received, {loss}% lost");
        if received > 0 {
            out!(self, "round trip min/avg/max {}/{}/{} us", least, sum / received as u64, most);
        }
        Ok(())
    }

    /// Exact numbers first, one line a server: what must come back to the same value after
    /// clients have come and gone.
    pub(super) fn stats(&mut self) -> Done {
        let proc::Reply::Memory { total, free, slots } = self.init(&proc::Request::Memory)? else {
            return Err(Failure::Nonsense("init"));
        };
        out!(self, "init: free={free} slots={slots} total={total}");
        // Asked before netd: to answer it does what it has put off.
        let sockd = self.rt.sockd_stats();
        let net::Reply::Stats(n) = self.netd(&net::Request::Stats)? else {
            return Err(Failure::Nonsense("netd"));
        };
        out!(
            self,
            "netd: sockets={} rx_buffers={} tx_in_flight={}",
            n.sockets,
            n.rx_buffers,
            n.tx_in_flight
        );
        let (mut refused, mut nonsense) = (n.not_permitted, n.nonsense);
        match sockd {
            Ok(s) => {
                let (sessions, sockets, bytes) = (s.sessions, s.sockets, s.bytes);
                out!(self, "sockd: sessions={sessions} sockets={sockets} bytes={bytes}");
                (refused, nonsense) = (refused + s.refused, nonsense + s.nonsense);
            }
            Err(e) => out!(self, "sockd: {e}"),
        }
        out!(self, "wrong: not_permitted={refused} nonsense={nonsense}");
        self.misbehaved()?;
        out!(
            self,
            "traffic: rx_frames={} tx_frames={} rx_dropped={} retransmits={} resets_sent={} \
             peer_errors={} recovered={}",
            n.rx_frames,
            n.tx_frames,
            n.rx_dropped,
            n.retransmits,
            n.resets_sent,
            n.peer_errors,
            n.recovered
        );
        if let Some(nic) = mem::nic_status(self.start) {
            let c = |which: Counter| {
                nic.counters[which as usize].load(core::sync::atomic::Ordering::Relaxed)
            };
            out!(
                self,
                "nic: rx_frames={} rx_bytes={} tx_frames={} tx_bytes={} rx_errors={} \
                 peer_errors={} interrupts={} link_changes={} reattached={} cold_starts={}",
                c(Counter::RxFrames),
                c(Counter::RxBytes),
                c(Counter::TxFrames),
                c(Counter::TxBytes),
                c(Counter::RxErrors),
                c(Counter::PeerErrors),
                c(Counter::Interrupts),
                c(Counter::LinkChanges),
                c(Counter::Reattached),
                c(Counter::ColdStarts)
            );
        }
        Ok(())
    }

    /// Whose sessions were ended for nonsense in their memory, and how often.
    fn misbehaved(&mut self) -> Done {
        let mut skip = 0;
        loop {
            let net::Reply::Misbehaved(some) = self.netd(&net::Request::Misbehaved { skip })?
            else {
                return Err(Failure::Nonsense("netd"));
            };
            for (program, times) in &some {
                out!(self, "misbehaved: {program}={times}");
            }
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    /// Every counter of netd that has counted something.
    pub(super) fn counters(&mut self) -> Done {
        let mut skip = 0;
        loop {
            let net::Reply::Counters(some) =
                self.netd(&net::Request::Counters { skip: skip as u32 })?
            else {
                return Err(Failure::Nonsense("netd"));
            };
            for (name, value) in Counters::NAMES.iter().skip(skip).zip(&some) {
                if *value > 0 {
                    out!(self, "{name:<28} {value}");
                }
            }
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len();
        }
    }

    pub(super) fn netd(&self, request: &net::Request) -> Result<net::Reply, Failure> {
        let Some(ep) = self.start.cap("netd") else {
            return Err(Failure::NoCapability("net_status"));
        };
        loop {
            let reply: Result<net::Result<net::Reply>, CallError> =
                msg::call(ep, interface::NET, 0, request);
            match reply {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(e)) => return Err(Failure::Netd(e)),
                Err(CallError::Kernel(abi::Error::ServerDied)) => {}
                Err(e) => return Err(Failure::Silent("netd", e)),
            }
        }
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Free => "FREE",
        State::Open => "OPEN",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
        State::Closed => "CLOSED",
    }
}
