//! Whether what was sent is what the script expects. Both in the script's numbers.

use super::build;
use super::packet::{Arp, Body, Icmp, Ip, Opt, Packet, Payload, Tcp, Udp, flag};
use super::show;
use super::world::Settings;

type Verdict = Result<(), String>;

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: &Option<T>,
    seen: &Option<T>,
) -> Verdict {
    match wanted {
        Some(_) if wanted != seen => Err(format!("{what}: expected {wanted:?}, seen {seen:?}")),
        _ => Ok(()),
    }
}

pub fn packet(wanted: &Packet, seen: &Packet, s: &Settings, last: Option<&[u8]>) -> Verdict {
    same("source MAC", &wanted.eth_src, &seen.eth_src)?;
    same("destination MAC", &wanted.eth_dst, &seen.eth_dst)?;
    ip(&wanted.ip, &seen.ip)?;
    if let Some((from, to, more)) = wanted.ip.frag {
        return fragment(wanted, seen, from, to, more);
    }
    if let Some((from, to, _)) = seen.ip.frag {
        return Err(format!("it is a fragment, {from}:{to}"));
    }
    match (&wanted.body, &seen.body) {
        (Body::Tcp(w), Body::Tcp(n)) => tcp(w, n, s),
        (Body::Udp(w), Body::Udp(n)) => udp(w, n),
        (Body::Icmp(w), Body::Icmp(n)) => icmp(w, n, last),
        (Body::Arp(w), Body::Arp(n)) => arp(w, n),
        (Body::Ip(w, a), Body::Ip(n, b)) if w == n && a == b => Ok(()),
        (Body::Raw(a), Body::Raw(b)) if a == b => Ok(()),
        _ => Err("it is something else".into()),
    }
}

fn ip(wanted: &Ip, seen: &Ip) -> Verdict {
    same("source", &wanted.src, &seen.src)?;
    same("destination", &wanted.dst, &seen.dst)?;
    same("TOS", &wanted.tos, &seen.tos)?;
    same("ECN", &wanted.ecn, &seen.ecn)?;
    same("TTL", &wanted.ttl, &seen.ttl)?;
    same("DF", &wanted.df, &seen.df)?;
    same("identification", &wanted.id, &seen.id)?;
    if wanted.options != seen.options {
        return Err(format!("IP options: expected {:?}, seen {:?}", wanted.options, seen.options));
    }
    if wanted.extensions != seen.extensions {
        return Err(format!(
            "extension headers: expected {:?}, seen {:?}",
            wanted.extensions, seen.extensions
        ));
    }
    Ok(())
}

fn fragment(wanted: &Packet, seen: &Packet, from: usize, to: usize, more: Option<bool>) -> Verdict {
    let Some((f, t, m)) = seen.ip.frag else { return Err("it is no fragment".into()) };
    let Body::Ip(_, piece) = &seen.body else { return Err("it is no fragment".into()) };
    let mut whole = wanted.clone();
    (whole.ip.src, whole.ip.dst) = (seen.ip.src, seen.ip.dst);
    let bytes = build::transport(&whole);
    let to = to.min(bytes.len());
    same("rest of the fragment", &Some((from, to)), &Some((f, t)))?;
    same("more fragments", &Some(more.unwrap_or(to < bytes.len())), &m)?;
    if *piece != bytes[from..to] { Err("the fragment's bytes differ".into()) } else { Ok(()) }
}

fn tcp(wanted: &Tcp, seen: &Tcp, s: &Settings) -> Verdict {
    let flags = |bits: u16| if s.ignore_push { bits & !flag::PSH } else { bits };
    if flags(wanted.flags) != flags(seen.flags) {
        let (w, n) = (show::flags(wanted.flags), show::flags(seen.flags));
        return Err(format!("flags: expected {w}, seen {n}"));
    }
    same("sequence number", &Some(wanted.seq), &Some(seen.seq))?;
    same("length", &Some(wanted.len), &Some(seen.len))?;
    if wanted.flags & flag::ACK != 0 {
        same("acknowledgment", &wanted.ack, &seen.ack)?;
    }
    same("window", &wanted.win, &seen.win)?;
    if seen.flags & flag::URG != 0 {
        same("urgent pointer", &wanted.urg, &seen.urg)?;
    }
    if let Some(options) = &wanted.options {
        let seen = seen.options.as_deref().unwrap_or(&[]);
        let fit =
            options.len() == seen.len() && options.iter().zip(seen).all(|(w, n)| option(w, n, s));
        if !fit {
            let text = |o: &[Opt]| o.iter().map(Opt::to_string).collect::<Vec<_>>().join(",");
            return Err(format!("options: expected <{}>, seen <{}>", text(options), text(seen)));
        }
    }
    match (&wanted.data, &seen.data) {
        (Some(w), Some(n)) if w != n => {
            let at = w.iter().zip(n).position(|(a, b)| a != b).unwrap_or(w.len().min(n.len()));
            Err(format!("its data differs from byte {at} on"))
        }
        _ => Ok(()),
    }
}

fn option(wanted: &Opt, seen: &Opt, s: &Settings) -> bool {
    let any = |w: &Option<u32>, n: &Option<u32>| w.is_none() || w == n;
    match (wanted, seen) {
        (Opt::Ts(val, ecr), Opt::Ts(seen_val, seen_ecr)) => {
            let near = match (s.stamps, val, seen_val) {
                (Some(tolerance), Some(w), Some(n)) => {
                    (n.wrapping_sub(*w) as i32).unsigned_abs() <= tolerance
                }
                _ => true,
            };
            near && any(ecr, seen_ecr)
        }
        // What is left open: a cookie that only the stack can make.
        (Opt::FastOpen(None), Opt::FastOpen(Some(c))) => c.len() == 8,
        (Opt::FastOpenExp(None), Opt::FastOpenExp(Some(c))) => c.len() == 8,
        // The scale follows from the largest buffer, which is configuration.
        (Opt::Scale(w), Opt::Scale(_)) if s.foreign || w.is_none() => true,
        _ => wanted == seen,
    }
}

fn udp(wanted: &Udp, seen: &Udp) -> Verdict {
    same("source port", &wanted.sport, &seen.sport)?;
    same("destination port", &wanted.dport, &seen.dport)?;
    same("length", &Some(wanted.len), &Some(seen.len))?;
    same("no checksum", &Some(wanted.no_sum), &Some(seen.no_sum))?;
    if wanted.data != seen.data { Err("its data differs".into()) } else { Ok(()) }
}

fn icmp(wanted: &Icmp, seen: &Icmp, last: Option<&[u8]>) -> Verdict {
    same("ICMP", &Some((wanted.v6, wanted.ty, wanted.code)), &Some((seen.v6, seen.ty, seen.code)))?;
    for (w, n) in wanted.half.iter().zip(&seen.half) {
        same("ICMP's second word", w, n)?;
    }
    let Payload::Bytes(bytes) = &seen.payload else { unreachable!("a live message has bytes") };
    match &wanted.payload {
        Payload::Any => Ok(()),
        Payload::Len(n) => {
            let pattern = super::packet::pattern_bytes(0, *n);
            if pattern == *bytes {
                Ok(())
            } else {
                Err(format!("its payload of {} bytes differs", bytes.len()))
            }
        }
        Payload::Bytes(w) if w == bytes => Ok(()),
        Payload::Bytes(w) => Err(format!("its payload: expected {w:02x?}, seen {bytes:02x?}")),
        Payload::QuoteLast(most) => {
            // As much as fits into 576 bytes (RFC 1812 4.3.2.3), or 1280 (RFC 4443 2.4 (c)).
            let most = most.unwrap_or(if wanted.v6 { 1280 - 48 } else { 576 - 28 });
            let last = last.unwrap_or(&[]);
            quote(&last[..last.len().min(most)], bytes)
        }
        Payload::Quote(p, most) => {
            let all = build::datagram(p);
            quote(&all[..all.len().min(most.unwrap_or(28))], bytes)
        }
    }
}

fn quote(wanted: &[u8], seen: &[u8]) -> Verdict {
    if wanted.len() != seen.len() {
        return Err(format!("it quotes {} bytes, expected {}", seen.len(), wanted.len()));
    }
    match wanted.iter().zip(seen).position(|(a, b)| a != b) {
        Some(at) => Err(format!("its quote differs at byte {at}")),
        None => Ok(()),
    }
}

fn arp(wanted: &Arp, seen: &Arp) -> Verdict {
    same("operation", &Some(wanted.op), &Some(seen.op))?;
    same("sender", &wanted.sender, &seen.sender)?;
    same("target", &wanted.target, &seen.target)?;
    same("sender's MAC", &wanted.sender_mac, &seen.sender_mac)?;
    same("target's MAC", &wanted.target_mac, &seen.target_mac)?;
    same("types", &wanted.types, &seen.types)
}
