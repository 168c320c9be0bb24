//! What holds between any two steps, for simulations (feature `crash-points`).

use super::{Body, Stack};
use crate::env::Env;
use crate::record;
use libipc::sock::Kind;

impl<E: Env> Stack<E> {
    /// Panics if something that always holds does not. Looks at every socket: for tests.
    pub fn check(&self) {
        self.wheel.check();
        let charged = |session: usize| {
            let own = self.socks.iter().filter(|s| s.session as usize == session);
            own.map(|s| if let Body::Tcp(conn) = &s.body { conn.charged() } else { 0 }).sum::<u32>()
        };
        for (session, pool) in self.pools.iter().enumerate() {
            assert_eq!(pool.memory().own().held(), charged(session), "pages that a program holds");
        }
        assert_eq!(
            self.memory.held(),
            self.pools.iter().map(|p| p.memory().own().held()).sum::<u32>()
        );
        let orphan = |s: &&super::Sock| matches!(&s.body, Body::Tcp(conn) if conn.is_orphan());
        assert_eq!(self.socks.iter().filter(orphan).count(), self.orphans as usize);
        for (i, s) in self.socks.iter().enumerate() {
            // The port of a raw socket is its protocol.
            let bound = match &s.body {
                Body::Open | Body::Tcp(_) | Body::Listener(_) => true,
                Body::Dgram(d) => d.kind != Kind::Raw,
                _ => false,
            };
            assert!(
                !bound || (s.local.port() != 0) == self.ports.holds(i as u32),
                "{} of socket {i} is held by nobody",
                s.local.get()
            );
            if let Body::Tcp(conn) = &s.body {
                assert!(record::holds(s.rec), "a connection without a record");
                conn.check();
            }
        }
    }
}
