//! A peer played segment by segment, with explicit time: tests read as timelines.
//!
//! Sequence numbers of both sides count from their SYN, which is 0.

use super::frames::{End, Frame, arp_frame, dissect, seg, tcp_frame};
use super::{Host, HostSpec, MS};
use libipc::sock::{Error, Kind, State};
use netd::wire::arp;
use netd::wire::tcp::{Flags, Options, Repr, Seq};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

const PEER_ISS: u32 = 0xffff_f000; // wraps within the first few kilobytes

pub struct Script {
    pub host: Host,
    pub us: End,
    pub peer: End,
    ports: (u16, u16),
    iss: Option<u32>,
    /// Frames that the stack sent and nobody has looked at, with their time in ms.
    pub sent: VecDeque<(u64, Frame)>,
    /// The socket.
    pub id: u16,
    /// Its listener, of an accepted one.
    pub listener: u16,
    /// Window that the peer advertises.
    pub window: u16,
}

fn flags(text: &str) -> Flags {
    text.chars().fold(Flags::empty(), |f, c| {
        f | match c {
            'S' => Flags::SYN,
            'A' => Flags::ACK,
            'F' => Flags::FIN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            'U' => Flags::URG,
            _ => panic!("flag {c}"),
        }
    })
}

impl Script {
    pub fn new() -> Self {
        Self::with(HostSpec::fixed(1))
    }
    pub fn with(spec: HostSpec) -> Self {
        let (us, peer) = (End::number(1), End::number(2));
        let mut host = Host::new(spec);
        host.settle();
        host.transmitted();
        let mut script = Self {
            host,
            us,
            peer,
            ports: (80, 5000),
            iss: None,
            sent: VecDeque::new(),
            id: 0,
            listener: 0,
            window: 32768,
        };
        script.settle();
        script
    }

    /// Collects what the stack sends now.
    pub fn settle(&mut self) {
        loop {
            self.host.settle();
            let frames = self.host.transmitted();
            if frames.is_empty() {
                // What came back from the driver.
                return self.host.settle();
            }
            for frame in frames {
                match dissect(&frame) {
                    // The peer is there and says so.
                    Frame::Arp(a) if a.op == arp::Op::Request => self.answer_arp(&a),
                    frame => self.sent.push_back((self.host.now / MS, frame)),
                }
            }
        }
    }

    fn answer_arp(&mut self, asked: &arp::Repr) {
        if asked.target == self.peer.ip {
            let reply = arp::Repr {
                op: arp::Op::Reply,
                sender_mac: self.peer.mac,
                sender: self.peer.ip,
                target_mac: asked.sender_mac,
                target: asked.sender,
            };
            self.host.receive(&arp_frame(asked.sender_mac, &reply));
        }
    }

    /// Lets time pass up to `ms` since the beginning.
    pub fn until(&mut self, ms: u64) {
        self.settle();
        while let Some(at) = self.host.stack().poll_at().filter(|at| *at <= ms * MS) {
            self.host.now = self.host.now.max(at);
            self.settle();
        }
        self.host.now = ms * MS;
        self.settle();
    }
    /// Lets `ms` pass.
    pub fn pass(&mut self, ms: u64) {
        let to = self.host.now / MS + ms;
        self.until(to);
    }

    /// The peer sends.
    pub fn send(&mut self, f: &str, seq: u32, ack: u32, data: &[u8]) {
        let repr = Repr {
            seq: Seq(PEER_ISS.wrapping_add(seq)),
            ack: Seq(self.iss.unwrap_or(0).wrapping_add(ack)),
            flags: flags(f),
            window: self.window,
            ..seg(self.ports.1, self.ports.0)
        };
        self.send_repr(&repr, data);
    }
    /// The peer sends a SYN with options.
    pub fn send_syn(&mut self, f: &str, ack: u32, mss: Option<u16>, scale: Option<u8>) {
        let repr = Repr {
            seq: Seq(PEER_ISS),
            ack: Seq(self.iss.unwrap_or(0).wrapping_add(ack)),
            flags: flags(f),
            window: self.window,
            options: Options { mss, scale, ..Options::NONE },
            ..seg(self.ports.1, self.ports.0)
        };
        self.send_repr(&repr, &[]);
    }
    pub fn send_repr(&mut self, repr: &Repr, data: &[u8]) {
        self.send_frame(&tcp_frame(self.peer, self.us, repr, data));
    }
    pub fn send_frame(&mut self, frame: &[u8]) {
        assert!(self.host.receive(frame));
        self.settle();
    }

    /// The next segment that the stack sent: its header with numbers as here, and its data.
    pub fn next(&mut self) -> (u64, Repr, Vec<u8>) {
        let Some((ms, Frame::Tcp(_, repr, data))) = self.sent.pop_front() else {
            panic!("nothing was sent until {} ms", self.host.now / MS)
        };
        assert_eq!(repr.dst, self.ports.1);
        self.ports.0 = repr.src;
        if repr.flags.contains(Flags::SYN) {
            self.iss = Some(repr.seq.0);
        }
        let iss = self.iss.unwrap_or(0);
        let seq = Seq(repr.seq.0.wrapping_sub(iss));
        let ack =
            if repr.flags.contains(Flags::ACK) { repr.ack.0.wrapping_sub(PEER_ISS) } else { 0 };
        (ms, Repr { seq, ack: Seq(ack), ..repr }, data)
    }
    /// The stack has sent exactly this next. PSH is not compared.
    #[track_caller]
    pub fn expect(&mut self, f: &str, seq: u32, ack: u32, len: usize) -> u64 {
        let (ms, repr, data) = self.next();
        let got = (repr.flags - Flags::PSH, repr.seq.0, repr.ack.0, data.len());
        assert_eq!(got, (flags(f), seq, ack, len), "(flags, seq, ack, length) at {ms} ms");
        ms
    }
    /// The stack has sent nothing (else).
    #[track_caller]
    pub fn nothing(&mut self) {
        self.settle();
        assert!(self.sent.is_empty(), "{:?}", self.sent);
    }

    /// The stack's initial sequence number.
    pub fn iss(&self) -> Option<u32> {
        self.iss
    }
    /// As the program sets it.
    pub fn set_user_timeout(&self, ms: u32) {
        self.host.progs[0].app(self.id).user_timeout_ms.store(ms, Relaxed);
    }
    /// Milliseconds since the beginning.
    pub fn ms(&self) -> u64 {
        self.host.now / MS
    }
    pub fn state(&self) -> State {
        self.host.progs[0].state(self.id)
    }
    pub fn error(&self) -> Option<Error> {
        self.host.progs[0].record(self.id).error()
    }
    pub fn write(&mut self, n: usize) {
        self.host.progs[0].write(self.id, &vec![7; n]);
        self.settle();
    }
    pub fn read(&mut self, most: u64) -> Vec<u8> {
        let data = self.host.progs[0].read(self.id, most);
        self.host.progs[0].submit(self.id);
        self.settle();
        data
    }
    pub fn shutdown(&mut self) {
        self.host.shutdown(self.id);
        self.settle();
    }
    pub fn close(&mut self) -> bool {
        let free = self.host.close(self.id);
        self.settle();
        free
    }

    /// A connection that the peer opened and the program accepted.
    pub fn accepted() -> Self {
        Self::accepted_with(HostSpec::fixed(1))
    }
    pub fn accepted_with(spec: HostSpec) -> Self {
        let mut s = Self::with(spec);
        let listener = s.host.listen(80, 2);
        s.send_syn("S", 0, Some(1000), None);
        s.expect("SA", 0, 1, 0);
        s.send("A", 1, 1, &[]);
        s.nothing();
        let (id, _) = s.host.accept(listener).expect("it waits");
        (s.id, s.listener) = (id, listener);
        s.settle();
        assert_eq!(s.state(), State::Established);
        s
    }
    /// A socket that has sent its SYN.
    pub fn connecting() -> Self {
        let mut s = Self::new();
        s.id = s.host.open(Kind::Tcp);
        s.host.connect(s.id, "10.0.0.2:5000").unwrap();
        s.settle();
        s.expect("S", 0, 0, 0);
        s
    }
    /// A connection that the program opened.
    pub fn connected() -> Self {
        let mut s = Self::connecting();
        s.send_syn("SA", 1, Some(1000), None);
        s.expect("A", 1, 1, 0);
        assert_eq!(s.state(), State::Established);
        s
    }
}
