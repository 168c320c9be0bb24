//! The usual tools of a Linux machine.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::lab::{Family, GUEST, LINUX, Lab, TAP, at, datagrams, ip, pause, program, set, there};
use super::{Found, bulk, options};
use crate::client;
use crate::harness::{COMMAND, Failure, wrong};

const ECONNREFUSED: i64 = -111;
const EHOSTUNREACH: i64 = -113;
const IP_TTL: i32 = 2;
const IP_RECVERR: i32 = 11;
/// What is open.
const TCP: [u16; 6] = [7, 9, 13, 19, 80, 99];
/// Bytes of the pages.
const PAGES: [u64; 4] = [0, 1, 100_000, 20_000_000];

pub fn ping(_: &mut Lab) -> Found {
    let guest = GUEST.to_string();
    for size in (0..=1472).step_by(64).chain([1471, 1472]) {
        let size = size.to_string();
        let words = ["-q", "-c", "1", "-W", "10", "-M", "do", "-s", &size, &guest];
        program("ping", &words, 20)?;
    }
    let said = program("ping", &["-q", "-f", "-c", "3000", "-W", "10", &guest], 100)?;
    let summary = said.lines().find(|l| l.contains("packet loss")).unwrap_or("");
    if !summary.contains(" 0% packet loss") {
        return wrong(format!("a flood: {summary}"));
    }
    let times = said.lines().last().unwrap_or("").trim().to_string();
    Ok(format!("3000 without a loss, {times}"))
}

pub fn arping(_: &mut Lab) -> Found {
    let said = program("arping", &["-c", "5", "-I", TAP, &GUEST.to_string()], 30)?;
    let answers = said.lines().filter(|l| l.to_lowercase().contains("52:54:00:12:34:56")).count();
    if answers < 5 {
        return wrong(format!("{answers} of 5 were answered:\n{said}"));
    }
    Ok("5 of 5".into())
}

/// Whether the first hop is the system itself.
pub fn trace(to: &str, how: &[&str]) -> Result<(), Failure> {
    let words = [&["-n", "-q", "2", "-m", "3", "-w", "10"], how, &[to]].concat();
    let said = program("traceroute", &words, 60)?;
    let hops: Vec<&str> = said.lines().skip(1).collect();
    if hops.len() == 1 && hops[0].contains(to) && !hops[0].contains('*') {
        return Ok(());
    }
    wrong(format!("traceroute {how:?} says\n{said}"))
}

pub fn traceroute(_: &mut Lab) -> Found {
    let guest = GUEST.to_string();
    for how in [&[][..], &["-I"], &["-T", "-p", "80"], &["-T", "-p", "81"]] {
        trace(&guest, how)?;
    }
    Ok("UDP, ICMP, TCP to an open and a closed port".into())
}

pub fn outward(l: &mut Lab) -> Found {
    let said = l.guest.command(&format!("ping {LINUX} 3"), COMMAND)?;
    if !said.contains("3 received") {
        return wrong(said);
    }
    let (listener, port) = options::listener()?;
    drop(listener);
    let closed = Family::V4.here(port);
    let fd = l.calls.tcp(Family::V4)?;
    let tcp = l.calls.try_connect(fd, closed)?;
    let fd = l.calls.udp(Family::V4)?;
    l.calls.connect(fd, closed)?;
    l.calls.send(fd, 0, None, b"anybody?")?;
    let (udp, _) = l.calls.recv(fd, 0, 10)?;
    if (tcp, udp) != (ECONNREFUSED, ECONNREFUSED) {
        return wrong(format!("a closed port: TCP {tcp}, UDP {udp}"));
    }
    // The first hop of a way to somewhere else says that the time is over.
    set("ipv4/ip_forward", "1")?;
    ip(&format!("route replace 192.0.2.0/24 via 10.9.0.254 dev {TAP}"))?;
    let fd = l.calls.udp(Family::V4)?;
    for (name, value) in [(IP_TTL, 1), (IP_RECVERR, 1)] {
        l.calls.set(fd, super::sockets::IPPROTO_IP, name, value)?;
    }
    l.calls.connect(fd, SocketAddr::from(([192, 0, 2, 1], 33434)))?;
    l.calls.send(fd, 0, None, b"how far?")?;
    let (hop, _) = l.calls.recv(fd, 0, 10)?;
    set("ipv4/ip_forward", "0")?;
    if hop != EHOSTUNREACH {
        return wrong(format!("a datagram that lives for one hop: {hop}"));
    }
    Ok("ping, refusals of both protocols, time exceeded".into())
}

pub fn curl(_: &mut Lab) -> Found {
    for len in PAGES {
        let script = format!("curl -sS http://{GUEST}/bytes/{len} | sha256sum");
        let said = program("sh", &["-c", &script], 100)?;
        if !said.starts_with(&client::hex(&client::expected_digest(len))) {
            return wrong(format!("the page of {len} bytes has the digest {said}"));
        }
    }
    let head = program("curl", &["-sSI", &format!("http://{GUEST}/")], 60)?;
    Ok(head.lines().next().unwrap_or("").trim().to_string())
}

/// Ports and their states in nmap's answer for programs.
fn ports(said: &str) -> Vec<(u16, String)> {
    let list = said.split("Ports: ").nth(1).unwrap_or("");
    let list = list.split('\t').next().unwrap_or("");
    let port = |word: &str| {
        let mut parts = word.trim().split('/');
        Some((parts.next()?.parse().ok()?, parts.next()?.to_string()))
    };
    list.split(',').filter_map(port).collect()
}

pub fn nmap_tcp(_: &mut Lab) -> Found {
    let words = ["-n", "-sS", "-T4", "-p", "1-1000", "-oG", "-", &GUEST.to_string()];
    let said = program("nmap", &words, 100)?;
    let open: Vec<u16> = ports(&said).into_iter().filter(|p| p.1 == "open").map(|p| p.0).collect();
    if open != TCP || !said.contains("Ignored State: closed (994)") {
        return wrong(format!("open: {open:?}\n{said}"));
    }
    Ok(format!("{open:?} open, all others closed"))
}

pub fn nmap_udp(_: &mut Lab) -> Found {
    // One error a second (Linux's rule), so few ports.
    let words =
        ["-n", "-sU", "--scan-delay", "1100ms", "-p", "1-20", "-oG", "-", &GUEST.to_string()];
    let said = program("nmap", &words, 110)?;
    let found = ports(&said);
    let open: Vec<u16> = found.iter().filter(|p| p.1.starts_with("open")).map(|p| p.0).collect();
    if open != [7] {
        return wrong(format!("open: {open:?}\n{said}"));
    }
    Ok("[7] open, all others closed".into())
}

pub fn nmap_os(_: &mut Lab) -> Found {
    let words = ["-n", "-O", "--osscan-guess", "-p", "7,81", &GUEST.to_string()];
    let said = program("nmap", &words, 110)?;
    let line = |what| said.lines().find(|l| l.starts_with(what)).map(str::to_string);
    let guess = ["OS details", "Running", "Aggressive OS guesses"].into_iter().find_map(line);
    match guess {
        Some(guess) if guess.contains("Linux") => Ok(guess.chars().take(70).collect()),
        _ => wrong(said),
    }
}

/// Numbers of the frames in a recording that tshark's filter passes, with what tshark says of each.
pub fn frames(file: &Path, filter: &str) -> Result<Vec<String>, Failure> {
    let file = file.display().to_string();
    let sums = ["ip", "tcp", "udp"].map(|p| format!("{p}.check_checksum:TRUE"));
    let mut words = vec!["-r", &file, "-Y", filter];
    for sum in &sums {
        words.extend(["-o", sum]);
    }
    Ok(program("tshark", &words, 100)?.lines().map(str::to_string).collect())
}

/// What must not be in a recording of a clean line.
const BAD: &str = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || \
    udp.checksum.status == 0 || icmp.checksum.status == 0 || tcp.analysis.lost_segment || \
    tcp.analysis.out_of_order || tcp.analysis.ack_lost_segment || _ws.expert.severity == error";
/// What a probe of the tail (RFC 8985 7) looks like, which either end sends when this machine has stood still for longer
/// than two round trips: some hundred microseconds here. Nothing else is a reason on such a line.
const PROBES: &str = "tcp.analysis.retransmission";
/// How often there may be such a pause.
const RUNS: u32 = 5;

pub fn tshark(l: &mut Lab) -> Found {
    let file = l.file("tshark");
    for run in 1..=RUNS {
        at("record", l.relay.record(&file))?;
        traffic(l)?;
        l.relay.stop_recording();
        let (all, bad) = (frames(&file, "frame")?.len(), frames(&file, BAD)?);
        let again = frames(&file, PROBES)?;
        if all < 1000 || !bad.is_empty() || run == RUNS && !again.is_empty() {
            let few: Vec<&str> = bad.iter().chain(&again).take(20).map(String::as_str).collect();
            let what = few.join("\n");
            let at = file.display();
            return wrong(format!("wrong among {all} frames:\n{what}\n--- {at}"));
        }
        if again.is_empty() {
            let _ = std::fs::remove_file(&file);
            return Ok(format!("{all} frames, run {run}"));
        }
    }
    unreachable!("the last run returns")
}

/// Some of everything.
fn traffic(l: &mut Lab) -> Result<(), Failure> {
    let page = format!("http://{GUEST}/bytes/3000000");
    program("curl", &["-sS", "-o", "/dev/null", &page], 60)?;
    bulk::echo(there(7), 1 << 20)?;
    program("ping", &["-q", "-c", "5", "-i", "0.2", "-s", "3000", &GUEST.to_string()], 60)?;
    let socket = datagrams(there(7))?;
    for len in [0, 1, 1472, 5000] {
        at("send", socket.send(&vec![7; len]))?;
        at("receive", socket.recv(&mut [0; 8192]))?;
    }
    l.guest.command(&format!("ping {LINUX} 2"), COMMAND)?;
    // What is on its way comes into the recording.
    pause(Duration::from_millis(500));
    Ok(())
}
