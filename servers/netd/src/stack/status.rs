//! How things are: the interface, sockets, counters.

use super::{Body, Stack};
use crate::demux::{ANY, Tuple};
use crate::dev::Dev;
use crate::env::Env;
use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use libipc::Name;
use libipc::net::{COUNTERS, Interface, SockId, SockInfo, Stats};
use libipc::sock::{Kind, State};

impl<E: Env> Stack<E> {
    pub(super) fn interface(&self, dev: Dev) -> Interface {
        let nic = &self.nics[dev];
        let lease = nic.dhcp.as_ref().and_then(|c| c.lease());
        Interface {
            mac: nic.mac.0,
            up: nic.up,
            mtu: nic.mtu,
            addr: self.iface.v4(dev).map(|net| (net.addr, net.prefix)),
            gateway: self.iface.gateways(dev).next(),
            dns: self.iface.dns(Some(dev)).next(),
            lease_s: lease.map(|l| (l.end().saturating_sub(self.now) / 1_000_000_000) as u32),
        }
    }

    pub(super) fn sockets(&self, skip: u32) -> heapless::Vec<SockInfo, 8> {
        let socks = (0..self.socks.len() as u32).filter_map(|i| self.info(i));
        let asked = (0..self.requests.len()).filter_map(|i| self.requests.get(i));
        let asked = asked.map(|r| nobodys(State::SynReceived, &r.tuple));
        let waiting = (0..self.time_wait.len()).filter_map(|i| self.time_wait.get(i));
        let waiting = waiting.map(|w| nobodys(State::TimeWait, &w.tuple));
        socks.chain(asked).chain(waiting).skip(skip as usize).take(8).collect()
    }

    pub(super) fn info(&self, i: u32) -> Option<SockInfo> {
        let s = &self.socks[i as usize];
        let (rx_queue, tx_queue) = match &s.body {
            Body::Free | Body::Spare => return None,
            Body::Tcp(conn) => (conn.unread(), conn.unsent()),
            Body::Dgram(d) => ((d.rx_tail - d.rx_head) as u32, (d.tx_tail - d.tx_head) as u32),
            Body::Listener(l) => (l.waiting.len(), 0),
            _ => (0, 0),
        };
        Some(SockInfo {
            sock: SockId { session: s.session, id: s.id },
            kind: self.kind(i)?,
            state: s.rec.state(),
            local: s.local.get(),
            remote: peer(s.remote.get()),
            rx_queue,
            tx_queue,
            dropped: match s.body {
                Body::Dgram(_) => s.rec.pending.load(Relaxed),
                _ => 0,
            },
        })
    }

    /// Programs whose sessions were ended for nonsense, and how often, from number `skip` on.
    pub(super) fn misbehaved(&self, skip: u32) -> heapless::Vec<(Name, u32), 8> {
        let some = self.sessions.iter().filter(|s| s.faults > 0);
        let some = some.map(|s| (s.spec.program.clone(), s.faults));
        some.skip(skip as usize).take(8).collect()
    }

    pub(super) fn counter_values(&self, skip: u32) -> heapless::Vec<u64, COUNTERS> {
        self.counters().values().into_iter().skip(skip as usize).take(COUNTERS).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let c = self.counters();
        Stats {
            rx_frames: c.rx_frames,
            tx_frames: c.tx_frames,
            rx_dropped: c.dropped(),
            retransmits: c.retransmits,
            resets_sent: c.resets_sent,
            sockets: self.socks.iter().filter(|s| !matches!(s.body, Body::Free)).count() as u32,
            rx_buffers: self.nics.iter().map(|n| n.port.buffers()).sum(),
            tx_in_flight: self.nics.iter().map(|n| n.port.in_flight() as u32).sum(),
            peer_errors: c.peer_errors,
            recovered: c.recovered,
            not_permitted: c.not_permitted,
            nonsense: c.nonsense,
        }
    }
}

/// A connection that no socket holds: a handshake, or TIME-WAIT.
fn nobodys(state: State, tuple: &Tuple) -> SockInfo {
    SockInfo {
        sock: SockInfo::NOBODYS,
        kind: Kind::Tcp,
        state,
        local: tuple.local,
        remote: Some(tuple.remote),
        rx_queue: 0,
        tx_queue: 0,
        dropped: 0,
    }
}

/// A remote address, if there is one.
pub(super) fn peer(remote: SocketAddr) -> Option<SocketAddr> {
    (remote != ANY).then_some(remote)
}
