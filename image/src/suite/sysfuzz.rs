//! Random system calls of a program (`userland/src/bin/sysfuzz`), while the network goes on.

use std::time::Duration;

use super::hostile::Bystander;
use super::recovery::held;
use super::traffic::addressed;
use crate::harness::{BOOT, COMMAND, Failure, Guest, PROMPT, wrong};
use crate::manifest::Protocol::Tcp;

/// How long a call may take at most, with all that belongs to it, on a busy machine too.
const EACH: Duration = Duration::from_micros(200);

/// Calls in the test.
const TEST: Fuzz = Fuzz { calls: 200_000, seed: Some(1), from: 0 };

/// What to throw at the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Fuzz {
    /// System calls.
    pub calls: u64,
    /// What decides them; `None`: chance.
    pub seed: Option<u64>,
    /// Number of the sandbox to begin with.
    pub from: u64,
}

pub fn test(g: &mut Guest) -> Result<(), Failure> {
    fuzz(g, &TEST, |_| {}).map(drop)
}

/// Lets the guest of usertests.toml make these calls, and gives each line that it says to `progress`.
/// Returns the last one.
///
/// # Errors
/// If the kernel panics, something is left behind, or others notice.
pub fn fuzz(g: &mut Guest, what: &Fuzz, mut progress: impl FnMut(&str)) -> Result<String, Failure> {
    g.wait_for(PROMPT, BOOT)?;
    g.wait_until("the echo server", BOOT, |text| text.contains("[services] serving"))?;
    addressed(g)?;
    let bystander = Bystander::start(g.host_port(7, Tcp)?)?;
    bystander.answers()?;
    let before = memory(&g.command("stats", COMMAND)?);
    let seed = what.seed.map_or_else(String::new, |seed| format!(" seed={seed}"));
    g.send_line(&format!("start sysfuzz calls={}{seed} from={}", what.calls, what.from))?;
    let limit = BOOT + EACH * u32::try_from(what.calls).unwrap_or(u32::MAX);
    let mut said = 0;
    let (mut first, mut done) = (None, String::new());
    g.wait_until("the end of the calls", limit, |text| {
        let lines = text.lines().filter_map(|l| l.split_once("[sysfuzz] "));
        for (_, line) in lines.skip(said) {
            progress(line);
            first.get_or_insert_with(|| bystander.rounds());
            said += 1;
            done = line.to_string();
        }
        text.contains("[init] sysfuzz ended")
    })?;
    if !done.starts_with("done: ") {
        return wrong(format!("sysfuzz: {done}"));
    }
    // It answered meanwhile, and answers now.
    let meanwhile = bystander.rounds() - first.unwrap_or(0);
    if meanwhile == 0 {
        return wrong("nobody was answered while it ran");
    }
    bystander.answers()?;
    bystander.end()?;
    let after = memory(&g.command("stats", COMMAND)?);
    if before.is_empty() || after != before {
        return wrong(format!("something was left behind:\n{before:#?}\n{after:#?}"));
    }
    g.power_off()?;
    Ok(format!("{done}; the echo server answered {meanwhile} times meanwhile"))
}

/// What init says of memory and capability slots.
fn memory(stats: &str) -> Vec<String> {
    held(stats).into_iter().filter(|l| l.starts_with("init:")).collect()
}
