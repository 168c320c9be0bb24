//! The controllers of the family, by PCI device id, and where they differ from each other. All have
//! the registers and descriptors of the 82540EM; what is said here is all that the driver knows
//! about a model.
//!
//! Sources: the manual for the PCI and PCI-X parts; for the 82574L its datasheet (317694), below
//! "datasheet", and the errata for which Linux's e1000e sets the same bits.

use crate::regs::{self, CtrlExt, Reg};

/// A controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// PCI device id; the vendor is Intel.
    pub id: u16,
    /// Name.
    pub name: &'static str,
    /// How EERD is laid out. `None`: there is no such register, and the address that the hardware
    /// has loaded into RAL and RAH counts.
    pub eerd: Option<Eerd>,
    /// A PCI Express part: reading ICR clears it only under conditions (datasheet 10.2.4.1), so that
    /// causes are cleared by writing them back; and bus mastering is ended by a handshake
    /// (CTRL.GIO_MASTER_DISABLE) before a reset.
    pub express: bool,
    /// As emulated, it is asked to cut long frames into segments (manual 3.5): not the 82574L, of which
    /// QEMU makes IP fragments up to version 7.2, nor the 82544GC. On metal none is, until somebody has
    /// tried whether descriptors are ever reported done before all of their bytes were read.
    pub tso: bool,
    /// From the end of a reset until the EEPROM has been loaded and the PHY set up, ns.
    pub settle_ns: u64,
    /// Registers that other software, or the reset, may have left with unsuitable bits.
    pub adjust: &'static [Adjust],
}

/// Layout of the EEPROM read register; START is bit 0 and the data bits 31:16 in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eerd {
    /// Lowest bit of the address.
    pub address_shift: u8,
    /// Set when the data is valid.
    pub done: u32,
}

/// A register in which some bits are changed, at a cold start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjust {
    /// Which.
    pub reg: Reg,
    /// Bits to clear.
    pub clear: u32,
    /// Bits to set, after that.
    pub set: u32,
}

/// Manual 13.4.4.
const EERD_8254X: Eerd = Eerd { address_shift: 8, done: 1 << 4 };
/// Datasheet 10.2.2.3.
const EERD_82574: Eerd = Eerd { address_shift: 2, done: 1 << 1 };
/// Manual 13.4.1: 1 µs after a reset before the first access, and the EEPROM takes its time.
const SETTLE_8254X_NS: u64 = 5_000_000;
/// The PHY is configured from the EEPROM once that has been loaded.
const SETTLE_82574_NS: u64 = 25_000_000;

const ADJUST_82574: &[Adjust] = &[
    // Interrupts are masked by software alone. Tell firmware that there is a driver.
    Adjust {
        reg: regs::CTRL_EXT,
        clear: CtrlExt::IAME.bits() | CtrlExt::EIAME.bits(),
        set: CtrlExt::DRV_LOAD.bits(),
    },
    // Legacy receive descriptors (RFCTL.EXSTEN), and all of them from one queue.
    Adjust { reg: regs::RFCTL, clear: 1 << 15, set: 0 },
    Adjust { reg: regs::MRQC, clear: !0, set: 0 },
    // Written back one by one: WTHRESH 1, in descriptors (GRAN); bit 22 as the errata want it.
    Adjust { reg: regs::TXDCTL, clear: 0x3f << 16, set: 1 << 16 | 1 << 22 | 1 << 24 },
    // Unreliable completions under power management.
    Adjust { reg: regs::GCR, clear: 0, set: 1 << 22 },
    Adjust { reg: regs::GCR2, clear: 0, set: 1 << 0 },
];

const fn pci(id: u16, name: &'static str, eerd: Option<Eerd>) -> Model {
    let (settle_ns, tso) = (SETTLE_8254X_NS, eerd.is_some());
    Model { id, name, eerd, express: false, tso, settle_ns, adjust: &[] }
}

/// All models.
pub const MODELS: [Model; 4] = [
    pci(0x100e, "82540EM", Some(EERD_8254X)),
    pci(0x100f, "82545EM", Some(EERD_8254X)),
    // It has no EERD (manual 5.3.1).
    pci(0x100c, "82544GC", None),
    Model {
        id: 0x10d3,
        name: "82574L",
        eerd: Some(EERD_82574),
        express: true,
        tso: false,
        settle_ns: SETTLE_82574_NS,
        adjust: ADJUST_82574,
    },
];

/// What is assumed of an id that is not in the table: the manifest gave it to this driver, so it
/// is a relative of the 82540EM.
pub const OTHER: Model = pci(0, "unknown 8254x", Some(EERD_8254X));

/// The model with this PCI device id.
pub fn model(id: u16) -> Model {
    MODELS.into_iter().find(|m| m.id == id).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_to_models() {
        for (id, name) in [
            (0x100e, "82540EM"),
            (0x100f, "82545EM"),
            (0x100c, "82544GC"),
            (0x10d3, "82574L"),
            (0x1234, "unknown 8254x"),
        ] {
            assert_eq!(model(id).name, name);
        }
        assert!(MODELS.iter().all(|m| m.id != 0));
    }
}
