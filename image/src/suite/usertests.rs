//! Tests of the kernel that run in the guest (`userland/src/bin/usertests`).

use std::time::Duration;

use crate::harness::{BOOT, COMMAND, Failure, Guest, PROMPT, wrong};

/// How long they may take together, on a busy machine too.
const ALL: Duration = Duration::from_secs(180);
/// So many there are at least.
const LEAST: usize = 150;

pub fn usertests(g: &mut Guest) -> Result<(), Failure> {
    g.wait_for(PROMPT, BOOT)?;
    g.command("restart usertests", COMMAND)?;
    let ended = |text: &str| text.contains("[init] usertests ended") || sum(text).is_some();
    g.wait_until("the end of the tests", ALL, ended)?;
    let text = g.console().text();
    let failed: Vec<&str> = text.lines().filter(|l| l.contains("[usertests] FAILED")).collect();
    let passed = text.lines().filter(|l| l.contains("[usertests] ok ")).count();
    match sum(&text) {
        Some((run, 0)) if run == passed && run >= LEAST && failed.is_empty() => g.power_off(),
        Some((run, _)) if failed.is_empty() => {
            wrong(format!("{run} tests, {passed} of them passed, at least {LEAST} should"))
        }
        Some(_) => wrong(failed.join("\n")),
        None => wrong("the tests did not get to their end"),
    }
}

/// What the last line says: tests, and how many of them failed.
fn sum(text: &str) -> Option<(usize, usize)> {
    // The shell's prompt may stand before it.
    let mut lines = text.lines().rev().filter_map(|l| l.split_once("[usertests] "));
    let (_, line) = lines.find(|(_, l)| l.ends_with(" failed"))?;
    let mut words = line.split(' ').filter_map(|w| w.parse().ok());
    Some((words.next()?, words.next()?))
}
