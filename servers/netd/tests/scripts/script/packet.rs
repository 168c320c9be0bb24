//! A packet as a script speaks of it. What a script leaves out is `None`: filled in when the packet
//! is injected, not compared when it is expected.
//!
//! Codecs here are the tests' own, so that a mistake in netd's cannot hide behind itself.

use std::net::IpAddr;

pub type Mac = [u8; 6];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packet {
    /// Label of the connection it belongs to, empty: the one that the script is about.
    pub flow: String,
    pub eth_src: Option<Mac>,
    pub eth_dst: Option<Mac>,
    pub ip: Ip,
    pub body: Body,
}

/// What is said of the IP header (and, for a sender, what is wrong with it).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ip {
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    pub tos: Option<u8>,
    pub ecn: Option<u8>,
    pub ttl: Option<u8>,
    pub id: Option<u16>,
    pub df: Option<bool>,
    /// Which bytes of the IP payload this fragment has; whether it says that more follow.
    pub frag: Option<(usize, usize, Option<bool>)>,
    /// IPv4 options; `None` expects none.
    pub options: Option<Vec<u8>>,
    /// IPv6 extension headers: their number, their bytes after the first two.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub proto: Option<u8>,
    pub version: Option<u8>,
    pub ihl: Option<u8>,
    pub total_len: Option<u16>,
    pub bad_sum: bool,
    /// The transport's checksum is wrong.
    pub bad_l4_sum: bool,
    /// Fewer bytes than the headers say arrive.
    pub cut: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Tcp(Tcp),
    Udp(Udp),
    Icmp(Icmp),
    Arp(Arp),
    /// Any other protocol over IP, or a fragment: bytes.
    Ip(u8, Vec<u8>),
    /// A frame: bytes.
    Raw(Vec<u8>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Raw(Vec::new())
    }
}

pub mod flag {
    pub const FIN: u16 = 1;
    pub const SYN: u16 = 2;
    pub const RST: u16 = 4;
    pub const PSH: u16 = 8;
    pub const ACK: u16 = 16;
    pub const URG: u16 = 32;
    pub const ECE: u16 = 64;
    pub const CWR: u16 = 128;
    pub const AE: u16 = 256;
    /// As letters of a script.
    pub const LETTERS: [(char, u16); 9] = [
        ('F', FIN),
        ('S', SYN),
        ('R', RST),
        ('P', PSH),
        ('.', ACK),
        ('U', URG),
        ('E', ECE),
        ('W', CWR),
        ('A', AE),
    ];
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tcp {
    pub sport: Option<u16>,
    pub dport: Option<u16>,
    pub flags: u16,
    pub seq: u32,
    pub len: usize,
    pub ack: Option<u32>,
    pub win: Option<u16>,
    pub urg: Option<u16>,
    /// `None`: any.
    pub options: Option<Vec<Opt>>,
    /// Payload; from a script it is what the stream has at that place.
    pub data: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Opt {
    Nop,
    End,
    Mss(u16),
    /// `None`: any.
    Scale(Option<u8>),
    SackOk,
    Sack(Vec<(u32, u32)>),
    /// Value and echo; `None`: any.
    Ts(Option<u32>, Option<u32>),
    /// Fast Open cookie; `None`: any of the usual length.
    FastOpen(Option<Vec<u8>>),
    /// Likewise, in the experimental form.
    FastOpenExp(Option<Vec<u8>>),
    Other(u8, Vec<u8>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Udp {
    pub sport: Option<u16>,
    pub dport: Option<u16>,
    /// Bytes of payload.
    pub len: usize,
    pub data: Option<Vec<u8>>,
    /// The header's length field, if it is not right.
    pub length: Option<u16>,
    /// No checksum (IPv4).
    pub no_sum: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Icmp {
    pub v6: bool,
    pub ty: u8,
    pub code: u8,
    /// The four bytes after the checksum, as two halves; `None`: any (0 when injected).
    pub half: [Option<u16>; 2],
    pub payload: Payload,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Payload {
    #[default]
    Any,
    /// So many bytes of the pattern.
    Len(usize),
    Bytes(Vec<u8>),
    /// A packet of the other side, its first bytes.
    Quote(Box<Packet>, Option<usize>),
    /// The last packet that was injected, its first bytes.
    QuoteLast(Option<usize>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arp {
    pub op: u16,
    pub sender_mac: Option<Mac>,
    pub sender: Option<[u8; 4]>,
    pub target_mac: Option<Mac>,
    pub target: Option<[u8; 4]>,
    /// Hardware type, protocol type, their lengths.
    pub types: Option<(u16, u16, u8, u8)>,
}

/// Byte `at` of any stream or datagram: its place shows, at distances up to 251 and at multiples of
/// the usual segment sizes.
pub fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

pub fn pattern_bytes(at: u64, len: usize) -> Vec<u8> {
    (at..at + len as u64).map(pattern).collect()
}

/// The Internet checksum (RFC 1071), folded, not inverted.
pub fn sum(bytes: &[u8], start: u32) -> u32 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]) as u32;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// Of the pseudo-header.
pub fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> u32 {
    let mut bytes = Vec::new();
    for ip in [src, dst] {
        match ip {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, proto]);
    sum(&bytes, 0)
}

impl Body {
    pub fn protocol(&self) -> u8 {
        match self {
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
            Self::Icmp(i) if i.v6 => 58,
            Self::Icmp(_) => 1,
            Self::Ip(proto, _) => *proto,
            Self::Arp(_) | Self::Raw(_) => 0,
        }
    }
}
