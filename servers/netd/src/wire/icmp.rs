//! ICMP (RFC 792): echo, and the errors that transports listen to.

use super::{Malformed, array, be16, ipv4};
use core::net::{IpAddr, Ipv4Addr};

/// Bytes of the header of every message used here.
pub const HEADER: usize = 8;
/// Bytes of an offending packet's payload that we quote behind its header (RFC 1122 3.2.2).
pub const QUOTED: usize = 8;

/// Why a packet did not arrive (type 3), as far as transports care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Codes 0, 5 to 12: no route now.
    Host,
    /// Code 2 or 3: nobody there to take it.
    Port,
    /// Code 4: too big for a link of this MTU (RFC 1191), 0 if it does not say.
    TooBig(u16),
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
    /// The first eight bytes after its IP header: ports and, of TCP, the sequence number.
    pub transport: [u8; 8],
}

/// An ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// Echo request.
    EchoRequest {
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
    /// Destination unreachable.
    Unreachable(Unreachable, Quote),
    /// Time exceeded (type 11).
    TimeExceeded(Quote),
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
        transport: array(b, header)?,
    })
}

impl Repr {
    /// Reads a message from its first bytes; the checksum is the caller's business, since it
    /// covers a payload that may lie elsewhere.
    ///
    /// # Errors
    /// [`Malformed::Unsupported`] for types that nobody here listens to.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        let [ty, code] = array(b, 0)?;
        let (id, seq) = (be16(b, 4)?, be16(b, 6)?);
        Ok(match (ty, code) {
            (0, 0) => Self::EchoReply { id, seq },
            (8, 0) => Self::EchoRequest { id, seq },
            (3, _) => {
                let why = match code {
                    2 | 3 => Unreachable::Port,
                    4 => Unreachable::TooBig(seq),
                    0 | 1 | 5..=12 => Unreachable::Host,
                    _ => return Err(Malformed::Unsupported),
                };
                Self::Unreachable(why, quote(&b[HEADER..])?)
            }
            (11, _) => Self::TimeExceeded(quote(&b[HEADER..])?),
            _ => return Err(Malformed::Unsupported),
        })
    }
}

/// Writes the header of an echo message with a checksum field of zero.
pub fn emit_echo(reply: bool, id: u16, seq: u16, out: &mut [u8; HEADER]) {
    *out = [if reply { 0 } else { 8 }, 0, 0, 0, 0, 0, 0, 0];
    out[4..6].copy_from_slice(&id.to_be_bytes());
    out[6..8].copy_from_slice(&seq.to_be_bytes());
}

/// Code of "protocol unreachable".
pub const NO_PROTOCOL: u8 = 2;
/// Code of "port unreachable".
pub const NO_PORT: u8 = 3;

/// Writes the header of a message of type 3 with a checksum field of zero; the quote follows it.
pub fn emit_unreachable(code: u8, out: &mut [u8; HEADER]) {
    *out = [3, code, 0, 0, 0, 0, 0, 0];
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
        assert_eq!(Repr::parse(&out), Ok(Repr::EchoRequest { id: 1, seq: 2 }));
    }

    #[test]
    fn errors_carry_the_packet_they_speak_of() {
        let mut b = [0; HEADER + ipv4::HEADER + QUOTED];
        b[0] = 3;
        b[1] = 3;
        let inner = ipv4::Repr {
            src: Ipv4Addr::new(10, 0, 2, 15),
            dst: Ipv4Addr::new(10, 0, 2, 3),
            protocol: 17,
            ttl: 64,
            id: 0,
            payload_len: 20,
        };
        let mut header = [0; ipv4::HEADER];
        inner.emit(&mut header);
        b[HEADER..HEADER + 20].copy_from_slice(&header);
        b[28..36].copy_from_slice(&[0, 53, 0, 99, 1, 2, 3, 4]);
        let quote = Quote {
            src: inner.src.into(),
            dst: inner.dst.into(),
            protocol: 17,
            transport: [0, 53, 0, 99, 1, 2, 3, 4],
        };
        assert_eq!(Repr::parse(&b), Ok(Repr::Unreachable(Unreachable::Port, quote)));
        assert_eq!(Repr::parse(&b[..35]), Err(Malformed::Truncated));
        b[0] = 11;
        assert_eq!(Repr::parse(&b), Ok(Repr::TimeExceeded(quote)));
    }
}
