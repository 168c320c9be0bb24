//! Packet taps, by the capture service and `pcap`, read by tshark.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::client;
use crate::harness::{BOOT, COMMAND, Failure, Guest, PROMPT, wrong};
use crate::install::{self, Tool};
use crate::manifest::Protocol::Tcp;
use crate::pcap;

/// Bytes of the web page that is fetched under the tap.
const PAGE: u64 = 100_000;

pub fn capture(g: &mut Guest) -> Result<(), Failure> {
    install::ensure_tool(Tool::Tshark).map_err(|e| Failure::Host(e.to_string()))?;
    g.wait_for(PROMPT, BOOT)?;
    let (service, web) = (g.host_port(2002, Tcp)?, g.host_port(80, Tcp)?);
    let from = format!("127.0.0.1:{service}");
    match pcap::capture(&from, "/dev/null", "tcp and prot 80", None, None) {
        Err(pcap::Error::Refused(why)) if why.contains("word 3") => {}
        other => return wrong(format!("a wrong filter: {other:?}")),
    }
    let name = format!("capture-{}.pcap", std::process::id());
    let file = crate::harness::files().join(name);
    let path = file.display().to_string();
    let wanted = "tcp port 80 or (icmp and host 127.0.0.1)";
    let at = (from.clone(), path.clone());
    let tap = std::thread::spawn(move || {
        pcap::capture(&at.0, &at.1, wanted, None, Some(Duration::from_secs(6)))
    });
    // The file's head is there: the filter is set.
    for _ in 0..100 {
        if file.metadata().is_ok_and(|m| m.len() >= 24) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    client::get(web, &format!("/bytes/{PAGE}")).map_err(|e| Failure::Wrong(e.to_string()))?;
    g.command("ping 127.0.0.1 2", COMMAND)?;
    g.command("ping 10.0.2.2 1", COMMAND)?;
    let frames = match tap.join() {
        Ok(Ok(frames)) => frames,
        Ok(Err(e)) => return wrong(e.to_string()),
        Err(_) => return wrong("the capture panicked"),
    };
    let lines = |filter: &str| tshark(&file, filter);
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
    if !good {
        return wrong(format!(
            "{frames} frames, tshark sees {}: http {}, echo {}, malformed {}, others {}, bytes {payload}",
            all.len(),
            http.len(),
            echo.len(),
            bad.len(),
            others.len()
        ));
    }
    g.power_off()
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
