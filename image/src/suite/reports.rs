//! What is said of a death.

use super::traffic::ready;
use crate::harness::{COMMAND, Failure, Guest, wrong};

/// Ways to end a server; the cause in the report, the function at the top of the backtrace.
const WAYS: [(&str, &str, &str); 4] = [
    ("crash NAME panic", "panic 'crash requested at ", "rt_crash_panic"),
    (
        "crash NAME pointer",
        "page fault at 0xdeadbeef (write), error code 0x6: nothing there",
        "rt_crash_pointer",
    ),
    ("crash NAME undefined", "undefined instruction", "rt_crash_undefined"),
    ("kill NAME", "killed", "main"),
];

/// What each server says when it is ready.
const SERVERS: [(&str, &str); 3] =
    [("e1000d", "re-attached: "), ("netd", "recovered "), ("sockd", " sockets kept, ")];

pub fn reports(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let mut number = 0;
    for (server, said) in SERVERS {
        for (way, cause, place) in WAYS {
            g.command(&way.replace("NAME", server), COMMAND)?;
            number += 1;
            let lines = format!("[init] restarted {server}: ");
            let count =
                number - SERVERS.iter().position(|s| s.0 == server).unwrap_or(0) * WAYS.len();
            g.wait_until("the restart line", COMMAND, |t| t.matches(&lines).count() == count)?;
            let report = g.command(&format!("restarts {number}"), COMMAND)?;
            check(&report, server, said, cause, place).or_else(|what| {
                wrong(format!("after `{way}` the report of {server} {what}:\n{report}"))
            })?;
        }
    }
    let table = g.command("restarts", COMMAND)?;
    for n in 1..=number {
        if !table.lines().any(|l| l.trim_start().starts_with(&format!("{n} "))) {
            return wrong(format!("the table lacks report {n}:\n{table}"));
        }
    }
    let none = g.command("restarts 999", COMMAND)?;
    if !none.contains("999: no such report") {
        return wrong(format!("a report that does not exist:\n{none}"));
    }
    g.power_off()
}

/// What is wrong with a report.
fn check(report: &str, server: &str, said: &str, cause: &str, place: &str) -> Result<(), String> {
    let line = |start: &str| report.lines().find_map(|l| l.strip_prefix(start)).unwrap_or("");
    if !line("report ").contains(&format!(": {server}, incarnation ")) {
        return Err("is of another process".into());
    }
    if !line("cause: ").starts_with(cause) {
        return Err(format!("should name the cause {cause:?}"));
    }
    if !line("restarted and ready: ").contains(said) {
        return Err(format!("should tell what the new one found: {said:?}"));
    }
    let numbers: Vec<u64> = line("downtime: ")
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    match numbers[..] {
        [all, ref parts @ ..]
            if parts.len() == 5 && parts.iter().sum::<u64>() == all && all > 0 => {}
        _ => return Err(format!("has phases that do not add up: {numbers:?}")),
    }
    let rip = line("rip ").split_whitespace().next().unwrap_or("");
    let places: Vec<&str> = report.lines().filter(|l| l.starts_with("  #")).collect();
    let first = places.first().copied().unwrap_or("");
    // Addresses: the register's has leading zeros.
    if rip.is_empty() || !first.contains(&format!("0x{} ", rip.trim_start_matches('0'))) {
        return Err("has a backtrace that does not begin at rip".into());
    }
    // A kill hits the server where it waits, several calls deep in its own main function.
    if !places.iter().any(|l| l.contains(place)) {
        return Err(format!("has a backtrace without {place}"));
    }
    Ok(())
}
