//! What programs are told of the interface.

mod common;

use common::{Host, HostSpec, S};
use libipc::link::Link;
use libipc::nic::{Status, offset};
use libipc::sock::Layout;
use std::sync::atomic::{AtomicU64, Ordering::*};

const MS: u64 = S / 1000;

/// A host whose first news are more than a second old.
fn started() -> Host {
    let mut host = Host::new(HostSpec::fixed(1));
    settle(&mut host);
    host.now = 5 * S;
    settle(&mut host);
    host
}

fn word(host: &Host) -> Link {
    Link::load(&host.regions[0].net.view::<AtomicU64>(Layout::LINK, 1)[0])
}

fn watch(host: &Host, on: bool) {
    host.regions[0].app.view::<AtomicU64>(Layout::WATCH, 1)[0].store(on as u64, SeqCst);
}

/// Plugs the cable in or out at time `at`; whether the program was signalled.
fn plug(host: &mut Host, up: bool, at: u64) -> bool {
    host.now = at;
    set_link(host, up);
    settle(host)
}

/// As the driver says it.
fn set_link(host: &Host, up: bool) {
    let status = &host.drv.view::<Status>(offset::STATUS, 1)[0];
    status.link.store(up as u32, Relaxed);
    status.version.fetch_add(1, Release);
}

fn settle(host: &mut Host) -> bool {
    let now = host.now;
    let stack = host.stack();
    while stack.poll(now, 0) {}
    let signalled = stack.take_signals().sessions & 1 != 0;
    // ARP finds nobody there to take its frames.
    host.transmitted();
    signalled
}

#[test]
fn the_first_change_comes_at_once_and_others_at_most_one_a_second() {
    let mut host = started();
    let first = word(&host);
    assert!(first.up && first.addressed && first.version > 0);
    assert!(!plug(&mut host, false, 10 * S), "nobody has asked");
    let down = word(&host);
    assert!(!down.up && down.version == first.version + 1);
    watch(&host, true);
    // Within the second: nothing, however often.
    for i in 1..100 {
        assert!(!plug(&mut host, i % 2 == 1, 10 * S + i * MS));
        assert_eq!(word(&host), down);
    }
    assert!(host.stack().poll_at().is_some_and(|at| at <= 11 * S + 5 * MS));
    host.now = 11 * S + 10 * MS;
    assert!(settle(&mut host), "what came last is told");
    let up = word(&host);
    assert!(up.up && up.version == down.version + 1);
    // Down and up again within a second is told, too: something was lost in between.
    assert!(!plug(&mut host, false, 11 * S + 500 * MS));
    assert!(!plug(&mut host, true, 11 * S + 600 * MS));
    host.now = 12 * S + 20 * MS;
    assert!(settle(&mut host));
    assert!(word(&host).same(&up) && word(&host).version == up.version + 1);
    host.now = 60 * S;
    assert!(!settle(&mut host), "and that was all");
}

#[test]
fn a_restarted_stack_tells_only_what_is_new() {
    let mut host = started();
    watch(&host, true);
    let before = word(&host);
    host.crash();
    settle(&mut host);
    assert_eq!(word(&host), before);
    set_link(&host, false);
    host.crash();
    settle(&mut host);
    assert_eq!(word(&host), Link { version: before.version + 1, up: false, ..before });
}
