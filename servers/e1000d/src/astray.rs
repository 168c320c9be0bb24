//! Fault injection: a driver gone wrong, on request. It tells its NIC to send from, and to receive
//! into, memory that is not its own, which an IOMMU has to refuse. The successor finds rings that do
//! not hold, and begins anew.

use crate::desc::{self, Offload};
use crate::hardware::Hardware;
use crate::lent::{self, RingSize, Side};
use crate::regs;

/// Bytes to send: the least that a frame has.
const LEN: u16 = 60;
/// How long a frame from outside is waited for.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Leads the NIC to `target`: one frame to be sent lies there, and so do all receive buffers. Says
/// whether something was received meanwhile.
pub fn lead<H: Hardware>(hw: &mut H, target: u64) -> bool {
    let size = |len: u32| RingSize::new(len / desc::BYTES as u32).unwrap_or(RingSize::DEFAULT);
    let (tx, rx) = (size(hw.read(regs::TDLEN)), size(hw.read(regs::RDLEN)));
    let tail = hw.read(regs::TDT) as u16;
    // As if the last frame had been longer: nothing more was taken from netd.
    if let Some(note) = lent::note(hw, Side::Tx, tx.step(tail, -1)) {
        lent::set_note(hw, Side::Tx, tail, note);
    }
    for (half, word) in desc::data(target, LEN, Offload::None, true).into_iter().enumerate() {
        hw.store(lent::desc_word(Side::Tx, tail, half), word);
    }
    let (mut slot, end) = (hw.read(regs::RDH) as u16, hw.read(regs::RDT) as u16);
    let first = slot;
    for _ in 0..rx.distance(slot, end) {
        hw.store(lent::desc_word(Side::Rx, slot, 0), target);
        slot = rx.step(slot, 1);
    }
    lent::tear_down(hw);
    hw.write(regs::TDT, tx.step(tail, 1) as u32);
    let until = hw.now_ns() + PATIENCE_NS;
    while hw.now_ns() < until {
        if hw.read(regs::RDH) as u16 != first {
            return true;
        }
    }
    false
}
