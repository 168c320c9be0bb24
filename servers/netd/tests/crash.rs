//! netd dies at random points, before and after any store that others see, and conversations go on
//! as if nothing had happened.

mod common;

use common::net::Weather;
use common::talk::{converse, world};

/// Crash points are counted in a process-wide variable: one test at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn quietly<T>(f: impl FnOnce() -> T) -> T {
    let old = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let planned = info.payload().downcast_ref::<&str>().is_some_and(|s| *s == "planned crash");
        if !planned {
            old(info);
        }
    }));
    f()
}

#[test]
fn streams_survive_crashes_anywhere() {
    let _alone = ALONE.lock();
    quietly(|| {
        let mut crashes = 0;
        let only = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
        for seed in only.map_or(0..200, |s: u64| s..s + 1) {
            print!("seed {seed}: ");
            let weather = if seed % 2 == 0 { Weather::FINE } else { Weather::BAD };
            let mut net = world(weather, seed, true);
            converse(&mut net, 40_000, 80_000, seed, |net, talk| {
                let busy = talk.server.is_some();
                netd::crash::cancel();
                if busy && net.rng.chance(300) {
                    netd::crash::plan(net.rng.below(60) as i64);
                }
            });
            netd::crash::cancel();
            crashes += net.hosts.iter().map(|h| h.crashes).sum::<u64>();
        }
        assert!(crashes > 1000, "{crashes} crashes");
    });
}
