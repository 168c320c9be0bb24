//! A netd that keeps no packets: sockets, spares, connections that come and end when told to; and
//! it can die, or take sockd with it, at any question.

#![allow(missing_docs, dead_code)]
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::AtomicU64;

use libipc::net::{Reply, Request, Rings, SockId};
use libipc::sock::{Error, Kind, SessionSpec, SessionTable};
use sockd::server::{Answer, Netd};
use sockd::table::Table;

/// What netd holds an id for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Open(Kind),
    Bound(Kind),
    Connected(Kind),
    Listener,
    Spare(u16),
    Pending(u16),
    Closing,
}

/// sockd's death, thrown through it.
pub struct Death;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }
}

#[derive(Default)]
pub struct Model {
    pub sockets: BTreeMap<SockId, (Held, Rings)>,
    pub freed: Vec<SockId>,
    /// Connections handed over that no program was told of yet, and their listeners.
    pub untold: BTreeMap<SockId, SockId>,
    /// Questions that end sessions and are refused before one is granted.
    pub busy: u32,
}

pub struct FakeNetd {
    pub model: Model,
    pub random: Random,
    /// One in so many questions kills sockd, before or after netd acted; 0: never.
    pub kill_sockd: u64,
    /// One in so many questions kills netd, which then hears it again; 0: never.
    pub kill_netd: u64,
}

impl FakeNetd {
    pub fn new(seed: u64) -> Self {
        Self { model: Model::default(), random: Random(seed), kill_sockd: 0, kill_netd: 0 }
    }
}

impl Netd for FakeNetd {
    fn ask(&mut self, request: &Request) -> Answer {
        if self.random.one_in(self.kill_sockd) {
            if self.random.one_in(2) {
                let _ = self.model.answer(request);
            }
            resume_unwind(Box::new(Death));
        }
        let again = self.random.one_in(self.kill_netd);
        if again {
            if self.random.one_in(2) {
                let _ = self.model.answer(request);
            }
            // What netd only remembers, and does not record, is lost with it.
            self.model.freed.clear();
        }
        Answer { reply: self.model.answer(request), again }
    }
}

impl Model {
    fn held(&self, sock: SockId) -> Option<Held> {
        self.sockets.get(&sock).map(|s| s.0)
    }

    fn set(&mut self, sock: SockId, held: Held) {
        self.sockets.get_mut(&sock).unwrap().0 = held;
    }

    fn insert(&mut self, sock: SockId, held: Held, rings: Rings) {
        for (other, (_, r)) in &self.sockets {
            if other.session == sock.session {
                let apart = |a: u32, ab: u8, b: u32, bb: u8| {
                    a as u64 + (1 << ab) <= b as u64 || b as u64 + (1 << bb) <= a as u64
                };
                assert!(
                    apart(r.tx_off, r.tx_bits, rings.tx_off, rings.tx_bits)
                        && apart(r.rx_off, r.rx_bits, rings.rx_off, rings.rx_bits),
                    "rings of {sock:?} and {other:?} overlap"
                );
            }
        }
        self.sockets.insert(sock, (held, rings));
    }

    /// Ends a socket that was closed.
    pub fn finish(&mut self, sock: SockId) {
        assert_eq!(self.held(sock), Some(Held::Closing));
        self.sockets.remove(&sock);
        self.freed.push(sock);
    }

    /// A connection arrives for a listener; it needs a spare.
    pub fn arrive(&mut self, listener: SockId) {
        let spare = self
            .sockets
            .iter()
            .find(|(s, h)| s.session == listener.session && h.0 == Held::Spare(listener.id));
        if let Some((&sock, _)) = spare {
            self.set(sock, Held::Pending(listener.id));
        }
    }

    fn close(&mut self, sock: SockId, abort: bool) -> Result<Reply, Error> {
        match self.held(sock) {
            None => Err(Error::BadSocket),
            Some(Held::Connected(Kind::Tcp) | Held::Closing) if !abort => {
                self.set(sock, Held::Closing);
                Ok(Reply::Closed { free: false })
            }
            Some(_) => {
                self.sockets.remove(&sock);
                Ok(Reply::Closed { free: true })
            }
        }
    }

    pub fn answer(&mut self, request: &Request) -> Result<Reply, Error> {
        let addr = |port: u16| ([10, 0, 2, 15], port).into();
        match *request {
            Request::Open { sock, kind, rings } => match self.held(sock) {
                None => {
                    self.insert(sock, Held::Open(kind), rings);
                    Ok(Reply::Done)
                }
                Some(_) => Err(Error::Invalid),
            },
            Request::Bind { sock, addr } => match self.held(sock) {
                Some(Held::Open(kind)) => {
                    self.set(sock, Held::Bound(kind));
                    Ok(Reply::Address(addr))
                }
                Some(_) => Err(Error::Invalid),
                None => Err(Error::BadSocket),
            },
            Request::Listen { sock, .. } => match self.held(sock) {
                Some(Held::Bound(Kind::Tcp)) => {
                    self.set(sock, Held::Listener);
                    Ok(Reply::Done)
                }
                Some(Held::Listener) => Ok(Reply::Done),
                Some(_) => Err(Error::Invalid),
                None => Err(Error::BadSocket),
            },
            Request::Spares { listener, ref ids } => {
                if self.held(listener) != Some(Held::Listener) {
                    return Err(Error::Invalid);
                }
                for &(id, rings) in ids {
                    let sock = SockId { session: listener.session, id };
                    match self.held(sock) {
                        None => self.insert(sock, Held::Spare(listener.id), rings),
                        Some(Held::Spare(l) | Held::Pending(l)) if l == listener.id => {}
                        Some(Held::Connected(Kind::Tcp)) => return Err(Error::AlreadyConnected),
                        Some(_) => return Err(Error::Invalid),
                    }
                }
                Ok(Reply::Done)
            }
            Request::Accept { listener } => {
                if self.held(listener) != Some(Held::Listener) {
                    return Err(Error::Invalid);
                }
                let pending = Held::Pending(listener.id);
                let waiting = self
                    .sockets
                    .iter()
                    .find(|(s, h)| s.session == listener.session && h.0 == pending)
                    .map(|(s, _)| *s);
                let sock = waiting.ok_or(Error::WouldBlock)?;
                self.set(sock, Held::Connected(Kind::Tcp));
                self.untold.insert(sock, listener);
                Ok(Reply::Accepted { sock, peer: addr(sock.id) })
            }
            Request::Connect { sock, .. } | Request::FastOpen { sock, .. } => match self.held(sock)
            {
                Some(Held::Open(kind) | Held::Bound(kind)) => {
                    self.set(sock, Held::Connected(kind));
                    Ok(Reply::Done)
                }
                Some(Held::Connected(_)) => Err(Error::AlreadyConnected),
                Some(_) => Err(Error::Invalid),
                None => Err(Error::BadSocket),
            },
            Request::FindDevice { .. } => Ok(Reply::Device(2)),
            Request::Shutdown { sock, .. }
            | Request::BindDevice { sock, .. }
            | Request::Source { sock, .. }
            | Request::Membership { sock, .. } => match self.held(sock) {
                Some(_) => Ok(Reply::Done),
                None => Err(Error::BadSocket),
            },
            Request::Close { sock, abort } => {
                if let Some(listener) = self.untold.remove(&sock) {
                    let lost = self.held(listener) == Some(Held::Listener);
                    assert!(!lost, "{sock:?} was taken for {listener:?} and then reset");
                }
                self.close(sock, abort)
            }
            Request::EndSession { session } => {
                if self.busy > 0 {
                    self.busy -= 1;
                    return Err(Error::WouldBlock);
                }
                self.sockets.retain(|s, _| s.session != session);
                self.untold.retain(|s, _| s.session != session);
                self.freed.retain(|s| s.session != session);
                Ok(Reply::Done)
            }
            Request::TakeFreed { session, .. } => {
                let mut ids = heapless::Vec::new();
                self.freed
                    .retain(|s| s.session != session || ids.is_full() || ids.push(s.id).is_err());
                Ok(Reply::Freed(ids))
            }
            Request::Addresses { sock } => match self.held(sock) {
                None => Err(Error::BadSocket),
                Some(Held::Connected(_)) => {
                    Ok(Reply::Addresses { local: addr(1), remote: Some(addr(sock.id)) })
                }
                Some(_) => Ok(Reply::Addresses { local: addr(1), remote: None }),
            },
            Request::Interface { .. }
            | Request::Interface6 { .. }
            | Request::Sockets { .. }
            | Request::Stats
            | Request::Counters { .. }
            | Request::NameServers
            | Request::Lease { .. }
            | Request::Misbehaved { .. }
            | Request::TcpInfo { .. } => Err(Error::Invalid),
        }
    }
}

pub fn spec(sockets: u32, kib: u32) -> SessionSpec {
    SessionSpec {
        program: "program".parse().unwrap(),
        sockets,
        tx_len: kib << 10,
        rx_len: kib << 10,
        bind: [(7000, 7009)].into_iter().collect(),
        connect: true,
        broadcast: true,
        ping: true,
        raw: true,
        capture: true,
    }
}

pub fn words(specs: &SessionTable) -> Vec<AtomicU64> {
    (0..Table::words(specs)).map(|_| AtomicU64::new(0)).collect()
}
