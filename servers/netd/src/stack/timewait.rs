//! Connections in TIME-WAIT that no program holds any more: numbers of the demultiplexer and the
//! wheel after the sockets'.

use super::tx::{Link, Payload, Route};
use super::{Body, Stack};
use crate::demux::{Space, Tuple};
use crate::env::Env;
use crate::tcp::{MSL_NS, Segment};
use crate::timewait::Waiting;
use crate::wire::tcp::{Flags, Repr};
use libipc::sock::State;

impl<E: Env> Stack<E> {
    /// If connection `i` is in TIME-WAIT and no program holds it, keeps the little that TIME-WAIT
    /// needs elsewhere and frees the socket. `true`: it did.
    pub(super) fn retire(&mut self, i: u32) -> bool {
        let s = &self.socks[i as usize];
        let Body::Tcp(conn) = &s.body else { return false };
        if !conn.is_orphan() || conn.state() != State::TimeWait {
            return false;
        }
        let ((snd_nxt, rcv_nxt), owes_ack) = (conn.reset_numbers(), conn.owes_ack());
        let tuple = Tuple { space: Space::Tcp, local: s.local, remote: s.remote };
        let waiting = Waiting { tuple, snd_nxt, rcv_nxt, until: self.now + 2 * MSL_NS };
        let Some(entry) = self.time_wait.turn() else { return false };
        self.end_time_wait(entry);
        self.time_wait.set(entry, &waiting);
        // The record says so before the socket stops saying so: a crash in between leaves both,
        // and the socket counts.
        self.free(i);
        self.enter_time_wait(entry, &waiting);
        // If it is lost, or there is no way now, the peer's FIN comes again.
        if owes_ack
            && let Route::Via(link) =
                self.route_from(waiting.tuple.local.ip(), waiting.tuple.remote.ip())
        {
            self.acknowledge(&waiting, link);
        }
        true
    }

    fn time_wait_number(&self, entry: usize) -> u32 {
        (self.socks.len() + entry) as u32
    }

    fn enter_time_wait(&mut self, entry: usize, waiting: &Waiting) {
        let number = self.time_wait_number(entry);
        if self.demux.insert(number, waiting.tuple) {
            self.wheel.set(number, waiting.until);
        } else {
            self.time_wait.clear(entry);
        }
    }

    fn end_time_wait(&mut self, entry: usize) {
        let number = self.time_wait_number(entry);
        self.demux.remove(number);
        self.wheel.cancel(number);
        self.time_wait.clear(entry);
    }

    /// Two segment lifetimes have passed.
    pub(super) fn time_wait_over(&mut self, number: u32) {
        self.end_time_wait(number as usize - self.socks.len());
    }

    /// Takes over what an earlier incarnation kept. Sockets are in the table already.
    pub(super) fn recover_time_wait(&mut self) {
        for entry in 0..self.time_wait.len() {
            match self.time_wait.get(entry) {
                Some(w) if w.until > self.now => self.enter_time_wait(entry, &w),
                _ => self.time_wait.clear(entry),
            }
        }
    }

    /// RFC 9293 3.10.7.4, for a connection in TIME-WAIT. `true`: it gives way to a new one, let a
    /// listener look at the segment.
    pub(super) fn time_wait_in(&mut self, number: u32, seg: &Segment, back: Link) -> bool {
        let entry = number as usize - self.socks.len();
        let Some(mut waiting) = self.time_wait.get(entry) else { return true };
        // RFC 1337: a stray RST must not cut TIME-WAIT short.
        if seg.flags.contains(Flags::RST) {
            return false;
        }
        if seg.flags.contains(Flags::SYN) && waiting.rcv_nxt.lt(seg.seq) {
            self.end_time_wait(entry);
            return true;
        }
        if seg.space() > 0 {
            if seg.flags.contains(Flags::FIN) {
                // Our ACK was lost: two more lifetimes.
                waiting.until = self.now + 2 * MSL_NS;
                self.time_wait.set(entry, &waiting);
                self.wheel.set(number, waiting.until);
            }
            self.acknowledge(&waiting, back);
        }
        false
    }

    fn acknowledge(&mut self, waiting: &Waiting, link: Link) {
        let Tuple { local, remote, .. } = waiting.tuple;
        let repr = Repr {
            seq: waiting.snd_nxt,
            ack: waiting.rcv_nxt,
            flags: Flags::ACK,
            ..Repr::new(local.port(), remote.port())
        };
        self.send_segment(link, local.ip(), remote.ip(), &repr, Payload::None, 0);
    }
}
