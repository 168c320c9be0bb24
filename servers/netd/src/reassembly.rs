//! Fragments put together again (RFC 791 3.2, RFC 8200 4.5), for both families.
//!
//! Payload lies in pages of one pool; which units of eight bytes have come is a bitmap a packet, so
//! that a fragment costs what it is long, wherever it belongs. Overlaps end the packet (RFC 5722;
//! Linux does so for IPv4, too), an exact repetition is passed over. Who is short of memory takes it
//! from the packet that has waited longest.

use crate::env::{At, Env};
use crate::list::{Ends, Links};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use libipc::shared::Bytes;

const S: u64 = 1_000_000_000;
/// How long fragments wait for the others: as Linux (`ipfrag_time`), and RFC 8200 4.5.
const V4_NS: u64 = 30 * S;
const V6_NS: u64 = 60 * S;
/// Longest payload.
pub const PAYLOAD_MAX: usize = 65_535;
/// Where whole packets are put together: the first bytes of the memory.
const SCRATCH: usize = 65_536;
const PAGE: usize = 2048;
/// Memory for so many pages: [`Reassembly::new`].
pub const BYTES: usize = SCRATCH + 256 * PAGE;
const SETS: usize = 32;
const WAYS: usize = 4;
/// Bytes of the first fragment's headers that are kept.
pub const HEADER_MAX: usize = 128;
const NO_PAGE: u16 = u16::MAX;

/// What fragments of one packet have in common (RFC 791; in IPv6 the protocol counts as 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Identification.
    pub id: u32,
    /// Protocol.
    pub protocol: u8,
}

/// A fragment.
pub struct Fragment<'a> {
    /// Where its payload lies.
    pub from: At<'a>,
    /// Bytes of it.
    pub len: usize,
    /// Where it belongs, a multiple of eight.
    pub offset: usize,
    /// It is not the last.
    pub more: bool,
    /// The headers before the payload, as they arrived.
    pub header: &'a [u8],
    /// Type of service, or traffic class: its ECN bits must fit the others'.
    pub tos: u8,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for the others.
    Waits,
    /// The packet is whole: so many bytes at the beginning of [`Reassembly::mem`], until the next
    /// call; its header is [`Reassembly::header`].
    Whole {
        /// Bytes of payload.
        len: usize,
        /// The ECN bits of the whole (RFC 3168 5.3).
        ecn: u8,
    },
    /// It was there already.
    Duplicate,
    /// It contradicts what was there: all of the packet is dropped.
    Overlap,
    /// Its length or offset is impossible: likewise.
    Malformed,
}

/// A packet that was not completed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Whose.
    pub key: Key,
    /// Bytes of its first fragment's payload, at the beginning of [`Reassembly::mem`]; its headers
    /// are [`Reassembly::header`]. `None`: the first fragment never came.
    pub first: Option<usize>,
}

struct Packet {
    key: Key,
    used: bool,
    /// When it began.
    since: u64,
    /// Bytes that have come; end of the last one known; whether that is the packet's end.
    meat: usize,
    end: usize,
    ends: bool,
    /// Kinds of ECN bits that have come, a bit each.
    ecn: u8,
    header: [u8; HEADER_MAX],
    header_len: usize,
    /// Bytes of the first fragment's payload.
    first: Option<usize>,
    pages: [u16; SCRATCH / PAGE],
    come: [u64; SCRATCH / 8 / 64],
}

const UNUSED: Packet = Packet {
    key: Key {
        src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        id: 0,
        protocol: 0,
    },
    used: false,
    since: 0,
    meat: 0,
    end: 0,
    ends: false,
    ecn: 0,
    header: [0; HEADER_MAX],
    header_len: 0,
    first: None,
    pages: [NO_PAGE; SCRATCH / PAGE],
    come: [0; SCRATCH / 8 / 64],
};

/// Packets that wait for fragments.
pub struct Reassembly {
    mem: Bytes,
    packets: Vec<Packet>,
    links: Links,
    /// Packets of IPv4 and of IPv6, oldest first.
    ages: [Ends; 2],
    free: Vec<u16>,
    header: [u8; HEADER_MAX],
    header_len: usize,
    hash_key: u64,
    /// Packets that gave way to others for lack of memory.
    pub evicted: u64,
}

impl Reassembly {
    /// On `mem`, of which [`BYTES`] are used; with less there are fewer pages, with less than 64 KiB
    /// there is no reassembly.
    pub fn new(mem: Bytes, hash_key: u64) -> Self {
        let pages = (mem.len().min(BYTES).saturating_sub(SCRATCH) / PAGE) as u16;
        let mut packets = Vec::with_capacity(SETS * WAYS);
        packets.resize_with(SETS * WAYS, || UNUSED);
        Self {
            mem,
            packets,
            links: Links::new(SETS * WAYS),
            ages: [Ends::EMPTY; 2],
            free: (0..pages).rev().collect(),
            header: [0; HEADER_MAX],
            header_len: 0,
            hash_key,
            evicted: 0,
        }
    }

    /// Where whole packets are.
    pub fn mem(&self) -> Bytes {
        self.mem
    }

    /// The headers of the packet of the last call.
    pub fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }

    fn set(&self, key: &Key) -> core::ops::Range<usize> {
        let fold = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_bits() as u64,
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ (ip.to_bits() as u64).rotate_left(23),
        };
        let mut h = self.hash_key;
        for word in [fold(key.src), fold(key.dst), (key.id as u64) << 8 | key.protocol as u64] {
            h = (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            h ^= h >> 32;
        }
        let set = (h >> 16) as usize % SETS;
        set * WAYS..(set + 1) * WAYS
    }

    /// The packet of `key`, new if need be.
    fn packet(&mut self, key: &Key, now: u64) -> usize {
        let set = self.set(key);
        let known = set.clone().find(|i| self.packets[*i].used && self.packets[*i].key == *key);
        if let Some(i) = known {
            return i;
        }
        let oldest = |i: &usize| (self.packets[*i].used, self.packets[*i].since);
        let i = set.clone().min_by_key(oldest).unwrap_or(set.start);
        if self.packets[i].used {
            self.evicted += 1;
            self.release(i);
        }
        self.packets[i] = Packet { key: *key, used: true, since: now, ..UNUSED };
        self.links.push(&mut self.ages[key.src.is_ipv6() as usize], i as u32);
        i
    }

    /// Gives everything of packet `i` back.
    fn release(&mut self, i: usize) {
        let packet = &mut self.packets[i];
        packet.used = false;
        for page in packet.pages.iter_mut().filter(|p| **p != NO_PAGE) {
            self.free.push(core::mem::replace(page, NO_PAGE));
        }
        self.links.remove(&mut self.ages[packet.key.src.is_ipv6() as usize], i as u32);
    }

    /// A page, if need be of the packet that began first; never of `but`.
    fn take_page(&mut self, but: usize) -> Option<u16> {
        while self.free.is_empty() {
            let oldest = self.ages.iter().filter_map(Ends::first).map(|i| i as usize);
            let oldest = oldest.filter(|i| *i != but).min_by_key(|i| self.packets[*i].since)?;
            self.evicted += 1;
            self.release(oldest);
        }
        self.free.pop()
    }

    /// A fragment has arrived at time `now`.
    pub fn insert<E: Env>(
        &mut self,
        env: &mut E,
        key: &Key,
        fragment: &Fragment<'_>,
        now: u64,
    ) -> Outcome {
        let i = self.packet(key, now);
        let outcome = self.take(env, i, fragment);
        if matches!(outcome, Outcome::Overlap | Outcome::Malformed) {
            self.release(i);
            return outcome;
        }
        let packet = &self.packets[i];
        if outcome == Outcome::Duplicate || !packet.ends || packet.meat != packet.end {
            return outcome;
        }
        let outcome = self.whole(env, i);
        self.release(i);
        outcome
    }

    fn take<E: Env>(&mut self, env: &mut E, i: usize, f: &Fragment<'_>) -> Outcome {
        // All but the last are whole units; what sticks out is cut off.
        let len = if f.more { f.len & !7 } else { f.len };
        let end = f.offset + len;
        let packet = &mut self.packets[i];
        let contradicts = if f.more {
            packet.ends && end > packet.end
        } else {
            end < packet.end || (packet.ends && end != packet.end)
        };
        if len == 0 || end > PAYLOAD_MAX || contradicts || f.header.len() > HEADER_MAX {
            return Outcome::Malformed;
        }
        packet.ends |= !f.more;
        packet.end = packet.end.max(end);
        let units = f.offset / 8..end.div_ceil(8);
        match packet.have(units.clone()) {
            0 => {}
            n if n == units.len() => return Outcome::Duplicate,
            _ => return Outcome::Overlap,
        }
        if !self.copy_in(env, i, f, len) {
            return Outcome::Malformed;
        }
        let packet = &mut self.packets[i];
        packet.mark(units);
        packet.meat += len;
        packet.ecn |= 1 << (f.tos & 3);
        if f.offset == 0 {
            packet.header_len = f.header.len();
            packet.header[..f.header.len()].copy_from_slice(f.header);
            packet.first = Some(len);
        }
        Outcome::Waits
    }

    /// Copies the payload into pages.
    fn copy_in<E: Env>(&mut self, env: &mut E, i: usize, f: &Fragment<'_>, len: usize) -> bool {
        let mut done = 0;
        while done < len {
            let at = f.offset + done;
            let (page, within) = (at / PAGE, at % PAGE);
            let part = (len - done).min(PAGE - within);
            if self.packets[i].pages[page] == NO_PAGE {
                let Some(new) = self.take_page(i) else { return false };
                self.packets[i].pages[page] = new;
            }
            let to = SCRATCH + self.packets[i].pages[page] as usize * PAGE + within;
            let from = At(f.from.0, f.from.1 + done);
            if env.copy_sum(from, At(&self.mem, to), part).is_none() {
                return false;
            }
            done += part;
        }
        true
    }

    /// Copies the first `len` bytes of packet `i` to the beginning of the memory.
    fn gather<E: Env>(&mut self, env: &mut E, i: usize, len: usize) -> bool {
        let packet = &self.packets[i];
        self.header = packet.header;
        self.header_len = packet.header_len;
        packet.pages.iter().enumerate().take(len.div_ceil(PAGE)).all(|(n, page)| {
            let part = (len - n * PAGE).min(PAGE);
            let from = At(&self.mem, SCRATCH + *page as usize * PAGE);
            *page != NO_PAGE && env.copy_sum(from, At(&self.mem, n * PAGE), part).is_some()
        })
    }

    fn whole<E: Env>(&mut self, env: &mut E, i: usize) -> Outcome {
        let (len, kinds) = (self.packets[i].end, self.packets[i].ecn);
        // RFC 3168 5.3: congestion marks of a piece are the whole's; a mixture with what is not
        // capable of ECN at all is dropped.
        const NOT_ECT: u8 = 1;
        const CE: u8 = 8;
        let mixed = kinds & NOT_ECT != 0 && kinds != NOT_ECT;
        if mixed || !self.gather(env, i, len) {
            return Outcome::Malformed;
        }
        let own = self.header.get(1).map_or(0, |tos| tos & 3);
        Outcome::Whole { len, ecn: if kinds & CE != 0 { 3 } else { own } }
    }

    /// When [`Self::expire`] is due.
    pub fn deadline(&self) -> Option<u64> {
        let [v4, v6] = &self.ages;
        let at = |ends: &Ends, ns| Some(self.packets[ends.first()? as usize].since + ns);
        match (at(v4, V4_NS), at(v6, V6_NS)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Gives up the next packet that was not completed in time.
    pub fn expire<E: Env>(&mut self, env: &mut E, now: u64) -> Option<Expired> {
        for (family, ns) in [V4_NS, V6_NS].into_iter().enumerate() {
            let Some(i) = self.ages[family].first() else { continue };
            let packet = &self.packets[i as usize];
            if now < packet.since + ns {
                continue;
            }
            let (key, first) = (packet.key, packet.first);
            let first = first.filter(|len| self.gather(env, i as usize, *len));
            self.release(i as usize);
            return Some(Expired { key, first });
        }
        None
    }

    /// Packets that wait.
    pub fn waiting(&self) -> u32 {
        self.ages.iter().map(Ends::len).sum()
    }
}

impl Packet {
    /// The bits of `units` in word `w`.
    fn mask(units: &core::ops::Range<usize>, w: usize) -> u64 {
        let from = units.start.saturating_sub(w * 64).min(64);
        let to = units.end.saturating_sub(w * 64).min(64);
        let below = |n: usize| if n == 64 { u64::MAX } else { (1 << n) - 1 };
        below(to) & !below(from)
    }
    fn words(units: &core::ops::Range<usize>) -> core::ops::Range<usize> {
        units.start / 64..units.end.div_ceil(64)
    }
    /// How many of `units` have come.
    fn have(&self, units: core::ops::Range<usize>) -> usize {
        let words = Self::words(&units);
        words.map(|w| (self.come[w] & Self::mask(&units, w)).count_ones() as usize).sum()
    }
    fn mark(&mut self, units: core::ops::Range<usize>) {
        for w in Self::words(&units) {
            self.come[w] |= Self::mask(&units, w);
        }
    }
}

#[cfg(test)]
#[path = "reassembly_tests.rs"]
mod tests;
