//! Start, panic and crash code of every user program. A program says
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! rt::entry!(main);
//! fn main(start: &'static rt::StartInfo) -> u64 { rt::log!("hello"); 0 }
//! ```
//!
//! The returned number is its exit status.
#![no_std]

use core::fmt::{self, Write};
use core::mem::MaybeUninit;

pub use libipc::log::LogPage;
pub use libipc::start::StartInfo;
use libipc::{start, sys};

extern crate rt_mem;

// The stack is 16-byte aligned when init starts the thread; `call` makes it the ABI's.
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start_rust,
);

unsafe extern "Rust" {
    fn program_start() -> !;
    fn program_panic(info: &core::panic::PanicInfo) -> !;
}

/// Names the program's main function: `fn(&'static StartInfo) -> u64`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn program_start() -> ! {
            $crate::run($main)
        }
        #[unsafe(no_mangle)]
        fn program_panic(info: &core::panic::PanicInfo) -> ! {
            $crate::report_panic(info)
        }
    };
}

extern "C" fn start_rust() -> ! {
    // SAFETY: `entry!` (or init, which starts differently) defines it.
    unsafe { program_start() }
}

/// The heap. Empty until [`set_heap`]; an allocation that does not fit is a panic of the program.
#[global_allocator]
static HEAP: talc::TalcLock<spin::Mutex<()>, talc::source::Manual> =
    talc::TalcLock::new(talc::source::Manual);

/// Gives the allocator its memory.
///
/// # Safety
/// The range is mapped writable for the rest of the process's life and used for nothing else.
pub unsafe fn set_heap(base: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.lock().claim(base, len) };
}

/// Runs a program: reads its start information, sets up the heap, calls `main`, exits.
pub fn run(main: fn(&'static StartInfo) -> u64) -> ! {
    static mut INFO: MaybeUninit<StartInfo> = MaybeUninit::uninit();
    // SAFETY: init maps one readable page at START_INFO that begins with its length.
    let bytes = unsafe {
        let len = *(start::START_INFO as *const u32);
        core::slice::from_raw_parts((start::START_INFO + 4) as *const u8, len as usize)
    };
    let info = postcard::from_bytes(bytes).expect("start information");
    let place = &raw mut INFO;
    // SAFETY: runs once, before anything else of the program; the reference is the only one made.
    let info: &'static StartInfo = unsafe { (*place).write(info) };
    if info.heap_len > 0 {
        // SAFETY: init maps this much at HEAP, for this purpose.
        unsafe { set_heap(start::HEAP as *mut u8, info.heap_len as usize) };
    }
    sys::exit(main(info))
}

/// The log page.
pub fn log_page() -> &'static LogPage {
    // SAFETY: init maps this page in every process; all of it is atomic.
    unsafe { &*(start::LOG as *const LogPage) }
}

/// Writes to the log; what does not fit is counted, never waited for.
pub struct Log;

impl Write for Log {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let page = log_page();
        let n = page.write(s.as_bytes());
        if n < s.len() {
            let dropped = &page.dropped;
            dropped.fetch_add((s.len() - n) as u32, core::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Tells init that there is something in the log: a signal on the capability in slot
/// [`LOG_SIGNAL`].
pub fn flush_log() {
    sys::signal(LOG_SIGNAL);
}

/// Slot of the capability by which every process signals init about its log.
pub const LOG_SIGNAL: abi::CPtr = libipc::start::LOG_SIGNAL;

/// Logs a line.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::Log, $($arg)*);
        $crate::flush_log();
    }};
}

/// Tells init that this incarnation is ready: it has attached to all that its predecessor left,
/// and works from here on. `what` says what it took over and what was lost, in a few words for the
/// report of the restart. A process that never says so is taken to be ready when it starts.
pub fn ready(start: &StartInfo, what: fmt::Arguments<'_>) {
    let mut text = heapless::String::<{ libipc::log::READY }>::new();
    // What does not fit is cut off.
    let _ = text.write_fmt(what);
    log_page().set_ready(start.incarnation, text.as_bytes());
    flush_log();
}

struct Panic;

impl Write for Panic {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        log_page().write_panic(s.as_bytes());
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    // SAFETY: as `program_start`.
    unsafe { program_panic(info) }
}

/// Leaves the panic's text in the log page and stops.
pub fn report_panic(info: &core::panic::PanicInfo) -> ! {
    let _ = write!(Panic, "{}", info.message());
    if let Some(at) = info.location() {
        let _ = write!(Panic, " at {}:{}", at.file(), at.line());
    }
    sys::supervisor(abi::SUPERVISOR_PANIC, 0)
}

// Crashes on request: init sets a thread's instruction pointer to one of these, wherever it is.

/// Panics.
#[unsafe(no_mangle)]
extern "C" fn rt_crash_panic() -> ! {
    panic!("crash requested")
}

/// Writes through a wild pointer.
#[unsafe(no_mangle)]
extern "C" fn rt_crash_pointer() -> ! {
    // SAFETY: none: this is the fault that is asked for. The address is never mapped.
    unsafe {
        core::arch::asm!("mov qword ptr [{}], 0", "ud2", in(reg) 0xdead_beefu64, options(noreturn))
    }
}

/// Executes an undefined instruction.
#[unsafe(no_mangle)]
extern "C" fn rt_crash_undefined() -> ! {
    // SAFETY: as above.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// Runs for ever, and does nothing.
#[unsafe(no_mangle)]
extern "C" fn rt_crash_spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[used]
static KEEP: [extern "C" fn() -> !; 4] =
    [rt_crash_panic, rt_crash_pointer, rt_crash_undefined, rt_crash_spin];
