//! Editing of one line, byte by byte: what a terminal sends in, what to echo out. Knows no
//! console, so that tests feed it bytes.

/// Longest line, bytes.
pub const MAX: usize = 200;
/// End of text: the interrupt key.
pub const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;
const CTRL_W: u8 = 0x17;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
const ESCAPE: u8 = 0x1b;
/// Lines remembered.
const HISTORY: usize = 8;

type Text = heapless::String<MAX>;

/// What a byte led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing to show.
    Nothing,
    /// These bytes go to the terminal.
    Echo(heapless::Vec<u8, 8>),
    /// Prompt and text are to be written anew on a cleared line.
    Redraw,
    /// The line is complete.
    Done(Text),
    /// Ctrl-C; the line is forgotten.
    Interrupted,
    /// Ctrl-D on an empty line.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Seen,
    /// After `ESC [`.
    Bracket,
}

/// The line being edited, and earlier ones.
pub struct LineEditor {
    bytes: heapless::Vec<u8, MAX>,
    escape: Escape,
    after_cr: bool,
    history: heapless::HistoryBuf<Text, HISTORY>,
    /// How far back in the history: 0 is the new line.
    back: usize,
}

impl Default for LineEditor {
    fn default() -> Self {
        Self::new()
    }
}

impl LineEditor {
    /// An empty line.
    pub const fn new() -> Self {
        Self {
            bytes: heapless::Vec::new(),
            escape: Escape::None,
            after_cr: false,
            history: heapless::HistoryBuf::new(),
            back: 0,
        }
    }

    /// The text so far, up to the first byte that is no UTF-8.
    pub fn text(&self) -> &str {
        match core::str::from_utf8(&self.bytes) {
            Ok(s) => s,
            Err(e) => core::str::from_utf8(&self.bytes[..e.valid_up_to()]).unwrap_or(""),
        }
    }

    /// Takes one byte of input.
    pub fn feed(&mut self, byte: u8) -> Edit {
        let after_cr = core::mem::replace(&mut self.after_cr, byte == b'\r');
        match (self.escape, byte) {
            (Escape::None, _) => {}
            (Escape::Seen, b'[' | b'O') => {
                self.escape = Escape::Bracket;
                return Edit::Nothing;
            }
            (Escape::Bracket, 0x20..=0x3f) => return Edit::Nothing,
            (state, _) => {
                self.escape = Escape::None;
                return match (state, byte) {
                    (Escape::Bracket, b'A') => self.recall(self.back + 1),
                    (Escape::Bracket, b'B') if self.back > 0 => self.recall(self.back - 1),
                    _ => Edit::Nothing,
                };
            }
        }
        match byte {
            b'\n' if after_cr => Edit::Nothing,
            b'\r' | b'\n' => self.finish(),
            CTRL_C => {
                self.clear();
                Edit::Interrupted
            }
            CTRL_D if self.bytes.is_empty() => Edit::End,
            CTRL_U => {
                self.clear();
                Edit::Redraw
            }
            CTRL_W => {
                while self.bytes.pop_if(|b| *b == b' ').is_some() {}
                while self.bytes.pop_if(|b| *b != b' ').is_some() {}
                Edit::Redraw
            }
            BACKSPACE | DELETE => self.rub_out(),
            ESCAPE => {
                self.escape = Escape::Seen;
                Edit::Nothing
            }
            0x20.. => match self.bytes.push(byte) {
                Ok(()) => echo(&[byte]),
                Err(_) => echo(b"\x07"),
            },
            _ => Edit::Nothing,
        }
    }

    /// Removes the last character, with all its bytes.
    fn rub_out(&mut self) -> Edit {
        while self.bytes.pop_if(|b| *b & 0xc0 == 0x80).is_some() {}
        match self.bytes.pop() {
            Some(_) => echo(b"\x08 \x08"),
            None => Edit::Nothing,
        }
    }

    fn finish(&mut self) -> Edit {
        let text: Text = self.text().chars().collect();
        if !text.is_empty() && self.history.last() != Some(&text) {
            self.history.write(text.clone());
        }
        self.clear();
        Edit::Done(text)
    }

    fn recall(&mut self, back: usize) -> Edit {
        if back > self.history.len() {
            return Edit::Nothing;
        }
        self.bytes.clear();
        if back > 0
            && let Some(text) = self.history.oldest_ordered().nth(self.history.len() - back)
        {
            let _ = self.bytes.extend_from_slice(text.as_bytes());
        }
        self.back = back;
        Edit::Redraw
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.back = 0;
    }
}

fn echo(bytes: &[u8]) -> Edit {
    Edit::Echo(heapless::Vec::from_slice(bytes).unwrap_or_default())
}

trait PopIf {
    fn pop_if(&mut self, f: impl FnOnce(&u8) -> bool) -> Option<u8>;
}

impl PopIf for heapless::Vec<u8, MAX> {
    fn pop_if(&mut self, f: impl FnOnce(&u8) -> bool) -> Option<u8> {
        if self.last().is_some_and(f) { self.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn lines(editor: &mut LineEditor, input: &[u8]) -> Vec<String> {
        let mut out = Vec::new();
        for b in input {
            match editor.feed(*b) {
                Edit::Done(text) => out.push(text.to_string()),
                Edit::Interrupted => out.push("^C".into()),
                Edit::End => out.push("^D".into()),
                _ => {}
            }
        }
        out
    }

    #[test]
    fn keys_edit_the_line() {
        for (input, want) in [
            (&b"ps\r"[..], &["ps"][..]),
            (b"ps\r\nip\n", &["ps", "ip"]),
            (b"pt\x7fs\r", &["ps"]),
            (b"\x7f\x08x\r", &["x"]),
            ("a\u{e9}\x08b\r".as_bytes(), &["ab"]),
            (b"kill e1000d\x15ps\r", &["ps"]),
            (b"kill e1000d\x17netd\r", &["kill netd"]),
            (b"half\x03ps\r", &["^C", "ps"]),
            (b"\x04", &["^D"]),
            (b"a\x04b\r", &["ab"]),
            (b"a\x1b[C\x1b[1;5Db\r", &["ab"]),
            (b"a\tb\x00\r", &["ab"]),
            (b"\xff\r", &[""]),
        ] {
            assert_eq!(lines(&mut LineEditor::new(), input), want, "{input:?}");
        }
    }

    #[test]
    fn a_line_has_an_end() {
        let mut e = LineEditor::new();
        for _ in 0..MAX {
            assert_eq!(e.feed(b'x'), echo(b"x"));
        }
        assert_eq!(e.feed(b'x'), echo(b"\x07"));
        assert!(matches!(e.feed(b'\r'), Edit::Done(t) if t.len() == MAX));
    }

    #[test]
    fn arrows_walk_through_earlier_lines() {
        let mut e = LineEditor::new();
        assert_eq!(lines(&mut e, b"one\rtwo\rtwo\r"), ["one", "two", "two"]);
        assert_eq!(lines(&mut e, b"\x1b[A\r"), ["two"]);
        assert_eq!(lines(&mut e, b"\x1b[A\x1b[A\x1b[A\r"), ["one"]);
        assert_eq!(lines(&mut e, b"\x1b[A\x1b[B\r"), [""]);
        assert_eq!(lines(&mut e, b"\x1b[B\r"), [""]);
    }
}
