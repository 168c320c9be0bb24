//! Turning the machine off, as its firmware tables say (ACPI specification 6.5, 4.8.3.2 and 16.1.7).

use abi::PowerOff;

use crate::kernel::Kernel;

/// Control register: ACPI is on; what to sleep in, and the bit that begins it.
const ON: u32 = 1;
const SLEEP_TYPE: u32 = 7 << 10;
const SLEEP: u32 = 1 << 13;
/// Reads of a register while waiting: some tens of milliseconds.
const PATIENCE: u32 = 100_000;

/// Turns it off, which takes a moment. Comes back if it is not to be turned off in this way.
pub fn turn_off<K: Kernel>(k: &mut K, power: &PowerOff) {
    let first = power.control[0];
    if first == 0 {
        return;
    }
    if power.smi_command != 0 && k.port_in(first, 2) & ON == 0 {
        k.port_out(power.smi_command, 1, power.enable as u32);
        let _ = (0..PATIENCE).find(|_| k.port_in(first, 2) & ON != 0);
    }
    for (port, kind) in power.control.into_iter().zip(power.sleep_type) {
        if port != 0 {
            let other = k.port_in(port, 2) & !(SLEEP_TYPE | SLEEP);
            k.port_out(port, 2, other | (kind as u32) << 10 | SLEEP);
        }
    }
    for _ in 0..PATIENCE {
        k.port_in(first, 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model::Model;
    use alloc::vec::Vec;

    fn written(power: PowerOff) -> Vec<(u16, u32)> {
        let mut k = Model::new(&[]);
        turn_off(&mut k, &power);
        k.outside.off
    }

    #[test]
    fn each_control_register_gets_its_type() {
        let mut power = PowerOff { control: [0x604, 0], sleep_type: [5, 7], ..PowerOff::default() };
        assert_eq!(written(power), [(0x604, 0x3400)]);
        power.control = [0x604, 0xf4];
        assert_eq!(written(power), [(0x604, 0x3400), (0xf4, 0x3c00)]);
        // ACPI is off in the model: it is turned on first.
        (power.smi_command, power.enable) = (0xf4, 9);
        assert_eq!(written(power)[0], (0xf4, 9));
        assert_eq!(written(PowerOff::default()), []);
    }
}
