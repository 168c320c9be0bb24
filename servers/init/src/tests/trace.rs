//! The kernel's trace, as init orders it and what init adds to it.

use super::*;
use libipc::proc::{Error, Reply, Request, Trace};
use libipc::trace::{code, number};

const SH: usize = 2;

fn ask(b: &mut Booted, order: Trace) -> Result<Reply, Error> {
    b.s.request(&mut b.k, badge::request(SH), &Request::Trace(order)).expect("an answer")
}

fn traced(at_boot: bool) -> Booted {
    let mut system = system();
    system.trace = Some(spec::Trace { region: system.regions.len() as u16, at_boot });
    system.regions.push(region("trace", 4096, None, &[]));
    booted_with(&system)
}

#[test]
fn it_runs_from_start_to_stop() {
    let mut b = traced(false);
    let is = |running, written| Ok(Reply::Trace { running, written, capacity: 131_072 });
    assert_eq!(ask(&mut b, Trace::Look), is(false, 0));
    assert_eq!(ask(&mut b, Trace::Start), is(true, 0));
    b.s.request(&mut b.k, badge::request(SH), &Request::Kill(crate::report::name("drv")));
    let codes: Vec<_> = b.k.logged.iter().map(|l| (l[0] as u16, l[1] as u32)).collect();
    let (first, second) = (number(0, 0), number(0, 1));
    assert_eq!(codes, [(code::DIED, first), (code::GONE, first), (code::STARTED, second)]);
    assert_eq!(b.k.thread(b.thread(0)).number, second);
    assert_eq!(ask(&mut b, Trace::Stop), is(false, 3));
    b.s.request(&mut b.k, badge::request(SH), &Request::Stop(crate::report::name("drv")));
    assert_eq!(ask(&mut b, Trace::Look), is(false, 3));
}

#[test]
fn it_may_run_from_the_boot_on() {
    let mut b = traced(true);
    let Ok(Reply::Trace { running: true, written, .. }) = ask(&mut b, Trace::Look) else {
        panic!()
    };
    assert_eq!(written, 3, "three processes were started");
}

#[test]
fn without_memory_there_is_none() {
    let mut b = booted();
    for order in [Trace::Look, Trace::Start, Trace::Stop] {
        assert_eq!(ask(&mut b, order), Err(Error::NoTrace));
    }
}
