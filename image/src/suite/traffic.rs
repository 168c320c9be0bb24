//! Talking to the system from outside.

use std::time::{Duration, Instant};

use crate::client::{self, Body};
use crate::harness::{BOOT, COMMAND, Failure, Guest, PROMPT, wrong};
use crate::manifest::Protocol::{Tcp, Udp};

/// Bytes of the long downloads.
pub const LONG: u64 = 200_000_000;
/// Requests that a busy machine may answer too late, in [`answered`].
const LOST: u32 = 10;

/// What went wrong outside is what the test failed of.
pub fn outside<T>(result: Result<T, client::Error>) -> Result<T, Failure> {
    result.map_err(|e| Failure::Wrong(e.to_string()))
}

/// Waits for the prompt, for servers and for netd's address: forwarded connections before that are
/// refused.
pub fn ready(g: &mut Guest) -> Result<(), Failure> {
    g.wait_for(PROMPT, BOOT)?;
    let serving = ["[httpd] serving on port 80", "[services] serving"];
    g.wait_until("servers", BOOT, |text| serving.iter().all(|line| text.contains(line)))?;
    addressed(g)
}

/// Waits until the interface has its address.
pub fn addressed(g: &mut Guest) -> Result<(), Failure> {
    let deadline = Instant::now() + BOOT;
    while Instant::now() < deadline {
        if g.command("ip", COMMAND)?.contains("10.0.2.15") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    wrong("no address by DHCP")
}

/// Pings `to` until `count` requests have been answered. The shell waits a second for each answer; a busy
/// machine may take longer, so some may be lost.
pub fn answered(g: &mut Guest, to: &str, count: u32) -> Result<(), Failure> {
    let (mut got, mut last) = (0, String::new());
    for _ in 0..count + LOST {
        last = g.command(&format!("ping {to} 1"), COMMAND)?;
        got += last.contains(" 1 received") as u32;
        if got == count {
            return Ok(());
        }
    }
    wrong(format!("{got} of {} requests were answered, the last:\n{last}", count + LOST))
}

pub fn ping(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    answered(g, "10.0.2.2", 3)?;
    g.power_off()
}

pub fn http(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    let page = outside(client::get(port, "/"))?;
    if !String::from_utf8_lossy(&page.head).to_lowercase().contains("breakwater") {
        return wrong("the front page does not say whose it is");
    }
    for len in [0, 1, 1459, 1460, 1461, 65_537, 3_000_000] {
        let body = outside(client::get(port, &format!("/bytes/{len}")))?;
        check(&body, len)?;
        let digest = outside(client::get(port, &format!("/bytes/{len}/sha256")))?;
        let (said, right) =
            (String::from_utf8_lossy(&digest.head).into_owned(), client::expected_digest(len));
        if !said.contains(&client::hex(&right)) {
            return wrong(format!("/bytes/{len}/sha256 says {said:?}"));
        }
    }
    match client::get(port, "/no/such/page") {
        Err(client::Error::Http { source, .. })
            if matches!(*source, ureq::Error::StatusCode(404)) => {}
        other => return wrong(format!("a page that does not exist gave {other:?}")),
    }
    g.power_off()
}

pub fn echo(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let (tcp, udp) = (g.host_port(7, Tcp)?, g.host_port(7, Udp)?);
    for len in [1, 1000, 100_000, 2_000_000] {
        outside(client::echo_tcp(tcp, len))?;
    }
    for len in [0, 1, 18, 100, 1472] {
        outside(client::echo_udp(udp, len))?;
    }
    g.power_off()
}

pub fn download(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    let body = outside(client::get(port, &format!("/bytes/{LONG}")))?;
    check(&body, LONG)?;
    g.power_off()
}

pub fn small_memory(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let body = outside(client::get(g.host_port(80, Tcp)?, "/bytes/10000000"))?;
    check(&body, 10_000_000)?;
    g.power_off()
}

/// Whether a body is the first `len` bytes of the stream.
pub fn check(body: &Body, len: u64) -> Result<(), Failure> {
    if body.len != len {
        return wrong(format!("{} bytes came instead of {len}", body.len));
    }
    if body.digest != client::expected_digest(len) {
        return wrong(format!("{len} bytes came, but not the right ones"));
    }
    Ok(())
}
