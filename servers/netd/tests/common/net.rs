//! Hosts on a wire: frames are lost, doubled, delayed and overtaken as a seed decides.

use super::{Host, Rng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the wire does, per mille and in ns.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: u64,
    pub duplication: u64,
    pub corruption: u64,
    /// Least delay.
    pub delay: u64,
    /// And up to this much more: frames overtake each other.
    pub jitter: u64,
}

impl Weather {
    pub const FINE: Self =
        Self { loss: 0, duplication: 0, corruption: 0, delay: 1_000_000, jitter: 0 };
    pub const BAD: Self =
        Self { loss: 50, duplication: 20, corruption: 20, delay: 5_000_000, jitter: 10_000_000 };
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: u64,
    number: u64,
    to: usize,
    frame: Vec<u8>,
}

/// The network.
pub struct Net {
    pub hosts: Vec<Host>,
    pub weather: Weather,
    pub rng: Rng,
    pub now: u64,
    flying: BinaryHeap<Reverse<Flying>>,
    number: u64,
    /// Frames that were put on the wire.
    pub frames: u64,
    /// Resets seen on the wire.
    pub resets: u64,
    /// Print frames: set `TRACE` in the environment.
    trace: bool,
}

impl Net {
    pub fn new(hosts: Vec<Host>, weather: Weather, seed: u64) -> Self {
        Self {
            hosts,
            weather,
            rng: Rng(seed),
            now: 0,
            flying: BinaryHeap::new(),
            number: 0,
            frames: 0,
            resets: 0,
            trace: std::env::var_os("TRACE").is_some(),
        }
    }

    fn launch(&mut self, from: usize, frame: Vec<u8>) {
        self.frames += 1;
        if self.trace {
            println!("{:>9} us {from} {}", self.now / 1000, super::frames::line(&frame));
        }
        if frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] & 4 != 0 {
            self.resets += 1;
        }
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            if self.rng.chance(self.weather.loss) {
                continue;
            }
            let copies = 1 + self.rng.chance(self.weather.duplication) as u64;
            for _ in 0..copies {
                let at = self.now + self.weather.delay + self.rng.below(self.weather.jitter);
                let mut frame = frame.clone();
                // What the FCS of a link cannot see happened in some router: ARP never passes one.
                if self.rng.chance(self.weather.corruption) && frame[12..14] == [8, 0] {
                    let bit = 14 * 8 + self.rng.below((frame.len() as u64 - 14) * 8);
                    frame[bit as usize / 8] ^= 1 << (bit % 8);
                }
                self.number += 1;
                self.flying.push(Reverse(Flying { at, number: self.number, to, frame }));
            }
        }
    }

    /// Lets everything that can happen now happen, with `act` for the programs after each turn.
    pub fn settle(&mut self, act: &mut impl FnMut(&mut Self)) {
        for turn in 0.. {
            assert!(turn < 100_000, "the world never rests");
            let mut moved = false;
            for i in 0..self.hosts.len() {
                self.hosts[i].now = self.now;
                self.hosts[i].settle();
                let frames = self.hosts[i].transmitted();
                moved |= !frames.is_empty();
                for frame in frames {
                    self.launch(i, frame);
                }
            }
            act(self);
            if !moved && self.hosts.iter().all(|h| h.progs.iter().all(|p| !p.bell)) {
                return;
            }
        }
    }

    /// When something is due next.
    pub fn next(&mut self) -> Option<u64> {
        let frame = self.flying.peek().map(|f| f.0.at);
        let timer = self.hosts.iter_mut().filter_map(|h| h.stack().poll_at()).min();
        match (frame, timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Runs until `until`, or until nothing is left to happen. `act` runs after each turn; when it
    /// returns `true` the run ends.
    pub fn run(&mut self, until: u64, act: &mut impl FnMut(&mut Self) -> bool) -> bool {
        let mut done = false;
        loop {
            self.settle(&mut |net| done |= act(net));
            if done {
                return true;
            }
            let Some(next) = self.next().map(|n| n.max(self.now + 1)) else { return false };
            if next > until {
                self.now = until;
                return false;
            }
            self.now = next;
            while self.flying.peek().is_some_and(|f| f.0.at <= self.now) {
                let Reverse(f) = self.flying.pop().unwrap();
                self.hosts[f.to].now = self.now;
                self.hosts[f.to].receive(&f.frame);
            }
        }
    }

    /// Runs for `ns` without programs.
    pub fn pass(&mut self, ns: u64) {
        let until = self.now + ns;
        self.run(until, &mut |_| false);
        self.now = until;
    }
}
