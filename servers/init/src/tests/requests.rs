//! Requests of processes.

use super::*;
use crate::kernel::Kernel;
use abi::{MsgInfo, ObjType};
use libipc::msg;
use libipc::permission::Permission;
use libipc::proc::{Crash, Error, Reply, Request, State};
use libipc::start;

const SH: usize = 2;

fn ask(b: &mut Booted, request: Request) -> Option<Result<Reply, Error>> {
    b.s.request(&mut b.k, badge::request(SH), &request)
}

/// Asks for a crash and waits until it has come.
fn crash(b: &mut Booted, request: Request) {
    assert_eq!(ask(b, request), Some(Ok(Reply::Done)));
    b.k.now += 3_000_000;
    b.s.signals(&mut b.k, crate::layout::signal::TIMER);
}

fn named(name: &str) -> libipc::Name {
    crate::report::name(name)
}

#[test]
fn list_pages_through_all() {
    let mut b = booted();
    b.k.now += 5_000_000;
    let Some(Ok(Reply::Processes(list))) = ask(&mut b, Request::List { skip: 0 }) else { panic!() };
    let names: Vec<&str> = list.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["drv", "srv", "sh", "late", "ghost"]);
    assert_eq!((list[0].priority, list[0].memory, list[0].uptime_us), (200, 65536, 5000));
    assert_eq!([list[0].ran_us, list[1].ran_us, list[3].ran_us], [None, Some(7000), None]);
    assert_eq!((list[3].state, list[3].memory, list[3].uptime_us), (State::Stopped, 0, 0));
    let Some(Ok(Reply::Processes(list))) = ask(&mut b, Request::List { skip: 4 }) else { panic!() };
    assert_eq!(list.len(), 1);
    for skip in [5, u32::MAX] {
        let reply = ask(&mut b, Request::List { skip });
        assert_eq!(reply, Some(Ok(Reply::Processes(Default::default()))));
    }
}

#[test]
fn arguments_are_for_one_life() {
    let mut b = booted();
    let args = Request::Start(named("srv"), "ip=10.9.0.2/24".parse().unwrap());
    assert_eq!(ask(&mut b, args), Some(Ok(Reply::Done)));
    let found = |b: &Booted, text: &str| {
        let info = b.k.peek(b.thread(1), start::START_INFO, 1024);
        info.windows(text.len()).any(|w| w == text.as_bytes())
    };
    assert!(found(&b, "ip=10.9.0.2/24"));
    assert_eq!(ask(&mut b, Request::Restart(named("srv"))), Some(Ok(Reply::Done)));
    assert!(found(&b, "dhcp") && !found(&b, "ip="));
}

#[test]
fn a_program_may_own_memory() {
    let mut system = system();
    let own = [CapKind::Untyped { bits: 21 }, CapKind::CSpace, CapKind::VSpace, CapKind::Thread];
    system.processes[SH].caps.extend(own.map(|kind| Cap { name: "own".to_string(), kind }));
    let mut b = booted_with(&system);
    let left = b.k.untyped_left(b.s.processes[SH].parts.as_ref().unwrap().slots.private);
    for _ in 0..3 {
        let caps = b.k.cspace_of(b.thread(SH));
        let types = [ObjType::Untyped, ObjType::CNode, ObjType::VSpace, ObjType::Thread];
        assert_eq!([5, 6, 7, 8].map(|slot| caps[&slot].ty), types);
        assert!(!caps.contains_key(&9));
        b.s.request(&mut b.k, badge::request(SH), &Request::Restart(named("sh")));
        let private = b.s.processes[SH].parts.as_ref().unwrap().slots.private;
        assert_eq!(b.k.untyped_left(private), left);
    }
    for bits in [20, 31] {
        system.processes[SH].caps[3].kind = CapKind::Untyped { bits };
        let mut b = booted_with(&system);
        assert!(b.printed().contains("sh not started"), "{bits}");
    }
}

#[test]
fn only_badged_callers_are_served() {
    let mut b = booted();
    for from in [0, badge::fault(0), badge::request(5), badge::request(9999), u64::MAX] {
        let reply = b.s.request(&mut b.k, from, &Request::Kill(named("drv")));
        assert_eq!(reply, Some(Err(Error::NotPermitted(Permission::InitStatus))));
    }
    assert_eq!(b.s.processes[0].starts, 1);
}

#[test]
fn who_may_only_look_is_told_what_it_lacks() {
    let mut system = system();
    system.processes[SH].caps[2].kind =
        CapKind::Init(InitRights { status: true, ..Default::default() });
    let mut b = booted_with(&system);
    b.printed();
    assert!(matches!(ask(&mut b, Request::Memory), Some(Ok(_))));
    let lacking = Some(Err(Error::NotPermitted(Permission::Init)));
    assert_eq!(ask(&mut b, Request::PowerOff), lacking);
    let line = "[init] sh may not ask that of init: `init` of program \"sh\" in the manifest is not \
                set";
    for (at, said) in [(1000, true), (1200, false), (1250, true)] {
        b.k.now = at * 1_000_000;
        let kill = postcard::to_allocvec(&Request::Kill(named("drv"))).unwrap();
        assert_eq!(message(&mut b, &kill), lacking);
        assert_eq!(b.printed().contains(line), said);
    }
    assert_eq!(b.s.processes[0].starts, 1);
}

/// A message as it comes from the endpoint.
fn message(b: &mut Booted, payload: &[u8]) -> Option<Result<Reply, Error>> {
    let info = MsgInfo::new(msg::interface::PROC, msg::VERSION, 0, payload.len());
    b.s.message(&mut b.k, badge::request(SH), info, payload)
}

#[test]
fn what_is_no_request_is_said_now_and_then() {
    let mut b = booted();
    b.printed();
    for _ in 0..10 {
        assert_eq!(message(&mut b, &[0xff; 30]), Some(Err(Error::Invalid)));
    }
    assert_eq!(b.printed(), "[init] sh sent a message that is no request\n");
}

#[test]
fn random_bytes_are_for_those_who_may_have_them() {
    let mut system = system();
    system.processes[SH].caps[2].kind =
        CapKind::Init(InitRights { random: true, ..Default::default() });
    let mut b = booted_with(&system);
    let mut all: Vec<[u8; 32]> = (0..4)
        .map(|_| match ask(&mut b, Request::Random) {
            Some(Ok(Reply::Random { bytes, sound: true })) => bytes,
            other => panic!("{other:?}"),
        })
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
    for from in [badge::request(0), badge::request(1)] {
        let reply = b.s.request(&mut b.k, from, &Request::Random);
        assert_eq!(reply, Some(Err(Error::NotPermitted(Permission::Random))));
    }
    for (request, lacking) in [
        (Request::List { skip: 0 }, Permission::InitStatus),
        (Request::Report(1), Permission::InitStatus),
        (Request::Kill(named("drv")), Permission::Init),
        (Request::PowerOff, Permission::Init),
    ] {
        assert_eq!(ask(&mut b, request), Some(Err(Error::NotPermitted(lacking))));
    }
    // The source fails: said on the console, and to whoever asks.
    b.printed();
    b.k.outside.noise.jitter = |_| 36;
    b.k.now += 60_000_000_000;
    assert!(matches!(ask(&mut b, Request::Random), Some(Ok(Reply::Random { sound: false, .. }))));
    assert!(b.printed().starts_with("[init] randomness from NONE: "));
}

#[test]
fn kill_follows_the_policy_and_restart_does_not() {
    let mut system = system();
    system.processes[1].restart = Restart::Never;
    let mut b = booted_with(&system);
    b.printed();
    assert_eq!(ask(&mut b, Request::Kill(named("drv"))), Some(Ok(Reply::Done)));
    assert_eq!(b.printed(), "[init] restarted drv: killed, downtime 0 us\n");
    assert_eq!(ask(&mut b, Request::Kill(named("srv"))), Some(Ok(Reply::Done)));
    assert_eq!(b.printed(), "[init] srv ended: killed\n");
    assert_eq!(b.s.processes[1].state, State::Failed);
    assert_eq!(ask(&mut b, Request::Kill(named("srv"))), Some(Err(Error::NotRunning)));
    assert_eq!(ask(&mut b, Request::Restart(named("srv"))), Some(Ok(Reply::Done)));
    assert_eq!(b.s.processes[1].state, State::Running);
    assert_eq!(ask(&mut b, Request::Restart(named("srv"))), Some(Ok(Reply::Done)));
    assert_eq!(b.printed(), "[init] restarted srv: restart requested, downtime 0 us\n");
    assert_eq!(ask(&mut b, Request::Restart(named("late"))), Some(Ok(Reply::Done)));
    assert_eq!(b.s.processes[3].state, State::Running);
    assert_eq!(ask(&mut b, Request::Restart(named("ghost"))), Some(Err(Error::CannotStart)));
    assert_eq!(ask(&mut b, Request::Restart(named("nobody"))), Some(Err(Error::NotFound)));
}

#[test]
fn crashing_redirects_the_thread_and_keeps_the_way_there() {
    let mut b = booted();
    b.printed();
    let (drv, top) = (b.thread(0), start::STACK_TOP);
    b.k.run(drv, |r| (r.rip, r.rsp, r.rbp) = (0x40_1042, top - 100, top - 48));
    for (at, word) in [(48, 0), (40, 0x40_1122u64)] {
        b.k.poke(drv, top - at, &word.to_le_bytes());
    }
    b.k.poke(drv, top - 248, &[0xff; 8]);
    crash(&mut b, Request::Crash(named("drv"), Crash::Undefined));
    let t = b.k.thread(drv);
    // Below the red zone, and aligned as after a call, whose return address is none.
    assert!(t.running && t.regs.rip == 0x40_1400 && t.regs.rsp == top - 248);
    assert_eq!(b.k.peek(drv, top - 248, 8), [0; 8]);

    // The function pushes its caller's frame pointer, which is 0, and crashes.
    b.k.run(drv, |r| (r.rsp, r.rbp) = (top - 256, top - 256));
    b.fault(0, FaultKind::Undefined, [0x40_1400, 0, 0, 0]);
    assert_eq!(
        b.printed(),
        "[init] restarted drv: undefined instruction, rip 0x401400 rt_crash_undefined+0x0, \
         downtime 0 us\n\
         [init]   #1 0x401042 e1000d::ring::poll+0x42\n\
         [init]   #2 0x401122 main+0x22\n"
    );
    // The next crash has nothing to do with it.
    b.fault(0, FaultKind::Undefined, [0x40_1100, 0, 0, 0]);
    assert_eq!(b.printed().lines().count(), 1);
}

#[test]
fn a_stack_pointer_that_left_the_stack_does_not_stop_a_crash() {
    for rsp in [0, 0x1000, start::STACK_TOP + 8, u64::MAX] {
        let mut b = booted();
        let drv = b.thread(0);
        b.k.run(drv, |r| r.rsp = rsp);
        crash(&mut b, Request::Crash(named("drv"), Crash::Panic));
        assert_eq!(b.k.thread(drv).regs.rsp, start::STACK_TOP - 8);
    }
}

#[test]
fn nobody_is_answered_who_ended_itself() {
    for request in [
        Request::Kill(named("sh")),
        Request::Restart(named("sh")),
        Request::Crash(named("sh"), Crash::Pointer),
    ] {
        let mut b = booted();
        assert_eq!(ask(&mut b, request), None);
    }
    let mut b = booted();
    b.s.processes[SH].file = None;
    let request = Request::Crash(named("sh"), Crash::Pointer);
    assert_eq!(ask(&mut b, request), Some(Err(Error::Invalid)));
}

#[test]
fn every_reply_fits_a_message() {
    let mut system = system();
    for p in &mut system.processes {
        p.name = "n".repeat(20) + &p.name[..2];
    }
    let more: Vec<Process> =
        (0..5).map(|i| Process { name: "m".repeat(23) + &i.to_string(), ..process("") }).collect();
    system.processes.extend(more);
    let mut b = booted_with(&system);
    let page = b.log_page(1);
    for n in 0..4 {
        b.k.now = u64::MAX / 2 - 1000 + n;
        b.k.outside.log(page).last_words = vec![b'x'; 512];
        let regs = abi::UserRegs {
            rax: u64::MAX,
            rbx: u64::MAX,
            rcx: u64::MAX,
            rdx: u64::MAX,
            rsi: u64::MAX,
            rdi: u64::MAX,
            rbp: u64::MAX,
            r8: u64::MAX,
            r9: u64::MAX,
            r10: u64::MAX,
            r11: u64::MAX,
            r12: u64::MAX,
            r13: u64::MAX,
            r14: u64::MAX,
            r15: u64::MAX,
            rip: u64::MAX,
            cs: u64::MAX,
            rflags: u64::MAX,
            rsp: u64::MAX,
            ss: u64::MAX,
        };
        let srv = b.thread(1);
        b.k.run(srv, |r| *r = regs);
        b.fault(1, FaultKind::Syscall, [u64::MAX, abi::SUPERVISOR_PANIC, 0, 0]);
        b.k.outside.log(page).ready = Some((n as u32 + 1, vec![b'y'; 96]));
        b.log(1, b"");
    }
    for request in [
        Request::List { skip: 0 },
        Request::Reports { from: 0 },
        Request::Report(4),
        Request::Backtrace { report: 4, skip: 0 },
        Request::Memory,
    ] {
        let reply = ask(&mut b, request).unwrap();
        assert!(postcard::to_allocvec(&reply).unwrap().len() <= abi::MSG_MAX);
    }
}

const OFF: &str = "[init] power off\n\
    [init] this machine did not turn itself off; it is safe to do so\n";

/// The driver ends as asked, or as it likes.
fn power_off_with(end: impl Fn(&mut Booted)) -> Booted {
    let mut b = booted();
    b.printed();
    assert_eq!(ask(&mut b, Request::PowerOff), Some(Ok(Reply::Done)));
    // Again, by someone impatient.
    assert_eq!(ask(&mut b, Request::PowerOff), Some(Ok(Reply::Done)));
    let (drv, srv) = (b.thread(0), b.thread(1));
    assert_eq!((b.k.take_signals(drv), b.k.take_signals(srv)), (start::STOP, 0));
    assert!(b.k.outside.off.is_empty(), "the driver is waited for");
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 6, "and its device does what it must");
    end(&mut b);
    assert_eq!(b.k.outside.off, [(0x604, 0x2000)]);
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 2, "no DMA");
    b
}

#[test]
fn power_off_waits_for_drivers() {
    let exit = [0x40_1012, abi::SUPERVISOR_EXIT, 0, 0];
    let mut b = power_off_with(|b| b.fault(0, FaultKind::Syscall, exit));
    assert_eq!(b.printed(), "[init] drv ended: exit status 0\n".to_string() + OFF);
    assert_eq!(b.s.processes[0].state, State::Exited(0), "whatever its policy");
    // On a machine that stays on, it can be started again.
    let restart = Request::Restart(named("drv"));
    assert_eq!(ask(&mut b, restart), Some(Ok(Reply::Done)));
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 6);
}

#[test]
fn power_off_does_not_wait_for_a_dead_or_a_slow_driver() {
    let undefined = [0x40_1012, 0, 0, 0];
    let mut b = power_off_with(|b| b.fault(0, FaultKind::Undefined, undefined));
    assert_eq!(b.s.processes[0].state, State::Failed);
    assert!(b.printed().starts_with("[init] drv ended: undefined instruction"));

    let mut b = power_off_with(|b| {
        // Others live and die meanwhile.
        b.fault(1, FaultKind::Undefined, undefined);
        b.k.now += 299_000_000;
        b.s.signals(&mut b.k, crate::layout::signal::TIMER);
        assert!(b.s.processes[1].is_running() && b.k.outside.off.is_empty());
        b.k.now += 1_000_000;
        b.s.signals(&mut b.k, crate::layout::signal::TIMER);
    });
    assert!(b.printed().contains("[init] drv did not stop in time\n[init] power off\n"));
}

#[test]
fn power_off_without_drivers_is_at_once() {
    let mut b = booted();
    assert_eq!(ask(&mut b, Request::Kill(named("drv"))), Some(Ok(Reply::Done)));
    b.s.processes[0].parts = None;
    b.printed();
    assert_eq!(ask(&mut b, Request::PowerOff), Some(Ok(Reply::Done)));
    assert_eq!(b.k.outside.off, [(0x604, 0x2000)]);
    assert_eq!(b.printed(), OFF);
}

fn driver_exits(b: &mut Booted) {
    let drv = b.thread(0);
    b.k.run(drv, |r| r.rdi = 0);
    b.fault(0, FaultKind::Syscall, [0x40_1012, abi::SUPERVISOR_EXIT, 0, 0]);
}

#[test]
fn a_driver_rests_with_its_device_and_is_woken() {
    let mut b = booted();
    b.printed();
    let drv = named("drv");
    assert_eq!(ask(&mut b, Request::Suspend(drv.clone())), Some(Ok(Reply::Done)));
    let thread = b.thread(0);
    assert_eq!(b.k.take_signals(thread), start::SUSPEND);
    assert_eq!(b.k.outside.pci[&(NIC | 4)], 6, "until it has done what it must");
    driver_exits(&mut b);
    assert_eq!(b.printed(), "[init] drv suspended\n");
    assert_eq!((b.s.processes[0].state, b.k.outside.pci[&(NIC | 4)]), (State::Suspended, 2));
    let reports = ask(&mut b, Request::Reports { from: 1 });
    assert_eq!(reports, Some(Ok(Reply::Reports(Default::default()))), "nothing has died");
    assert_eq!(ask(&mut b, Request::Suspend(drv.clone())), Some(Ok(Reply::Done)));
    assert_eq!(ask(&mut b, Request::Kill(drv.clone())), Some(Err(Error::NotRunning)));
    // Nothing happens by itself.
    b.k.now += 100_000_000_000;
    b.s.signals(&mut b.k, crate::layout::signal::TIMER);
    assert_eq!(b.s.processes[0].state, State::Suspended);
    assert_eq!(ask(&mut b, Request::Resume(drv.clone())), Some(Ok(Reply::Done)));
    assert_eq!((b.s.processes[0].state, b.k.outside.pci[&(NIC | 4)]), (State::Running, 6));
    assert_eq!(b.printed(), "[init] drv resumed\n");
    // A crash later is a crash.
    b.fault(0, FaultKind::Undefined, [0x40_1012, 0, 0, 0]);
    assert_eq!(b.s.processes[0].state, State::Running);

    for request in [Request::Suspend(named("srv")), Request::Resume(named("srv"))] {
        assert_eq!(ask(&mut b, request), Some(Err(Error::NoDevice)));
    }
}

#[test]
fn a_driver_that_does_not_rest_is_laid_to_rest() {
    for crashes in [false, true] {
        let mut b = booted();
        b.printed();
        assert_eq!(ask(&mut b, Request::Suspend(named("drv"))), Some(Ok(Reply::Done)));
        b.k.now += 299_999_999;
        b.s.signals(&mut b.k, crate::layout::signal::TIMER);
        assert_eq!(b.s.processes[0].state, State::Running);
        if crashes {
            b.fault(0, FaultKind::Undefined, [0x40_1012, 0, 0, 0]);
        } else {
            b.k.now += 1;
            b.s.signals(&mut b.k, crate::layout::signal::TIMER);
        }
        let printed = b.printed();
        assert!(printed.contains("; suspended\n"), "{printed}");
        assert_eq!(printed.contains("did not rest in time"), !crashes);
        assert_eq!((b.s.processes[0].state, b.k.outside.pci[&(NIC | 4)]), (State::Suspended, 2));
        let restart = Request::Restart(named("drv"));
        assert_eq!(ask(&mut b, restart), Some(Ok(Reply::Done)));
        assert_eq!((b.s.processes[0].state, b.k.outside.pci[&(NIC | 4)]), (State::Running, 6));
    }
}

#[test]
fn a_driver_that_is_woken_before_it_rests_goes_on() {
    let mut b = booted();
    ask(&mut b, Request::Suspend(named("drv")));
    assert_eq!(ask(&mut b, Request::Resume(named("drv"))), Some(Ok(Reply::Done)));
    driver_exits(&mut b);
    assert_eq!((b.s.processes[0].state, b.k.outside.pci[&(NIC | 4)]), (State::Running, 6));
    // The machine goes off while one rests.
    ask(&mut b, Request::Suspend(named("drv")));
    driver_exits(&mut b);
    assert_eq!(ask(&mut b, Request::PowerOff), Some(Ok(Reply::Done)));
    assert_eq!(b.k.outside.off, [(0x604, 0x2000)]);
}

#[test]
fn a_server_that_stays_down_is_out_of_service() {
    let mut b = booted();
    assert_eq!(b.k.take_closed(), 0);
    // Restarted at once: calls wait for the next one.
    assert_eq!(ask(&mut b, Request::Kill(named("srv"))), Some(Ok(Reply::Done)));
    assert_eq!(b.k.take_closed(), 0);
    assert_eq!(ask(&mut b, Request::Stop(named("srv"))), Some(Ok(Reply::Done)));
    assert_eq!((b.s.processes[1].state, b.k.take_closed()), (State::Failed, 1));
    assert_eq!(ask(&mut b, Request::Stop(named("srv"))), Some(Err(Error::NotRunning)));
    assert_eq!(ask(&mut b, Request::Restart(named("srv"))), Some(Ok(Reply::Done)));
    assert_eq!((b.s.processes[1].state, b.k.take_closed()), (State::Running, 0));
    // Who answers no calls has nothing to close.
    assert_eq!(ask(&mut b, Request::Stop(named("drv"))), Some(Ok(Reply::Done)));
    assert_eq!(b.k.take_closed(), 0);

    let mut system = system();
    system.processes[1].autostart = false;
    assert_eq!(booted_with(&system).k.take_closed(), 1, "not started yet");
    system.processes[1].file = "missing".to_string();
    assert_eq!(booted_with(&system).k.take_closed(), 1, "cannot be built");
}
