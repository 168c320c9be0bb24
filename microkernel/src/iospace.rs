//! What devices reach: domains of the DMA remapping hardware (Intel VT-d specification, chapters 3
//! and 9), as capabilities.
//!
//! An IoSpace is a domain: its page is the root of the tables by which the hardware translates the
//! addresses that a device uses. Page tables and frames are mapped into it as into a VSpace
//! ([`crate::vspace`]), and leave it in the same ways. The IoControl capability says which device
//! is in which domain, by an entry in the table of its bus (a context table: a PageTable object that
//! is mapped "into" the IoControl). A device without such an entry reaches nothing.
//!
//! No memory is used again while a device could still reach it: an entry is cleared, what the
//! hardware cached of the domain is forgotten, and only then does the deletion go on.
//!
//! A domain's number is in its capability; numbers and generations make mappings of a domain that
//! is gone stale, as those of address spaces do.

use abi::{Error, MapAttr, Rights};

use crate::cap::Cap;
use crate::vspace::{ADDR, Map, Mapping, Tables, read, write};
use crate::{Kernel, Platform};

/// Domains that can exist at once, plus one (number 0 stands for all). Every unit knows as many
/// (CAP.ND, 10.4.2).
pub const DOMAINS: usize = 16;
/// Address-space number of domain 0 in mappings: above all ASIDs.
pub(crate) const FIRST_DOMAIN: u16 = 0xff0;
const _: () = assert!(crate::vspace::ASIDS <= FIRST_DOMAIN as usize);
const _: () = assert!(FIRST_DOMAIN as usize + DOMAINS <= 1 << 12);
/// Level of a page table that is a context table.
pub(crate) const CONTEXT: u8 = 7;
/// Shift of a device's number (bus, device, function) in the "address" of its context table.
const DEVICE_SHIFT: u32 = 12;

/// A domain.
#[derive(Clone, Copy)]
struct Domain {
    /// Its root; 0: free.
    root: u64,
    generation: u16,
    /// The device it was last given to.
    device: u16,
}

/// The remapping hardware as the kernel uses it.
pub struct Io {
    /// Levels of a domain's tables; 0: there is no hardware.
    levels: u8,
    /// It may cache that an entry is *not* there (CAP.CM, as emulators do).
    caches_absent: bool,
    /// The root table: two words a bus.
    root_table: u64,
    domains: [Domain; DOMAINS],
}

impl Io {
    pub(crate) const fn new() -> Self {
        let free = Domain { root: 0, generation: 0, device: 0 };
        Self { levels: 0, caches_absent: false, root_table: 0, domains: [free; DOMAINS] }
    }
}

/// A transfer that the hardware refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoFault {
    /// The page it aimed at.
    pub address: u64,
    /// Bus, device and function: 8, 5 and 3 bits.
    pub device: u16,
    /// It was a write.
    pub write: bool,
    /// Why (VT-d specification, 7.2.3).
    pub reason: u8,
    /// Others came before it could be recorded, and are not.
    pub lost: bool,
}

/// Flags of an entry that maps `frame` for a device, and the rights that this takes. `None`: no
/// access at all, or one that devices do not have.
pub(crate) fn flags(frame: Cap, rights: Rights, attr: MapAttr) -> Option<(u64, Rights)> {
    let sound = !rights.is_empty() && !rights.contains(Rights::GRANT) && attr.is_empty();
    // Registers of one device are not for another: nothing here needs that.
    (sound && !frame.device()).then_some((rights.bits() as u64, rights))
}

const _: () = assert!(Rights::READ.bits() == 1 && Rights::WRITE.bits() == 2);

impl<P: Platform> Kernel<P> {
    /// Tells of remapping hardware with an empty root table, which is on: tables have `levels`
    /// levels (3 or 4).
    pub fn start_io(&mut self, levels: u8, root_table: u64, caches_absent: bool) {
        (self.io.levels, self.io.root_table, self.io.caches_absent) =
            (levels, root_table, caches_absent);
    }

    /// A free domain, if there is hardware.
    pub(crate) fn new_domain(&self) -> Option<u16> {
        let free = |d: &usize| self.io.domains[*d].root == 0;
        let found = (1..DOMAINS).find(free).filter(|_| self.io.levels > 0)?;
        Some(FIRST_DOMAIN + found as u16)
    }

    /// Takes the domain `number` for a new root; returns its capability.
    pub(crate) fn new_iospace(&mut self, root: Cap, number: u16) -> Cap {
        self.hw.io_publish(root.addr(), 4096);
        self.io.domains[(number - FIRST_DOMAIN) as usize].root = root.addr();
        root.with_data(number as u64)
    }

    /// The tables of a domain.
    pub(crate) fn domain_tables(&self, number: u16) -> Option<Tables> {
        let domain = self.io.domains.get(number.checked_sub(FIRST_DOMAIN)? as usize)?;
        let Domain { root, generation, .. } = *domain;
        let top = self.io.levels;
        let end = 1 << (12 + 9 * top as u64);
        (root != 0).then_some(Tables { root, top, end, number, generation })
    }

    /// The context entry of a device: two words. `None`: its bus has no table.
    fn context_entry(&self, device: u16) -> Option<u64> {
        if self.io.levels == 0 {
            return None;
        }
        let entry = read(self.io.root_table + 16 * (device as u64 >> 8));
        (entry & 1 != 0).then_some((entry & ADDR) + 16 * (device as u64 & 0xff))
    }

    /// The context entry by which a device is in domain `number`.
    fn bound_entry(&self, number: u16) -> Option<u64> {
        let entry = self.context_entry(self.io.domains[(number - FIRST_DOMAIN) as usize].device)?;
        let domain = (read(entry + 8) >> 8) as u16;
        (read(entry) & 1 != 0 && domain == number - FIRST_DOMAIN).then_some(entry)
    }

    /// Puts a device into a domain (9.3, context entry).
    ///
    /// # Errors
    /// [`Error::NoTable`]: its bus has no context table. [`Error::Occupied`]: the device is in a
    /// domain. [`Error::Busy`]: the domain has a device.
    pub(crate) fn io_bind(&mut self, iospace: Cap, device: u16) -> Result<(), Error> {
        let number = iospace.data() as u16;
        let tables = self.domain_tables(number).ok_or(Error::WrongType)?;
        if self.bound_entry(number).is_some() {
            return Err(Error::Busy);
        }
        let entry = self.context_entry(device).ok_or(Error::NoTable)?;
        if read(entry) & 1 != 0 {
            return Err(Error::Occupied);
        }
        let domain = number - FIRST_DOMAIN;
        self.io.domains[domain as usize].device = device;
        // Address width: 1 is three levels, 2 is four.
        write(entry + 8, (domain as u64) << 8 | (tables.top as u64 - 2));
        write(entry, tables.root | 1);
        self.io_mapped(entry);
        Ok(())
    }

    /// An IoSpace is gone: its device reaches nothing, and its number's next user has another
    /// generation.
    pub(crate) fn end_iospace(&mut self, iospace: Cap) {
        let number = iospace.data() as u16;
        if self.domain_tables(number).is_none() {
            return;
        }
        if let Some(entry) = self.bound_entry(number) {
            write(entry, 0);
            self.io_unmapped(entry, number);
        }
        let domain = &mut self.io.domains[(number - FIRST_DOMAIN) as usize];
        domain.root = 0;
        domain.generation = domain.generation.wrapping_add(1);
    }

    /// Checks the mapping of a page table as the context table of the bus of `vaddr`, a device's
    /// number shifted by 12.
    pub(crate) fn decode_map_context(&self, table: Cap, vaddr: u64) -> Result<Map, Error> {
        let bus = vaddr >> (DEVICE_SHIFT + 8);
        if bus > 0xff || self.io.levels == 0 {
            return Err(Error::Range);
        }
        let entry = self.io.root_table + 16 * bus;
        if read(entry) & 1 != 0 {
            return Err(Error::Occupied);
        }
        let vaddr = bus << (DEVICE_SHIFT + 8);
        let mapping = Mapping { vaddr, asid: FIRST_DOMAIN, generation: 0 }.pack();
        Ok(Map { entry, value: table.addr() | 1, mapping, level: CONTEXT, io: true })
    }

    /// Takes a context table away: the devices of its bus reach nothing.
    pub(crate) fn unmap_context(&mut self, table: Cap, vaddr: u64) {
        let entry = self.io.root_table + 16 * (vaddr >> (DEVICE_SHIFT + 8));
        if read(entry) & ADDR == table.addr() {
            write(entry, 0);
            self.io_unmapped(entry, FIRST_DOMAIN);
        }
    }

    /// An entry was written where none was.
    pub(crate) fn io_mapped(&mut self, entry: u64) {
        self.hw.io_publish(entry, 16);
        if self.io.caches_absent {
            self.hw.io_forget(0);
        }
    }

    /// An entry of domain `number` was cleared.
    pub(crate) fn io_unmapped(&mut self, entry: u64, number: u16) {
        self.hw.io_publish(entry, 16);
        self.hw.io_forget(number - FIRST_DOMAIN);
    }
}
