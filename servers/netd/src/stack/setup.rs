//! What a stack is made from.

use super::fair::{QUANTUM, Turns};
use super::groups::Groups;
use super::link::LinkNews;
use super::nic::{Nic, NicSetup, Nics};
use super::packet::Ids;
use super::pending::{self, Pending};
use super::raw::Raws;
use super::sock::Sock;
use super::sock::{Body, Place, Queued};
use super::tap::Taps;
use super::turns::Own;
use super::tx::LoopQueue;
use super::ways::Ways;
use super::{Stack, icmp};
use crate::demux::{ANY, Demux};
use crate::dev::Dev;
use crate::env::{Counters, Env, SessionFault};
use crate::fastopen::Cache;
use crate::iface::Iface;
use crate::list::Links;
use crate::neigh::Neighbours;
use crate::paths::Paths;
use crate::ports::Ports;
use crate::reassembly::{self, Reassembly};
use crate::request::{RequestRecord, Requests};
use crate::session::{Session, SessionMemory};
use crate::settings::Settings;
use crate::state::HardState;
use crate::tcp::{Gauge, Levels, Memory, Pool};
use crate::timewait::{TimeWait, WaitRecord};
use crate::wheel::Wheel;
use alloc::rc::Rc;
use alloc::vec::Vec;
use libipc::link::Link;
use libipc::log::Pace;
use libipc::net::Rings;
use libipc::shared::Bytes;
use libipc::sock::SessionSpec;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Ranges of what is in flight that connections share, beyond one each: 64 connections with all that one may
/// have at a time, 256 KiB. Each program has an equal part of them.
const SHARED_RANGES: usize = 8192;

/// What a stack is made from.
pub struct Setup {
    /// The first network card.
    pub nic: NicSetup,
    /// Others; those beyond [`NICS`](crate::dev::NICS) in all are left out.
    pub other_nics: Vec<NicSetup>,
    /// Memory for frames to ourselves.
    pub loopback: Bytes,
    /// netd's own memory for packets: [`Setup::MEMORY`] bytes.
    pub memory: Bytes,
    /// `netd.state`.
    pub hard: &'static HardState,
    /// Of the rest of `netd.state`, for TIME-WAIT.
    pub time_wait: &'static [WaitRecord],
    /// For handshakes.
    pub requests: &'static [RequestRecord],
    /// Sessions by number.
    pub sessions: Vec<(SessionSpec, SessionMemory)>,
    /// Nanoseconds from the beginning of 1970 to the zero of the stack's clock, if it is known.
    pub utc_at_boot: Option<u64>,
    /// Random bytes.
    pub seed: [u8; 32],
    /// Choices for the whole stack.
    pub settings: Settings,
}

impl Setup {
    /// Bytes of [`Setup::memory`].
    pub const MEMORY: usize = reassembly::BYTES + pending::BYTES;
}

/// Each program's share of what connections need beside their rings, and the measure of what they hold in all.
fn pools(sessions: &[Session], all: Option<Levels>) -> (Vec<Rc<Pool>>, Rc<Gauge>) {
    let rings = |s: &Session| (s.mem.tx.len() + s.mem.rx.len()) as u64;
    let total = Levels::of_rings(sessions.iter().map(rings).sum());
    let all = Rc::new(Gauge::new(all.unwrap_or(total)));
    let programs = sessions.len().max(1);
    let pool = |s: &Session| {
        let memory = Memory::new(Levels::of_rings(rings(s)), all.clone(), programs as u32);
        Rc::new(Pool::new(s.sockets() as usize, SHARED_RANGES / programs, memory))
    };
    (sessions.iter().map(pool).collect(), all)
}

impl<E: Env> Stack<E> {
    /// Builds the stack, from records where there are any.
    pub fn new(setup: Setup, env: E, now: u64) -> Self {
        let sockets: usize = setup.sessions.iter().map(|(_, mem)| mem.records.len()).sum();
        let hard = setup.hard;
        // Keys of their own for each purpose.
        let mut random = ChaCha20Rng::from_seed(setup.seed);
        let mut keys = [0; 32];
        random.fill_bytes(&mut keys);
        let secrets = hard.secrets(&keys);
        let key = random.next_u64();
        let [first_hard, other_hard @ ..] = &hard.nics;
        let (first, fault) = Nic::new(setup.nic, first_hard);
        let others = setup.other_nics.into_iter().zip(other_hard);
        let others = others.map(|(nic, hard)| Nic::new(nic, hard));
        let (others, mut card_faults): (Vec<_>, Vec<_>) = others.unzip();
        card_faults.insert(0, fault);
        let nics = Nics::new(first, others);
        let mut sessions = Vec::with_capacity(setup.sessions.len());
        let mut socks = Vec::with_capacity(sockets);
        let mut faults = Vec::new();
        for (number, (spec, mem)) in setup.sessions.into_iter().enumerate() {
            let base = socks.len() as u32;
            socks.extend(mem.records.iter().enumerate().map(|(id, rec)| Sock {
                rec,
                journal: &hard.journal,
                session: number as u16,
                id: id as u16,
                local: ANY.into(),
                remote: ANY.into(),
                rings: Rings { tx_off: 0, tx_bits: 0, rx_off: 0, rx_bits: 0 },
                body: Body::Free,
                queued: Queued::No,
                credit: QUANTUM,
                listener: crate::list::NONE,
                place: Place::Nowhere,
                out: Dev::FIRST,
                device: 0,
            }));
            let (mut session, result) = Session::new(spec, mem, base);
            let in_flight = |nic: &Nic| nic.port.in_flight_of(number as u16);
            session.in_flight = nics.iter().map(in_flight).sum();
            if let Err(e) = result {
                faults.push((number as u16, e));
            }
            sessions.push(session);
        }
        let (fragments, pending) = setup.memory.split(reassembly::BYTES);
        let (pools, memory) = pools(&sessions, setup.settings.tcp_mem);
        let numbers = sockets + setup.time_wait.len() + setup.requests.len();
        let bells = ((1u64 << sessions.len()) - 1) as u32;
        let said = sessions.iter().map(|s: &Session| Link::load(s.mem.link));
        let said = said.max_by_key(|l| l.version).unwrap_or_default();
        let mut stack = Self {
            env,
            now,
            turns: Turns::new(),
            nics,
            loopback: LoopQueue::new(setup.loopback),
            taps: Taps::new(),
            raws: Raws::new(),
            hard,
            secrets,
            bells,
            demux: Demux::new(numbers, key),
            ports: Ports::new(sockets + setup.time_wait.len()),
            wheel: Wheel::new(numbers + Own::COUNT, now),
            time_wait: TimeWait::new(setup.time_wait),
            requests: Requests::new(setup.requests),
            send_links: Links::new(sockets),
            listen_links: Links::new(sockets),
            pools,
            memory,
            neighbours: Neighbours::new(random.next_u64()),
            pending: Pending::new(pending),
            reassembly: Reassembly::new(fragments, random.next_u64()),
            groups: Groups::default(),
            paths: Paths::new(random.next_u64()),
            ways: Ways::new(),
            fast: Cache::new(random.next_u64()),
            ids: Ids::new(|| random.next_u64()),
            iface: Iface::new(),
            link: LinkNews::new(said),
            settings: setup.settings,
            utc_at_boot: setup.utc_at_boot,
            random: random.next_u64(),
            port_counter: 0,
            orphans: 0,
            icmp_tokens: icmp::TOKENS,
            answered: [(core::net::Ipv4Addr::UNSPECIFIED, [0; 4]); icmp::ANSWERED],
            icmp_refilled: now,
            signal_sockd: false,
            driver_pace: Pace::default(),
            nonsense_pace: Pace::default(),
            counters: Counters::default(),
            // A predecessor may have published without signalling.
            news: bells,
            ending: 0,
            sessions,
            socks,
        };
        for (dev, fault) in Dev::first(card_faults.len()).zip(card_faults) {
            if let Some(fault) = fault {
                stack.note_driver_fault(dev, fault);
            }
        }
        for (session, e) in faults {
            stack.session_fault(session, SessionFault::Ring(e));
        }
        stack.configure();
        stack.recover();
        stack.publish();
        stack
    }
}
