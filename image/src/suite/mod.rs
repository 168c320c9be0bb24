//! The QEMU tests, by name. Each boots a system of its own.
//!
//! `cargo test` runs them all (`image/tests/qemu.rs`), `cargo run -- test NAME…` some.

mod agent;
mod authority;
mod basics;
mod boot;
mod capture;
mod closed;
mod dhcp;
mod dma;
mod dns;
mod hostile;
mod ipv6;
mod link;
mod netbench;
mod nics;
mod recovery;
mod reports;
mod services;
mod spin;
mod sysfuzz;
mod trace;
mod traffic;
mod usertests;
mod vanish;

pub use sysfuzz::{Fuzz, fuzz};
pub use traffic::ready;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use netd::Addressing;

use crate::build::Image;
use crate::harness::{Failure, Guest, Setup, peer};
use crate::manifest::Own;
use crate::qemu::{Chipset, Nic};
use crate::run::Boot;

/// A test.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    setup: fn(&mut Setup),
    run: fn(&mut Guest) -> Result<(), Failure>,
}

/// A test on the default machine.
const fn test(
    name: &'static str,
    shows: &'static str,
    run: fn(&mut Guest) -> Result<(), Failure>,
) -> Test {
    Test { name, shows, setup: |_| {}, run }
}

/// With a peer of our own, both addresses given.
fn peered(s: &mut Setup) {
    s.peer = true;
    s.addressing = Some(Addressing::Static {
        addr: peer::GUEST,
        prefix: peer::PREFIX,
        gateway: Some(peer::PEER),
        dns: Some(peer::PEER),
    });
}

/// All of them.
pub const ALL: &[Test] = &[
    test("boot", "the shell answers, poweroff ends with success", basics::boot),
    Test {
        setup: |s| s.boot = Boot::Bios,
        ..test("boot-bios", "GRUB on a disk, BIOS: DHCP, HTTP, poweroff", boot::loaded)
    },
    Test {
        setup: |s| {
            (s.boot, s.cd, s.chipset, s.processors) = (Boot::Bios, true, Chipset::Q35, 2);
        },
        ..test("boot-bios-q35", "the same from a CD, on q35, with a second processor", boot::two)
    },
    Test {
        setup: |s| (s.boot, s.cd) = (Boot::Uefi, true),
        ..test("boot-uefi", "GRUB on a CD, UEFI: DHCP, HTTP, poweroff", boot::loaded)
    },
    Test {
        setup: |s| (s.boot, s.chipset, s.nic) = (Boot::Uefi, Chipset::Q35, Nic::I82574l),
        ..test("boot-uefi-q35", "the same from a disk, on q35 with a 82574L", boot::loaded)
    },
    Test {
        setup: |s| s.mem_mib = 64,
        ..test("small-memory", "64 MiB are enough", traffic::small_memory)
    },
    Test {
        setup: |s| s.append = Some("panic-test".into()),
        ..test("kernel-panic", "registers and a backtrace, failing status", basics::kernel_panic)
    },
    Test {
        setup: |s| s.manifest = Some("usertests.toml"),
        ..test("usertests", "the kernel's calls, from outside, by name", usertests::usertests)
    },
    Test {
        setup: |s| s.manifest = Some("usertests.toml"),
        ..test(
            "sysfuzz",
            "random system calls; the network goes on, nothing is left",
            sysfuzz::test,
        )
    },
    Test {
        setup: |s| (s.manifest, s.stretches) = (Some("bench.toml"), true),
        ..test("kernel-cost", "a call, a signal, … cost no more than they may", basics::kernel_cost)
    },
    Test {
        setup: |s| (s.manifest, s.stretches) = (Some("longest.toml"), true),
        ..test("longest", "no stretch of the kernel takes 5000 instructions", basics::longest)
    },
    Test {
        setup: |s| s.cpu = Some("qemu64"),
        ..test("jitter", "random bytes on a processor that makes none", basics::jitter)
    },
    test("protection", "nothing is writable and executable; SMEP, SMAP, UMIP", basics::protection),
    test("ping", "the gateway answers echo requests", traffic::ping),
    Test {
        setup: peered,
        ..test("closed-port", "refused as RFCs say, never an error too many", closed::closed_port)
    },
    Test {
        setup: peered,
        ..test(
            "ipv6",
            "an address of a router's prefix, ping, a download that outlives netd",
            ipv6::ipv6,
        )
    },
    Test {
        setup: |s| s.peer = true,
        ..test("dhcp", "lease, renewal, rebinding, refusal, expiry; no server", dhcp::dhcp)
    },
    test("capture", "taps with filters, read by tshark", capture::capture),
    Test { setup: peered, ..test("dns", "aliases, lies, silence, TCP, cache, no name", dns::dns) },
    Test {
        setup: peered,
        ..test("link", "a pulled cable reaches a program, a loose one seldom", link::link)
    },
    Test {
        setup: peered,
        ..test(
            "vanish",
            "a peer that is gone: timed out, in a connection and before",
            vanish::vanish,
        )
    },
    test("http", "the web server's pages", traffic::http),
    test("echo", "bytes come back over TCP and UDP", traffic::echo),
    test("services", "discard, chargen, daytime and time", services::services),
    test("nc", "the shell talks over TCP and UDP", services::nc),
    test("netbench", "each measuring service does what it says", netbench::services),
    test(
        "thousand-connections",
        "1000 TCP connections at once, each answered, nothing left",
        netbench::thousand_connections,
    ),
    test("download", "200 MB with the right SHA-256", traffic::download),
    test("download-crash", "the same while e1000d crashes every second", recovery::download_crash),
    test("download-crash-netd", "the same with netd", recovery::download_crash_netd),
    test("download-crash-sockd", "the same with sockd", recovery::download_crash_sockd),
    Test {
        setup: |s| s.nic = Nic::I82544gc,
        ..test("nic-82544gc", "its driver dies twice within a download", |g| {
            recovery::card(g, "82544GC")
        })
    },
    Test {
        setup: |s| s.nic = Nic::I82545em,
        ..test("nic-82545em", "its driver dies twice within a download", |g| {
            recovery::card(g, "82545EM")
        })
    },
    Test {
        setup: |s| (s.nic, s.chipset) = (Nic::I82574l, Chipset::Q35),
        ..test("nic-82574l", "the same, on q35", |g| recovery::card(g, "82574L"))
    },
    Test {
        setup: |s| (s.manifest, s.stretches) = (Some("bench.toml"), true),
        ..test("trace-cost", "a traced call costs 60 instructions an event more", trace::cost)
    },
    Test {
        setup: |s| (s.manifest, s.agent, s.mem_mib) = (Some("agent.toml"), true, 640),
        ..test("agent", "the test agent's protocol, calls and services", agent::agent)
    },
    Test {
        setup: |s| s.chipset = Chipset::Q35,
        ..test("authority-q35", "the same where devices have domains", authority::authority)
    },
    test(
        "authority",
        "everybody holds what the manifest declares, and memory adds up",
        authority::authority,
    ),
    Test {
        setup: |s| (s.manifest, s.second) = (Some("nics.toml"), true),
        ..test(
            "nics",
            "two network cards: each driver dies while the other's download goes on",
            nics::nics,
        )
    },
    test("trace", "a timeline of threads, calls, interrupts and restarts", trace::trace),
    Test {
        setup: |s| s.chipset = Chipset::Q35,
        ..test(
            "dma",
            "a card sent astray is refused and reported, memory stays as it was",
            dma::dma,
        )
    },
    Test {
        setup: |s| (s.chipset, s.iommu) = (Chipset::Q35, false),
        ..test("dma-trusted", "without an IOMMU the boot log says so", dma::trusted)
    },
    test("restart-netd", "netd is killed twice within a download", recovery::restart_netd),
    test("restart-sockd", "sockd is killed twice within a download", recovery::restart_sockd),
    test("restart-program", "a program serves in each of its lives", recovery::restart_program),
    test("spin", "a server that only runs leaves the others their share", spin::spin),
    test("reports", "each server's deaths, told with cause, place and phases", reports::reports),
    test("out-of-service", "calls to a server that stays down fail at once", recovery::down),
    test("suspend", "the card rests within a download, which then goes on", recovery::suspend),
    test(
        "hostile",
        "a program lies, hogs and dies in every way that it has; nobody else notices",
        hostile::hostile,
    ),
    test("client-death", "a program dies 1000 times and leaves nothing", recovery::client_death),
];

/// The test called `name`.
pub fn find(name: &str) -> Option<&'static Test> {
    ALL.iter().find(|t| t.name == name)
}

/// Runs `tests` on `image`, one after the other (the machine belongs to one at a time), with a line
/// for each: name, seconds, outcome.
pub fn run(tests: &[Test], image: Image, mut arguments: Arguments) -> Conclusion {
    arguments.test_threads = Some(1);
    let quiet = arguments.quiet || arguments.format.is_some();
    let image = Arc::new(image);
    let trials = tests.iter().map(|t| {
        let (t, image) = (*t, image.clone());
        Trial::test(t.name, move || one(&t, &image, quiet))
    });
    libtest_mimic::run(&arguments, trials.collect())
}

fn one(t: &Test, image: &Image, quiet: bool) -> Result<(), Failed> {
    let mut setup = Setup::new(t.name);
    (t.setup)(&mut setup);
    let started = Instant::now();
    let own = Own { v4: setup.addressing, v6: setup.addressing6 };
    let other = match setup.manifest {
        None if own == Own::default() => None,
        name => {
            let path = crate::workspace::root().join("image").join(name.unwrap_or("system.toml"));
            let made = crate::build::build_with(&path, &own, true);
            Some(made.map_err(|e| e.to_string())?)
        }
    };
    let image = other.as_ref().unwrap_or(image);
    let result = Guest::boot(image, &setup).map_err(|e| e.to_string()).and_then(|mut guest| {
        match (t.run)(&mut guest) {
            Ok(()) => {
                guest.forget_recording();
                Ok(())
            }
            Err(e) => Err(format!("{e}\n{}", guest.report())),
        }
    });
    if !quiet {
        // Between the name and the outcome, which the test runner prints on the same line.
        print!("{:5.1} s ... ", started.elapsed().as_secs_f32());
        let _ = std::io::stdout().flush();
    }
    Ok(result?)
}
