//! SYN cookies (RFC 4987 3.6): an ISN that says what a record would have said, so that a flood of SYNs
//! costs no memory. The way to put options into the timestamp is Linux's.

use crate::demux::Tuple;
use crate::wire::tcp::{DEFAULT_MSS, Seq};
use core::hash::Hasher;
use libipc::sock::flags;
use siphasher::sip::SipHasher13;

/// log2 of ns in a period (a bit more than a minute); a cookie is good in its own and the next.
const PERIOD_SHIFT: u32 = 36;
const PERIODS: u32 = 2;
/// For how long ACKs at a listener are looked at, after its last cookie.
pub const COOKIE_NS: u64 = (PERIODS as u64) << PERIOD_SHIFT;
/// An MSS is rounded down to one of these: links of 1500, with PPPoE and tunnels, and the default.
const SIZES: [u16; 4] = [DEFAULT_MSS, 1300, 1440, 1460];
const LOW: u32 = 0xff_ffff;

/// Bits of a timestamp that hold options, and what is in them.
const OPTION_BITS: u32 = 6;
const NO_SCALE: u32 = 15;
const SACK: u32 = 1 << 4;
const ECN: u32 = 1 << 5;

fn hash(key: (u64, u64), tuple: &Tuple, irs: Seq, salt: u32) -> u32 {
    let mut h = SipHasher13::new_with_keys(key.0, key.1);
    tuple.feed(&mut h);
    // ISNs are hashes under the same key, without this.
    h.write_u64((salt as u64) << 32 | irs.0 as u64);
    h.finish() as u32
}

/// The ISN that answers a SYN with ISN `irs` and `mss` at time `now`.
pub fn make(key: (u64, u64), tuple: &Tuple, irs: Seq, mss: u16, now: u64) -> Seq {
    let period = (now >> PERIOD_SHIFT) as u32;
    let size = SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0) as u32;
    let low = hash(key, tuple, irs, 1 + (period & LOW)).wrapping_add(size) & LOW;
    let high = hash(key, tuple, irs, 0).wrapping_add(irs.0);
    Seq(high.wrapping_add(period << 24).wrapping_add(low))
}

/// The MSS that a cookie stands for, if it is ours and not old.
pub fn open(key: (u64, u64), tuple: &Tuple, irs: Seq, cookie: Seq, now: u64) -> Option<u16> {
    let period = (now >> PERIOD_SHIFT) as u32;
    let rest = cookie.0.wrapping_sub(hash(key, tuple, irs, 0)).wrapping_sub(irs.0);
    let age = period.wrapping_sub(rest >> 24) & 0xff;
    if age >= PERIODS {
        return None;
    }
    let made = period.wrapping_sub(age);
    let low = hash(key, tuple, irs, 1 + (made & LOW));
    let size = rest.wrapping_sub(low) & LOW;
    SIZES.get(size as usize).copied()
}

/// Our clock `ticks`, set back so far that its low bits say what the SYN had: its window scale and
/// [`flags`].
pub fn stamp(ticks: u32, scale: Option<u8>, agreed: u16) -> u32 {
    let options = scale.map_or(NO_SCALE, |s| s as u32)
        | if agreed & flags::SACK != 0 { SACK } else { 0 }
        | if agreed & flags::ECN != 0 { ECN } else { 0 };
    let stamp = ticks >> OPTION_BITS << OPTION_BITS | options;
    if stamp > ticks { stamp.wrapping_sub(1 << OPTION_BITS) } else { stamp }
}

/// What [`stamp`] put into it: the peer's window scale and [`flags`].
pub fn read_stamp(stamp: u32) -> (Option<u8>, u16) {
    let scale = stamp & 15;
    let scale = (scale != NO_SCALE).then_some(scale as u8);
    let agreed = flags::TIMESTAMPS
        | if scale.is_some() { flags::WINDOW_SCALE } else { 0 }
        | if stamp & SACK != 0 { flags::SACK } else { 0 }
        | if stamp & ECN != 0 { flags::ECN } else { 0 };
    (scale, agreed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demux::Space;

    const KEY: (u64, u64) = (7, 8);
    const PERIOD: u64 = 1 << PERIOD_SHIFT;

    fn tuple(port: u16) -> Tuple {
        let remote = core::net::SocketAddr::new("10.0.0.2".parse().unwrap(), port);
        Tuple { space: Space::Tcp, local: "10.0.0.1:80".parse().unwrap(), remote }
    }

    #[test]
    fn a_cookie_opens_for_its_pair_and_its_time() {
        for (mss, stands_for) in
            [(0, 536), (536, 536), (1299, 536), (1300, 1300), (1452, 1440), (9000, 1460)]
        {
            for now in [0, PERIOD - 1, 300 * PERIOD, 70_000_000 * PERIOD] {
                let cookie = make(KEY, &tuple(5000), Seq(99), mss, now);
                let open = |key, port, irs, at| open(key, &tuple(port), Seq(irs), cookie, at);
                assert_eq!(open(KEY, 5000, 99, now), Some(stands_for));
                assert_eq!(open(KEY, 5000, 99, now + PERIOD), Some(stands_for));
                assert_eq!(open(KEY, 5000, 99, now + 2 * PERIOD), None);
                assert_eq!(open(KEY, 5001, 99, now), None);
                assert_eq!(open(KEY, 5000, 98, now), None);
                assert_eq!(open((7, 9), 5000, 99, now), None);
            }
        }
    }

    #[test]
    fn few_numbers_are_cookies() {
        let good = (0..1 << 20).filter(|i| {
            let guess = Seq((*i as u32).wrapping_mul(0x9e37_79b9));
            open(KEY, &tuple(5000), Seq(0), guess, 5 * PERIOD).is_some()
        });
        // Of 2^32 numbers 4 sizes * 2 periods are.
        assert!(good.count() <= 1);
    }

    #[test]
    fn a_stamp_is_in_the_past_and_says_everything() {
        for ticks in [0, 1, 63, 64, 1000, u32::MAX] {
            for scale in [None, Some(0), Some(14)] {
                for agreed in [0, flags::SACK, flags::ECN, flags::SACK | flags::ECN] {
                    let at = stamp(ticks, scale, agreed);
                    let (back, had) = read_stamp(at);
                    assert!(ticks.wrapping_sub(at) < 64, "{ticks} {at}");
                    assert_eq!((back, had & (flags::SACK | flags::ECN)), (scale, agreed));
                }
            }
        }
    }
}
