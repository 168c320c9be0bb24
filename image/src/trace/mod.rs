//! The `trace` command: what the kernel recorded, as a timeline for chrome://tracing or Perfetto.
//!
//! | module | what |
//! |---|---|
//! | [`capture`] | a trace as it leaves the system, read |
//! | [`names`] | what messages are called |
//! | [`timeline`] | records as tracks, slices, arrows and instants |
//! | [`chrome`] | the JSON |

pub mod capture;
pub mod chrome;
pub mod names;
pub mod timeline;

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::build::Image;
use crate::client;
use crate::harness::{COMMAND, Failure, Guest, Setup};
use crate::manifest::Protocol::Tcp;
use capture::Capture;

/// Port of the system on which the shell sends: the manifest lets it bind this one and forwards it.
const PORT: u16 = 9000;
/// How long nothing may come of a trace that is being sent.
const STILL: Duration = Duration::from_secs(30);
/// How long a command of the load may take.
const LOAD: Duration = Duration::from_secs(120);

/// Why there is no timeline.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guest.
    #[error("{0}")]
    Guest(String),
    /// The source cannot be read.
    #[error("cannot read the trace from {from}: {source}")]
    Read {
        /// Where.
        from: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no trace.
    #[error("{from}: {source}")]
    Capture {
        /// Where.
        from: String,
        /// Why.
        source: capture::Error,
    },
    /// The timeline cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl From<Failure> for Error {
    fn from(e: Failure) -> Self {
        Self::Guest(e.to_string())
    }
}

/// What a guest does while it is traced: commands of its shell, or the usual load.
pub struct Load {
    /// Commands; none: pings and web pages.
    pub commands: Vec<String>,
    /// At least so long.
    pub time: Duration,
}

/// Boots `image`, traces it under `load`, and returns what was recorded.
///
/// # Errors
/// If the guest does not do what is asked.
pub fn of_guest(image: &Image, setup: &Setup, load: &Load) -> Result<Capture, Error> {
    let mut guest = Guest::boot(image, setup)?;
    let result = crate::suite::ready(&mut guest).and_then(|()| {
        trace(&mut guest, |g| {
            let begun = Instant::now();
            run_load(g, &load.commands)?;
            std::thread::sleep(load.time.saturating_sub(begun.elapsed()));
            Ok(())
        })
    });
    let capture = result.map_err(|e| Error::Guest(format!("{e}\n{}", guest.report())))?;
    guest.forget_recording();
    guest.power_off()?;
    Ok(capture)
}

fn run_load(g: &mut Guest, commands: &[String]) -> Result<(), Failure> {
    if commands.is_empty() {
        g.command("ping 10.0.2.2 2", LOAD)?;
        let port = g.host_port(80, Tcp)?;
        for path in ["/", "/bytes/100000"] {
            client::get(port, path).map_err(|e| Failure::Wrong(e.to_string()))?;
        }
    }
    commands.iter().try_for_each(|line| g.command(line, LOAD).map(|_| ()))
}

/// Traces a running guest while `work` is done, and fetches what was recorded.
///
/// # Errors
/// If the guest does not do what is asked, or `work` fails.
pub fn trace(
    guest: &mut Guest,
    work: impl FnOnce(&mut Guest) -> Result<(), Failure>,
) -> Result<Capture, Failure> {
    let said = guest.command("trace start", COMMAND)?;
    if said.contains("[trace]") {
        return Err(Failure::Wrong("the manifest has no [trace] table".into()));
    }
    work(guest)?;
    guest.command("trace stop", COMMAND)?;
    let bytes = fetch(guest, "trace send")?;
    Capture::read(&bytes).map_err(|e| Failure::Wrong(e.to_string()))
}

/// What a command of the shell sends to whoever connects to the port behind it.
///
/// # Errors
/// If nothing is sent.
pub fn fetch(guest: &mut Guest, command: &str) -> Result<Vec<u8>, Failure> {
    let port = guest.host_port(PORT, Tcp)?;
    guest.send_line(&format!("{command} {PORT}"))?;
    guest.wait_for(&format!("listening on port {PORT}"), COMMAND)?;
    let outside = |e: std::io::Error| Failure::Host(format!("port {port}: {e}"));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(outside)?;
    stream.set_read_timeout(Some(STILL)).map_err(outside)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(outside)?;
    Ok(bytes)
}

/// A trace from a file, or from `address:port` where a shell's `trace send` listens.
///
/// # Errors
/// If it cannot be read, or is none.
pub fn from(source: &str) -> Result<Capture, Error> {
    let bytes = if Path::new(source).is_file() {
        std::fs::read(source)
    } else {
        TcpStream::connect(source).and_then(|mut stream| {
            stream.set_read_timeout(Some(STILL))?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    };
    let bytes = bytes.map_err(|e| Error::Read { from: source.into(), source: e })?;
    Capture::read(&bytes).map_err(|e| Error::Capture { from: source.into(), source: e })
}

/// Writes a capture's timeline to `path`; returns what to tell people.
///
/// # Errors
/// If it cannot be written.
pub fn write(capture: &Capture, path: &Path) -> Result<String, Error> {
    let timeline = timeline::Timeline::new(capture);
    let json = chrome::json(&timeline);
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    std::fs::write(path, json).map_err(failed)?;
    let mut said = format!(
        "{} events over {} ms are in {}; open it at https://ui.perfetto.dev or chrome://tracing",
        capture.records.len(),
        timeline.length_ns() / 1_000_000,
        path.display()
    );
    if capture.lost > 0 {
        said += &format!(
            "\n{} older events were overwritten; `kib` of [trace] in the manifest sets the room",
            capture.lost
        );
    }
    Ok(said)
}
