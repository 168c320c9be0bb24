//! A program that dies in the middle of everything, for the test that counts what it leaves.
//!
//! Each incarnation picks a [`STAGES`] entry and a way to die by its random seed. Arguments:
//! `deaths=N` (default 1000): incarnation N exits for good; `peer=ADDRESS` (default 10.0.2.2, the
//! gateway under user-mode networking): whom it tries to reach besides this system's own servers.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering::*};
use core::time::Duration;
use libipc::msg::{self, interface};
use libipc::sys;
use rt::StartInfo;
use userland::net::{Options, TcpListener, TcpStream, UdpSocket};
use userland::runtime::Runtime;
use userland::{Error, bytes, init};

rt::entry!(main);

/// Deaths before it exits for good, unless its arguments say otherwise.
const DEATHS: u32 = 1000;
/// Longest wait within a stage: a thousand lives must not take long.
const PATIENCE: Duration = Duration::from_millis(100);
/// Ports that its manifest entry allows it to bind.
const PORTS: core::ops::Range<u16> = 7100..7110;
const ECHO: u16 = 7;
/// A port that nobody listens on.
const CLOSED: u16 = 9;

unsafe extern "C" {
    safe fn rt_crash_panic() -> !;
    safe fn rt_crash_pointer() -> !;
    safe fn rt_crash_undefined() -> !;
}

/// One life.
struct Life {
    start: &'static StartInfo,
    rt: &'static Runtime,
    peer: IpAddr,
    /// SplitMix64 over the seed.
    random: u64,
}

type Stage = fn(&mut Life) -> Result<(), Error>;

/// Where to die. What a stage opens it leaks, so that nothing is closed in order. An error ends a
/// stage early: it dies there, then.
const STAGES: [Stage; 11] = [
    Life::nowhere,
    Life::with_sockets,
    Life::while_connecting,
    Life::sending_with_unread_data,
    Life::with_half_closed_streams,
    Life::listening_with_backlog,
    Life::with_accepted_connections,
    Life::with_datagrams_queued,
    Life::with_orphans,
    Life::after_senseless_calls,
    Life::after_scribbling,
];

fn main(start: &'static StartInfo) -> u64 {
    let arg = |name: &str| {
        let mut words = start.args.split_ascii_whitespace();
        words.find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
    };
    let deaths = arg("deaths").and_then(|n| n.parse().ok()).unwrap_or(DEATHS);
    if start.incarnation >= deaths {
        rt::log!("done after {deaths} deaths");
        return 0;
    }
    let peer = arg("peer").and_then(|a| a.parse().ok()).unwrap_or(IpAddr::from([10, 0, 2, 2]));
    let Ok(rt) = init(start) else {
        rt::log!("the manifest entry is incomplete");
        return 0;
    };
    let (words, _) = start.seed.as_chunks::<8>();
    let random = words.iter().fold(0, |a, w| a ^ u64::from_le_bytes(*w));
    let mut life = Life { start, rt, peer, random };
    let stage = life.below(STAGES.len());
    let _ = STAGES[stage](&mut life);
    match life.below(4) {
        0 => rt_crash_panic(),
        1 => rt_crash_pointer(),
        2 => rt_crash_undefined(),
        _ => 1,
    }
}

fn leak<T>(value: T) {
    core::mem::forget(value);
}

impl Life {
    fn below(&mut self, n: usize) -> usize {
        self.random = self.random.wrapping_add(1);
        (bytes::word(self.random) % n as u64) as usize
    }

    /// This system's own address, as a route to the peer shows it.
    fn own_address(&self) -> Result<IpAddr, Error> {
        let probe = UdpSocket::bind(self.rt, ([0, 0, 0, 0], 0).into())?;
        probe.connect(SocketAddr::new(self.peer, CLOSED))?;
        match probe.local_addr()?.ip() {
            ip if ip.is_unspecified() => Err(Error::AddrNotAvailable),
            ip => Ok(ip),
        }
    }

    /// A connection to this system's echo server.
    fn echo_stream(&self) -> Result<TcpStream, Error> {
        let to = SocketAddr::new(self.own_address()?, ECHO);
        TcpStream::connect_timeout(self.rt, to, PATIENCE)
    }

    fn nowhere(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn with_sockets(&mut self) -> Result<(), Error> {
        for _ in 0..=self.below(20) {
            leak(UdpSocket::bind(self.rt, ([0, 0, 0, 0], 0).into())?);
        }
        Ok(())
    }

    fn while_connecting(&mut self) -> Result<(), Error> {
        // One that refuses, one that is silent, one that accepts.
        let silent = match self.peer {
            IpAddr::V4(v4) => IpAddr::from(core::net::Ipv4Addr::from_bits(v4.to_bits() ^ 0x60)),
            v6 => v6,
        };
        let own = self.own_address().unwrap_or(self.peer);
        for (ip, port) in [(self.peer, CLOSED), (silent, CLOSED), (own, ECHO)] {
            leak(TcpStream::start_connect(
                self.rt,
                SocketAddr::new(ip, port),
                Options { tx: 4096, rx: 4096, ..Options::default() },
            )?);
        }
        let pause = self.below(5) as u64;
        self.rt.sleep(Duration::from_millis(pause));
        Ok(())
    }

    fn sending_with_unread_data(&mut self) -> Result<(), Error> {
        let stream = self.echo_stream()?;
        stream.set_nonblocking(true);
        let mut block = [0; 4096];
        bytes::fill(0, &mut block);
        let end = self.rt.now() + Duration::from_millis(self.below(20) as u64);
        let result = loop {
            match stream.write(&block) {
                Ok(_) => {}
                Err(Error::WouldBlock) if self.rt.now() < end => {
                    self.rt.wait(Some(end));
                    while self.rt.next_ready().is_some() {}
                }
                Err(Error::WouldBlock) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        leak(stream);
        result
    }

    fn with_half_closed_streams(&mut self) -> Result<(), Error> {
        let stream = self.echo_stream()?;
        stream.set_write_timeout(Some(PATIENCE));
        stream.write_all(b"half a word")?;
        let result = stream.shutdown(userland::net::Shutdown::Write);
        leak(stream);
        result
    }

    fn listener(&mut self, backlog: u16) -> Result<TcpListener, Error> {
        let ports = PORTS.len();
        let port = PORTS.start + self.below(ports) as u16;
        let options = Options { tx: 4096, rx: 4096, backlog, ..Options::default() };
        TcpListener::bind_with(self.rt, ([0, 0, 0, 0], port).into(), options)
    }

    /// Connects to its own listener.
    fn call_oneself(&mut self, listener: &TcpListener, times: usize) -> Result<(), Error> {
        let to = SocketAddr::new(self.own_address()?, listener.local_addr()?.port());
        let options = Options { tx: 4096, rx: 4096, ..Options::default() };
        let streams: Result<Vec<_>, _> =
            (0..times).map(|_| TcpStream::start_connect(self.rt, to, options)).collect();
        for stream in streams? {
            // Those that the backlog has no place for never connect.
            stream.set_nonblocking(true);
            let _ = stream.write(b"hello");
            leak(stream);
        }
        Ok(())
    }

    fn listening_with_backlog(&mut self) -> Result<(), Error> {
        let listener = self.listener(4)?;
        let result = self.call_oneself(&listener, 6);
        self.rt.sleep(Duration::from_millis(2));
        leak(listener);
        result
    }

    fn with_accepted_connections(&mut self) -> Result<(), Error> {
        let listener = self.listener(4)?;
        self.call_oneself(&listener, 3)?;
        listener.set_read_timeout(Some(PATIENCE));
        for _ in 0..3 {
            leak(listener.accept()?.0);
        }
        leak(listener);
        Ok(())
    }

    fn with_datagrams_queued(&mut self) -> Result<(), Error> {
        let socket = UdpSocket::bind(self.rt, ([0, 0, 0, 0], 0).into())?;
        socket.set_nonblocking(true);
        let own = self.own_address().unwrap_or(self.peer);
        for i in 0..64 {
            let (ip, port) = if i % 2 == 0 { (own, ECHO) } else { (self.peer, CLOSED) };
            let len = self.below(1400);
            if socket.send_to(&[i; 1400][..len], SocketAddr::new(ip, port)).is_err() {
                break;
            }
        }
        leak(socket);
        Ok(())
    }

    fn with_orphans(&mut self) -> Result<(), Error> {
        for _ in 0..3 {
            let stream = self.echo_stream()?;
            stream.set_nonblocking(true);
            stream.write(&[7; 4096])?;
            stream.set_abort_on_drop(self.below(3) == 0);
        }
        Ok(())
    }

    /// Requests that are none.
    fn after_senseless_calls(&mut self) -> Result<(), Error> {
        let socket = UdpSocket::bind(self.rt, ([0, 0, 0, 0], 0).into())?;
        let Some(sockd) = self.start.cap("sockd") else { return Ok(()) };
        for _ in 0..32 {
            let junk: [u8; 16] = core::array::from_fn(|_| self.below(256) as u8);
            let _ = sys::call(sockd, msg::encode(interface::SOCK, &junk), [0; 4]);
        }
        leak(socket);
        Ok(())
    }

    /// Writes nonsense over everything that it shares with netd.
    fn after_scribbling(&mut self) -> Result<(), Error> {
        let socket = UdpSocket::bind(self.rt, ([0, 0, 0, 0], 0).into())?;
        leak(TcpStream::start_connect(
            self.rt,
            SocketAddr::new(self.peer, CLOSED),
            Options::default(),
        )?);
        // Its own indices are nonsense in a moment: it may see a ring that is full for ever.
        socket.set_nonblocking(true);
        let Some(app) = self.start.region("session.app") else { return Ok(()) };
        for _ in 0..64 {
            let at = self.below(app.len as usize / 8) * 8;
            let value = bytes::word(self.random);
            // SAFETY: this program's own region, mapped writable for its whole life, only ever
            // accessed as atomics; what the words mean stops mattering here.
            unsafe { (*((app.vaddr as usize + at) as *const AtomicU64)).store(value, Relaxed) };
        }
        // Our own words are spoilt, too: nothing may wait for them.
        socket.set_nonblocking(true);
        let _ = socket.send_to(b"x", SocketAddr::new(self.peer, CLOSED));
        if let Some(netd) = self.start.cap("netd.events") {
            sys::signal(netd);
        }
        leak(socket);
        Ok(())
    }
}
