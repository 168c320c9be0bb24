//! Time: the time-stamp counter and the local APIC timer, both calibrated against the PIT.

use abi::Clock;
use x86_64::instructions::port::Port;

/// PIT input clock, Hz.
const PIT_HZ: u64 = 1_193_182;
/// Length of the calibration, PIT ticks (about 10 ms).
const TICKS: u64 = 11_932;
/// Polls before the PIT is taken for dead.
const POLLS: u64 = 50_000_000;

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: no side effects.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Runs `start`, waits 10 ms by PIT channel 2, and returns TSC ticks and what `read` says.
/// `None` if the PIT does not count.
fn measure(start: impl FnOnce(), read: impl FnOnce() -> u64) -> Option<(u64, u64)> {
    let (mut gate, mut command, mut data) =
        (Port::<u8>::new(0x61), Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    // SAFETY: PIT channel 2 and its gate; nothing else uses them.
    unsafe {
        let old = gate.read() & !3;
        gate.write(old);
        command.write(0xb0); // channel 2, both bytes, mode 0: output goes high at the end
        data.write(TICKS as u8);
        data.write((TICKS >> 8) as u8);
        start();
        let from = tsc();
        gate.write(old | 1);
        for _ in 0..POLLS {
            if gate.read() & 0x20 != 0 {
                let (to, value) = (tsc(), read());
                gate.write(old);
                return Some((to - from, value));
            }
        }
    }
    None
}

/// Calibrates. Returns clock parameters and APIC timer ticks a second.
pub fn calibrate(apic_start: impl FnOnce(), apic_elapsed: impl FnOnce() -> u64) -> (Clock, u64) {
    let measured = measure(apic_start, apic_elapsed);
    let (tsc_ticks, apic_ticks) = measured.expect("the PIT counts: time cannot be kept without it");
    let ns = TICKS as u128 * 1_000_000_000 / PIT_HZ as u128;
    let mult = ((ns << 32) / tsc_ticks.max(1) as u128) as u64;
    let apic_hz = apic_ticks * PIT_HZ / TICKS;
    (Clock { tsc_base: tsc(), mult }, apic_hz)
}
