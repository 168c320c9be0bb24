//! Packets to bytes. Everything that a script may leave out has been filled in or has a default.

use super::packet::{Arp, Body, Icmp, Ip, Mac, Opt, Packet, Payload, Tcp, Udp};
use super::packet::{pattern_bytes, pseudo, sum};
use std::net::IpAddr;

/// Numbers of ICMP errors begin their payload with a packet; this is that packet, or its pattern.
fn icmp(m: &Icmp, ends: (IpAddr, IpAddr)) -> Vec<u8> {
    let mut out = vec![m.ty, m.code, 0, 0];
    out.extend(m.half[0].unwrap_or(0).to_be_bytes());
    out.extend(m.half[1].unwrap_or(0).to_be_bytes());
    match &m.payload {
        Payload::Any | Payload::QuoteLast(_) => {}
        Payload::Len(n) => out.extend(pattern_bytes(0, *n)),
        Payload::Bytes(bytes) => out.extend(bytes),
        Payload::Quote(packet, most) => {
            let quote = datagram(packet);
            // What RFC 792 asks for: the header and 64 bits, unless the script says more.
            let header = if m.v6 { 40 } else { (quote[0] & 15) as usize * 4 };
            out.extend(&quote[..quote.len().min(most.unwrap_or(header + 8))]);
        }
    }
    let start = if m.v6 { pseudo(ends.0, ends.1, 58, out.len()) } else { 0 };
    let check = !(sum(&out, start) as u16);
    out[2..4].copy_from_slice(&check.to_be_bytes());
    out
}

/// An option in bytes.
pub fn option(o: &Opt) -> Vec<u8> {
    let tlv = |kind: u8, body: &[u8]| [&[kind, body.len() as u8 + 2], body].concat();
    match o {
        Opt::Nop => vec![1],
        Opt::End => vec![0],
        Opt::Mss(mss) => tlv(2, &mss.to_be_bytes()),
        Opt::Scale(s) => tlv(3, &[s.unwrap_or(0)]),
        Opt::SackOk => tlv(4, &[]),
        Opt::Sack(blocks) => {
            let edges = blocks.iter().flat_map(|(l, r)| [l.to_be_bytes(), r.to_be_bytes()]);
            tlv(5, &edges.flatten().collect::<Vec<_>>())
        }
        Opt::Ts(val, ecr) => {
            tlv(8, &[val.unwrap_or(0).to_be_bytes(), ecr.unwrap_or(0).to_be_bytes()].concat())
        }
        Opt::FastOpen(cookie) => tlv(34, cookie.as_deref().unwrap_or(&[])),
        Opt::FastOpenExp(cookie) => {
            tlv(254, &[&[0xf9, 0x89], cookie.as_deref().unwrap_or(&[])].concat())
        }
        Opt::Other(kind, body) => tlv(*kind, body),
    }
}

fn tcp(t: &Tcp) -> Vec<u8> {
    let mut options: Vec<u8> = t.options.iter().flatten().flat_map(option).collect();
    options.resize(options.len().next_multiple_of(4), 0);
    assert!(options.len() <= 40, "more options than a header holds");
    let mut out = Vec::new();
    out.extend(t.sport.unwrap_or(0).to_be_bytes());
    out.extend(t.dport.unwrap_or(0).to_be_bytes());
    out.extend(t.seq.to_be_bytes());
    out.extend(t.ack.unwrap_or(0).to_be_bytes());
    out.push(((20 + options.len()) as u8) << 2 | (t.flags >> 8) as u8);
    out.push(t.flags as u8);
    out.extend(t.win.unwrap_or(0).to_be_bytes());
    out.extend([0, 0]);
    out.extend(t.urg.unwrap_or(0).to_be_bytes());
    out.extend(options);
    match &t.data {
        Some(data) => out.extend(data),
        None => out.extend(pattern_bytes(0, t.len)),
    }
    out
}

fn udp(u: &Udp) -> Vec<u8> {
    let data = u.data.clone().unwrap_or_else(|| pattern_bytes(0, u.len));
    let mut out = Vec::new();
    out.extend(u.sport.unwrap_or(0).to_be_bytes());
    out.extend(u.dport.unwrap_or(0).to_be_bytes());
    out.extend(u.length.unwrap_or(data.len() as u16 + 8).to_be_bytes());
    out.extend([0, 0]);
    out.extend(data);
    out
}

/// The IP payload, with its checksum.
pub fn transport(p: &Packet) -> Vec<u8> {
    let (src, dst) = (p.ip.src.expect("filled in"), p.ip.dst.expect("filled in"));
    let check = |mut out: Vec<u8>, at: usize, zero_is_none: bool| {
        let proto = p.body.protocol();
        let mut check = !(sum(&out, pseudo(src, dst, proto, out.len())) as u16);
        if zero_is_none && check == 0 {
            check = 0xffff;
        }
        out[at..at + 2].copy_from_slice(&check.to_be_bytes());
        out
    };
    let mut out = match &p.body {
        Body::Tcp(t) => check(tcp(t), 16, false),
        Body::Udp(u) if u.no_sum => udp(u),
        Body::Udp(u) => check(udp(u), 6, true),
        Body::Icmp(m) => icmp(m, (src, dst)),
        Body::Ip(_, bytes) => bytes.clone(),
        Body::Arp(_) | Body::Raw(_) => unreachable!("not over IP"),
    };
    if p.ip.bad_l4_sum {
        let at = match p.body {
            Body::Tcp(_) => 16,
            Body::Udp(_) => 6,
            _ => 2,
        };
        out[at] ^= 0x55;
    }
    out
}

fn tos(ip: &Ip) -> u8 {
    ip.tos.unwrap_or(0) & if ip.ecn.is_some() { 0xfc } else { 0xff } | ip.ecn.unwrap_or(0)
}

fn ipv4(ip: &Ip, proto: u8, whole: &[u8]) -> Vec<u8> {
    let (src, dst) = match (ip.src, ip.dst) {
        (Some(IpAddr::V4(s)), Some(IpAddr::V4(d))) => (s, d),
        other => panic!("addresses of different families: {other:?}"),
    };
    let (from, to, more) = ip.frag.unwrap_or((0, whole.len(), None));
    let to = to.min(whole.len());
    let more = more.unwrap_or(to < whole.len());
    let mut options = ip.options.clone().unwrap_or_default();
    options.resize(options.len().next_multiple_of(4), 0);
    let header = 20 + options.len();
    let len = (header + to - from) as u16;
    let word = (from / 8) as u16 | (more as u16) << 13 | (ip.df.unwrap_or(false) as u16) << 14;
    let mut out = Vec::new();
    out.push(ip.version.unwrap_or(4) << 4 | ip.ihl.unwrap_or((header / 4) as u8));
    out.push(tos(ip));
    out.extend(ip.total_len.unwrap_or(len).to_be_bytes());
    out.extend(ip.id.unwrap_or(1).to_be_bytes());
    out.extend(word.to_be_bytes());
    out.extend([ip.ttl.unwrap_or(64), ip.proto.unwrap_or(proto), 0, 0]);
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(options);
    let check = !(sum(&out, 0) as u16) ^ if ip.bad_sum { 0x5500 } else { 0 };
    out[10..12].copy_from_slice(&check.to_be_bytes());
    out.extend(&whole[from..to]);
    out
}

fn ipv6(ip: &Ip, proto: u8, whole: &[u8]) -> Vec<u8> {
    let (src, dst) = match (ip.src, ip.dst) {
        (Some(IpAddr::V6(s)), Some(IpAddr::V6(d))) => (s, d),
        other => panic!("addresses of different families: {other:?}"),
    };
    let mut extensions = ip.extensions.clone();
    let mut piece = whole.to_vec();
    if let Some((from, to, more)) = ip.frag {
        let to = to.min(whole.len());
        piece = whole[from..to].to_vec();
        let word = from as u16 & !7 | more.unwrap_or(to < whole.len()) as u16;
        let id = ip.id.unwrap_or(1) as u32;
        extensions.push((44, [&word.to_be_bytes()[..], &id.to_be_bytes()].concat()));
    }
    let mut rest = Vec::new();
    for (i, (kind, body)) in extensions.iter().enumerate() {
        let next = extensions.get(i + 1).map_or(ip.proto.unwrap_or(proto), |e| e.0);
        let length = if *kind == 44 { 0 } else { ((body.len() + 2) / 8 - 1) as u8 };
        rest.extend([next, length]);
        rest.extend(body);
    }
    rest.extend(piece);
    let first = extensions.first().map_or(ip.proto.unwrap_or(proto), |e| e.0);
    let t = tos(ip);
    let mut out = vec![ip.version.unwrap_or(6) << 4 | t >> 4, t << 4, 0, 0];
    out.extend(ip.total_len.unwrap_or(rest.len() as u16).to_be_bytes());
    out.extend([first, ip.ttl.unwrap_or(64)]);
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(rest);
    out
}

/// From the IP header on.
pub fn datagram(p: &Packet) -> Vec<u8> {
    let (whole, proto) = (transport(p), p.body.protocol());
    let mut out = match p.ip.dst {
        Some(IpAddr::V6(_)) => ipv6(&p.ip, proto, &whole),
        _ => ipv4(&p.ip, proto, &whole),
    };
    if let Some(n) = p.ip.cut {
        out.truncate(n);
    }
    out
}

fn arp(a: &Arp) -> Vec<u8> {
    let (hw, proto, hw_len, proto_len) = a.types.unwrap_or((1, 0x800, 6, 4));
    let mut out = Vec::new();
    out.extend(hw.to_be_bytes());
    out.extend(proto.to_be_bytes());
    out.extend([hw_len, proto_len]);
    out.extend(a.op.to_be_bytes());
    out.extend(a.sender_mac.unwrap_or_default());
    out.extend(a.sender.unwrap_or_default());
    out.extend(a.target_mac.unwrap_or_default());
    out.extend(a.target.unwrap_or_default());
    out
}

/// The frame, padded to what a wire carries at least.
pub fn frame(p: &Packet) -> Vec<u8> {
    if let Body::Raw(bytes) = &p.body {
        return bytes.clone();
    }
    let (ty, body) = match (&p.body, p.ip.dst) {
        (Body::Arp(a), _) => (0x0806u16, arp(a)),
        (_, Some(IpAddr::V6(_))) => (0x86dd, datagram(p)),
        _ => (0x0800, datagram(p)),
    };
    let mac = |m: Option<Mac>| m.expect("filled in");
    let mut out = [mac(p.eth_dst), mac(p.eth_src)].concat();
    out.extend(ty.to_be_bytes());
    out.extend(body);
    out.resize(out.len().max(60), 0);
    out
}
