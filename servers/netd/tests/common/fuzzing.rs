//! What a fuzzer's bytes do to a stack: each is a step, with its arguments behind it.
//!
//! A host with a connection, a listener and a datagram socket; the peer's frames, the program's calls
//! and words, time, the cable, crashes. Checksums can be made right, and numbers are counted from where the connection
//! stands, so that bytes get behind the first checks. After each step everything that must always hold is looked at
//! ([`netd::Stack::check`]). The end of the bytes is the end of the run.

use super::frames::{End, Frame, arp_frame, dissect, ip_frame, tcp_frame};
use super::{Host, HostSpec, MS};
use libipc::net::Request;
use libipc::sock::{AppSock, Heard, Kind, On};
use netd::addressing6::Addressing6;
use netd::wire::arp;
use netd::wire::checksum::Sum;
use netd::wire::tcp::{Flags, Options, Repr, Seq, Timestamps};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

fn stamps(value: u32) -> Timestamps {
    Timestamps { value, echo: 0 }
}

/// Which steps there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// The peer's, time, the cable.
    Frames,
    /// The program's, time, crashes.
    Calls,
    /// All.
    Both,
}

/// Steps of one run.
const MOST: usize = 200;
const PEER_PORT: u16 = 5000;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// 0 at the end.
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }
    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }
    /// A signed distance that is mostly small.
    fn near(&mut self) -> u32 {
        let w = self.word() as i16 as i32;
        (if self.byte().is_multiple_of(8) { w << 16 } else { w }) as u32
    }
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let (now, later) = self.0.split_at(n.min(self.0.len()));
        self.0 = later;
        now.to_vec()
    }
}

struct World {
    host: Host,
    us: End,
    peer: End,
    /// The connection's socket, and what the peer knows: our ISS, and the highest number it has seen.
    conn: u16,
    iss: u32,
    seen: u32,
    /// The peer's next number, from its ISS 0.
    next: u32,
    /// Sockets (a bit each) that the program has closed: it does not write to them any more.
    closed: u8,
}

/// Runs `data`. Panics if something that must hold does not.
pub fn run(data: &[u8], steps: Steps) {
    let mut input = Input(data);
    let mut world = World::new(&mut input);
    for _ in 0..MOST {
        if input.0.is_empty() {
            break;
        }
        world.step(&mut input, steps);
        world.settle();
        world.host.stack().check();
    }
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let kind = input.byte();
        let spec = HostSpec {
            sockets: 8,
            tx_bits: 12 + (kind & 1),
            rx_bits: 12 + (kind >> 1 & 1),
            offload: kind & 4 != 0,
            ip6: if kind & 8 != 0 { Addressing6::Auto } else { Addressing6::Off },
            ..HostSpec::fixed(1)
        };
        let (us, peer) = (End::number(1), End::number(2));
        let mut world =
            Self { host: Host::new(spec), us, peer, conn: 0, iss: 0, seen: 0, next: 1, closed: 0 };
        world.settle();
        let listener = world.host.listen(80, 2);
        let udp = world.host.open(Kind::Udp);
        let _ = world.host.bind(udp, "0.0.0.0:9");
        let options = Options {
            mss: Some(1460),
            scale: (kind & 16 != 0).then_some(4),
            sack_permitted: kind & 32 != 0,
            timestamps: (kind & 64 != 0).then_some(stamps(1)),
            ..Options::NONE
        };
        let flags = if kind & 128 != 0 { Flags::SYN | Flags::ECE | Flags::CWR } else { Flags::SYN };
        world.segment(Repr { flags, options, window: 4000, ..Repr::new(PEER_PORT, 80) }, &[]);
        let (iss, options) = (world.seen.wrapping_sub(1), Options { mss: None, ..options });
        let timestamps = options.timestamps.map(|_| stamps(2));
        let options = Options { timestamps, scale: None, sack_permitted: false, ..options };
        let (seq, ack) = (Seq(1), Seq(world.seen));
        let repr =
            Repr { flags: Flags::ACK, seq, ack, options, window: 4000, ..Repr::new(PEER_PORT, 80) };
        world.segment(repr, &[]);
        world.iss = iss;
        world.conn = world.host.accept(listener).map_or(listener, |c| c.0);
        world
    }

    /// The stack rests; the peer answers ARP and remembers what it has seen of the connection.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.host.settle();
            let frames = self.host.transmitted();
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                if frame[12..14] == [8, 6] {
                    let ask = arp::Repr::parse(&frame[14..]).expect("ours");
                    if ask.target == self.peer.ip && ask.sender != self.peer.ip {
                        let answer = arp::Repr {
                            op: arp::Op::Reply,
                            sender_mac: self.peer.mac,
                            sender: self.peer.ip,
                            target_mac: ask.sender_mac,
                            target: ask.sender,
                        };
                        self.host.receive(&arp_frame(ask.sender_mac, &answer));
                    }
                } else if frame[12..14] == [8, 0]
                    && frame[20] & 0x3f == 0
                    && let Frame::Tcp(_, repr, data) = dissect(&frame)
                    && repr.dst == PEER_PORT
                {
                    let syn = repr.flags.intersects(Flags::SYN | Flags::FIN) as u32;
                    self.seen = repr.seq.0.wrapping_add(data.len() as u32 + syn);
                }
            }
        }
    }

    fn segment(&mut self, repr: Repr, data: &[u8]) {
        self.host.receive(&tcp_frame(self.peer, self.us, &repr, data));
        self.settle();
    }

    fn step(&mut self, input: &mut Input<'_>, steps: Steps) {
        let op = input.byte();
        let op = match steps {
            Steps::Frames => op % 6,
            Steps::Calls => 4 + op % 8,
            Steps::Both => op % 12,
        };
        match op {
            0 => self.raw(input),
            1 => self.packet(input),
            2 | 3 => self.tcp(input),
            4 => self.host.now += input.word() as u64 * MS,
            5 => {
                let up = input.byte() & 1 != 0;
                self.host.plug(up);
            }
            6 => self.host.crash(),
            7 => self.words(input),
            8 | 9 => self.data(input),
            _ => self.call(input),
        }
    }

    /// A frame as the bytes say.
    fn raw(&mut self, input: &mut Input<'_>) {
        let n = input.word() as usize % 1515;
        let mut frame = input.bytes(n);
        frame.resize(frame.len().max(14), 0);
        frame[..6].copy_from_slice(&self.us.mac.0);
        self.host.receive(&frame);
    }

    /// A packet with a right header and, if it wants, a right checksum.
    fn packet(&mut self, input: &mut Input<'_>) {
        let (protocol, fix, n) = (input.byte(), input.byte(), input.word() as usize % 1480);
        let protocol = [1, 2, 6, 17, protocol][fix as usize % 5];
        let mut payload = input.bytes(n);
        if fix & 0x80 != 0 {
            let field = match protocol {
                1 | 2 => 2,
                6 => 16,
                _ => 6,
            };
            if payload.len() >= field + 2 {
                payload[field..field + 2].fill(0);
                let sum = match protocol {
                    1 | 2 => Sum::ZERO,
                    p => {
                        let len = payload.len() as u16;
                        Sum::pseudo(self.peer.ip.into(), self.us.ip.into(), p, len)
                    }
                };
                let sum = sum.bytes(&payload).finish();
                payload[field..field + 2].copy_from_slice(&sum);
            }
        }
        let mut frame = ip_frame(self.peer, self.us, protocol, &payload);
        if fix & 0x40 != 0 {
            // A fragment.
            frame[20..22].copy_from_slice(&(input.word() & 0x3fff).to_be_bytes());
            frame[24..26].fill(0);
            let sum = Sum::ZERO.bytes(&frame[14..34]).finish();
            frame[24..26].copy_from_slice(&sum);
        }
        self.host.receive(&frame);
    }

    /// A segment of the connection, or near it.
    fn tcp(&mut self, input: &mut Input<'_>) {
        let (flags, how) = (input.byte(), input.byte());
        let dst = if how & 0xc0 == 0xc0 { input.word() } else { 80 };
        let seq = self.next.wrapping_add(if how & 1 != 0 { input.near() } else { 0 });
        let ack = self.seen.wrapping_add(if how & 2 != 0 { input.near() } else { 0 });
        let window = if how & 4 != 0 { input.word() } else { 4000 };
        let urgent = if how & 8 != 0 { input.word() } else { 0 };
        let options =
            if how & 16 != 0 { input.bytes((how >> 1) as usize % 41) } else { Vec::new() };
        let len = if how & 32 != 0 { input.word() as usize % 1460 } else { 0 };
        let flags =
            if flags.is_multiple_of(4) { Flags::ACK } else { Flags::from_bits_retain(flags) };
        let repr = Repr {
            seq: Seq(seq),
            ack: Seq(ack),
            flags,
            window,
            urgent,
            ..Repr::new(PEER_PORT, dst)
        };
        if how & 33 == 32 {
            self.next = self.next.wrapping_add(len as u32);
        }
        let mut frame = tcp_frame(self.peer, self.us, &repr, &vec![7; len]);
        if !options.is_empty() && frame.len() >= 54 {
            frame = with_options(&frame[..54 + len], &options);
        }
        self.host.receive(&frame);
    }

    /// The program's words: options and numbers, whatever they say.
    fn words(&mut self, input: &mut Input<'_>) {
        let id = input.byte() as u16 % 8;
        let app: *const AppSock = self.host.progs[0].app(id);
        let count = size_of::<AppSock>() / 4;
        // SAFETY: all of it is atomic words; the first four, the indices, are left alone.
        let words = unsafe { std::slice::from_raw_parts(app.cast::<AtomicU32>(), count) };
        let at = 4 + input.byte() as usize % (count - 4);
        let value = u32::from_be_bytes([input.byte(), input.byte(), input.byte(), input.byte()]);
        words[at].store(value, Relaxed);
        self.host.progs[0].submit(id);
    }

    /// Reads and writes of the connection and of what else there is.
    fn data(&mut self, input: &mut Input<'_>) {
        let (id, n) = (input.byte() as u16 % 8, input.word() as u64 % 5000);
        let id = if id < 4 { self.conn } else { id };
        let prog = &mut self.host.progs[0];
        let kind = prog.record(id).kind.load(Relaxed);
        let closed = self.closed >> id & 1 == 1;
        if kind != Kind::Tcp as u16 || closed || !prog.established(id) {
            return;
        }
        match n % 2 {
            0 => drop(prog.write_with(id, n, |at| at as u8)),
            _ => drop(prog.read(id, n)),
        }
        prog.submit(id);
    }

    /// Requests of which there are few: interfaces, groups, sources.
    fn rarely(&self, id: u16, more: u16) -> Request {
        let sock = self.host.progs[0].sock(id);
        let [what, n] = more.to_be_bytes();
        let group = std::net::Ipv4Addr::new(224, 0, 0, 9 + (n & 1)).into();
        let source = std::net::Ipv4Addr::new(10, 0, 0, n >> 2).into();
        let heard =
            [Heard::Join, Heard::Leave, Heard::Block, Heard::Unblock][what as usize >> 2 & 3];
        match what % 4 {
            0 => Request::TakeFreed { session: 0, wait: false },
            1 => Request::BindDevice { sock, number: n % 4 },
            2 => Request::Membership { sock, group, on: On::Any, join: n & 2 == 0 },
            _ => Request::Source { sock, group, source, on: On::Any, heard },
        }
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let (what, id, more) = (input.byte(), input.byte() as u16 % 8, input.word());
        let prog = &self.host.progs[0];
        let (sock, rings) = (prog.sock(id), prog.rings(id));
        let addr = match more % 5 {
            0 => ([10, 0, 0, 2], more),
            1 => ([127, 0, 0, 1], 80),
            2 => ([0; 4], more),
            3 => ([224, 0, 0, 9], 9),
            _ => ([10, 0, 0, 255], 9),
        };
        let addr = addr.into();
        let kinds = [Kind::Tcp, Kind::Udp, Kind::Ping, Kind::Capture];
        let request = match what % 9 {
            0 => Request::Open { sock, kind: kinds[more as usize % kinds.len()], rings },
            1 => Request::Bind { sock, addr },
            2 => Request::Listen { sock, backlog: more % 8 },
            3 => Request::Connect { sock, addr },
            4 => Request::Accept { listener: sock },
            5 => Request::Shutdown { sock, how: more as u8 % 3 },
            6 => Request::Close { sock, abort: more & 1 != 0 },
            7 => Request::Addresses { sock },
            _ => self.rarely(id, more),
        };
        let (opens, closes) = (what % 9 == 0, what % 9 == 6);
        if self.host.ask(request).is_ok() && (opens || closes) {
            self.host.progs[0].clear(id);
            self.closed = self.closed & !(1 << id) | (closes as u8) << id;
        }
    }
}

/// The frame of a segment with `options` as they are, padded to words.
fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut padded = options.to_vec();
    padded.resize(options.len().next_multiple_of(4).min(40), 0);
    let mut all = [&frame[..54], &padded, &frame[54..]].concat();
    let len = (all.len() - 14) as u16;
    all[16..18].copy_from_slice(&len.to_be_bytes());
    all[24..26].fill(0);
    let sum = Sum::ZERO.bytes(&all[14..34]).finish();
    all[24..26].copy_from_slice(&sum);
    all[46] = ((20 + padded.len()) as u8 / 4) << 4;
    all[50..52].fill(0);
    let ip = |at: usize| std::net::Ipv4Addr::new(all[at], all[at + 1], all[at + 2], all[at + 3]);
    let sum = Sum::pseudo(ip(26).into(), ip(30).into(), 6, len - 20).bytes(&all[34..]).finish();
    all[50..52].copy_from_slice(&sum);
    all
}
