//! Interrupt controllers and processors (MADT, "APIC"; ACPI specification 6.5, 5.2.12).

use abi::IsaLine;

use super::{Records, number};

/// Most I/O APICs.
pub const MAX_IO_APICS: usize = 8;
/// Address of the I/O APIC of a PC that says nothing of it.
pub const STANDARD_IO_APIC: u64 = 0xfec0_0000;

/// An I/O APIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// GSI of its first line.
    pub base: u32,
}

/// What interrupts there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupts {
    list: [IoApic; MAX_IO_APICS],
    count: usize,
    /// Where the lines of the old controllers lead.
    pub isa: [IsaLine; 16],
    /// Processors that can be used.
    pub processors: u32,
}

impl Interrupts {
    /// Of a machine without such a table: what every PC had that had an I/O APIC.
    pub fn standard() -> Self {
        let isa = core::array::from_fn(|i| IsaLine { gsi: i as u32, flags: 0 });
        let mut list = [IoApic::default(); MAX_IO_APICS];
        list[0].address = STANDARD_IO_APIC;
        Self { list, count: 1, isa, processors: 1 }
    }

    /// The I/O APICs.
    pub fn io_apics(&self) -> &[IoApic] {
        &self.list[..self.count]
    }

    /// Reads a MADT. `None`: it names no I/O APIC.
    pub fn read(madt: &[u8]) -> Option<Self> {
        let mut it = Self { count: 0, processors: 0, ..Self::standard() };
        for (kind, record) in Records::madt(madt) {
            let field = |at, len| number(record, at, len).unwrap_or(0);
            match kind {
                // A processor's local APIC, with a number of 8 bits or of 32; bit 0: enabled.
                0 => it.processors += field(4, 4) as u32 & 1,
                9 => it.processors += field(8, 4) as u32 & 1,
                1 if it.count < MAX_IO_APICS && field(4, 4) != 0 => {
                    it.list[it.count] = IoApic { address: field(4, 4), base: field(8, 4) as u32 };
                    it.count += 1;
                }
                2 => {
                    if let Some(line) = it.isa.get_mut(field(3, 1) as usize) {
                        *line = line_of(field(4, 4) as u32, field(8, 2));
                    }
                }
                _ => {}
            }
        }
        it.processors = it.processors.max(1);
        (it.count > 0).then_some(it)
    }
}

/// Table 5.26: polarity in bits 0 and 1, trigger mode in bits 2 and 3; 0 is what the bus has, which
/// for ISA is active high and edge triggered.
fn line_of(gsi: u32, flags: u64) -> IsaLine {
    let (low, level) = (flags & 3 == 3, flags >> 2 & 3 == 3);
    IsaLine { gsi, flags: level as u32 | (low as u32) << 1 }
}
