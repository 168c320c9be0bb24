//! What programs ask for, by way of sockd.

use super::Host;
use libipc::net::{Reply, Request};
use libipc::nic::{Groups, offset};
use libipc::sock::{Dgram, Error, Kind, State};
use netd::env::Event;
use std::net::SocketAddr;

/// Calls that sockd makes.
impl Host {
    pub fn open(&mut self, kind: Kind) -> u16 {
        self.open_in(0, kind)
    }
    pub fn open_in(&mut self, session: usize, kind: Kind) -> u16 {
        let p = &mut self.progs[session];
        let id = p.id();
        let (sock, rings) = (p.sock(id), p.rings(id));
        match self.ask_again(Request::Open { sock, kind, rings }) {
            (Ok(Reply::Done), _) => {}
            // The first question opened it.
            (Err(Error::Invalid), true) => {}
            other => panic!("{other:?}"),
        }
        id
    }
    pub fn bind(&mut self, id: u16, addr: &str) -> Result<SocketAddr, Error> {
        let sock = self.progs[0].sock(id);
        let (reply, again) = self.ask_again(Request::Bind { sock, addr: addr.parse().unwrap() });
        let reply = match reply {
            Err(Error::Invalid) if again => self.ask(Request::Addresses { sock }),
            reply => reply,
        };
        match reply? {
            Reply::Address(local) | Reply::Addresses { local, .. } => Ok(local),
            other => panic!("{other:?}"),
        }
    }
    /// A listener on `port` with `spares` sockets for connections.
    pub fn listen(&mut self, port: u16, spares: u16) -> u16 {
        self.listen_at(&format!("0.0.0.0:{port}"), spares)
    }
    pub fn listen_at(&mut self, at: &str, spares: u16) -> u16 {
        let id = self.open(Kind::Tcp);
        self.bind(id, at).unwrap();
        self.listen_on(id, spares);
        id
    }
    /// Makes a bound socket a listener.
    pub fn listen_on(&mut self, id: u16, spares: u16) {
        let listener = self.progs[0].sock(id);
        assert_eq!(self.ask(Request::Listen { sock: listener, backlog: spares }), Ok(Reply::Done));
        for _ in 0..spares {
            self.spare(id);
        }
    }
    pub fn spare(&mut self, listener: u16) {
        let id = self.progs[0].id();
        assert_eq!(self.give_spare(listener, id), Ok(Reply::Done));
        self.spares.push((listener, id));
    }
    /// Sockets set aside for `listener` and not accepted.
    pub fn spares_of(&self, listener: u16) -> usize {
        self.spares.iter().filter(|s| s.0 == listener).count()
    }
    fn give_spare(&mut self, listener: u16, id: u16) -> Result<Reply, Error> {
        let p = &self.progs[0];
        let (listener, sock, rings) = (p.sock(listener), p.sock(id), p.rings(id));
        let ids = [(sock.id, rings)].into_iter().collect();
        self.ask(Request::Spares { listener, ids })
    }
    pub fn accept(&mut self, listener: u16) -> Option<(u16, SocketAddr)> {
        let sock = self.progs[0].sock(listener);
        match self.ask_again(Request::Accept { listener: sock }) {
            (Ok(Reply::Accepted { sock, peer }), _) => {
                self.spares.retain(|s| *s != (listener, sock.id));
                Some((sock.id, peer))
            }
            (Err(Error::WouldBlock), false) => None,
            (Err(Error::WouldBlock), true) => {
                // The netd that died may have handed one over.
                let spares = self.spares.clone();
                let handed = spares.iter().find(|(l, id)| {
                    *l == listener && self.give_spare(listener, *id) == Err(Error::AlreadyConnected)
                });
                let &(_, id) = handed?;
                self.spares.retain(|s| *s != (listener, id));
                let sock = self.progs[0].sock(id);
                match self.ask(Request::Addresses { sock }) {
                    Ok(Reply::Addresses { remote: Some(peer), .. }) => Some((id, peer)),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }
    pub fn connect(&mut self, id: u16, addr: &str) -> Result<(), Error> {
        let sock = self.progs[0].sock(id);
        match self.ask_again(Request::Connect { sock, addr: addr.parse().unwrap() }) {
            (Err(Error::InProgress | Error::AlreadyConnected), true) => Ok(()),
            (reply, _) => reply.map(|_| ()),
        }
    }
    pub fn shutdown(&mut self, id: u16) {
        let sock = self.progs[0].sock(id);
        assert_eq!(self.ask(Request::Shutdown { sock, how: 1 }), Ok(Reply::Done));
    }
    /// Closes; whether the id is free at once.
    pub fn close(&mut self, id: u16) -> bool {
        self.end(id, false)
    }
    pub fn abort(&mut self, id: u16) -> bool {
        self.end(id, true)
    }
    fn end(&mut self, id: u16, abort: bool) -> bool {
        let sock = self.progs[0].sock(id);
        match self.ask_again(Request::Close { sock, abort }) {
            (Err(Error::BadSocket), true) => {
                self.progs[0].clear(id);
                self.progs[0].give_back(id);
                true
            }
            (Ok(Reply::Closed { free }), _) => {
                self.progs[0].clear(id);
                if free {
                    self.progs[0].give_back(id);
                }
                free
            }
            other => panic!("{other:?}"),
        }
    }
    /// Takes back ids that became free.
    pub fn collect_freed(&mut self) -> Vec<u16> {
        let mut all = Vec::new();
        loop {
            match self.ask(Request::TakeFreed { session: 0, wait: true }) {
                Ok(Reply::Freed(ids)) if ids.is_empty() => return all,
                Ok(Reply::Freed(ids)) => {
                    for id in ids {
                        // A new netd names all that is free.
                        if self.progs[0].used[id as usize] {
                            assert_eq!(self.progs[0].state(id), State::Free);
                            self.progs[0].give_back(id);
                            all.push(id);
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    /// A socket's own address.
    pub fn local(&mut self, id: u16) -> SocketAddr {
        let sock = self.progs[0].sock(id);
        match self.ask(Request::Addresses { sock }) {
            Ok(Reply::Addresses { local, .. }) => local,
            other => panic!("{other:?}"),
        }
    }
    /// The first name server.
    pub fn dns(&mut self) -> Option<std::net::IpAddr> {
        match self.ask(Request::Interface { number: Dgram::NIC }) {
            Ok(Reply::Interface(i)) => i.dns,
            other => panic!("{other:?}"),
        }
    }
    /// The groups that the driver is to take.
    pub fn groups(&self) -> Vec<[u8; 6]> {
        let groups = &self.net.view::<Groups>(offset::GROUPS, 1)[0];
        groups.get().expect("not all").collect()
    }
    pub fn events(&self) -> Vec<Event> {
        self.log.0.borrow().clone()
    }
}
