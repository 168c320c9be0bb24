//! Hosts on a wire: frames are lost, doubled, delayed and overtaken as a seed decides.

use super::frames::{self, End, icmp_error};
use super::{Host, Rng, six};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

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

/// What is wrong with the path besides the weather.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Longest IP packet that the router between the hosts passes on; it tells the sender of a longer
    /// one (RFC 1191; RFC 8201: not below 1,280).
    pub mtu: Option<u16>,
    /// Frames of ARP and neighbour discovery lost, per mille.
    pub arp_loss: u64,
    /// Hosts that nothing reaches and nothing leaves (a bit each).
    pub silent: u32,
}

/// Frames kept for the timeline of a failed run.
const TIMELINE: usize = 200;

/// A frame on the wire and what became of it.
struct Seen {
    at: u64,
    way: (usize, usize),
    fate: &'static str,
    frame: Vec<u8>,
}

impl Seen {
    fn print(&self) {
        let at = self.at / 1000;
        let (from, to) = self.way;
        println!("{at:>10} us {from}>{to} {:<9}{}", self.fate, line(&self.frame));
    }
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
    pub path: Path,
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
    seen: VecDeque<Seen>,
    /// Every frame, when and from whom, if somebody wants them.
    pub all: Option<Vec<(u64, usize, Vec<u8>)>>,
}

/// A run that failed shows what was on the wire last.
impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.trace {
            self.seen.iter().for_each(Seen::print);
        }
    }
}

impl Net {
    pub fn new(hosts: Vec<Host>, weather: Weather, seed: u64) -> Self {
        Self {
            hosts,
            weather,
            path: Path::default(),
            rng: Rng(seed),
            now: 0,
            flying: BinaryHeap::new(),
            number: 0,
            frames: 0,
            resets: 0,
            trace: std::env::var_os("TRACE").is_some(),
            seen: VecDeque::new(),
            all: None,
        }
    }

    fn note(&mut self, way: (usize, usize), fate: &'static str, frame: &[u8]) {
        let seen = Seen { at: self.now, way, fate, frame: frame.to_vec() };
        if self.trace {
            seen.print();
        }
        if self.seen.len() == TIMELINE {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
    }

    fn fly(&mut self, to: usize, frame: Vec<u8>) {
        let at = self.now + self.weather.delay + self.rng.below(self.weather.jitter);
        self.number += 1;
        self.flying.push(Reverse(Flying { at, number: self.number, to, frame }));
    }

    /// Whether the path stops `frame`, and what the log calls it.
    fn stopped(&mut self, from: usize, to: usize, frame: &[u8]) -> Option<&'static str> {
        if self.path.silent & (1 << from | 1 << to) != 0 {
            return Some("silence");
        }
        if is_resolution(frame) && self.rng.chance(self.path.arp_loss) {
            return Some("no ARP");
        }
        if let Some(mtu) = self.path.mtu
            && frame[12..14] == [8, 0]
            && u16::from_be_bytes([frame[16], frame[17]]) > mtu
        {
            // The router is number 250; 3, 4: fragmentation needed.
            let reply = icmp_error(End::number(250), frame, 3, 4, mtu as u32);
            self.fly(from, reply);
            return Some("too big");
        }
        if let Some(mtu) = self.path.mtu.map(|mtu| mtu.max(1280))
            && frame[12..14] == [0x86, 0xdd]
            && 40 + u16::from_be_bytes([frame[18], frame[19]]) > mtu
        {
            self.fly(from, six::too_big(frame, mtu as u32));
            return Some("too big");
        }
        self.rng.chance(self.weather.loss).then_some("lost")
    }

    fn launch(&mut self, from: usize, frame: Vec<u8>) {
        self.frames += 1;
        if let Some(all) = &mut self.all {
            all.push((self.now, from, frame.clone()));
        }
        let v4 = frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] & 4 != 0;
        let v6 = frame[12..14] == [0x86, 0xdd] && frame[20] == 6 && frame[67] & 4 != 0;
        self.resets += (v4 || v6) as u64;
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            if let Some(why) = self.stopped(from, to, &frame) {
                self.note((from, to), why, &frame);
                continue;
            }
            self.note((from, to), "", &frame);
            let copies = 1 + self.rng.chance(self.weather.duplication) as u64;
            for _ in 0..copies {
                let mut frame = frame.clone();
                // What the FCS of a link cannot see happened in some router: ARP never passes one.
                if self.rng.chance(self.weather.corruption) && frame[12..14] != [8, 6] {
                    let bit = 14 * 8 + self.rng.below((frame.len() as u64 - 14) * 8);
                    frame[bit as usize / 8] ^= 1 << (bit % 8);
                }
                self.fly(to, frame);
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

/// Whether `frame` is of ARP, or asks for a neighbour's address or tells it in IPv6.
fn is_resolution(frame: &[u8]) -> bool {
    let v6 = frame[12..14] == [0x86, 0xdd] && frame[20] == 58;
    frame[12..14] == [8, 6] || v6 && matches!(frame.get(54), Some(135 | 136))
}

/// A frame in a line, for traces.
fn line(frame: &[u8]) -> String {
    if let Some(got) = six::dissect(frame) {
        return format!("{got:?}");
    }
    match frames::dissect(frame) {
        frames::Frame::Tcp(ip, r, data) => format!(
            "{}:{} > {}:{} {:?} seq {} ack {} win {} len {}",
            ip.src,
            r.src,
            ip.dst,
            r.dst,
            r.flags,
            r.seq.0,
            r.ack.0,
            r.window,
            data.len()
        ),
        other => format!("{other:?}"),
    }
}
