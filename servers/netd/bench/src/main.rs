//! The work that `cargo run -- bench stack` counts, done by netd's stack or by smoltcp.
//!
//! `stack-bench STACK CONNECTIONS TIMES` runs under callgrind, which counts the instructions between
//! [`mark::count`]'s marks and writes them, an operation a file. Without callgrind it does the same work, and
//! shows the memory that connections take.
//!
//! | module | what |
//! |---|---|
//! | `work` | the operations, and the peer on the other end of the wire |
//! | `ours`, `smol` | the two stacks behind [`work::Subject`] |
//! | `world` | memory, driver and programs |
//! | `rings` | the driver's rings as a device of smoltcp |
//! | `mark` | what is counted |

mod alloc;
#[path = "../../src/copy.rs"]
mod copy;
#[cfg(test)]
mod copy_tests;
#[allow(dead_code, reason = "shared with the tests of netd")]
#[path = "../../tests/common/frames.rs"]
mod frames;
mod mark;
mod ours;
mod rings;
mod smol;
mod work;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args.get(at).and_then(|n| n.parse().ok());
    let (Some(stack), Some(connections), Some(times)) = (args.get(1), number(2), number(3)) else {
        eprintln!(
            "usage: stack-bench ours|smoltcp CONNECTIONS TIMES; `cargo run -- bench stack` runs it"
        );
        return ExitCode::FAILURE;
    };
    let bytes = match &**stack {
        "ours" => work::run(ours::Ours::new, connections, times),
        _ => work::run(smol::Smol::new, connections, times),
    };
    println!("bytes {bytes}");
    ExitCode::SUCCESS
}
