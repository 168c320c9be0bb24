//! Memory of streams: a program whose rings are full is offered less, and nobody else is.

mod common;

use common::net::{Net, Weather};
use common::script::Script;
use common::talk::{Talk, act};
use common::{Host, HostSpec, MS, S};
use libipc::net::{Request, SockId};
use libipc::sock::{Kind, State};
use netd::Settings;
use netd::tcp::Levels;
use std::sync::atomic::Ordering::Relaxed;

const PORT: u16 = 9;
/// Connections of the program that never reads.
const HOGS: usize = 6;

/// The hog reads after all.
fn read(net: &mut Net, id: u16, most: u64) {
    net.hosts[0].progs[1].read(id, most);
    net.hosts[0].progs[1].submit(id);
    net.hosts[0].settle();
}

/// Two programs on host 0; the second has connections whose peers have sent all that they may.
fn hogged(tcp_mem: Option<Levels>) -> (Net, Vec<u16>) {
    let settings = Settings { tcp_mem, ..Settings::default() };
    let two = HostSpec { sessions: 2, rx_bits: 17, settings, ..HostSpec::fixed(1) };
    let peer = HostSpec { tx_bits: 17, ..HostSpec::fixed(2) };
    let mut net = Net::new(vec![Host::new(two), Host::new(peer)], Weather::FINE, 3);
    let listener = net.hosts[1].listen(PORT, HOGS as u16 + 1);
    let mut hogs = Vec::new();
    for _ in 0..HOGS {
        let id = net.hosts[0].open_in(1, Kind::Tcp);
        let addr = format!("10.0.0.2:{PORT}").parse().unwrap();
        let sock = SockId { session: 1, id };
        net.hosts[0].ask(Request::Connect { sock, addr }).unwrap();
        net.pass(100 * MS);
        assert_eq!(net.hosts[0].progs[1].state(id), State::Established);
        let (theirs, _) = net.hosts[1].accept(listener).expect("it waits");
        // Once it read, and much at a time.
        for _ in 0..8 {
            net.hosts[1].progs[0].write(theirs, &[7; 60_000]);
            net.pass(100 * MS);
            read(&mut net, id, 60_000);
        }
        net.hosts[1].progs[0].write(theirs, &[7; 120_000]);
        net.pass(S);
        hogs.push(id);
    }
    (net, hogs)
}

/// Bytes that have arrived for the hog and were not read.
fn held(net: &Net, hogs: &[u16]) -> u32 {
    let prog = &net.hosts[0].progs[1];
    let each = hogs.iter().map(|id| {
        let (rcv, irs) = (prog.record(*id).rcv.load(Relaxed), prog.record(*id).irs.load(Relaxed));
        (rcv as u32).wrapping_sub(irs + 1).wrapping_sub(prog.head[*id as usize] as u32)
    });
    each.sum()
}

/// Both directions of a conversation with the other program, to their ends.
fn talk(net: &mut Net) {
    let mut talks = [Talk::begin(net, [1, 0], "10.0.0.1:80", 2, 200_000, 50_000)];
    while !net.run(net.now + S, &mut |net| act(net, &mut talks)) {}
}

fn pages(low: u32, pressure: u32, most: u32) -> Option<Levels> {
    Some(Levels { low, pressure, most })
}

#[test]
fn under_pressure_windows_do_not_grow() {
    let (mut free, hogs) = hogged(None);
    let (mut net, _) = hogged(pages(20, 30, 1000));
    let (without, with) = (held(&free, &hogs), held(&net, &hogs));
    assert!(with < without * 3 / 4, "{with} of {without} bytes");
    assert_eq!(free.hosts[0].stack().counters().memory_pressures, 0);
    assert!(net.hosts[0].stack().counters().memory_pressures > 0);
    // The hog has more than its share of everything, and nobody else feels it.
    talk(&mut net);
}

#[test]
fn without_memory_the_hog_keeps_nothing_out_of_order_and_others_do() {
    let (mut net, hogs) = hogged(pages(50, 80, 90));
    let dropped = |net: &mut Net| net.hosts[0].stack().counters().out_of_order_dropped;
    net.weather = Weather::BAD;
    talk(&mut net);
    assert_eq!(dropped(&mut net), 0, "the other program's is kept");
    // The hog makes a little room at a time, so that segments come and are lost.
    for i in 0..200 {
        let id = hogs[i % HOGS];
        read(&mut net, id, 3000);
        net.pass(20 * MS);
    }
    assert!(dropped(&mut net) > 0);
}

#[test]
fn a_connection_closed_without_memory_is_reset() {
    let (mut net, hogs) = hogged(pages(1, 2, 3));
    net.hosts[0].progs[1].write(hogs[0], &[1; 1000]);
    let sock = SockId { session: 1, id: hogs[0] };
    net.hosts[0].ask(Request::Close { sock, abort: false }).unwrap();
    assert_eq!(net.hosts[0].stack().counters().resets_sent, 1);
}

#[test]
fn what_may_be_written_grows_with_the_window() {
    let mut s = Script::accepted_with(HostSpec { tx_bits: 19, ..HostSpec::fixed(1) });
    let limit = |s: &Script| s.host.progs[0].record(s.id).send_limit();
    // Twice ten segments of 1,000 bytes as Linux counts them, 2,304 each.
    assert_eq!(limit(&s), 46_080);
    s.write(46_000);
    s.send("A", 1, 2001, &[]);
    s.send("A", 1, 4001, &[]);
    assert_eq!(limit(&s), 2 * 12 * 2304, "a window of twelve");
    s.send("A", 1, 46_001, &[]);
    s.shutdown();
    assert_eq!(limit(&s), 0, "no more than the FIN's number");
}
