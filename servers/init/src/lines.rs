//! Log lines of one process, put together from whatever pieces arrive in its log page.

use heapless::Vec;

/// Longest line; a longer one is broken.
pub const LINE: usize = 240;

/// The unfinished line of a process.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8, LINE>);

impl Lines {
    /// Adds bytes and calls `line` for every line that they complete. Control characters become
    /// spaces: a log may not move the cursor of the console it is printed on.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for b in bytes {
            match *b {
                b'\r' => {}
                b'\n' => self.flush_always(&mut line),
                b => {
                    if self.0.is_full() {
                        self.flush_always(&mut line);
                    }
                    let _ = self.0.push(if b < 0x20 || b == 0x7f { b' ' } else { b });
                }
            }
        }
    }
    /// Ends an unfinished line: the process has died in it.
    pub fn flush(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.0.is_empty() {
            self.flush_always(&mut line);
        }
    }
    fn flush_always(&mut self, line: &mut impl FnMut(&[u8])) {
        line(&self.0);
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;

    fn push(lines: &mut Lines, bytes: &[u8]) -> vec::Vec<String> {
        let mut out = vec![];
        lines.push(bytes, |l| out.push(String::from_utf8_lossy(l).into_owned()));
        out
    }

    #[test]
    fn puts_pieces_together() {
        let mut l = Lines::default();
        assert!(push(&mut l, b"li").is_empty());
        assert_eq!(push(&mut l, b"nk\r\n\nup\nx"), ["link", "", "up"]);
        let mut rest = vec![];
        l.flush(|line| rest.extend_from_slice(line));
        l.flush(|_| unreachable!("flushed twice"));
        assert_eq!(rest, b"x");
    }

    #[test]
    fn breaks_long_lines_and_disarms_controls() {
        let mut l = Lines::default();
        let long = push(&mut l, &[b'a'; LINE + 1]);
        assert_eq!(long.len(), 1);
        assert_eq!(push(&mut l, b"\x1b[2J\n"), ["a [2J"]);
    }
}
