//! Servers and programs that die while others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::traffic::{LONG, answered, check, outside, ready};
use crate::client;
use crate::harness::{BOOT, COMMAND, Failure, Guest, wrong};
use crate::manifest::Protocol::Tcp;

/// Restart lines of `process` on the console: `[init] restarted e1000d: CAUSE, downtime 812 us`.
pub fn restarts<'a>(text: &'a str, process: &str) -> Vec<&'a str> {
    let start = format!("[init] restarted {process}: ");
    text.lines().filter_map(|l| l.find(&start).map(|at| &l[at + start.len()..])).collect()
}

/// Microseconds in a restart line.
fn downtime_us(line: &str) -> Option<u64> {
    line.split("downtime ").nth(1)?.split(" us").next()?.trim().parse().ok()
}

/// A number in the output of `stats`, whose lines are `part: key=1 key=2`.
fn number(stats: &str, part: &str, key: &str) -> Option<u64> {
    let line = stats.lines().find_map(|l| l.strip_prefix(part)?.strip_prefix(':'))?;
    line.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

/// Ways to end a server, and what the restart line must say of each.
const WAYS: [(&str, &str); 4] = [
    ("crash NAME panic", "panic"),
    ("crash NAME pointer", "page fault at 0xdeadbeef (write)"),
    ("crash NAME undefined", "undefined instruction"),
    ("kill NAME", "killed"),
];

/// How often each way is taken at least, however fast the download is.
const ROUNDS: usize = 2;

/// Downloads while `server` crashes every second, in every way in turn; then checks the restart
/// lines. Every download must be right.
fn download_while_crashing(g: &mut Guest, server: &str) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    let mut crashes = 0;
    let mut next = Instant::now() + Duration::from_secs(1);
    // A fast machine has the whole download in a second or two: then it is made again.
    while crashes < ROUNDS * WAYS.len() {
        let download = std::thread::spawn(move || client::get(port, &format!("/bytes/{LONG}")));
        while !download.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
            if Instant::now() >= next {
                g.command(&WAYS[crashes % WAYS.len()].0.replace("NAME", server), COMMAND)?;
                crashes += 1;
                next += Duration::from_secs(1);
            }
        }
        let Ok(body) = download.join() else { return wrong("the client panicked") };
        check(&outside(body)?, LONG)?;
    }

    let enough = |text: &str| restarts(text, server).len() >= crashes;
    g.wait_until("a restart line for each crash", COMMAND, enough)?;
    let text = g.console().text();
    let lines = restarts(&text, server);
    if lines.len() != crashes {
        return wrong(format!("{crashes} crashes, but {} restarts", lines.len()));
    }
    for (i, line) in lines.iter().enumerate() {
        let cause = WAYS[i % WAYS.len()].1;
        if !line.contains(cause) || downtime_us(line).is_none() {
            return wrong(format!("restart {i} should name {cause:?} and a downtime: {line}"));
        }
    }
    Ok(())
}

pub fn download_crash(g: &mut Guest) -> Result<(), Failure> {
    download_while_crashing(g, "e1000d")?;
    let stats = g.command("stats", COMMAND)?;
    let (given, sent) =
        (number(&stats, "traffic", "tx_frames"), number(&stats, "nic", "tx_frames"));
    if given.is_none() || given != sent {
        return wrong(format!("frames accepted for sending were lost:\n{stats}"));
    }
    g.power_off()
}

pub fn download_crash_netd(g: &mut Guest) -> Result<(), Failure> {
    download_while_crashing(g, "netd")?;
    g.power_off()
}

pub fn download_crash_sockd(g: &mut Guest) -> Result<(), Failure> {
    download_while_crashing(g, "sockd")?;
    g.power_off()
}

/// Bytes of the download in which a server is killed twice.
const MIDDLE: u64 = 50_000_000;
/// How fast its client reads, bytes a second: fast enough to keep everybody busy, slow enough for
/// two deaths in the middle of it on any machine.
const PACE: u64 = 10_000_000;

/// A server that stays down: calls fail with a reason, and work again when it is back.
pub fn down(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    g.command("stop netd", COMMAND)?;
    let (ip, ps) = (g.command("ip", COMMAND)?, g.command("ps", COMMAND)?);
    let stays = ps.lines().any(|l| l.starts_with("netd ") && l.contains("failed"));
    if !ip.contains("netd is out of service; `restart netd` starts it") || !stays {
        return wrong(format!("a call to a server that is down:\n{ip}\n{ps}"));
    }
    let twice = g.command("stop netd", COMMAND)?;
    if !twice.contains("netd does not run; `restart netd` starts it") {
        return wrong(format!("stopped twice:\n{twice}"));
    }
    g.command("restart netd", COMMAND)?;
    answered(g, "10.0.2.2", 1)?;
    g.power_off()
}

/// A download of [`MIDDLE`] bytes at [`PACE`], and how many have come.
type Download = (std::thread::JoinHandle<Result<client::Body, client::Error>>, Arc<AtomicU64>);

fn paced_download(port: u16) -> Download {
    let come = Arc::new(AtomicU64::new(0));
    let count = come.clone();
    let download = std::thread::spawn(move || {
        let started = Instant::now();
        client::get_while(port, &format!("/bytes/{MIDDLE}"), |len| {
            count.store(len, Relaxed);
            let due = Duration::from_micros(len * 1_000_000 / PACE);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        })
    });
    (download, come)
}

/// `ip link set down` in the middle of a download: nothing comes any more, and a ping is not
/// answered. After `up` the download goes on to its right end, on rings that were never reset.
pub fn suspend(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    let (download, come) = paced_download(port);
    while come.load(Relaxed) < MIDDLE / 5 && !download.is_finished() {
        std::thread::sleep(Duration::from_millis(5));
    }
    g.command("ip link set down", COMMAND)?;
    let (ip, ps) = (g.command("ip", COMMAND)?, g.command("ps", COMMAND)?);
    if !ip.contains("link down") || !ps.contains("suspended") {
        return wrong(format!("the card does not rest:\n{ip}\n{ps}"));
    }
    let ping = g.command("ping 10.0.2.2 1", COMMAND)?;
    // What the host had buffered was read while the ping waited for its answer.
    let before = come.load(Relaxed);
    std::thread::sleep(Duration::from_millis(300));
    let after = come.load(Relaxed);
    if !ping.contains(" 0 received") || before != after || before >= MIDDLE {
        return wrong(format!("frames go by a card at rest: {before} bytes, {after}, and\n{ping}"));
    }
    g.command("ip link set up", COMMAND)?;
    let Ok(body) = download.join() else { return wrong("the client panicked") };
    check(&outside(body)?, MIDDLE)?;
    let (ip, stats) = (g.command("ip", COMMAND)?, g.command("stats", COMMAND)?);
    let count = |key| number(&stats, "nic", key);
    if !ip.contains("link up") || (count("reattached"), count("cold_starts")) != (Some(1), Some(1))
    {
        return wrong(format!("the card was not woken as it was:\n{ip}\n{stats}"));
    }
    let refused = g.command("suspend netd", COMMAND)?;
    if !refused.contains("netd drives no device; only a driver can do that") {
        return wrong(format!("netd cannot rest:\n{refused}"));
    }
    // The clean end of a driver that rests.
    g.command("suspend e1000d", COMMAND)?;
    g.power_off()
}

fn restart(g: &mut Guest, server: &str) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    let (download, come) = paced_download(port);
    for (deaths, at) in [(1, MIDDLE / 5), (2, MIDDLE / 2)] {
        while come.load(Relaxed) < at && !download.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        g.command(&format!("kill {server}"), COMMAND)?;
        let again = |text: &str| restarts(text, server).len() == deaths;
        g.wait_until("the restart line", COMMAND, again)?;
        if come.load(Relaxed) >= MIDDLE {
            return wrong(format!("death {deaths} came after the download's end"));
        }
    }
    let Ok(body) = download.join() else { return wrong("the client panicked") };
    check(&outside(body)?, MIDDLE)?;
    // And somebody who comes later.
    check(&outside(client::get(port, "/bytes/1000000"))?, 1_000_000)?;
    g.power_off()
}

/// The driver's model must be the card's.
pub fn card(g: &mut Guest, model: &str) -> Result<(), Failure> {
    g.wait_for(&format!("[e1000d] {model} "), BOOT)?;
    restart(g, "e1000d")
}

pub fn restart_netd(g: &mut Guest) -> Result<(), Failure> {
    restart(g, "netd")
}

pub fn restart_sockd(g: &mut Guest) -> Result<(), Failure> {
    restart(g, "sockd")
}

/// Each new life of a program serves as the last one did.
pub fn restart_program(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    for (deaths, how) in ["crash httpd panic", "kill httpd", "restart httpd"].iter().enumerate() {
        check(&outside(client::get(port, "/bytes/100000"))?, 100_000)?;
        g.command(how, COMMAND)?;
        let again = |text: &str| restarts(text, "httpd").len() == deaths + 1;
        g.wait_until("the restart line", COMMAND, again)?;
        let serving = |text: &str| text.matches("[httpd] serving").count() == deaths + 2;
        g.wait_until("httpd to serve again", COMMAND, serving)?;
    }
    check(&outside(client::get(port, "/bytes/1000000"))?, 1_000_000)?;
    g.power_off()
}

/// How often the client dies: `victim` counts its own incarnations and ends for good then.
const DEATHS: u64 = 1000;
/// How long one of its lives may take: it waits for nothing longer than a tenth of a second.
const STILL: Duration = Duration::from_secs(60);

/// What must be exactly as before: memory, capability slots, sockets, buffers.
pub fn held(stats: &str) -> Vec<String> {
    let parts = ["init:", "netd:", "sockd:"];
    let lines = stats.lines().filter(|l| parts.iter().any(|p| l.starts_with(p)));
    lines.map(str::to_string).collect()
}

/// State and number of restarts of `victim`, from `ps`: NAME, STATE (`running`, `exited 0`), PRIO,
/// RESTARTS. A log line may have cut the first print of its line short: the whole one follows.
fn life(ps: &str) -> Option<(&str, u64)> {
    ps.lines().filter(|l| l.starts_with("victim")).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let state = *words.get(1)?;
        let restarts = words.get(if state == "exited" { 4 } else { 3 })?;
        Some((state, restarts.parse().ok()?))
    })
}

pub fn client_death(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let before = held(&g.command("stats", COMMAND)?);
    if before.len() != 3 {
        return wrong(format!("stats lacks a line: {before:?}"));
    }
    g.command("restart victim", COMMAND)?;
    // Its restart lines may be more than the console carries, so they are not what is counted.
    let (mut deaths, mut since) = (0, Instant::now());
    loop {
        let ps = g.command("ps", COMMAND)?;
        let Some((state, now)) = life(&ps) else { return wrong(format!("no victim in\n{ps}")) };
        if now != deaths {
            (deaths, since) = (now, Instant::now());
        }
        if state == "exited" {
            break;
        }
        if since.elapsed() > STILL {
            // The report of this crash shows where it stood.
            g.command("crash victim panic", COMMAND)?;
            std::thread::sleep(Duration::from_secs(1));
            return wrong(format!("victim stood still in life {deaths}"));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    if deaths != DEATHS {
        return wrong(format!("victim died {deaths} times instead of {DEATHS}"));
    }
    // Connections of the last incarnation may still be closing: the numbers get some time.
    let mut after = Vec::new();
    for _ in 0..50 {
        after = held(&g.command("stats", COMMAND)?);
        if after == before {
            return g.power_off();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    wrong(format!("before: {before:#?}\nafter: {after:#?}"))
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
    fn lives_are_read() {
        let ps = "shell  running 100 0 512 KiB 5 s\nvictim exited 0  80  1000   512 KiB  60 s\n";
        assert_eq!(life(ps), Some(("exited", 1000)));
        assert_eq!(life("victim restarting 80 999 512 KiB 0 s"), Some(("restarting", 999)));
        assert_eq!(life("shell running 80 999 512 KiB 0 s"), None);
    }

    #[test]
    fn numbers_are_read() {
        let stats = "init: free=5 slots=6\nnic: rx_frames=7 tx_frames=8 x=\n";
        assert_eq!(number(stats, "init", "slots"), Some(6));
        assert_eq!(number(stats, "nic", "tx_frames"), Some(8));
        assert_eq!(number(stats, "nic", "frames"), None);
        assert_eq!(number(stats, "nic", "x"), None);
        assert_eq!(number(stats, "netd", "tx_frames"), None);
    }
}
