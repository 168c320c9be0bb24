//! Deaths and restarts.

use super::*;
use crate::kernel::Kernel;
use crate::layout::{self, slot};
use abi::{SUPERVISOR_EXIT, SUPERVISOR_PANIC};
use libipc::proc::{Reply, Request, State};
use libipc::start;

const DRV: usize = 0;
const SRV: usize = 1;
const SH: usize = 2;

/// Everything that a restart must not change: slots, capabilities, free bytes.
fn held(b: &mut Booted) -> (usize, usize, Reply) {
    let memory = b.s.request(&mut b.k, badge::request(SH), &Request::Memory);
    (b.k.root_slots(), b.k.caps(), memory.unwrap().unwrap())
}

/// Lets the process write to a wild pointer at 0x40_1012, 812 µs before its successor runs.
fn wild_pointer(b: &mut Booted, i: usize) {
    let thread = b.thread(i);
    b.k.run(thread, |r| (r.rip, r.rsp, r.rbp) = (0x40_1012, start::STACK_TOP - 64, 0));
    b.fault(i, FaultKind::Page, [0x40_1012, 0xdead_beef, 6, 0]);
}

#[test]
fn a_wild_pointer_is_reported_and_the_process_starts_again() {
    let mut b = booted();
    b.printed();
    let before = held(&mut b);
    let drv = b.thread(DRV);
    b.k.poke(drv, 0x40_3000, b"corrupted");
    b.k.poke(drv, start::REGIONS + start::REGION_STRIDE, b"kept");
    // A stack of three frames: the faulting one, its caller, _start.
    let top = start::STACK_TOP;
    for (at, word) in [(64, top - 32), (56, 0x40_1155), (32, 0), (24, 0x40_1005)] {
        b.k.poke(drv, top - at, &word.to_le_bytes());
    }
    b.k.run(drv, |r| (r.rip, r.rbp) = (0x40_1012, top - 64));
    b.k.step_ns = 1000;
    b.fault(DRV, FaultKind::Page, [0x40_1012, 0xdead_beef, 6, top - 64]);
    b.k.step_ns = 0;

    let printed = b.printed();
    let mut lines = printed.lines();
    let line = lines.next().unwrap();
    let text = "[init] restarted drv: page fault at 0xdeadbeef (write), \
        rip 0x401012 e1000d::ring::poll+0x12, downtime ";
    let us = line.strip_prefix(text).unwrap().strip_suffix(" us").unwrap();
    // The model takes a microsecond for each invocation.
    assert!((30..500).contains(&us.parse::<u32>().unwrap()), "{us}");
    let rest: Vec<&str> = lines.collect();
    assert_eq!(
        rest,
        ["[init]   #1 0x401155 main+0x55", "[init]   #2 0x401005 e1000d::ring::poll+0x5",]
    );

    let drv = b.thread(DRV);
    assert!(b.k.thread(drv).running);
    assert_eq!(b.k.peek(drv, 0x40_3000, 12), b"data of prog");
    assert_eq!(b.k.peek(drv, start::REGIONS + start::REGION_STRIDE, 4), b"kept");
    assert_eq!(b.k.peek(drv, top - 64, 8), [0; 8]);
    assert_eq!(held(&mut b), before);
    // The server was told.
    let srv = b.thread(SRV);
    assert_eq!(b.k.take_signals(srv), 1 << 40);
    // QEMU's device went on as it was.
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 6);
}

#[test]
fn a_thousand_restarts_change_nothing() {
    let mut b = booted();
    let before = held(&mut b);
    for n in 0..1000u64 {
        let i = [DRV, SRV, SH][n as usize % 3];
        b.k.now += 100_000_000;
        match n % 4 {
            0 => wild_pointer(&mut b, i),
            1 => b.fault(i, FaultKind::Undefined, [0x40_1000, 0, 0, 0]),
            2 => b.fault(i, FaultKind::Syscall, [0x40_1000, SUPERVISOR_EXIT, 0, 0]),
            _ => {
                let name = b.s.processes[i].name.clone();
                b.s.request(&mut b.k, badge::request(SH), &Request::Kill(name));
            }
        }
        assert_eq!(b.s.processes[i].state, State::Running);
        b.printed();
    }
    assert_eq!(held(&mut b), before);
    assert_eq!(b.s.processes[DRV].starts, 335);
}

#[test]
fn panics_tell_what_they_said_and_exits_their_status() {
    let mut b = booted();
    b.printed();
    let page = b.log_page(SRV);
    b.k.outside.log(page).last_words = b"no route at netd/src/ip.rs:7".to_vec();
    b.fault(SRV, FaultKind::Syscall, [0x40_1012, SUPERVISOR_PANIC, 0, 0]);
    let printed = b.printed();
    let first = printed.lines().next().unwrap();
    let text = "[init] restarted srv: panic 'no route at netd/src/ip.rs:7', downtime 0 us";
    assert_eq!(first, text);
    let thread = b.thread(SRV);
    b.k.run(thread, |r| r.rdi = 3);
    b.fault(SRV, FaultKind::Syscall, [0x40_1012, SUPERVISOR_EXIT, 0, 0]);
    assert_eq!(b.printed(), "[init] restarted srv: exit status 3, downtime 0 us\n");
}

#[test]
fn an_exit_ends_a_process_whose_policy_is_so() {
    let mut system = system();
    system.processes[1].restart = Restart::OnCrash { max: 0, window_s: 0 };
    let mut b = booted_with(&system);
    b.printed();
    let before = held(&mut b);
    b.fault(SRV, FaultKind::Syscall, [0x40_1012, SUPERVISOR_EXIT, 0, 0]);
    assert_eq!(b.printed(), "[init] srv ended: exit status 0\n");
    assert_eq!(b.s.processes[SRV].state, State::Exited(0));
    let after = held(&mut b);
    assert!(after.0 < before.0);
    let restart = Request::Restart(b.s.processes[SRV].name.clone());
    assert_eq!(b.s.request(&mut b.k, badge::request(SH), &restart), Some(Ok(Reply::Done)));
    assert_eq!(held(&mut b), before);
}

#[test]
fn a_crash_loop_backs_off_and_is_given_up_loudly() {
    let mut system = system();
    system.processes[0].restart = Restart::Always { max: 2, window_s: 60 };
    let mut b = booted_with(&system);
    b.printed();
    let mut all = String::new();
    for _ in 0..20 {
        match b.s.processes[DRV].state {
            State::Running => wild_pointer(&mut b, DRV),
            State::Restarting => {
                let due = b.k.deadline(slot::TIMER).unwrap();
                // Too early: nothing happens, and the timer is armed again.
                b.k.now = due - 1;
                b.s.signals(&mut b.k, layout::signal::TIMER);
                assert_eq!(b.s.processes[DRV].state, State::Restarting);
                b.k.now = due;
                b.s.signals(&mut b.k, layout::signal::TIMER);
            }
            _ => break,
        }
        all += &b.printed();
    }
    let lines: Vec<&str> = all.lines().collect();
    let cause =
        "page fault at 0xdeadbeef (write), rip 0x401012 e1000d::ring::poll+0x12".to_string();
    assert_eq!(lines[0], "[init] restarted drv: ".to_string() + &cause + ", downtime 0 us");
    let pause = "; 2 starts in a short time, next one in 100 ms";
    assert_eq!(lines[1], "[init] drv ended: ".to_string() + &cause + pause);
    let restarted = "[init] restarted drv: ".to_string() + &cause;
    assert_eq!(lines[2], restarted + ", downtime 100000 us");
    let given_up = "; GIVEN UP after 8 pauses: it stays down until it is restarted by hand";
    assert_eq!(*lines.last().unwrap(), "[init] drv ended: ".to_string() + &cause + given_up);
    assert_eq!(b.s.processes[DRV].state, State::Failed);
    // A device without a driver is silent.
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 2);
}

#[test]
fn a_real_device_is_stopped_before_its_driver_restarts() {
    let mut k = machine();
    k.outside.pci.insert(NIC | 0x2c, 0x1234_8086);
    let mut b = try_boot(k, &system()).unwrap();
    b.s.start_all(&mut b.k);
    b.k.outside.pci_writes.clear();
    wild_pointer(&mut b, DRV);
    let commands: Vec<u32> =
        b.k.outside.pci_writes.iter().filter(|(at, _)| *at == NIC | 4).map(|(_, v)| *v).collect();
    assert_eq!(commands, [2, 6]);
}

#[test]
fn a_start_that_the_kernel_refuses_leaves_nothing_behind() {
    let mut b = booted();
    let before = held(&mut b);
    let invocations = |b: &mut Booted| {
        let from = b.k.invocations;
        wild_pointer(b, DRV);
        b.k.invocations - from
    };
    let count = invocations(&mut b);
    for n in 1..=count {
        b.k.fail_at = Some(b.k.invocations + n);
        wild_pointer(&mut b, DRV);
        b.k.fail_at = None;
        let restart = Request::Restart(b.s.processes[DRV].name.clone());
        b.s.request(&mut b.k, badge::request(SH), &restart);
        assert_eq!(b.s.processes[DRV].state, State::Running, "after failure {n}");
        assert_eq!(held(&mut b), before, "after failure {n}");
        b.printed();
    }
}

#[test]
fn faults_of_nobody_are_ignored() {
    let mut b = booted();
    b.printed();
    for from in [0, 4, 5, 99, badge::request(0), u64::MAX] {
        b.s.fault(&mut b.k, from, 1, [0; 4]);
    }
    assert_eq!(b.printed(), "");
}

#[test]
fn a_stack_overflow_is_called_so() {
    let mut b = booted();
    b.printed();
    let below = start::STACK_TOP - 16 * 1024 - 8;
    let srv = b.thread(SRV);
    b.k.run(srv, |r| r.rip = 0x40_1200);
    b.fault(SRV, FaultKind::Page, [0x40_1200, below, 6, below]);
    let printed = b.printed();
    assert!(printed.contains("(write, stack overflow), rip 0x401200 rt_crash_panic+0x0,"));
    assert_eq!(b.k.now_ns(), b.k.now);
}

#[test]
fn budgets_that_end_again_and_again_are_told_and_the_process_goes_on() {
    let mut b = booted();
    let thread = b.thread(SRV);
    assert!(b.k.thread(thread).tells_timeouts);
    b.printed();
    let spend = |b: &mut Booted, times: u64, pause: u64| {
        for _ in 0..times {
            assert!(b.told(SRV, FaultKind::Budget, [0x40_1012, 4_000_000, 0, 0]), "it goes on");
            b.k.now += pause;
        }
        b.printed()
    };
    assert_eq!(spend(&mut b, 1000, 40_000_000), "", "now and then");
    let line =
        "[init] srv uses up its 4000 us of 10000 us again and again: it spins, or has too little\n";
    assert_eq!(spend(&mut b, 150, 10_000_000), line);
    assert_eq!(spend(&mut b, 2000, 10_000_000), [line, line].concat());
    assert_eq!(b.thread(SRV), thread, "it was not restarted");
    // One that has lost its context cannot go on.
    b.fault(SRV, FaultKind::Budget, [0x40_1012, 0, abi::NO_CONTEXT, 0]);
    assert!(b.printed().contains("restarted srv: no scheduling context"));
}
