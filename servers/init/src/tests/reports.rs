//! Reports of deaths and restarts.

use super::*;
use crate::layout::{self, signal, slot};
use libipc::proc::{Details, Error, Outcome, Reply, Report, Request, State};
use libipc::start;

const DRV: usize = 0;
const SRV: usize = 1;
const SH: usize = 2;

fn ask(b: &mut Booted, request: Request) -> Result<Reply, Error> {
    b.s.request(&mut b.k, badge::request(SH), &request).unwrap()
}

fn reports(b: &mut Booted) -> Vec<Report> {
    match ask(b, Request::Reports { from: 1 }) {
        Ok(Reply::Reports(reports)) => reports.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn details(b: &mut Booted, number: u32) -> Details {
    match ask(b, Request::Report(number)) {
        Ok(Reply::Report(details)) => details,
        other => panic!("{other:?}"),
    }
}

fn backtrace(b: &mut Booted, report: u32) -> Vec<String> {
    match ask(b, Request::Backtrace { report, skip: 0 }) {
        Ok(Reply::Backtrace(places)) => places.iter().map(|p| p.text.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Incarnation `n` of a process says that it is ready.
fn ready(b: &mut Booted, i: usize, n: u32, text: &str) {
    let page = b.log_page(i);
    b.k.outside.log(page).ready = Some((n, text.as_bytes().to_vec()));
    b.s.signals(&mut b.k, signal::log(i));
}

fn undefined(b: &mut Booted, i: usize) {
    b.fault(i, FaultKind::Undefined, [0x40_1012, 0, 0, 0]);
}

#[test]
fn a_report_has_cause_registers_backtrace_and_phases_that_add_up() {
    let mut b = booted();
    ready(&mut b, SRV, 0, "nothing to recover");
    b.printed();
    let (srv, top) = (b.thread(SRV), start::STACK_TOP);
    for (at, word) in [(64, 0), (56, 0x40_1155u64)] {
        b.k.poke(srv, top - at, &word.to_le_bytes());
    }
    b.k.run(srv, |r| (r.rip, r.rbp, r.r15) = (0x40_1012, top - 64, 0x1515));
    // The fault waits 3 us for init, which takes 1 us for each invocation.
    let died = b.k.now;
    b.k.now += 3000;
    b.k.step_ns = 1000;
    let fault = [0x40_1012, 0xdead_beef, 7, died];
    b.s.fault(&mut b.k, badge::fault(SRV), FaultKind::Page as u16, fault);
    b.k.step_ns = 0;
    assert_eq!(b.printed(), "", "it is not ready yet");
    assert_eq!(reports(&mut b)[0].outcome, Outcome::Attaching);
    b.k.now = b.s.processes[SRV].started_ns + 40_000;
    ready(&mut b, SRV, 1, "5 kept\n, 1 lost");

    let d = details(&mut b, 1);
    let r = &d.report;
    assert_eq!(reports(&mut b), *core::slice::from_ref(r));
    assert_eq!((r.name.as_str(), r.incarnation, r.at_us), ("srv", 0, died / 1000));
    assert_eq!(d.cause, "page fault at 0xdeadbeef (write), error code 0x7: forbidden there");
    assert_eq!((r.outcome, d.said.as_str()), (Outcome::Ready, "5 kept , 1 lost"));
    assert_eq!((d.regs.rip, d.regs.r15), (0x40_1012, 0x1515));
    assert_eq!(backtrace(&mut b, 1), ["0x401012 e1000d::ring::poll+0x12", "0x401155 main+0x55"]);
    let p = r.phases;
    assert_eq!((p.detect_us, p.pause_us, p.attach_us), (3, 0, Some(40)));
    assert!(p.tear_down_us > 3 && p.build_us > 20, "{p:?}");
    assert_eq!(p.downtime_us(), (b.k.now - died) / 1000);
    let printed = b.printed();
    assert!(printed.contains(&format!(", downtime {} us\n", p.downtime_us())), "{printed}");
    assert!(printed.contains("[init]   #1 0x401155 main+0x55\n"));
}

use alloc::format;

#[test]
fn who_was_killed_has_a_backtrace_in_the_report_only() {
    let mut b = booted();
    b.printed();
    let drv = b.thread(DRV);
    b.k.run(drv, |r| r.rip = 0x40_1104);
    assert_eq!(ask(&mut b, Request::Kill("drv".parse().unwrap())), Ok(Reply::Done));
    assert_eq!(b.printed(), "[init] restarted drv: killed, downtime 0 us\n");
    assert_eq!(backtrace(&mut b, 1), ["0x401104 main+0x4"]);
    assert_eq!(reports(&mut b)[0].outcome, Outcome::Started, "it never says that it is ready");
}

#[test]
fn a_successor_that_is_not_ready_is_waited_for_but_not_for_ever() {
    let mut b = booted();
    ready(&mut b, SRV, 0, "");
    b.printed();
    undefined(&mut b, SRV);
    let died = b.k.now;
    assert_eq!(b.k.deadline(slot::TIMER), Some(died + 1_000_000_000));
    b.k.now = died + 999_999_999;
    b.s.signals(&mut b.k, signal::TIMER);
    assert_eq!(b.printed(), "");
    b.k.now += 1;
    b.s.signals(&mut b.k, signal::TIMER);
    assert!(b.printed().contains(", downtime 0 us, not ready yet\n"));
    // What an earlier incarnation said does not count.
    ready(&mut b, SRV, 0, "old news");
    assert_eq!(reports(&mut b)[0].outcome, Outcome::Attaching);
    b.k.now += 500_000_000;
    ready(&mut b, SRV, 1, "at last");
    let r = &reports(&mut b)[0];
    assert_eq!((r.outcome, r.phases.downtime_us()), (Outcome::Ready, 1_500_000));
    assert_eq!(b.printed(), "", "it had its line");
}

#[test]
fn a_successor_that_dies_before_it_is_ready_has_its_own_report() {
    let mut b = booted();
    ready(&mut b, SRV, 0, "");
    b.printed();
    undefined(&mut b, SRV);
    undefined(&mut b, SRV);
    let printed = b.printed();
    assert_eq!(printed.lines().count(), 1);
    assert!(printed.ends_with(", died again before it was ready\n"), "{printed}");
    // Said, and not looked at before it died: said in time.
    let page = b.log_page(SRV);
    b.k.outside.log(page).ready = Some((2, b"quick".to_vec()));
    undefined(&mut b, SRV);
    ready(&mut b, SRV, 3, "");
    let outcomes: Vec<Outcome> = reports(&mut b).iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::DiedAgain, Outcome::Ready, Outcome::Ready]);
    assert_eq!(b.printed().lines().count(), 2);
}

#[test]
fn pauses_and_ends_are_reported_as_such() {
    let mut system = system();
    system.processes[DRV].restart = Restart::Always { max: 1, window_s: 60 };
    system.processes[SRV].restart = Restart::Never;
    let mut b = booted_with(&system);
    undefined(&mut b, SRV);
    undefined(&mut b, DRV);
    let both = reports(&mut b);
    assert_eq!((both[0].outcome, both[1].outcome), (Outcome::Ended, Outcome::Waiting));
    b.k.now += 100_000_000;
    b.s.signals(&mut b.k, layout::signal::TIMER);
    assert_eq!(b.s.processes[DRV].state, State::Running);
    let r = &reports(&mut b)[1];
    assert_eq!((r.outcome, r.phases.pause_us, r.phases.build_us), (Outcome::Started, 100_000, 0));
    for _ in 0..20 {
        if b.s.processes[DRV].state == State::Running {
            undefined(&mut b, DRV);
        }
        b.k.now += 10_000_000_000;
        b.s.signals(&mut b.k, layout::signal::TIMER);
    }
    let mut last = None;
    for from in (1..).step_by(4) {
        match ask(&mut b, Request::Reports { from }) {
            Ok(Reply::Reports(some)) if !some.is_empty() => last = some.last().cloned(),
            _ => break,
        }
    }
    assert_eq!(last.unwrap().outcome, Outcome::GivenUp);
}

#[test]
fn a_report_that_is_not_kept_is_not_found() {
    let mut b = booted();
    undefined(&mut b, DRV);
    for number in [0, 2, u32::MAX] {
        assert_eq!(ask(&mut b, Request::Report(number)), Err(Error::NotFound));
        let request = Request::Backtrace { report: number, skip: 0 };
        assert_eq!(ask(&mut b, request), Err(Error::NotFound));
    }
    for _ in 0..100 {
        b.k.now += 100_000_000;
        undefined(&mut b, DRV);
        b.printed();
    }
    assert_eq!(ask(&mut b, Request::Report(1)), Err(Error::NotFound));
    assert_eq!(reports(&mut b)[0].number, 101 - 63);
    assert!(backtrace(&mut b, 101).len() == 1);
    let request = Request::Backtrace { report: 101, skip: u32::MAX };
    assert_eq!(ask(&mut b, request), Ok(Reply::Backtrace(Default::default())));
}
