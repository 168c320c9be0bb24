//! A world for stacks on the host: memory as init would lend it, a driver and programs played by
//! the test, virtual time.
//!
//! Memory belongs to the [`Host`], not to the stack, so a stack can be dropped at any point and
//! built again from what it left: that is a crash.
#![allow(dead_code)] // Each test uses a part of it.

use libipc::net::{Reply, Request, Rings, SockId, badge};
use libipc::nic::{
    self, Csum, Groups, RxFree, RxUsed, Status, TxDesc, TxFree, WINDOW_SESSION, WINDOW_TX, offset,
};
use libipc::ring::{Consumer, Memory, Producer};
use libipc::shared::Bytes;
use libipc::sock::{AppSock, Error, IdEntry, Kind, Layout, Record, SessionSpec, State, event};
use netd::env::{Env, Event};
use netd::port::PortMemory;
use netd::request::RequestRecord;
use netd::session::SessionMemory;
use netd::state::{HardState, TIME_WAIT_OFFSET};
use netd::timewait::WaitRecord;
use netd::wire::checksum::Sum;
use netd::{Addressing, Addressing6, Settings, Setup, Stack};
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::*};

pub mod frames;
pub mod fuzzing;
pub mod net;
pub mod script;
pub mod six;
pub mod talk;

pub const MS: u64 = 1_000_000;
pub const S: u64 = 1_000_000_000;

/// A small generator; the seed is all that a failed test prints.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// Says nothing of panics that were planned ([`netd::crash`]).
pub fn quiet_crashes() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>().is_none_or(|s| *s != "planned crash") {
                loud(info);
            }
        }));
    });
}

/// Byte `at` of stream number `stream`.
pub fn pattern(stream: u64, at: u64) -> u8 {
    let w =
        (at / 8 + stream.wrapping_mul(0x1234_5678_9abc_def1)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (w >> ((at % 8) * 8)) as u8
}

/// A page-aligned range. Its [`Host`] gives it back at its end, when nothing looks at it any more.
#[derive(Clone, Copy)]
pub struct Region {
    base: usize,
    pub len: usize,
    /// What was allocated: a page more than `len`, from here on.
    whole: usize,
}

impl Region {
    pub fn new(len: usize) -> Self {
        let len = len.next_multiple_of(4096);
        // SAFETY: the size is not zero.
        let whole = unsafe { std::alloc::alloc_zeroed(Self::layout(len)) } as usize;
        assert_ne!(whole, 0);
        Self { base: whole.next_multiple_of(4096), len, whole }
    }
    /// With no more alignment than the system's own allocator gives: that one has pages of zeros
    /// at hand, an aligned allocation would write them all.
    fn layout(len: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(len + 4096, 16).unwrap()
    }
    pub fn at(&self, offset: usize) -> usize {
        assert!(offset < self.len);
        self.base + offset
    }
    pub fn bytes(&self) -> Bytes {
        // SAFETY: lives as long as its host; only raw copies are made of it.
        unsafe { Bytes::new(self.base as *mut u8, self.len) }
    }
    /// A typed view; for types that are all atomic.
    pub fn view<T>(&self, offset: usize, n: usize) -> &'static [T] {
        assert!(
            offset + n * size_of::<T>() <= self.len
                && self.at(offset).is_multiple_of(align_of::<T>())
        );
        // SAFETY: aligned, in range, zeroed, and as long-lived as its host, whose stack and rings end
        // before it; `T` is all atomic.
        unsafe { std::slice::from_raw_parts(self.at(offset) as *const T, n) }
    }
}

impl Region {
    /// # Safety
    /// Nothing made from it is used any more.
    unsafe fn give_back(self) {
        // SAFETY: allocated so by `new`.
        unsafe { std::alloc::dealloc(self.whole as *mut u8, Self::layout(self.len)) };
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        (self.stack, self.driver) = (None, None);
        self.progs.clear();
        let sessions = self.regions.iter().flat_map(|r| [r.app, r.net, r.tx, r.rx]);
        let own =
            [self.drv, self.net, self.pool, self.headers, self.state, self.loopback, self.memory];
        for region in sessions.chain(own) {
            // SAFETY: stack, driver and programs have just ended, and tests keep no record longer.
            unsafe { region.give_back() };
        }
    }
}

fn ring<E: libipc::ring::Entry>(
    p: (Region, usize),
    c: (Region, usize),
    capacity: u32,
) -> Memory<E> {
    // SAFETY: as long-lived as its host, and laid out as `offset` and `Layout` say.
    unsafe { Memory::new(p.0.at(p.1), c.0.at(c.1), capacity) }
}

/// What the stack told the operator.
#[derive(Clone, Default)]
pub struct Log(pub Rc<RefCell<Vec<Event>>>);

impl Env for Log {
    fn event(&mut self, event: Event) {
        self.0.borrow_mut().push(event);
    }
}

/// How a host is built.
#[derive(Clone)]
pub struct HostSpec {
    pub mac: [u8; 6],
    pub addressing: Addressing,
    pub ip6: Addressing6,
    pub sockets: u32,
    pub tx_bits: u8,
    pub rx_bits: u8,
    pub offload: bool,
    pub sessions: usize,
    /// Connections in TIME-WAIT that no program holds.
    pub time_wait: usize,
    /// Handshakes under way.
    pub requests: usize,
    /// Choices for the whole stack.
    pub settings: Settings,
}

impl HostSpec {
    /// Host number `n` of 10.0.0.0/24.
    pub fn fixed(n: u8) -> Self {
        Self {
            mac: [2, 0, 0, 0, 0, n],
            addressing: Addressing::Static {
                addr: Ipv4Addr::new(10, 0, 0, n),
                prefix: 24,
                gateway: None,
                dns: None,
            },
            // What it says of its own accord belongs into few timelines.
            ip6: Addressing6::Off,
            sockets: 16,
            tx_bits: 14,
            rx_bits: 14,
            offload: true,
            sessions: 1,
            time_wait: 8,
            requests: 16,
            settings: Settings::default(),
        }
    }
}

#[derive(Clone, Copy)]
pub struct SessionRegions {
    pub app: Region,
    pub net: Region,
    pub tx: Region,
    pub rx: Region,
}

/// The driver's ends.
pub struct Driver {
    pub rx_free: Consumer<RxFree>,
    pub rx_used: Producer<RxUsed>,
    pub tx_used: Consumer<TxDesc>,
    pub tx_free: Producer<TxFree>,
}

/// A machine: its memory, the driver, programs, and a stack when it runs.
pub struct Host {
    pub spec: HostSpec,
    pub drv: Region,
    pub net: Region,
    pub pool: Region,
    pub headers: Region,
    pub state: Region,
    loopback: Region,
    pub memory: Region,
    pub regions: Vec<SessionRegions>,
    /// What the manifest says about each session, from the next start on.
    pub permits: Vec<SessionSpec>,
    pub stack: Option<Stack<Log>>,
    pub log: Log,
    pub driver: Option<Driver>,
    pub progs: Vec<Prog>,
    pub now: u64,
    boots: u64,
    /// Frames that the NIC had to cut into segments.
    pub bursts: u32,
    /// The driver keeps frames for itself: nothing comes back on tx free.
    pub hold_frames: bool,
    held: Vec<u16>,
    pub crashes: u64,
    /// netd told sockd that something came free.
    pub sockd_signalled: bool,
    /// Listeners and the sockets set aside for them.
    spares: Vec<(u16, u16)>,
}

const LOOPBACK: usize = 256 * 1024;

/// A program that may do anything.
fn permits(session: usize, spec: &HostSpec) -> SessionSpec {
    SessionSpec {
        program: format!("program{session}").parse().unwrap(),
        sockets: spec.sockets,
        tx_len: spec.sockets << spec.tx_bits,
        rx_len: spec.sockets << spec.rx_bits,
        bind: [(1, u16::MAX)].into_iter().collect(),
        connect: true,
        broadcast: true,
        ping: true,
        capture: true,
    }
}

impl Host {
    pub fn new(spec: HostSpec) -> Self {
        let layout = Layout { sockets: spec.sockets };
        let regions: Vec<_> = (0..spec.sessions)
            .map(|_| SessionRegions {
                app: Region::new(layout.app_bytes()),
                net: Region::new(layout.net_bytes()),
                tx: Region::new((spec.sockets as usize) << spec.tx_bits),
                rx: Region::new((spec.sockets as usize) << spec.rx_bits),
            })
            .collect();
        let progs =
            regions.iter().enumerate().map(|(i, r)| Prog::new(i as u16, *r, &spec)).collect();
        let permits = (0..spec.sessions).map(|i| permits(i, &spec)).collect();
        let mut host = Self {
            spec,
            drv: Region::new(offset::DRV_BYTES),
            net: Region::new(offset::NET_BYTES),
            pool: Region::new((nic::RX_BUFFERS * nic::RX_BUFFER_SIZE) as usize),
            headers: Region::new(256 * 1024),
            state: Region::new(8192),
            loopback: Region::new(LOOPBACK),
            memory: Region::new(Setup::MEMORY),
            regions,
            permits,
            stack: None,
            log: Log::default(),
            driver: None,
            progs,
            now: 0,
            boots: 0,
            hold_frames: false,
            bursts: 0,
            held: Vec::new(),
            crashes: 0,
            sockd_signalled: false,
            spares: Vec::new(),
        };
        host.boot();
        host.start_driver();
        host
    }

    fn port(&self) -> PortMemory {
        let (drv, net) = (self.drv, self.net);
        PortMemory {
            status: &drv.view::<Status>(offset::STATUS, 1)[0],
            groups: &net.view::<Groups>(offset::GROUPS, 1)[0],
            pool: self.pool.bytes(),
            headers: self.headers.bytes(),
            rx_free: ring(
                (net, offset::RX_FREE_PRODUCER),
                (drv, offset::RX_FREE_CONSUMER),
                nic::RING,
            ),
            rx_used: ring(
                (drv, offset::RX_USED_PRODUCER),
                (net, offset::RX_USED_CONSUMER),
                nic::RING,
            ),
            tx_used: ring(
                (net, offset::TX_USED_PRODUCER),
                (drv, offset::TX_USED_CONSUMER),
                nic::RING,
            ),
            tx_free: ring(
                (drv, offset::TX_FREE_PRODUCER),
                (net, offset::TX_FREE_CONSUMER),
                nic::RING,
            ),
        }
    }

    /// Starts a stack on whatever memory holds.
    pub fn boot(&mut self) {
        let layout = Layout { sockets: self.spec.sockets };
        let sessions = self
            .regions
            .iter()
            .zip(&self.permits)
            .map(|(r, permits)| {
                (
                    permits.clone(),
                    SessionMemory {
                        records: r.net.view::<Record>(layout.record(0), self.spec.sockets as usize),
                        apps: r.app.view::<AppSock>(layout.app_sock(0), self.spec.sockets as usize),
                        tx: r.tx.bytes(),
                        rx: r.rx.bytes(),
                        submit: ring::<IdEntry>(
                            (r.app, Layout::PRODUCER),
                            (r.net, Layout::SUBMIT_CONSUMER),
                            self.spec.sockets,
                        ),
                        ready: ring::<IdEntry>(
                            (r.net, Layout::PRODUCER),
                            (r.app, Layout::READY_CONSUMER),
                            self.spec.sockets,
                        ),
                        link: &r.net.view::<AtomicU64>(Layout::LINK, 1)[0],
                        watch: &r.app.view::<AtomicU64>(Layout::WATCH, 1)[0],
                    },
                )
            })
            .collect();
        self.boots += 1;
        let mut rng = Rng(self.boots * 1000 + self.spec.mac[5] as u64);
        let setup = Setup {
            port: self.port(),
            loopback: self.loopback.bytes(),
            hard: &self.state.view::<HardState>(0, 1)[0],
            time_wait: self.state.view::<WaitRecord>(TIME_WAIT_OFFSET, self.spec.time_wait),
            requests: self.state.view::<RequestRecord>(
                TIME_WAIT_OFFSET + self.spec.time_wait * size_of::<WaitRecord>(),
                self.spec.requests,
            ),
            sessions,
            addressing: self.spec.addressing,
            utc_at_boot: None,
            memory: self.memory.bytes(),
            ip6: self.spec.ip6,
            seed: std::array::from_fn(|_| rng.next() as u8),
            settings: self.spec.settings,
        };
        self.stack = Some(Stack::new(setup, self.log.clone(), self.now));
    }

    /// The stack dies where it stands, and a new one takes over.
    pub fn crash(&mut self) {
        self.stack = None;
        self.boot();
    }

    /// A new incarnation of the program of `session`, on zeroed words.
    pub fn new_prog(&self, session: usize) -> Prog {
        Prog::new(session as u16, self.regions[session], &self.spec)
    }

    /// A new driver, on what its predecessor left if that makes sense, else on empty rings: then
    /// netd finds indices that have gone back, and begins anew with it.
    pub fn restart_driver(&mut self) {
        let port = self.port();
        self.held.clear();
        let sane = port.rx_free.consumer().is_ok_and(|mut c| c.available().is_ok())
            && port.tx_used.consumer().is_ok_and(|mut c| c.available().is_ok())
            && port.rx_used.producer().is_ok()
            && port.tx_free.producer().is_ok();
        if !sane {
            let words = self.drv.view::<std::sync::atomic::AtomicU64>(0, self.drv.len / 8);
            for word in &words[256..] {
                word.store(0, Relaxed);
            }
            let now = self.now + S;
            for step in 0..5 {
                self.now = now + step * 150 * MS;
                self.settle();
                // Formats its own rings.
                let _ = (port.rx_used.producer(), port.tx_free.producer());
            }
        }
        self.start_driver();
    }

    /// Starts the driver.
    pub fn start_driver(&mut self) {
        let port = self.port();
        let status = port.status;
        status.mac.store(
            u64::from_le_bytes({
                let mut b = [0; 8];
                b[..6].copy_from_slice(&self.spec.mac);
                b
            }),
            Relaxed,
        );
        status.link.store(1, Relaxed);
        status.speed.store(1000, Relaxed);
        status.max_frame.store(1514, Relaxed);
        let caps = nic::caps::TX_CSUM | nic::caps::TSO;
        status.caps.store(if self.spec.offload { caps } else { 0 }, Relaxed);
        status.version.fetch_add(1, Release);
        self.driver = Some(Driver {
            rx_free: port.rx_free.consumer().expect("netd has formatted it"),
            rx_used: port.rx_used.producer().unwrap(),
            tx_used: port.tx_used.consumer().expect("netd has formatted it"),
            tx_free: port.tx_free.producer().unwrap(),
        });
    }

    /// Puts the cable in, or pulls it.
    pub fn plug(&mut self, up: bool) {
        let status = &self.drv.view::<Status>(offset::STATUS, 1)[0];
        if status.link.swap(up as u32, Relaxed) != up as u32 {
            status.version.fetch_add(1, Release);
        }
    }

    pub fn stack(&mut self) -> &mut Stack<Log> {
        self.stack.as_mut().expect("running")
    }

    /// Runs a step of the stack that may be cut short by a planned crash ([`netd::crash`]); then a
    /// new stack takes over. `None`: it crashed.
    pub fn survive<T>(&mut self, step: impl FnOnce(&mut Stack<Log>) -> T) -> Option<T> {
        let mut stack = self.stack.take().expect("running");
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(&mut stack))) {
            Ok(value) => {
                self.stack = Some(stack);
                Some(value)
            }
            Err(why) => {
                let planned = why.downcast_ref::<&str>().is_some_and(|s| *s == "planned crash");
                if !planned {
                    std::panic::resume_unwind(why);
                }
                drop(stack);
                netd::crash::cancel();
                self.crashes += 1;
                self.boot();
                if std::env::var_os("TRACE").is_some() {
                    println!(
                        "{:>9} us host {} restarted: {:?}",
                        self.now / 1000,
                        self.spec.mac[5],
                        self.events().last()
                    );
                }
                // A new netd tells everybody.
                for p in &mut self.progs {
                    (p.signalled, p.bell) = (true, true);
                }
                None
            }
        }
    }

    /// Turns until the stack wants to sleep; hands signals to the programs.
    pub fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "the stack never rests");
            let mut bells = 0;
            for p in &mut self.progs {
                bells |= (std::mem::take(&mut p.bell) as u32) << p.session;
            }
            let now = self.now;
            let Some(busy) = self.survive(|stack| stack.poll(now, bells)) else { continue };
            let signals = self.stack().take_signals();
            self.sockd_signalled |= signals.sockd;
            for p in &mut self.progs {
                p.signalled |= signals.sessions >> p.session & 1 == 1;
            }
            if !busy && self.stack().sleep() && self.progs.iter().all(|p| !p.bell) {
                break;
            }
        }
    }

    /// What the NIC puts on the wire.
    pub fn transmitted(&mut self) -> Vec<Vec<u8>> {
        let Some(driver) = &mut self.driver else { return Vec::new() };
        let mut frames = Vec::new();
        let mut frame = Vec::new();
        let mut first = None;
        while let Some(desc) = driver.tx_used.pop().expect("netd is honest") {
            let region = match desc.window {
                WINDOW_TX => self.headers,
                w => self.regions[(w - WINDOW_SESSION) as usize].tx,
            };
            let mut piece = vec![0; desc.len as usize];
            assert!(
                desc.len > 0 && region.bytes().read(desc.offset as usize, &mut piece),
                "{desc:?}"
            );
            frame.extend_from_slice(&piece);
            let head = *first.get_or_insert(desc);
            if desc.flags & TxDesc::EOP != 0 {
                let done = std::mem::take(&mut frame);
                self.bursts += (head.mss != 0) as u32;
                for mut done in segments(&done, &head) {
                    assert!((60..=1514).contains(&done.len()), "frame of {} bytes", done.len());
                    let end = ip_end(&done);
                    let padded = done.len() > end;
                    assert!(head.csum == nic::Csum::None || !padded, "some NICs sum padding, too");
                    offload(&mut done, &head);
                    frames.push(done);
                }
                first = None;
                self.held.push(head.cookie);
            }
        }
        assert!(frame.is_empty(), "only whole frames are published");
        driver.tx_used.release();
        if !self.hold_frames {
            for cookie in self.held.drain(..) {
                assert!(driver.tx_free.push(TxFree { cookie, refused: 0 }).unwrap());
            }
        }
        let _ = driver.tx_free.publish();
        let _ = driver.tx_used.sleep();
        frames
    }

    /// A frame arrives; `false`: there was no buffer.
    pub fn receive(&mut self, frame: &[u8]) -> bool {
        let pool = self.pool;
        let Some(driver) = &mut self.driver else { return false };
        let Some(RxFree { buffer }) = driver.rx_free.pop().expect("netd is honest") else {
            return false;
        };
        assert!(pool.bytes().write((buffer * nic::RX_BUFFER_SIZE) as usize, frame));
        assert!(driver.rx_used.push(RxUsed { buffer, len: frame.len() as u16, flags: 0 }).unwrap());
        driver.rx_free.release();
        let _ = driver.rx_used.publish();
        true
    }

    /// Asks the stack as sockd does.
    pub fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        self.ask_again(request).0
    }

    /// The answer, and whether netd died under the question and it was asked again.
    pub fn ask_again(&mut self, request: Request) -> (Result<Reply, Error>, bool) {
        let now = self.now;
        match self.survive(|stack| stack.request(badge::SOCKD, &request, now)) {
            Some(reply) => (reply, false),
            None => (self.stack().request(badge::SOCKD, &request, now), true),
        }
    }
}

/// Fills in the checksum as the NIC does.
/// What the NIC makes of a frame: itself, or segments of `mss` bytes whose headers differ in what
/// they must (82540EM manual 3.5).
fn segments(frame: &[u8], desc: &TxDesc) -> Vec<Vec<u8>> {
    if desc.mss == 0 {
        return vec![frame.to_vec()];
    }
    let (headers, payload) = frame.split_at(desc.hdr_len as usize);
    let (mss, l4) = (desc.mss as usize, desc.l4_start as usize);
    assert!(desc.len == desc.hdr_len as u16 && desc.csum == Csum::Tcp, "{desc:?}");
    assert!(payload.len() > mss, "one segment is none to be cut");
    assert!(!payload.len().is_multiple_of(mss), "QEMU's model would send an empty segment");
    let seq = u32::from_be_bytes(headers[l4 + 4..l4 + 8].try_into().unwrap());
    let pseudo = u16::from_be_bytes([headers[l4 + 16], headers[l4 + 17]]);
    let count = payload.len().div_ceil(mss);
    let cut = |(i, part): (usize, &[u8])| {
        let mut out = [headers, part].concat();
        let len = (out.len() - 14) as u16;
        out[16..18].copy_from_slice(&len.to_be_bytes());
        assert_eq!(out[24..26], [0, 0], "the NIC sums this field, too");
        let sum = Sum::ZERO.bytes(&out[14..34]).finish();
        out[24..26].copy_from_slice(&sum);
        out[l4 + 4..l4 + 8].copy_from_slice(&seq.wrapping_add((i * mss) as u32).to_be_bytes());
        if i + 1 < count {
            // FIN and PSH belong to the last.
            out[l4 + 13] &= !9;
        }
        let pseudo = pseudo as u32 + (out.len() - l4) as u32;
        let pseudo = (pseudo & 0xffff) + (pseudo >> 16);
        out[l4 + 16..l4 + 18].copy_from_slice(&(pseudo as u16).to_be_bytes());
        out
    };
    payload.chunks(mss).enumerate().map(cut).collect()
}

/// Where the IP packet in a frame ends, of either family.
fn ip_end(frame: &[u8]) -> usize {
    let len = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]) as usize;
    if frame[12..14] == [0x86, 0xdd] { 54 + len(18) } else { 14 + len(16) }
}

fn offload(frame: &mut [u8], desc: &TxDesc) {
    let field = match desc.csum {
        Csum::None => return,
        Csum::Tcp => 16,
        Csum::Udp => 6,
    };
    let l4 = desc.l4_start as usize;
    let end = ip_end(frame);
    // The field holds the pseudo-header's sum.
    let sum = Sum::ZERO.bytes(&frame[l4..end]).finish();
    frame[l4 + field..l4 + field + 2].copy_from_slice(&sum);
}

/// A program, and sockd's part for it.
pub struct Prog {
    pub session: u16,
    pub regions: SessionRegions,
    layout: Layout,
    pub tx_bits: u8,
    rx_bits: u8,
    pub submit: Option<Producer<IdEntry>>,
    pub ready: Option<Consumer<IdEntry>>,
    /// It has rung.
    pub bell: bool,
    /// netd has signalled.
    pub signalled: bool,
    /// Ids in use.
    used: Vec<bool>,
    /// Full positions, of which netd sees the words.
    pub tail: Vec<u64>,
    pub head: Vec<u64>,
}

impl Prog {
    fn new(session: u16, regions: SessionRegions, spec: &HostSpec) -> Self {
        let n = spec.sockets as usize;
        let mut prog = Self {
            session,
            regions,
            layout: Layout { sockets: spec.sockets },
            tx_bits: spec.tx_bits,
            rx_bits: spec.rx_bits,
            submit: None,
            ready: None,
            bell: false,
            signalled: false,
            used: vec![false; n],
            tail: vec![0; n],
            head: vec![0; n],
        };
        prog.attach();
        prog
    }

    /// Attaches the ring ends where they stand, as at the beginning of a session.
    pub fn attach(&mut self) {
        let r = self.regions;
        let n = self.layout.sockets;
        let submit =
            ring::<IdEntry>((r.app, Layout::PRODUCER), (r.net, Layout::SUBMIT_CONSUMER), n);
        let ready = ring::<IdEntry>((r.net, Layout::PRODUCER), (r.app, Layout::READY_CONSUMER), n);
        self.submit = submit.producer().ok();
        self.ready = ready.consumer().ok();
    }

    pub fn record(&self, id: u16) -> &'static Record {
        &self.regions.net.view::<Record>(self.layout.record(id as u32), 1)[0]
    }
    pub fn app(&self, id: u16) -> &'static AppSock {
        &self.regions.app.view::<AppSock>(self.layout.app_sock(id as u32), 1)[0]
    }
    pub fn state(&self, id: u16) -> State {
        self.record(id).state()
    }
    pub fn sock(&self, id: u16) -> SockId {
        SockId { session: self.session, id }
    }
    pub fn rings(&self, id: u16) -> Rings {
        Rings {
            tx_off: (id as u32) << self.tx_bits,
            tx_bits: self.tx_bits,
            rx_off: (id as u32) << self.rx_bits,
            rx_bits: self.rx_bits,
        }
    }
    /// An unused id.
    pub fn id(&mut self) -> u16 {
        let id = self.used.iter().position(|u| !u).expect("ids are left");
        self.used[id] = true;
        id as u16
    }
    pub fn give_back(&mut self, id: u16) {
        assert!(std::mem::replace(&mut self.used[id as usize], false), "id {id} freed twice");
        self.clear(id);
    }
    pub fn in_use(&self) -> usize {
        self.used.iter().filter(|u| **u).count()
    }
    /// What a program does when it gives an id back.
    pub fn clear(&mut self, id: u16) {
        (self.tail[id as usize], self.head[id as usize]) = (0, 0);
        self.app(id).tx_tail.store(0, Release);
        self.app(id).rx_head.store(0, Release);
    }

    pub fn submit(&mut self, id: u16) {
        if self.submit.is_none() {
            self.attach();
        }
        let submit = self.submit.as_mut().unwrap();
        assert!(submit.push([id as u64]).expect("netd is honest"), "submit ring full");
        self.bell |= submit.publish();
    }

    /// Ids with news.
    pub fn take_ready(&mut self) -> Vec<u16> {
        if self.ready.is_none() {
            self.attach();
        }
        let ready = self.ready.as_mut().expect("formatted at start");
        let mut ids = Vec::new();
        while let Some([id]) = ready.pop().expect("netd is honest") {
            ids.push(id as u16);
        }
        ready.release();
        // Nothing came in between: the test is single-threaded.
        assert!(ready.sleep().unwrap());
        ids
    }

    /// Free bytes in the send ring.
    pub fn room(&self, id: u16) -> u64 {
        let used = (self.tail[id as usize] as u32).wrapping_sub(self.record(id).acknowledged());
        (1u64 << self.tx_bits) - used as u64
    }
    /// Writes as much as fits of what `byte` yields for positions from the tail on; returns how
    /// much.
    pub fn write_with(&mut self, id: u16, most: u64, byte: impl Fn(u64) -> u8) -> u64 {
        let n = most.min(self.room(id));
        let at = self.tail[id as usize];
        self.put(id, at, &(at..at + n).map(byte).collect::<Vec<_>>());
        self.tail[id as usize] += n;
        self.app(id).tx_tail.store(self.tail[id as usize], Release);
        n
    }
    pub fn write(&mut self, id: u16, bytes: &[u8]) {
        let at = self.tail[id as usize];
        let n = self.write_with(id, bytes.len() as u64, |i| bytes[(i - at) as usize]);
        assert_eq!(n, bytes.len() as u64, "send ring full");
        self.submit(id);
    }
    fn put(&self, id: u16, at: u64, bytes: &[u8]) {
        let (r, size) = (self.rings(id), 1u64 << self.tx_bits);
        for (i, b) in bytes.iter().enumerate() {
            let offset = r.tx_off as u64 + (at + i as u64) % size;
            assert!(self.regions.tx.bytes().write(offset as usize, &[*b]));
        }
    }
    /// Appends a datagram with its header.
    pub fn put_dgram(&mut self, id: u16, bytes: &[u8]) {
        let at = self.tail[id as usize];
        assert!(at + bytes.len() as u64 - self.record(id).dgram_tx_head() <= 1 << self.tx_bits);
        self.put(id, at, bytes);
        self.tail[id as usize] += bytes.len() as u64;
        self.app(id).tx_tail.store(self.tail[id as usize], Release);
    }
    /// The next `n` bytes of the receive ring of a datagram socket, if they are there.
    pub fn peek_ring(&self, id: u16, n: u64) -> Option<Vec<u8>> {
        let head = self.head[id as usize];
        (self.record(id).dgram_rx_tail() - head >= n).then_some(())?;
        let r = self.rings(id);
        Some(
            (head..head + n)
                .map(|at| {
                    let mut one = [0];
                    let offset = r.rx_off as u64 + at % (1 << self.rx_bits);
                    assert!(self.regions.rx.bytes().read(offset as usize, &mut one));
                    one[0]
                })
                .collect(),
        )
    }
    pub fn took_dgram(&mut self, id: u16, n: u64) {
        self.head[id as usize] += n;
        self.app(id).rx_head.store(self.head[id as usize], Release);
    }
    /// Bytes that can be read.
    pub fn available(&self, id: u16) -> u64 {
        let n = self.record(id).received().wrapping_sub(self.head[id as usize] as u32);
        assert!(n <= 1 << self.rx_bits, "available {n}");
        n as u64
    }
    pub fn read(&mut self, id: u16, most: u64) -> Vec<u8> {
        let n = self.available(id).min(most);
        let (r, size) = (self.rings(id), 1u64 << self.rx_bits);
        let mut out = vec![0; n as usize];
        for (i, b) in out.iter_mut().enumerate() {
            let offset = r.rx_off as u64 + (self.head[id as usize] + i as u64) % size;
            let mut one = [0];
            assert!(self.regions.rx.bytes().read(offset as usize, &mut one));
            *b = one[0];
        }
        self.head[id as usize] += n;
        self.app(id).rx_head.store(self.head[id as usize], Release);
        out
    }
    pub fn peer_closed(&self, id: u16) -> bool {
        self.record(id).events.load(Acquire) & event::PEER_FIN != 0
    }
    pub fn established(&self, id: u16) -> bool {
        self.record(id).events.load(Acquire) & event::ESTABLISHED != 0
    }
}

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
        match self.ask(Request::Interface) {
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
