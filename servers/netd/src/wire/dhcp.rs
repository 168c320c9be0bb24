//! DHCP messages of a client (RFC 2131, options of RFC 2132).

use super::{Malformed, array, be32, ethernet::Mac};
use core::net::Ipv4Addr;

/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;
/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// Bytes of our messages: what BOOTP relays expect at least (RFC 1542 2.1).
pub const BYTES: usize = 300;
/// Longest message that is looked at (the MTU less IP and UDP headers).
pub const MAX: usize = 1472;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;

/// Message types (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
}

impl Kind {
    const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            _ => return None,
        })
    }
}

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Type.
    pub kind: Kind,
    /// Transaction.
    pub xid: u32,
    /// The hardware address that it is meant for.
    pub mac: Mac,
    /// `yiaddr`: the address offered or given.
    pub addr: Ipv4Addr,
    /// Server identifier (option 54).
    pub server: Option<Ipv4Addr>,
    /// Prefix length by the subnet mask (option 1).
    pub prefix: Option<u8>,
    /// First router (option 3).
    pub router: Option<Ipv4Addr>,
    /// First name server (option 6).
    pub dns: Option<Ipv4Addr>,
    /// Lease, seconds (option 51).
    pub lease_s: Option<u32>,
    /// T1, seconds (option 58).
    pub renew_s: Option<u32>,
    /// T2, seconds (option 59).
    pub rebind_s: Option<u32>,
}

/// What the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Discover or request (or decline, release).
    pub kind: Kind,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Our hardware address.
    pub mac: Mac,
    /// `ciaddr`: our address while we have one and can answer ARP for it.
    pub client: Ipv4Addr,
    /// Requested address (option 50).
    pub requested: Option<Ipv4Addr>,
    /// Server identifier (option 54).
    pub server: Option<Ipv4Addr>,
}

fn addr(option: &[u8]) -> Option<Ipv4Addr> {
    array::<4>(option, 0).ok().map(Ipv4Addr::from)
}

impl Answer {
    /// Reads a server's message.
    ///
    /// # Errors
    /// [`Malformed`] if it is no DHCP answer for Ethernet. Options that do not fit end the list.
    pub fn parse(b: &[u8]) -> Result<Self, Malformed> {
        if array(b, 0)? != [2, 1, 6] || array(b, 236)? != COOKIE {
            return Err(Malformed::Unsupported);
        }
        let mut kind = None;
        let mut answer = Self {
            kind: Kind::Nak,
            xid: be32(b, 4)?,
            mac: Mac(array(b, 28)?),
            addr: Ipv4Addr::from(array::<4>(b, 16)?),
            server: None,
            prefix: None,
            router: None,
            dns: None,
            lease_s: None,
            renew_s: None,
            rebind_s: None,
        };
        let mut o = &b[OPTIONS..];
        loop {
            match *o {
                [0, ref rest @ ..] => o = rest,
                [code, len, ref rest @ ..] if code != 255 && len as usize <= rest.len() => {
                    let (option, rest) = rest.split_at(len as usize);
                    match code {
                        1 => answer.prefix = addr(option).and_then(prefix),
                        3 => answer.router = addr(option),
                        6 => answer.dns = addr(option),
                        51 => answer.lease_s = be32(option, 0).ok(),
                        53 => kind = option.first().and_then(|k| Kind::from_raw(*k)),
                        54 => answer.server = addr(option),
                        58 => answer.renew_s = be32(option, 0).ok(),
                        59 => answer.rebind_s = be32(option, 0).ok(),
                        _ => {}
                    }
                    o = rest;
                }
                _ => break,
            }
        }
        answer.kind = kind.ok_or(Malformed::Unsupported)?;
        Ok(answer)
    }
}

/// Prefix length of a mask, if its ones are contiguous.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then_some(bits.leading_ones() as u8)
}

impl Query {
    /// Writes the message.
    pub fn emit(&self, out: &mut [u8; BYTES]) {
        *out = [0; BYTES];
        out[..4].copy_from_slice(&[1, 1, 6, 0]);
        out[4..8].copy_from_slice(&self.xid.to_be_bytes());
        out[8..10].copy_from_slice(&self.secs.to_be_bytes());
        out[12..16].copy_from_slice(&self.client.octets());
        out[28..34].copy_from_slice(&self.mac.0);
        out[236..240].copy_from_slice(&COOKIE);
        let mut at = OPTIONS;
        let mut put = |code: u8, value: &[u8]| {
            out[at] = code;
            out[at + 1] = value.len() as u8;
            out[at + 2..at + 2 + value.len()].copy_from_slice(value);
            at += 2 + value.len();
        };
        put(53, &[self.kind as u8]);
        // Client identifier: hardware type and address (RFC 2132 9.14).
        let [a, b, c, d, e, f] = self.mac.0;
        put(61, &[1, a, b, c, d, e, f]);
        if let Some(requested) = self.requested {
            put(50, &requested.octets());
        }
        if let Some(server) = self.server {
            put(54, &server.octets());
        }
        if matches!(self.kind, Kind::Discover | Kind::Request) {
            put(55, &[1, 3, 6, 51, 54, 58, 59]);
            put(57, &(MAX as u16 + 28).to_be_bytes());
            put(12, b"breakwater");
        }
        out[at] = 255;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_its_fields_where_servers_look() {
        let query = Query {
            kind: Kind::Request,
            xid: 0xdead_beef,
            secs: 3,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            client: Ipv4Addr::UNSPECIFIED,
            requested: Some(Ipv4Addr::new(10, 0, 2, 15)),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
        };
        let mut out = [0xff; BYTES];
        query.emit(&mut out);
        assert_eq!(out[..10], [1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 3]);
        assert_eq!(out[236..243], [99, 130, 83, 99, 53, 1, 3]);
        assert_eq!(out[252..264], [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]);
    }

    #[test]
    fn an_answer_is_read_and_cut_ones_are_survived() {
        let mut b = [0; 300];
        b[..3].copy_from_slice(&[2, 1, 6]);
        b[4..8].copy_from_slice(&[1, 2, 3, 4]);
        b[16..20].copy_from_slice(&[10, 0, 2, 15]);
        b[236..240].copy_from_slice(&COOKIE);
        let options = [
            53, 1, 5, 0, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 6, 4, 10, 0, 2, 3, 51, 4, 0, 1,
            0x51, 0x80, 255,
        ];
        b[240..240 + options.len()].copy_from_slice(&options);
        let answer = Answer::parse(&b).unwrap();
        assert_eq!((answer.kind, answer.xid), (Kind::Ack, 0x0102_0304));
        assert_eq!(answer.addr, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!((answer.prefix, answer.lease_s), (Some(24), Some(86400)));
        assert_eq!(answer.router, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(answer.dns, Some(Ipv4Addr::new(10, 0, 2, 3)));
        for cut in 0..b.len() {
            let _ = Answer::parse(&b[..cut]);
        }
        assert_eq!(Answer::parse(&b[..242]), Err(Malformed::Unsupported), "no type");
    }

    #[test]
    fn masks_with_holes_are_none() {
        assert_eq!(prefix(Ipv4Addr::new(255, 255, 240, 0)), Some(20));
        assert_eq!(prefix(Ipv4Addr::new(255, 0, 255, 0)), None);
        assert_eq!(prefix(Ipv4Addr::BROADCAST), Some(32));
        assert_eq!(prefix(Ipv4Addr::UNSPECIFIED), Some(0));
    }
}
