//! Options, urgent data, errors told once.

use super::*;
use libipc::sock::{AppSock, congestion, option};
use std::string::ToString;

#[test]
fn options_have_linuxs_bounds_and_defaults_and_end_with_the_socket() {
    let (s, netd) = connected();
    let words: &AppSock = netd.mem.app_sock(0);
    let o = s.opts();
    assert_eq!((o.keep_idle_s(), o.keep_interval_s(), o.keep_count()), (7200, 75, 9));
    assert_eq!((o.syn_retries(), o.ttl(), o.linger2_s(), o.multicast_ttl()), (6, 64, 60, 1));
    assert_eq!((o.mtu_discover(), o.congestion(), o.rcv_lowat()), (1, "cubic", 1));
    for bad in [o.set_keep_idle_s(0), o.set_keep_idle_s(32768), o.set_keep_count(128)] {
        assert_eq!(bad, Err(Error::Invalid));
    }
    for bad in [o.set_ttl(0), o.set_ttl(256), o.set_max_seg(87), o.set_user_timeout_ms(-1)] {
        assert_eq!(bad, Err(Error::Invalid));
    }
    assert_eq!(o.set_congestion("vegas"), Err(Error::NotFound));
    netd.submitted();
    let before = words.options.load(Relaxed);
    o.set_keep_idle_s(30).unwrap();
    assert_ne!(words.options.load(Relaxed), before, "netd sees that something has changed");
    assert_eq!(netd.submitted(), [0]);
    o.set_congestion("reno").unwrap();
    assert_eq!(words.congestion.load(Relaxed), congestion::RENO);
    o.set_linger2_s(-1).unwrap();
    assert_eq!((o.linger2_s(), words.linger2_s.load(Relaxed)), (-1, AppSock::NO_LINGER2));
    o.set_mtu_discover(2).unwrap();
    o.set_multicast_ttl(0).unwrap();
    assert_eq!((o.mtu_discover(), o.multicast_ttl()), (2, 0));
    o.set_quickack(false);
    assert!(!o.quickack() && o.flag(option::DELAYED_ACK));
    for _ in 0..100 {
        o.set_flag(option::KEEPALIVE, true);
    }
    assert!(o.flag(option::KEEPALIVE) && !o.quickack(), "the count of changes touches no bit");
    drop(s);
    assert_eq!(words.options.load(Relaxed), 0);
    assert_eq!((words.keep_idle_s.load(Relaxed), words.linger2_s.load(Relaxed)), (0, 0));
}

#[test]
fn what_ended_a_connection_is_told_once() {
    let (s, netd) = connected();
    s.set_nonblocking(true);
    netd.deliver(0, b"rest");
    netd.record(0).error.store(Error::ConnectionReset.to_raw(), Relaxed);
    netd.set_state(0, State::Closed);
    assert_eq!(s.poll_bits(), 0x2000 | 0x10 | 8 | 4 | 1);
    let mut b = [0; 8];
    assert_eq!(s.read(&mut b), Ok(4), "data first");
    assert_eq!(s.write(b"x"), Err(Error::ConnectionReset));
    assert_eq!(s.write(b"x"), Err(Error::BrokenPipe));
    assert_eq!((s.read(&mut b), s.take_error()), (Ok(0), None));
    assert_eq!(s.poll_bits(), 0x2000 | 0x10 | 4 | 1);
}

#[test]
fn after_the_end_of_receiving_what_comes_is_still_read() {
    let (s, netd) = connected();
    s.set_nonblocking(true);
    s.shutdown(Shutdown::Read).unwrap();
    let mut b = [0; 8];
    assert_eq!(s.read(&mut b), Ok(0));
    netd.deliver(0, b"late");
    assert_eq!(s.read(&mut b), Ok(4));
    assert_eq!(s.poll_bits() & 0x2011, 0x2001, "no hang-up: it can be written");
}

/// The peer's urgent pointer has named the byte at `count`.
fn announce_urgent(netd: &Netd, count: u32) {
    netd.record(0).pending.store(count, Relaxed);
    netd.record(0).events.fetch_or(event::URGENT, Release);
}

#[test]
fn an_urgent_byte_is_taken_out_of_the_stream() {
    let (s, netd) = connected();
    s.set_nonblocking(true);
    assert_eq!(s.read_urgent(true), Err(Error::Invalid), "nothing was announced");
    announce_urgent(&netd, 2);
    assert_eq!((s.read_urgent(true), s.has_urgent()), (Err(Error::WouldBlock), false));
    netd.deliver(0, b"abUcd");
    assert_eq!((s.poll_bits() & 3, s.readable_bytes()), (3, 2));
    let mut b = [0; 8];
    assert_eq!(s.read(&mut b), Ok(2), "reading stops at the mark");
    assert!(s.at_mark());
    assert_eq!((s.read_urgent(false), s.read_urgent(true)), (Ok(b'U'), Ok(b'U')));
    assert_eq!((s.read_urgent(true), s.has_urgent()), (Err(Error::Invalid), false));
    assert_eq!((s.peek(&mut b), &b[..2]), (Ok(2), &b"cd"[..]));
    assert_eq!((s.read(&mut b), s.at_mark()), (Ok(2), false));
    assert_eq!(s.read_urgent(true), Err(Error::Invalid), "it has been passed");
    announce_urgent(&netd, 5);
    netd.deliver(0, b"V");
    assert_eq!(s.read(&mut b), Err(Error::WouldBlock), "nothing but the urgent byte");
    assert_eq!(s.poll_bits() & 3, 2);
}

#[test]
fn an_urgent_byte_in_line_only_ends_a_read() {
    let (s, netd) = connected();
    s.set_nonblocking(true);
    s.opts().set_flag(option::OOBINLINE, true);
    announce_urgent(&netd, 1);
    netd.deliver(0, b"aUb");
    let mut b = [0; 8];
    assert_eq!((s.readable_bytes(), s.read_urgent(true)), (3, Err(Error::Invalid)));
    assert_eq!((s.read(&mut b), s.at_mark()), (Ok(1), true));
    assert_eq!((s.read(&mut b), &b[..2]), (Ok(2), &b"Ub"[..]));
}

#[test]
fn urgent_data_is_marked_before_netd_sees_it() {
    let (s, netd) = connected();
    s.write(b"ab").unwrap();
    assert_eq!(s.write_urgent(b"cde"), Ok(3));
    let words = netd.mem.app_sock(0);
    assert_eq!((words.tx_urgent.load(Relaxed), netd.sent(0, 0)), (5, b"abcde".to_vec()));
    assert!(s.opts().flag(option::URGENT));
}

#[test]
fn more_to_come_is_said_until_the_next_write() {
    let (s, _) = connected();
    s.write_more(b"head").unwrap();
    assert!(s.opts().flag(option::MORE));
    s.write(b"body").unwrap();
    assert!(!s.opts().flag(option::MORE));
}

#[test]
fn low_water_marks() {
    let (s, netd) = connected();
    s.opts().set_rcv_lowat(3).unwrap();
    netd.deliver(0, b"ab");
    assert_eq!(s.poll_bits() & 1, 0);
    script(&netd, |n| n.deliver(0, b"c"));
    let mut b = [0; 8];
    assert_eq!(s.read(&mut b), Ok(3), "a blocking read waits for three bytes");
    netd.deliver(0, b"de");
    s.set_nonblocking(true);
    assert_eq!(s.read(&mut b), Ok(2), "one that does not block takes what there is");
    assert_eq!(s.try_read(&mut b, 1, true), Err(Error::WouldBlock));
    s.opts().set_notsent_lowat(10).unwrap();
    s.write(&[1; 10]).unwrap();
    assert_eq!((s.write(b"x"), s.not_sent(), s.poll_bits() & 4), (Err(Error::WouldBlock), 10, 0));
    s.opts().set_notsent_lowat(0).unwrap();
    s.opts().set_send_buffer(1);
    assert_eq!((s.opts().send_buffer(), s.poll_bits() & 4), (4096, 4), "no more than the ring");
}

#[test]
fn a_lingering_close_waits_for_the_peer_or_for_so_long() {
    for answers in [true, false] {
        let (s, netd) = connected();
        netd.record(0).kind.store(1, Relaxed);
        s.opts().set_linger(Some(5));
        netd.set_state(0, State::FinWait1);
        if answers {
            script(&netd, |n| n.set_state(0, State::FinWait2));
        }
        let from = netd.now.get();
        drop(s);
        let waited = (netd.now.get() - from) / 1_000_000_000;
        assert_eq!(waited, if answers { 0 } else { 5 });
        let calls: Vec<Request> = netd.calls.borrow().iter().map(|c| c.1).collect();
        let end = [Request::Shutdown { id: 0, how: 1 }, Request::Close { id: 0, abort: false }];
        assert_eq!(calls[calls.len() - 2..], end);
    }
    let (s, netd) = connected();
    s.opts().set_linger(Some(0));
    drop(s);
    assert_eq!(netd.calls.borrow().last().unwrap().1, Request::Close { id: 0, abort: true });
}

#[test]
fn errors_have_words() {
    assert_eq!(Error::NotFound.to_string(), "no such thing");
}
