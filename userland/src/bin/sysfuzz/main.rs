//! Random system calls, and such that are nearly right: `start sysfuzz calls=N seed=S`.
//!
//! A *sandbox* is four threads with a CSpace of their own, in which there are some objects of each kind,
//! among them that CSpace, the threads and their address space. Each makes some hundred calls that the
//! seed decides, most of them on a capability of the right type, and now and then executes an instruction
//! that it should not. Their faults come here; a thread that can go on does. When nobody can run any more,
//! everything is taken back, the memory must be as before, to the byte, and the next sandbox is made.
//!
//! Nothing in it depends on time (but for what timers and budgets of the threads do), so that a seed does
//! the same again: `from=N` begins at sandbox number N.
#![no_std]
#![no_main]

mod calls;
mod random;
mod raw;
mod sandbox;

use abi::{Error, FaultKind, ObjType, SUPERVISOR_EXIT};
use libipc::sys;
use userland::own::Own;

use random::Random;
use sandbox::Sandbox;

rt::entry!(main);

/// Calls, if the arguments do not say.
const CALLS: u64 = 200_000;
/// How often to say how far it is.
const PACE_NS: u64 = 1_000_000_000;

/// What has happened so far.
#[derive(Default)]
struct Tally {
    calls: u64,
    done: u64,
    sandboxes: u64,
    faults: u64,
}

/// Why it ends early.
enum Wrong {
    /// The kernel refuses what must work: something was left of the sandbox before.
    Kernel(Error),
    /// So many bytes were left behind.
    Leak(u64),
}

impl core::fmt::Display for Wrong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Kernel(e) => write!(f, "what must work is refused: {e:?}"),
            Self::Leak(bytes) => write!(f, "{bytes} bytes are left behind"),
        }
    }
}

impl From<Error> for Wrong {
    fn from(e: Error) -> Self {
        Self::Kernel(e)
    }
}

/// The number that the arguments give `key`.
fn argument(args: &str, key: &str) -> Option<u64> {
    let text = args.split_whitespace().find_map(|w| w.split_once('=').filter(|(k, _)| *k == key));
    text?.1.parse().ok()
}

fn main(start: &'static rt::StartInfo) -> u64 {
    let Some(own) = Own::new(start) else {
        rt::log!("the manifest entry lacks `untyped_kib`");
        return 1;
    };
    let number = |key| argument(&start.args, key);
    let (calls, from) = (number("calls").unwrap_or(CALLS), number("from").unwrap_or(0));
    let given = u64::from_le_bytes(core::array::from_fn(|i| start.seed[i])) >> 16;
    let seed = number("seed").unwrap_or(given);
    rt::log!("{calls} calls, seed={seed} from={from}");
    let mut tally = Tally::default();
    let mut said = start.now_ns();
    while tally.calls < calls {
        let n = from + tally.sandboxes;
        if let Err(why) = one(&own, seed, n, &mut tally) {
            rt::log!("FAILED: {why}; again: calls={} seed={seed} from={n}", calls - tally.calls);
            return 1;
        }
        if start.now_ns() >= said + PACE_NS {
            said = start.now_ns();
            let Tally { calls, done, faults, .. } = tally;
            rt::log!(
                "{calls} calls, {done} not refused, {faults} faults; again: seed={seed} from={n}"
            );
        }
    }
    let Tally { calls, done, sandboxes, faults } = tally;
    rt::log!(
        "done: {calls} calls, {done} not refused, {sandboxes} sandboxes, {faults} faults, nothing left"
    );
    0
}

extern "C" fn nothing(_: u64) -> u64 {
    0
}

/// A sandbox from beginning to end.
fn one(own: &Own, seed: u64, number: u64, tally: &mut Tally) -> Result<(), Wrong> {
    let before = own.left()?;
    let faults = own.make(ObjType::Endpoint, 0)?;
    let reply = own.make(ObjType::Reply, 0)?;
    let mut random = Random::new(seed ^ Random::new(number).next());
    let mut sandbox = Sandbox::new(own, faults, &mut random)?;
    for worker in &sandbox.workers {
        own.start_at(&worker.thread, worker.code, 0, 0)?;
    }
    // Gets to run when no worker can.
    let idle = own.thread(faults, 1)?;
    own.start(&idle, nothing, 0)?;
    loop {
        let got = sys::recv(faults, reply)?;
        // Workers may send here, too; nobody answers.
        if !got.info.is_fault() {
            continue;
        }
        if got.badge == idle.badge {
            // All wait or are stopped: whoever can goes on behind what it waits in.
            let running =
                sandbox.workers.iter_mut().filter_map(|w| w.go_on().then_some(())).count();
            if running == 0 {
                break;
            }
            own.start(&idle, nothing, 0)?;
            continue;
        }
        let end = got.info.method() == FaultKind::Syscall as u16 && got.words[1] == SUPERVISOR_EXIT;
        tally.faults += !end as u64;
        if let Some(worker) = sandbox.workers.iter_mut().find(|w| w.thread.badge == got.badge) {
            worker.go_on();
        }
    }
    tally.calls += sandbox.workers.iter().map(|w| w.calls()).sum::<u64>();
    tally.done += sandbox.workers.iter().map(|w| w.done()).sum::<u64>();
    tally.sandboxes += 1;
    own.reset()?;
    match own.left()? {
        left if left == before => Ok(()),
        left => Err(Wrong::Leak(before - left)),
    }
}
