//! A client whose peer refuses, answers, and vanishes in the middle, for the test that looks at what
//! a program learns of it. Arguments: `peer=ADDRESS` (default 10.9.0.1).
#![no_std]
#![no_main]

extern crate alloc;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use userland::net::{Options, TcpStream};
use userland::runtime::Runtime;
use userland::{Error, init};

rt::entry!(main);

/// Nobody listens here.
const CLOSED: u16 = 7900;
/// Here somebody sends back what comes.
const OPEN: u16 = 7901;
/// How long it waits for a peer that says nothing.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

fn main(start: &'static rt::StartInfo) -> u64 {
    let mut words = start.args.split_ascii_whitespace();
    let peer = words.find_map(|w| w.strip_prefix("peer=")?.parse().ok());
    let peer = peer.unwrap_or(IpAddr::from([10, 9, 0, 1]));
    let Ok(rt) = init(start) else {
        rt::log!("the manifest entry is incomplete");
        return 1;
    };
    let options = Options { user_timeout: Some(PATIENCE), ..Options::default() };
    let dial = |port| TcpStream::connect_with(rt, SocketAddr::new(peer, port), options);
    match dial(CLOSED) {
        Ok(_) => rt::log!("closed port: connected"),
        Err(e) => rt::log!("closed port: {e}"),
    }
    match dial(OPEN).and_then(|stream| talk(rt, &stream)) {
        Ok(never) => match never {},
        Err(e) => rt::log!("talking: {e}"),
    }
    match dial(OPEN) {
        Ok(_) => rt::log!("connecting: connected"),
        Err(e) => rt::log!("connecting: {e}"),
    }
    0
}

/// Sends a byte and waits for it to come back, over and over.
fn talk(rt: &'static Runtime, stream: &TcpStream) -> Result<core::convert::Infallible, Error> {
    for n in 0u32.. {
        stream.write_all(&[n as u8])?;
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Err(Error::NotConnected);
        }
        if n == 0 {
            rt::log!("talking");
        }
        rt.sleep(PAUSE);
    }
    Err(Error::NotConnected)
}
