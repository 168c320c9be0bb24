//! How a machine is turned off (FADT, "FACP"; ACPI specification 6.5, 4.8.3.2, 5.2.9 and 7.4.2).

use abi::PowerOff;

use super::number;

/// FADT flags: there are no such registers.
const HARDWARE_REDUCED: u64 = 1 << 20;

/// Where the table with the machine's objects (DSDT) lies.
pub fn dsdt(fadt: &[u8]) -> Option<u64> {
    let wide = number(fadt, 140, 8).filter(|at| *at != 0);
    wide.or_else(|| number(fadt, 40, 4))
}

/// The registers, and what to write there. `None`: not to be known.
pub fn power_off(fadt: &[u8], dsdt: &[u8]) -> Option<PowerOff> {
    if number(fadt, 112, 4)? & HARDWARE_REDUCED != 0 {
        return None;
    }
    // A port of 32 bits, or, if that is 0, an address with its space (1: ports) where the table is
    // long enough.
    let port = |old, new| {
        let old = number(fadt, old, 4).filter(|p| *p != 0);
        let extended = || number(fadt, new + 4, 8).filter(|_| fadt.get(new) == Some(&1));
        old.or_else(extended).and_then(|p| u16::try_from(p).ok()).unwrap_or(0)
    };
    let control = [port(64, 172), port(68, 184)];
    let sleep_type = sleep_types(dsdt)?;
    let (smi_command, enable) = (number(fadt, 48, 4)? as u16, number(fadt, 52, 1)? as u8);
    (control[0] != 0).then_some(PowerOff { control, smi_command, enable, sleep_type })
}

/// The first two numbers of the package `\_S5`: found by its name, without an interpreter, since
/// firmware writes it as a constant.
fn sleep_types(dsdt: &[u8]) -> Option<[u8; 2]> {
    let names = (0..dsdt.len()).filter(|i| dsdt[*i..].starts_with(b"_S5_"));
    names.into_iter().find_map(|at| {
        // NameOp in front, perhaps with a root character in between (20.2.2, 20.2.5.1).
        let named = |b: &[u8]| b.ends_with(&[8]) || b.ends_with(b"\x08\\");
        let package = dsdt.get(at + 4..).filter(|_| named(&dsdt[..at]))?;
        // PackageOp, its length in one to four bytes, the number of elements (20.2.5.4, 20.2.4).
        let length = *package.get(1).filter(|_| package[0] == 0x12)?;
        let mut rest = package.get(3 + (length >> 6) as usize..)?;
        let mut next = || {
            // Zero, One, or a byte or word behind its prefix (20.2.3).
            let (value, len) = match *rest.first()? {
                0 => (0, 1),
                1 => (1, 1),
                0x0a => (*rest.get(1)?, 2),
                0x0b => (*rest.get(1)?, 3),
                _ => return None,
            };
            rest = rest.get(len..)?;
            Some(value & 7)
        };
        Some([next()?, next()?])
    })
}
