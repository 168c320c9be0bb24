//! Two network cards with a driver each.

use std::thread;
use std::time::{Duration, Instant};

use super::recovery::restarts;
use super::traffic::{check, outside, ready};
use crate::client;
use crate::harness::{COMMAND, Failure, Guest, wrong};
use crate::manifest::Protocol::Tcp;

/// Bytes of a download.
const BYTES: u64 = 10_000_000;

/// Downloads by both cards; meanwhile a driver dies, then the other, then the stack that serves both. Each is right, and
/// nobody else dies of it.
pub fn nics(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let ports = [g.host_port(80, Tcp)?, g.second_port(80, Tcp)?];
    let shown = g.command("ip", COMMAND)?;
    for line in ["eth0:", "eth1:", "address 10.0.2.15/24", "address 10.1.0.2/24, static"] {
        if !shown.contains(line) {
            return wrong(format!("`ip` does not show {line:?}:\n{shown}"));
        }
    }
    for victim in ["e1000d", "e1000d1", "netd"] {
        let downloads =
            ports.map(|port| thread::spawn(move || client::get(port, &format!("/bytes/{BYTES}"))));
        thread::sleep(Duration::from_millis(300));
        let mut crashes = 0;
        let mut next = Instant::now();
        while crashes == 0 || downloads.iter().any(|d| !d.is_finished()) {
            if Instant::now() >= next {
                g.command(&format!("crash {victim} panic"), COMMAND)?;
                crashes += 1;
                next += Duration::from_secs(1);
            }
            thread::sleep(Duration::from_millis(20));
        }
        for download in downloads {
            let Ok(body) = download.join() else { return wrong("the client panicked") };
            check(&outside(body)?, BYTES)?;
        }
        let all = |text: &str| restarts(text, victim).len() >= crashes;
        g.wait_until("a restart line for each crash", COMMAND, all)?;
    }
    g.power_off()
}
