//! A program that lies, hogs and dies ([`userland::lies`]), and others that must not notice.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use userland::lies::{LIES, Lie, Owed};

use super::recovery::held;
use super::traffic::ready;
use crate::harness::{COMMAND, Failure, Guest, wrong};
use crate::manifest::Protocol::Tcp;

/// How long all lies may take, on a busy machine too.
const ALL: Duration = Duration::from_secs(240);
/// Longest time without an answer that the bystander takes for a delay.
const STILL: Duration = Duration::from_secs(60);

/// Somebody at the echo server who must not notice anything.
pub struct Bystander {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Bystander {
    /// Sends a block, waits for it to come back, and so on, over one connection.
    ///
    /// # Errors
    /// If it cannot connect.
    pub fn start(port: u16) -> Result<Self, Failure> {
        Self::talk(port).map_err(|e| Failure::Host(e.to_string()))
    }

    fn talk(port: u16) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(STILL))?;
        stream.set_write_timeout(Some(STILL))?;
        let (rounds, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (rounds.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut at = 0;
            let (mut out, mut back) = ([0; 512], [0; 512]);
            while !end.load(Relaxed) {
                userland::bytes::fill(at, &mut out);
                stream.write_all(&out)?;
                stream.read_exact(&mut back)?;
                if out != back {
                    return Err(std::io::Error::other("other bytes came back"));
                }
                at += out.len() as u64;
                count.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        Ok(Self { rounds, stop, thread })
    }

    /// How often it was answered.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Relaxed)
    }

    /// Waits until it is answered once more.
    ///
    /// # Errors
    /// If it is not.
    pub fn answers(&self) -> Result<(), Failure> {
        let (before, deadline) = (self.rounds(), Instant::now() + STILL);
        while self.rounds() == before {
            if Instant::now() > deadline {
                return wrong("the bystander is not answered");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends it; returns how often it was answered.
    ///
    /// # Errors
    /// If it noticed anything.
    pub fn end(self) -> Result<u64, Failure> {
        self.stop.store(true, Relaxed);
        match self.thread.join() {
            Ok(Ok(())) => Ok(self.rounds.load(Relaxed)),
            Ok(Err(e)) => wrong(format!("the bystander noticed: {e}")),
            Err(_) => wrong("the bystander panicked"),
        }
    }
}

/// The line that says that a lie is told.
fn begins(name: &str) -> String {
    format!("[hostile] lie {name} begins")
}

/// What is on the console from the beginning of a lie to that of the next.
fn told(text: &str, number: usize) -> Option<&str> {
    let start = text.find(&begins(LIES[number].name))?;
    let end = match LIES.get(number + 1) {
        Some(next) => text.find(&begins(next.name))?,
        None => text.find("[hostile] told ")?,
    };
    text.get(start..end)
}

/// Whether a lie had what it is owed, by what is on the console.
fn judge(lie: &Lie, text: &str) -> Result<(), String> {
    let line = |with: &[&str]| text.lines().any(|l| with.iter().all(|w| l.contains(w)));
    let name = lie.name;
    if line(&[&format!("lie {name} FAILED")]) {
        return Err(format!("{name}: the program says so"));
    }
    let ok = line(&[&format!("lie {name} ok")]);
    match lie.owed {
        Owed::Nothing if !ok => Err(format!("{name}: it did not get to its end")),
        Owed::Nothing if line(&["misbehaves"]) || line(&["session is ended"]) => {
            Err(format!("{name}: it lost its session for nothing"))
        }
        Owed::Nothing => Ok(()),
        Owed::Death if ok => Err(format!("{name}: it lives")),
        Owed::Death if line(&["[init] restarted hostile: ", lie.line]) => Ok(()),
        Owed::Refusal | Owed::Session if ok && line(&[lie.line]) => Ok(()),
        _ => Err(format!("{name}: no line says {:?}", lie.line)),
    }
}

/// What must be exactly as before, whatever the bystander has on its way.
fn kept(stats: &str) -> Vec<String> {
    let still = |line: &String| !line.starts_with("tx_in_flight=");
    let words = |line: String| line.split(' ').map(String::from).filter(still).collect::<Vec<_>>();
    held(stats).into_iter().map(|line| words(line).join(" ")).collect()
}

/// Restarts of each process but the liar, from `ps`.
fn restarts(ps: &str) -> Vec<String> {
    let servers = ["e1000d", "netd", "sockd", "shell", "httpd", "services"];
    let words = |line: &str| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    let of = |name: &&str| ps.lines().find(|l| l.starts_with(*name)).map(words);
    servers.iter().filter_map(of).collect()
}

pub fn hostile(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(7, Tcp)?;
    let bystander = Bystander::start(port)?;
    // The connection counts as held before and afterwards.
    bystander.answers()?;
    let before = kept(&g.command("stats", COMMAND)?);
    let running = restarts(&g.command("ps", COMMAND)?);
    if running.len() != 6 || before.len() != 3 {
        return wrong(format!("ps or stats lack lines: {running:?} {before:?}"));
    }
    g.command("restart hostile", COMMAND)?;

    // How far the bystander had come when each lie was first seen on the console.
    let mut seen: Vec<u64> = Vec::new();
    g.wait_until("the last lie", ALL, |text| {
        while LIES.get(seen.len()).is_some_and(|l| text.contains(&begins(l.name))) {
            seen.push(bystander.rounds());
        }
        text.contains("[hostile] told ")
    })?;
    seen.push(bystander.rounds());

    let text = g.console().text();
    let mut wrongs: Vec<String> = Vec::new();
    for (i, lie) in LIES.iter().enumerate() {
        match told(&text, i) {
            Some(section) => wrongs.extend(judge(lie, section).err()),
            None => wrongs.push(format!("{}: it was not told", lie.name)),
        }
        // Floods last long enough to be sure of that.
        let rounds = seen.get(i + 1).zip(seen.get(i)).map_or(0, |(b, a)| b - a);
        let long = lie.name.starts_with("flood") || lie.name == "spin";
        if long && rounds == 0 {
            wrongs.push(format!("{}: the bystander stood still", lie.name));
        }
    }
    if !wrongs.is_empty() {
        return wrong(wrongs.join("\n"));
    }

    // Everything is as before, but for the liar's own page of the statistics.
    let mut after = Vec::new();
    for _ in 0..50 {
        after = kept(&g.command("stats", COMMAND)?);
        if after == before {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if after != before {
        return wrong(format!("something was left behind:\n{before:#?}\n{after:#?}"));
    }
    let running_after = restarts(&g.command("ps", COMMAND)?);
    if running_after != running {
        return wrong(format!("somebody was restarted:\n{running:#?}\n{running_after:#?}"));
    }
    bystander.end()?;
    let stats = g.command("stats", COMMAND)?;
    let ended = |by: &str| {
        let by =
            |l: &&Lie| l.owed == Owed::Session && l.line.starts_with("[sockd]") == (by == "sockd");
        LIES.iter().filter(by).count()
    };
    // One message of nonsense went to netd, and cost nobody a session.
    let wanted = [
        format!("misbehaved: hostile={}", ended("netd")),
        format!("nonsense={}", ended("sockd") + 1),
    ];
    if let Some(missing) = wanted.iter().find(|w| !stats.contains(w.as_str())) {
        return wrong(format!("the statistics should say {missing:?}:\n{stats}"));
    }
    g.power_off()
}
