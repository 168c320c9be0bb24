//! Packet taps, by the capture service and `pcap`, read by tshark.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::traffic::{answered, ready};
use crate::client;
use crate::harness::{Failure, Guest, wrong};
use crate::install::{self, Tool};
use crate::manifest::Protocol::Tcp;
use crate::pcap;

/// Bytes of the web page that is fetched under the tap.
const PAGE: u64 = 100_000;
/// How long the tap is there: longer if the traffic does not fit, as on a busy machine.
const TIMES: [Duration; 3] =
    [Duration::from_secs(6), Duration::from_secs(30), Duration::from_secs(120)];

pub fn capture(g: &mut Guest) -> Result<(), Failure> {
    install::ensure_tool(Tool::Tshark).map_err(|e| Failure::Host(e.to_string()))?;
    ready(g)?;
    let from = format!("127.0.0.1:{}", g.host_port(2002, Tcp)?);
    match pcap::capture(&from, "/dev/null", "tcp and prot 80", None, None) {
        Err(pcap::Error::Refused(why)) if why.contains("word 3") => {}
        other => return wrong(format!("a wrong filter: {other:?}")),
    }
    let name = format!("capture-{}.pcap", std::process::id());
    let file = crate::harness::files().join(name);
    for time in TIMES {
        if let Some(frames) = tapped(g, &from, &file, time)? {
            look(&file, frames)?;
            let _ = std::fs::remove_file(&file);
            return g.power_off();
        }
    }
    wrong(format!("a page and three pings did not fit into {TIMES:?}"))
}

/// Captures for `time` while there is traffic. How many frames came, if all of it took place meanwhile.
fn tapped(g: &mut Guest, from: &str, file: &Path, time: Duration) -> Result<Option<u64>, Failure> {
    let wanted = "tcp port 80 or (icmp and host 127.0.0.1)";
    let (at, path) = (from.to_string(), file.display().to_string());
    let _ = std::fs::remove_file(file);
    let began = Instant::now();
    let tap = std::thread::spawn(move || pcap::capture(&at, &path, wanted, None, Some(time)));
    // The file's head is there: the filter is set.
    while !tap.is_finished() && !file.metadata().is_ok_and(|m| m.len() >= 24) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let page = client::get(g.host_port(80, Tcp)?, &format!("/bytes/{PAGE}"));
    page.map_err(|e| Failure::Wrong(e.to_string()))?;
    answered(g, "127.0.0.1", 2)?;
    answered(g, "10.0.2.2", 1)?;
    // What the tap has seen last is on its way.
    let whole = began.elapsed() + time / 4 < time;
    match tap.join() {
        Ok(Ok(frames)) => Ok(whole.then_some(frames)),
        Ok(Err(e)) => wrong(e.to_string()),
        Err(_) => wrong("the capture panicked"),
    }
}

/// What tshark finds in the file.
fn look(file: &Path, frames: u64) -> Result<(), Failure> {
    let lines = |filter: &str| tshark(file, filter);
    let all = lines("frame")?;
    let (http, echo) = (lines("http")?, lines("icmp && ip.addr == 127.0.0.1")?);
    let (bad, others) =
        (lines("_ws.malformed")?, lines("!(tcp.port == 80) && !(ip.addr == 127.0.0.1)")?);
    let payload: u64 =
        lines("tcp.srcport == 80")?.iter().filter_map(|l| l.parse::<u64>().ok()).sum();
    let good = all.len() as u64 == frames
        && !http.is_empty()
        && echo.len() >= 4
        && bad.is_empty()
        && others.is_empty()
        && payload >= PAGE;
    if good {
        return Ok(());
    }
    wrong(format!(
        "{frames} frames, tshark sees {}: http {}, echo {}, malformed {}, others {}, bytes {payload}",
        all.len(),
        http.len(),
        echo.len(),
        bad.len(),
        others.len()
    ))
}

/// The TCP payload's length of each frame that tshark's filter passes.
fn tshark(file: &Path, filter: &str) -> Result<Vec<String>, Failure> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-e", "tcp.len"]);
    let out = command.output().map_err(|e| Failure::Host(format!("tshark: {e}")))?;
    if !out.status.success() {
        return wrong(format!("tshark: {}", String::from_utf8_lossy(&out.stderr)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).lines().map(String::from).collect())
}
