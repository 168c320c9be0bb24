//! The clock on the wall: the PC's battery-backed MC146818 (Motorola's data sheet), read once at
//! boot. It is taken to hold UTC, as QEMU's does unless told otherwise.

use libipc::time::Date;

use crate::kernel::Kernel;

/// Selects a register; bit 7 would mask NMIs.
const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

mod reg {
    pub const SECONDS: u8 = 0;
    pub const MINUTES: u8 = 2;
    pub const HOURS: u8 = 4;
    pub const DAY: u8 = 7;
    pub const MONTH: u8 = 8;
    pub const YEAR: u8 = 9;
    pub const A: u8 = 10;
    pub const B: u8 = 11;
}

/// Register A: an update is under way or about to be.
const UPDATING: u8 = 1 << 7;
/// Register B: 24 hours, else 12.
const HOURS_24: u8 = 1 << 1;
/// Register B: binary numbers, else decimal digits of four bits.
const BINARY: u8 = 1 << 2;
/// Hours in the 12-hour format: afternoon.
const AFTERNOON: u8 = 1 << 7;

/// Looks at the clock before it is taken for dead: an update takes 2 ms, a look more than 1 µs.
const LOOKS: usize = 10_000;
/// Readings that may differ from the one before.
const TRIES: usize = 5;
/// It counts whole seconds: on the average the time is half a second more than it says.
const HALF_SECOND: u64 = 500_000_000;

fn read(k: &mut impl Kernel, reg: u8) -> u8 {
    k.port_out(INDEX, 1, reg as u32);
    k.port_in(DATA, 1) as u8
}

/// The registers, when no update is under way.
fn look(k: &mut impl Kernel) -> Option<[u8; 6]> {
    (0..LOOKS).find(|_| read(k, reg::A) & UPDATING == 0)?;
    let regs = [reg::SECONDS, reg::MINUTES, reg::HOURS, reg::DAY, reg::MONTH, reg::YEAR];
    Some(regs.map(|r| read(k, r)))
}

/// The same twice: an update may begin between two reads.
fn steady(k: &mut impl Kernel) -> Option<[u8; 6]> {
    let mut last = look(k)?;
    for _ in 0..TRIES {
        let next = look(k)?;
        if next == last {
            return Some(next);
        }
        last = next;
    }
    None
}

/// A number in the clock's format; `None`: it is none.
fn number(raw: u8, binary: bool) -> Option<u8> {
    match (binary, raw >> 4, raw & 15) {
        (true, ..) => Some(raw),
        (false, tens @ 0..=9, ones @ 0..=9) => Some(tens * 10 + ones),
        _ => None,
    }
}

/// What the clock says. The century is not in it in a way that all machines share: this reads
/// 2000 to 2099.
fn date(k: &mut impl Kernel) -> Option<Date> {
    let format = read(k, reg::B);
    let binary = format & BINARY != 0;
    let [second, minute, raw_hour, day, month, year] = steady(k)?;
    let [second, minute, day, month, year] =
        [second, minute, day, month, year].map(|raw| number(raw, binary));
    let hour = match format & HOURS_24 != 0 {
        true => number(raw_hour, binary)?,
        // 12 is the first hour of each half.
        false => match number(raw_hour & !AFTERNOON, binary)? {
            hour @ 1..=12 => hour % 12 + if raw_hour & AFTERNOON != 0 { 12 } else { 0 },
            _ => return None,
        },
    };
    let year = 2000 + year.filter(|y| *y < 100)? as u16;
    Some(Date { year, month: month?, day: day?, hour, minute: minute?, second: second? })
}

/// Nanoseconds from the beginning of 1970 to boot. `None`: no clock, or none that makes sense.
pub fn utc_at_boot(k: &mut impl Kernel) -> Option<u64> {
    let seconds = date(k)?.to_unix()?;
    (seconds * 1_000_000_000 + HALF_SECOND).checked_sub(k.now_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::Model;

    /// What is read from a clock with these registers: seconds, minutes, hours, day, month, year,
    /// format.
    fn read(regs: [u8; 7]) -> Option<Date> {
        let mut k = Model::new(&[]);
        let [s, min, h, d, mon, y, b] = regs;
        let cmos = &mut k.outside.cmos;
        for (reg, value) in [(0, s), (2, min), (4, h), (7, d), (8, mon), (9, y), (11, b)] {
            cmos.regs[reg] = value;
        }
        date(&mut k)
    }

    fn at(hour: u8) -> Option<Date> {
        Some(Date { year: 2026, month: 11, day: 22, hour, minute: 45, second: 59 })
    }

    #[test]
    fn every_format() {
        assert_eq!(read([0x59, 0x45, 0x23, 0x22, 0x11, 0x26, 2]), at(23));
        assert_eq!(read([59, 45, 23, 22, 11, 26, 6]), at(23));
        for (hour, raw) in [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)] {
            assert_eq!(read([0x59, 0x45, raw, 0x22, 0x11, 0x26, 0]), at(hour), "{raw:#x}");
        }
        assert_eq!(read([59, 45, 0x80 | 11, 22, 11, 26, 4]), at(23));
    }

    #[test]
    fn nonsense_is_no_time() {
        let mut k = Model::new(&[]);
        assert_eq!(utc_at_boot(&mut k), None, "all zero");
        k.outside.cmos.regs = [0xff; 128];
        assert_eq!(utc_at_boot(&mut k), None, "no clock at all");
        assert_eq!(read([0x5a, 0x45, 0x23, 0x22, 0x11, 0x26, 2]), None);
        assert_eq!(read([0x59, 0x45, 0x00, 0x22, 0x11, 0x26, 0]), None);
        assert_eq!(read([0x59, 0x45, 0x13, 0x22, 0x11, 0x26, 0]), None);
        let thirtieth = read([0x59, 0x45, 0x23, 0x30, 0x02, 0x26, 2]).unwrap();
        assert_eq!(thirtieth.to_unix(), None);
    }

    #[test]
    fn updates_are_waited_for_and_torn_readings_repeated() {
        let mut k = Model::new(&[]);
        let cmos = &mut k.outside.cmos;
        for (reg, value) in [(0, 0x59), (2, 0x59), (4, 0x23), (7, 0x31), (8, 0x12), (9, 0x26)] {
            cmos.regs[reg] = value;
        }
        cmos.regs[11] = 2;
        cmos.updating = 7;
        // The new year begins in the middle of the first reading.
        cmos.ticks_after = Some(12);
        let new_year = Date { year: 2027, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
        assert_eq!(date(&mut k), Some(new_year));
        k.outside.cmos.ticks_after = None;
        let seconds = new_year.to_unix().unwrap();
        k.now = 3_000_000_000;
        assert_eq!(utc_at_boot(&mut k), Some((seconds - 3) * 1_000_000_000 + HALF_SECOND));
        // One that never ends its update is dead.
        k.outside.cmos.updating = u32::MAX;
        assert_eq!(date(&mut k), None);
    }
}
