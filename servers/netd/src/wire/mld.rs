//! Multicast listener discovery: queries of both versions, reports of the second and of the first
//! (RFC 3810, RFC 2710).

use super::icmpv6::ty;
use super::{Malformed, array, be16};
use core::net::Ipv6Addr;

/// Where reports of the second version go (RFC 3810 5.2.14).
pub const REPORTS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// The hop-by-hop header before every message: router alert 0 (RFC 2711), padded. Its next header
/// is ICMPv6.
pub const ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];
/// Bytes of a message of the first version.
pub const V1: usize = 24;
/// Bytes of a report of the second version before its records.
pub const REPORT_HEADER: usize = 8;
/// Bytes of a record without sources.
pub const RECORD: usize = 20;

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The group that is asked for; `None`: all of them.
    pub group: Option<Ipv6Addr>,
    /// By a router that speaks the first version only.
    pub v1: bool,
    /// The answer comes within this time, ms.
    pub within_ms: u32,
    /// Asks for sources of the group.
    pub sources: bool,
    /// By a router that speaks IGMPv1 only (RFC 1112).
    pub first: bool,
    /// How often the querier has its messages repeated; 0: it does not say.
    pub robustness: u8,
}

impl Query {
    /// Reads a query; its checksum, hop limit and addresses are the caller's business.
    ///
    /// # Errors
    /// [`Malformed::Length`] for lengths of neither version (RFC 3810 8.1), [`Malformed::Address`]
    /// for a group that is none.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        let (code, ip) = (be16(b, 4)?, Ipv6Addr::from(array::<16>(b, 8)?));
        let group = (!ip.is_unspecified()).then_some(ip);
        if group.is_some_and(|g| !g.is_multicast()) {
            return Err(Malformed::Address);
        }
        match b.len() {
            V1 => {
                let within_ms = code as u32;
                Ok(Self { group, v1: true, within_ms, sources: false, first: false, robustness: 0 })
            }
            28.. => {
                let sources = be16(b, 26)?;
                if b.len() < 28 + sources as usize * 16 {
                    return Err(Malformed::Truncated);
                }
                Ok(Self {
                    group,
                    v1: false,
                    within_ms: time(code),
                    sources: sources > 0,
                    first: false,
                    robustness: b[24] & 7,
                })
            }
            _ => Err(Malformed::Length),
        }
    }
}

/// Maximum response code (RFC 3810 5.1.3): long times have an exponent.
fn time(code: u16) -> u32 {
    if code < 0x8000 {
        return code as u32;
    }
    (code as u32 & 0xfff | 0x1000) << ((code >> 12 & 7) + 3)
}

/// What a record says of a group (RFC 3810 5.2.12, RFC 3376 4.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Record {
    /// These sources are listened to.
    IsInclude = 1,
    /// All but these are listened to.
    IsExclude = 2,
    /// From now on these alone.
    ToInclude = 3,
    /// From now on all but these.
    ToExclude = 4,
    /// These, too.
    AllowNew = 5,
    /// These no more.
    BlockOld = 6,
}

/// Writes the header of a report of `records` records, with a checksum field of zero.
pub fn emit_report(records: u16, out: &mut [u8; REPORT_HEADER]) {
    *out = [ty::MLD2_REPORT, 0, 0, 0, 0, 0, 0, 0];
    out[6..].copy_from_slice(&records.to_be_bytes());
}

/// Writes a record: its bytes. `None`: there is no room for it.
pub fn emit_record(
    what: Record,
    group: Ipv6Addr,
    sources: &[Ipv6Addr],
    out: &mut [u8],
) -> Option<usize> {
    let len = RECORD + sources.len() * 16;
    let (head, list) = out.get_mut(..len)?.split_at_mut(RECORD);
    let [high, low] = (sources.len() as u16).to_be_bytes();
    head[..4].copy_from_slice(&[what as u8, 0, high, low]);
    head[4..].copy_from_slice(&group.octets());
    for (to, from) in list.as_chunks_mut::<16>().0.iter_mut().zip(sources) {
        *to = from.octets();
    }
    Some(len)
}

/// The sources that query `b` asks for.
pub fn asked(b: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    let count = be16(b, 26).unwrap_or(0) as usize;
    b.get(28..).unwrap_or_default().as_chunks::<16>().0.iter().take(count).map(|s| (*s).into())
}

/// Writes a report or a done message of the first version, with a checksum field of zero.
pub fn emit_v1(done: bool, group: Ipv6Addr, out: &mut [u8; V1]) {
    *out = [0; V1];
    out[0] = if done { ty::MLD_DONE } else { ty::MLD_REPORT };
    out[8..].copy_from_slice(&group.octets());
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn query(code: u16, group: &str, rest: &[u8]) -> Vec<u8> {
        let mut b = std::vec![130, 0, 0, 0];
        b.extend(code.to_be_bytes());
        b.extend([0, 0]);
        b.extend(group.parse::<Ipv6Addr>().unwrap().octets());
        b.extend_from_slice(rest);
        b
    }

    #[test]
    fn queries_of_both_versions() {
        let general = Query::parse(&query(10_000, "::", &[])).unwrap();
        assert_eq!((general.group, general.v1, general.within_ms), (None, true, 10_000));
        let b = query(0x8000, "ff02::1:ff00:9", &[0x0a, 125, 0, 0]);
        let special = Query::parse(&b).unwrap();
        assert_eq!(special.group, Some("ff02::1:ff00:9".parse().unwrap()));
        assert_eq!((special.v1, special.within_ms, special.robustness), (false, 32_768, 2));
        assert_eq!(time(0xffff), 0x1fff << 10);
        assert_eq!(Query::parse(&b[..27]), Err(Malformed::Length));
        assert_eq!(Query::parse(&query(1, "fe80::1", &[])), Err(Malformed::Address));
        assert_eq!(Query::parse(&query(1, "::", &[0, 0, 0, 1])), Err(Malformed::Truncated));
    }

    #[test]
    fn reports_have_their_bytes_in_place() {
        let group: Ipv6Addr = "ff02::1:ff00:9".parse().unwrap();
        let (mut head, mut record, mut v1) = ([9; REPORT_HEADER], [9; RECORD], [9; V1]);
        emit_report(3, &mut head);
        assert_eq!(emit_record(Record::ToExclude, group, &[], &mut record), Some(RECORD));
        assert_eq!(emit_record(Record::ToExclude, group, &[group], &mut record), None);
        let mut long = [9; RECORD + 16];
        assert_eq!(emit_record(Record::BlockOld, group, &[group], &mut long), Some(RECORD + 16));
        assert_eq!((&long[..4], &long[20..]), (&[6, 0, 0, 1][..], &group.octets()[..]));
        emit_v1(true, group, &mut v1);
        assert_eq!(head, [143, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!((&record[..4], &record[4..]), (&[4, 0, 0, 0][..], &group.octets()[..]));
        assert_eq!((v1[0], v1[7], &v1[8..]), (132, 0, &group.octets()[..]));
    }
}
