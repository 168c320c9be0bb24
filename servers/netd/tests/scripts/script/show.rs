//! Packets as a script writes them.

use super::packet::{Arp, Body, Icmp, Ip, Opt, Packet, Payload, Tcp, Udp, flag};
use std::fmt::{self, Display, Formatter, Write};

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

fn mac(m: &[u8; 6]) -> String {
    m.map(|b| format!("{b:02x}")).join(":")
}

fn header(ip: &Ip) -> String {
    let mut out = Vec::new();
    if let Some((from, to, more)) = ip.frag {
        let end = more.map_or("", |m| if m { " mf" } else { " last" });
        out.push(format!("id {}, frag {from}:{to}{end}", ip.id.unwrap_or(0)));
    }
    match ip.ecn {
        Some(1) => out.push("ect1".into()),
        Some(2) => out.push("ect0".into()),
        Some(3) => out.push("ce".into()),
        _ => {}
    }
    if let Some(tos) = ip.tos.filter(|t| t & !3 != 0) {
        out.push(format!("tos {tos:#x}"));
    }
    if let Some(options) = &ip.options {
        out.push(format!("opts {}", Hex(options)));
    }
    for (kind, body) in &ip.extensions {
        out.push(format!("extension {kind} {}", Hex(body)));
    }
    if out.is_empty() { String::new() } else { format!("[{}] ", out.join(", ")) }
}

impl Display for Opt {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let any = |v: &Option<u32>| v.map_or("*".into(), |v| v.to_string());
        match self {
            Self::Nop => f.write_str("nop"),
            Self::End => f.write_str("eol"),
            Self::Mss(mss) => write!(f, "mss {mss}"),
            Self::Scale(Some(s)) => write!(f, "wscale {s}"),
            Self::Scale(None) => f.write_str("wscale *"),
            Self::SackOk => f.write_str("sackOK"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(l, r)| write!(f, " {l}:{r}"))
            }
            Self::Ts(val, ecr) => write!(f, "TS val {} ecr {}", any(val), any(ecr)),
            Self::FastOpen(cookie) => write!(f, "FO {}", Hex(cookie.as_deref().unwrap_or(&[]))),
            Self::FastOpenExp(c) => write!(f, "FOEXP {}", Hex(c.as_deref().unwrap_or(&[]))),
            Self::Other(kind, body) => write!(f, "kind {kind} {}", Hex(body)),
        }
    }
}

pub fn flags(bits: u16) -> String {
    let set = flag::LETTERS.iter().filter(|(_, bit)| bits & bit != 0);
    let text: String = set.map(|(letter, _)| *letter).collect();
    if text.is_empty() { "-".into() } else { text }
}

impl Display for Tcp {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let (seq, end) = (self.seq, self.seq.wrapping_add(self.len as u32));
        write!(f, "{} {seq}:{end}({})", flags(self.flags), self.len)?;
        if let Some(ack) = self.ack.filter(|_| self.flags & flag::ACK != 0) {
            write!(f, " ack {ack}")?;
        }
        if let Some(win) = self.win {
            write!(f, " win {win}")?;
        }
        if let Some(urg) = self.urg.filter(|u| *u != 0) {
            write!(f, " urg {urg}")?;
        }
        match &self.options {
            None => f.write_str(" <...>"),
            Some(o) if o.is_empty() => Ok(()),
            Some(o) => {
                let all: Vec<_> = o.iter().map(Opt::to_string).collect();
                write!(f, " <{}>", all.join(","))
            }
        }
    }
}

impl Display for Udp {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("udp ")?;
        if let (Some(src), Some(dst)) = (self.sport, self.dport) {
            write!(f, "{src}>{dst} ")?;
        }
        f.write_str(if self.no_sum { "nosum " } else { "" })?;
        write!(f, "({})", self.len)
    }
}

impl Display for Icmp {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let half = |i: usize| self.half[i].map_or("*".into(), |h: u16| h.to_string());
        write!(f, "icmp{} {} {}", if self.v6 { "v6" } else { "" }, self.ty, self.code)?;
        write!(f, " id {} seq {}", half(0), half(1))?;
        match &self.payload {
            Payload::Any => Ok(()),
            Payload::Len(n) => write!(f, " ({n})"),
            Payload::Bytes(b) => {
                write!(f, " ({}) hex {}", b.len(), Hex(&b[..b.len().min(64)]))?;
                f.write_str(if b.len() > 64 { "..." } else { "" })
            }
            Payload::Quote(p, _) => write!(f, " [{p}]"),
            Payload::QuoteLast(_) => f.write_str(" quoting"),
        }
    }
}

impl Display for Arp {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let ip =
            |ip: &Option<[u8; 4]>| ip.map_or("*".into(), |ip| ip.map(|b| b.to_string()).join("."));
        let hw = |m: &Option<[u8; 6]>| m.as_ref().map_or("*".into(), mac);
        write!(f, "arp op {} who-has {}", self.op, ip(&self.target))?;
        write!(
            f,
            " tell {} sha {} tha {}",
            ip(&self.sender),
            hw(&self.sender_mac),
            hw(&self.target_mac)
        )
    }
}

impl Display for Packet {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&header(&self.ip))?;
        if !self.flow.is_empty() {
            write!(f, "@{} ", self.flow)?;
        }
        match &self.body {
            Body::Tcp(t) => write!(f, "{t}"),
            Body::Udp(u) => write!(f, "{u}"),
            Body::Icmp(m) => write!(f, "{m}"),
            Body::Arp(a) => write!(f, "{a}"),
            Body::Ip(proto, bytes) => write!(f, "ip {proto} ({})", bytes.len()),
            Body::Raw(bytes) => write!(f, "raw {}", Hex(bytes)),
        }
    }
}

/// A frame whose script numbers are not known: with its addresses.
pub fn with_ends(p: &Packet) -> String {
    let mut out = String::new();
    if let (Some(src), Some(dst)) = (p.ip.src, p.ip.dst) {
        let _ = write!(out, "{src} > {dst}: ");
    }
    let _ = write!(out, "{p}");
    out
}
