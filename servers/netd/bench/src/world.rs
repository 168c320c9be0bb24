//! Memory as init would lend it to netd, the driver's ends of its rings, and programs.

use libipc::net::Rings;
use libipc::nic::{
    self, RxFree, RxUsed, Status, TxDesc, TxFree, WINDOW_SESSION, WINDOW_TX, offset,
};
use libipc::ring::{Consumer, Entry, Memory, Producer};
use libipc::shared::Bytes;
use libipc::sock::{AppSock, IdEntry, Layout, Record, SessionSpec};
use netd::env::{At, Env, Event};
use netd::port::PortMemory;
use netd::session::SessionMemory;
use netd::state::{HardState, TIME_WAIT_OFFSET};
use netd::wire::checksum::Sum;
use netd::{Addressing, Addressing6, NicSetup, Settings, Setup};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::copy;
use crate::work::{GATEWAY, US};

/// log2 of the size of each ring of a connection.
const RING_BITS: u8 = 13;
const LOOPBACK: usize = 32 * 2048;

/// A page-aligned range that is never given back: the process does one measurement and ends.
#[derive(Clone, Copy)]
struct Region {
    base: usize,
    len: usize,
}

impl Region {
    fn new(len: usize) -> Self {
        let len = len.next_multiple_of(4096);
        let layout = std::alloc::Layout::from_size_align(len, 4096).expect("a small alignment");
        // SAFETY: the size is not zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) } as usize;
        assert_ne!(base, 0, "out of memory");
        Self { base, len }
    }
    fn bytes(&self) -> Bytes {
        // SAFETY: never given back; only raw copies are made of it.
        unsafe { Bytes::new(self.base as *mut u8, self.len) }
    }
    fn view<T>(&self, offset: usize, n: usize) -> &'static [T] {
        assert!(offset + n * size_of::<T>() <= self.len);
        assert!((self.base + offset).is_multiple_of(align_of::<T>()));
        // SAFETY: in range, aligned, zeroed, never given back; `T` is all atomic.
        unsafe { std::slice::from_raw_parts((self.base + offset) as *const T, n) }
    }
}

fn ring<E: Entry>(p: (Region, usize), c: (Region, usize), capacity: u32) -> Memory<E> {
    // SAFETY: never given back, and laid out as `offset` and `Layout` say.
    unsafe { Memory::new(p.0.base + p.1, c.0.base + c.1, capacity) }
}

/// netd's surroundings: the guest's copy routines.
pub struct Surroundings;

impl Env for Surroundings {
    fn copy_sum(&mut self, from: At<'_>, to: At<'_>, len: usize) -> Option<Sum> {
        copy::copy_sum(from, to, len)
    }
    fn sum(&mut self, from: At<'_>, len: usize) -> Option<Sum> {
        copy::sum(from, len)
    }
    fn event(&mut self, _: Event) {}
}

/// The driver.
pub struct Driver {
    pool: Bytes,
    headers: Bytes,
    rx_free: Consumer<RxFree>,
    rx_used: Producer<RxUsed>,
    tx_used: Consumer<TxDesc>,
    tx_free: Producer<TxFree>,
}

impl Driver {
    /// A frame lies in a buffer.
    pub fn arrive(&mut self, frame: &[u8]) {
        let RxFree { buffer } = self.rx_free.pop().expect("an honest netd").expect("buffers");
        assert!(self.pool.write((buffer * nic::RX_BUFFER_SIZE) as usize, frame));
        let used = RxUsed { buffer, len: frame.len() as u16, flags: 0 };
        assert!(self.rx_used.push(used).expect("an honest netd"));
        self.rx_free.release();
        let _ = self.rx_used.publish();
    }

    /// Frames that have left, checksums of the transport not filled in.
    pub fn sent(&mut self, programs: &[Program]) -> Vec<Vec<u8>> {
        let (mut frames, mut frame) = (Vec::new(), Vec::new());
        let mut cookie = None;
        while let Some(desc) = self.tx_used.pop().expect("an honest netd") {
            let region = match desc.window {
                WINDOW_TX => self.headers,
                w => programs[(w - WINDOW_SESSION) as usize].memory.tx,
            };
            let mut piece = vec![0; desc.len as usize];
            assert!(region.read(desc.offset as usize, &mut piece));
            frame.extend_from_slice(&piece);
            let first = *cookie.get_or_insert(desc.cookie);
            if desc.flags & TxDesc::EOP != 0 {
                frames.push(std::mem::take(&mut frame));
                let free = TxFree { cookie: first, refused: 0 };
                assert!(self.tx_free.push(free).expect("an honest netd"));
                cookie = None;
            }
        }
        self.tx_used.release();
        let _ = self.tx_free.publish();
        let _ = self.tx_used.sleep();
        frames
    }
}

/// A program: its end of the rings, and its socket's words, used as `userland` does.
pub struct Program {
    pub memory: SessionMemory,
    pub submit: Producer<IdEntry>,
    pub ready: Consumer<IdEntry>,
    /// Bits of the programs that have rung, as the kernel gathers them; this one's.
    pub bells: Rc<Cell<u32>>,
    pub bell: u32,
}

impl Program {
    /// Where the rings of socket `id` lie.
    pub fn rings(&self, id: u16) -> Rings {
        let off = (id as u32) << RING_BITS;
        Rings { tx_off: off, tx_bits: RING_BITS, rx_off: off, rx_bits: RING_BITS }
    }

    pub fn submit(&mut self, id: u16) {
        assert!(self.submit.push([id as u64]).expect("an honest netd"));
        if self.submit.publish() {
            self.bells.set(self.bells.get() | self.bell);
        }
    }

    /// Takes every id that has news.
    pub fn take_ready(&mut self) {
        while self.ready.pop().expect("an honest netd").is_some() {}
        self.ready.release();
        let _ = self.ready.sleep();
    }

    /// Copies between a ring and `n` bytes at hand.
    pub fn pieces(at: u64, n: usize, id: u16) -> [(usize, usize); 2] {
        let size = 1usize << RING_BITS;
        let (base, start) = ((id as usize) << RING_BITS, at as usize % size);
        let first = n.min(size - start);
        [(base + start, first), (base, n - first)]
    }
}

/// All of it.
pub struct World {
    pub setup: Setup,
    pub programs: Vec<Program>,
    pub driver: DriverParts,
}

/// What the driver begins with once netd has formatted its rings.
pub struct DriverParts {
    port: PortMemory,
    headers: Bytes,
}

impl DriverParts {
    pub fn start(self) -> Driver {
        let p = self.port;
        let mut mac = [0; 8];
        mac[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        p.status.mac.store(u64::from_le_bytes(mac), Relaxed);
        p.status.link.store(1, Relaxed);
        p.status.speed.store(1000, Relaxed);
        p.status.max_frame.store(1514, Relaxed);
        p.status.caps.store(nic::caps::TX_CSUM, Relaxed);
        p.status.version.fetch_add(1, Release);
        Driver {
            pool: p.pool,
            headers: self.headers,
            rx_free: p.rx_free.consumer().expect("formatted"),
            rx_used: p.rx_used.producer().expect("formatted"),
            tx_used: p.tx_used.consumer().expect("formatted"),
            tx_free: p.tx_free.producer().expect("formatted"),
        }
    }
}

fn port(drv: Region, net: Region, pool: Bytes, headers: Bytes) -> PortMemory {
    let n = nic::RING;
    PortMemory {
        groups: &net.view::<nic::Groups>(offset::GROUPS, 1)[0],
        status: &drv.view::<Status>(offset::STATUS, 1)[0],
        pool,
        headers,
        rx_free: ring((net, offset::RX_FREE_PRODUCER), (drv, offset::RX_FREE_CONSUMER), n),
        rx_used: ring((drv, offset::RX_USED_PRODUCER), (net, offset::RX_USED_CONSUMER), n),
        tx_used: ring((net, offset::TX_USED_PRODUCER), (drv, offset::TX_USED_CONSUMER), n),
        tx_free: ring((drv, offset::TX_FREE_PRODUCER), (net, offset::TX_FREE_CONSUMER), n),
    }
}

fn session(
    number: usize,
    sockets: u32,
    bells: Rc<Cell<u32>>,
) -> (SessionSpec, SessionMemory, Program) {
    let layout = Layout { sockets };
    let (app, net) = (Region::new(layout.app_bytes()), Region::new(layout.net_bytes()));
    let len = (sockets as usize) << RING_BITS;
    let (tx, rx) = (Region::new(len), Region::new(len));
    let spec = SessionSpec {
        program: format!("program{number}").parse().expect("a short name"),
        sockets,
        tx_len: len as u32,
        rx_len: len as u32,
        bind: [(1, u16::MAX)].into_iter().collect(),
        connect: true,
        broadcast: true,
        ping: true,
        raw: false,
        capture: false,
    };
    let memory = SessionMemory {
        records: net.view::<Record>(layout.record(0), sockets as usize),
        apps: app.view::<AppSock>(layout.app_sock(0), sockets as usize),
        tx: tx.bytes(),
        rx: rx.bytes(),
        submit: ring((app, Layout::PRODUCER), (net, Layout::SUBMIT_CONSUMER), sockets),
        ready: ring((net, Layout::PRODUCER), (app, Layout::READY_CONSUMER), sockets),
        link: &net.view::<AtomicU64>(Layout::LINK, 1)[0],
        watch: &app.view::<AtomicU64>(Layout::WATCH, 1)[0],
    };
    let program = Program {
        memory,
        submit: memory.submit.producer_anew(),
        ready: memory.ready.consumer_at_tail().unwrap_or_else(|_| {
            // netd has not formatted it yet: an empty ring is the same.
            memory.ready.producer_anew();
            memory.ready.consumer().expect("formatted")
        }),
        bells,
        bell: 1 << number,
    };
    (spec, memory, program)
}

impl World {
    /// Memory for programs with `sockets` sockets each.
    pub fn new(programs: usize, sockets: u32) -> Self {
        let (drv, net) = (Region::new(offset::DRV_BYTES), Region::new(offset::NET_BYTES));
        let pool = Region::new((nic::RX_BUFFERS * nic::RX_BUFFER_SIZE) as usize).bytes();
        let headers = Region::new(256 * 1024).bytes();
        let state = Region::new(64 * 1024);
        let waits = (64 * 1024 - TIME_WAIT_OFFSET) / size_of::<netd::timewait::WaitRecord>();
        let mut sessions = Vec::new();
        let mut ends = Vec::new();
        let bells = Rc::new(Cell::new(0));
        for number in 0..programs {
            let (spec, memory, program) = session(number, sockets, bells.clone());
            sessions.push((spec, memory));
            ends.push(program);
        }
        let setup = Setup {
            nic: NicSetup {
                port: port(drv, net, pool, headers),
                addressing: Addressing::Static {
                    addr: US,
                    prefix: 24,
                    gateway: Some(GATEWAY),
                    dns: None,
                },
                ip6: Addressing6::Off,
            },
            other_nics: Vec::new(),
            loopback: Region::new(LOOPBACK).bytes(),
            hard: &state.view::<HardState>(0, 1)[0],
            time_wait: state.view(TIME_WAIT_OFFSET, waits - waits / 4),
            requests: state.view(TIME_WAIT_OFFSET + (waits - waits / 4) * 64, waits / 4),
            sessions,
            utc_at_boot: None,
            memory: Region::new(Setup::MEMORY).bytes(),
            seed: [7; 32],
            settings: Settings::default(),
        };
        let driver = DriverParts { port: port(drv, net, pool, headers), headers };
        Self { setup, programs: ends, driver }
    }
}
