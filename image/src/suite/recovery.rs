//! Servers and programs that die while others go on.

use std::time::{Duration, Instant};

use super::traffic::{LONG, check, outside, ready};
use crate::client;
use crate::harness::{COMMAND, Failure, Guest, wrong};
use crate::manifest::Protocol::Tcp;

/// Restart lines of `process` on the console: `[init] restarted e1000d: CAUSE, downtime 812 us`.
fn restarts<'a>(text: &'a str, process: &str) -> Vec<&'a str> {
    let start = format!("[init] restarted {process}: ");
    text.lines().filter_map(|l| l.find(&start).map(|at| &l[at + start.len()..])).collect()
}

/// Microseconds in a restart line.
fn downtime_us(line: &str) -> Option<u64> {
    line.split("downtime ").nth(1)?.split(" us").next()?.trim().parse().ok()
}

/// The number behind `key` in the output of `stats`.
fn number(stats: &str, key: &str) -> Option<u64> {
    let line = stats.lines().find(|l| l.trim_start().starts_with(key))?;
    line.trim_start()[key.len()..]
        .split(|c: char| !c.is_ascii_digit())
        .find(|w| !w.is_empty())?
        .parse()
        .ok()
}

/// Ways to end the driver, and what the restart line must say of each.
const WAYS: [(&str, &str); 4] = [
    ("crash e1000d panic", "panic"),
    ("crash e1000d pointer", "page fault at 0xdeadbeef (write)"),
    ("crash e1000d undefined", "undefined instruction"),
    ("kill e1000d", "killed"),
];

pub fn download_crash(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    let download = std::thread::spawn(move || client::get(port, &format!("/bytes/{LONG}")));
    let mut crashes = 0;
    let mut next = Instant::now() + Duration::from_secs(1);
    while !download.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
        if Instant::now() >= next {
            g.command(WAYS[crashes % WAYS.len()].0, COMMAND)?;
            crashes += 1;
            next += Duration::from_secs(1);
        }
    }
    let Ok(body) = download.join() else { return wrong("the client panicked") };
    check(&outside(body)?, LONG)?;
    if crashes < WAYS.len() {
        return wrong(format!(
            "the download was over after {crashes} crashes: too few to prove anything"
        ));
    }

    let enough = |text: &str| restarts(text, "e1000d").len() >= crashes;
    g.wait_until("a restart line for each crash", COMMAND, enough)?;
    let text = g.console().text();
    let lines = restarts(&text, "e1000d");
    if lines.len() != crashes {
        return wrong(format!("{crashes} crashes, but {} restarts", lines.len()));
    }
    for (i, line) in lines.iter().enumerate() {
        let cause = WAYS[i % WAYS.len()].1;
        if !line.contains(cause) || downtime_us(line).is_none() {
            return wrong(format!("restart {i} should name {cause:?} and a downtime: {line}"));
        }
    }
    let stats = g.command("stats", COMMAND)?;
    let (given, sent) = (number(&stats, "tx frames"), number(&stats, "tx sent"));
    if given.is_none() || given != sent {
        return wrong(format!("frames accepted for sending were lost:\n{stats}"));
    }
    g.power_off()
}

fn restart(g: &mut Guest, server: &str) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    check(&outside(client::get(port, "/bytes/100000"))?, 100_000)?;
    g.command(&format!("kill {server}"), COMMAND)?;
    g.wait_until("the restart line", COMMAND, |text| !restarts(text, server).is_empty())?;
    check(&outside(client::get(port, "/bytes/1000000"))?, 1_000_000)?;
    g.power_off()
}

pub fn restart_netd(g: &mut Guest) -> Result<(), Failure> {
    restart(g, "netd")
}

pub fn restart_sockd(g: &mut Guest) -> Result<(), Failure> {
    restart(g, "sockd")
}

/// How often the client dies.
const DEATHS: usize = 1000;

pub fn client_death(g: &mut Guest) -> Result<(), Failure> {
    let _ = DEATHS;
    g.power_off()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_lines_are_read() {
        let text = "[init] restarted e1000d: page fault at 0xdeadbeef (write), rip 0x40123 \
            e1000d::poll+0x12, downtime 812 us\n[init] restarted netd: killed, downtime 90 us\n";
        let lines = restarts(text, "e1000d");
        assert_eq!(lines.len(), 1);
        assert_eq!(downtime_us(lines[0]), Some(812));
        assert_eq!(downtime_us("killed"), None);
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(number("memory\n  tx frames: 12\n", "tx frames"), Some(12));
        assert_eq!(number("tx frames  7 sent", "tx sent"), None);
    }
}
