//! The stack: sockets, tables and timers around the protocol modules, and the turn of the wheel
//! ([`Stack::poll`]).
//!
//! | file | what |
//! |---|---|
//! | `setup` | what a stack is made from |
//! | `turns` | one turn: what has arrived, what is due, what may leave |
//! | `sock` | socket numbers: what each is, how it becomes free |
//! | `rx` | frames to protocols |
//! | `fast`, `fast_tx` | the frame that was expected, to its connection; plain segments out |
//! | `ways` | ways that were found lately |
//! | `tx` | frames out: headers, payload by reference or copied, routes, neighbours |
//! | `tcp`, `tcp_out` | segments to connections, segments out |
//! | `listen` | listeners: spares, handshakes, connections that wait |
//! | `request` | handshakes that others have begun |
//! | `timewait` | connections that no program holds any more |
//! | `fair` | whose turn it is to send |
//! | `dgram`, `dgram_out` | UDP and ICMP echo sockets |
//! | `notices` | what datagram sockets are told of errors |
//! | `ipv4` | which packets of IPv4 are taken; options, fragments |
//! | `icmp` | echo, timestamps, errors sent |
//! | `reports` | errors, path MTUs and redirects that others report |
//! | `arp` | ARP, the neighbour table's requests and timers |
//! | `packet` | IP packets out, whole or in fragments |
//! | `label` | flow labels of IPv6 |
//! | `pending` | packets of no socket that wait for a neighbour |
//! | `groups` | multicast groups |
//! | `nic` | network cards: what each has for itself |
//! | `iface` | their links, addresses, DHCP |
//! | `link` | what programs are told of the interface |
//! | `submit` | what programs submit |
//! | `bind`, `connect` | which addresses and ports sockets have; active opens |
//! | `ports` | who may have which port beside whom |
//! | `control`, `status` | requests of sockd and the shell |
//! | `recover` | everything from records |

mod arp;
mod bind;
#[cfg(feature = "crash-points")]
mod check;
mod connect;
mod control;
mod device;
mod dgram;
mod dgram_out;
mod fair;
mod fast;
mod fast_tx;
mod fastopen;
mod filter;
mod groups;
mod icmp;
mod icmp6;
mod iface;
mod igmp;
mod info;
mod ip6;
mod ipv4;
mod label;
mod link;
mod listen;
mod mld;
mod ndp;
mod nic;
mod notices;
mod packet;
mod pending;
mod ports;
mod raw;
mod recover;
mod reports;
mod request;
mod routers;
mod rx;
mod rx6;
mod setup;
mod short_in;
mod short_out;
mod sock;
mod sources;
mod status;
mod submit;
mod tap;
mod tcp;
mod tcp_out;
mod timewait;
mod turns;
mod tx;
mod ways;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::{IpAddr, Ipv4Addr};
use libipc::log::Pace;
use siphasher::sip::SipHasher13;

use crate::demux::{Demux, Tuple};
use crate::dev::Dev;
use crate::env::{Counters, Env};
use crate::fastopen::Cache;
use crate::iface::Iface;
use crate::list::Links;
use crate::neigh::Neighbours;
use crate::paths::Paths;
use crate::ports::Ports;
use crate::reassembly::Reassembly;
use crate::request::Requests;
use crate::session::Session;
use crate::settings::Settings;
use crate::state::{HardState, Secrets};
use crate::tcp::{Gauge, Pool};
use crate::timewait::TimeWait;
use crate::wheel::Wheel;
use crate::wire::ethernet::Mac;
use fair::Turns;
use groups::Groups;
use link::LinkNews;
pub use nic::NicSetup;
use nic::Nics;
use packet::Ids;
use pending::Pending;
use raw::Raws;
pub use setup::Setup;
use sock::{Body, Listener, Place, Queued, Served, Sock};
use tap::Taps;
use tx::LoopQueue;
use ways::Ways;

/// The stack.
pub struct Stack<E> {
    /// The surroundings.
    pub env: E,
    now: u64,
    nics: Nics,
    loopback: LoopQueue,
    taps: Taps,
    raws: Raws,
    hard: &'static HardState,
    secrets: Secrets,
    sessions: Vec<Session>,
    /// Doorbells that rang (a bit a session).
    bells: u32,
    /// Sessions whose programs have something to be told (a bit each).
    news: u32,
    /// Sessions whose end waits for frames to come back (a bit each).
    ending: u32,
    socks: Vec<Sock>,
    /// Numbers after the sockets' are records in TIME-WAIT, then handshakes.
    demux: Demux,
    /// Numbers up to those of TIME-WAIT.
    ports: Ports,
    /// Likewise, then three of the stack's own.
    wheel: Wheel,
    time_wait: TimeWait,
    requests: Requests,
    send_links: Links,
    turns: Turns,
    listen_links: Links,
    /// What connections have in flight and hold, by session.
    pools: Vec<Rc<Pool>>,
    /// What all of them hold.
    memory: Rc<Gauge>,
    neighbours: Neighbours,
    pending: Pending,
    reassembly: Reassembly,
    groups: Groups,
    paths: Paths,
    ways: Ways,
    fast: Cache,
    ids: Ids,
    iface: Iface,
    link: LinkNews,
    settings: Settings,
    utc_at_boot: Option<u64>,
    random: u64,
    port_counter: u32,
    /// Connections that no program holds.
    orphans: u32,
    icmp_tokens: u32,
    /// Echo requests answered lately: whose, and their identifier and number.
    answered: [(Ipv4Addr, [u8; 4]); icmp::ANSWERED],
    icmp_refilled: u64,
    /// Something was freed that sockd does not know of.
    signal_sockd: bool,
    driver_pace: Pace,
    nonsense_pace: Pace,
    counters: Counters,
}

/// Who must be signalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Drivers, a bit a card.
    pub drivers: u8,
    /// sockd: something was freed.
    pub sockd: bool,
    /// Programs, a bit a session.
    pub sessions: u32,
}

impl<E: Env> Stack<E> {
    /// Counters.
    pub fn counters(&self) -> Counters {
        let mut c = self.counters;
        c.memory_pressures = self.memory.times();
        for pool in &self.pools {
            let memory = pool.memory();
            c.memory_pressures += memory.own().times();
            c.out_of_order_pruned += memory.prunes.get();
            c.out_of_order_dropped += memory.dropped.get();
            c.ranges_refused += pool.refused();
        }
        c
    }

    /// Changes what was chosen for the whole stack.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }
    /// What was chosen for the whole stack.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// A random number. Not for secrets: those are hashed with keys of their own.
    fn random(&mut self) -> u32 {
        // SplitMix64 (public domain, Vigna).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as u32
    }

    fn keyed(&self, key: (u64, u64), tuple: &Tuple) -> u64 {
        let mut h = SipHasher13::new_with_keys(key.0, key.1);
        tuple.feed(&mut h);
        h.finish()
    }

    /// The number of socket `id` of `session`, if there is one.
    fn number(&self, session: u16, id: u16) -> Option<u32> {
        let s = self.sessions.get(session as usize)?;
        ((id as u32) < s.sockets()).then(|| s.base + id as u32)
    }

    fn sock(&mut self, i: u32) -> &mut Sock {
        &mut self.socks[i as usize]
    }

    /// The first address of IPv4, and the length of its prefix.
    pub fn address(&self) -> Option<(IpAddr, u8)> {
        self.iface.addrs().iter().find(|a| a.addr.is_ipv4()).map(|a| (a.addr, a.prefix))
    }
    /// All addresses of this host, with the lengths of their prefixes; of IPv6 those that are
    /// settled.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        let v4 = self.iface.addrs().iter().filter(|a| a.addr.is_ipv4()).map(|a| (a.addr, a.prefix));
        let v6 = self.nics.iter().flat_map(|n| n.ip6.addresses.iter()).filter(|a| a.is_ours());
        v4.chain(v6.map(|a| (IpAddr::V6(a.ip), a.prefix)))
    }
    /// The hardware address of the first card.
    pub fn mac(&self) -> Mac {
        self.nics[Dev::FIRST].mac
    }
}
