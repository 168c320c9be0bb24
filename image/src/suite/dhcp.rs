//! The life of an address that DHCP lends.

use std::time::Duration;

use smoltcp::wire::{DhcpMessageType, Ipv4Address};

use crate::harness::peer::dhcp::{Heard, Mood, Server};
use crate::harness::peer::{PEER, Peer};
use crate::harness::{BOOT, COMMAND, Failure, Guest, PROMPT, wrong};

/// Lease, T1 and T2, seconds: short, and far enough apart to tell them.
const LEASE: (u32, (u32, u32)) = (5, (1, 3));
const FIRST: Ipv4Address = Ipv4Address::new(10, 9, 0, 50);
const SECOND: Ipv4Address = Ipv4Address::new(10, 9, 0, 51);
/// How long a step may take, on a busy machine too.
const STEP: Duration = Duration::from_secs(120);

/// Waits until the server has heard a message that `is` one, after the first `from`.
fn hear(
    peer: &Peer,
    from: usize,
    what: &str,
    is: impl Fn(&Heard) -> bool,
) -> Result<Heard, Failure> {
    let deadline = std::time::Instant::now() + STEP;
    loop {
        let heard = peer.dhcp_heard();
        // The console may be ahead of the cable.
        let heard = heard.get(from..).unwrap_or(&[]);
        if let Some(found) = heard.iter().find(|h| is(h)) {
            return Ok(*found);
        }
        if std::time::Instant::now() >= deadline {
            return wrong(format!("the server did not hear {what}, but {heard:#?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn shown(g: &mut Guest, what: &str) -> Result<(), Failure> {
    let ip = g.command("ip", COMMAND)?;
    if ip.contains(what) { Ok(()) } else { wrong(format!("`ip` does not say {what:?}:\n{ip}")) }
}

pub fn dhcp(g: &mut Guest) -> Result<(), Failure> {
    let peer = g.peer()?;
    let mut server = Server::new(FIRST, LEASE.0, LEASE.1);
    server.mood = Mood::Silent;
    peer.set_dhcp(Some(server));
    alone(g, &peer)?;
    renewal(g, &peer)?;
    expiry(g, &peer)?;
    refusal(g, &peer)?;
    confirmation(g, &peer)?;
    giving_back(g, &peer)?;
    g.power_off()
}

/// Without a server the system runs, says so, and asks less and less often.
fn alone(g: &mut Guest, peer: &Peer) -> Result<(), Failure> {
    g.wait_for(PROMPT, BOOT)?;
    shown(g, "no address yet")?;
    g.wait_for("no DHCP server answers", STEP)?;
    // The line is said with the third, which may still be on its way.
    hear(peer, 2, "a third discovery", |h| h.kind == DhcpMessageType::Discover)?;
    peer.with_dhcp(|s| s.mood = Mood::Gives);
    hear(peer, 3, "a fourth discovery", |h| h.kind == DhcpMessageType::Discover)?;
    let secs: Vec<u16> = peer.dhcp_heard().iter().map(|h| h.secs).collect();
    if secs[3] - secs[2] <= secs[1] - secs[0] {
        return wrong(format!("the pauses do not grow: asked after {secs:?} s"));
    }
    Ok(())
}

/// A server that appears is found, and asked again at T1.
fn renewal(g: &mut Guest, peer: &Peer) -> Result<(), Failure> {
    hear(peer, 0, "a request for the offer", |h| {
        h.kind == DhcpMessageType::Request
            && (h.wants, h.server, h.unicast) == (Some(FIRST), Some(PEER), false)
    })?;
    g.wait_for("address 10.9.0.50/24 gateway 10.9.0.1", STEP)?;
    shown(g, "10.9.0.50/24 by DHCP")?;
    let from = peer.dhcp_heard().len();
    hear(peer, from, "a renewal", renews)?;
    shown(g, "10.9.0.50/24 by DHCP")
}

/// In RENEWING.
fn renews(h: &Heard) -> bool {
    h.kind == DhcpMessageType::Request && h.unicast && h.has == FIRST && h.wants.is_none()
}

/// At T2 everybody is asked; at the lease's end the address goes, until there is one again.
fn expiry(g: &mut Guest, peer: &Peer) -> Result<(), Failure> {
    let from = peer.dhcp_heard().len();
    peer.with_dhcp(|s| s.mood = Mood::Silent);
    hear(peer, from, "a rebinding", |h| {
        h.kind == DhcpMessageType::Request && !h.unicast && h.has == FIRST && h.server.is_none()
    })?;
    g.wait_for("address lost", STEP)?;
    shown(g, "no address yet")?;
    hear(peer, from, "a discovery", |h| h.kind == DhcpMessageType::Discover)?;
    peer.with_dhcp(|s| s.mood = Mood::Gives);
    g.wait_for("address 10.9.0.50/24", STEP)?;
    Ok(())
}

/// A refused renewal ends the lease at once; another address is taken.
fn refusal(g: &mut Guest, peer: &Peer) -> Result<(), Failure> {
    peer.with_dhcp(|s| s.mood = Mood::Refuses);
    g.wait_for("address lost", STEP)?;
    let from = peer.dhcp_heard().len();
    hear(peer, from, "a discovery", |h| h.kind == DhcpMessageType::Discover)?;
    peer.with_dhcp(|s| {
        (s.mood, s.address, s.lease_s, s.times_s) = (Mood::Gives, SECOND, 3600, (1800, 3000))
    });
    g.wait_for("address 10.9.0.51/24", STEP)?;
    Ok(())
}

/// When the cable is back, the address is confirmed; another network's server takes it away.
fn confirmation(g: &mut Guest, peer: &Peer) -> Result<(), Failure> {
    let confirms = |h: &Heard| {
        h.kind == DhcpMessageType::Request
            && (h.wants, h.server) == (Some(SECOND), None)
            && h.has.is_unspecified()
    };
    let from = peer.dhcp_heard().len();
    g.set_link(false)?;
    g.wait_for("link down", STEP)?;
    g.set_link(true)?;
    g.wait_for("link up", STEP)?;
    hear(peer, from, "a confirmation", confirms)?;
    shown(g, "10.9.0.51/24 by DHCP")?;
    let from = peer.dhcp_heard().len();
    peer.with_dhcp(|s| s.mood = Mood::Refuses);
    g.set_link(false)?;
    g.wait_for("link down", STEP)?;
    g.set_link(true)?;
    hear(peer, from, "a confirmation", confirms)?;
    g.wait_for("address lost", STEP)?;
    Ok(())
}

/// Whoever may stop servers may give the address back, and ask for one again.
fn giving_back(g: &mut Guest, peer: &Peer) -> Result<(), Failure> {
    peer.with_dhcp(|s| s.mood = Mood::Gives);
    g.wait_for("address 10.9.0.51/24", STEP)?;
    let from = peer.dhcp_heard().len();
    g.command("ip dhcp release", COMMAND)?;
    hear(peer, from, "that the address is given back", |h| {
        h.kind == DhcpMessageType::Release
            && (h.has, h.server, h.wants) == (SECOND, Some(PEER), None)
    })?;
    shown(g, "no address yet")?;
    g.command("ip dhcp renew", COMMAND)?;
    g.wait_for("address 10.9.0.51/24", STEP)?;
    Ok(())
}
