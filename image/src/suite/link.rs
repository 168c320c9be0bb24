//! The network cable is pulled, and programs learn of it.

use std::time::{Duration, Instant};

use super::closed::ready;
use crate::harness::{COMMAND, Failure, Guest, wrong};

/// How long a change may take to reach the program, on a busy machine too.
const CHANGE: Duration = Duration::from_secs(60);
/// How often the cable is pulled and plugged in again.
const FLAPS: u32 = 4;
/// QEMU's network card negotiates for half a second before the link is up.
const NEGOTIATION: Duration = Duration::from_millis(600);
/// What the program prints for each change.
const UP: &str = "link up, 1000 Mbit/s, with an address, change ";
const DOWN: &str = "link down, change ";

/// The lines about changes, from byte `from` of the console on.
fn changes(g: &Guest, from: usize) -> Vec<String> {
    let text = g.console().slice(from..);
    let lines = text.lines().filter_map(|l| l.find("link ").map(|at| &l[at..]));
    lines.filter(|l| l.contains(", change ")).map(str::to_string).collect()
}

pub fn link(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    g.send_line("ip link watch")?;
    g.wait_for(UP, CHANGE)?;
    g.set_link(false)?;
    g.wait_for(DOWN, CHANGE)?;
    g.set_link(true)?;
    g.wait_for(UP, CHANGE)?;
    loose_contact(g)?;
    // Ends the program.
    g.send_line("\x03")?;
    restarts(g)?;
    g.power_off()
}

/// Many changes are few lines, and the last is how it is.
fn loose_contact(g: &mut Guest) -> Result<(), Failure> {
    let (from, began) = (g.console().len(), Instant::now());
    for _ in 0..FLAPS {
        g.set_link(false)?;
        g.set_link(true)?;
        std::thread::sleep(NEGOTIATION);
    }
    g.set_link(false)?;
    let down = |g: &Guest| changes(g, from).last().is_some_and(|l| l.starts_with(DOWN));
    let mut since = None;
    // Down for longer than the pause between two changes: nothing more is to come.
    while since.is_none_or(|s: Instant| s.elapsed() < Duration::from_secs(2)) {
        match (down(g), since) {
            (true, None) => since = Some(Instant::now()),
            (false, _) => since = None,
            _ => {}
        }
        if began.elapsed() > CHANGE {
            return wrong(format!("the last state did not come: {:?}", changes(g, from)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (seen, most) = (changes(g, from).len(), began.elapsed().as_secs() as usize + 2);
    if seen > most {
        return wrong(format!("{seen} changes were told, not at most {most}, one a second"));
    }
    let there_were = g.console().slice(from..).matches("[netd] link").count();
    if there_were <= seen {
        return wrong(format!("{seen} changes were told of {there_were}: nothing was held back"));
    }
    g.set_link(true)?;
    g.wait_for(DOWN, CHANGE)?;
    g.wait_for(UP, CHANGE).map(|_| ())
}

/// Servers that die change nothing about the link, so nothing is told.
fn restarts(g: &mut Guest) -> Result<(), Failure> {
    let state = |g: &mut Guest| {
        let text = g.command("ip link", COMMAND)?;
        let line = text.lines().find(|l| l.contains(UP) || l.contains(DOWN));
        line.map(|l| l[l.find("link ").unwrap_or(0)..].to_string())
            .ok_or_else(|| Failure::Wrong(format!("`ip link` says\n{text}")))
    };
    let before = state(g)?;
    for server in ["netd", "e1000d"] {
        g.command(&format!("crash {server} panic"), COMMAND)?;
        let line = format!("restarted {server}");
        g.wait_until(&line, COMMAND, |text| text.contains(&line))?;
    }
    let after = state(g)?;
    if !before.contains(UP) || after != before {
        return wrong(format!("before: {before}, after: {after}"));
    }
    Ok(())
}
