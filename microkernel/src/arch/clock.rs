//! Time: the time-stamp counter and the local APIC timer, both calibrated against the PIT.

use abi::Clock;
use x86_64::instructions::port::Port;

/// PIT input clock, Hz.
const PIT_HZ: u64 = 1_193_182;
/// Least length of the calibration, PIT ticks (about 10 ms); channel 2 counts down once from 65,535.
const TICKS: u64 = 11_932;
/// Looks at the counters before the PIT is taken for dead.
const LOOKS: u32 = 10_000_000;
/// Looks of which the closest is believed.
const TRIES: u32 = 16;

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: no side effects.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The three counters at one moment.
#[derive(Clone, Copy)]
struct Look {
    tsc: u64,
    pit: u64,
    apic: u64,
    /// TSC ticks within which the others were read.
    width: u64,
}

fn look(apic: fn() -> u64) -> Look {
    let (mut command, mut data) = (Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    let before = tsc();
    // SAFETY: latches and reads PIT channel 2; nothing else uses it.
    let pit = unsafe {
        command.write(0x80);
        data.read() as u64 | (data.read() as u64) << 8
    };
    let apic = apic();
    let after = tsc();
    Look { tsc: before + (after - before) / 2, pit, apic, width: after - before }
}

/// The closest of several looks: a virtual processor that was not running in the middle of one
/// shows in its width.
fn careful_look(apic: fn() -> u64) -> Option<Look> {
    (0..TRIES).map(|_| look(apic)).min_by_key(|l| l.width)
}

/// Calibrates. `apic_start` lets the APIC timer count, `apic_elapsed` says how far it is. Returns
/// clock parameters and APIC timer ticks a second.
pub fn calibrate(apic_start: fn(), apic_elapsed: fn() -> u64) -> (Clock, u64) {
    let (mut gate, mut command, mut data) =
        (Port::<u8>::new(0x61), Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    // SAFETY: PIT channel 2 and its gate (speaker off).
    unsafe {
        let old = gate.read() & !3;
        gate.write(old);
        command.write(0xb0); // channel 2, both bytes, mode 0: counts down once
        data.write(0xff);
        data.write(0xff);
        apic_start();
        gate.write(old | 1);
    }
    let from = careful_look(apic_elapsed);
    let far = |l: &Look| from.is_some_and(|f| f.pit.saturating_sub(l.pit) >= TICKS);
    let to =
        (0..LOOKS).map(|_| look(apic_elapsed)).find(far).and_then(|_| careful_look(apic_elapsed));
    let both = from.zip(to).filter(|(f, t)| t.pit < f.pit);
    let (from, to) = both.expect("the PIT counts: without it there is no time");
    let (pit, tsc_ticks) = (from.pit - to.pit, (to.tsc - from.tsc).max(1));
    let ns = pit as u128 * 1_000_000_000 / PIT_HZ as u128;
    let mult = ((ns << 32) / tsc_ticks as u128) as u64;
    let apic_hz = (to.apic - from.apic) * PIT_HZ / pit;
    (Clock { tsc_base: tsc(), mult }, apic_hz)
}
