//! The memory that descriptors may name: DMA windows by number, as init lent them.

use libipc::nic::WINDOW_RINGS;

/// Highest window number that is kept, plus one.
pub const COUNT: usize = 128;

/// Bus address and length of each window.
#[derive(Clone)]
pub struct Windows {
    table: [(u64, u64); COUNT],
}

impl Default for Windows {
    fn default() -> Self {
        Self { table: [(0, 0); COUNT] }
    }
}

impl Windows {
    /// Adds a window. The NIC's own rings are no window that netd may name, and are left out.
    pub fn add(&mut self, number: u8, bus: u64, len: u64) {
        if number != WINDOW_RINGS
            && bus.checked_add(len).is_some()
            && let Some(slot) = self.table.get_mut(number as usize)
        {
            *slot = (bus, len);
        }
    }

    /// The bus address of `len` bytes at `offset`, if they lie in window `number`.
    pub fn resolve(&self, number: u8, offset: u32, len: u16) -> Option<u64> {
        let (bus, size) = *self.table.get(number as usize)?;
        (offset as u64 + len as u64 <= size).then_some(bus + offset as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_inside_resolves() {
        let mut w = Windows::default();
        w.add(1, 0x10_0000, 0x1000);
        w.add(WINDOW_RINGS, 0x20_0000, 0x1000);
        w.add(9, u64::MAX - 10, 0x1000);
        assert_eq!(w.resolve(1, 0, 0x1000), Some(0x10_0000));
        assert_eq!(w.resolve(1, 0xfff, 1), Some(0x10_0fff));
        assert_eq!(w.resolve(1, 0xfff, 2), None);
        assert_eq!(w.resolve(1, u32::MAX, u16::MAX), None);
        for absent in [0, 2, 9, 127, 128, 255] {
            assert_eq!(w.resolve(absent, 0, 1), None, "window {absent}");
        }
    }
}
