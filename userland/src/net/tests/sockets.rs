//! Blocking and non-blocking calls, one socket at a time.

use super::*;
use libipc::sock::{Notice, ip_words};
use std::vec;

#[test]
fn connect_waits_for_the_handshake_or_its_failure() {
    let (rt, netd) = world();
    script(&netd, |n| n.announce(2));
    script(&netd, |n| n.establish(0));
    let stream = TcpStream::connect(rt, addr()).unwrap();
    assert_eq!(stream.state(), State::Established);

    script(&netd, |n| {
        n.record(1).error.store(Error::ConnectionRefused.to_raw(), Relaxed);
        n.set_state(1, State::Closed);
    });
    assert_eq!(TcpStream::connect(rt, addr()).err(), Some(Error::ConnectionRefused));

    let before = rt.now();
    let slow = TcpStream::connect_timeout(rt, addr(), Duration::from_millis(5));
    assert_eq!(slow.err(), Some(Error::TimedOut));
    assert_eq!(rt.now().since(before), Duration::from_millis(5));
    assert_eq!(rt.next_ready(), Some(2), "another socket's news were kept");
    assert_eq!(rt.next_ready(), None);
}

#[test]
fn written_bytes_wrap_around_and_wait_for_room() {
    let (stream, netd) = connected();
    let mut at = 0;
    for len in [1000, 3000, 4096, 1, 4095] {
        netd.acknowledge(0, 0);
        stream.write_all(&pattern(at, len)).unwrap();
        assert_eq!(netd.sent(0, at as u64), pattern(at, len));
        at += len;
        assert_eq!(stream.unsent(), len as u32);
    }
    // One byte of room; then the peer takes all but 96.
    netd.acknowledge(0, 4095);
    assert_eq!(stream.write(&pattern(at, 5000)), Ok(1));
    script(&netd, |n| n.acknowledge(0, 96));
    assert_eq!(stream.write(&pattern(at + 1, 5000)), Ok(4000));
    assert_eq!(netd.sent(0, at as u64 + 1), pattern(at + 1, 4000));
    stream.set_nonblocking(true);
    assert_eq!(stream.write(b"x"), Err(Error::WouldBlock));
    stream.set_nonblocking(false);
    stream.set_write_timeout(Some(Duration::from_millis(1)));
    assert_eq!(stream.write(b"x"), Err(Error::TimedOut));
}

#[test]
fn bytes_are_made_in_the_ring() {
    let (stream, netd) = connected();
    stream.write_all(&pattern(0, 3000)).unwrap();
    netd.acknowledge(0, 0);
    let mut pieces = vec![];
    let n = stream.write_with(2000, |to| {
        let at: usize = 3000 + pieces.iter().sum::<usize>();
        to.copy_from_slice(&pattern(at, to.len()));
        pieces.push(to.len());
        to.len()
    });
    assert_eq!((n, pieces), (Ok(2000), vec![1096, 904]));
    assert_eq!(netd.sent(0, 3000), pattern(3000, 2000));
    // Less than offered: the second piece is not asked for.
    netd.acknowledge(0, 0);
    let n = stream.write_with(4096, |to| {
        assert_eq!(to.len(), 3192);
        7
    });
    assert_eq!(n, Ok(7));
    assert_eq!(stream.unsent(), 7);
    assert_eq!(stream.write_with(10, |_| 0), Ok(0));
}

#[test]
fn received_bytes_come_in_order_then_the_end() {
    let (stream, netd) = connected();
    let mut at = 0;
    for len in [100, 4096, 4000, 1, 96] {
        netd.deliver(0, &pattern(at, len));
        let mut got = vec![0; len];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, pattern(at, len));
        at += len;
    }
    let mut byte = [0; 1];
    stream.set_read_timeout(Some(Duration::from_millis(3)));
    assert_eq!(stream.read(&mut byte), Err(Error::TimedOut));
    script(&netd, |n| n.deliver(0, b"ab"));
    assert_eq!(stream.peek(&mut byte), Ok(1));
    assert_eq!(stream.read(&mut byte), Ok(1));
    assert_eq!(&byte, b"a");
    netd.deliver_fin(0);
    assert!(stream.peer_has_ended());
    assert_eq!(stream.unread(), 1);
    assert_eq!(stream.read(&mut byte), Ok(1));
    assert_eq!(stream.read(&mut byte), Ok(0));
    assert_eq!(stream.read(&mut byte), Ok(0));
    assert_eq!(stream.read(&mut []), Ok(0));
}

#[test]
fn a_reset_is_told_after_the_data() {
    let (stream, netd) = connected();
    netd.deliver(0, b"last words");
    netd.record(0).error.store(Error::ConnectionReset.to_raw(), Relaxed);
    netd.set_state(0, State::Closed);
    let mut got = [0; 64];
    assert_eq!(stream.read(&mut got), Ok(10));
    assert_eq!(stream.read(&mut got), Err(Error::ConnectionReset));
    assert_eq!(stream.write(b"x"), Err(Error::BrokenPipe), "told already");
    // netd forgets the socket: the session was ended.
    netd.record(0).error.store(0, Relaxed);
    netd.set_state(0, State::Free);
    assert_eq!(stream.read(&mut got), Err(Error::ConnectionAborted));
    assert_eq!(stream.write(b"x"), Err(Error::ConnectionAborted));
}

#[test]
fn nothing_is_written_after_our_end() {
    let (stream, netd) = connected();
    netd.record(0).events.fetch_or(event::FIN_QUEUED, Relaxed);
    netd.record(0).fin_seq.store(ISS.wrapping_add(1), Relaxed);
    netd.set_state(0, State::FinWait1);
    assert_eq!(stream.write(b"x"), Err(Error::BrokenPipe));
    netd.deliver(0, b"y");
    let mut byte = [0; 1];
    assert_eq!(stream.read(&mut byte), Ok(1), "the other direction goes on");
}

#[test]
fn netd_hears_of_a_quarter_ring_read() {
    let (stream, netd) = connected();
    netd.deliver(0, &pattern(0, 4096));
    netd.submitted();
    let mut some = [0; 1023];
    stream.read(&mut some).unwrap();
    assert!(netd.submitted().is_empty());
    stream.read(&mut some[..1]).unwrap();
    assert_eq!(netd.submitted(), [0]);
    assert_eq!(netd.mem.app_sock(0).rx_head.load(Relaxed), 1024);
}

#[test]
fn counts_that_cannot_be_are_no_data() {
    let (stream, netd) = connected();
    netd.record(0).rcv.store(IRS as u64, Relaxed);
    stream.set_nonblocking(true);
    assert_eq!(stream.read(&mut [0; 4]), Err(Error::WouldBlock));
    netd.record(0).snd.store(ISS.wrapping_sub(9) as u64, Relaxed);
    assert_eq!(stream.write(b"x"), Ok(1));
    netd.record(0).snd.store(ISS.wrapping_add(999) as u64, Relaxed);
    assert_eq!(stream.write(b"x"), Err(Error::WouldBlock));
}

#[test]
fn a_listener_hands_out_streams_and_dropping_closes() {
    let (rt, netd) = world();
    let listener = TcpListener::bind(rt, ([0, 0, 0, 0], 7).into()).unwrap();
    listener.set_nonblocking(true);
    assert_eq!(listener.accept().err(), Some(Error::WouldBlock));
    listener.set_nonblocking(false);
    script(&netd, |n| {
        n.record(1).remote_port.store(4711, Relaxed);
        n.record(0).pending.store(2, Relaxed);
        n.announce(0);
    });
    let (stream, peer) = listener.accept().unwrap();
    assert_eq!((stream.id(), peer.port()), (1, 4711));
    let second = listener.accept().unwrap().0;
    assert_eq!(second.id(), 2);
    stream.write_all(b"bye").unwrap();
    assert_eq!(netd.mem.app_sock(1).tx_tail.load(Relaxed), 3);
    stream.set_abort_on_drop(true);
    drop(stream);
    assert_eq!(netd.calls.borrow().last().unwrap().1, Request::Close { id: 1, abort: true });
    assert_eq!(netd.mem.app_sock(1).tx_tail.load(Relaxed), 0);
    // netd forgets the listener.
    netd.set_state(0, State::Free);
    assert_eq!(listener.accept().err(), Some(Error::ConnectionAborted));
    assert!(!listener.is_listening());
}

#[test]
fn datagrams_go_both_ways_around_the_ring() {
    let (rt, netd) = world();
    let socket = UdpSocket::bind(rt, ([0, 0, 0, 0], 0).into()).unwrap();
    let mut at = 0;
    for len in [0, 1, 1472, 1000, 1472, 7] {
        assert_eq!(socket.send_to(&pattern(len, len), addr()), Ok(len));
        let ring = netd.sent(0, at);
        let header = Dgram::from_bytes(ring[..Dgram::BYTES].try_into().unwrap());
        assert_eq!(header, Dgram::new(Some(addr()), len as u16));
        assert_eq!(ring[Dgram::BYTES..][..len], pattern(len, len));
        assert_eq!(ring.len() as u64, Dgram::space(len));
        at += ring.len() as u64;
        netd.record(0).snd.store(at, Release);

        netd.deliver_datagram(0, addr(), &pattern(len, len));
        let mut got = vec![0; 2000];
        assert_eq!(socket.recv_from(&mut got), Ok((len, addr())));
        assert_eq!(got[..len], pattern(len, len));
    }
    assert_eq!(socket.send_to(&[0; 70_000], addr()), Err(Error::MessageTooLong));
    assert_eq!(socket.send_to(&[0; 1472], addr()), Ok(1472));
    assert_eq!(socket.send_to(&[0; 1472], addr()), Ok(1472));
    assert_eq!(socket.send_to(&[0; 1032], addr()), Ok(1032));
    socket.set_nonblocking(true);
    assert_eq!(socket.send_to(b"", addr()), Err(Error::WouldBlock));
    netd.deliver_datagram(0, addr(), b"longer than asked for");
    let mut few = [0; 6];
    assert_eq!(socket.recv_from(&mut few), Ok((6, addr())));
    assert_eq!(&few, b"longer");
    assert_eq!(socket.recv_from(&mut few), Err(Error::WouldBlock));
}

#[test]
fn a_reported_error_is_told_once_and_the_socket_goes_on() {
    let (rt, netd) = world();
    let socket = UdpSocket::bind(rt, ([0, 0, 0, 0], 0).into()).unwrap();
    socket.set_nonblocking(true);
    let mut got = [0; 8];
    // The same error twice is two errors.
    for error in [Error::ConnectionRefused, Error::HostUnreachable, Error::HostUnreachable] {
        netd.record(0).error.store(error.to_raw(), Relaxed);
        netd.record(0).events.fetch_add(1, Relaxed);
        assert_eq!(socket.recv(&mut got), Err(error));
        assert_eq!(socket.recv(&mut got), Err(Error::WouldBlock));
    }
    netd.deliver_datagram(0, addr(), b"still");
    assert_eq!(socket.recv(&mut got), Ok(5));
}

#[test]
fn notices_reach_the_error_queue_past_datagrams_that_wait() {
    let (rt, netd) = world();
    let socket = UdpSocket::bind(rt, ([0, 0, 0, 0], 0).into()).unwrap();
    socket.set_nonblocking(true);
    let entry = Undelivered {
        notice: Notice { errno: 111, origin: Notice::ICMP, ty: 3, code: 3, info: 0 },
        to: addr(),
        by: addr().ip(),
        data: b"lost".to_vec(),
    };
    let bytes = [&entry.notice.to_bytes()[..], b"lost"].concat();
    netd.deliver_datagram(0, addr(), b"one");
    let local = ip_words(entry.by);
    let notice = Dgram { flags: Dgram::NOTICE, local, ..Dgram::new(Some(addr()), 20) };
    netd.deliver_entry(0, &notice, &bytes);
    netd.deliver_datagram(0, addr(), b"three");
    assert_eq!(socket.take_undelivered(), Ok(entry));
    assert_eq!(socket.take_undelivered(), Err(Error::WouldBlock));
    let mut got = [0; 8];
    assert_eq!(socket.recv(&mut got), Ok(3));
    assert_eq!(socket.recv(&mut got), Ok(5));
    assert_eq!(socket.recv(&mut got), Err(Error::WouldBlock));
}

#[test]
fn nonsense_in_a_datagram_ring_is_skipped() {
    let (rt, netd) = world();
    let socket = UdpSocket::bind(rt, ([0, 0, 0, 0], 0).into()).unwrap();
    socket.set_nonblocking(true);
    let mut got = [0; 8];
    for tail in [8, 40, 8192] {
        // Too short for a header; a header that claims more than there is; more than the ring.
        netd.rx.write(0, &[0xff; 64]);
        let head = netd.mem.app_sock(0).rx_head.load(Relaxed);
        netd.record(0).rcv.store(head + tail, Relaxed);
        assert_eq!(socket.recv(&mut got), Err(Error::Server), "{tail}");
        assert_eq!(socket.recv(&mut got), Err(Error::WouldBlock), "{tail}");
    }
}

#[test]
fn echo_requests_find_their_replies() {
    let (rt, netd) = world();
    let ping = Ping::open(rt).unwrap();
    script(&netd, |n| {
        n.now.set(n.now.get() + 1_500_000);
        let stranger = [0, 0, 0, 9, 1, 2];
        n.deliver_datagram(0, ([10, 0, 2, 2], 0).into(), &stranger);
        let sent = n.sent(0, 0);
        n.deliver_datagram(0, ([10, 0, 2, 2], 0).into(), &sent[Dgram::BYTES..][..4 + 56]);
    });
    let time = ping.ping([10, 0, 2, 2].into(), 3, 56, Duration::from_secs(1)).unwrap();
    assert_eq!(time, Duration::from_micros(1500));
    let nobody = ping.ping([10, 0, 2, 9].into(), 4, 56, Duration::from_secs(1));
    assert_eq!(nobody, Err(Error::TimedOut));
    assert_eq!(ping.send([10, 0, 2, 9].into(), 4, 2000), Err(Error::MessageTooLong));
}

#[test]
fn a_call_is_repeated_under_its_number() {
    let (rt, netd) = world();
    let died = || Err(CallError::Kernel(abi::Error::ServerDied));
    netd.answers.borrow_mut().extend([died(), died()]);
    let socket = UdpSocket::bind(rt, ([0, 0, 0, 0], 0).into()).unwrap();
    netd.answers.borrow_mut().extend([died(), Ok(Err(Error::BadSocket))]);
    drop(socket);
    let methods: Vec<u16> = netd.calls.borrow().iter().map(|c| c.0).collect();
    assert_eq!(methods, [1, 1 | REPEATED, 1 | REPEATED, 2, 3, 4, 4 | REPEATED]);
    netd.answers.borrow_mut().push_back(Err(CallError::BadReply));
    assert_eq!(UdpSocket::bind(rt, addr()).err(), Some(Error::Server));
}

#[test]
fn opening_waits_for_what_the_last_incarnation_left() {
    let (rt, netd) = world();
    netd.mem.app_sock(3).tx_tail.store(99, Relaxed);
    for offset in (0..Layout::PRODUCER + 64).step_by(8) {
        netd.mem.app_word(offset).store(!0, Relaxed);
    }
    netd.answers.borrow_mut().extend([Ok(Err(Error::WouldBlock)), Ok(Err(Error::WouldBlock))]);
    let start = rt.now();
    UdpSocket::bind(rt, ([0, 0, 0, 0], 0).into()).unwrap();
    assert_eq!(rt.now().since(start), Duration::from_millis(2));
    assert_eq!(netd.mem.app_sock(3).tx_tail.load(Relaxed), 0);
}

#[test]
fn a_socket_outside_the_session_is_refused() {
    let (rt, netd) = world();
    let socket = |id, tx_off, tx_size, rx_off, rx_size| {
        Ok(Ok(Reply::Socket { id, tx_off, tx_size, rx_off, rx_size, peer: None }))
    };
    let session = || Ok(Ok(Reply::Session { session: 0, sockets: SOCKETS }));
    for bad in [
        socket(SOCKETS, 0, RING, 0, RING),
        socket(0, 1 << 14, RING, 0, RING),
        socket(0, 0, RING, 1 << 14, RING),
        socket(0, 0, 3000, 0, RING),
        socket(0, 0, RING, 0, 0),
        Ok(Ok(Reply::Done)),
    ] {
        if netd.calls.borrow().is_empty() {
            netd.answers.borrow_mut().push_back(session());
        }
        netd.answers.borrow_mut().push_back(bad);
        assert_eq!(UdpSocket::bind(rt, addr()).err(), Some(Error::Server));
    }
}

#[test]
fn netd_is_woken_only_when_it_sleeps() {
    let (stream, netd) = connected();
    netd.submitted();
    let mut submit = netd.mem.submit().consumer().unwrap();
    assert!(submit.sleep().unwrap());
    let before = netd.wakes.get();
    stream.write(b"a").unwrap();
    assert_eq!(netd.wakes.get(), before + 1);
    stream.write(b"b").unwrap();
    assert_eq!(netd.wakes.get(), before + 1, "it is awake");
}

#[test]
fn a_full_submit_ring_delays_news_and_loses_none() {
    let (rt, netd) = world();
    script(&netd, |n| n.establish(0));
    script(&netd, |n| n.establish(1));
    let a = TcpStream::connect(rt, addr()).unwrap();
    let b = TcpStream::connect(rt, addr()).unwrap();
    netd.submitted();
    for _ in 0..SOCKETS {
        a.write(b"a").unwrap();
    }
    b.write(b"b").unwrap();
    assert_eq!(netd.submitted(), [0; SOCKETS as usize]);
    rt.sleep(Duration::from_millis(20));
    assert_eq!(netd.submitted(), [1]);
}

#[test]
fn nonsense_in_the_ready_ring_leads_to_a_look_at_every_socket() {
    let (stream, netd) = connected();
    // Ids that are none are passed over.
    for id in [SOCKETS as u64, u64::MAX] {
        netd.ready.borrow_mut().push([id]).unwrap();
    }
    netd.announce(0);
    let mut got = [0; 4];
    script(&netd, |n| n.deliver(0, b"one"));
    assert_eq!(stream.read(&mut got), Ok(3));
    // An index far ahead, and then one that moves back: each time the ring is begun anew behind
    // it, and data is found without its help.
    let tail = netd.mem.net_word(128 + 24);
    tail.store(tail.load(Relaxed) + 1000, Relaxed);
    script(&netd, |n| n.deliver(0, b"two"));
    assert_eq!(stream.read(&mut got), Ok(3));
    assert_eq!(&got[..3], b"two");
}
