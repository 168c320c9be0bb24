//! The small services and `nc`, from outside.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::netbench::{at, tcp, udp};
use super::traffic::ready;
use crate::harness::{COMMAND, Failure, Guest, PROMPT, wrong};

/// From 1900 to 1970.
const TIME_1900: u64 = 2_208_988_800;
/// How far this machine's clock and the guest's may differ: the test is about the service.
const FAR: u64 = 2 * 24 * 3600;

pub fn services(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    discard(g)?;
    chargen(g)?;
    clock(g)?;
    g.power_off()
}

fn discard(g: &Guest) -> Result<(), Failure> {
    let mut stream = tcp(g, 9)?;
    at("send", stream.write_all(&vec![1; 300_000]))?;
    at("shutdown", stream.shutdown(Shutdown::Write))?;
    let mut got = Vec::new();
    at("receive", stream.read_to_end(&mut got))?;
    if got.is_empty() { Ok(()) } else { wrong("discard answers") }
}

fn chargen(g: &Guest) -> Result<(), Failure> {
    let pattern = |bytes: &[u8]| bytes.iter().enumerate().all(|(i, b)| *b == b'A' + (i % 23) as u8);
    let mut got = vec![0; 200_000];
    at("receive", tcp(g, 19)?.read_exact(&mut got))?;
    if !pattern(&got) {
        return wrong("chargen's stream is not what it should be");
    }
    let socket = udp(g, 19)?;
    at("send", socket.send(b""))?;
    let n = at("receive", socket.recv(&mut got))?;
    if n == 0 || n > 512 || !pattern(&got[..n]) {
        return wrong(format!("chargen's datagram of {n} bytes is not what it should be"));
    }
    Ok(())
}

fn clock(g: &Guest) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let near = |bytes: [u8; 4]| {
        let unix = u32::from_be_bytes(bytes).wrapping_sub(TIME_1900 as u32);
        (unix as u64).abs_diff(now) < FAR
    };
    let mut bytes = [0; 4];
    at("receive", tcp(g, 37)?.read_exact(&mut bytes))?;
    let socket = udp(g, 37)?;
    at("send", socket.send(b""))?;
    let mut answer = [0; 16];
    let n = at("receive", socket.recv(&mut answer))?;
    if !near(bytes) || n != 4 || !near([answer[0], answer[1], answer[2], answer[3]]) {
        return wrong(format!("time says {bytes:?} and {:?}", &answer[..n]));
    }
    let mut line = String::new();
    at("receive", tcp(g, 13)?.read_to_string(&mut line))?;
    if !line.starts_with("20") || !line.ends_with(" UTC\r\n") {
        return wrong(format!("daytime says {line:?}"));
    }
    Ok(())
}

pub fn nc(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    for flags in ["", "-u "] {
        g.send_line(&format!("nc {flags}10.0.2.15 7"))?;
        g.wait_for("10.0.2.15 7", COMMAND)?;
        g.send_line("spoken")?;
        // Once as typed, once as it comes back.
        g.wait_for("spoken", COMMAND)?;
        g.wait_for("\nspoken", COMMAND)?;
        // Ctrl-D.
        g.send_line("\u{4}")?;
        g.wait_for(PROMPT, COMMAND)?;
    }
    let refused = g.command("nc 10.0.2.15 8", COMMAND)?;
    if !refused.contains("nc: connection refused") {
        return wrong(format!("a port that nobody serves:\n{refused}"));
    }
    let denied = g.command("nc -l 80", COMMAND)?;
    if !denied.contains("not permitted") {
        return wrong(format!("a port that belongs to httpd:\n{denied}"));
    }
    g.send_line("nc -l 9000")?;
    g.wait_for("listening on port 9000", COMMAND)?;
    let mut stream: TcpStream = tcp(g, 9000)?;
    at("send", stream.write_all(b"from outside\n"))?;
    g.wait_for("from outside", COMMAND)?;
    g.send_line("from inside")?;
    let mut got = [0; 12];
    at("receive", stream.read_exact(&mut got))?;
    if &got != b"from inside\n" {
        return wrong(format!("nc -l sent {got:?}"));
    }
    drop(stream);
    let deadline = Instant::now() + COMMAND;
    loop {
        let after = g.command("ss", COMMAND)?;
        if !after.lines().any(|l| l.contains(":9000 ") && l.contains("ESTABLISHED")) {
            return g.power_off();
        }
        if Instant::now() > deadline {
            return wrong(format!("nc is over, its connection is not:\n{after}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
