//! Memory of streams: what lies in rings, received and not taken or written and not acknowledged, counted in pages for
//! each program and in all, against three levels each (Linux's `tcp_mem`). The rings themselves are set aside when a
//! socket is made; what is limited here is how full they are let be.
//!
//! | | what changes |
//! |---|---|
//! | above `pressure`, until below `low` | windows and send limits do not grow, and windows of slow programs shrink |
//! | above `most` | nothing is kept out of order, and a connection that is closed with data left is reset |
//!
//! Pressure in all is felt by programs that hold more than an equal share, so that who holds little loses nothing.

use super::pool::Pool;
use super::{Conn, Seq};
use core::cell::Cell;

/// Bytes of a page.
pub const PAGE: u32 = 4096;
/// Less is not counted back at once, pages.
const SLACK: u32 = 8;
/// Segments that a program is offered under pressure (`tcp_adjust_rcv_ssthresh`).
const PRESSED_SEGMENTS: u32 = 4;

/// The three levels, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Below this pressure ends.
    pub low: u32,
    /// Above this it begins.
    pub pressure: u32,
    /// Above this nothing is kept that need not be.
    pub most: u32,
}

impl Levels {
    /// Of a program, or of all, with rings of `bytes` bytes.
    pub const fn of_rings(bytes: u64) -> Self {
        let pages = (bytes / PAGE as u64) as u32;
        Self { low: pages / 8 * 5, pressure: pages / 4 * 3, most: pages - pages / 16 }
    }
}

/// What is held, beside its levels.
pub struct Gauge {
    levels: Levels,
    held: Cell<u32>,
    pressed: Cell<bool>,
    /// How often pressure began.
    times: Cell<u64>,
}

impl Gauge {
    /// Nothing is held.
    pub const fn new(levels: Levels) -> Self {
        Self { levels, held: Cell::new(0), pressed: Cell::new(false), times: Cell::new(0) }
    }
    /// Pages held.
    pub fn held(&self) -> u32 {
        self.held.get()
    }
    /// How often pressure began.
    pub fn times(&self) -> u64 {
        self.times.get()
    }
    /// Who held `from` pages holds `to`.
    fn moves(&self, from: u16, to: u16) {
        let held = (self.held.get() + to as u32).saturating_sub(from as u32);
        self.held.set(held);
        if held > self.levels.pressure && !self.pressed.replace(true) {
            self.times.set(self.times.get() + 1);
        } else if held < self.levels.low {
            self.pressed.set(false);
        }
    }
}

/// What a program's streams hold, and all programs'.
pub struct Memory {
    own: Gauge,
    all: alloc::rc::Rc<Gauge>,
    /// An equal share of `all`, pages.
    share: u32,
    /// How often what was out of order was dropped for want of memory, and how often the end of it.
    pub prunes: Cell<u64>,
    /// Segments out of order that were not kept.
    pub dropped: Cell<u64>,
}

impl Memory {
    /// Of one of `programs` programs.
    pub fn new(own: Levels, all: alloc::rc::Rc<Gauge>, programs: u32) -> Self {
        let share = all.levels.pressure / programs.max(1);
        Self { own: Gauge::new(own), all, share, prunes: Cell::new(0), dropped: Cell::new(0) }
    }
    /// What this program holds.
    pub fn own(&self) -> &Gauge {
        &self.own
    }
    /// Who held `from` pages holds `to`.
    pub fn moves(&self, from: u16, to: u16) {
        self.own.moves(from, to);
        self.all.moves(from, to);
    }
    fn has_its_share(&self) -> bool {
        self.own.held() > self.share
    }
    /// Whether what is held should not become more.
    pub fn is_pressed(&self) -> bool {
        self.own.pressed.get() || (self.all.pressed.get() && self.has_its_share())
    }
    /// Whether nothing is kept that need not be.
    pub fn is_exhausted(&self) -> bool {
        let all = self.all.held() > self.all.levels.most && self.has_its_share();
        all || self.own.held() > self.own.levels.most
    }
}

impl Conn {
    fn memory(&self) -> &Memory {
        self.pool().memory()
    }
    fn pool(&self) -> &Pool {
        self.board.pool()
    }

    /// Counts what lies in the rings, roughly: the last page or two may be missing.
    #[inline]
    pub(super) fn account(&mut self) {
        let pages = (self.unread() + self.unsent()) / PAGE;
        let charged = self.board.charged() as u32;
        if pages > charged || pages + SLACK <= charged {
            self.board.charge(pages);
        }
    }

    /// The rings have become empty, one of them at least.
    #[inline]
    pub(super) fn account_empty(&mut self) {
        if self.board.charged() > 0 {
            self.board.charge((self.unread() + self.unsent()) / PAGE);
        }
    }

    /// Whether windows and limits must not grow.
    pub(super) fn is_pressed(&self) -> bool {
        self.memory().is_pressed()
    }

    /// Whether there is no memory for what need not be kept.
    pub fn is_short_of_memory(&self) -> bool {
        self.memory().is_exhausted()
    }

    /// The largest window that is offered while less than half of the memory is free.
    #[cold]
    pub(super) fn pressed_window(&self, window: u32) -> u32 {
        if self.is_pressed() { window.min(PRESSED_SEGMENTS * self.mss) } else { window }
    }

    /// A segment out of order found no memory.
    pub(super) fn not_kept(&self) {
        let dropped = &self.memory().dropped;
        dropped.set(dropped.get() + 1);
    }

    /// Whether `[start, end)` beyond a hole is kept. If there is no memory what is there already goes, too, from the
    /// end, unless it lies before (`tcp_prune_ofo_queue`).
    pub(super) fn keeps(&mut self, start: Seq, end: Seq) -> bool {
        let last = self.ooo.end(self.pool()).unwrap_or(start).max(end);
        let pages = (last - self.head + self.unsent()) / PAGE;
        if pages > self.board.charged() as u32 {
            self.board.charge(pages);
        }
        if !self.memory().is_exhausted() {
            return true;
        }
        self.not_kept();
        let memory = self.memory();
        if !self.ooo.is_empty() {
            memory.prunes.set(memory.prunes.get() + 1);
            self.ooo.forget(self.board.pool(), start, last);
            self.account_empty();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;

    fn levels(low: u32, pressure: u32, most: u32) -> Levels {
        Levels { low, pressure, most }
    }

    #[test]
    fn pressure_begins_above_and_ends_below() {
        let all = Rc::new(Gauge::new(levels(100, 200, 300)));
        let m = Memory::new(levels(10, 20, 30), all, 2);
        m.moves(0, 20);
        assert!(!m.is_pressed());
        m.moves(20, 21);
        assert!(m.is_pressed() && !m.is_exhausted());
        m.moves(21, 10);
        assert!(m.is_pressed(), "until it is below the low level");
        m.moves(10, 31);
        assert!(m.is_exhausted());
        m.moves(31, 9);
        assert_eq!((m.is_pressed(), m.own().times()), (false, 1));
    }

    #[test]
    fn who_holds_little_does_not_feel_what_others_hold() {
        let all = Rc::new(Gauge::new(levels(50, 100, 120)));
        let own = levels(1000, 1000, 1000);
        let (hog, other) = (Memory::new(own, all.clone(), 2), Memory::new(own, all.clone(), 2));
        hog.moves(0, 121);
        other.moves(0, 50);
        assert!(hog.is_pressed() && hog.is_exhausted());
        assert!(!other.is_pressed() && !other.is_exhausted());
        other.moves(50, 51);
        assert!(other.is_exhausted(), "above an equal share");
    }
}
