//! PCI configuration space: finding devices, their BARs and interrupt lines (PCI Local Bus
//! Specification 3.0, chapter 6; configuration mechanism 1, 3.2.2.3.2).

use crate::kernel::Kernel;

/// Access to configuration space, 32 bits at a time.
pub trait Config {
    /// Reads the register at `offset`, a multiple of 4. All ones where there is no function.
    fn read(&mut self, at: Address, offset: u8) -> u32;
    /// Writes it.
    fn write(&mut self, at: Address, offset: u8, value: u32);
}

/// Bus, device and function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// Configuration mechanism 1: ports 0xCF8 and 0xCFC.
pub struct Mechanism1<'k, K>(pub &'k mut K);

impl<K: Kernel> Mechanism1<'_, K> {
    fn select(&mut self, at: Address, offset: u8) {
        let function = (at.bus as u32) << 16 | (at.device as u32) << 11 | (at.function as u32) << 8;
        self.0.port_out(0xCF8, 4, 1 << 31 | function | (offset & !3) as u32);
    }
}

impl<K: Kernel> Config for Mechanism1<'_, K> {
    fn read(&mut self, at: Address, offset: u8) -> u32 {
        self.select(at, offset);
        self.0.port_in(0xCFC, 4)
    }
    fn write(&mut self, at: Address, offset: u8, value: u32) {
        self.select(at, offset);
        self.0.port_out(0xCFC, 4, value);
    }
}

/// Offsets of configuration registers.
mod reg {
    pub const ID: u8 = 0x00;
    pub const COMMAND: u8 = 0x04;
    pub const CLASS: u8 = 0x08;
    pub const HEADER: u8 = 0x0C;
    pub const BAR0: u8 = 0x10;
    pub const BUSES: u8 = 0x18;
    pub const SUBSYSTEM: u8 = 0x2C;
    pub const INTERRUPT: u8 = 0x3C;
}

/// Bits of the command register.
mod command {
    pub const MEMORY: u32 = 1 << 1;
    pub const BUS_MASTER: u32 = 1 << 2;
    /// Address spaces (I/O and memory) and bus mastering.
    pub const ALL: u32 = 7;
    /// The upper half is the status register, whose bits are cleared by writing ones.
    pub const MASK: u32 = 0xFFFF;
}

/// Subsystem id by which QEMU marks the devices it emulates.
const QEMU_SUBSYSTEM: u32 = 0x1100_1af4;
/// Its e1000e (82574L) has Intel's vendor id and number 0 instead. So may a real one that was passed
/// to a machine of QEMU's; that one would be taken for emulated.
const QEMU_E1000E: ((u16, u16), u32) = ((0x8086, 0x10d3), 0x0000_8086);

/// A memory BAR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bar {
    /// Physical address.
    pub paddr: u64,
    /// Bytes, a power of two; 0: absent, or in I/O space.
    pub len: u64,
}

/// A function found on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where.
    pub address: Address,
    /// Vendor id, device id.
    pub id: (u16, u16),
    /// Memory BARs by number; the upper half of a 64-bit one is empty.
    pub bars: [Bar; 6],
    /// Interrupt line, as firmware has set it up. `None`: it has no INTx pin, or firmware gave it no
    /// line.
    pub line: Option<u8>,
    /// The subsystem id is QEMU's.
    pub emulated: bool,
}

/// Calls `found` for the address and id of every function, until it returns `true`.
fn scan(config: &mut impl Config, mut found: impl FnMut(&mut dyn Config, Address, u32) -> bool) {
    // Buses still to look at: those behind bridges as firmware numbered them. Each bus is looked at
    // once, whatever the bridges say.
    let (mut pending, mut seen) = ([0u64; 4], [0u64; 4]);
    let bit = |bus: u8| (bus as usize / 64, 1u64 << (bus % 64));
    pending[0] = 1;
    while let Some(word) = pending.iter().position(|w| *w != 0) {
        let bus = word as u8 * 64 + pending[word].trailing_zeros() as u8;
        pending[word] &= !bit(bus).1;
        seen[word] |= bit(bus).1;
        for device in 0..32 {
            for function in 0..8 {
                let at = Address { bus, device, function };
                let id = config.read(at, reg::ID);
                if id & 0xFFFF == 0xFFFF {
                    if function == 0 {
                        break;
                    }
                    continue;
                }
                if found(config, at, id) {
                    return;
                }
                let header = config.read(at, reg::HEADER) >> 16;
                if header & 0x7F == 1 && config.read(at, reg::CLASS) >> 16 == 0x0604 {
                    let (word, bit) = bit((config.read(at, reg::BUSES) >> 8) as u8);
                    pending[word] |= bit & !seen[word];
                }
                if function == 0 && header & 0x80 == 0 {
                    break;
                }
            }
        }
    }
}

/// Takes bus mastering from every function but bridges: firmware and boot loader may have left devices
/// running, which would write to memory that is somebody's now.
pub fn quiet(config: &mut impl Config) {
    scan(config, |config, address, _| {
        let bridge = config.read(address, reg::CLASS) >> 24 == 0x06;
        let command = config.read(address, reg::COMMAND) & command::MASK;
        if !bridge && command & command::BUS_MASTER != 0 {
            config.write(address, reg::COMMAND, command & !command::BUS_MASTER);
        }
        false
    });
}

/// Size and address of the BARs, which needs memory decoding to be off.
fn bars(config: &mut dyn Config, at: Address) -> [Bar; 6] {
    let mut bars = [Bar::default(); 6];
    let mut number = 0;
    while number < 6 {
        let offset = reg::BAR0 + 4 * number as u8;
        let mut size = |offset| {
            let old = config.read(at, offset);
            config.write(at, offset, u32::MAX);
            let mask = config.read(at, offset);
            config.write(at, offset, old);
            (old, mask)
        };
        let (old, mask) = size(offset);
        let wide = old & 7 == 4 && number < 5;
        // 6.2.5.1: bit 0 is I/O space; bits 2..1 are 10 for 64 bits.
        if old & 1 == 0 && mask != 0 {
            let mut paddr = (old & !15) as u64;
            let mut mask = (mask & !15) as u64 | !0 << 32;
            if wide {
                let (high, high_mask) = size(offset + 4);
                paddr |= (high as u64) << 32;
                mask = mask & 0xFFFF_FFFF | (high_mask as u64) << 32;
            }
            // The lowest bit that can be set is the size, whatever the bits above it are.
            let len = mask & mask.wrapping_neg();
            bars[number] = Bar { paddr, len };
        }
        number += 1 + wide as usize;
    }
    bars
}

/// Finds the first function whose (vendor, device) is in `ids`, but for those at the addresses of `taken`. It is left
/// with memory decoding and bus mastering off; see [`enable`].
pub fn find(config: &mut impl Config, ids: &[(u16, u16)], taken: &[Address]) -> Option<Function> {
    let (mut result, machine) = (None, machine_emulated(config));
    scan(config, |config, address, id| {
        let id = (id as u16, (id >> 16) as u16);
        if !ids.contains(&id) || taken.contains(&address) {
            return false;
        }
        let command = config.read(address, reg::COMMAND) & command::MASK;
        config.write(address, reg::COMMAND, command & !command::ALL);
        let interrupt = config.read(address, reg::INTERRUPT);
        let (line, pin) = (interrupt as u8, (interrupt >> 8) as u8);
        let subsystem = config.read(address, reg::SUBSYSTEM);
        result = Some(Function {
            address,
            id,
            bars: bars(config, address),
            line: (pin != 0 && line != 0xFF).then_some(line),
            emulated: subsystem == QEMU_SUBSYSTEM || machine && (id, subsystem) == QEMU_E1000E,
        });
        true
    });
    result
}

/// Whether the machine itself is QEMU's: the subsystem id of its host bridge.
pub fn machine_emulated(config: &mut impl Config) -> bool {
    let host = Address { bus: 0, device: 0, function: 0 };
    config.read(host, reg::SUBSYSTEM) == QEMU_SUBSYSTEM
}

/// Turns memory decoding on, and bus mastering on or off. Off takes effect before this returns: the
/// read that follows the write is not answered before it (2.3.1, configuration writes complete on
/// the bus).
pub fn enable(config: &mut impl Config, at: Address, bus_master: bool) {
    let old = config.read(at, reg::COMMAND) & command::MASK & !command::ALL;
    let master = if bus_master { command::BUS_MASTER } else { 0 };
    config.write(at, reg::COMMAND, old | command::MEMORY | master);
    config.read(at, reg::COMMAND);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    const NIC: Address = Address { bus: 1, device: 3, function: 0 };

    /// Configuration space of a machine: registers, and which bits of BARs can be written.
    #[derive(Default)]
    struct Space {
        regs: BTreeMap<(Address, u8), u32>,
        masks: BTreeMap<(Address, u8), u32>,
        decoding_while_sized: bool,
    }

    impl Config for Space {
        fn read(&mut self, at: Address, offset: u8) -> u32 {
            let absent = if self.regs.contains_key(&(at, 0)) { 0 } else { u32::MAX };
            *self.regs.get(&(at, offset)).unwrap_or(&absent)
        }
        fn write(&mut self, at: Address, offset: u8, value: u32) {
            let old = self.read(at, offset);
            if (reg::BAR0..reg::BAR0 + 24).contains(&offset) {
                self.decoding_while_sized |= self.read(at, reg::COMMAND) & 3 != 0;
                let mask = *self.masks.get(&(at, offset)).unwrap_or(&0);
                self.regs.insert((at, offset), value & mask | old & !mask);
            } else {
                self.regs.insert((at, offset), value);
            }
        }
    }

    impl Space {
        fn put(&mut self, at: (u8, u8, u8), regs: &[(u8, u32)]) {
            let at = Address { bus: at.0, device: at.1, function: at.2 };
            self.regs.extend(regs.iter().map(|(offset, value)| ((at, *offset), *value)));
        }
        /// A host bridge, a two-function bridge chip, a PCI bridge to bus 1 and a NIC behind it.
        fn machine() -> Self {
            let mut s = Self::default();
            s.put((0, 0, 0), &[(0, 0x1237_8086), (0x2C, QEMU_SUBSYSTEM)]);
            s.put((0, 1, 0), &[(0, 0x7000_8086), (0xC, 0x80_0000)]);
            s.put((0, 1, 3), &[(0, 0x7113_8086)]);
            s.put(
                (0, 2, 0),
                &[(0, 0x0001_1b36), (8, 0x0604_0000), (0xC, 0x1_0000), (0x18, 0x0001_0100)],
            );
            s.put(
                (1, 3, 0),
                &[
                    (0, 0x100e_8086),
                    (4, 0x0230_0107),
                    (0x10, 0xfeb8_0000),
                    (0x14, 0x0000_c001),
                    (0x18, 0xfd00_000c),
                    (0x1C, 0x0000_0001),
                    (0x2C, QEMU_SUBSYSTEM),
                    (0x3C, 0x0000_010b),
                ],
            );
            let masks = [(0x10, 0xfffe_0000), (0x14, 0xffff_ffc0), (0x18, 0xffff_c000), (0x1C, !0)];
            s.masks.extend(masks.map(|(offset, mask)| ((NIC, offset), mask)));
            s
        }
    }

    #[test]
    fn finds_the_nic_behind_a_bridge_and_decodes_it() {
        let mut s = Space::machine();
        let nic = find(&mut s, &[(0x8086, 0x100f), (0x8086, 0x100e)], &[]).unwrap();
        assert_eq!(nic.address, NIC);
        assert_eq!(nic.id, (0x8086, 0x100e));
        assert_eq!(nic.bars[0], Bar { paddr: 0xfeb8_0000, len: 0x2_0000 });
        assert_eq!(nic.bars[1], Bar::default());
        assert_eq!(nic.bars[2], Bar { paddr: 0x1_fd00_0000, len: 0x4000 });
        assert_eq!(nic.bars[3..], [Bar::default(); 3]);
        assert_eq!(nic.line, Some(11));
        assert!(nic.emulated && machine_emulated(&mut s));
        assert!(!s.decoding_while_sized);
        // Sizing left the addresses as they were; the device can do nothing yet.
        assert_eq!(s.read(NIC, 0x10), 0xfeb8_0000);
        assert_eq!(s.read(NIC, reg::COMMAND), 0x100);
        assert_eq!(find(&mut s, &[(0x8086, 0x10d3)], &[]), None);
        assert_eq!(nic.address.to_string(), "01:03.0");
    }

    #[test]
    fn the_e1000e_of_qemu_is_known_by_its_machine() {
        let find = |id: u32, subsystem: u32, host: u32| {
            let mut s = Space::machine();
            s.put((1, 3, 0), &[(0, id << 16 | 0x8086), (0x2C, subsystem)]);
            s.put((0, 0, 0), &[(0x2C, host)]);
            find(&mut s, &[(0x8086, id as u16)], &[]).unwrap().emulated
        };
        assert!(find(0x10d3, 0x8086, QEMU_SUBSYSTEM));
        assert!(find(0x10d3, QEMU_SUBSYSTEM, QEMU_SUBSYSTEM));
        assert!(!find(0x10d3, 0x8086, 0x1234_8086));
        assert!(!find(0x10d3, 0xa01f_8086, QEMU_SUBSYSTEM));
        assert!(!find(0x100e, 0x8086, QEMU_SUBSYSTEM));
    }

    #[test]
    fn bus_mastering_is_switched_alone() {
        let mut s = Space::machine();
        find(&mut s, &[(0x8086, 0x100e)], &[]).unwrap();
        enable(&mut s, NIC, true);
        assert_eq!(s.read(NIC, reg::COMMAND), 0x106);
        enable(&mut s, NIC, false);
        assert_eq!(s.read(NIC, reg::COMMAND), 0x102);
    }

    #[test]
    fn what_firmware_left_running_is_stopped() {
        let mut s = Space::machine();
        // A bridge, which has to pass transfers on, and a disk controller.
        s.put((0, 2, 0), &[(4, 7)]);
        s.put((0, 1, 3), &[(4, 0x0290_0007), (8, 0x0106_0100)]);
        quiet(&mut s);
        let command = |device, function, bus| {
            s.regs[&(Address { bus, device, function }, reg::COMMAND)] & command::MASK
        };
        assert_eq!([command(2, 0, 0), command(1, 3, 0), command(3, 0, 1)], [7, 3, 0x103]);
    }

    #[test]
    fn no_line_without_a_pin() {
        let mut s = Space::machine();
        s.put((1, 3, 0), &[(0x3C, 0x0000_000b)]);
        assert_eq!(find(&mut s, &[(0x8086, 0x100e)], &[]).unwrap().line, None);
        s.put((1, 3, 0), &[(0x3C, 0x0000_01ff)]);
        assert_eq!(find(&mut s, &[(0x8086, 0x100e)], &[]).unwrap().line, None);
    }

    #[test]
    fn a_bridge_that_points_at_itself_ends_the_scan() {
        let mut s = Space::machine();
        s.put((0, 2, 0), &[(0x18, 0)]);
        assert_eq!(find(&mut s, &[(0x8086, 0x100e)], &[]), None);
    }

    use alloc::string::ToString;
}
