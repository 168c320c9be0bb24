//! The serial console: lines in with echo and editing, bytes out through the log page.

mod line;

use core::fmt::{self, Write};
use core::sync::atomic::Ordering::SeqCst;
use core::time::Duration;
use libipc::log::LogPage;
use libipc::start::LOG_SIGNAL;
use libipc::sys;

pub use line::{Edit, LineEditor};

use crate::mem;
use crate::runtime::{Instant, Runtime};

/// How long output waits for room in the log page before it is dropped: init reads the page at a
/// higher priority, so this lasts only as long as the serial line needs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Standard input and output of the program that has the console.
pub struct Console {
    rt: &'static Runtime,
    input: &'static LogPage,
    output: &'static LogPage,
    /// Bytes read from the page and not used yet.
    pending: heapless::Deque<u8, 128>,
}

/// A line that was read. By value: there is no allocation for it.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Text without its end.
    Text(heapless::String<{ line::MAX }>),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D on an empty line.
    End,
}

impl Console {
    /// The console. Only in the process whose manifest entry has `console`; any other faults when
    /// it reads.
    pub fn open(rt: &'static Runtime) -> Self {
        let (input, output) = (mem::console_page(), mem::log_page());
        Self { rt, input, output, pending: heapless::Deque::new() }
    }

    /// Writes all bytes, waiting for room; gives up after two seconds without any.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let mut give_up: Option<Instant> = None;
        while !rest.is_empty() {
            let n = self.output.write(rest);
            rest = &rest[n..];
            sys::signal(LOG_SIGNAL);
            if n > 0 {
                give_up = None;
                continue;
            }
            let end = *give_up.get_or_insert(self.rt.now() + PATIENCE);
            if self.rt.now() >= end {
                return;
            }
            // init signals as for input when it has made room; it may have done so just now.
            self.output.want_room.store(1, SeqCst);
            let n = self.output.write(rest);
            rest = &rest[n..];
            match n {
                0 => {
                    self.rt.wait_console(Some(end));
                    self.rt.take_console();
                }
                _ => sys::signal(LOG_SIGNAL),
            }
        }
    }

    /// Prompts and reads a line.
    pub fn read_line(&mut self, prompt: &str, editor: &mut LineEditor) -> Line {
        self.write(prompt.as_bytes());
        loop {
            if let Some(line) = self.try_line(prompt, editor) {
                return line;
            }
            self.rt.wait_console(None);
            self.rt.take_console();
        }
    }

    /// A line, if its end has been typed: for programs that wait for other things as well
    /// ([`crate::poll::Poll::register_console`]).
    pub fn try_line(&mut self, prompt: &str, editor: &mut LineEditor) -> Option<Line> {
        while let Some(byte) = self.next_byte() {
            match editor.feed(byte) {
                Edit::Nothing => {}
                Edit::Echo(echo) => self.write(&echo),
                Edit::Redraw => {
                    self.write(b"\r\x1b[K");
                    self.write(prompt.as_bytes());
                    self.write(editor.text().as_bytes());
                }
                Edit::Done(text) => {
                    self.write(b"\n");
                    return Some(Line::Text(text));
                }
                Edit::Interrupted => {
                    self.write(b"^C\n");
                    return Some(Line::Interrupted);
                }
                Edit::End => return Some(Line::End),
            }
        }
        None
    }

    /// Whether Ctrl-C has arrived; other input is kept.
    pub fn interrupted(&mut self) -> bool {
        self.rt.take_console();
        self.pull();
        let mut found = false;
        for _ in 0..self.pending.len() {
            match self.pending.pop_front() {
                Some(line::CTRL_C) => found = true,
                Some(b) => drop(self.pending.push_back(b)),
                None => break,
            }
        }
        found
    }

    /// Sleeps until `deadline`; `true`: Ctrl-C ended it.
    pub fn sleep_until(&mut self, deadline: Instant) -> bool {
        loop {
            if self.interrupted() {
                return true;
            }
            if !self.rt.wait_console(Some(deadline)) {
                return false;
            }
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        self.pull();
        self.pending.pop_front()
    }

    /// Moves input out of the page, as far as there is room.
    fn pull(&mut self) {
        let mut bytes = [0; 128];
        let room = self.pending.capacity() - self.pending.len();
        let n = self.input.read(&mut bytes[..room]);
        for b in &bytes[..n] {
            let _ = self.pending.push_back(*b);
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.write(s.as_bytes());
        Ok(())
    }
}
