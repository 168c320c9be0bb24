//! The root task: system calls and mapped memory for the library.
#![no_std]
#![no_main]

use abi::{BootInfo, CPtr, Error, Label, MsgInfo, UserRegs, init_map, ipc_buffer};
use core::sync::atomic::Ordering::Relaxed;
use init::boot::{Machine, boot};
use init::console::last_words;
use init::kernel::Kernel;
use init::layout::{slot, window};
use init::noise::Instruction;
use libipc::bundle::Bundle;
use libipc::log::{LogPage, PANIC, READY};
use libipc::{msg, sys};

/// Bytes of heap: the system description and what is made of it. Nothing allocates after boot.
const HEAP: usize = 1 << 20;

/// Words of memory that [`Native::jitter`] works on: as much as a first-level cache holds.
const WORDS: usize = 4096;

/// The kernel, init's windows, and the processor.
struct Native {
    clock: abi::Clock,
    /// The memory, and where the last work on it ended.
    work: &'static mut [u64],
    at: u64,
}

/// The log page at a window's address.
fn log_page(vaddr: u64) -> &'static LogPage {
    assert!((window::CONSOLE..window::STARTS).contains(&vaddr) && vaddr.is_multiple_of(4096));
    // SAFETY: `boot` maps a frame at each window that is used, for good; the page is all atomics,
    // for which any bytes are valid.
    unsafe { &*(vaddr as *const LogPage) }
}

/// Checks that a range lies in the windows.
fn in_windows(vaddr: u64, len: usize) {
    assert!(vaddr >= window::SCRATCH && vaddr + len as u64 <= window::END);
}

impl Kernel for Native {
    fn invoke(
        &mut self,
        cap: CPtr,
        label: Label,
        words: [u64; 4],
        more: [u64; 2],
    ) -> Result<[u64; 4], Error> {
        sys::invoke(cap, label, words, more).map(|r| r.words)
    }
    fn signal(&mut self, ntfn: CPtr) {
        sys::signal(ntfn);
    }
    fn registers(&mut self) -> UserRegs {
        let at = init_map::IPC_BUFFER as usize + ipc_buffer::REGS;
        // SAFETY: the kernel mapped init's IPC buffer there; registers are plain numbers.
        unsafe { (at as *const UserRegs).read_volatile() }
    }
    fn now_ns(&self) -> u64 {
        self.clock.ns(sys::rdtsc())
    }
    fn random_instruction(&self) -> Option<Instruction> {
        use core::arch::x86_64::{__cpuid, __cpuid_count};
        // CPUID, Intel SDM volume 2: leaf 7 EBX bit 18, leaf 1 ECX bit 30.
        let rdseed = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx >> 18 & 1 != 0;
        let rdrand = __cpuid(1).ecx >> 30 & 1 != 0;
        match rdseed {
            true => Some(Instruction::Rdseed),
            false => rdrand.then_some(Instruction::Rdrand),
        }
    }
    fn random_word(&mut self, instruction: Instruction) -> Option<u64> {
        let (value, valid): (u64, u8);
        // SAFETY: `random_instruction` found it; it changes a register and the flags.
        unsafe {
            match instruction {
                Instruction::Rdseed => core::arch::asm!(
                    "rdseed {}", "setc {}", out(reg) value, out(reg_byte) valid,
                    options(nomem, nostack)
                ),
                Instruction::Rdrand => core::arch::asm!(
                    "rdrand {}", "setc {}", out(reg) value, out(reg_byte) valid,
                    options(nomem, nostack)
                ),
            }
        }
        (valid != 0).then_some(value)
    }
    fn jitter(&mut self) -> u64 {
        let before = sys::rdtsc();
        for _ in 0..32 {
            // Where it goes depends on where it was and on when (Knuth's multiplier).
            self.at = (self.at ^ before).wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(23);
            let at = self.at as usize % self.work.len().max(1);
            if let Some(word) = self.work.get_mut(at) {
                // The work is done although nobody reads the result.
                *word = core::hint::black_box(*word ^ self.at);
            }
        }
        sys::rdtsc().wrapping_sub(before)
    }
    fn write(&mut self, vaddr: u64, bytes: &[u8]) {
        in_windows(vaddr, bytes.len());
        // SAFETY: callers map the window before; no reference into the windows exists but to log
        // pages, which are all atomics.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), vaddr as *mut u8, bytes.len()) }
    }
    fn read(&mut self, vaddr: u64, into: &mut [u8]) {
        in_windows(vaddr, into.len());
        // SAFETY: as in `write`.
        unsafe { core::ptr::copy_nonoverlapping(vaddr as *const u8, into.as_mut_ptr(), into.len()) }
    }
    fn log_read(&mut self, vaddr: u64, into: &mut [u8]) -> usize {
        log_page(vaddr).read(into)
    }
    fn log_panic(&mut self, vaddr: u64, into: &mut [u8; PANIC]) -> usize {
        log_page(vaddr).take_panic(into)
    }
    fn log_ready(&mut self, vaddr: u64, incarnation: u32, into: &mut [u8; READY]) -> Option<usize> {
        log_page(vaddr).ready(incarnation, into)
    }
    fn log_dropped(&mut self, vaddr: u64) -> u32 {
        log_page(vaddr).dropped.load(Relaxed)
    }
    fn log_wants_room(&mut self, vaddr: u64) -> bool {
        log_page(vaddr).want_room.swap(0, Relaxed) != 0
    }
    fn log_write(&mut self, vaddr: u64, bytes: &[u8]) -> usize {
        log_page(vaddr).write(bytes)
    }
}

/// What the kernel left: checked, since everything else follows from it.
fn machine() -> Machine<'static> {
    // SAFETY: the kernel maps it here, read-only, for good.
    let info = unsafe { &*(init_map::BOOT_INFO as *const BootInfo) };
    assert!(info.magic == BootInfo::MAGIC, "boot information of another kernel");
    let len = info.bundle_len as usize;
    // SAFETY: likewise.
    let bytes = unsafe { core::slice::from_raw_parts(init_map::BUNDLE as *const u8, len) };
    let count = (info.untyped_count as usize).min(info.untyped.len());
    Machine {
        bundle: Bundle::new(bytes).expect("boot bundle"),
        clock: info.clock,
        iommu: info.dma_levels != 0,
        untypeds: &info.untyped[..count],
        isa: info.isa,
        power: info.power,
        ram: info.ram,
    }
}

#[unsafe(no_mangle)]
fn program_start() -> ! {
    static mut MEMORY: [u8; HEAP] = [0; HEAP];
    // SAFETY: runs once, and nothing else names this array.
    unsafe { rt::set_heap((&raw mut MEMORY).cast(), HEAP) };
    let machine = machine();
    static mut WORK: [u64; WORDS] = [0; WORDS];
    let work = &raw mut WORK;
    // SAFETY: as above.
    let work: &'static mut [u64] = unsafe { &mut *work };
    let mut k = Native { clock: machine.clock, work, at: 0 };
    let mut supervisor = match boot(&mut k, machine) {
        Ok(supervisor) => supervisor,
        Err(e) => fail(&mut k, &e),
    };
    supervisor.start_all(&mut k);
    loop {
        // With output left, other work is only looked at; else it is waited for.
        let got = match supervisor.pump(&mut k) {
            true => sys::nb_recv(slot::ENDPOINT, slot::REPLY),
            false => sys::recv(slot::ENDPOINT, slot::REPLY),
        };
        let Ok(got) = got else { continue };
        if got.info.is_signal() {
            supervisor.signals(&mut k, got.badge);
        } else if got.info.is_fault() {
            if supervisor.fault(&mut k, got.badge, got.info.method(), got.words) {
                let _ = sys::reply(slot::REPLY, MsgInfo(0), [0; 4]);
            }
        } else {
            let mut bytes = [0; abi::MSG_MAX];
            let payload = msg::take(got.info, &mut bytes);
            if let Some(answer) = supervisor.message(&mut k, got.badge, got.info, payload) {
                let info = msg::encode(msg::interface::PROC, &answer);
                let _ = sys::reply(slot::REPLY, info, [0; 4]);
            }
        }
    }
}

/// Nobody is left to restart init: the machine ends here, or stands still.
fn fail(k: &mut Native, why: &dyn core::fmt::Display) -> ! {
    last_words(k, why);
    sys::exit(1)
}

#[unsafe(no_mangle)]
fn program_panic(info: &core::panic::PanicInfo) -> ! {
    fail(&mut Native { clock: abi::Clock::default(), work: &mut [], at: 0 }, info)
}
