//! What two ends agree on: keep-alive, ECN, urgent data, Fast Open.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::lab::{Family, Lab, at, connect, counter, patient, pause, set, there};
use super::relay::Line;
use super::sockets::{IPPROTO_TCP, MSG_FASTOPEN, MSG_OOB, MSG_WAITALL, SOL_SOCKET};
use super::{Found, bulk, tools};
use crate::harness::{Failure, wrong};

const ETIMEDOUT: i64 = -110;
const SO_KEEPALIVE: i32 = 9;
const TCP_KEEPIDLE: i32 = 4;
const TCP_KEEPINTVL: i32 = 5;
const TCP_KEEPCNT: i32 = 6;
const TCP_FASTOPEN: i32 = 23;
/// Bytes under marks.
const MARKED: u64 = 4 << 20;

/// A listener of Linux's, and its port.
pub fn listener() -> Result<(TcpListener, u16), Failure> {
    let listener = at("listen", TcpListener::bind(Family::V4.here(0)))?;
    let port = at("address", listener.local_addr())?.port();
    Ok((listener, port))
}

/// A connection that the system makes to Linux.
fn from_guest(l: &mut Lab) -> Result<(i32, TcpStream), Failure> {
    let (listener, port) = listener()?;
    let fd = l.calls.tcp(Family::V4)?;
    l.calls.connect(fd, Family::V4.here(port))?;
    let (stream, _) = at("accept", listener.accept())?;
    patient(&stream)?;
    Ok((fd, stream))
}

pub fn keepalive(l: &mut Lab) -> Found {
    let second = Duration::from_secs(1);
    let before = counter("TcpExt", "TCPKeepAlive")?;
    let file = l.file("keepalive");
    at("record", l.relay.record(&file))?;
    let mut ours = connect(there(99))?;
    let how = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(3);
    at("keep-alive", SockRef::from(&ours).set_tcp_keepalive(&how))?;
    let (fd, mut stream) = from_guest(l)?;
    l.calls.set(fd, SOL_SOCKET, SO_KEEPALIVE, 1)?;
    for (name, value) in [(TCP_KEEPIDLE, 1), (TCP_KEEPINTVL, 1), (TCP_KEEPCNT, 3)] {
        l.calls.set(fd, IPPROTO_TCP, name, value)?;
    }
    // Longer than three lost probes would take.
    pause(6 * second);
    l.relay.stop_recording();
    at("an idle connection", ours.write_all(b"!"))?;
    if l.calls.send(fd, 0, None, b"!")? != 1 {
        return wrong("an idle connection of the system's is over");
    }
    at("receive", stream.read_exact(&mut [0; 1]))?;
    let probes = counter("TcpExt", "TCPKeepAlive")? - before;
    let theirs = tools::frames(&file, "tcp.analysis.keep_alive && ip.src == 10.9.0.2")?.len();
    if probes < 3 || theirs < 3 {
        return wrong(format!("Linux sent {probes} probes, the system {theirs}"));
    }
    l.relay.set(Line::CUT, Line::CUT);
    let receiving = l.calls.begin_recv(fd, 0, 1)?;
    match ours.read(&mut [0; 1]) {
        Err(e) if e.kind() == ErrorKind::TimedOut => {}
        other => return wrong(format!("without a line Linux's end says {other:?}")),
    }
    let (result, _) = l.calls.end(&receiving)?;
    if result != ETIMEDOUT {
        return wrong(format!("without a line the system's end says {result}"));
    }
    let _ = std::fs::remove_file(&file);
    Ok(format!("{probes} probes of Linux's, {theirs} of the system's were answered"))
}

pub fn ecn(l: &mut Lab) -> Found {
    set("ipv4/tcp_ecn", "1")?;
    let marks = Line { marked: 10, ..Line::CLEAN };
    let delivered = counter("TcpExt", "TCPDeliveredCE")?;
    let seen = counter("IpExt", "InCEPkts")?;
    l.relay.set(marks, marks);
    let file = l.file("ecn");
    at("record", l.relay.record(&file))?;
    bulk::echo(there(7), MARKED)?;
    l.relay.stop_recording();
    let delivered = counter("TcpExt", "TCPDeliveredCE")? - delivered;
    let seen = counter("IpExt", "InCEPkts")? - seen;
    let reduced = "ip.src == 10.9.0.2 && tcp.flags.cwr == 1 && tcp.flags.syn == 0";
    let reduced = tools::frames(&file, reduced)?.len();
    if delivered == 0 || seen == 0 || reduced == 0 {
        return wrong(format!(
            "of marked packets the system told {delivered}; Linux got {seen}, and the system reduced {reduced} times"
        ));
    }
    let _ = std::fs::remove_file(&file);
    Ok(format!("{delivered} marks told, {seen} got, {reduced} reductions"))
}

pub fn urgent(l: &mut Lab) -> Found {
    let listener = l.calls.listener(Family::V4, 5001)?;
    let mut stream = connect(there(5001))?;
    let fd = l.calls.accept(listener)?;
    at("send", stream.write_all(b"abc"))?;
    at("urgent", SockRef::from(&stream).send_out_of_band(b"!"))?;
    at("send", stream.write_all(b"def"))?;
    // All of it has arrived when the last has: reading stops before the mark.
    pause(Duration::from_millis(300));
    let first = l.calls.recv(fd, 0, 100)?;
    let second = l.calls.recv(fd, MSG_OOB, 1)?;
    let third = l.calls.recv(fd, MSG_WAITALL, 3)?;
    let got = [&first, &second, &third].map(|r| String::from_utf8_lossy(&r.1).into_owned());
    if got != ["abc", "!", "def"] {
        return wrong(format!("the system got {first:?}, urgent {second:?}, {third:?}"));
    }
    for (flags, bytes) in [(0, "uvw"), (MSG_OOB, "?"), (0, "xyz")] {
        let sent = l.calls.send(fd, flags, None, bytes.as_bytes())?;
        if sent != bytes.len() as i64 {
            return wrong(format!("SEND {bytes:?} with flags {flags}: {sent}"));
        }
    }
    pause(Duration::from_millis(300));
    let mut buffer = [0; 100];
    let n = at("receive", stream.read(&mut buffer))?;
    let first = String::from_utf8_lossy(&buffer[..n]).into_owned();
    let mut byte = [std::mem::MaybeUninit::new(0)];
    let n = at("receive urgent", SockRef::from(&stream).recv_out_of_band(&mut byte))?;
    let mut rest = [0; 3];
    at("receive", stream.read_exact(&mut rest))?;
    if first != "uvw" || n != 1 || &rest != b"xyz" {
        return wrong(format!("Linux got {first:?}, {n} urgent bytes, {rest:?}"));
    }
    Ok("both ways".into())
}

pub fn fastopen(l: &mut Lab) -> Found {
    // Both ends, and every listener without being asked.
    set("ipv4/tcp_fastopen", "1027")?;
    let active = counter("TcpExt", "TCPFastOpenActive")?;
    let listener = l.calls.listener(Family::V4, 5002)?;
    l.calls.set(listener, IPPROTO_TCP, TCP_FASTOPEN, 5)?;
    for word in ["a cookie", "data in the SYN"] {
        let socket = at("socket", Socket::new(Domain::IPV4, Type::STREAM, None))?;
        let sent = socket.send_to_with_flags(word.as_bytes(), &there(5002).into(), MSG_FASTOPEN);
        if at("send", sent)? != word.len() {
            return wrong("less was sent than asked for");
        }
        let fd = l.calls.accept(listener)?;
        let (n, data) = l.calls.recv(fd, MSG_WAITALL, word.len() as i32)?;
        if data != word.as_bytes() {
            return wrong(format!("the system got {n}, {:?}", String::from_utf8_lossy(&data)));
        }
        l.calls.close(fd)?;
    }
    let active = counter("TcpExt", "TCPFastOpenActive")? - active;
    let passive = counter("TcpExt", "TCPFastOpenPassive")?;
    let (listener, port) = self::listener()?;
    for word in ["a cookie", "data in the SYN"] {
        let fd = l.calls.tcp(Family::V4)?;
        let to = Family::V4.here(port);
        let sent = l.calls.send(fd, MSG_FASTOPEN, Some(to), word.as_bytes())?;
        if sent != word.len() as i64 {
            return wrong(format!("SEND with MSG_FASTOPEN: {sent}"));
        }
        let (mut stream, _) = at("accept", listener.accept())?;
        patient(&stream)?;
        let mut got = vec![0; word.len()];
        at("receive", stream.read_exact(&mut got))?;
        if got != word.as_bytes() {
            return wrong(format!("Linux got {:?}", String::from_utf8_lossy(&got)));
        }
        l.calls.close(fd)?;
    }
    let passive = counter("TcpExt", "TCPFastOpenPassive")? - passive;
    if (active, passive) != (1, 1) {
        return wrong(format!(
            "with data in the SYN: {active} of Linux's, {passive} of the system's, not one each"
        ));
    }
    Ok("after one cookie each".into())
}

/// Until `is` says yes.
pub fn until(what: &str, mut is: impl FnMut() -> bool) -> Result<(), Failure> {
    let end = Instant::now() + super::lab::STILL;
    while !is() {
        if Instant::now() > end {
            return wrong(format!("{what}: not within a minute"));
        }
        pause(Duration::from_millis(200));
    }
    Ok(())
}
