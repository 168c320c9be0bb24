//! What a system under test has written, collected by a thread while the test goes on.

use std::fs::File;
use std::io::{Read, Write};
use std::slice::SliceIndex;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What the kernel prints when it panics.
pub const PANIC: &str = "kernel panic";

#[derive(Default)]
struct State {
    text: String,
    escape: Escape,
    closed: bool,
}

/// Where a control sequence (`ESC [ … letter`) stands that the terminal would swallow.
#[derive(Default)]
enum Escape {
    #[default]
    No,
    Begun,
    Inside,
}

impl State {
    /// Appends what is no control sequence and no carriage return, and [`ERASED`].
    fn append(&mut self, bytes: &[u8]) {
        for c in String::from_utf8_lossy(bytes).chars() {
            match (&self.escape, c) {
                (Escape::No, '\x1b') => self.escape = Escape::Begun,
                (Escape::No, '\r') => {}
                (Escape::No, _) => self.text.push(c),
                (Escape::Begun, '[') => self.escape = Escape::Inside,
                (Escape::Inside, ' '..='?') => {}
                (Escape::Begun | Escape::Inside, _) => {
                    self.escape = Escape::No;
                    if c == 'K' {
                        self.text.push(ERASED);
                    }
                }
            }
        }
    }
}

/// Stands where the line before it, as far as it goes, was erased: init writes it again after the lines of a log that came in
/// between. The text itself only grows, so that places in it stay what they are.
const ERASED: char = '\x1b';

/// What a person sees of it.
fn seen(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for (i, piece) in text.split(ERASED).enumerate() {
        if i > 0 {
            seen.truncate(seen.rfind('\n').map_or(0, |end| end + 1));
        }
        seen += piece;
    }
    seen
}

/// Everything that came over the console so far.
#[derive(Clone, Default)]
pub struct Console(Arc<(Mutex<State>, Condvar)>);

/// What a wait on the console ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The pattern ends at this byte.
    Found(usize),
    /// The kernel panicked first.
    Panic,
    /// QEMU closed the console first.
    Closed,
    /// Nothing of these in time.
    Timeout,
}

impl Console {
    /// Collects `from` until it ends, keeping a copy in `log`.
    pub fn follow(mut from: impl Read + Send + 'static, mut log: File) -> Self {
        let console = Self::default();
        let collected = console.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = from.read(&mut buffer)
                && n > 0
            {
                collected.append(&buffer[..n]);
                // The log is a convenience: a full disk must not fail the test.
                let _ = log.write_all(&buffer[..n]);
            }
            collected.with(|s| s.closed = true);
        });
        console
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.0.lock().unwrap_or_else(|e| e.into_inner());
        let result = f(&mut state);
        self.0.1.notify_all();
        result
    }

    fn append(&self, bytes: &[u8]) {
        self.with(|s| s.append(bytes));
    }

    /// Waits until `pattern` appears at or after byte `from`.
    pub fn wait(&self, from: usize, pattern: &str, timeout: Duration) -> Wait {
        let deadline = Instant::now() + timeout;
        let mut state = self.0.0.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if let Some(at) = state.text.get(from..).and_then(|t| t.find(pattern)) {
                return Wait::Found(from + at + pattern.len());
            }
            // A panic's report is complete when its first line after the title is there; waiting
            // for the console to close gives the reader of a failure all of it.
            if state.closed {
                return if state.text.contains(PANIC) { Wait::Panic } else { Wait::Closed };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return if state.text.contains(PANIC) { Wait::Panic } else { Wait::Timeout };
            }
            let wait = if state.text.contains(PANIC) { left.min(PANIC_GRACE) } else { left };
            let (next, result) =
                self.0.1.wait_timeout(state, wait).unwrap_or_else(|e| e.into_inner());
            state = next;
            if result.timed_out() && state.text.contains(PANIC) {
                return Wait::Panic;
            }
        }
    }

    /// Bytes collected so far.
    pub fn len(&self) -> usize {
        self.with(|s| s.text.len())
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be seen of a part of it.
    pub fn slice(&self, range: impl SliceIndex<str, Output = str>) -> String {
        self.with(|s| seen(s.text.get(range).unwrap_or("")))
    }

    /// What is to be seen of all of it.
    pub fn text(&self) -> String {
        self.slice(..)
    }

    /// The last `lines` lines, for the report of a failure.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// How long a panicking kernel may take between two pieces of its report.
const PANIC_GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(20);

    #[test]
    fn waits_find_patterns_once_and_in_order() {
        let c = Console::default();
        c.append(b"one\r\ntwo\r\n");
        let Wait::Found(at) = c.wait(0, "one\n", SOON) else { panic!() };
        assert_eq!(c.slice(0..at), "one\n");
        assert_eq!(c.wait(at, "one", SOON), Wait::Timeout);
        let other = c.clone();
        let writer = std::thread::spawn(move || other.append(b"one again"));
        assert!(matches!(c.wait(at, "one", LATE), Wait::Found(_)));
        writer.join().unwrap();
        assert_eq!(c.tail(2), "two\none again");
    }

    #[test]
    fn control_sequences_are_not_text() {
        let c = Console::default();
        c.append(b"> ps\r\x1b[K[init] up\r\n\x1b");
        c.append(b"[2");
        c.append(b"J> ps");
        assert_eq!(c.text(), "[init] up\n> ps");
        assert_eq!(c.slice(2..), "[init] up\n> ps");
        assert!(matches!(c.wait(2, "[init]", SOON), Wait::Found(_)));
    }

    #[test]
    fn a_panic_or_an_end_is_noticed_long_before_the_timeout() {
        let c = Console::default();
        c.append(b"kernel panic: oh\n");
        assert_eq!(c.wait(0, "prompt", LATE), Wait::Panic);
        let c = Console::default();
        c.with(|s| s.closed = true);
        assert_eq!(c.wait(0, "prompt", LATE), Wait::Closed);
    }
}
