//! When the kernel itself fails: registers, symbolised backtrace, and a failing exit of QEMU.

use abi::UserRegs;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use libipc::bundle::{Bundle, Symbols};
use x86_64::instructions::port::Port;

use super::{console, cpu};

/// Frames of a backtrace.
const DEPTH: usize = 24;
/// What QEMU's isa-debug-exit is told: its exit status is twice this plus one.
const EXIT_STATUS: u32 = 0x7f;

static BUNDLE: AtomicU64 = AtomicU64::new(0);
static BUNDLE_LEN: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {}

/// Tells where the boot bundle lies, whose symbols name the frames.
pub fn set_bundle(bundle: &'static [u8]) {
    BUNDLE.store(bundle.as_ptr() as u64, Relaxed);
    BUNDLE_LEN.store(bundle.len() as u64, Relaxed);
}

fn symbols() -> Option<Symbols<'static>> {
    let (base, len) = (BUNDLE.load(Relaxed), BUNDLE_LEN.load(Relaxed));
    if base == 0 {
        return None;
    }
    // SAFETY: set by `set_bundle` from a slice that lives for ever.
    let bytes = unsafe { core::slice::from_raw_parts(base as *const u8, len as usize) };
    Bundle::new(bytes)?.file("kernel")?.symbols()
}

fn line(text: fmt::Arguments<'_>) {
    console::line(text, true);
}

fn frame(index: usize, addr: u64) {
    match symbols().and_then(|s| s.lookup(addr)) {
        Some((name, offset)) => {
            line(format_args!("  #{index} {addr:#018x} {name}+{offset:#x}"));
        }
        None => line(format_args!("  #{index} {addr:#018x}")),
    }
}

/// Walks frame pointers, as long as they stay on the kernel's stacks and move up.
fn backtrace(rip: Option<u64>, mut rbp: u64) {
    line(format_args!("backtrace:"));
    let mut index = 0;
    if let Some(rip) = rip {
        frame(index, rip);
        index += 1;
    }
    while index < DEPTH && cpu::on_stack(rbp) && cpu::on_stack(rbp + 8) {
        // SAFETY: an aligned address on the kernel's stacks.
        let (next, ret) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        if ret == 0 {
            break;
        }
        frame(index, ret - 1);
        index += 1;
        if next <= rbp {
            break;
        }
        rbp = next;
    }
}

fn halt() -> ! {
    // SAFETY: ends QEMU if it has the device; harmless elsewhere.
    unsafe { Port::<u32>::new(0xf4).write(EXIT_STATUS) };
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// General registers in the order of [`NAMES`], as they are where this is expanded.
macro_rules! registers {
    () => {{
        let mut regs = [0u64; 15];
        // SAFETY: stores registers into a local.
        unsafe {
            core::arch::asm!(
                "mov [{0}], rax", "mov [{0} + 8], rbx", "mov [{0} + 16], rcx",
                "mov [{0} + 24], rdx", "mov [{0} + 32], rsi", "mov [{0} + 40], rdi",
                "mov [{0} + 48], rbp", "mov [{0} + 56], r8", "mov [{0} + 64], r9",
                "mov [{0} + 72], r10", "mov [{0} + 80], r11", "mov [{0} + 88], r12",
                "mov [{0} + 96], r13", "mov [{0} + 104], r14", "mov [{0} + 112], r15",
                in(reg) &mut regs, options(nostack),
            );
        }
        regs
    }};
}

const NAMES: [&str; 15] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

fn print_registers(regs: &[u64; 15]) {
    for (names, values) in NAMES.chunks(3).zip(regs.chunks(3)) {
        line(format_args!(
            "{:>4} {:#018x} {:>4} {:#018x} {:>4} {:#018x}",
            names[0], values[0], names[1], values[1], names[2], values[2]
        ));
    }
}

fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack)) };
    rbp
}

/// Stops the machine with a reason.
pub fn stop(reason: fmt::Arguments<'_>) -> ! {
    let regs = registers!();
    line(format_args!("\nkernel panic: {reason}"));
    print_registers(&regs);
    backtrace(None, frame_pointer());
    halt()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let regs = registers!();
    match info.location() {
        Some(at) => {
            line(format_args!("\nkernel panic: {} at {}:{}", info.message(), at.file(), at.line()));
        }
        None => line(format_args!("\nkernel panic: {}", info.message())),
    }
    let (rsp, rflags): (u64, u64);
    // SAFETY: reads registers.
    unsafe { core::arch::asm!("mov {}, rsp", "pushfq", "pop {}", out(reg) rsp, out(reg) rflags) };
    let cr3 = x86_64::registers::control::Cr3::read().0.start_address();
    line(format_args!(
        "rsp {rsp:#018x} rbp {:#018x} rflags {rflags:#x} cr2 {:#x} cr3 {cr3:#x}",
        frame_pointer(),
        cpu::fault_address()
    ));
    print_registers(&regs);
    backtrace(None, frame_pointer());
    halt()
}

/// What `trap_in_kernel` leaves on the stack.
#[repr(C)]
struct TrapFrame {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 … r15.
    regs: [u64; 15],
    vector: u64,
    code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const _: () = assert!(size_of::<UserRegs>() == 160);

/// An exception in the kernel: always a bug, since it never touches user addresses.
#[unsafe(no_mangle)]
extern "C" fn handle_kernel_fault(f: &TrapFrame) -> ! {
    line(format_args!(
        "\nkernel panic: exception {} (error code {:#x}) in ring 0",
        f.vector, f.code
    ));
    line(format_args!(
        "rip {:#018x} rsp {:#018x} rflags {:#x} cr2 {:#x}",
        f.rip,
        f.rsp,
        f.rflags,
        cpu::fault_address()
    ));
    print_registers(&f.regs);
    backtrace(Some(f.rip), f.regs[6]);
    halt()
}
