//! Questions and answers (RFC 1035), bytes in and out.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::{Error, Family};

/// Longest chain of aliases that is followed.
const ALIASES: usize = 8;
/// The code of a server that has failed (RFC 1035 4.1.1).
pub const SERVER_FAILURE: u8 = 2;
/// Most addresses that are taken from one answer.
const ADDRESSES: usize = 16;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses, for so many seconds. None: the name has none of this family (RFC 2308 2.2).
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name, for so many seconds.
    NoSuchName(u32),
    /// The name stands for another, about which the server says nothing.
    Alias(String),
    /// It does not fit a datagram: ask by TCP (RFC 7766).
    Truncated,
    /// The server cannot or will not say; its code.
    Failed(u8),
}

impl Family {
    fn ty(self) -> TYPE {
        match self {
            Self::V4 => TYPE::A,
            Self::V6 => TYPE::AAAA,
        }
    }
}

/// The question for the addresses of `name`.
///
/// # Errors
/// [`Error::Name`] if it is none.
pub fn question(id: u16, name: &str, family: Family) -> Result<Vec<u8>, Error> {
    // simple-dns passes over empty labels.
    if name.split('.').any(str::is_empty) {
        return Err(Error::Name);
    }
    let name = Name::new(name).map_err(|_| Error::Name)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(family.ty()),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().map_err(|_| Error::Name)
}

/// What `bytes` says to that question; `None`: it is no answer to it, as anybody may send
/// (RFC 5452 3).
pub fn answer(bytes: &[u8], id: u16, name: &str, family: Family) -> Option<Answer> {
    let packet = Packet::parse(bytes).ok()?;
    let asked = Name::new(name).ok()?;
    let [question] = packet.questions.as_slice() else { return None };
    let fits = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && packet.opcode() == OPCODE::StandardQuery
        && same(&question.qname, &asked)
        && question.qtype == QTYPE::TYPE(family.ty())
        && question.qclass == QCLASS::CLASS(CLASS::IN);
    if !fits {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Answer::Truncated);
    }
    Some(match packet.rcode() {
        RCODE::NoError => follow(&packet, asked, family),
        RCODE::NameError => Answer::NoSuchName(negative_ttl(&packet)),
        code => Answer::Failed(code as u8),
    })
}

/// Follows aliases from `name` to addresses.
fn follow<'a>(packet: &Packet<'a>, mut name: Name<'a>, family: Family) -> Answer {
    let mut least = u32::MAX;
    for _ in 0..ALIASES {
        let mut addresses = Vec::new();
        let mut alias = None;
        let records = packet.answers.iter().filter(|r| r.class == CLASS::IN);
        for record in records.filter(|r| same(&r.name, &name)) {
            let address = match &record.rdata {
                RData::A(a) if family == Family::V4 => IpAddr::V4(a.address.into()),
                RData::AAAA(a) if family == Family::V6 => IpAddr::V6(a.address.into()),
                RData::CNAME(to) => {
                    (alias, least) = (Some(to.0.clone()), least.min(record.ttl));
                    continue;
                }
                _ => continue,
            };
            least = least.min(record.ttl);
            if addresses.len() < ADDRESSES {
                addresses.push(address);
            }
        }
        if !addresses.is_empty() {
            return Answer::Addresses(addresses, least);
        }
        let Some(next) = alias else {
            // A chain that leads out of the answer says nothing of its end.
            let known = least == u32::MAX || !packet.name_servers.is_empty();
            return match known {
                true => Answer::Addresses(Vec::new(), negative_ttl(packet)),
                false => Answer::Alias(name.to_string()),
            };
        };
        name = next;
    }
    Answer::Failed(SERVER_FAILURE)
}

/// How long a name may be thought to have nothing (RFC 2308 5); 0 if the answer does not say.
fn negative_ttl(packet: &Packet<'_>) -> u32 {
    let soa = packet.name_servers.iter().find_map(|r| match &r.rdata {
        RData::SOA(soa) => Some(r.ttl.min(soa.minimum)),
        _ => None,
    });
    soa.unwrap_or(0)
}

/// Names are the same whatever their case (RFC 4343).
fn same(a: &Name<'_>, b: &Name<'_>) -> bool {
    let (a, b) = (a.get_labels(), b.get_labels());
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.as_ref().eq_ignore_ascii_case(b.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME, SOA};

    const NAME: &str = "www.example.org";

    fn reply(name: &str, family: Family) -> Packet<'_> {
        let mut packet = Packet::new_reply(7);
        packet.set_flags(PacketFlag::RESPONSE);
        packet.questions.push(Question::new(
            Name::new(name).unwrap(),
            QTYPE::TYPE(family.ty()),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet
    }
    fn record<'a>(name: &'a str, ttl: u32, rdata: RData<'a>) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, rdata)
    }
    fn ask(packet: &Packet<'_>) -> Option<Answer> {
        answer(&packet.build_bytes_vec_compressed().unwrap(), 7, NAME, Family::V4)
    }
    fn address(last: u8) -> RData<'static> {
        RData::A(A { address: u32::from_be_bytes([192, 0, 2, last]) })
    }
    fn alias(to: &str) -> RData<'_> {
        RData::CNAME(CNAME(Name::new(to).unwrap()))
    }

    #[test]
    fn a_question_asks_for_recursion_and_one_name() {
        let bytes = question(0x1234, NAME, Family::V6).unwrap();
        assert_eq!(bytes[..12], [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[12..], b"\x03www\x07example\x03org\x00\x00\x1c\x00\x01");
        for wrong in ["", "a..b", &"x".repeat(64), &"abcdefgh.".repeat(30)] {
            assert_eq!(question(1, wrong, Family::V4), Err(Error::Name), "{wrong}");
        }
    }

    #[test]
    fn addresses_through_aliases_with_the_least_ttl() {
        let mut packet = reply(NAME, Family::V4);
        packet.answers = vec![
            record("WWW.example.ORG", 300, alias("a.example.org")),
            record("a.example.org", 60, address(1)),
            record("a.example.org", 90, address(2)),
            record("other.example.org", 5, address(9)),
            record("a.example.org", 1, RData::AAAA(AAAA { address: 1 })),
        ];
        let expected = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap());
        assert_eq!(ask(&packet), Some(Answer::Addresses(expected.to_vec(), 60)));
    }

    #[test]
    fn aliases_that_lead_out_or_in_a_circle() {
        let mut packet = reply(NAME, Family::V4);
        packet.answers = vec![record(NAME, 300, alias("far.example"))];
        assert_eq!(ask(&packet), Some(Answer::Alias("far.example".into())));
        packet.answers.push(record("far.example", 300, alias(NAME)));
        assert_eq!(ask(&packet), Some(Answer::Failed(2)));
    }

    #[test]
    fn nothing_is_remembered_as_long_as_the_zone_says() {
        let mut packet = reply(NAME, Family::V4);
        assert_eq!(ask(&packet), Some(Answer::Addresses(vec![], 0)));
        let name = || Name::new("ns.example.org").unwrap();
        let (serial, refresh, retry, expire) = (1, 2, 3, 4);
        let (mname, rname) = (name(), name());
        let soa = SOA { mname, rname, serial, refresh, retry, expire, minimum: 30 };
        packet.name_servers = vec![record("example.org", 900, RData::SOA(soa))];
        assert_eq!(ask(&packet), Some(Answer::Addresses(vec![], 30)));
        *packet.rcode_mut() = RCODE::NameError;
        assert_eq!(ask(&packet), Some(Answer::NoSuchName(30)));
        *packet.rcode_mut() = RCODE::Refused;
        assert_eq!(ask(&packet), Some(Answer::Failed(5)));
        packet.set_flags(PacketFlag::TRUNCATION);
        assert_eq!(ask(&packet), Some(Answer::Truncated));
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let mut good = reply(NAME, Family::V4);
        good.answers = vec![record(NAME, 1, address(1))];
        let bytes = good.build_bytes_vec().unwrap();
        assert!(answer(&bytes, 7, NAME, Family::V4).is_some());
        assert_eq!(answer(&bytes, 8, NAME, Family::V4), None);
        assert_eq!(answer(&bytes, 7, "www.example.com", Family::V4), None);
        assert_eq!(answer(&bytes, 7, NAME, Family::V6), None);
        let query = question(7, NAME, Family::V4).unwrap();
        assert_eq!(answer(&query, 7, NAME, Family::V4), None, "our own words come back");
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut good = reply(NAME, Family::V4);
        good.answers = vec![record(NAME, 1, alias("b.example.org")), record(NAME, 1, address(1))];
        let bytes = good.build_bytes_vec_compressed().unwrap();
        let mut seed = 1u64;
        for round in 0..200_000u32 {
            let mut some = bytes.clone();
            for _ in 0..=round % 4 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (seed >> 33) as usize % some.len();
                some[at] = (seed >> 20) as u8;
            }
            some.truncate(some.len() - (seed >> 45) as usize % 8);
            let _ = answer(&some, 7, NAME, Family::V4);
        }
    }
}
