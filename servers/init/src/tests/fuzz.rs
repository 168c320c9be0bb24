//! init's main loop with everything that reaches it chosen at random: messages, faults, signals, log
//! pages, console input, time. Whatever came: no panic, no invocation
//! that the kernel would not define (the model panics), and nothing left behind.

use super::*;
use crate::layout::signal;
use ::fuzz::{Random, each};
use libipc::msg::interface;
use libipc::proc::{Crash, Reply, Request, State};
use spec::InitRights;

const STEPS: u64 = 150;
const SH: usize = 2;

fn request(r: &mut Random) -> Request {
    let names = ["drv", "srv", "sh", "late", "ghost", "nobody", ""];
    let name = crate::report::name(r.pick(&names));
    let skip = r.edge() as u32;
    match r.below(14) {
        12 => Request::Suspend(name),
        13 => Request::Resume(name),
        0 => Request::List { skip },
        1..=2 => Request::Kill(name),
        3..=4 => Request::Crash(name, r.pick(&[Crash::Panic, Crash::Pointer, Crash::Undefined])),
        5..=6 => Request::Restart(name),
        7 => Request::Reports { from: skip },
        8 => Request::Report(r.edge() as u32),
        9 => Request::Random,
        10 if r.one_in(20) => Request::PowerOff,
        _ => Request::Memory,
    }
}

fn step(r: &mut Random, b: &mut Booted) {
    let i = r.below(5) as usize;
    match r.below(12) {
        0..=4 => {
            let from = match r.below(8) {
                0 => r.edge(),
                1 => badge::request(r.below(99) as usize),
                _ => badge::request(i),
            };
            let request = request(r);
            let (info, payload) = r.message(interface::PROC, &request);
            let _ = b.s.message(&mut b.k, from, info, &payload);
        }
        5 => {
            let from = if r.one_in(3) { r.edge() } else { badge::fault(i) };
            if b.s.processes[i].is_running() {
                let thread = b.thread(i);
                let (rip, rsp, rbp, rdi) = (r.edge(), r.edge(), r.edge(), r.edge());
                let top = libipc::start::STACK_TOP;
                let near = r.one_in(2);
                b.k.run(thread, |regs| {
                    (regs.rip, regs.rdi) = (rip, rdi);
                    regs.rsp = if near { top - rsp % 4096 } else { rsp };
                    regs.rbp = if near { top - rbp % 4096 } else { rbp };
                });
            }
            let any = r.edge();
            let number = r.pick(&[abi::SUPERVISOR_EXIT, abi::SUPERVISOR_PANIC, any]);
            let words = [r.edge(), number, r.edge(), r.edge()];
            b.s.fault(&mut b.k, from, r.below(10) as u16, words);
        }
        6 => {
            let bits = if r.one_in(2) { r.word() } else { 1 << r.below(64) };
            b.s.signals(&mut b.k, bits);
        }
        7..=8 => {
            let page = b.log_page(i);
            let (text, last) = (r.bytes(3000), r.bytes(700));
            let log = b.k.outside.log(page);
            log.text.extend(text);
            log.last_words = last;
            log.dropped = r.edge() as u32;
            log.wants_room = r.one_in(2);
            b.s.signals(&mut b.k, signal::log(i));
        }
        9 => {
            let typed = r.bytes(200);
            b.k.outside.typed.extend(typed);
            b.s.signals(&mut b.k, signal::UART);
        }
        10 => b.k.outside.stuck = r.one_in(3),
        _ => {
            b.k.now += r.below(2_000_000_000);
            b.s.signals(&mut b.k, signal::TIMER);
        }
    }
    let mut turns = 0;
    while b.s.pump(&mut b.k) {
        turns += 1;
        assert!(turns < 100_000, "the console never rests");
    }
    b.k.outside.printed.clear();
}

/// Everything that must be as after boot when everybody runs again.
fn held(b: &mut Booted) -> (usize, usize, Reply) {
    let memory = b.s.request(&mut b.k, badge::request(SH), &Request::Memory);
    (b.k.root_slots(), b.k.caps(), memory.unwrap().unwrap())
}

/// Brings everybody back who runs after boot, and only them.
fn settle(b: &mut Booted) {
    b.k.outside.stuck = false;
    b.k.now += 20_000_000_000;
    b.s.signals(&mut b.k, signal::TIMER);
    b.s.off_at = None;
    for i in 0..3 {
        if b.s.processes[i].state != State::Running {
            let name = b.s.processes[i].name.clone();
            b.s.request(&mut b.k, badge::request(SH), &Request::Restart(name));
        }
        assert_eq!(b.s.processes[i].state, State::Running, "process {i}");
    }
    // One that is started by hand has been, perhaps: its memory is its own.
    if b.s.processes[3].is_running() {
        b.fault(3, FaultKind::Syscall, [0, abi::SUPERVISOR_EXIT, 0, 0]);
    }
}

fn run(r: &mut Random) {
    let mut system = system();
    // The same whichever way it ends: it is not started again.
    system.processes[3].restart = Restart::Never;
    for i in [0, 1] {
        let rights = InitRights { status: r.one_in(2), control: false, random: r.one_in(2) };
        system.processes[i].caps.push(cap("init", CapKind::Init(rights)));
    }
    let mut b = booted_with(&system);
    let before = held(&mut b);
    for _ in 0..STEPS {
        step(r, &mut b);
    }
    settle(&mut b);
    assert_eq!(held(&mut b), before);
}

#[test]
fn fuzz_messages_faults_signals_and_logs() {
    each(40, run);
}
