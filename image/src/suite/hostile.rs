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

/// The console, line by line, and which lies are told from which line on.
struct Console<'a> {
    lines: Vec<&'a str>,
    begins: Vec<usize>,
    /// Lines that an earlier lie is owed.
    taken: Vec<usize>,
}

impl<'a> Console<'a> {
    fn new(text: &'a str) -> Result<Self, String> {
        let lines: Vec<_> = text.lines().collect();
        let marks = LIES.iter().map(|lie| begins(lie.name)).chain(["[hostile] told ".into()]);
        let at = |mark: String| {
            let found = lines.iter().position(|l| l.contains(&mark));
            found.ok_or_else(|| format!("no line says {mark:?}"))
        };
        let begins = marks.map(at).collect::<Result<_, _>>()?;
        Ok(Self { lines, begins, taken: Vec::new() })
    }

    /// Whether a line between the beginning of a lie and that of the one so many later says all of this.
    fn find(&self, number: usize, lies: usize, with: &[&str]) -> Option<usize> {
        let end = self.begins.get(number + lies).copied().unwrap_or(self.lines.len());
        (self.begins[number]..end).find(|i| {
            !self.taken.contains(i) && with.iter().all(|word| self.lines[*i].contains(word))
        })
    }

    /// Whether a lie had what it is owed. A server's line may come late, after the next has begun.
    fn judge(&mut self, number: usize) -> Result<(), String> {
        let lie: &Lie = &LIES[number];
        let name = lie.name;
        if self.find(number, 1, &[&format!("lie {name} FAILED")]).is_some() {
            return Err(format!("{name}: the program says so"));
        }
        let ok = self.find(number, 1, &[&format!("lie {name} ok")]).is_some();
        let ended = |word| self.find(number, 1, &[word]).is_some();
        match lie.owed {
            Owed::Nothing if !ok => return Err(format!("{name}: it did not get to its end")),
            Owed::Nothing if ended("misbehaves") || ended("session is ended") => {
                return Err(format!("{name}: it lost its session for nothing"));
            }
            Owed::Nothing => return Ok(()),
            Owed::Death if ok => return Err(format!("{name}: it lives")),
            Owed::Refusal | Owed::Session if !ok => {
                return Err(format!("{name}: it did not get to its end"));
            }
            _ => {}
        }
        let death = ["[init] restarted hostile: ", lie.line];
        let line = if lie.owed == Owed::Death { &death[..] } else { &death[1..] };
        let found = self.find(number, 2, line);
        self.taken.push(found.ok_or_else(|| format!("{name}: no line says {:?}", lie.line))?);
        Ok(())
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
    let mut console = Console::new(&text).map_err(Failure::Wrong)?;
    let mut wrongs: Vec<String> = Vec::new();
    for (i, lie) in LIES.iter().enumerate() {
        wrongs.extend(console.judge(i).err());
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
