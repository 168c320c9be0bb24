//! What appears on the console: log lines, and between them the console process's own output,
//! whose unfinished line (a prompt, half a command) is put back after each burst of log lines.
//!
//! All output goes through one bounded queue that the serial port empties, so that a slow port
//! never holds up a restart. Log lines that find it full are counted and lost; the console process
//! waits (its bytes stay in its log page).

use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use heapless::Vec;

/// Bytes that wait for the serial port.
const QUEUE: usize = 16 * 1024;
/// Bytes of the console process's unfinished line that can be put back.
const PARTIAL: usize = 256;

/// To the start of the line, and erase it.
const ERASE: &[u8] = b"\r\x1b[K";

/// The console's output side.
pub struct Screen {
    /// Never more than [`QUEUE`], which it has from the start: it does not allocate again.
    queue: VecDeque<u8>,
    /// What the console process has written since its last line end.
    partial: Vec<u8, PARTIAL>,
    /// Whether the cursor stands right behind `partial`.
    partial_shown: bool,
    /// Whether something stands on the cursor's line.
    dirty: bool,
    last: u8,
    lost: u32,
}

impl Screen {
    /// An empty screen.
    #[expect(clippy::new_without_default, reason = "it allocates")]
    pub fn new() -> Self {
        Self {
            queue: VecDeque::with_capacity(QUEUE),
            partial: Vec::new(),
            partial_shown: true,
            dirty: false,
            last: 0,
            lost: 0,
        }
    }
    /// Prints a line of the log, on a line of its own.
    pub fn log(&mut self, line: &[u8]) {
        if self.room() < line.len() + 8 + LOST {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        if self.lost > 0 {
            // Room for this was kept by the condition above.
            let mut text = heapless::String::<LOST>::new();
            let _ = write!(text, "[init] {} log lines lost", self.lost);
            self.lost = 0;
            self.line(text.as_bytes());
        }
        self.line(line);
    }
    fn line(&mut self, line: &[u8]) {
        // The unfinished line moves down: it is erased here (ECMA-48 EL) and written again below.
        if self.dirty {
            self.bytes(ERASE);
        }
        self.bytes(line);
        self.bytes(b"\r\n");
        self.dirty = false;
        self.partial_shown = false;
    }
    /// Passes on output of the console process as it is (a bare LF becomes CR LF).
    pub fn raw(&mut self, bytes: &[u8]) {
        self.show_partial();
        for b in bytes {
            if *b == b'\n' && self.last != b'\r' {
                self.bytes(b"\r");
            }
            self.bytes(&[*b]);
            self.last = *b;
            match b {
                // After a carriage return the line is written anew.
                b'\r' => self.partial.clear(),
                b'\n' => {
                    self.partial.clear();
                    self.dirty = false;
                }
                _ => {
                    self.dirty = true;
                    if self.partial.is_full() {
                        self.partial.clear();
                    }
                    let _ = self.partial.push(*b);
                }
            }
        }
        self.partial_shown = true;
    }
    /// Puts the unfinished line back; called when no more log lines are at hand.
    pub fn show_partial(&mut self) {
        if !self.partial_shown && !self.partial.is_empty() && self.room() > PARTIAL + 2 {
            let partial = self.partial.clone();
            self.bytes(&partial);
            self.dirty = true;
        }
        self.partial_shown = true;
    }
    /// Forgets the unfinished line: its process is gone.
    pub fn drop_partial(&mut self) {
        self.partial.clear();
        self.last = 0;
    }
    /// Bytes of raw output that surely fit now.
    pub fn raw_room(&self) -> usize {
        self.room().saturating_sub(PARTIAL + 2) / 2
    }
    /// The next byte for the serial port.
    pub fn pop(&mut self) -> Option<u8> {
        self.queue.pop_front()
    }
    /// Whether nothing waits for the serial port.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
    fn room(&self) -> usize {
        QUEUE - self.queue.len()
    }
    fn bytes(&mut self, bytes: &[u8]) {
        let room = self.room();
        self.queue.extend(bytes.iter().take(room));
    }
}

/// Bytes kept free for the line that says how many were lost.
const LOST: usize = 48;

/// Assembles one formatted line for [`Screen::log`].
#[derive(Default)]
pub struct LineBuf(Vec<u8, 400>);

impl LineBuf {
    /// The line so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// Appends bytes; what does not fit is cut off.
    pub fn push(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(self.0.capacity() - self.0.len());
        let _ = self.0.extend_from_slice(&bytes[..n]);
    }
}

impl Write for LineBuf {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn drain(s: &mut Screen) -> String {
        String::from_utf8(core::iter::from_fn(|| s.pop()).collect()).unwrap()
    }

    #[test]
    fn a_prompt_survives_log_lines() {
        let mut s = Screen::new();
        s.log(b"[init] up");
        s.raw(b"hello\n> pi");
        assert_eq!(drain(&mut s), "[init] up\r\nhello\r\n> pi");
        s.log(b"[netd] a");
        s.log(b"[netd] b");
        s.show_partial();
        s.show_partial();
        assert_eq!(drain(&mut s), "\r\x1b[K[netd] a\r\n[netd] b\r\n> pi");
        s.raw(b"ng\r\n> ");
        assert_eq!(drain(&mut s), "ng\r\n> ");
    }

    #[test]
    fn output_after_a_log_line_continues_the_unfinished_line() {
        let mut s = Screen::new();
        s.raw(b"> p");
        s.log(b"x");
        s.raw(b"s");
        assert_eq!(drain(&mut s), "> p\r\x1b[Kx\r\n> ps");
        s.drop_partial();
        s.log(b"y");
        s.show_partial();
        assert_eq!(drain(&mut s), "\r\x1b[Ky\r\n");
    }

    #[test]
    fn a_full_queue_loses_and_counts_whole_lines() {
        let mut s = Screen::new();
        for _ in 0..1000 {
            s.log(&[b'x'; 98]);
        }
        let first = drain(&mut s);
        assert!(first.len() <= QUEUE && first.lines().all(|l| l.len() == 98));
        let lost = 1000 - first.lines().count();
        s.log(b"next");
        assert_eq!(drain(&mut s), alloc::format!("[init] {lost} log lines lost\r\nnext\r\n"));
    }

    #[test]
    fn raw_output_within_its_room_is_never_lost() {
        let mut s = Screen::new();
        let mut sent = 0;
        s.raw(&[b'p'; 200]);
        s.log(b"log");
        while s.raw_room() > 0 {
            let n = s.raw_room().min(100);
            s.raw(&[b'\n'; 100][..n]);
            sent += n;
        }
        assert_eq!(drain(&mut s).matches('\n').count(), sent + 1);
    }
}
