//! What the services say.

use core::fmt::Write;
use userland::time::SystemTime;

/// Seconds from 1900 to 1970.
pub const TIME_1900: u64 = 2_208_988_800;

/// Characters of the pattern, from `A` on.
const LETTERS: u64 = 23;

/// Writes the pattern's bytes from position `at` on: byte i is `A` + i mod 23. Returns the position
/// after them.
pub fn pattern(at: u64, out: &mut [u8]) -> u64 {
    let mut letter = (at % LETTERS) as u8;
    for b in &mut *out {
        *b = b'A' + letter;
        letter = if letter + 1 == LETTERS as u8 { 0 } else { letter + 1 };
    }
    at + out.len() as u64
}

/// A line that says when it is.
pub fn daytime(now: Option<SystemTime>) -> heapless::String<64> {
    let mut line = heapless::String::new();
    let _ = match now {
        Some(now) => write!(line, "{} UTC\r\n", now.date()),
        None => line.write_str("this machine has no clock\r\n"),
    };
    line
}
