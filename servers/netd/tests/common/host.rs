//! A machine: memory, a driver and programs, around a stack that may die and be built again.

use super::card::{Card, CardSpec, port_memory};
use super::memory::ring;
use super::offload::{ip_end, offload, segments};
use super::{MS, Prog, Region, Rng, S};
use libipc::net::{Reply, Request, badge};
use libipc::nic::{
    self, RxFree, RxUsed, Status, TxDesc, TxFree, WINDOW_SESSION, WINDOW_TX, offset,
};
use libipc::ring::{Consumer, Producer};
use libipc::sock::{AppSock, Error, IdEntry, Layout, Record, SessionSpec};
use netd::env::{Env, Event};
use netd::port::PortMemory;
use netd::request::RequestRecord;
use netd::session::SessionMemory;
use netd::state::{HardState, TIME_WAIT_OFFSET};
use netd::timewait::WaitRecord;
use netd::{Addressing, Addressing6, NicSetup, Settings, Setup, Stack};
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::*};

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
    /// Network cards beside the first one.
    pub cards: Vec<CardSpec>,
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
            cards: Vec::new(),
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
    pub cards: Vec<Card>,
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
    pub(super) spares: Vec<(u16, u16)>,
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
        raw: true,
        capture: true,
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        (self.stack, self.driver) = (None, None);
        self.progs.clear();
        let sessions = self.regions.iter().flat_map(|r| [r.app, r.net, r.tx, r.rx]);
        let own =
            [self.drv, self.net, self.pool, self.headers, self.state, self.loopback, self.memory];
        let cards = self.cards.iter().flat_map(Card::regions);
        for region in sessions.chain(own).chain(cards) {
            // SAFETY: stack, driver and programs have just ended, and tests keep no record longer.
            unsafe { region.give_back() };
        }
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
        let cards = spec.cards.iter().map(|card| Card::new(*card)).collect();
        let mut host = Self {
            spec,
            drv: Region::new(offset::DRV_BYTES),
            net: Region::new(offset::NET_BYTES),
            pool: Region::new((nic::RX_BUFFERS * nic::RX_BUFFER_SIZE) as usize),
            headers: Region::new(256 * 1024),
            state: Region::new(12288),
            loopback: Region::new(LOOPBACK),
            memory: Region::new(Setup::MEMORY),
            regions,
            permits,
            stack: None,
            log: Log::default(),
            driver: None,
            cards,
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
        host.cards.iter_mut().for_each(Card::start);
        host
    }

    fn port(&self) -> PortMemory {
        port_memory(self.drv, self.net, self.pool, self.headers)
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
            nic: NicSetup {
                port: self.port(),
                addressing: self.spec.addressing,
                ip6: self.spec.ip6,
            },
            other_nics: self.cards.iter().map(Card::setup).collect(),
            loopback: self.loopback.bytes(),
            hard: &self.state.view::<HardState>(0, 1)[0],
            time_wait: self.state.view::<WaitRecord>(TIME_WAIT_OFFSET, self.spec.time_wait),
            requests: self.state.view::<RequestRecord>(
                TIME_WAIT_OFFSET + self.spec.time_wait * size_of::<WaitRecord>(),
                self.spec.requests,
            ),
            sessions,
            utc_at_boot: None,
            memory: self.memory.bytes(),
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
