//! Fair queueing and byte queue limits: who sends little does not wait for those who send much, and
//! little lies with the driver.

mod common;

use common::frames::Frame;
use common::net::{Net, Weather};
use common::{Host, HostSpec, MS};
use libipc::net::{Reply, Request};
use libipc::sock::{Kind, State};

/// Connections that send much.
const BULK: usize = 12;

/// A host with open connections to another: [`BULK`] and one more.
fn connected() -> (Host, Vec<u16>) {
    let spec = |n| HostSpec { tx_bits: 16, rx_bits: 17, ..HostSpec::fixed(n) };
    let mut net = Net::new(vec![Host::new(spec(1)), Host::new(spec(2))], Weather::FINE, 1);
    net.hosts[1].listen(7, 14);
    let ids: Vec<u16> = (0..=BULK)
        .map(|ids| {
            let id = net.hosts[0].open(Kind::Tcp);
            net.hosts[0].connect(id, "10.0.0.2:7").unwrap();
            net.pass(100 * MS);
            assert_eq!(net.hosts[0].progs[0].state(id), State::Established);
            if ids < BULK {
                // So much that no credit is left.
                for _ in 0..2 {
                    net.hosts[0].progs[0].write(id, &[7; 14_000]);
                    net.pass(100 * MS);
                }
            }
            id
        })
        .collect();
    (net.hosts.swap_remove(0), ids)
}

fn port(frame: &[u8]) -> u16 {
    match common::frames::dissect(frame) {
        Frame::Tcp(_, repr, _) => repr.src,
        other => panic!("{other:?}"),
    }
}

/// The driver takes what there is, and holds the next; yields that.
fn next_batch(host: &mut Host) -> Vec<Vec<u8>> {
    host.hold_frames = false;
    host.transmitted();
    host.hold_frames = true;
    host.settle();
    host.transmitted()
}

#[test]
fn who_sends_little_goes_before_who_sends_much() {
    let (mut host, ids) = connected();
    host.hold_frames = true;
    for id in &ids[..BULK] {
        host.progs[0].write(*id, &[7; 14_000]);
    }
    host.settle();
    let held: usize = host.transmitted().iter().map(Vec::len).sum();
    // Two of the longest frames, the last of which may exceed the limit.
    assert!((131_070..131_070 + 1514).contains(&held), "{held}");
    host.progs[0].write(ids[BULK], b"a line");
    host.settle();
    assert!(host.transmitted().is_empty(), "the driver is full");
    let sock = host.progs[0].sock(ids[BULK]);
    let Ok(Reply::Addresses { local, .. }) = host.ask(Request::Addresses { sock }) else {
        panic!()
    };
    let next = next_batch(&mut host);
    let line = next.iter().position(|f| port(f) == local.port());
    // Before it only the rest of the turn that the full driver has cut short.
    assert!(line.is_some_and(|at| at < 10) && next.len() > 20, "{line:?} of {}", next.len());
}

#[test]
fn turns_are_by_bytes() {
    let (mut host, ids) = connected();
    host.hold_frames = true;
    // More than the limit, so that everybody has to wait for turns.
    for id in &ids[..BULK] {
        host.progs[0].write(*id, &[7; 14_000]);
    }
    host.settle();
    let mut sent = host.transmitted();
    sent.extend(next_batch(&mut host));
    let mut each = std::collections::BTreeMap::new();
    for f in &sent {
        *each.entry(port(f)).or_insert(0) += f.len();
    }
    assert_eq!(each.len(), BULK, "nobody was left out: {each:?}");
}

/// What is sent to all comes back to who listens here: once, however often it waits for room.
#[test]
fn what_waits_for_room_comes_back_once() {
    let mut host = Host::new(HostSpec { tx_bits: 18, rx_bits: 18, ..HostSpec::fixed(1) });
    host.settle();
    let [listener, sender] = [9, 6000].map(|port| {
        let id = host.open(Kind::Udp);
        host.bind(id, &format!("0.0.0.0:{port}")).unwrap();
        id
    });
    host.hold_frames = true;
    let put = |host: &mut Host, n: u8, len: usize, port: u16| {
        let to = std::net::SocketAddr::from(([10, 0, 0, 255], port));
        host.progs[0].put_to(sender, Some(to), &vec![n; len]);
        host.progs[0].submit(sender);
    };
    // Short ones fill the driver's ring before its limit of bytes; what leaves in fragments wants many places.
    for _ in 0..15 {
        (0..10).for_each(|_| put(&mut host, 0, 10, 10));
        host.settle();
    }
    (0..4).for_each(|n| put(&mut host, n, 20_000, 9));
    let mut came = Vec::new();
    for _ in 0..10 {
        host.settle();
        host.now += MS;
        came.extend(std::iter::from_fn(|| host.progs[0].recv_from(listener)).map(|d| d.1[0]));
        next_batch(&mut host);
    }
    assert_eq!(came, [0, 1, 2, 3]);
}
