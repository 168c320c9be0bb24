//! Typed views of the regions that init mapped: with `copy` everything of netd that is unsafe.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use libipc::nic::{self, Status, offset};
use libipc::ring::{Entry, Memory};
use libipc::shared::Bytes;
use libipc::sock::{
    AppSock, IdEntry, Layout, MAX_SESSIONS, MAX_SOCKETS, Record, SessionSpec, SessionTable,
};
use libipc::start::{Region, StartInfo};
use netd::dev::NICS;
use netd::env::Event;
use netd::port::PortMemory;
use netd::request::RequestRecord;
use netd::session::SessionMemory;
use netd::state::{HardState, TIME_WAIT_OFFSET};
use netd::timewait::WaitRecord;
use netd::{Addressing, Addressing6, NicSetup, Settings, Setup};

/// Own notification: the timer.
pub const TIMER_BIT: u64 = 2;
/// The last part of `nic.tx` is for frames to ourselves.
const LOOPBACK: usize = 256 * 1024;

/// The surroundings of the stack in the guest.
#[derive(Default)]
pub struct Guest {
    /// What was taken over at the start.
    pub recovered: Option<Event>,
}

/// Capabilities.
pub struct Caps {
    /// Own endpoint.
    pub own: abi::CPtr,
    /// Reply object.
    pub reply: abi::CPtr,
    /// Timer.
    pub timer: abi::CPtr,
    /// Drivers' notifications.
    pub drivers: Vec<abi::CPtr>,
    /// sockd's notification.
    pub sockd: abi::CPtr,
    /// Programs' notifications by session.
    pub sessions: Vec<abi::CPtr>,
}

type Missing = &'static str;

/// Region `name` of at least `len` bytes.
fn region(
    start: &'static StartInfo,
    name: &str,
    len: usize,
    missing: Missing,
) -> Result<&'static Region, Missing> {
    start.region(name).filter(|r| r.vaddr != 0 && r.len as usize >= len).ok_or(missing)
}

fn bytes(region: &Region, from: usize, len: usize) -> Bytes {
    assert!(from + len <= region.len as usize, "inside the region");
    // SAFETY: init maps the region for the life of the process, with the rights that its use needs
    // (manifest), and no reference into a byte region is made anywhere.
    unsafe { Bytes::new((region.vaddr as usize + from) as *mut u8, len) }
}

/// A ring whose sides lie at the given offsets of two regions; callers have checked the lengths.
fn ring<E: Entry>(
    producer: (&Region, usize),
    consumer: (&Region, usize),
    capacity: u32,
) -> Memory<E> {
    let at = |(region, offset): (&Region, usize)| region.vaddr as usize + offset;
    // SAFETY: both regions are mapped for the life of the process and long enough for their
    // layouts (checked by `region`); these parts of them are used by this ring only.
    unsafe { Memory::new(at(producer), at(consumer), capacity) }
}

/// How a card of which nobody says anything gets its addresses.
const DEFAULT: (Addressing, Addressing6) = (Addressing::Dhcp, Addressing6::Auto);

/// Name of a part of card `n`: those of the first are `nic`'s, of the second `nic1`'s.
fn numbered(what: &str, n: usize, part: &str) -> Option<libipc::Name> {
    use core::fmt::Write;
    let mut name = libipc::Name::new();
    match n {
        0 => write!(name, "{what}.{part}").ok()?,
        n => write!(name, "{what}{n}.{part}").ok()?,
    }
    Some(name)
}

/// What netd and the driver of card `n` share, and the driver's notification; `None`: there is no such card.
fn card(
    start: &'static StartInfo,
    n: usize,
    (addressing, ip6): (Addressing, Addressing6),
) -> Result<Option<(NicSetup, abi::CPtr)>, Missing> {
    let name = |part| numbered("nic", n, part).ok_or("a card's name");
    if start.region(&name("drv")?).is_none() {
        return Ok(None);
    }
    let part = |part, len| region(start, &name(part)?, len, "a card's region");
    let drv = part("drv", offset::DRV_BYTES)?;
    let net = part("net", offset::NET_BYTES)?;
    let pool = part("rx", (nic::RX_BUFFERS * nic::RX_BUFFER_SIZE) as usize)?;
    let headers = part("tx", 2 * LOOPBACK)?;
    // Behind those of the first card are frames to ourselves.
    let header_len = headers.len as usize - if n == 0 { LOOPBACK } else { 0 };
    let port = PortMemory {
        // SAFETY: mapped for the life of the process and long enough; all its fields are atomic.
        status: unsafe { &*((drv.vaddr as usize + offset::STATUS) as *const Status) },
        // SAFETY: likewise.
        groups: unsafe { &*((net.vaddr as usize + offset::GROUPS) as *const nic::Groups) },
        pool: bytes(pool, 0, pool.len as usize),
        headers: bytes(headers, 0, header_len),
        rx_free: ring((net, offset::RX_FREE_PRODUCER), (drv, offset::RX_FREE_CONSUMER), nic::RING),
        rx_used: ring((drv, offset::RX_USED_PRODUCER), (net, offset::RX_USED_CONSUMER), nic::RING),
        tx_used: ring((net, offset::TX_USED_PRODUCER), (drv, offset::TX_USED_CONSUMER), nic::RING),
        tx_free: ring((drv, offset::TX_FREE_PRODUCER), (net, offset::TX_FREE_CONSUMER), nic::RING),
    };
    let driver = numbered("e1000d", n, "events").ok_or("a card's name")?;
    let driver = start.cap(&driver).ok_or("a driver's notification")?;
    Ok(Some((NicSetup { port, addressing, ip6 }, driver)))
}

/// Finds everything that the manifest promises.
///
/// # Errors
/// The name of what is missing or too small.
pub fn setup(
    start: &'static StartInfo,
    addressing: &[(Addressing, Addressing6)],
) -> Result<(Setup, Caps), Missing> {
    let headers = region(start, "nic.tx", 2 * LOOPBACK, "nic.tx")?;
    let loopback = bytes(headers, headers.len as usize - LOOPBACK, LOOPBACK);
    let mut cards = Vec::new();
    for (n, how) in (0..NICS).zip(addressing.iter().chain(core::iter::repeat(&DEFAULT))) {
        match card(start, n, *how)? {
            Some(card) => cards.push(card),
            None => break,
        }
    }
    if addressing.len() > cards.len() {
        return Err("a network card of which the arguments speak");
    }
    let (nics, drivers): (Vec<_>, Vec<_>) = cards.into_iter().unzip();
    let mut nics = nics.into_iter();
    let nic = nics.next().ok_or("nic.drv")?;
    let state = region(start, "netd.state", size_of::<HardState>(), "netd.state")?;
    let (sessions, signals) = sessions(start)?;
    // A quarter of the records is for handshakes.
    let records = (state.len as usize).saturating_sub(TIME_WAIT_OFFSET) / size_of::<WaitRecord>();
    let waits = records - records / 4;
    let waits_at = (state.vaddr as usize + TIME_WAIT_OFFSET) as *const WaitRecord;
    let requests_at = waits_at.wrapping_add(waits).cast::<RequestRecord>();
    let setup = Setup {
        nic,
        other_nics: nics.collect(),
        loopback,
        // SAFETY: as for the status page; `region` checked the length, pages are aligned.
        hard: unsafe { &*(state.vaddr as *const HardState) },
        // SAFETY: likewise; the records fill what is left of the region.
        time_wait: unsafe { core::slice::from_raw_parts(waits_at, waits) },
        // SAFETY: likewise, and both kinds are of one size.
        requests: unsafe { core::slice::from_raw_parts(requests_at, records - waits) },
        sessions,
        utc_at_boot: start.utc_at_boot,
        memory: Bytes::of(alloc::vec![0; Setup::MEMORY].leak()),
        seed: start.seed,
        settings: Settings::default(),
    };
    let cap = |name: &'static str| start.cap(name).ok_or(name);
    let caps = Caps {
        own: cap("self")?,
        reply: cap("reply")?,
        timer: cap("timer")?,
        drivers,
        sockd: cap("sockd.events")?,
        sessions: signals,
    };
    Ok((setup, caps))
}

/// What the manifest says about each session, and its memory.
type Sessions = Vec<(SessionSpec, SessionMemory)>;

/// The table that says which sessions there are, and the memory and notification of each.
fn sessions(start: &'static StartInfo) -> Result<(Sessions, Vec<abi::CPtr>), Missing> {
    let table = region(start, "sessions", 4, "sessions")?;
    let table = bytes(table, 0, table.len as usize);
    let mut len = [0; 4];
    let mut text = alloc::vec![0; 4096.min(table.len() - 4)];
    let read = table.read(0, &mut len) && table.read(4, &mut text);
    let len = u32::from_le_bytes(len) as usize;
    let specs: SessionTable = text
        .get(..len)
        .filter(|_| read)
        .and_then(|t| postcard::from_bytes(t).ok())
        .ok_or("the session table")?;
    let mut memories = Vec::with_capacity(MAX_SESSIONS);
    let mut signals = Vec::with_capacity(MAX_SESSIONS);
    for (i, spec) in specs.iter().enumerate() {
        memories.push((spec.clone(), session(start, i, spec)?));
        let name = name(i, "events").ok_or("a session's name")?;
        signals.push(start.cap(&name).ok_or("a session's notification")?);
    }
    Ok((memories, signals))
}

fn name(session: usize, part: &str) -> Option<libipc::Name> {
    use core::fmt::Write;
    let mut name = libipc::Name::new();
    write!(name, "session.{session}.{part}").ok()?;
    Some(name)
}

fn session(
    start: &'static StartInfo,
    i: usize,
    spec: &SessionSpec,
) -> Result<SessionMemory, Missing> {
    let sockets = spec.sockets;
    if !sockets.is_power_of_two() || sockets > MAX_SOCKETS {
        return Err("a session's number of sockets");
    }
    let layout = Layout { sockets };
    let part = |part: &str, len: usize| {
        let name = name(i, part).ok_or("a session's name")?;
        region(start, &name, len, "a session's region")
    };
    let app = part("app", layout.app_bytes())?;
    let net = part("net", layout.net_bytes())?;
    let tx = part("tx", spec.tx_len as usize)?;
    let rx = part("rx", spec.rx_len as usize)?;
    // SAFETY: both regions are mapped for the life of the process, long enough (checked), page
    // aligned, with tables and words at multiples of their alignment (`Layout`); all are atomic.
    let (records, apps, link, watch) = unsafe {
        let records = (net.vaddr as usize + layout.record(0)) as *const Record;
        let apps = (app.vaddr as usize + layout.app_sock(0)) as *const AppSock;
        (
            core::slice::from_raw_parts(records, sockets as usize),
            core::slice::from_raw_parts(apps, sockets as usize),
            &*((net.vaddr as usize + Layout::LINK) as *const AtomicU64),
            &*((app.vaddr as usize + Layout::WATCH) as *const AtomicU64),
        )
    };
    Ok(SessionMemory {
        records,
        apps,
        tx: bytes(tx, 0, spec.tx_len as usize),
        rx: bytes(rx, 0, spec.rx_len as usize),
        submit: ring::<IdEntry>((app, Layout::PRODUCER), (net, Layout::SUBMIT_CONSUMER), sockets),
        ready: ring::<IdEntry>((net, Layout::PRODUCER), (app, Layout::READY_CONSUMER), sockets),
        link,
        watch,
    })
}
