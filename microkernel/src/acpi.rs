//! ACPI tables: finding them and walking the records in them (ACPI specification 6.5, 5.2.5 to
//! 5.2.8 and 5.2.12).
//!
//! What firmware left is an allegation like any other: every address and length is checked before
//! it is followed, a table with a wrong checksum is not there, and no walk is longer than the table.
//! Nothing is kept: callers take what they need while the boot's own page tables still reach low
//! and reserved memory.

pub mod fadt;
pub mod madt;

/// Most bytes that a table may have; firmware's largest ones are a tenth of it.
const TABLE_MAX: u64 = 1 << 20;
/// Bytes of the header that all tables begin with.
const HEADER: usize = 36;
/// Where the BIOS keeps the segment of its extended data area.
const EBDA_POINTER: u64 = 0x40e;

/// The little-endian number of `len` (up to 8) bytes at offset `at`.
pub fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(field.iter().rev().fold(0, |n, b| n << 8 | *b as u64))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)) == 0
}

/// The tables of a machine. `M` gives `len` bytes of physical memory at an address, or `None` where
/// there is none to read.
pub struct Acpi<'m, M> {
    memory: M,
    /// Addresses of the tables, `width` bytes each.
    root: &'m [u8],
    width: usize,
}

impl<'m, M: Fn(u64, u64) -> Option<&'m [u8]>> Acpi<'m, M> {
    /// Finds the root table: through the root pointer that the loader named (0: none), else through
    /// the one in the areas of the BIOS (5.2.5.1). `None`: the machine has no ACPI.
    pub fn new(memory: M, rsdp: u64) -> Option<Self> {
        let pointer = |at| Some((at, root_pointer(memory(at, 20)?)?));
        let (at, rsdt) = pointer(rsdp).filter(|_| rsdp != 0).or_else(|| {
            let ebda = number(memory(EBDA_POINTER, 2)?, 0, 2)? << 4;
            let areas = [(ebda, ebda + 1024), (0xe_0000, 0x10_0000)];
            areas.into_iter().flat_map(|(from, to)| (from..to).step_by(16)).find_map(pointer)
        })?;
        // Revision 2 and later name a table of 64-bit addresses, in a longer pointer with a sum of
        // its own; where that one is not right, the old one is.
        let xsdt = memory(at, 36)
            .filter(|p| p[15] >= 2 && sums_to_zero(p))
            .and_then(|p| table(&memory, number(p, 24, 8)?, b"XSDT"));
        let (root, width) = match xsdt {
            Some(root) => (root, 8),
            None => (table(&memory, rsdt, b"RSDT")?, 4),
        };
        Some(Self { memory, root: &root[HEADER..], width })
    }

    /// The first table with this signature, header and all. It is at least a header long.
    pub fn table(&self, signature: &[u8; 4]) -> Option<&'m [u8]> {
        let mut entries = self.root.chunks_exact(self.width);
        entries.find_map(|e| table(&self.memory, number(e, 0, e.len())?, signature))
    }
}

impl<'m, M: Fn(u64, u64) -> Option<&'m [u8]>> Acpi<'m, M> {
    /// How the machine is turned off, if the tables say so.
    pub fn power_off(&self) -> Option<abi::PowerOff> {
        let fadt = self.table(b"FACP")?;
        fadt::power_off(fadt, table(&self.memory, fadt::dsdt(fadt)?, b"DSDT")?)
    }
}

/// The 32-bit root table's address, if these bytes are a root pointer.
fn root_pointer(bytes: &[u8]) -> Option<u64> {
    (bytes.starts_with(b"RSD PTR ") && sums_to_zero(bytes)).then(|| number(bytes, 16, 4))?
}

/// The table at `at`, if it is one with this signature.
fn table<'m>(
    memory: &impl Fn(u64, u64) -> Option<&'m [u8]>,
    at: u64,
    signature: &[u8; 4],
) -> Option<&'m [u8]> {
    let header = memory(at, HEADER as u64).filter(|h| h.starts_with(signature))?;
    let len = number(header, 4, 4).filter(|l| (HEADER as u64..=TABLE_MAX).contains(l))?;
    memory(at, len).filter(|t| sums_to_zero(t))
}

/// The records of a table's body: type and length, then what the type says. Ends at the first one
/// that cannot be.
pub struct Records<'m> {
    rest: &'m [u8],
    width: usize,
}

impl<'m> Records<'m> {
    /// The interrupt controllers of a MADT ("APIC", 5.2.12): types and lengths of one byte, from
    /// offset 44.
    pub fn madt(table: &'m [u8]) -> Self {
        Self { rest: table.get(44..).unwrap_or(&[]), width: 1 }
    }
    /// The remapping structures of a DMAR (VT-d specification, 8.1): two bytes, from offset 48.
    pub fn dmar(table: &'m [u8]) -> Self {
        Self { rest: table.get(48..).unwrap_or(&[]), width: 2 }
    }
}

impl<'m> Iterator for Records<'m> {
    /// Type, and the record with its header.
    type Item = (u64, &'m [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let kind = number(self.rest, 0, self.width)?;
        let len = number(self.rest, self.width, self.width)? as usize;
        if len < 2 * self.width || len > self.rest.len() {
            self.rest = &[];
            return None;
        }
        let (record, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some((kind, record))
    }
}

/// Register addresses of the DMA remapping units in a DMAR (VT-d specification, 8.3).
pub fn remapping_units<'m>(dmar: &'m [u8]) -> impl Iterator<Item = u64> + use<'m> {
    Records::dmar(dmar).filter(|(kind, _)| *kind == 0).filter_map(|(_, unit)| number(unit, 8, 8))
}
