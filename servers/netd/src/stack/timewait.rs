//! TIME-WAIT (RFC 9293 3.10.7.4): numbers of the demultiplexer and the wheel after the sockets'. No
//! socket is in TIME-WAIT: its program is told that the connection is over, and its memory is its own
//! again.

use super::rx::Packet;
use super::tx::{Link, Payload, Route};
use super::{Body, Stack};
use crate::demux::{Space, Tuple};
use crate::env::Env;
use crate::ports::held;
use crate::tcp::{CHALLENGE_NS, Segment, ticks};
use crate::timewait::Waiting;
use crate::wire::tcp::{Flags, Options, Repr, Seq, Timestamps};
use libipc::sock::State;

impl<E: Env> Stack<E> {
    /// Connection `i` has come to TIME-WAIT: keeps the little that is needed, and ends it.
    pub(super) fn retire(&mut self, i: u32) {
        let how = self.ports.how(i) & held::DIALLED | self.reuse(i);
        let s = &mut self.socks[i as usize];
        let Body::Tcp(conn) = &mut s.body else { return };
        if conn.state() != State::TimeWait {
            return;
        }
        let owes_ack = conn.owes_ack();
        let tuple = Tuple { space: Space::Tcp, local: s.local.get(), remote: s.remote.get() };
        let mut waiting = conn.waiting(tuple, how);
        waiting.refresh(self.now);
        if let Some(oldest) = self.time_wait.oldest() {
            self.counters.time_wait_overflow += 1;
            self.end_time_wait(oldest);
        }
        // The record says so before the socket stops saying so: a crash in between leaves both,
        // and the socket counts.
        let entry = self.time_wait.begin(&waiting);
        if let Body::Tcp(conn) = &mut self.socks[i as usize].body {
            conn.end(None);
        }
        self.over(i);
        if let Some(entry) = entry {
            self.enter_time_wait(entry, &waiting);
        }
        // If it is lost, or there is no way now, the peer's FIN comes again.
        if owes_ack
            && let Route::Via(link) =
                self.route_from(waiting.tuple.local.ip(), waiting.tuple.remote.ip(), None)
        {
            self.acknowledge(&waiting, link);
        }
    }

    fn time_wait_number(&self, entry: usize) -> u32 {
        (self.socks.len() + entry) as u32
    }

    fn enter_time_wait(&mut self, entry: usize, waiting: &Waiting) {
        let number = self.time_wait_number(entry);
        if self.demux.insert(number, waiting.tuple) {
            self.ports.hold(number, Space::Tcp, waiting.tuple.local.port(), waiting.held);
            self.wheel.set(number, waiting.until);
        } else {
            self.time_wait.end(entry);
        }
    }

    pub(super) fn end_time_wait(&mut self, entry: usize) {
        let number = self.time_wait_number(entry);
        self.demux.remove(number);
        self.ports.release(number);
        self.wheel.cancel(number);
        self.time_wait.end(entry);
    }

    /// Two segment lifetimes have passed.
    pub(super) fn time_wait_over(&mut self, number: u32) {
        self.end_time_wait(number as usize - self.socks.len());
    }

    /// Takes over what an earlier incarnation kept. Sockets are in the table already.
    pub(super) fn recover_time_wait(&mut self) {
        for entry in 0..self.time_wait.len() {
            let Some(waiting) = self.time_wait.get(entry) else { continue };
            let number = self.time_wait_number(entry);
            if self.demux.tuple(number).is_some() {
                // One that came to it just now, on the way.
                continue;
            }
            self.enter_time_wait(entry, &waiting);
        }
    }

    /// A segment for the connection in TIME-WAIT under `number`. `Some`: it gives way to a new one,
    /// whose ISN this is; a listener is there.
    pub(super) fn time_wait_in(
        &mut self,
        number: u32,
        seg: &Segment,
        p: &Packet<'_>,
    ) -> Option<Seq> {
        let entry = number as usize - self.socks.len();
        let mut waiting = self.time_wait.get(entry)?;
        let value = seg.options.timestamps.map(|ts| ts.value);
        // RFC 7323 5.3 and, the other way, RFC 6191.
        let age = waiting.ts_recent.zip(value).map(|(recent, value)| value.wrapping_sub(recent));
        let (old, newer) = (age.is_some_and(|a| (a as i32) < 0), age.is_some_and(|a| a as i32 > 0));
        let rst = seg.flags.contains(Flags::RST);
        if !old && seg.seq == waiting.rcv_nxt && (rst || seg.space() == 0) {
            if rst && !self.settings.rfc1337 {
                self.end_time_wait(entry);
                return None;
            }
            if age.is_some() {
                waiting.ts_recent = value;
            }
            self.wait_again(entry, waiting);
            return None;
        }
        let opens = seg.flags & (Flags::SYN | Flags::RST | Flags::ACK) == Flags::SYN;
        if opens && !old && (waiting.rcv_nxt.lt(seg.seq) || newer) {
            let listens = self.demux.lookup_local_on(
                p.interface(),
                Space::Tcp,
                waiting.tuple.local,
                waiting.tuple.remote,
            );
            if listens.is_some_and(|l| matches!(self.socks[l as usize].body, Body::Listener(_))) {
                self.end_time_wait(entry);
                return Some(waiting.next_iss());
            }
        }
        if rst {
            return None;
        }
        if old || seg.flags.contains(Flags::ACK) {
            self.wait_again(entry, waiting);
        }
        let data = seg.space() > 0 && !seg.flags.contains(Flags::SYN);
        if (data || self.time_wait.may_answer(entry, self.now, CHALLENGE_NS))
            && let Some(link) = self.way_back(p)
        {
            self.acknowledge(&waiting, link);
        }
        None
    }

    fn wait_again(&mut self, entry: usize, mut waiting: Waiting) {
        waiting.refresh(self.now);
        self.time_wait.set(entry, &waiting);
        self.wheel.set(self.time_wait_number(entry), waiting.until);
    }

    fn acknowledge(&mut self, waiting: &Waiting, link: Link) {
        let Tuple { local, remote, .. } = waiting.tuple;
        let timestamps = waiting.ts_recent.map(|echo| Timestamps {
            value: ticks(self.now).wrapping_add(self.timestamp_offset(&waiting.tuple)),
            echo,
        });
        let repr = Repr {
            seq: waiting.snd_nxt,
            ack: waiting.rcv_nxt,
            flags: Flags::ACK,
            window: waiting.window,
            options: Options { timestamps, ..Options::NONE },
            ..Repr::new(local.port(), remote.port())
        };
        self.send_segment(
            link,
            local.ip(),
            remote.ip(),
            &repr,
            Payload::None,
            super::tcp_out::Envelope::PLAIN,
        );
    }
}
