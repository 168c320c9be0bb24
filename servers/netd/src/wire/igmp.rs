//! IGMP: queries and reports of all versions (RFC 3376, RFC 2236, RFC 1112).

use super::checksum::Sum;
use super::mld::Record;
use super::{Malformed, array, be16};
use crate::sources::{MOST, Sources};
use core::net::{Ipv4Addr, Ipv6Addr};

/// Where reports of the third version go (RFC 3376 4.2.14).
pub const REPORTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Where the end of a membership is told in the second version (RFC 2236 3).
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// The option of every message: router alert (RFC 2113).
pub const ALERT: [u8; 4] = [148, 4, 0, 0];
/// Type of service of every message (RFC 3376 4).
pub const TOS: u8 = 0xc0;
/// Bytes of a message of the second version.
pub const V2: usize = 8;
/// Bytes of a query of the third version before its sources.
pub const V3_QUERY: usize = 12;
/// Bytes of a report of the third version on one group, with so many records and sources in all.
pub const V3: usize = 8 + 2 * 8 + 4 * MOST;

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

/// A message that hosts listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// A router asks for members of a group, or (`None`) of all.
    Query {
        /// Which.
        group: Option<Ipv4Addr>,
        /// By a router that does not speak the third version.
        old: bool,
        /// By one that speaks the first only.
        first: bool,
        /// So many sources are asked for.
        sources: u16,
        /// The answer comes within this time, ms.
        within_ms: u32,
    },
    /// Somebody else is a member of a group, says a report of an older version.
    Report(Ipv4Addr),
    /// For routers.
    Other,
}

impl Repr {
    /// Reads a message whose checksum is right.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::Address`] for a group that is none.
    pub fn parse(b: &[u8], len: usize) -> Result<Self, Malformed> {
        let [ty, code] = array(b, 0)?;
        let group = Ipv4Addr::from(array::<4>(b, 4)?);
        let some = (!group.is_unspecified()).then_some(group);
        if ty != REPORT_V3 && some.is_some_and(|g| !g.is_multicast()) {
            return Err(Malformed::Address);
        }
        Ok(match (ty, some) {
            (QUERY, group) => {
                // RFC 3376 7.1: versions are told apart by length and code.
                let (old, within_ms) = match (len, code) {
                    (V2, 0) => (true, 10_000),
                    (V2, code) => (true, code as u32 * 100),
                    (9..12, _) => return Err(Malformed::Truncated),
                    (_, code) => (false, time(code) * 100),
                };
                let sources = if old { 0 } else { be16(b, 10)? };
                if !old && len < V3_QUERY + 4 * sources as usize {
                    return Err(Malformed::Truncated);
                }
                Self::Query { group, old, first: old && code == 0, sources, within_ms }
            }
            (REPORT_V1 | REPORT_V2, Some(group)) => Self::Report(group),
            _ => Self::Other,
        })
    }
}

/// Maximum response code (RFC 3376 4.1.1): long times have an exponent.
fn time(code: u8) -> u32 {
    if code < 0x80 {
        return code as u32;
    }
    (code as u32 & 15 | 16) << ((code >> 4 & 7) + 3)
}

fn seal(message: &mut [u8]) {
    let sum = Sum::ZERO.bytes(message).finish();
    message[2..4].copy_from_slice(&sum);
}

/// The sources that the end of a query of the third version asks for, of IPv4 in mapped form.
pub fn asked(list: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    list.as_chunks::<4>().0.iter().map(|s| Ipv4Addr::from(*s).to_ipv6_mapped())
}

/// A report of the third version on one group, a record for each of `said`.
pub fn report(said: &[(Record, Sources)], group: Ipv4Addr) -> heapless::Vec<u8, V3> {
    let mut message = heapless::Vec::new();
    let mut put = |bytes: &[u8]| drop(message.extend_from_slice(bytes));
    put(&[REPORT_V3, 0, 0, 0, 0, 0, 0, said.len() as u8]);
    for (what, sources) in said {
        put(&[*what as u8, 0, 0, sources.len() as u8]);
        put(&group.octets());
        for source in sources.iter().filter_map(|s| s.to_ipv4_mapped()) {
            put(&source.octets());
        }
    }
    seal(&mut message);
    message
}

/// A message of the second version: a report, or the end of a membership. Of the first there are reports alone.
pub fn old_report(joined: bool, first: bool, group: Ipv4Addr) -> [u8; V2] {
    let [a, b, c, d] = group.octets();
    let ty = match (joined, first) {
        (true, true) => REPORT_V1,
        (true, false) => REPORT_V2,
        (false, _) => LEAVE,
    };
    let mut message = [ty, 0, 0, 0, a, b, c, d];
    seal(&mut message);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    #[test]
    fn versions_of_queries_are_told_apart() {
        let mut b = [0x11, 0, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
        let query = |group, old, within_ms| {
            Ok(Repr::Query { group, old, first: old && within_ms == 10_000, sources: 0, within_ms })
        };
        assert_eq!(Repr::parse(&b[..8], 8), query(None, true, 10_000), "the first");
        b[1] = 100;
        let second =
            Repr::Query { group: None, old: true, first: false, sources: 0, within_ms: 10_000 };
        assert_eq!(Repr::parse(&b[..8], 8), Ok(second), "the second");
        assert_eq!(Repr::parse(&b, 12), query(None, false, 10_000), "the third");
        b[1] = 0x8f;
        b[4..8].copy_from_slice(&GROUP.octets());
        assert_eq!(Repr::parse(&b, 12), query(Some(GROUP), false, (31 << 3) * 100));
        assert_eq!(Repr::parse(&b[..10], 10), Err(Malformed::Truncated));
        b[4] = 10;
        assert_eq!(Repr::parse(&b, 12), Err(Malformed::Address));
    }

    #[test]
    fn reports_of_both_versions() {
        let source = Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped();
        let one = Sources::from_slice(&[source]).unwrap();
        let long = report(&[(Record::ToExclude, Sources::new()), (Record::BlockOld, one)], GROUP);
        assert!(Sum::ZERO.bytes(&long).is_intact());
        assert_eq!(long[6..16], [0, 2, 4, 0, 0, 0, 239, 1, 2, 3]);
        assert_eq!(long[16..], [6, 0, 0, 1, 239, 1, 2, 3, 10, 0, 0, 9]);
        assert!(asked(&long[24..]).eq([source]));
        let old = old_report(true, false, GROUP);
        assert_eq!(Repr::parse(&old, 8), Ok(Repr::Report(GROUP)));
        assert_eq!((old[0], old_report(true, true, GROUP)[0]), (0x16, 0x12));
        assert_eq!(Repr::parse(&old_report(false, true, GROUP), 8), Ok(Repr::Other));
        assert_eq!(Repr::parse(&long, 16), Ok(Repr::Other));
    }
}
