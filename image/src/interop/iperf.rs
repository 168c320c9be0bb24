//! iperf3, with the system as its server: the agent makes the server's calls, the protocol is spoken here.
//!
//! Control connection: a cookie of 37 bytes, then states (a byte each, the server's and the client's) and JSON behind its length
//! (u32, big-endian). Data connections to the same port begin with the same cookie.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Found;
use super::lab::{GUEST, Lab, STILL, at};
use super::sockets::{MSG_WAITALL, Sockets};
use crate::child::Guarded;
use crate::harness::{Failure, wrong};

const PORT: u16 = 5201;
const COOKIE: i32 = 37;
/// Seconds of a run.
const TIME: u32 = 3;
/// States.
const TEST_START: u8 = 1;
const TEST_RUNNING: u8 = 2;
const TEST_END: u8 = 4;
const PARAM_EXCHANGE: u8 = 9;
const CREATE_STREAMS: u8 = 10;
const EXCHANGE_RESULTS: u8 = 13;
const DISPLAY_RESULTS: u8 = 14;
const IPERF_DONE: u8 = 16;
/// Bytes of one call.
const BLOCK: u32 = 256 << 10;
/// How long what was sent last may be on its way.
const QUIET: Duration = Duration::from_millis(300);

fn exactly(c: &mut Sockets, fd: i32, count: i32) -> Result<Vec<u8>, Failure> {
    match c.recv(fd, MSG_WAITALL, count)? {
        (n, bytes) if n == i64::from(count) => Ok(bytes),
        (n, _) => wrong(format!("the client's {count} bytes are {n}")),
    }
}

fn say(c: &mut Sockets, fd: i32, bytes: &[u8]) -> Result<(), Failure> {
    let sent = c.send(fd, 0, None, bytes)?;
    if sent == bytes.len() as i64 { Ok(()) } else { wrong(format!("SEND to the client: {sent}")) }
}

fn hear_json(c: &mut Sockets, fd: i32) -> Result<Value, Failure> {
    let len = exactly(c, fd, 4)?.try_into().map_or(0, i32::from_be_bytes);
    let text = exactly(c, fd, len.clamp(1, 65_536))?;
    serde_json::from_slice(&text).map_err(|e| Failure::Wrong(format!("the client's JSON: {e}")))
}

/// Moves data until the client has had enough; how many bytes.
fn run(c: &mut Sockets, control: i32, data: i32, sends: bool) -> Result<u64, Failure> {
    let begin = |c: &mut Sockets| match sends {
        true => c.begin_send(data, b'z', BLOCK),
        false => c.begin_skip(data, BLOCK as i32),
    };
    let ending = c.begin_recv(control, 0, 1)?;
    let (mut moving, mut bytes) = (begin(c)?, 0);
    let (mut ended, started) = (None, Instant::now());
    loop {
        if let Some((n, _)) = c.ended(&moving, Duration::from_millis(5))? {
            if n <= 0 {
                return wrong(format!("the data connection: {n} after {bytes} bytes"));
            }
            bytes += n as u64;
            moving = begin(c)?;
        } else if ended.is_some_and(|since: Instant| since.elapsed() > QUIET) {
            return Ok(bytes);
        }
        if ended.is_none()
            && let Some((n, state)) = c.ended(&ending, Duration::ZERO)?
        {
            if state != [TEST_END] {
                return wrong(format!("the client ends with {n} {state:?}"));
            }
            ended = Some(Instant::now());
            if sends {
                return Ok(bytes);
            }
        }
        if started.elapsed() > STILL {
            return wrong("the client does not end");
        }
    }
}

/// Serves one client; what it was sent, or sent.
fn serve(c: &mut Sockets, listener: i32, sends: bool) -> Result<u64, Failure> {
    let control = c.accept(listener)?;
    exactly(c, control, COOKIE)?;
    say(c, control, &[PARAM_EXCHANGE])?;
    let wanted = hear_json(c, control)?;
    if wanted["tcp"] != true || wanted["reverse"].as_bool().unwrap_or(false) != sends {
        return wrong(format!("the client wants {wanted}"));
    }
    say(c, control, &[CREATE_STREAMS])?;
    let data = c.accept(listener)?;
    exactly(c, data, COOKIE)?;
    say(c, control, &[TEST_START])?;
    say(c, control, &[TEST_RUNNING])?;
    let bytes = run(c, control, data, sends)?;
    // A client that takes data waits for a whole block, or for the end, before it listens again.
    c.close(data)?;
    say(c, control, &[EXCHANGE_RESULTS])?;
    hear_json(c, control)?;
    let stream = json!({
        "id": 1, "bytes": bytes, "retransmits": -1, "jitter": 0, "errors": 0, "packets": 0,
        "start_time": 0, "end_time": TIME,
    });
    let results = json!({
        "cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0,
        "sender_has_retransmits": -1, "streams": [stream],
    });
    let text = results.to_string();
    say(c, control, &[&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat())?;
    say(c, control, &[DISPLAY_RESULTS])?;
    let last = exactly(c, control, 1)?;
    if last != [IPERF_DONE] {
        return wrong(format!("the client's last state is {last:?}"));
    }
    c.close(control)?;
    Ok(bytes)
}

/// Mbit/s as the client saw them.
fn client(l: &mut Lab, sends: bool) -> Result<f64, Failure> {
    let listener = l.calls.listener(PORT)?;
    let mut command = Command::new("timeout");
    command.args(["60", "iperf3", "-J", "-4", "-c", &GUEST.to_string(), "-t", &TIME.to_string()]);
    if sends {
        command.arg("-R");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = at("iperf3", Guarded::spawn(&mut command))?;
    let served = serve(&mut l.calls, listener, sends);
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        at("iperf3", std::io::Read::read_to_string(&mut out, &mut text))?;
    }
    let status = at("iperf3", child.wait())?;
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    let bytes =
        served.map_err(|e| Failure::Wrong(format!("{e}; iperf3 says {}", said["error"])))?;
    l.calls.close(listener)?;
    let rate = said["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6;
    if !status.success() || rate < 1.0 || bytes == 0 {
        return wrong(format!("{status}, {bytes} bytes; iperf3 says {text}"));
    }
    Ok(rate)
}

pub fn iperf3(l: &mut Lab) -> Found {
    let (inward, outward) = (client(l, false)?, client(l, true)?);
    Ok(format!("{inward:.0} in, {outward:.0} out Mbit/s"))
}
