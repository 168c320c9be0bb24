//! What holds between any two steps, for simulations (feature `crash-points`).

use super::{Body, Stack};
use crate::env::Env;
use crate::record;

impl<E: Env> Stack<E> {
    /// Panics if something that always holds does not. Looks at every socket: for tests.
    pub fn check(&self) {
        for s in &self.socks {
            if let Body::Tcp(conn) = &s.body {
                assert!(record::holds(s.rec), "a connection without a record");
                conn.check();
            }
        }
    }
}
