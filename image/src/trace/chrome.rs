//! A timeline as Chrome's trace JSON, which chrome://tracing and Perfetto open ("Trace Event
//! Format": `X` slices, `b` and `e` spans, `s` and `f` arrows, `i` moments, `M` names).

use serde_json::{Map, Value, json};

use super::timeline::{Args, Slice, Timeline, Track};

/// The one process that all tracks belong to. Not the number of a track: Perfetto would take that
/// for its main thread.
const PID: u32 = 1_000_000;

/// The document.
pub fn json(t: &Timeline) -> String {
    let mut events = Vec::new();
    events.push(json!({
        "ph": "M", "name": "process_name", "pid": PID, "args": { "name": "Breakwater" }
    }));
    for (track, name) in &t.tracks {
        let tid = tid(*track);
        events.push(json!({
            "ph": "M", "name": "thread_name", "pid": PID, "tid": tid, "args": { "name": name }
        }));
        events.push(json!({
            "ph": "M", "name": "thread_sort_index", "pid": PID, "tid": tid,
            "args": { "sort_index": tid }
        }));
    }
    let mut timed: Vec<(u64, Value)> = Vec::new();
    for s in &t.slices {
        let mut e = event("X", &s.name, category(s.track), s.track, s.time[0], &s.args);
        e["dur"] = micros(s.time[1] - s.time[0]);
        timed.push((s.time[0], e));
    }
    for (id, s) in t.calls.iter().enumerate() {
        for (ph, at) in [("b", s.time[0]), ("e", s.time[1])] {
            timed.push((at, span(ph, s, at, id)));
        }
    }
    for (id, a) in t.arrows.iter().enumerate() {
        for (ph, (track, at)) in [("s", a.from), ("f", a.to)] {
            let mut e = event(ph, &a.name, "message", track, at, &vec![]);
            e["id"] = json!(id);
            if ph == "f" {
                // It ends at the slice around it.
                e["bp"] = json!("e");
            }
            timed.push((at, e));
        }
    }
    for i in &t.instants {
        let mut e = event("i", &i.name, category(i.track), i.track, i.at, &i.args);
        e["s"] = json!("t");
        timed.push((i.at, e));
    }
    timed.sort_by_key(|(at, _)| *at);
    events.extend(timed.into_iter().map(|(_, e)| e));
    json!({ "displayTimeUnit": "ns", "traceEvents": events }).to_string()
}

fn span(ph: &str, s: &Slice, at: u64, id: usize) -> Value {
    let mut e = event(ph, &s.name, "call", s.track, at, &s.args);
    e["id"] = json!(id);
    e
}

fn event(ph: &str, name: &str, category: &str, track: Track, at: u64, args: &Args) -> Value {
    let args: Map<String, Value> =
        args.iter().map(|(key, value)| ((*key).into(), json!(value))).collect();
    json!({
        "ph": ph, "name": name, "cat": category, "pid": PID, "tid": tid(track),
        "ts": micros(at), "args": args
    })
}

/// Number of a track: threads in the order of their numbers, then interrupts, then restarts.
pub fn tid(track: Track) -> u32 {
    match track {
        Track::Thread(number) => number + 1,
        Track::Irq(line) => 0x1_0000 + line,
        Track::Restarts(index) => 0x2_0000 + index as u32,
    }
}

fn category(track: Track) -> &'static str {
    match track {
        Track::Thread(_) => "thread",
        Track::Irq(_) => "interrupt",
        Track::Restarts(_) => "restart",
    }
}

/// The format counts in microseconds.
#[allow(clippy::float_arithmetic, reason = "JSON has no other fractions")]
fn micros(ns: u64) -> Value {
    json!(ns as f64 / 1000.0)
}
