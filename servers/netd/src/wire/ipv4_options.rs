//! Options of IPv4 headers (RFC 791 3.1): what arrives is checked and, where it asks for that,
//! filled in; what is answered carries them back.
//!
//! The rules are Linux's: a wrong option is answered with a parameter problem that points at it, an
//! unknown one is passed over, and source routes are refused (RFC 6274 3.13.2.3).

use core::net::Ipv4Addr;

/// Bytes of the longest options.
pub const MAX: usize = 40;
/// Where options begin in a packet, as parameter problems count.
const START: u8 = 20;

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;

/// Bytes of options, whole words.
pub type Bytes = heapless::Vec<u8, MAX>;

/// Why a packet with options is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The byte at this offset of the packet is wrong (ICMP type 12).
    Problem(u8),
    /// It has a source route. Nothing is said about that.
    SourceRoute,
}

/// Who looks at the options.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    /// The address to be recorded.
    pub addr: Ipv4Addr,
    /// The time to be recorded.
    pub time: [u8; 4],
}

/// What an answer brings back of the options of a packet (RFC 1122 3.2.2.6): the route recorded so
/// far and the times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    route: Option<Bytes>,
    times: Option<Bytes>,
}

/// Checks the options of a packet for this host, and records what they ask for.
///
/// # Errors
/// [`Refused`].
pub fn take(options: &[u8], here: &Here) -> Result<Taken, Refused> {
    let mut taken = Taken::default();
    let (mut at, mut source_route) = (0, false);
    while let Some(kind) = options.get(at) {
        let problem = |offset: usize| Refused::Problem(START + (at + offset) as u8);
        let len = match *kind {
            END => break,
            NOP => {
                at += 1;
                continue;
            }
            _ => *options.get(at + 1).ok_or(problem(0))? as usize,
        };
        let option = options.get(at..at + len).filter(|_| len >= 2).ok_or(problem(0))?;
        match *kind {
            LOOSE_ROUTE | STRICT_ROUTE => {
                pointer(option, 3, 4).map_err(problem)?;
                if core::mem::replace(&mut source_route, true) {
                    return Err(problem(0));
                }
            }
            RECORD_ROUTE => {
                if taken.route.is_some() {
                    return Err(problem(0));
                }
                taken.route = Some(record_route(option, here).map_err(problem)?);
            }
            TIMESTAMP => {
                if taken.times.is_some() {
                    return Err(problem(0));
                }
                taken.times = Some(record_time(option, here).map_err(problem)?);
            }
            148 if len < 4 => return Err(problem(1)),
            _ => {}
        }
        at += len;
    }
    if source_route { Err(Refused::SourceRoute) } else { Ok(taken) }
}

/// The pointer of an option of at least `least` bytes, which is at least `first`.
fn pointer(option: &[u8], least: usize, first: usize) -> Result<usize, usize> {
    if option.len() < least {
        return Err(1);
    }
    let pointer = option[2] as usize;
    if pointer < first { Err(2) } else { Ok(pointer) }
}

/// Writes `bytes` where the pointer points, and moves it.
fn record(option: &mut [u8], pointer: usize, bytes: &[u8]) {
    if let Some(place) = option.get_mut(pointer - 1..pointer - 1 + bytes.len()) {
        place.copy_from_slice(bytes);
        option[2] = (pointer + bytes.len()) as u8;
    }
}

fn record_route(option: &[u8], here: &Here) -> Result<Bytes, usize> {
    let at = pointer(option, 3, 4)?;
    let mut option = Bytes::from_slice(option).unwrap_or_default();
    if at <= option.len() {
        if at + 3 > option.len() {
            return Err(2);
        }
        record(&mut option, at, &here.addr.octets());
    }
    Ok(option)
}

fn record_time(option: &[u8], here: &Here) -> Result<Bytes, usize> {
    let at = pointer(option, 4, 5)?;
    let mut option = Bytes::from_slice(option).unwrap_or_default();
    let flag = option[3] & 15;
    if at > option.len() {
        // No room: how many hosts found none is counted, as far as four bits go.
        if flag != 3 {
            let missed = option[3] >> 4;
            if missed == 15 {
                return Err(3);
            }
            option[3] = flag | (missed + 1) << 4;
        }
        return Ok(option);
    }
    if at + 3 > option.len() {
        return Err(2);
    }
    let both = || {
        let mut both = [0; 8];
        both[..4].copy_from_slice(&here.addr.octets());
        both[4..].copy_from_slice(&here.time);
        both
    };
    match flag {
        0 => record(&mut option, at, &here.time),
        1 | 3 if at + 7 > option.len() => return Err(2),
        1 => record(&mut option, at, &both()),
        // Only where the sender named us.
        3 if option[at - 1..at + 3] == here.addr.octets() => record(&mut option, at, &both()),
        _ => {}
    }
    Ok(option)
}

impl Taken {
    /// Whether there is nothing to bring back.
    pub fn is_empty(&self) -> bool {
        self.route.is_none() && self.times.is_none()
    }

    /// Bytes of options that an answer has.
    pub fn len(&self) -> usize {
        let len = |b: &Option<Bytes>| b.as_ref().map_or(0, |b| b.len());
        (len(&self.route) + len(&self.times)).next_multiple_of(4)
    }

    /// The options of an answer from `here`: what was recorded on the way, then what this host
    /// records as the answer's source.
    pub fn answer(&self, here: &Here) -> Bytes {
        let mut out = Bytes::new();
        if let Some(route) = &self.route {
            let _ = out.extend_from_slice(&record_route(route, here).unwrap_or_default());
        }
        if let Some(times) = &self.times {
            // An answer that finds no room is no host that was missed.
            let full = times[2] as usize > times.len();
            let times = if full { Ok(times.clone()) } else { record_time(times, here) };
            let _ = out.extend_from_slice(&times.unwrap_or_default());
        }
        while !out.len().is_multiple_of(4) && out.push(END).is_ok() {}
        out
    }
}

#[cfg(test)]
#[path = "ipv4_options_tests.rs"]
mod tests;
