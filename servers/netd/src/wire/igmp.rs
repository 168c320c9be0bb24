//! IGMP: queries of all versions, reports of the second and third (RFC 3376, RFC 2236).

use super::checksum::Sum;
use super::{Malformed, array};
use core::net::Ipv4Addr;

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
/// Bytes of a report of the third version on one group.
pub const V3: usize = 16;

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
                Self::Query { group, old, within_ms }
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

fn sealed<const N: usize>(mut message: [u8; N]) -> [u8; N] {
    let sum = Sum::ZERO.bytes(&message).finish();
    message[2..4].copy_from_slice(&sum);
    message
}

/// A report of the third version on one group, all sources taken together: `record` is a record
/// type of RFC 3376 4.2.12.
pub fn report(record: u8, group: Ipv4Addr) -> [u8; V3] {
    let [a, b, c, d] = group.octets();
    sealed([REPORT_V3, 0, 0, 0, 0, 0, 0, 1, record, 0, 0, 0, a, b, c, d])
}

/// A message of the second version: a report, or the end of a membership.
pub fn old_report(joined: bool, group: Ipv4Addr) -> [u8; V2] {
    let [a, b, c, d] = group.octets();
    sealed([if joined { REPORT_V2 } else { LEAVE }, 0, 0, 0, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    #[test]
    fn versions_of_queries_are_told_apart() {
        let mut b = [0x11, 0, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
        let query = |group, old, within_ms| Ok(Repr::Query { group, old, within_ms });
        assert_eq!(Repr::parse(&b[..8], 8), query(None, true, 10_000), "the first");
        b[1] = 100;
        assert_eq!(Repr::parse(&b[..8], 8), query(None, true, 10_000), "the second");
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
        assert!(Sum::ZERO.bytes(&report(4, GROUP)).is_intact());
        assert_eq!(report(4, GROUP)[6..], [0, 1, 4, 0, 0, 0, 239, 1, 2, 3]);
        let old = old_report(true, GROUP);
        assert_eq!(Repr::parse(&old, 8), Ok(Repr::Report(GROUP)));
        assert_eq!(Repr::parse(&old_report(false, GROUP), 8), Ok(Repr::Other));
        assert_eq!(Repr::parse(&report(4, GROUP), 16), Ok(Repr::Other));
    }
}
