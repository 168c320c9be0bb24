//! iperf3, with the system as its server: the agent makes the server's calls, the protocol is spoken here.
//!
//! Control connection: a cookie of 37 bytes, then states (a byte each, the server's and the client's) and JSON behind its length
//! (u32, big-endian). Data connections to the same port begin with the same cookie; a datagram socket with a word each way, and
//! its datagrams with seconds, microseconds and their number (u32 each, big-endian).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lab::{Family, Lab, STILL, at};
use super::sockets::{Begun, MSG_WAITALL, Sockets};
use super::{Found, packets};
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
/// The server's answer to a client's first datagram, as a little-endian machine writes it.
const CONNECT_REPLY: [u8; 4] = 0x3938_3736_u32.to_le_bytes();
/// Datagrams: bytes of one, and how many bits of them are asked for in a second.
const LEN: usize = 1000;
const RATE: &str = "1M";
/// Between two of the system's.
const GAP: Duration = Duration::from_millis(6);
/// One in so many may be lost: this machine may be busy.
const LOST: u64 = 100;
/// Bytes of one call.
const BLOCK: u32 = 256 << 10;
/// How long what was sent last may be on its way.
const QUIET: Duration = Duration::from_millis(300);

/// What a run is.
#[derive(Clone, Copy)]
struct Way {
    family: Family,
    udp: bool,
    /// The system does.
    sends: bool,
}

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
        if ended.is_none() && over(c, &ending, Duration::ZERO)? {
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

/// What of datagrams the receiver knows.
#[derive(Default)]
struct Datagrams {
    taken: u64,
    last: u64,
}

/// The run begins.
fn begin(c: &mut Sockets, control: i32) -> Result<(), Failure> {
    say(c, control, &[TEST_START])?;
    say(c, control, &[TEST_RUNNING])
}

/// The client's last word of a run, if it has come.
fn over(c: &mut Sockets, ending: &Begun, limit: Duration) -> Result<bool, Failure> {
    match c.ended(ending, limit)? {
        None => Ok(false),
        Some((1, state)) if state == [TEST_END] => Ok(true),
        Some((n, state)) => wrong(format!("the client ends with {n} {state:?}")),
    }
}

/// Takes datagrams until the client has had enough.
fn take_datagrams(c: &mut Sockets, ending: &Begun, data: i32) -> Result<Datagrams, Failure> {
    let (mut seen, mut ended) = (Datagrams::default(), None);
    let mut coming = c.begin_recv(data, 0, LEN as i32)?;
    while ended.is_none_or(|since: Instant| since.elapsed() < QUIET) {
        if let Some((n, bytes)) = c.ended(&coming, Duration::from_millis(5))? {
            let number = bytes.get(8..12).and_then(|b| b.try_into().ok());
            let Some(number) = number.filter(|_| n == LEN as i64) else {
                return wrong(format!("a datagram of {n} bytes"));
            };
            seen.last = seen.last.max(u32::from_be_bytes(number).into());
            seen.taken += 1;
            coming = c.begin_recv(data, 0, LEN as i32)?;
        }
        if ended.is_none() && over(c, ending, Duration::ZERO)? {
            ended = Some(Instant::now());
        }
    }
    Ok(seen)
}

/// Sends datagrams until the client has had enough.
fn send_datagrams(c: &mut Sockets, ending: &Begun, data: i32) -> Result<Datagrams, Failure> {
    let (mut seen, started) = (Datagrams::default(), Instant::now());
    while !over(c, ending, GAP)? {
        seen.last += 1;
        seen.taken += 1;
        let (now, mut bytes) = (started.elapsed(), vec![b'u'; LEN]);
        let head = [now.as_secs() as u32, now.subsec_micros(), seen.last as u32];
        bytes[..12].copy_from_slice(head.map(u32::to_be_bytes).as_flattened());
        say(c, data, &bytes)?;
    }
    Ok(seen)
}

/// The data connection, what went over it.
fn serve_tcp(
    c: &mut Sockets,
    control: i32,
    listener: i32,
    way: Way,
) -> Result<(i32, u64, Datagrams), Failure> {
    say(c, control, &[CREATE_STREAMS])?;
    let data = c.accept(listener)?;
    exactly(c, data, COOKIE)?;
    begin(c, control)?;
    Ok((data, run(c, control, data, way.sends)?, Datagrams::default()))
}

/// The data socket, what went over it.
fn serve_udp(c: &mut Sockets, control: i32, way: Way) -> Result<(i32, u64, Datagrams), Failure> {
    let data = c.udp(way.family)?;
    c.bind(data, way.family.any(PORT))?;
    say(c, control, &[CREATE_STREAMS])?;
    let (client, _) = c.recv_from(data, 4)?;
    c.connect(data, client)?;
    say(c, data, &CONNECT_REPLY)?;
    begin(c, control)?;
    let ending = c.begin_recv(control, 0, 1)?;
    let run = if way.sends { send_datagrams } else { take_datagrams };
    let seen = run(c, &ending, data)?;
    Ok((data, seen.last * LEN as u64, seen))
}

/// What the server tells of a run.
fn results(bytes: u64, seen: &Datagrams) -> Value {
    let lost = seen.last.saturating_sub(seen.taken);
    let stream = json!({
        "id": 1, "bytes": bytes, "retransmits": -1, "jitter": 0, "errors": lost,
        "packets": seen.last, "start_time": 0, "end_time": TIME,
    });
    json!({
        "cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0,
        "sender_has_retransmits": -1, "streams": [stream],
    })
}

/// Serves one client; what it was sent, or sent.
fn serve(c: &mut Sockets, listener: i32, way: Way) -> Result<u64, Failure> {
    let control = c.accept(listener)?;
    exactly(c, control, COOKIE)?;
    say(c, control, &[PARAM_EXCHANGE])?;
    let wanted = hear_json(c, control)?;
    let what = if way.udp { "udp" } else { "tcp" };
    if wanted[what] != true || wanted["reverse"].as_bool().unwrap_or(false) != way.sends {
        return wrong(format!("the client wants {wanted}"));
    }
    let (data, bytes, seen) = match way.udp {
        true => serve_udp(c, control, way)?,
        false => serve_tcp(c, control, listener, way)?,
    };
    // A client that takes data waits for a whole block, or for the end, before it listens again.
    c.close(data)?;
    say(c, control, &[EXCHANGE_RESULTS])?;
    hear_json(c, control)?;
    let text = results(bytes, &seen).to_string();
    say(c, control, &[&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat())?;
    say(c, control, &[DISPLAY_RESULTS])?;
    let last = exactly(c, control, 1)?;
    if last != [IPERF_DONE] {
        return wrong(format!("the client's last state is {last:?}"));
    }
    c.close(control)?;
    Ok(bytes)
}

/// What its client says after a run.
fn client(l: &mut Lab, way: Way) -> Result<Value, Failure> {
    let listener = l.calls.listener(way.family, PORT)?;
    let mut command = Command::new("timeout");
    let to = way.family.there(PORT).ip().to_string();
    command.args(["60", "iperf3", "-J", "-c", &to, "-t", &TIME.to_string()]);
    if way.udp {
        command.args(["-u", "-b", RATE, "-l", &LEN.to_string()]);
    }
    if way.sends {
        command.arg("-R");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = at("iperf3", Guarded::spawn(&mut command))?;
    let served = serve(&mut l.calls, listener, way);
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        at("iperf3", std::io::Read::read_to_string(&mut out, &mut text))?;
    }
    let status = at("iperf3", child.wait())?;
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    let bytes =
        served.map_err(|e| Failure::Wrong(format!("{e}; iperf3 says {}", said["error"])))?;
    l.calls.close(listener)?;
    if !status.success() || bytes == 0 {
        return wrong(format!("{status}, {bytes} bytes; iperf3 says {text}"));
    }
    Ok(said["end"].clone())
}

/// Mbit/s as the client saw them.
fn rate(l: &mut Lab, family: Family, sends: bool) -> Result<f64, Failure> {
    let said = client(l, Way { family, udp: false, sends })?;
    let rate = said["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6;
    if rate < 1.0 { wrong(format!("iperf3 says {said}")) } else { Ok(rate) }
}

pub fn iperf3(l: &mut Lab) -> Found {
    packets::reach6()?;
    let mut said = Vec::new();
    for (name, family) in [("IPv4", Family::V4), ("IPv6", Family::V6)] {
        let (inward, outward) = (rate(l, family, false)?, rate(l, family, true)?);
        said.push(format!("{name} {inward:.0} in, {outward:.0} out"));
    }
    Ok(format!("{} Mbit/s", said.join("; ")))
}

/// Datagrams that arrived, and were lost.
fn datagrams(l: &mut Lab, sends: bool) -> Found {
    let said = client(l, Way { family: Family::V4, udp: true, sends })?;
    let count = |name: &str| said["sum"][name].as_u64();
    match (count("packets"), count("lost_packets")) {
        (Some(sent), Some(lost)) if sent > 100 && lost * LOST <= sent => {
            Ok(format!("{lost} of {sent} lost"))
        }
        _ => wrong(format!("iperf3 says {said}")),
    }
}

pub fn udp(l: &mut Lab) -> Found {
    Ok(format!("in {}, out {}", datagrams(l, false)?, datagrams(l, true)?))
}
