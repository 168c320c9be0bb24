//! Lies in the words of the id rings.

use core::sync::atomic::Ordering::*;

use super::liar::{Liar, SOCKETS, SUBMIT};
use super::{Tell, Told, raw};

/// Offset of `tail` in a producer's side, and of the entries.
const TAIL: usize = 24;
const ENTRIES: usize = 64;
/// Offset of `head` in a consumer's side, and of `wake_at`.
const HEAD: usize = 0;
const WAKE_AT: usize = 8;

/// By name.
pub const TELL: &[(&str, Tell)] = &[
    ("submit-jump", |l| submit_tail(l, |tail| tail + (1 << 40))),
    ("submit-back", |l| submit_tail(l, |tail| tail - 1)),
    ("submit-wrap", |l| submit_tail(l, |_| u64::MAX)),
    ("submit-overfull", |l| submit_tail(l, |tail| tail + SOCKETS as u64 + 1)),
    ("ready-jump", |l| ready_head(l, |head| head + (1 << 40))),
    ("ready-back", |l| ready_head(l, |head| head - 1)),
    ("ready-wrap", |l| ready_head(l, |_| u64::MAX)),
    ("submit-header", |l| {
        // netd looks at the header when it attaches.
        l.still_works()?;
        let app = l.region("session.app")?;
        for value in [u32::MAX, 0, 1] {
            for offset in (0..TAIL).step_by(4) {
                raw::half(app, SUBMIT + offset).store(value, Release);
                l.tell(l.honest.id as u64);
            }
        }
        Ok(())
    }),
    ("wake-words", |l| {
        let app = l.region("session.app")?;
        for value in [0, 1, 1 << 40, u64::MAX] {
            raw::word(app, WAKE_AT).store(value, Release);
            l.greet(l.honest, l.at);
        }
        Ok(())
    }),
    ("id-beyond", |l| submit_entry(l, SOCKETS as u64)),
    ("id-enormous", |l| submit_entry(l, u64::MAX)),
    ("id-repeated", |l| {
        for _ in 0..1000 {
            l.tell(l.honest.id as u64);
        }
        Ok(())
    }),
    ("id-all", |l| {
        for _ in 0..50 {
            (0..SOCKETS as u64).for_each(|id| l.tell(id));
        }
        Ok(())
    }),
];

/// Submits honestly until netd has taken it, then claims another index.
fn submit_tail(l: &mut Liar, lie: fn(u64) -> u64) -> Told {
    l.still_works()?;
    let tail = raw::word(l.region("session.app")?, SUBMIT + TAIL);
    tail.store(lie(tail.load(Relaxed)), SeqCst);
    l.ring();
    Ok(())
}

/// Lets news come, takes them, then claims another index; news come again.
fn ready_head(l: &mut Liar, lie: fn(u64) -> u64) -> Told {
    let head = raw::word(l.region("session.app")?, HEAD);
    l.still_works()?;
    let produced = raw::word(l.region("session.net")?, SUBMIT + TAIL);
    head.store(produced.load(Acquire), SeqCst);
    // netd sees the honest index with the next news, and the other with the ones after that.
    l.still_works()?;
    l.still_works()?;
    head.store(lie(head.load(Relaxed)), SeqCst);
    for _ in 0..3 {
        l.greet(l.honest, l.at);
    }
    Ok(())
}

fn submit_entry(l: &mut Liar, id: u64) -> Told {
    let app = l.region("session.app")?;
    let tail = raw::word(app, SUBMIT + TAIL);
    let at = tail.load(Relaxed);
    let place = (at % SOCKETS as u64) as usize;
    raw::word(app, SUBMIT + ENTRIES + 8 * place).store(id, Relaxed);
    tail.store(at + 1, SeqCst);
    l.ring();
    Ok(())
}
