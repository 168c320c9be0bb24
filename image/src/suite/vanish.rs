//! A peer that is gone without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::closed::ready;
use crate::harness::{COMMAND, Failure, Guest, wrong};

/// Where the program `dial` finds somebody who sends back what comes.
const OPEN: u16 = 7901;
/// How long the program may take to find out: its patience is two seconds.
const GIVES_UP: Duration = Duration::from_secs(120);

pub fn vanish(g: &mut Guest) -> Result<(), Failure> {
    let peer = ready(g)?;
    let (stream, over) = (peer.accept(OPEN), Arc::new(AtomicBool::new(false)));
    let end = over.clone();
    let echo = std::thread::spawn(move || {
        while !end.load(Relaxed) {
            stream.wait(Duration::ZERO, |socket| {
                let mut bytes = [0; 512];
                if let Ok(n) = socket.recv_slice(&mut bytes) {
                    let _ = socket.send_slice(&bytes[..n]);
                }
                Some(())
            });
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let result = dial(g, || peer.vanish());
    over.store(true, Relaxed);
    if echo.join().is_err() {
        return wrong("the peer panicked");
    }
    result?;
    g.power_off()
}

fn dial(g: &mut Guest, vanish: impl Fn()) -> Result<(), Failure> {
    g.send_line("restart dial")?;
    g.wait_for("[dial] closed port: connection refused", COMMAND)?;
    g.wait_for("[dial] talking\n", COMMAND)?;
    vanish();
    // With data under way, then in the handshake.
    g.wait_for("[dial] talking: timed out", GIVES_UP)?;
    g.wait_for("[dial] connecting: timed out", GIVES_UP)?;
    Ok(())
}
