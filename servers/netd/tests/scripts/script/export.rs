//! Cases in packetdrill's own language, to be played against Linux by packetdrill itself: whether it
//! does what the script says.

use super::packet::{Body, Icmp, Ip, Packet, Payload};
use super::parse::{Case, Event, What};

/// Whether packetdrill can speak of such a packet.
fn is_plain(p: &Packet) -> bool {
    let ip = Ip { ecn: None, tos: None, ..p.ip.clone() };
    let body = match &p.body {
        Body::Tcp(t) => t.sport.is_none() && t.data.is_none(),
        Body::Udp(u) => u.sport.is_none() && u.length.is_none() && !u.no_sum,
        Body::Icmp(Icmp { payload: Payload::Quote(..), .. }) => true,
        _ => false,
    };
    p.flow.is_empty() && p.eth_src.is_none() && p.eth_dst.is_none() && ip == Ip::default() && body
}

/// Whatever the kernel's own choice is.
fn cubic(fd: i64) -> String {
    format!("+0 setsockopt({fd}, SOL_TCP, TCP_CONGESTION, \"cubic\", 5) = 0\n")
}

/// Whether an assertion is of `tcp_info` alone.
fn is_known(code: &str) -> bool {
    let mut words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.all(|w| {
        w.starts_with(|c: char| !c.is_alphabetic())
            || w.is_empty()
            || w.starts_with("tcpi_")
            || w.starts_with("TCP_CA_")
            || matches!(w, "assert" | "and" | "or" | "not")
    })
}

fn line(e: &Event) -> Option<String> {
    let plain = match &e.what {
        What::Inject(p) | What::Expect(p) => is_plain(p),
        What::Call(_) => true,
        // It cannot say that nothing happens; the next packet shows.
        What::Quiet => return Some(String::new()),
        // Of what it knows: `tcp_info`, and the states of congestion control.
        What::Assert(code) if is_known(code) => true,
        What::Assert(_) => return Some(String::new()),
        What::Flow(..) | What::Do(_) | What::Shell(_) => false,
    };
    let timed = e.text.starts_with(|c: char| "+.*".contains(c) || c.is_ascii_digit());
    let time = if timed { "" } else { "+0 " };
    // An error's name goes with what it says.
    let name = matches!(&e.what, What::Call(c) if c.errno.is_some()) && !e.text.ends_with(')');
    let said = if name { " (as it says)" } else { "" };
    let cubic = match &e.what {
        What::Call(c) if e.text.contains("SOCK_STREAM") => cubic(c.result.unwrap_or(3)),
        _ => String::new(),
    };
    plain.then(|| format!("{time}{}{said}\n{cubic}", e.text))
}

/// The case as a script, if packetdrill can play it.
pub fn script(case: &Case) -> Option<String> {
    let mut out = String::new();
    for (key, value) in &case.set {
        match key.as_str() {
            "push" | "peer_iss" | "tolerance_usecs" => {}
            "local_ip" | "remote_ip" => out += &format!("--{key}={value}\n"),
            _ => return None,
        }
    }
    // What passes before a line that is left out passes before the next one.
    let mut late = 0.0;
    for e in &case.events {
        let mut text = line(e)?;
        if text.is_empty() && e.when.relative {
            late += e.when.from as f64 / 1e9;
        } else if late > 0.0 && e.when.relative {
            let rest = text.trim_start_matches(|c: char| "+.~".contains(c) || c.is_ascii_digit());
            if e.when.to.is_some() || e.when.end.is_some() {
                return None;
            }
            text = format!("+{:.6} {rest}", late + e.when.from as f64 / 1e9);
            late = 0.0;
        }
        out += &text;
    }
    Some(out)
}
