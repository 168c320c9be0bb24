//! The kernel's trace, from the ring to the JSON.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::traffic::{outside, ready};
use crate::bench::kernel;
use crate::harness::{COMMAND, Failure, Guest, Setup, wrong};
use crate::manifest::Protocol::Tcp;
use crate::trace::{self, chrome, timeline::Timeline};
use crate::{build, client, workspace};

pub fn trace(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    let capture = trace::trace(g, |g| {
        outside(client::get(port, "/"))?;
        g.command("kill netd", COMMAND)?;
        g.wait_until("netd's restart", COMMAND, |text| text.contains("[init] restarted netd: "))?;
        outside(client::get(port, "/"))?;
        g.command("crash sockd pointer", COMMAND)?;
        g.wait_until("sockd's restart", COMMAND, |text| text.contains("[init] restarted sockd: "))?;
        // On a busy machine nothing has been idle so far.
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    })?;
    if !capture.records.is_sorted_by_key(|r| r.tsc) {
        return wrong("the time stamps of the records go back");
    }
    let text = chrome::json(&Timeline::new(&capture));
    let document: Value = match serde_json::from_str(&text) {
        Ok(document) => document,
        Err(e) => return wrong(format!("the timeline is no JSON: {e}")),
    };
    check(&document).or_else(|what| {
        let path = crate::harness::files().join("trace.json");
        let _ = std::fs::write(&path, &text);
        wrong(format!("{what}; the timeline is in {}", path.display()))
    })?;
    g.power_off()
}

/// Operations on the fast path, each of which makes two records: a message and a switch.
const TRACED: [&str; 4] = ["call_0", "reply_recv_0", "call_64", "reply_recv_64"];
const EVENTS: u32 = 2;
/// Most instructions that a record may cost.
const EVENT_COST: u32 = 60;

/// What calls and replies cost while they are traced, beside what they cost otherwise.
pub fn cost(g: &mut Guest) -> Result<(), Failure> {
    let plain = kernel::costs(g)?;
    let file = |e: std::io::Error| Failure::Host(format!("bench-trace.toml: {e}"));
    let path = crate::harness::files().join("bench-trace.toml");
    let bench = workspace::root().join("image/bench.toml");
    let ring = "\n[trace]\nkib = 2048\nreader = \"shell\"\nat_boot = true\n";
    let text = std::fs::read_to_string(bench).map_err(file)? + ring;
    std::fs::write(&path, text).map_err(file)?;
    let image = build::build(&path, true).map_err(|e| Failure::Host(e.to_string()))?;
    let setup = Setup { stretches: true, ..Setup::new("trace-cost-traced") };
    let mut guest = Guest::boot(&image, &setup)?;
    let traced = kernel::costs(&mut guest)?;
    guest.forget_recording();
    for (traced, plain) in traced.iter().zip(&plain).filter(|(t, _)| TRACED.contains(&t.row.name)) {
        let (with, without) = (traced.instructions, plain.instructions);
        if !(without + 20 * EVENTS..=without + EVENT_COST * EVENTS).contains(&with) {
            let name = plain.row.name;
            return wrong(format!("{name} costs {without} instructions, traced {with}"));
        }
    }
    Ok(())
}

fn check(document: &Value) -> Result<(), String> {
    let events = document["traceEvents"].as_array().ok_or("there are no events")?;
    let mut names: HashMap<&str, u64> = HashMap::new();
    for e in events.iter().filter(|e| e["name"] == "thread_name") {
        let name = e["args"]["name"].as_str().ok_or("a track without a name")?;
        names.insert(name, e["tid"].as_u64().ok_or("a track without a number")?);
    }
    let track = |name: &str| names.get(name).copied().ok_or(format!("no track {name:?}"));
    let [httpd, sockd, e1000d] = [track("httpd")?, track("sockd")?, track("e1000d")?];
    for name in ["init", "netd", "shell", "idle"] {
        track(name)?;
    }
    times_rise(events)?;
    slices_nest(events)?;

    let find = |what: &str, is: &dyn Fn(&Value) -> bool| {
        events.iter().find(|e| is(e)).ok_or_else(|| format!("there is no {what}"))
    };
    let call = find("call of sock.Accept by httpd", &|e| {
        e["ph"] == "b" && e["name"] == "sock.Accept" && e["tid"] == httpd
    })?;
    if call["args"]["to"] != "sockd" || call["args"]["end"] != "answered" {
        return Err(format!("the call is not answered by sockd: {call}"));
    }
    let answered = |e: &Value| e["ph"] == "e" && e["cat"] == "call" && e["id"] == call["id"];
    find("end of that call", &answered)?;
    find("reply of sockd", &|e| e["name"] == "reply to sock.Accept" && e["tid"] == sockd)?;
    let sent = find("arrow to sockd", &|e| e["ph"] == "s" && e["name"] == "sock.Accept")?;
    find("end of the arrow", &|e| {
        e["ph"] == "f" && e["id"] == sent["id"] && e["tid"] == sockd && e["name"] == sent["name"]
    })?;

    let nic = names.iter().find(|(n, _)| n.starts_with("interrupt ") && n.ends_with("(e1000d)"));
    let (_, nic) = nic.ok_or("no interrupt of the network card")?;
    find("interrupt that fires", &|e| e["ph"] == "i" && e["name"] == "fires" && e["tid"] == *nic)?;
    find("interrupt that waits", &|e| e["ph"] == "X" && e["tid"] == *nic)?;
    find("slice of the driver", &|e| e["ph"] == "X" && e["tid"] == e1000d)?;

    let restart = find("restart of netd", &|e| e["ph"] == "X" && e["name"] == "restart of netd")?;
    let phases = events.iter().filter(|e| e["tid"] == restart["tid"] && e["ph"] == "X");
    let phases: Vec<&str> = phases.filter_map(|e| e["name"].as_str()).skip(1).collect();
    if phases != ["detect", "tear down", "build", "re-attach"] {
        return Err(format!("the restart of netd has the phases {phases:?}"));
    }
    find("page fault of sockd", &|e| e["name"] == "page fault at 0xdeadbeef" && e["tid"] == sockd)?;
    find("restart of sockd", &|e| e["name"] == "restart of sockd")?;
    Ok(())
}

/// Nanoseconds of a field that holds microseconds.
#[allow(clippy::float_arithmetic, reason = "JSON has no other fractions")]
fn ns(e: &Value, field: &str) -> Result<u64, String> {
    let micros = e[field].as_f64().ok_or(format!("no {field}: {e}"))?;
    Ok((micros * 1000.0).round() as u64)
}

fn times_rise(events: &[Value]) -> Result<(), String> {
    let mut last = 0;
    for e in events.iter().filter(|e| e["ph"] != "M") {
        let at = ns(e, "ts")?;
        if at < last {
            return Err(format!("time goes back: {e}"));
        }
        last = at;
    }
    Ok(())
}

/// Slices of a track are apart or inside each other.
fn slices_nest(events: &[Value]) -> Result<(), String> {
    let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut count = 0;
    for e in events.iter().filter(|e| e["ph"] == "X") {
        let (from, tid) = (ns(e, "ts")?, e["tid"].as_u64().ok_or("no track")?);
        let to = from + ns(e, "dur")?;
        let ends = open.entry(tid).or_default();
        while ends.last().is_some_and(|end| *end <= from) {
            ends.pop();
        }
        if ends.last().is_some_and(|end| *end < to) {
            return Err(format!("a slice ends after the one around it: {e}"));
        }
        ends.push(to);
        count += 1;
    }
    if count < 100 {
        return Err(format!("only {count} slices"));
    }
    Ok(())
}
