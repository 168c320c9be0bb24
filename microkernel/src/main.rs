//! The kernel binary: sets the processor up, starts the root task, and then only
//! answers system calls, faults and interrupts.
#![no_std]
#![no_main]

extern crate rt_mem;

mod arch;

use abi::FaultKind;
use arch::lock::BigLock;
use arch::{Machine, apic, console, cpu, panic};
use microkernel::fastpath::Handover;
use microkernel::thread::Tcb;
use microkernel::{Kernel, Obj};

/// The kernel's state, and the lock that every entry takes. It is the only lock held while it is
/// held, but for the console's.
static KERNEL: BigLock<Kernel<Machine>> = BigLock::new(Kernel::new(Machine::new()));

/// Called by the entry code for a call by `t`, whose registers have been saved.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_call(cptr: u64, info: u64, t: Obj<Tcb>) -> Handover {
    let k = &mut *KERNEL.lock();
    k.fast_call(t, cptr, info).unwrap_or_else(|| Handover::resume(slow_syscall(k, t)))
}

/// The same for a reply followed by a receive.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_reply_recv(cptr: u64, info: u64, t: Obj<Tcb>, reply: u64) -> Handover {
    let k = &mut *KERNEL.lock();
    let done = k.fast_reply_recv(t, cptr, info, reply);
    done.unwrap_or_else(|| Handover::resume(slow_syscall(k, t)))
}

/// The same for all other system calls: each common one has a function of its own, which returns who
/// runs; `None`: nobody.
#[unsafe(no_mangle)]
extern "C" fn handle_slow(_: u64, _: u64, t: Obj<Tcb>) -> Option<Obj<Tcb>> {
    slow_syscall(&mut KERNEL.lock(), t)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_signal(cptr: u64, _: u64, t: Obj<Tcb>) -> Option<Obj<Tcb>> {
    enter_syscall(t, |k| k.fast_signal(t, cptr))
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_recv(cptr: u64, _: u64, t: Obj<Tcb>, reply: u64) -> Option<Obj<Tcb>> {
    enter_syscall(t, |k| k.fast_recv(t, cptr, reply))
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_signal_wait(cptr: u64, _: u64, t: Obj<Tcb>, own: u64) -> Option<Obj<Tcb>> {
    enter_syscall(t, |k| k.fast_signal_wait(t, cptr, own))
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_ack_wait(cptr: u64, _: u64, t: Obj<Tcb>, own: u64) -> Option<Obj<Tcb>> {
    enter_syscall(t, |k| k.fast_ack_wait(t, cptr, own))
}

#[inline(always)]
fn enter_syscall(
    t: Obj<Tcb>,
    fast: impl FnOnce(&mut Kernel<Machine>) -> Option<()>,
) -> Option<Obj<Tcb>> {
    let k = &mut *KERNEL.lock();
    // While a trace runs, the general path does it, and records it.
    if !k.cpu.tracing && fast(k).is_some() { k.settle() } else { slow_syscall(k, t) }
}

#[inline(never)]
fn slow_syscall(k: &mut Kernel<Machine>, t: Obj<Tcb>) -> Option<Obj<Tcb>> {
    if k.syscall(t).is_err() {
        unhandled(k, t);
    }
    k.schedule()
}

/// Called by the entry code for an exception in the running thread `t`, whose registers have been saved.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_exception(vector: u64, code: u64, t: Obj<Tcb>) -> Option<Obj<Tcb>> {
    let k = &mut *KERNEL.lock();
    cpu::keep_rip_canonical(&t);
    let (kind, addr, code) = match vector {
        0 => (FaultKind::Divide, 0, code),
        2 | 8 | 18 => panic::stop(format_args!("exception {vector} in user mode")),
        6 => (FaultKind::Undefined, 0, code),
        10..=13 => (FaultKind::Protection, 0, code),
        14 => (FaultKind::Page, cpu::fault_address(), code),
        _ => (FaultKind::Other, 0, vector),
    };
    if k.fast_fault(t, kind, addr, code).is_some() {
        return k.settle();
    }
    slow_fault(k, t, kind, addr, code)
}

#[inline(never)]
fn slow_fault(
    k: &mut Kernel<Machine>,
    t: Obj<Tcb>,
    kind: FaultKind,
    addr: u64,
    code: u64,
) -> Option<Obj<Tcb>> {
    if k.fault(t, kind, addr, code).is_err() {
        unhandled(k, t);
    }
    k.schedule()
}

/// Called by the entry code for an interrupt, in user mode or while idle.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.hot")]
extern "C" fn handle_interrupt(vector: u64) -> Option<Obj<Tcb>> {
    let k = &mut *KERNEL.lock();
    if let Some(t) = &k.cpu.current {
        cpu::keep_rip_canonical(t);
    }
    if vector == apic::SPURIOUS {
        return k.settle();
    }
    match apic::gsi_of(vector) {
        Some(gsi) => {
            // The line is masked before its interrupt ends: it would come again else.
            k.irq_fired(gsi);
            apic::end_of_interrupt();
            k.settle()
        }
        None => {
            apic::end_of_interrupt();
            k.timer_interrupt();
            k.schedule()
        }
    }
}

/// A thread without a fault endpoint faulted: it stays stopped. For the root task that is the end.
fn unhandled(k: &Kernel<Machine>, t: Obj<Tcb>) {
    if k.root != Some(t) {
        return;
    }
    let regs = t.regs.get();
    let name = t.name_bytes();
    let name = core::str::from_utf8(&name).unwrap_or("?").trim_end_matches('\0');
    panic::stop(format_args!(
        "thread '{name}' faulted and nobody handles it: rip {:#x} rsp {:#x} cr2 {:#x}",
        regs.rip,
        regs.rsp,
        cpu::fault_address()
    ));
}

/// Called by the boot code on the kernel's stack, with the throw-away page tables.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(magic: u32, info: u64, moved: u64) -> ! {
    console::init();
    let boot = arch::boot::start(magic, info, moved);
    if boot.panic_test {
        panic_test(info);
    }
    let current = {
        let mut kernel = KERNEL.lock();
        kernel.hw.set_clock(boot.clock);
        kernel.secret = cpu::draw();
        arch::root::create(&mut kernel, boot);
        kernel.schedule()
    };
    cpu::enter_user(current.expect("the root task was just started"))
}

/// What `-append panic-test` asks for: shows that a kernel panic is reported and stops the machine.
#[inline(never)]
fn panic_test(depth: u64) -> ! {
    panic!("panic-test was asked for on the command line (start info {depth:#x})");
}
