//! The operations, the same for each stack.

use std::hint::black_box;
use std::net::Ipv4Addr;

use netd::wire::tcp::{Flags, Repr, Seq};

use crate::frames::{End, echo_frame, tcp_frame, udp_frame};
use crate::mark;

/// Payload of a full segment, and of a small one.
const FULL: usize = 1460;
const SMALL: usize = 64;
/// Segments that it gets uncounted.
const WARM: usize = 40;
/// Segments that arrive together.
const TRAIN: usize = 4;
/// Between two operations, and between two steps of making connections, µs.
const STEP_US: u64 = 500;
const OPEN_US: u64 = 10;
/// The stack under measurement is 10.0.0.1; its gateway 10.0.0.2 is the station on the wire.
pub const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Both listen on this TCP port and have this UDP port.
pub const SERVER: u16 = 7000;
pub const DATAGRAMS: u16 = 7001;
/// Our peers' port.
const PEER_PORT: u16 = 5000;

/// A stack under measurement, its programs and its driver.
pub trait Subject {
    /// Frames that have left, since asked.
    fn sent(&mut self) -> Vec<Vec<u8>>;
    /// A frame lies with the driver.
    fn arrive(&mut self, frame: &[u8]);
    /// One turn of the stack and the question when the next is due.
    fn turn(&mut self, now_us: u64);
    /// A program begins to connect connection `n`.
    fn connect(&mut self, n: u32, to: (Ipv4Addr, u16));
    /// Connection `n` has come about: what has to be done besides.
    fn connected(&mut self, _n: u32) {}
    /// All connections have.
    fn ready(&mut self) {}
    /// The program of connection `n` reads what is there.
    fn read(&mut self, n: u32, into: &mut [u8]) -> usize;
    /// The program of connection `n` writes.
    fn write(&mut self, n: u32, bytes: &[u8]);
    /// The UDP socket reads, writes back to the last sender.
    fn read_datagram(&mut self, into: &mut [u8]) -> usize;
    fn write_datagram(&mut self, bytes: &[u8]);
    /// The server takes the connection that waits.
    fn accept(&mut self);
    /// It has ended: the server closes its side.
    fn close(&mut self);
    /// It is gone: the server is ready for the next.
    fn renew(&mut self);
    /// Bytes of memory a connection takes, without data.
    fn bytes(&self) -> usize;
}

/// One connection, as its peer sees it.
struct Peer {
    ip: Ipv4Addr,
    port: u16,
    seq: Seq,
    ack: Seq,
}

struct Bench<S> {
    subject: S,
    peers: Vec<Peer>,
    now_us: u64,
    /// How often each operation is done.
    times: u32,
}

fn us() -> End {
    End { ip: US, ..End::number(1) }
}

/// Its address on the wire: all of them are behind the gateway.
fn them(ip: Ipv4Addr) -> End {
    End { ip, ..End::number(2) }
}

/// The segment in a frame: its TCP header.
fn segment(frame: &[u8]) -> Repr {
    let header = (frame[14] & 15) as usize * 4;
    let tcp = &frame[14 + header..14 + u16::from_be_bytes([frame[16], frame[17]]) as usize];
    Repr::parse(tcp).expect("a stack sends segments").0
}

impl<S: Subject> Bench<S> {
    fn turn(&mut self) {
        self.now_us += OPEN_US;
        self.subject.turn(self.now_us);
    }

    /// Lets what is delayed happen: ACKs, timers of handshakes.
    fn rest(&mut self) {
        for _ in 0..20 {
            self.now_us += 200_000;
            self.subject.turn(self.now_us);
        }
        self.subject.sent();
    }

    fn frame(&self, n: usize, flags: Flags, data: &[u8]) -> Vec<u8> {
        let p = &self.peers[n];
        let repr = Repr {
            src: PEER_PORT,
            dst: p.port,
            seq: p.seq,
            ack: p.ack,
            flags,
            window: 65_535,
            urgent: 0,
            options: Default::default(),
        };
        tcp_frame(them(p.ip), us(), &repr, data)
    }

    /// Connections to peers behind the gateway.
    fn open(&mut self, connections: u32) {
        for n in 0..connections {
            let [_, a, b, c] = (n + 1).to_be_bytes();
            let ip = Ipv4Addr::new(11, a, b, c);
            self.subject.connect(n, (ip, PEER_PORT));
            self.turn();
            self.answer_arp();
            let syn = segment(self.subject.sent().last().expect("a SYN"));
            self.peers.push(Peer { ip, port: syn.src, seq: Seq(n), ack: syn.seq + 1 });
            let mut syn_ack = self.frame(n as usize, Flags::SYN | Flags::ACK, &[]);
            options_of_syn(&mut syn_ack);
            self.subject.arrive(&syn_ack);
            self.peers[n as usize].seq = Seq(n) + 1;
            self.turn();
            self.turn();
            assert!(!self.subject.sent().is_empty(), "the handshake's last ACK");
            self.subject.connected(n);
        }
        self.subject.ready();
        self.rest();
    }

    /// Answers what the stack asks about the gateway.
    fn answer_arp(&mut self) {
        use crate::frames::arp_frame;
        use netd::wire::arp::{Op, Repr};
        let (us, gateway) = (us(), them(GATEWAY));
        let reply = Repr {
            op: Op::Reply,
            sender_mac: gateway.mac,
            sender: GATEWAY,
            target_mac: us.mac,
            target: US,
        };
        if self.peers.is_empty() {
            self.subject.sent();
            self.subject.arrive(&arp_frame(us.mac, &reply));
            self.now_us += 2_000_000;
            self.turn();
            self.turn();
        }
    }

    /// The connection that is busy. One, as when there is no other: what it does is the same then.
    fn busy(&self) -> usize {
        self.peers.len() / 2
    }

    /// Lets it receive until what is special about the beginning is over.
    fn warm_up(&mut self) {
        let (data, mut into) = (vec![7; FULL], vec![0; 4096]);
        let n = self.busy();
        for _ in 0..WARM {
            let frame = self.frame(n, Flags::ACK | Flags::PSH, &data);
            self.counted(&frame);
            assert_eq!(self.subject.read(n as u32, &mut into), FULL);
            self.peers[n].seq = self.peers[n].seq + FULL as u32;
        }
        self.rest();
    }

    fn receive(&mut self, name: &str, len: usize) {
        let (data, mut into) = (vec![7; len], vec![0; 4096]);
        for _ in 0..2 * self.times {
            let n = self.busy();
            let frame = self.frame(n, Flags::ACK | Flags::PSH, &data);
            self.subject.arrive(&frame);
            self.now_us += STEP_US;
            let (subject, now) = (&mut self.subject, self.now_us);
            let read = mark::count(|| {
                subject.turn(now);
                subject.read(n as u32, black_box(&mut into))
            });
            assert_eq!(read, len);
            self.peers[n].seq = self.peers[n].seq + len as u32;
            self.subject.sent();
        }
        mark::end(name, 2 * self.times);
    }

    /// Segments that arrive together, as a NIC with few interrupts has them, read together.
    fn trains(&mut self) {
        let (data, mut into) = (vec![7; FULL], vec![0; TRAIN * FULL]);
        for _ in 0..self.times {
            let n = self.busy();
            for _ in 0..TRAIN {
                let frame = self.frame(n, Flags::ACK | Flags::PSH, &data);
                self.subject.arrive(&frame);
                self.peers[n].seq = self.peers[n].seq + FULL as u32;
            }
            self.now_us += STEP_US;
            let (subject, now) = (&mut self.subject, self.now_us);
            let read = mark::count(|| {
                subject.turn(now);
                let read = subject.read(n as u32, black_box(&mut into));
                // The window opens again.
                subject.turn(now);
                read
            });
            assert_eq!(read, TRAIN * FULL);
            self.subject.sent();
        }
        mark::end("tcp.received.train", self.times * TRAIN as u32);
    }

    fn send(&mut self, name: &str, len: usize) {
        self.rest();
        let data = vec![7; len];
        for i in 0..2 * self.times {
            let n = self.busy();
            self.now_us += STEP_US;
            let (subject, now) = (&mut self.subject, self.now_us);
            mark::count(|| {
                subject.write(n as u32, black_box(&data));
                subject.turn(now);
            });
            let sent = self.subject.sent();
            assert!(sent.len() == 1 && sent[0].len() == 54 + len, "one segment");
            self.peers[n].ack = self.peers[n].ack + len as u32;
            if i % 2 == 1 || len < FULL {
                let ack = self.frame(n, Flags::ACK, &[]);
                self.subject.arrive(&ack);
                self.now_us += STEP_US;
                let (subject, now) = (&mut self.subject, self.now_us);
                mark::count(|| subject.turn(now));
                assert!(self.subject.sent().is_empty());
            }
        }
        mark::end(name, 2 * self.times);
    }

    fn datagrams(&mut self) {
        let (peer, data, mut into) = (them(Ipv4Addr::new(11, 9, 9, 9)), vec![7; SMALL], [0; 2048]);
        for _ in 0..self.times {
            self.subject.arrive(&udp_frame(peer, us(), 9000, DATAGRAMS, &data));
            self.now_us += STEP_US;
            let (subject, now) = (&mut self.subject, self.now_us);
            let read = mark::count(|| {
                subject.turn(now);
                subject.read_datagram(black_box(&mut into))
            });
            assert_eq!(read, SMALL);
            self.turn();
        }
        mark::end("udp.received", self.times);
        for _ in 0..self.times {
            self.now_us += STEP_US;
            let (subject, now) = (&mut self.subject, self.now_us);
            mark::count(|| {
                subject.write_datagram(black_box(&data));
                subject.turn(now);
            });
            assert_eq!(self.subject.sent().len(), 1);
        }
        mark::end("udp.sent", self.times);
    }

    fn pings(&mut self) {
        let peer = them(GATEWAY);
        for i in 0..self.times {
            self.subject.arrive(&echo_frame(peer, us(), false, 1, i as u16, &[7; 56]));
            // At a pace that no limit on ICMP touches.
            self.now_us += 100_000;
            let (subject, now) = (&mut self.subject, self.now_us);
            mark::count(|| subject.turn(now));
            assert_eq!(self.subject.sent().len(), 1, "a reply");
        }
        mark::end("ping", self.times);
    }

    /// A client connects and closes, the server closes: five segments each way, or four.
    fn connections(&mut self) {
        let n = self.peers.len();
        for i in 0..self.times {
            let ip = Ipv4Addr::new(11, 200, 0, 1 + i as u8);
            self.peers.push(Peer { ip, port: SERVER, seq: Seq(1000 * i), ack: Seq(0) });
            let mut syn = self.frame(n, Flags::SYN, &[]);
            options_of_syn(&mut syn);
            let answer = segment(&self.counted(&syn)[0]);
            assert!(answer.flags.contains(Flags::SYN));
            self.peers[n].ack = answer.seq + 1;
            self.peers[n].seq = self.peers[n].seq + 1;
            self.counted(&self.frame(n, Flags::ACK, &[]));
            mark::count(|| self.subject.accept());
            self.counted(&self.frame(n, Flags::ACK | Flags::FIN, &[]));
            self.peers[n].seq = self.peers[n].seq + 1;
            self.now_us += STEP_US;
            let (subject, now) = (&mut self.subject, self.now_us);
            mark::count(|| {
                subject.close();
                subject.turn(now);
            });
            let fin = segment(self.subject.sent().last().expect("its FIN"));
            assert!(fin.flags.contains(Flags::FIN));
            self.peers[n].ack = fin.seq + 1;
            self.counted(&self.frame(n, Flags::ACK, &[]));
            mark::count(|| self.subject.renew());
            self.peers.pop();
        }
        mark::end("connection", self.times);
    }

    /// A frame arrives, counted; yields what is sent then.
    fn counted(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.subject.arrive(frame);
        self.now_us += STEP_US;
        let (subject, now) = (&mut self.subject, self.now_us);
        mark::count(|| subject.turn(now));
        self.subject.sent()
    }
}

/// A SYN says 1460; nothing else is offered, so both stacks do the same.
fn options_of_syn(frame: &mut Vec<u8>) {
    let parts = (&frame[14..34], &frame[34..54]);
    let ip =
        |at: usize| Ipv4Addr::new(parts.0[at], parts.0[at + 1], parts.0[at + 2], parts.0[at + 3]);
    let (from, to) = (ip(12), ip(16));
    let mut repr = Repr::parse(parts.1).expect("made here").0;
    repr.options.mss = Some(FULL as u16);
    *frame =
        tcp_frame(End { ip: from, ..End::number(2) }, End { ip: to, ..End::number(1) }, &repr, &[]);
}

/// Does each operation `times` times with `connections` open. Yields the memory of one.
pub fn run<S: Subject>(make: impl FnOnce(u32) -> S, connections: u32, times: u32) -> usize {
    let subject = make(connections);
    let mut bench = Bench { subject, peers: Vec::new(), now_us: 1_000_000, times };
    bench.open(connections.max(1));
    bench.warm_up();
    mark::begin();
    bench.trains();
    bench.receive("tcp.received.1460", FULL);
    bench.send("tcp.sent.1460", FULL);
    bench.receive("tcp.received.64", SMALL);
    bench.send("tcp.sent.64", SMALL);
    bench.datagrams();
    bench.pings();
    bench.connections();
    bench.subject.bytes()
}
