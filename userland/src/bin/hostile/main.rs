//! A program that lies, hogs and dies, for the test `hostile`: each of its lives tells one of
//! [`LIES`] and sees for itself what came of it, then ends without closing anything.
//!
//! It uses the servers' messages and memory without the client library, which would not let it.
#![no_std]
#![no_main]

extern crate alloc;

mod hogs;
mod kernel;
mod liar;
mod messages;
mod raw;
mod rings;
mod words;

use libipc::sock::Error;
use userland::lies::{LIES, Lie, Owed};

use liar::Liar;

rt::entry!(main);

/// Why a lie did not have the effect that it is owed.
#[derive(Clone, Copy, Debug)]
pub enum Why {
    /// In words.
    Says(&'static str),
    /// A call that should have worked did not.
    Call(Error),
    /// Not this error.
    Other(Option<Error>),
}

impl From<Error> for Why {
    fn from(e: Error) -> Self {
        Self::Call(e)
    }
}

/// What telling a lie came to: whether what can be seen on the spot is as it should be.
pub type Told = Result<(), Why>;
/// Tells a lie.
pub type Tell = fn(&mut Liar) -> Told;

/// How long a life lasts at least, so that each has a line in the log to itself.
const LIFE_MS: u64 = 300;

fn tell(name: &str) -> Option<Tell> {
    let all = [messages::TELL, rings::TELL, words::TELL, hogs::TELL, kernel::TELL];
    all.into_iter().flatten().find(|(n, _)| *n == name).map(|(_, tell)| *tell)
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let Some(lie) = LIES.get(start.incarnation as usize) else {
        rt::log!("told {} lies", LIES.len());
        return 0;
    };
    rt::log!("lie {} begins", lie.name);
    let end = start.now_ns() + LIFE_MS * 1_000_000;
    match life(start, lie) {
        Ok(()) => rt::log!("lie {} ok", lie.name),
        Err(why) => rt::log!("lie {} FAILED: {why:?}", lie.name),
    }
    if lie.owed != Owed::Nothing {
        liar::sleep_until(start, end);
    }
    1
}

fn life(start: &'static rt::StartInfo, lie: &Lie) -> Told {
    let tell = tell(lie.name).ok_or(Why::Says("nobody tells it"))?;
    let mut liar = Liar::new(start)?;
    tell(&mut liar)?;
    match lie.owed {
        Owed::Nothing | Owed::Refusal => liar.still_works(),
        Owed::Session => liar.session_ends(),
        Owed::Death => Err(Why::Says("it lives")),
    }
}
