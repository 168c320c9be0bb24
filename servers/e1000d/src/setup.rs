//! The NIC as a whole: stop, reset, address, link, programming (manual, chapter 14).

use crate::Config;
use crate::desc;
use crate::hardware::{Hardware, wait_until};
use crate::lent::{self, Side};
use crate::models::{Eerd, Model};
use crate::regs::{self, Ctrl, DeviceStatus, Rctl, Tctl};

/// Longest time one EEPROM word may take.
const EEPROM_NS: u64 = 10_000_000;
/// Longest time a reset may take.
const RESET_NS: u64 = 20_000_000;
/// Longest time that frames in flight get to leave before a real NIC is stopped.
const DRAIN_NS: u64 = 50_000_000;
/// After RCTL.EN was cleared: what is being received has been written by then.
const QUIET_NS: u64 = 2_000_000;
/// Longest time that transfers of a PCI Express part may take to end, once it was asked to.
const MASTER_NS: u64 = 80_000_000;

fn bases(config: &Config) -> [(regs::Reg, u32); 6] {
    let rx = config.rings_bus + lent::ring_offset(Side::Rx);
    let tx = config.rings_bus + lent::ring_offset(Side::Tx);
    let bytes = |size: lent::RingSize| size.get() as u32 * desc::BYTES as u32;
    [
        (regs::RDBAL, rx as u32),
        (regs::RDBAH, (rx >> 32) as u32),
        (regs::RDLEN, bytes(config.settings.rx)),
        (regs::TDBAL, tx as u32),
        (regs::TDBAH, (tx >> 32) as u32),
        (regs::TDLEN, bytes(config.settings.tx)),
    ]
}

/// Whether the NIC runs as [`program`] left it.
pub fn is_running<H: Hardware>(hw: &mut H, config: &Config) -> bool {
    lent::is_set_up(hw, config.rings_bus, config.pool_bus)
        && hw.read(regs::RCTL) == regs::RCTL_VALUE.bits()
        && hw.read(regs::TCTL) == regs::TCTL_VALUE.bits()
        && bases(config).iter().all(|(reg, value)| hw.read(*reg) == *value)
}

/// Stops interrupts, reception and sending. A real NIC gets time to send what it has. When this
/// returns, the NIC reaches for no memory.
pub fn stop<H: Hardware>(hw: &mut H, config: &Config) {
    hw.write(regs::IMC, !0);
    hw.read(regs::ICR);
    // Each RCTL write, even of the same value, keeps QEMU's model deaf for a second.
    let receiving = hw.read(regs::RCTL) & Rctl::EN.bits() != 0;
    if receiving {
        hw.write(regs::RCTL, 0);
    }
    let sending = hw.read(regs::TCTL) & Tctl::EN.bits() != 0;
    if !config.emulated && sending {
        wait_until(hw, DRAIN_NS, |hw| hw.read(regs::TDH) == hw.read(regs::TDT));
    }
    if sending {
        hw.write(regs::TCTL, 0);
    }
    if !config.emulated && (receiving || sending) {
        wait_until(hw, QUIET_NS, |_| false);
    }
    if config.model.express {
        // Datasheet 5.2.5.3.2: else a reset may leave a transfer half done.
        let ctrl = hw.read(regs::CTRL);
        hw.write(regs::CTRL, ctrl | Ctrl::GIO_MASTER_DISABLE.bits());
        let busy = DeviceStatus::GIO_MASTER_ENABLE.bits();
        wait_until(hw, MASTER_NS, |hw| hw.read(regs::STATUS) & busy == 0);
    }
}

/// Resets the MAC. QEMU's model clears the bit and nothing else, so that [`program`] sets every
/// register that matters. The PHY is left alone: the link stays up.
pub fn reset<H: Hardware>(hw: &mut H, config: &Config) {
    let ctrl = hw.read(regs::CTRL);
    hw.write(regs::CTRL, ctrl & !Ctrl::PHY_RST.bits() | Ctrl::RST.bits());
    if !config.emulated {
        wait_until(hw, config.model.settle_ns, |_| false);
    }
    // A NIC that does not come back is used as it is: nothing better can be done here.
    wait_until(hw, RESET_NS, |hw| hw.read(regs::CTRL) & Ctrl::RST.bits() == 0);
    hw.write(regs::IMC, !0);
    hw.read(regs::ICR);
}

fn eeprom<H: Hardware>(hw: &mut H, eerd: Eerd, word: u8) -> Option<u16> {
    hw.write(regs::EERD, regs::EERD_START | (word as u32) << eerd.address_shift);
    let mut value = 0;
    let done = wait_until(hw, EEPROM_NS, |hw| {
        value = hw.read(regs::EERD);
        value & eerd.done != 0
    });
    done.then_some((value >> 16) as u16)
}

/// The MAC address: from the EEPROM, else from the receive address register, which the hardware
/// loads from there at reset. `None`: neither holds a station address.
pub fn mac<H: Hardware>(hw: &mut H, model: &Model) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let word = |hw: &mut H, i| eeprom(hw, model.eerd?, i);
    let read = (0..3).all(|i| match word(hw, i as u8) {
        Some(word) => {
            mac[2 * i..2 * i + 2].copy_from_slice(&word.to_le_bytes());
            true
        }
        None => false,
    });
    let station = |mac: &[u8; 6]| mac[0] & 1 == 0 && *mac != [0; 6];
    if !read || !station(&mac) {
        let (low, high) = (hw.read(regs::RAL0), hw.read(regs::RAH0));
        mac[..4].copy_from_slice(&low.to_le_bytes());
        mac[4..].copy_from_slice(&high.to_le_bytes()[..2]);
        if high & regs::RAH_AV == 0 {
            return None;
        }
    }
    station(&mac).then_some(mac)
}

/// Programs a stopped NIC with empty rings; reception starts with the last write.
pub fn program<H: Hardware>(hw: &mut H, config: &Config, mac: [u8; 6]) {
    let mut ctrl = Ctrl::from_bits_retain(hw.read(regs::CTRL));
    ctrl.insert(Ctrl::SLU | Ctrl::ASDE);
    ctrl.remove(Ctrl::LRST | Ctrl::ILOS | Ctrl::FRCSPD | Ctrl::FRCDPLX | Ctrl::VME | Ctrl::PHY_RST);
    if config.model.express {
        ctrl.remove(Ctrl::GIO_MASTER_DISABLE);
    }
    hw.write(regs::CTRL, ctrl.bits());
    for a in config.model.adjust {
        let value = hw.read(a.reg);
        hw.write(a.reg, value & !a.clear | a.set);
    }
    // No pause frames: a slow netd must not stop a whole switch.
    for reg in [regs::FCAL, regs::FCAH, regs::FCT, regs::FCTTV] {
        hw.write(reg, 0);
    }
    for i in 0..regs::TABLE_WORDS {
        hw.write(regs::MTA.word(i), 0);
        hw.write(regs::VFTA.word(i), 0);
    }
    let [a, b, c, d, e, f] = mac;
    hw.write(regs::RAL0, u32::from_le_bytes([a, b, c, d]));
    hw.write(regs::RAH0, u32::from_le_bytes([e, f, 0, 0]) | regs::RAH_AV);
    for (reg, value) in bases(config) {
        hw.write(reg, value);
    }
    for reg in [regs::RDH, regs::RDT, regs::TDH, regs::TDT, regs::RDTR, regs::RADV, regs::TIDV] {
        hw.write(reg, 0);
    }
    hw.write(regs::ITR, regs::ITR_VALUE);
    hw.write(regs::RXCSUM, (regs::Rxcsum::IPOFLD | regs::Rxcsum::TUOFLD).bits());
    hw.write(regs::TIPG, regs::TIPG_VALUE);
    hw.write(regs::TCTL, regs::TCTL_VALUE.bits());
    lent::set_up(hw, config.rings_bus, config.pool_bus);
    hw.write(regs::RCTL, regs::RCTL_VALUE.bits());
}

/// Link speed in Mbit/s, if the link is up.
pub fn link<H: Hardware>(hw: &mut H) -> Option<u32> {
    let status = DeviceStatus::from_bits_retain(hw.read(regs::STATUS));
    status.contains(DeviceStatus::LU).then(|| status.speed())
}
