//! Tests of the kernel from outside it, by name: `start usertests` runs all, `start usertests NAME…` some,
//! `start usertests list` prints their names.
//!
//! The program has an untyped, its own CSpace, address space and thread, and nothing else that counts
//! (image/usertests.toml). Each test makes what it needs from the untyped; afterwards everything is taken
//! back, and the untyped must be as it was, to the byte. A line for each test says `ok NAME` or
//! `FAILED NAME: why`; the last one sums up.
#![no_std]
#![no_main]

extern crate alloc;

mod calls;
mod capabilities;
mod cycles;
mod devices;
mod env;
mod faults;
mod ipc;
mod memory;
mod pair;
mod probe;
mod processor;
mod raw;
mod registers;
mod signals;
mod threads;
mod time;
mod untyped;

use env::{Env, Told, equal, works};

rt::entry!(main);

/// A test.
pub type Test = fn(&mut Env) -> Told;

const ALL: &[&[(&str, Test)]] = &[
    registers::ALL,
    calls::ALL,
    processor::ALL,
    ipc::ALL,
    signals::ALL,
    capabilities::ALL,
    untyped::ALL,
    memory::ALL,
    threads::ALL,
    time::ALL,
    faults::ALL,
    devices::ALL,
    cycles::ALL,
];

fn main(start: &'static rt::StartInfo) -> u64 {
    let Some(mut env) = Env::new(start) else {
        rt::log!("the manifest entry lacks `untyped_kib`");
        return 1;
    };
    let known = |word: &&str| ALL.iter().copied().flatten().any(|(name, _)| name == word);
    if start.args == "list" {
        ALL.iter().copied().flatten().for_each(|(name, _)| rt::log!("{name}"));
        return 0;
    }
    if let Some(unknown) = start.args.split_whitespace().find(|word| !known(word)) {
        rt::log!("there is no test called {unknown}; `start usertests list` prints their names");
        return 1;
    }
    let (mut run, mut failed) = (0, 0);
    let wanted =
        |name: &str| start.args.is_empty() || start.args.split_whitespace().any(|w| w == name);
    for (name, test) in ALL.iter().copied().flatten().filter(|(name, _)| wanted(name)) {
        run += 1;
        match one(&mut env, *test) {
            Ok(()) => rt::log!("ok {name}"),
            Err(why) => {
                failed += 1;
                rt::log!("FAILED {name}: {why}");
            }
        }
    }
    rt::log!("{run} tests, {failed} failed");
    (failed > 0 || run == 0) as u64
}

/// Runs a test, and takes everything back.
fn one(env: &mut Env, test: Test) -> Told {
    let before = works(env.own.left())?;
    let result = env.prepare().and_then(|()| test(env));
    works(env.own.reset())?;
    works(libipc::sys::cancel(env.timer))?;
    libipc::sys::poll(env.events);
    result?;
    equal(works(env.own.left())?, before)
}
