//! Why a process ended, and how that reads.

use abi::{FaultKind, SUPERVISOR_EXIT, SUPERVISOR_PANIC, UserRegs};
use core::fmt;
use libipc::log::PANIC;

use crate::policy::End;

/// Text of a panic, made printable.
pub type PanicText = heapless::String<PANIC>;

/// Why a process ended. By value: there is no allocation on the way to a restart.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It exited.
    Exit(u64),
    /// It panicked; text and place as it wrote them.
    Panic(PanicText),
    /// Someone asked init to end it.
    Killed,
    /// Someone asked init to start it anew.
    Requested,
    /// It touched memory it may not.
    Page {
        /// Address.
        addr: u64,
        /// Error code of the exception.
        code: u64,
        /// Just below the stack.
        below_stack: bool,
    },
    /// Another exception, or a system call that does not exist.
    Fault {
        /// Kind; `None` if the kernel reports one that init does not know.
        kind: Option<FaultKind>,
        /// Second word: number of a system call.
        number: u64,
        /// Third word: error code or vector.
        code: u64,
    },
}

impl Cause {
    /// Reads a fault message: its method and words, and the thread's registers. A panic's text
    /// comes from the log page, so [`Cause::Panic`] is empty here.
    pub fn from_fault(method: u16, words: [u64; 4], regs: &UserRegs, stack_end: u64) -> Self {
        let [_, number, code, _] = words;
        match FaultKind::from_raw(method) {
            Some(FaultKind::Syscall) if number == SUPERVISOR_EXIT => Self::Exit(regs.rdi),
            Some(FaultKind::Syscall) if number == SUPERVISOR_PANIC => Self::Panic(PanicText::new()),
            Some(FaultKind::Page) => {
                let below_stack = number < stack_end && stack_end - number <= abi::PAGE_SIZE;
                Self::Page { addr: number, code, below_stack }
            }
            kind => Self::Fault { kind, number, code },
        }
    }
    /// What the policy is told.
    pub fn end(&self) -> End {
        if *self == Self::Exit(0) { End::Success } else { End::Crash }
    }
    /// Whether the place where it happened is worth a line: not if someone else chose it.
    pub fn has_place(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Fault { .. })
    }
    /// Whether the way to that place is worth some.
    pub fn has_backtrace(&self) -> bool {
        self.has_place() || matches!(self, Self::Panic(_))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Panic(text) => write!(f, "panic '{text}'"),
            Self::Killed => f.write_str("killed"),
            Self::Requested => f.write_str("restart requested"),
            Self::Page { addr, code, below_stack } => {
                let access = match code {
                    c if c & 16 != 0 => "fetch",
                    c if c & 2 != 0 => "write",
                    _ => "read",
                };
                let stack = if *below_stack { ", stack overflow" } else { "" };
                write!(f, "page fault at {addr:#x} ({access}{stack})")?;
                if !f.alternate() {
                    return Ok(());
                }
                // Intel SDM volume 3, 4.7.
                let present = if code & 1 != 0 { "forbidden there" } else { "nothing there" };
                let reserved = if code & 8 != 0 { ", reserved bits" } else { "" };
                write!(f, ", error code {code:#x}: {present}{reserved}")
            }
            Self::Fault { kind, number, code } => match kind {
                Some(FaultKind::Protection) => write!(f, "protection fault (code {code:#x})"),
                Some(FaultKind::Undefined) => f.write_str("undefined instruction"),
                Some(FaultKind::Divide) => f.write_str("division error"),
                Some(FaultKind::Syscall) => write!(f, "unknown system call {number:#x}"),
                Some(FaultKind::Budget) => f.write_str("no scheduling context"),
                Some(FaultKind::Other) => write!(f, "exception {code}"),
                Some(FaultKind::Page) | None => write!(f, "unknown fault"),
            },
        }
    }
}

/// Makes text of the bytes that a process left as its last words.
pub fn printable(bytes: &[u8]) -> PanicText {
    let mut text = PanicText::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let c = if c.is_control() { ' ' } else { c };
            if text.push(c).is_err() {
                return text;
            }
        }
        if !chunk.invalid().is_empty() && text.push('?').is_err() {
            return text;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const STACK_END: u64 = 0x6fff_ffff_0000;

    fn read(method: u16, number: u64, code: u64) -> Cause {
        let regs = UserRegs { rdi: 3, ..Default::default() };
        Cause::from_fault(method, [0x40_1234, number, code, 0], &regs, STACK_END)
    }

    #[test]
    fn every_kind_reads_as_documented() {
        let cases = [
            (read(1, 0xdead_beef, 6), "page fault at 0xdeadbeef (write)"),
            (read(1, 0x10, 4), "page fault at 0x10 (read)"),
            (read(1, 0x10, 20), "page fault at 0x10 (fetch)"),
            (read(1, STACK_END - 8, 6), "page fault at 0x6ffffffefff8 (write, stack overflow)"),
            (read(1, STACK_END, 6), "page fault at 0x6fffffff0000 (write)"),
            (read(2, 0, 0x18), "protection fault (code 0x18)"),
            (read(3, 0, 0), "undefined instruction"),
            (read(4, 0, 0), "division error"),
            (read(5, 77, 0), "unknown system call 0x4d"),
            (read(5, SUPERVISOR_EXIT, 0), "exit status 3"),
            (read(6, 0, 19), "exception 19"),
            (read(7, 0, u64::MAX), "no scheduling context"),
            (read(99, 0, 0), "unknown fault"),
            (Cause::Killed, "killed"),
            (Cause::Requested, "restart requested"),
            (Cause::Panic(printable(b"index 7 at ring.rs:12")), "panic 'index 7 at ring.rs:12'"),
        ];
        for (cause, text) in cases {
            assert_eq!(cause.to_string(), text);
        }
        assert_eq!(read(5, SUPERVISOR_PANIC, 0), Cause::Panic(PanicText::new()));
        for (code, text) in [
            (6, "page fault at 0x10 (write), error code 0x6: nothing there"),
            (7, "page fault at 0x10 (write), error code 0x7: forbidden there"),
            (0x1d, "page fault at 0x10 (fetch), error code 0x1d: forbidden there, reserved bits"),
        ] {
            assert_eq!(alloc::format!("{:#}", read(1, 0x10, code)), text);
        }
    }

    #[test]
    fn only_a_clean_exit_is_a_success() {
        assert_eq!(Cause::Exit(0).end(), End::Success);
        assert_eq!(Cause::Exit(1).end(), End::Crash);
        assert_eq!(Cause::Killed.end(), End::Crash);
    }

    #[test]
    fn last_words_cannot_control_the_terminal() {
        assert_eq!(printable(b"a\x1b[2J\nb\xff\xfec").as_str(), "a [2J b??c");
        assert_eq!(printable(&[b'x'; 600]).len(), PANIC);
    }
}
