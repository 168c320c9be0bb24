//! Readiness of many sockets, futures, and the ecosystem's traits.

use super::*;
use crate::poll::{Event, Events, Interest, Poll, Token};
use crate::task::block_on;
use core::sync::atomic::Ordering::*;
use libipc::sock::{Kind, option};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// A connection as netd makes it, with its kind in the record.
fn stream(rt: &'static Runtime, netd: &Rc<Netd>, id: u32) -> TcpStream {
    script(netd, move |n| n.establish(id));
    let stream = TcpStream::connect(rt, addr()).unwrap();
    assert_eq!(stream.id(), id);
    kind(netd, id, Kind::Tcp);
    stream.set_nonblocking(true);
    stream
}

fn kind(netd: &Netd, id: u32, kind: Kind) {
    let r = netd.record(id);
    r.kind.store(kind as u16, Relaxed);
    r.ring_bits.store(RING.trailing_zeros() as u16 * 0x101, Relaxed);
}

fn poll(poll: &Poll, timeout: Option<Duration>) -> Vec<Event> {
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, timeout);
    events.iter().collect()
}

#[test]
fn an_edge_is_reported_once_and_again_on_request() {
    let (rt, netd) = world();
    let (a, b) = (stream(rt, &netd, 0), stream(rt, &netd, 1));
    let p = Poll::new(rt).unwrap();
    assert!(Poll::new(rt).is_err(), "one at a time");
    p.register(&a, Token(7), Interest::READABLE);
    p.register(&b, Token(8), Interest::READABLE | Interest::WRITABLE);
    let first = poll(&p, NOW);
    assert_eq!(first.len(), 1, "room to write is news only to who asked for it");
    assert!(first[0].token() == Token(8) && first[0].is_writable() && !first[0].is_readable());
    assert_eq!(poll(&p, NOW), []);

    script(&netd, |n| n.deliver(0, b"data"));
    let events = poll(&p, None);
    assert_eq!(events.len(), 1);
    assert!(events[0].token() == Token(7) && events[0].is_readable());
    assert!(!events[0].is_writable() && !events[0].is_read_closed() && !events[0].is_error());
    assert_eq!(poll(&p, NOW), [], "nothing has changed");
    p.again(&a);
    assert_eq!(poll(&p, NOW).len(), 1);
    assert_eq!(a.read(&mut [0; 8]), Ok(4));
    p.again(&a);
    assert_eq!(poll(&p, NOW), [], "what is not ready is not reported");
}

#[test]
fn ends_and_errors_are_reported_whatever_the_interest() {
    let (rt, netd) = world();
    let (a, b) = (stream(rt, &netd, 0), stream(rt, &netd, 1));
    let p = Poll::new(rt).unwrap();
    p.register(&a, Token(0), Interest::WRITABLE);
    p.register(&b, Token(1), Interest::WRITABLE);
    poll(&p, NOW);
    script(&netd, |n| {
        n.deliver_fin(0);
        n.record(1).error.store(Error::ConnectionReset.to_raw(), Relaxed);
        n.set_state(1, State::Closed);
    });
    let events = poll(&p, None);
    assert_eq!(events.len(), 2);
    let of = |token| events.iter().find(|e| e.token() == Token(token)).unwrap();
    assert!(of(0).is_read_closed() && !of(0).is_write_closed() && !of(0).is_error());
    assert!(of(1).is_read_closed() && of(1).is_write_closed() && of(1).is_error());
}

#[test]
fn a_time_out_ends_a_poll_and_a_registration_ends_with_its_socket() {
    let (rt, netd) = world();
    let a = stream(rt, &netd, 0);
    let p = Poll::new(rt).unwrap();
    p.register(&a, Token(0), Interest::READABLE);
    let before = rt.now();
    assert_eq!(poll(&p, Some(Duration::from_millis(3))), []);
    assert_eq!(rt.now().since(before), Duration::from_millis(3));
    drop(a);
    let again = stream(rt, &netd, 0);
    script(&netd, |n| n.deliver(0, b"for another"));
    assert_eq!(poll(&p, Some(Duration::from_millis(3))), [], "nobody registered this one");
    p.register(&again, Token(5), Interest::READABLE);
    assert_eq!(poll(&p, NOW).len(), 1);
    p.deregister(&again);
    netd.announce(0);
    assert_eq!(poll(&p, NOW), []);
}

#[test]
fn more_events_than_there_is_room_for_come_later() {
    let (rt, netd) = world();
    let streams: Vec<_> = (0..3).map(|id| stream(rt, &netd, id)).collect();
    let p = Poll::new(rt).unwrap();
    for s in &streams {
        p.register(s, Token(s.id() as usize), Interest::WRITABLE);
    }
    let mut events = Events::with_capacity(2);
    let mut seen = Vec::new();
    for _ in 0..2 {
        p.poll(&mut events, NOW);
        seen.extend(events.iter().map(|e| e.token().0));
    }
    seen.sort();
    assert_eq!(seen, [0, 1, 2]);
}

#[test]
fn netd_is_told_once_a_turn() {
    let (rt, netd) = world();
    let (a, b) = (stream(rt, &netd, 0), stream(rt, &netd, 1));
    let p = Poll::new(rt).unwrap();
    netd.submitted();
    assert!(netd.mem.submit().consumer().unwrap().sleep().unwrap());
    let before = netd.wakes.get();
    for _ in 0..3 {
        a.write(b"a").unwrap();
        b.write(b"b").unwrap();
    }
    assert_eq!((netd.wakes.get(), netd.submitted()), (before, [].into()));
    assert_eq!(poll(&p, NOW), []);
    assert_eq!((netd.wakes.get(), netd.submitted()), (before + 1, [0, 1].into()));
    a.write(b"now").unwrap();
    rt.flush();
    assert_eq!(netd.submitted(), [0]);
    drop(p);
    a.write(b"at once").unwrap();
    assert_eq!(netd.submitted(), [0]);
}

#[test]
fn an_option_reaches_netd() {
    let (rt, netd) = world();
    let a = stream(rt, &netd, 0);
    netd.submitted();
    assert!(!a.nodelay());
    a.set_nodelay(true);
    assert!(a.nodelay());
    assert!(netd.mem.app_sock(0).options.load(Relaxed) & option::NODELAY != 0);
    assert_eq!(netd.submitted(), [0]);
    drop(a);
    assert_eq!(netd.mem.app_sock(0).options.load(Relaxed), 0, "the next socket begins anew");
}

/// As a driver crate for any network would have it.
fn exchange<S: embedded_io::Read + embedded_io::Write>(s: &mut S) -> Result<[u8; 4], S::Error> {
    s.write_all(b"ping")?;
    s.flush()?;
    let mut got = [0; 4];
    let mut at = 0;
    while at < got.len() {
        at += s.read(&mut got[at..])?;
    }
    Ok(got)
}

#[test]
fn embedded_io_reads_and_writes() {
    use embedded_io::{Error as _, ErrorKind, Read, ReadReady, WriteReady};
    let (mut s, netd) = connected();
    assert_eq!((s.read_ready(), s.write_ready()), (Ok(false), Ok(true)));
    script(&netd, |n| n.deliver(0, b"po"));
    script(&netd, |n| n.deliver(0, b"ng"));
    assert_eq!(exchange(&mut s), Ok(*b"pong"));
    assert_eq!(netd.sent(0, 0), b"ping");
    script(&netd, |n| {
        n.record(0).error.store(Error::ConnectionReset.to_raw(), Relaxed);
        n.set_state(0, State::Closed);
    });
    let error = Read::read(&mut s, &mut [0; 4]).unwrap_err();
    assert_eq!((error.kind(), error.0.errno()), (ErrorKind::ConnectionReset, 104));
}

#[test]
fn embedded_io_async_waits_in_a_future() {
    use embedded_io_async::{Read, Write};
    let (rt, netd) = world();
    script(&netd, |n| n.establish(0));
    script(&netd, |n| n.announce(3));
    script(&netd, |n| n.deliver(0, b"one"));
    script(&netd, |n| n.deliver(0, b"two"));
    let got = block_on(rt, async {
        let mut s = TcpStream::connect_async(rt, addr(), Options::default()).await.unwrap();
        Write::write_all(&mut s, b"ask").await.unwrap();
        let mut got = [0; 6];
        Read::read_exact(&mut s, &mut got).await.unwrap();
        got
    });
    assert_eq!(&got, b"onetwo");
}

#[test]
fn embedded_nal_connects_and_exchanges_datagrams() {
    use embedded_nal::{TcpClientStack, UdpClientStack, UdpFullStack, nb};
    let (rt, netd) = world();
    let mut stack = Stack::new(rt);
    let mut socket = TcpClientStack::socket(&mut stack).unwrap();
    let pending = TcpClientStack::connect(&mut stack, &mut socket, addr());
    assert_eq!(pending, Err(nb::Error::WouldBlock));
    netd.establish(0);
    assert_eq!(TcpClientStack::connect(&mut stack, &mut socket, addr()), Ok(()));
    assert_eq!(TcpClientStack::send(&mut stack, &mut socket, b"hello"), Ok(5));
    let mut got = [0; 8];
    let nothing = TcpClientStack::receive(&mut stack, &mut socket, &mut got);
    assert_eq!(nothing, Err(nb::Error::WouldBlock));
    netd.deliver(0, b"hi");
    assert_eq!(TcpClientStack::receive(&mut stack, &mut socket, &mut got), Ok(2));

    let mut udp = UdpClientStack::socket(&mut stack).unwrap();
    UdpFullStack::bind(&mut stack, &mut udp, 53).unwrap();
    assert_eq!(UdpFullStack::send_to(&mut stack, &mut udp, addr(), b"question"), Ok(()));
    netd.deliver_datagram(1, addr(), b"answer");
    assert_eq!(UdpClientStack::receive(&mut stack, &mut udp, &mut got), Ok((6, addr())));
    TcpClientStack::close(&mut stack, socket).unwrap();
    assert_eq!(netd.record(0).state(), State::Free);
}
