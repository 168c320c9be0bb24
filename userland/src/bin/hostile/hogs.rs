//! Taking all there is, as much as there is, as fast as possible; and dying in the middle of it.

use core::fmt::Write;
use core::net::SocketAddr;
use core::sync::atomic::Ordering::*;
use libipc::sock::{Dgram, Error, Kind, Request, State};
use libipc::sys;

use super::liar::{ECHO, Liar, RING, SOCKETS, refused, sleep_until};
use super::messages::require;
use super::words::greet_while;
use super::{Tell, Told, Why};

unsafe extern "C" {
    safe fn rt_crash_panic() -> !;
    safe fn rt_crash_pointer() -> !;
    safe fn rt_crash_undefined() -> !;
}

/// How long a flood lasts.
const FLOOD_MS: u64 = 400;
/// How long init takes to print what is left of that.
const CALM_MS: u64 = 3000;
/// Ports that its manifest entry lists.
const PORTS: core::ops::RangeInclusive<u16> = 7200..=7210;

/// By name.
pub const TELL: &[(&str, Tell)] = &[
    ("hog-sockets", |l| {
        let mut got = 1;
        let error = loop {
            match l.socket(Kind::Udp) {
                Ok(_) => got += 1,
                Err(e) => break e,
            }
        };
        require(got == SOCKETS && error == Error::TooManySockets, "the limit is another")
    }),
    ("hog-ports", |l| {
        for port in PORTS {
            let sock = l.socket(Kind::Tcp)?;
            l.bind(sock, port)?;
        }
        let sock = l.socket(Kind::Tcp)?;
        let any = SocketAddr::from(([0, 0, 0, 0], *PORTS.start()));
        refused(l.ask(Request::Bind { id: sock.id, addr: any }), Error::AddrInUse)
    }),
    ("hog-memory", |l| {
        let error = loop {
            match l.ask(Request::Socket { kind: Kind::Tcp, tx: 32 << 10, rx: 32 << 10 }) {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        require(error == Error::NoBuffers, "the limit is another")
    }),
    ("hog-backlog", full_backlog),
    ("hog-sessions", |l| {
        for _ in 0..100 {
            l.socket(Kind::Udp)?;
            l.reopen()?;
        }
        Ok(())
    }),
    ("never-reading", |l| {
        let sock = l.stream()?;
        let words = l.mem.app_sock(sock.id);
        words.tx_tail.store(RING as u64, Release);
        l.tell(sock.id as u64);
        let record = l.mem.record(sock.id);
        require(l.wait(|| record.acknowledged() == RING), "the stream does not move")?;
        for _ in 0..500 {
            l.greet(l.honest, l.at);
        }
        let record = l.mem.record(l.honest.id);
        require(record.pending.load(Relaxed) > 0, "nothing was dropped")?;
        require(l.mem.record(sock.id).state() == State::Established, "the stream ended")
    }),
    ("flood-calls", |l| {
        flood(l, |l| match l.ask(Request::Stats) {
            Ok(_) => Ok(()),
            Err(e) => Err(Why::Call(e)),
        })
    }),
    ("flood-signals", |l| {
        flood(l, |l| {
            l.ring();
            Ok(())
        })
    }),
    ("flood-submissions", |l| {
        flood(l, |l| {
            for id in 0..SOCKETS as u64 {
                l.try_tell(id);
            }
            Ok(())
        })
    }),
    ("flood-datagrams", |l| {
        let end = l.start.now_ns() + FLOOD_MS * 1_000_000;
        greet_while(l, |l| l.start.now_ns() < end)
    }),
    ("flood-log", |l| {
        flood(l, |_| {
            for _ in 0..20 {
                let _ = writeln!(rt::Log, "lie: a line that nobody wants to read");
            }
            rt::flush_log();
            Ok(())
        })?;
        // Until its log page has room again, for what it has to say in its next lives.
        sleep_until(l.start, l.start.now_ns() + CALM_MS * 1_000_000);
        rt::flush_log();
        Ok(())
    }),
    ("flood-timer", |l| {
        let timer = l.start.cap("timer").ok_or(Why::Says("the manifest gives no `timer`"))?;
        flood(l, |_| {
            // Time 0 has passed: it fires at once.
            sys::arm(timer, 0).map_err(|_| Why::Says("the timer cannot be armed"))
        })
    }),
    ("spin", |l| flood(l, |_| Ok(()))),
    ("die-sending", |l| {
        let sock = l.stream()?;
        let to = Dgram::new(Some((l.at.ip(), ECHO).into()), 1000);
        l.mem.app_sock(sock.id).tx_tail.store(RING as u64, Release);
        l.tell(sock.id as u64);
        l.send(l.honest, to, 1000);
        rt_crash_undefined()
    }),
    ("die-listening", |l| {
        full_backlog(l)?;
        rt_crash_panic()
    }),
    ("die-submitting", |l| {
        let words = l.mem.app_sock(l.honest.id);
        words.tx_tail.store(words.tx_tail.load(Relaxed) + 40, Release);
        let _ = l.submit.push([l.honest.id as u64]);
        let _ = l.submit.publish();
        rt_crash_pointer()
    }),
    ("die-of-stack", |_| require(super::raw::overflow(0) == 0, "the stack has no end")),
];

fn flood(l: &mut Liar, mut once: impl FnMut(&mut Liar) -> Told) -> Told {
    let end = l.start.now_ns() + FLOOD_MS * 1_000_000;
    while l.start.now_ns() < end {
        once(l)?;
    }
    Ok(())
}

/// Connects to its own listener more often than that takes.
fn full_backlog(l: &mut Liar) -> Told {
    let listener = l.socket(Kind::Tcp)?;
    let addr = l.bind(listener, *PORTS.end())?;
    l.ask(Request::Listen { id: listener.id, backlog: 2, tx: RING, rx: RING })?;
    for _ in 0..6 {
        let sock = l.socket(Kind::Tcp)?;
        l.ask(Request::Connect { id: sock.id, addr })?;
    }
    let record = l.mem.record(listener.id);
    require(l.wait(|| record.pending.load(Relaxed) >= 2), "nobody waits to be accepted")
}
