//! `cargo run -- interop [NAME…]`: the system against Linux's own stack, on a tap interface in a network namespace
//! (docs/interop.md). One system is booted for all cases; each takes less than two minutes.
//!
//! | module | what |
//! |---|---|
//! | `lab` | namespace, tap, relay, the booted system, programs with a time limit |
//! | `relay` | the cable, which can be a bad one |
//! | `sockets` | socket calls on the system, by its test agent |
//! | `bulk` | streams both ways, on clean, slow and bad lines |
//! | `iperf` | iperf3's server |
//! | `options` | keep-alive, Fast Open, ECN, urgent data |
//! | `packets` | fragments, large datagrams, multicast, IPv6 |
//! | `tools` | ping, arping, traceroute, curl, nmap, tshark |

mod bulk;
mod iperf;
mod lab;
mod options;
mod packets;
mod relay;
mod sockets;
mod tools;

use std::io::Write;
use std::time::Instant;

use lab::Lab;

use crate::bench::namespace;
use crate::harness::{Failure, Guest};
use crate::install::{self, Tool};

/// What a case found out, in a few words.
type Found = Result<String, Failure>;

/// A case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    run: fn(&mut Lab) -> Found,
}

const fn case(name: &'static str, shows: &'static str, run: fn(&mut Lab) -> Found) -> Case {
    Case { name, shows, run }
}

/// All of them.
pub const ALL: &[Case] = &[
    case("ping", "every size up to the MTU's, and a flood", tools::ping),
    case("arping", "ARP requests, and a probe for the system's address", tools::arping),
    case("traceroute", "by UDP, ICMP and TCP to the system", tools::traceroute),
    case("outward", "the system pings Linux, and connects to its closed port", tools::outward),
    case("curl", "the web server's pages with their digests", tools::curl),
    case("nmap-tcp", "a SYN scan finds what is open and nothing else", tools::nmap_tcp),
    case("nmap-udp", "a UDP scan finds what is open and nothing else", tools::nmap_udp),
    case("nmap-os", "what nmap takes the system for", tools::nmap_os),
    case(
        "tshark",
        "on a clean line no malformed frame, no repetition, no wrong sum",
        tools::tshark,
    ),
    case("bulk-in", "Linux sends with every congestion control that it has", bulk::inward),
    case("bulk-out", "the system sends with each of its own", bulk::outward),
    case("bulk-both", "both send at once", bulk::both),
    case("bulk-ipv6", "the same over IPv6, on a clean and on a bad line", bulk::ipv6),
    case("iperf3", "iperf3's client, both ways, over IPv4 and IPv6", iperf::iperf3),
    case("iperf3-udp", "datagrams of iperf3's client, both ways", iperf::udp),
    case("slow-in", "the same through tc's tbf, 20 Mbit/s", bulk::slow_in),
    case("slow-out", "through a line of that rate out of the system", bulk::slow_out),
    case("bad-in", "through a line that loses, repeats, delays and reorders", bulk::bad_in),
    case("bad-out", "and the other way", bulk::bad_out),
    case("restart", "netd is killed in the middle of streams both ways", bulk::restart),
    case(
        "keepalive",
        "an idle connection lives; one without a line times out, at either end",
        options::keepalive,
    ),
    case("ecn", "negotiated by both ends; marks halve the sender", options::ecn),
    case("urgent", "urgent bytes both ways, out of band and in its place", options::urgent),
    case("fastopen", "data in the SYN both ways, after a cookie", options::fastopen),
    case("fragments", "echo requests and datagrams in fragments, in any order", packets::fragments),
    case("big-udp", "datagrams of 65,507 bytes", packets::big_udp),
    case("ipv6", "an address of an advertised prefix; ping, TCP, UDP, fragments", packets::ipv6),
    case("multicast", "groups joined by either end", packets::multicast),
];

/// Runs the cases with these names, or all; whether they passed. `seed` decides what bad lines do.
///
/// # Errors
/// What is missing, and what to do.
pub fn run(names: &[String], seed: u64) -> Result<bool, Box<dyn std::error::Error>> {
    let unknown = |n: &&String| !ALL.iter().any(|c| c.name == **n);
    if let Some(name) = names.iter().find(unknown) {
        return Err(format!("there is no case called `{name}`; `--list` prints their names").into());
    }
    install::ensure()?;
    for tool in [Tool::Network, Tool::Tshark] {
        install::ensure_tool(tool)?;
    }
    let image = lab::image()?;
    // From here on there is no way back to the host's network.
    namespace::enter()?;
    let mut lab = Lab::boot(&image, seed)?;
    println!("seed {seed}");
    let (mut passed, mut failed) = (0, Vec::new());
    for case in ALL.iter().filter(|c| names.is_empty() || names.iter().any(|n| n == c.name)) {
        print!("{:12}", case.name);
        let _ = std::io::stdout().flush();
        let begun = Instant::now();
        let result = (case.run)(&mut lab).and_then(|found| lab.between().map(|()| found));
        let took = begun.elapsed().as_secs_f32();
        match result {
            Ok(found) => {
                passed += 1;
                println!("PASS {took:5.1} s  {found}");
            }
            Err(e) => {
                failed.push(case.name);
                println!("FAIL {took:5.1} s  {e}");
                if lab.broken() {
                    break;
                }
            }
        }
    }
    println!("{passed} passed, {} failed {failed:?}", failed.len());
    if failed.is_empty() {
        lab.guest.forget_recording();
    } else {
        println!("{}", Guest::report(&lab.guest));
    }
    Ok(failed.is_empty())
}
