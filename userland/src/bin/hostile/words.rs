//! Lies in the words of sockets, and in datagrams.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::*;
use libipc::sock::{Dgram, Error, Kind, Request};

use super::liar::{Liar, RING, SOCKETS, Sock, refused};
use super::messages::require;
use super::{Tell, Told};

/// By name.
pub const TELL: &[(&str, Tell)] = &[
    ("udp-tail-beyond", |l| udp_tail(l, |tail| tail + (1 << 30))),
    ("udp-tail-back", |l| udp_tail(l, |tail| tail - 8)),
    ("udp-tail-crooked", |l| udp_tail(l, |tail| tail + 33)),
    ("udp-head-beyond", |l| udp_head(l, |head| head + 8)),
    ("udp-head-back", |l| udp_head(l, |head| head - 8)),
    ("tcp-tail-beyond", |l| tcp_tail(l, |tail| tail + RING as u64 + 1)),
    ("tcp-tail-back", |l| tcp_tail(l, |tail| tail - 1)),
    ("tcp-head-beyond", |l| tcp_head(l, |head| head + 1)),
    ("tcp-head-back", |l| tcp_head(l, |head| head - 1)),
    ("tcp-shutdown-beyond", |l| {
        let sock = echoed(l)?;
        l.mem.app_sock(sock.id).tx_tail.store(1 << 30, SeqCst);
        refused(l.ask(Request::Shutdown { id: sock.id, how: 1 }), Error::NoSession)
    }),
    ("tcp-close-beyond", |l| {
        let sock = echoed(l)?;
        l.mem.app_sock(sock.id).tx_tail.store(1 << 30, SeqCst);
        l.ask(Request::Close { id: sock.id, abort: false })?;
        Ok(())
    }),
    ("tcp-rewritten", |l| {
        let sock = l.stream()?;
        let words = l.mem.app_sock(sock.id);
        for round in 0..200u64 {
            l.write(sock, 0, &[round as u8; RING as usize]);
            // As much as there is room for, whatever has become of it meanwhile.
            let room = l.mem.record(sock.id).acknowledged() as u64 + RING as u64;
            words.tx_tail.store(room.max(words.tx_tail.load(Relaxed)), SeqCst);
            words.rx_head.store(l.mem.record(sock.id).received() as u64, SeqCst);
            l.tell(sock.id as u64);
            l.write(sock, 0, &[!round as u8; RING as usize]);
        }
        Ok(())
    }),
    ("words-of-others", |l| {
        let honest = l.honest.id;
        for id in (0..SOCKETS).filter(|id| *id != honest) {
            l.mem.app_sock(id).tx_tail.store(u64::MAX - id as u64, SeqCst);
            l.mem.app_sock(id).rx_head.store(1 << (id % 64), SeqCst);
            l.tell(id as u64);
        }
        Ok(())
    }),
    ("datagram-long", |l| {
        let header = Dgram::new(Some(l.at), u16::MAX);
        l.send(l.honest, header, 1000);
        Ok(())
    }),
    ("datagram-cut", |l| {
        let words = l.mem.app_sock(l.honest.id);
        words.tx_tail.store(words.tx_tail.load(Relaxed) + 16, SeqCst);
        l.tell(l.honest.id as u64);
        Ok(())
    }),
    ("datagram-nowhere", |l| {
        for (ip, port) in
            [("0.0.0.0", 9), ("224.0.0.1", 9), ("127.0.0.1", 0), ("::1", 9), ("ff02::1", 9)]
        {
            let Ok(ip) = ip.parse::<IpAddr>() else { continue };
            l.send(l.honest, Dgram::new(Some((ip, port).into()), 8), 8);
        }
        // Each is passed over; the last error is told.
        let record = l.mem.record(l.honest.id);
        let words = l.mem.app_sock(l.honest.id);
        let passed = || record.dgram_tx_head() == words.tx_tail.load(Relaxed);
        require(l.wait(passed), "netd stopped at one")
    }),
    ("datagram-padding", |l| {
        let words = l.mem.app_sock(l.honest.id);
        for round in 0..20u8 {
            let tail = words.tx_tail.load(Relaxed);
            let header = Dgram::new(Some(l.at), 1);
            let mut bytes = header.to_bytes();
            bytes[4..8].fill(round | 1);
            l.write(l.honest, tail as u32, &bytes);
            words.tx_tail.store(tail + Dgram::space(1), Release);
            l.tell(l.honest.id as u64);
        }
        Ok(())
    }),
];

/// The honest socket, after a datagram has gone round and was taken.
fn greeted(l: &mut Liar) -> Result<Sock, super::Why> {
    l.still_works()?;
    l.drain(l.honest);
    l.still_works()?;
    l.drain(l.honest);
    Ok(l.honest)
}

fn udp_tail(l: &mut Liar, lie: fn(u64) -> u64) -> Told {
    let sock = greeted(l)?;
    let words = l.mem.app_sock(sock.id);
    words.tx_tail.store(lie(words.tx_tail.load(Relaxed)), SeqCst);
    l.tell(sock.id as u64);
    Ok(())
}

fn udp_head(l: &mut Liar, lie: fn(u64) -> u64) -> Told {
    let sock = greeted(l)?;
    let words = l.mem.app_sock(sock.id);
    words.rx_head.store(lie(words.rx_head.load(Relaxed)), SeqCst);
    l.tell(sock.id as u64);
    Ok(())
}

/// A stream on which 100 bytes went to the echo server and back, and were taken.
fn echoed(l: &mut Liar) -> Result<Sock, super::Why> {
    let sock = l.stream()?;
    let (words, record) = (l.mem.app_sock(sock.id), l.mem.record(sock.id));
    l.write(sock, 0, &[7; 100]);
    words.tx_tail.store(100, Release);
    l.tell(sock.id as u64);
    require(
        l.wait(|| record.received() == 100 && record.acknowledged() == 100),
        "the echo did not come",
    )?;
    words.rx_head.store(100, SeqCst);
    l.tell(sock.id as u64);
    Ok(sock)
}

fn tcp_tail(l: &mut Liar, lie: fn(u64) -> u64) -> Told {
    let sock = echoed(l)?;
    let words = l.mem.app_sock(sock.id);
    words.tx_tail.store(lie(words.tx_tail.load(Relaxed)), SeqCst);
    l.tell(sock.id as u64);
    Ok(())
}

fn tcp_head(l: &mut Liar, lie: fn(u64) -> u64) -> Told {
    let sock = echoed(l)?;
    let words = l.mem.app_sock(sock.id);
    words.rx_head.store(lie(words.rx_head.load(Relaxed)), SeqCst);
    l.tell(sock.id as u64);
    Ok(())
}

/// Datagrams to itself for as long as `going`.
pub fn greet_while(l: &mut Liar, mut going: impl FnMut(&Liar) -> bool) -> Told {
    let sock = l.socket(Kind::Udp)?;
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let (words, record) = (l.mem.app_sock(sock.id), l.mem.record(sock.id));
    while going(l) {
        if words.tx_tail.load(Relaxed) - record.dgram_tx_head() < RING as u64 / 2 {
            l.greet(sock, to);
        }
    }
    Ok(())
}
