//! How a dead process got where it ended: a walk along saved frame pointers in its stack, which it
//! may have left in any condition.

use core::fmt;
use heapless::Vec;
use libipc::bundle::File;

/// Most return addresses of one walk.
pub const DEPTH: usize = 16;

/// Instruction pointers, innermost first.
pub type Frames = Vec<u64, DEPTH>;

/// Whether `address` lies in the code of a program.
pub fn is_code(file: &File<'_>, address: u64) -> bool {
    let mut code = file.segments().filter(|s| s.exec);
    code.any(|s| address >= s.vaddr && address - s.vaddr < s.mem_len)
}

/// Walks from `rip` with frame pointer `rbp`, appending to `frames`. `read` yields the two words
/// at an address of the process's stack, saved frame pointer and return address; `None` if that is
/// not its stack, or no return address. Frame pointers must rise and be aligned, so the walk ends.
pub fn walk(
    rip: u64,
    rbp: u64,
    frames: &mut Frames,
    mut read: impl FnMut(u64) -> Option<[u64; 2]>,
) {
    let mut frame = rbp;
    if frames.push(rip).is_err() {
        return;
    }
    while frame != 0 && frame.is_multiple_of(8) {
        let Some([next, address]) = read(frame) else { return };
        if frames.push(address).is_err() || next <= frame {
            return;
        }
        frame = next;
    }
}

/// An address with the symbol it lies in.
pub struct Place<'a> {
    /// Address.
    pub address: u64,
    /// The process's program.
    pub file: Option<File<'a>>,
    /// The address is where a call returns to: the call is in the instruction before.
    pub returns: bool,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address)?;
        let inside = self.address.saturating_sub(self.returns as u64);
        let file = self.file.filter(|f| is_code(f, inside));
        let symbol = file.and_then(|f| f.symbols()?.lookup(inside));
        let Some((name, offset)) = symbol else {
            return Ok(());
        };
        let offset = offset + self.returns as u64;
        write!(f, " {name}+{offset:#x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec as List;

    /// A stack at 0x1000 whose words are given.
    fn stack(words: &[u64]) -> impl FnMut(u64) -> Option<[u64; 2]> + '_ {
        move |at| {
            let i = (at.checked_sub(0x1000)? / 8) as usize;
            Some([*words.get(i)?, *words.get(i + 1)?])
        }
    }

    fn walked(rbp: u64, words: &[u64]) -> List<u64> {
        let mut frames = Frames::new();
        walk(0x40_0000, rbp, &mut frames, stack(words));
        frames.to_vec()
    }

    #[test]
    fn follows_frame_pointers_to_the_end() {
        assert_eq!(walked(0x1000, &[0x1010, 0xa, 0, 0xb]), [0x40_0000, 0xa, 0xb]);
        assert_eq!(walked(0, &[]), [0x40_0000]);
    }

    #[test]
    fn ends_on_any_stack() {
        // Itself, backwards, unaligned, outside, no return address.
        assert_eq!(walked(0x1000, &[0x1000, 0xa]), [0x40_0000, 0xa]);
        assert_eq!(walked(0x1010, &[0, 0xb, 0x1000, 0xa]), [0x40_0000, 0xa]);
        assert_eq!(walked(0x1001, &[0x1010, 0xa]), [0x40_0000]);
        assert_eq!(walked(0x1000, &[0x1018, 0xa, 0, 0]), [0x40_0000, 0xa]);
        assert_eq!(walked(u64::MAX, &[]), [0x40_0000]);
        let deep: List<u64> = (0..100).flat_map(|i| [0x1010 + i * 16, i + 1]).collect();
        assert_eq!(walked(0x1000, &deep).len(), DEPTH);
    }

    #[test]
    fn places_name_the_function() {
        let image = crate::testing::bundle(&[crate::testing::program("p")]);
        let file = libipc::bundle::Bundle::new(&image).unwrap().file("p");
        let place = |address, returns| format!("{}", Place { address, file, returns });
        assert_eq!(place(0x40_1012, false), "0x401012 e1000d::ring::poll+0x12");
        assert_eq!(place(0x40_1100, false), "0x401100 main+0x0");
        // A call at the end of a function returns to the next one's first byte.
        assert_eq!(place(0x40_1100, true), "0x401100 e1000d::ring::poll+0x100");
        assert_eq!(place(0x10, false), "0x10");
        assert_eq!(place(0x40_0ff0, false), "0x400ff0");
        assert_eq!(place(0x40_3000, false), "0x403000");
        assert_eq!(place(0x40_3000, true), "0x403000 rt_crash_undefined+0x1c00");
        let none = Place { address: 0x40_1012, file: None, returns: false };
        assert_eq!(format!("{none}"), "0x401012");
    }
}
