//! Calls that wait, and what a script's packets are on the wire.

use super::calls::{Calls, Pending};
use super::dissect;
use super::flow::Flow;
use super::names;
use super::packet::{Body, Opt, Packet, Tcp, flag};
use super::parse::Call;
use super::world::{Settings, World};

/// A call may return after so many timers, each of which may be late.
pub const TIMERS: u64 = 16;

/// A call that has not returned, and what the script says of its end.
pub struct Waiting {
    pub pending: Pending,
    pub line: usize,
    /// When it must return.
    pub end: u64,
}

pub fn seconds(ns: u64) -> String {
    format!("{:>11.6}", ns as f64 / 1e9)
}

/// Scripts of Linux's put more into a segment than a wire carries: as a NIC that receives for
/// several would.
pub fn pieces(p: &Packet, s: &Settings) -> Vec<Packet> {
    const MOST: usize = 1460;
    match &p.body {
        Body::Tcp(t) if s.foreign && t.len > MOST => {
            let data = t.data.as_ref().expect("filled in");
            let cut = |(i, part): (usize, &[u8])| {
                let mut piece = p.clone();
                let Body::Tcp(n) = &mut piece.body else { unreachable!("a segment") };
                n.seq = n.seq.wrapping_add((i * MOST) as u32);
                (n.len, n.data) = (part.len(), Some(part.to_vec()));
                if i * MOST + part.len() < t.len {
                    n.flags &= !(flag::PSH | flag::FIN);
                }
                piece
            };
            data.chunks(MOST).enumerate().map(cut).collect()
        }
        _ => vec![p.clone()],
    }
}

pub fn judge(call: &Call, value: i64, calls: &mut Calls) -> Result<(), String> {
    let complaint = calls.complaint.take();
    let fits = match (call.result, &call.errno) {
        (None, _) => true,
        (Some(-1), Some(name)) => names::errno(name).ok_or(format!("what is {name}?"))? == -value,
        (Some(-1), None) => value < 0,
        (Some(wanted), _) => wanted == value,
    };
    if !fits {
        return Err(format!("`{}` is {}", call.name, names::result(value)));
    }
    complaint.map_or(Ok(()), Err)
}

/// Tries calls that wait again.
pub fn go_on(
    w: &mut World,
    calls: &mut Calls,
    waiting: &mut Vec<Waiting>,
    failed: &mut Option<String>,
    timeline: &mut Vec<String>,
) {
    let mut i = 0;
    while i < waiting.len() {
        let it = &mut waiting[i];
        let value = match calls.attempt(w, &mut it.pending) {
            Ok(Ok(None)) => {
                i += 1;
                continue;
            }
            Ok(Ok(Some(value))) => value,
            Ok(Err(errno)) => -errno,
            Err(e) => {
                failed.get_or_insert(e);
                waiting.remove(i);
                continue;
            }
        };
        let it = waiting.remove(i);
        let (line, name, now) = (it.line, &it.pending.call.name, w.now());
        timeline.push(format!(
            "{} {name}() of line {line} = {}",
            seconds(now),
            names::result(value)
        ));
        if now + w.s.early < it.end || now > it.end + TIMERS * w.s.late {
            let (now, end) = (seconds(now), seconds(it.end));
            failed.get_or_insert(format!(
                "`{name}` of line {line} returned at {}, not at {}",
                now.trim(),
                end.trim()
            ));
        }
        if let Err(e) = judge(&it.pending.call, value, calls) {
            failed.get_or_insert(format!("line {line}: {e}"));
        }
    }
}

/// A SYN as it were without timestamps.
pub fn without_stamps(t: &mut Tcp) {
    let Some(options) = &mut t.options else { return };
    if let [_, Opt::SackOk, Opt::Ts(..), ..] = options[..]
        && t.flags & flag::SYN != 0
    {
        options.splice(1..3, [Opt::Nop, Opt::Nop, Opt::SackOk]);
    }
}

/// Whether a frame is of another connection, which the script does not look at any more.
pub fn is_of_another(flow: &Flow, frame: &[u8]) -> bool {
    let Ok(Packet { body: Body::Tcp(seen), .. }) = dissect::frame(frame) else { return false };
    seen.dport != Some(flow.remote.1) || flow.local.1.is_some_and(|p| seen.sport != Some(p))
}
