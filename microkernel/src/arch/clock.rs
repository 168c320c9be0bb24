//! Time: the time-stamp counter and the local APIC timer, both calibrated against the PIT.

use abi::Clock;
use x86_64::instructions::port::Port;

/// PIT input clock, Hz.
const PIT_HZ: u64 = 1_193_182;
/// Length of one measurement, PIT ticks (about 5 ms).
const TICKS: u64 = 5_966;
/// Measurements. The shortest counts: a virtual processor that was not running at the end of one
/// sees it late, never early.
const SAMPLES: usize = 3;
/// Polls before the PIT is taken for dead.
const POLLS: u64 = 50_000_000;

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: no side effects.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Runs `start`, waits [`TICKS`] by PIT channel 2, and returns TSC ticks and what `read` says.
/// `None` if the PIT does not count.
fn measure(start: fn(), read: fn() -> u64) -> Option<(u64, u64)> {
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
pub fn calibrate(apic_start: fn(), apic_elapsed: fn() -> u64) -> (Clock, u64) {
    let shortest = (0..SAMPLES).filter_map(|_| measure(apic_start, apic_elapsed)).min();
    let (tsc_ticks, apic_ticks) = shortest.expect("the PIT counts: without it there is no time");
    let ns = TICKS as u128 * 1_000_000_000 / PIT_HZ as u128;
    let mult = ((ns << 32) / tsc_ticks.max(1) as u128) as u64;
    let apic_hz = apic_ticks * PIT_HZ / TICKS;
    (Clock { tsc_base: tsc(), mult }, apic_hz)
}
