//! The root task: system calls and mapped memory for the library.
#![no_std]
#![no_main]

use abi::{BootInfo, CPtr, Error, Label, UserRegs, init_map, ipc_buffer};
use core::sync::atomic::Ordering::Relaxed;
use init::boot::{Machine, boot};
use init::console::last_words;
use init::kernel::Kernel;
use init::layout::{slot, window};
use libipc::bundle::Bundle;
use libipc::log::{LogPage, PANIC, READY};
use libipc::{msg, sys};

/// Bytes of heap: the system description and what is made of it. Nothing allocates after boot.
const HEAP: usize = 1 << 20;

/// The kernel and init's windows.
struct Native {
    clock: abi::Clock,
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
    let mut seed = [0; 32];
    for (bytes, word) in seed.chunks_mut(8).zip(info.seed) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let count = (info.untyped_count as usize).min(info.untyped.len());
    Machine {
        bundle: Bundle::new(bytes).expect("boot bundle"),
        clock: info.clock,
        seed,
        untypeds: &info.untyped[..count],
    }
}

#[unsafe(no_mangle)]
fn program_start() -> ! {
    static mut MEMORY: [u8; HEAP] = [0; HEAP];
    // SAFETY: runs once, and nothing else names this array.
    unsafe { rt::set_heap((&raw mut MEMORY).cast(), HEAP) };
    let machine = machine();
    let mut k = Native { clock: machine.clock };
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
            supervisor.fault(&mut k, got.badge, got.info.method(), got.words);
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
    fail(&mut Native { clock: abi::Clock::default() }, info)
}
