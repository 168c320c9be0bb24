//! ICMP (RFC 792, RFC 1122 3.2.2): echo and timestamp, and the errors that transports listen to.

use super::{Malformed, array, be16, be32, ipv4};
use core::net::{IpAddr, Ipv4Addr};

/// Bytes of the header of every message used here.
pub const HEADER: usize = 8;
/// Bytes of a timestamp message.
pub const TIMESTAMP: usize = 20;
/// An error is as long as a packet that every host must take (RFC 1812 4.3.2.3), its own header
/// included: so much it quotes.
pub const ERROR_MAX: usize = 576;

/// Code of "protocol unreachable".
pub const NO_PROTOCOL: u8 = 2;
/// Code of "port unreachable".
pub const NO_PORT: u8 = 3;
/// Code of "fragmentation needed".
pub const TOO_BIG: u8 = 4;
/// Highest code of "unreachable" (RFC 1812 5.2.7.1).
pub const UNREACHABLE_LAST: u8 = 15;
/// Code of "time exceeded" for reassembly.
pub const REASSEMBLY: u8 = 1;

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Type 3: not delivered, for the reason that the code names.
    Unreachable(u8),
    /// Type 3 code 4: too big for a link of this MTU (RFC 1191), 0 if it does not say.
    TooBig(u16),
    /// Type 11.
    TimeExceeded(u8),
    /// Type 12: the byte at this offset is wrong.
    Parameter(u8),
}

/// The packet that an error speaks of, as far as it is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Source: us.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol.
    pub protocol: u8,
    /// Bytes of the packet, its header included.
    pub len: u16,
    /// Bytes before its transport header.
    pub header: u16,
    /// The first eight bytes after its IP header: ports and, of TCP, the sequence number.
    pub transport: [u8; 8],
}

/// An ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// Echo request. The code comes back as it is.
    EchoRequest {
        /// Code.
        code: u8,
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Echo reply.
    EchoReply {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Timestamp request.
    TimestampRequest {
        /// Identifier and sequence number.
        ids: [u8; 4],
        /// When it left, as the sender counts.
        originate: u32,
    },
    /// An error about a packet of ours.
    Error(Problem, Quote),
    /// A better gateway for the destination of a packet of ours (type 5).
    Redirect(Ipv4Addr, Quote),
    /// What hosts need not act on: replies to questions that nobody here asks, source quench
    /// (RFC 6633), obsolete and unknown types.
    Other,
}

fn quote(b: &[u8]) -> Result<Quote, Malformed> {
    let first = *b.first().ok_or(Malformed::Truncated)?;
    let header = (first & 15) as usize * 4;
    if first >> 4 != 4 || header < ipv4::HEADER {
        return Err(Malformed::Unsupported);
    }
    Ok(Quote {
        src: IpAddr::V4(Ipv4Addr::from(array::<4>(b, 12)?)),
        dst: IpAddr::V4(Ipv4Addr::from(array::<4>(b, 16)?)),
        protocol: array::<1>(b, 9)?[0],
        len: be16(b, 2)?,
        header: header as u16,
        transport: array(b, header)?,
    })
}

impl Repr {
    /// Reads a message from its first bytes; the checksum is the caller's business, since it
    /// covers a payload that may lie elsewhere.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], or what is wrong with the packet that an error quotes.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        let [ty, code] = array(b, 0)?;
        let (id, seq) = (be16(b, 4)?, be16(b, 6)?);
        let problem = match ty {
            0 => return Ok(Self::EchoReply { id, seq }),
            8 => return Ok(Self::EchoRequest { code, id, seq }),
            13 => {
                let originate = be32(b, 8)?;
                return Ok(Self::TimestampRequest { ids: array(b, 4)?, originate });
            }
            5 if code <= 3 => {
                let gateway = Ipv4Addr::from(array::<4>(b, 4)?);
                return Ok(Self::Redirect(gateway, quote(&b[HEADER..])?));
            }
            3 if code == TOO_BIG => Problem::TooBig(seq),
            3 if code <= UNREACHABLE_LAST => Problem::Unreachable(code),
            11 => Problem::TimeExceeded(code),
            12 => Problem::Parameter(b[4]),
            _ => return Ok(Self::Other),
        };
        Ok(Self::Error(problem, quote(&b[HEADER..])?))
    }

    /// Whether an error may be sent about a message of type `ty`: not about errors, nor about what
    /// is unknown and may be one (RFC 1122 3.2.2.1).
    pub const fn may_be_answered(ty: u8) -> bool {
        matches!(ty, 0 | 8 | 9 | 10 | 13..=18)
    }
}

/// Writes the header of an echo message with a checksum field of zero.
pub fn emit_echo(reply: bool, id: u16, seq: u16, out: &mut [u8; HEADER]) {
    *out = [if reply { 0 } else { 8 }, 0, 0, 0, 0, 0, 0, 0];
    out[4..6].copy_from_slice(&id.to_be_bytes());
    out[6..8].copy_from_slice(&seq.to_be_bytes());
}

/// A timestamp reply with a checksum field of zero: `now` is when the request came and when the
/// reply leaves.
pub fn timestamp_reply(ids: [u8; 4], originate: u32, now: [u8; 4]) -> [u8; TIMESTAMP] {
    let mut out = [0; TIMESTAMP];
    out[0] = 14;
    out[4..8].copy_from_slice(&ids);
    out[8..12].copy_from_slice(&originate.to_be_bytes());
    out[12..16].copy_from_slice(&now);
    out[16..20].copy_from_slice(&now);
    out
}

/// The time as RFC 792 has it: milliseconds since midnight UTC, `since_1970` being nanoseconds; where
/// it is not known, since some other moment, under the bit that says so.
pub fn time(since_1970: Option<u64>, now_ns: u64) -> [u8; 4] {
    match since_1970 {
        Some(ns) => (ns / 1_000_000 % 86_400_000) as u32,
        None => 1 << 31 | (now_ns / 1_000_000) as u32 & 0x7fff_ffff,
    }
    .to_be_bytes()
}

impl Problem {
    /// Type, code, and the four bytes after the checksum.
    pub fn header(self) -> [u8; HEADER] {
        match self {
            Self::Unreachable(code) => [3, code, 0, 0, 0, 0, 0, 0],
            Self::TooBig(mtu) => {
                let [high, low] = mtu.to_be_bytes();
                [3, TOO_BIG, 0, 0, 0, 0, high, low]
            }
            Self::TimeExceeded(code) => [11, code, 0, 0, 0, 0, 0, 0],
            Self::Parameter(pointer) => [12, 0, 0, 0, pointer, 0, 0, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_both_ways() {
        let mut out = [0; HEADER];
        emit_echo(true, 0x1234, 5, &mut out);
        assert_eq!(out, [0, 0, 0, 0, 0x12, 0x34, 0, 5]);
        assert_eq!(Repr::parse(&out), Ok(Repr::EchoReply { id: 0x1234, seq: 5 }));
        emit_echo(false, 1, 2, &mut out);
        out[1] = 7;
        assert_eq!(Repr::parse(&out), Ok(Repr::EchoRequest { code: 7, id: 1, seq: 2 }));
    }

    #[test]
    fn times() {
        let request = [13, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        let Ok(Repr::TimestampRequest { ids, originate }) = Repr::parse(&request) else { panic!() };
        let reply = timestamp_reply(ids, originate, time(None, 5_000_000));
        assert_eq!(reply[..12], [14, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 9]);
        assert_eq!(reply[12..], [0x80, 0, 0, 5, 0x80, 0, 0, 5]);
        let day = 86_400_000_000_000;
        assert_eq!(time(Some(3 * day + 7_000_000), 0), [0, 0, 0, 7]);
        assert_eq!(Repr::parse(&request[..11]), Err(Malformed::Truncated));
    }

    fn error(problem: Problem) -> ([u8; HEADER + ipv4::HEADER + 8], Quote) {
        let mut b = [0; HEADER + ipv4::HEADER + 8];
        b[..HEADER].copy_from_slice(&problem.header());
        let (src, dst) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 3));
        let mut header = [0; ipv4::HEADER];
        ipv4::Repr::new(src, dst, 17, 20).emit(&mut header);
        b[HEADER..HEADER + 20].copy_from_slice(&header);
        let transport = [0, 53, 0, 99, 1, 2, 3, 4];
        b[28..36].copy_from_slice(&transport);
        (
            b,
            Quote {
                src: src.into(),
                dst: dst.into(),
                protocol: 17,
                len: 40,
                header: 20,
                transport,
            },
        )
    }

    #[test]
    fn errors_carry_the_packet_they_speak_of() {
        for problem in [
            Problem::Unreachable(3),
            Problem::Unreachable(15),
            Problem::TooBig(1400),
            Problem::TimeExceeded(1),
            Problem::Parameter(20),
        ] {
            let (b, quote) = error(problem);
            assert_eq!(Repr::parse(&b), Ok(Repr::Error(problem, quote)));
            assert_eq!(Repr::parse(&b[..35]), Err(Malformed::Truncated));
            assert!(!Repr::may_be_answered(b[0]));
        }
        let (mut b, quote) = error(Problem::Unreachable(0));
        b[0] = 5;
        b[4..8].copy_from_slice(&[10, 0, 2, 9]);
        assert_eq!(Repr::parse(&b), Ok(Repr::Redirect(Ipv4Addr::new(10, 0, 2, 9), quote)));
        for (ty, code) in [(3, 16), (4, 0), (5, 4), (14, 0), (15, 0), (17, 0), (42, 0), (255, 255)]
        {
            (b[0], b[1]) = (ty, code);
            assert_eq!(Repr::parse(&b), Ok(Repr::Other), "{ty} {code}");
        }
    }
}
