//! The text of a packet.

use super::cursor::{Cursor, Result};
use super::packet::{Arp, Body, Icmp, Ip, Opt, Packet, Payload, Tcp, Udp, flag};
use std::net::IpAddr;

pub fn packet(c: &mut Cursor) -> Result<Packet> {
    let mut p = Packet::default();
    if c.eat("[") {
        header(&mut Cursor::new(c.until("]")?), &mut p)?;
    }
    if c.eat("@") {
        p.flow = c.word().into();
    }
    p.body = body(c)?;
    if !c.at_end() {
        return Err(format!("what is `{}`?", c.rest));
    }
    Ok(p)
}

fn header(c: &mut Cursor, p: &mut Packet) -> Result<()> {
    let ip: &mut Ip = &mut p.ip;
    while !c.at_end() {
        let word = c.word();
        match word {
            "noecn" => ip.ecn = Some(0),
            "ect1" => ip.ecn = Some(1),
            "ect0" => ip.ecn = Some(2),
            "ce" => ip.ecn = Some(3),
            // Either codepoint.
            "ect01" => {}
            "flowlabel" => drop(c.number()?),
            "tos" => ip.tos = Some(c.num()?),
            "ttl" | "hlim" => ip.ttl = Some(c.num()?),
            "id" => ip.id = Some(c.num()?),
            "df" => ip.df = Some(true),
            "nodf" => ip.df = Some(false),
            "frag" => {
                let from = c.num()?;
                c.expect(":")?;
                let to = c.num()?;
                let more = match c.peek_word() {
                    "mf" => Some(c.eat_word("mf")),
                    "last" => Some(!c.eat_word("last")),
                    _ => None,
                };
                ip.frag = Some((from, to, more));
            }
            "opts" => ip.options = Some(c.hex(true)?),
            "src" => ip.src = Some(c.ip()?),
            "dst" => ip.dst = Some(c.ip()?),
            "from" => p.eth_src = Some(c.mac()?),
            "to" => p.eth_dst = Some(c.mac()?),
            "proto" => ip.proto = Some(c.num()?),
            "version" => ip.version = Some(c.num()?),
            "ihl" => ip.ihl = Some(c.num()?),
            "len" => ip.total_len = Some(c.num()?),
            "badsum" => ip.bad_sum = true,
            "badl4" => ip.bad_l4_sum = true,
            "cut" => ip.cut = Some(c.num()?),
            "hop" => ip.extensions.push((0, c.hex(true)?)),
            "route" => ip.extensions.push((43, c.hex(true)?)),
            "dopt" => ip.extensions.push((60, c.hex(true)?)),
            _ => return Err(format!("what is `{word}` of an IP header?")),
        }
        c.eat(",");
    }
    Ok(())
}

fn body(c: &mut Cursor) -> Result<Body> {
    match c.peek_word() {
        "udp" => {
            c.word();
            udp(c).map(Body::Udp)
        }
        "icmp" | "icmpv6" => {
            let v6 = c.word() == "icmpv6";
            icmp(c, v6).map(Body::Icmp)
        }
        "arp" => {
            c.word();
            arp(c).map(Body::Arp)
        }
        "ip" => {
            c.word();
            let proto = c.num()?;
            Ok(Body::Ip(proto, bytes(c)?))
        }
        "raw" => {
            c.word();
            Ok(Body::Raw(c.hex(true)?))
        }
        "ipv4" | "ipv6" | "gre" | "mpls" | "psp" => Err("encapsulation is not spoken".into()),
        _ => tcp(c).map(Body::Tcp),
    }
}

/// `(N)`: bytes of the pattern; or `hex ...`; or a text.
fn bytes(c: &mut Cursor) -> Result<Vec<u8>> {
    if c.eat_word("hex") {
        return c.hex(true);
    }
    if c.eat("\"") {
        return Ok(c.until("\"")?.as_bytes().to_vec());
    }
    c.expect("(")?;
    let n = c.num()?;
    c.expect(")")?;
    Ok(super::packet::pattern_bytes(0, n))
}

fn ports(c: &mut Cursor) -> Result<(Option<u16>, Option<u16>)> {
    if !c.is_number() {
        return Ok((None, None));
    }
    let src = c.num()?;
    c.expect(">")?;
    Ok((Some(src), Some(c.num()?)))
}

fn udp(c: &mut Cursor) -> Result<Udp> {
    let mut u = Udp::default();
    (u.sport, u.dport) = ports(c)?;
    loop {
        match c.peek_word() {
            "len" => {
                c.word();
                u.length = Some(c.num()?);
            }
            "nosum" => u.no_sum = c.eat("nosum"),
            _ => break,
        }
    }
    let data = bytes(c)?;
    u.len = data.len();
    u.data = Some(data);
    Ok(u)
}

pub fn flags(word: &str) -> Result<u16> {
    word.chars().filter(|c| *c != '-').try_fold(0, |flags, c| {
        let found = flag::LETTERS.iter().find(|(letter, _)| *letter == c);
        found.map(|(_, bit)| flags | bit).ok_or_else(|| format!("what is flag `{c}`?"))
    })
}

fn tcp(c: &mut Cursor) -> Result<Tcp> {
    let mut t = Tcp { options: Some(Vec::new()), ..Tcp::default() };
    (t.sport, t.dport) = ports(c)?;
    t.flags = flags(c.take(|c| c.is_ascii_uppercase() || c == '.' || c == '-'))?;
    let length = sequence(c)?;
    (t.seq, t.len) = length;
    if c.eat_word("ack") {
        t.ack = Some(c.number()? as u32);
    }
    if c.eat_word("win") {
        t.win = Some(c.num()?);
    }
    if c.eat_word("urg") {
        t.urg = Some(c.num()?);
    }
    if c.eat("<") {
        t.options = options(&mut Cursor::new(c.until(">")?))?;
    }
    if c.eat("\"") {
        t.data = Some(c.until("\"")?.as_bytes().to_vec());
    }
    Ok(t)
}

/// `FIRST:END(LENGTH)`, or `FIRST(LENGTH)`.
fn sequence(c: &mut Cursor) -> Result<(u32, usize)> {
    let first = c.number()? as u32;
    let end = if c.eat(":") { Some(c.number()? as u32) } else { None };
    c.expect("(")?;
    let len: usize = c.num()?;
    c.expect(")")?;
    if end.is_some_and(|end| end != first.wrapping_add(len as u32)) {
        return Err(format!("from {first} to {} are not {len} bytes", end.unwrap()));
    }
    Ok((first, len))
}

fn options(c: &mut Cursor) -> Result<Option<Vec<Opt>>> {
    if c.eat("...") {
        return Ok(None);
    }
    let mut out = Vec::new();
    while !c.at_end() {
        let word = c.word();
        out.push(option(word, c)?);
        c.eat(",");
    }
    Ok(Some(out))
}

fn cookie(c: &mut Cursor) -> Result<Option<Vec<u8>>> {
    if c.eat("TFO_COOKIE") {
        // What packetdrill's scripts call the cookie of the usual addresses and key.
        return Ok(Some(vec![0x30, 0x21, 0xb9, 0xd8, 0x89, 0x01, 0x7e, 0xeb]));
    }
    if c.eat("...") { Ok(None) } else { c.hex(false).map(Some) }
}

fn option(word: &str, c: &mut Cursor) -> Result<Opt> {
    Ok(match word {
        "nop" => Opt::Nop,
        "eol" => Opt::End,
        "mss" => Opt::Mss(c.num()?),
        "wscale" if c.eat("*") => Opt::Scale(None),
        "wscale" => Opt::Scale(Some(c.num()?)),
        "sackOK" => Opt::SackOk,
        "sack" => {
            let mut blocks = Vec::new();
            while c.is_number() {
                let left = c.number()? as u32;
                c.expect(":")?;
                blocks.push((left, c.number()? as u32));
            }
            Opt::Sack(blocks)
        }
        "TS" => {
            let any = |c: &mut Cursor| -> Result<Option<u32>> {
                if c.eat("*") { Ok(None) } else { c.number().map(|n| Some(n as u32)) }
            };
            c.expect("val")?;
            let val = any(c)?;
            c.expect("ecr")?;
            Opt::Ts(val, any(c)?)
        }
        "FO" => Opt::FastOpen(cookie(c)?),
        "FOEXP" => Opt::FastOpenExp(cookie(c)?),
        "kind" => {
            let kind = c.num()?;
            Opt::Other(kind, c.hex(false)?)
        }
        _ => return Err(format!("what is option `{word}`?")),
    })
}

/// Types and codes by name: type, code, whether for IPv6.
const ICMP: [(&str, u8, bool); 26] = [
    ("echo_reply", 0, false),
    ("unreachable", 3, false),
    ("source_quench", 4, false),
    ("redirect", 5, false),
    ("echo_request", 8, false),
    ("time_exceeded", 11, false),
    ("parameter_problem", 12, false),
    ("timestamp", 13, false),
    ("timestamp_reply", 14, false),
    ("info_request", 15, false),
    ("mask_request", 17, false),
    ("mask_reply", 18, false),
    ("unreachable", 1, true),
    ("packet_too_big", 2, true),
    ("time_exceeded", 3, true),
    ("parameter_problem", 4, true),
    ("echo_request", 128, true),
    ("echo_reply", 129, true),
    ("mld_query", 130, true),
    ("mld_report", 131, true),
    ("rs", 133, true),
    ("ra", 134, true),
    ("ns", 135, true),
    ("na", 136, true),
    ("mldv2_report", 143, true),
    ("redirect", 137, true),
];
const CODES: [(&str, u8, bool); 23] = [
    ("net", 0, false),
    ("host", 1, false),
    ("protocol", 2, false),
    ("port", 3, false),
    ("frag_needed", 4, false),
    ("packet_too_big", 4, false),
    ("source_route_failed", 5, false),
    ("net_unknown", 6, false),
    ("host_unknown", 7, false),
    ("source_host_isolated", 8, false),
    ("net_prohibited", 9, false),
    ("host_prohibited", 10, false),
    ("net_tos", 11, false),
    ("host_tos", 12, false),
    ("admin_prohibited", 13, false),
    ("ttl", 0, false),
    ("reassembly", 1, false),
    ("no_route", 0, true),
    ("admin_prohibited", 1, true),
    ("address", 3, true),
    ("port", 4, true),
    ("hop_limit", 0, true),
    ("reassembly", 1, true),
];

fn named(table: &[(&str, u8, bool)], c: &mut Cursor, v6: bool) -> Result<Option<u8>> {
    if c.is_number() {
        return c.num().map(Some);
    }
    let word = c.peek_word();
    let short = word.strip_suffix("_unreachable").unwrap_or(word);
    let found = table.iter().find(|(name, _, six)| *six == v6 && (*name == short || *name == word));
    if found.is_some() {
        c.word();
    }
    Ok(found.map(|f| f.1))
}

fn icmp(c: &mut Cursor, v6: bool) -> Result<Icmp> {
    let unknown = format!("what is `{}` of ICMP?", c.rest);
    let ty = named(&ICMP, c, v6)?.ok_or(unknown)?;
    let code = named(&CODES, c, v6)?.unwrap_or(0);
    let mut m = Icmp { v6, ty, code, ..Icmp::default() };
    let mut built: Vec<u8> = Vec::new();
    while !c.at_end() {
        let word = c.word();
        match word {
            "id" => m.half[0] = Some(c.num()?),
            "seq" => m.half[1] = Some(c.num()?),
            "mtu" if ty == 134 => built.extend([&[5, 1, 0, 0][..], &word32(c)?].concat()),
            "mtu" | "word" => m.half = halves(c.number()? as u32),
            "ptr" if !v6 => m.half = halves((c.number()? as u32) << 24),
            "ptr" => m.half = halves(c.number()? as u32),
            "gw" => match c.ip()? {
                IpAddr::V4(ip) => m.half = halves(ip.to_bits()),
                IpAddr::V6(ip) => built.extend(ip.octets()),
            },
            "target" | "group" => match c.ip()? {
                IpAddr::V6(ip) => built.extend(ip.octets()),
                IpAddr::V4(_) => return Err("a target of IPv4".into()),
            },
            "slla" => built.extend([&[1, 1][..], &c.mac()?].concat()),
            "tlla" => built.extend([&[2, 1][..], &c.mac()?].concat()),
            "hex" => built.extend(c.hex(true)?),
            "prefix" => built.extend(prefix(c)?),
            "reachable" | "retrans" => built.extend(word32(c)?),
            "quoting" => {
                let most = if c.is_number() { Some(c.num()?) } else { None };
                m.payload = Payload::QuoteLast(most);
            }
            "" if c.eat("(") => {
                m.payload = Payload::Len(c.num()?);
                c.expect(")")?;
            }
            "" if c.eat("[") => m.payload = quote(c)?,
            _ => return Err(format!("what is `{word}{}` of ICMP?", c.rest)),
        }
    }
    if !built.is_empty() {
        m.payload = Payload::Bytes(built);
    }
    Ok(m)
}

fn halves(word: u32) -> [Option<u16>; 2] {
    [Some((word >> 16) as u16), Some(word as u16)]
}

fn word32(c: &mut Cursor) -> Result<[u8; 4]> {
    Ok((c.number()? as u32).to_be_bytes())
}

/// `prefix P/LENGTH flags F valid S preferred S`: the option of RFC 4861 4.6.2.
fn prefix(c: &mut Cursor) -> Result<Vec<u8>> {
    let IpAddr::V6(ip) = c.ip()? else { return Err("a prefix of IPv4".into()) };
    c.expect("/")?;
    let len: u8 = c.num()?;
    c.expect("flags")?;
    let flags: u8 = c.num()?;
    c.expect("valid")?;
    let valid = word32(c)?;
    c.expect("preferred")?;
    let preferred = word32(c)?;
    let head = [3, 4, len, flags];
    Ok([&head[..], &valid, &preferred, &[0; 4], &ip.octets()].concat())
}

/// `[udp 1>2 (5)]`, `[S 0:0(0)]`, `[1:1001(1000)] most N`: what an ICMP error quotes.
fn quote(c: &mut Cursor) -> Result<Payload> {
    let inner = c.until("]")?;
    let mut quoted = Cursor::new(inner);
    let mut p = Packet::default();
    if quoted.eat("{") {
        header(&mut Cursor::new(quoted.until("}")?), &mut p)?;
    }
    if quoted.eat("@") {
        p.flow = quoted.word().into();
    }
    p.body = if quoted.is_number() {
        let (seq, len) = sequence(&mut quoted)?;
        Body::Tcp(Tcp { flags: flag::ACK, seq, len, options: Some(vec![]), ..Tcp::default() })
    } else {
        body(&mut quoted)?
    };
    if !quoted.at_end() {
        return Err(format!("what is `{}`?", quoted.rest));
    }
    let most = if c.eat_word("most") { Some(c.num()?) } else { None };
    Ok(Payload::Quote(Box::new(p), most))
}

/// `arp request who-has A tell B`, `arp reply A is-at MAC`, and what else of the packet is unusual.
fn arp(c: &mut Cursor) -> Result<Arp> {
    let mut a = Arp::default();
    let v4 = |c: &mut Cursor| match c.ip()? {
        IpAddr::V4(ip) => Ok(Some(ip.octets())),
        IpAddr::V6(_) => Err("ARP is of IPv4".to_string()),
    };
    while !c.at_end() {
        match c.take(|c| c.is_ascii_alphanumeric() || c == '-') {
            "request" => a.op = 1,
            "reply" => a.op = 2,
            "op" => a.op = c.num()?,
            "who-has" | "target" => a.target = v4(c)?,
            "tell" | "sender" => a.sender = v4(c)?,
            "is-at" | "sha" => a.sender_mac = Some(c.mac()?),
            "tha" => a.target_mac = Some(c.mac()?),
            "types" => a.types = Some((c.num()?, c.num()?, c.num()?, c.num()?)),
            word => return Err(format!("what is `{word}{}` of ARP?", c.rest)),
        }
    }
    Ok(a)
}
