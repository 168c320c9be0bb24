//! Names to addresses, by the shell's `host`.

use std::time::{Duration, Instant};

use crate::harness::peer::dns::{self, ADDRESS, LARGE, Mood, NAME, Server};
use crate::harness::{BOOT, COMMAND, Failure, Guest, PROMPT, wrong};

/// Seconds that an answer holds.
const TTL: u32 = 4;

pub fn dns(g: &mut Guest) -> Result<(), Failure> {
    let peer = g.peer()?;
    peer.set_dns(Some(Server::new(TTL)));
    g.wait_for(PROMPT, BOOT)?;
    let says = |g: &mut Guest, name: &str, what: &str| {
        let said = g.command(&format!("host {name}"), COMMAND)?;
        if said.contains(what) { Ok(()) } else { wrong(format!("`host {name}` says:\n{said}")) }
    };
    let address = ADDRESS.map(|b| b.to_string()).join(".");
    loop {
        let began = Instant::now();
        says(g, NAME, &address)?;
        let asked = peer.dns_heard().len();
        says(g, &NAME.to_uppercase(), &address)?;
        // AAAA had no SOA beside it, so only that may be asked again.
        if peer.dns_heard().len() == asked + 1 {
            break;
        }
        // On a busy machine the answer may have grown old meanwhile.
        if began.elapsed() < Duration::from_secs(TTL as u64) {
            return wrong(format!("the cache was not used: {:?}", peer.dns_heard()));
        }
    }
    std::thread::sleep(Duration::from_secs(TTL as u64 + 1));
    peer.with_dns(|s| s.mood = Mood::AmongLiars);
    says(g, NAME, &address)?;
    says(g, "nothing.breakwater.test", "no such name")?;
    peer.with_dns(|s| s.mood = Mood::Drowsy);
    says(g, "nobody.breakwater.test", "no such name")?;
    over_tcp(g)?;
    says(g, "a..b", "this is no name")?;
    let heard = peer.dns_heard();
    let differ = |of: fn(&(u16, u16)) -> u16| {
        heard.iter().map(of).collect::<std::collections::HashSet<_>>().len() * 10 > heard.len() * 9
    };
    if !differ(|h| h.0) || !differ(|h| h.1) {
        return wrong(format!("numbers and ports are not random: {heard:?}"));
    }
    g.power_off()
}

/// What does not fit a datagram comes by TCP.
fn over_tcp(g: &mut Guest) -> Result<(), Failure> {
    let peer = g.peer()?;
    let stream = peer.accept(53);
    let server = std::thread::spawn(move || {
        let mut heard = Vec::new();
        stream.wait(COMMAND, |s| {
            let _ = s.recv(|bytes| {
                heard.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            let question = heard.get(2..)?;
            if heard.len() < 2 + u16::from_be_bytes([heard[0], heard[1]]) as usize {
                return None;
            }
            let answer = dns::large(question)?;
            let message = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
            s.send_slice(&message).ok()
        })
    });
    let said = g.command(&format!("host {LARGE}"), COMMAND)?;
    let sent = server.join().ok().flatten();
    if sent.is_none() || !said.contains("198.51.100.1") {
        return wrong(format!("by TCP: sent {sent:?}, `host` says:\n{said}"));
    }
    Ok(())
}
