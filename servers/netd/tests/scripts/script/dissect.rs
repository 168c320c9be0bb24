//! Bytes to packets. What a sender may not do (a wrong checksum, a length that lies) is an error.

use super::packet::{Arp, Body, Icmp, Ip, Opt, Packet, Payload, Tcp, Udp, pseudo, sum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

type Result<T> = std::result::Result<T, String>;

fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}
fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn need(b: &[u8], n: usize, what: &str) -> Result<()> {
    if b.len() < n { Err(format!("{what} of {} bytes", b.len())) } else { Ok(()) }
}

fn options(mut b: &[u8]) -> Result<Vec<Opt>> {
    let mut out = Vec::new();
    while let Some(&kind) = b.first() {
        if kind < 2 {
            out.push(if kind == 1 { Opt::Nop } else { Opt::End });
            b = &b[1..];
            continue;
        }
        let len = *b.get(1).ok_or("an option without length")? as usize;
        if len < 2 || len > b.len() {
            return Err(format!("option {kind} of length {len}"));
        }
        let body = &b[2..len];
        out.push(match (kind, body.len()) {
            (2, 2) => Opt::Mss(be16(body, 0)),
            (3, 1) => Opt::Scale(Some(body[0])),
            (4, 0) => Opt::SackOk,
            (5, n) if n > 0 && n.is_multiple_of(8) => {
                Opt::Sack(body.chunks(8).map(|c| (be32(c, 0), be32(c, 4))).collect())
            }
            (8, 8) => Opt::Ts(Some(be32(body, 0)), Some(be32(body, 4))),
            (34, _) => Opt::FastOpen(Some(body.to_vec())),
            (254, n) if n >= 2 && be16(body, 0) == 0xf989 => {
                Opt::FastOpenExp(Some(body[2..].to_vec()))
            }
            _ => Opt::Other(kind, body.to_vec()),
        });
        b = &b[len..];
    }
    Ok(out)
}

fn tcp(b: &[u8]) -> Result<Tcp> {
    need(b, 20, "TCP header")?;
    let header = (b[12] >> 4) as usize * 4;
    if header < 20 || header > b.len() {
        return Err(format!("TCP data offset of {header}"));
    }
    let flags = ((b[12] & 1) as u16 * 256) | b[13] as u16;
    Ok(Tcp {
        sport: Some(be16(b, 0)),
        dport: Some(be16(b, 2)),
        flags,
        seq: be32(b, 4),
        len: b.len() - header,
        ack: Some(be32(b, 8)),
        win: Some(be16(b, 14)),
        urg: Some(be16(b, 18)),
        options: Some(options(&b[20..header])?),
        data: Some(b[header..].to_vec()),
    })
}

fn udp(b: &[u8]) -> Result<Udp> {
    need(b, 8, "UDP header")?;
    if be16(b, 4) as usize != b.len() {
        return Err(format!("UDP length {} of {}", be16(b, 4), b.len()));
    }
    Ok(Udp {
        sport: Some(be16(b, 0)),
        dport: Some(be16(b, 2)),
        len: b.len() - 8,
        data: Some(b[8..].to_vec()),
        length: None,
        no_sum: be16(b, 6) == 0,
    })
}

fn transport(ip: &Ip, proto: u8, b: &[u8]) -> Result<Body> {
    let (src, dst) = (ip.src.unwrap(), ip.dst.unwrap());
    let intact = |start: u32| sum(b, start) == 0xffff;
    let over = || pseudo(src, dst, proto, b.len());
    match proto {
        6 if !intact(over()) => Err("a wrong TCP checksum".into()),
        6 => tcp(b).map(Body::Tcp),
        17 => {
            let u = udp(b)?;
            if !u.no_sum && !intact(over()) {
                return Err("a wrong UDP checksum".into());
            }
            Ok(Body::Udp(u))
        }
        1 | 58 if !intact(if proto == 58 { over() } else { 0 }) => {
            Err("a wrong ICMP checksum".into())
        }
        1 | 58 => {
            need(b, 8, "ICMP message")?;
            Ok(Body::Icmp(Icmp {
                v6: proto == 58,
                ty: b[0],
                code: b[1],
                half: [Some(be16(b, 4)), Some(be16(b, 6))],
                payload: Payload::Bytes(b[8..].to_vec()),
            }))
        }
        _ => Ok(Body::Ip(proto, b.to_vec())),
    }
}

fn ipv4(b: &[u8]) -> Result<(Ip, Body)> {
    need(b, 20, "IPv4 header")?;
    let (header, total) = ((b[0] & 15) as usize * 4, be16(b, 2) as usize);
    if b[0] >> 4 != 4 || header < 20 || total < header || total > b.len() {
        return Err(format!("IPv4 header {:02x}, total length {total} of {}", b[0], b.len()));
    }
    if sum(&b[..header], 0) != 0xffff {
        return Err("a wrong IPv4 header checksum".into());
    }
    let word = be16(b, 6);
    let (more, from) = (word & 0x2000 != 0, (word & 0x1fff) as usize * 8);
    let mut ip = Ip {
        src: Some(IpAddr::V4(Ipv4Addr::from_bits(be32(b, 12)))),
        dst: Some(IpAddr::V4(Ipv4Addr::from_bits(be32(b, 16)))),
        tos: Some(b[1]),
        ecn: Some(b[1] & 3),
        ttl: Some(b[8]),
        id: Some(be16(b, 4)),
        df: Some(word & 0x4000 != 0),
        options: (header > 20).then(|| b[20..header].to_vec()),
        ..Ip::default()
    };
    let payload = &b[header..total];
    if more || from > 0 {
        ip.frag = Some((from, from + payload.len(), Some(more)));
        return Ok((ip, Body::Ip(b[9], payload.to_vec())));
    }
    let body = transport(&ip, b[9], payload)?;
    Ok((ip, body))
}

fn ipv6(b: &[u8]) -> Result<(Ip, Body)> {
    need(b, 40, "IPv6 header")?;
    let len = be16(b, 4) as usize;
    need(b, 40 + len, "IPv6 packet")?;
    let at = |i: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&b[i..i + 16]).unwrap());
    let tos = b[0] << 4 | b[1] >> 4;
    let mut ip = Ip {
        src: Some(IpAddr::V6(at(8))),
        dst: Some(IpAddr::V6(at(24))),
        tos: Some(tos),
        ecn: Some(tos & 3),
        ttl: Some(b[7]),
        ..Ip::default()
    };
    let (mut next, mut rest) = (b[6], &b[40..40 + len]);
    while matches!(next, 0 | 43 | 44 | 60) {
        need(rest, 8, "extension header")?;
        let size = if next == 44 { 8 } else { (rest[1] as usize + 1) * 8 };
        need(rest, size, "extension header")?;
        if next == 44 {
            let (from, more) = ((be16(rest, 2) & !7) as usize, rest[3] & 1 == 1);
            ip.id = Some(be32(rest, 4) as u16);
            ip.frag = Some((from, from + rest.len() - 8, Some(more)));
        } else {
            ip.extensions.push((next, rest[2..size].to_vec()));
        }
        (next, rest) = (rest[0], &rest[size..]);
    }
    if ip.frag.is_some_and(|f| f != (0, f.1, Some(false))) {
        return Ok((ip, Body::Ip(next, rest.to_vec())));
    }
    let body = transport(&ip, next, rest)?;
    Ok((ip, body))
}

fn arp(b: &[u8]) -> Result<Arp> {
    need(b, 28, "ARP packet")?;
    let mac = |at: usize| <[u8; 6]>::try_from(&b[at..at + 6]).ok();
    let ip = |at: usize| <[u8; 4]>::try_from(&b[at..at + 4]).ok();
    Ok(Arp {
        op: be16(b, 6),
        sender_mac: mac(8),
        sender: ip(14),
        target_mac: mac(18),
        target: ip(24),
        types: Some((be16(b, 0), be16(b, 2), b[4], b[5])),
    })
}

/// What a frame is.
pub fn frame(b: &[u8]) -> Result<Packet> {
    need(b, 14, "frame")?;
    let mac = |at: usize| <[u8; 6]>::try_from(&b[at..at + 6]).ok();
    let rest = &b[14..];
    let (ip, body) = match be16(b, 12) {
        0x0800 => ipv4(rest)?,
        0x86dd => ipv6(rest)?,
        0x0806 => (Ip::default(), Body::Arp(arp(rest)?)),
        _ => (Ip::default(), Body::Raw(b.to_vec())),
    };
    Ok(Packet { flow: String::new(), eth_dst: mac(0), eth_src: mac(6), ip, body })
}
