//! Connections with BBR: the model and the sampler that feeds it lie in a pool of each program's, since most
//! connections have none. Who finds no place there has CUBIC.

use super::Conn;
use super::congestion::Algorithm;
use super::congestion::bbr::{Bbr, Sample};
use super::pool::Pool;
use super::rate::Rate;
use super::recovery::{News, Phase};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use libipc::sock::congestion as number;

/// No model.
pub const NONE: u8 = u8::MAX;
/// Models of one program.
const MODELS: usize = 16;

/// What a connection with BBR knows.
#[derive(Clone, Copy)]
pub struct Model {
    bbr: Bbr,
    rate: Rate,
}

/// The models of a program.
pub struct Models {
    all: Vec<RefCell<Model>>,
    /// A bit for each that is in use.
    used: Cell<u32>,
}

impl Models {
    /// For a program with so many `connections`.
    pub fn new(connections: usize) -> Self {
        let none = Model { bbr: Bbr::new(0, 1, 0, 0), rate: Rate::new(0) };
        let all = (0..connections.min(MODELS)).map(|_| RefCell::new(none)).collect();
        Self { all, used: Cell::new(0) }
    }
    fn take(&self, model: Model) -> Option<u8> {
        let free = self.used.get().trailing_ones() as usize;
        *self.all.get(free)?.try_borrow_mut().ok()? = model;
        self.used.set(self.used.get() | 1 << free);
        Some(free as u8)
    }
    /// Model `i`, if it is one, is free again.
    pub fn give(&self, i: u8) {
        if i != NONE {
            self.used.set(self.used.get() & !(1 << i));
        }
    }
}

impl Pool {
    /// Does something with model `i`.
    fn with<R>(&self, i: u8, f: impl FnOnce(&mut Model) -> R) -> Option<R> {
        let model = self.models().all.get(i as usize)?;
        Some(f(&mut *model.try_borrow_mut().ok()?))
    }
}

impl Conn {
    /// Whether a model leads it.
    #[inline]
    pub(super) fn is_modelled(&self) -> bool {
        self.board.model != NONE
    }

    fn model<R>(&self, f: impl FnOnce(&mut Model) -> R) -> Option<R> {
        self.board.pool().with(self.board.model, f)
    }

    /// The connection stands, or the program has chosen: the congestion control that it asks for.
    #[cold]
    pub(super) fn choose_congestion(&mut self, now: u64) {
        let asked = self.opts().congestion;
        if asked != number::BBR || !self.is_synchronised() {
            self.board.leave_model();
            if self.cc.algorithm() != Algorithm::from_byte(asked) {
                self.cc.set_algorithm(Algorithm::from_byte(asked));
            }
            return;
        }
        if self.is_modelled() {
            return;
        }
        let bbr = Bbr::new(self.cc.window(), self.mss, self.rtt.srtt(), now);
        let mut rate = Rate::new(now);
        if self.una.lt(self.max) {
            rate.sent(true, now);
        }
        if let Some(i) = self.board.pool().models().take(Model { bbr, rate }) {
            self.board.model = i;
            self.cc.set_algorithm(Algorithm::Bbr);
        }
    }

    /// Data leaves; `first`: nothing was in flight.
    #[cold]
    pub(super) fn model_sent(&mut self, first: bool, now: u64) {
        self.model(|m| {
            if first && m.rate.is_limited() {
                m.bbr.on_idle();
            }
            m.rate.sent(first, now);
        });
    }

    /// A turn of sending is over: is there too little to send?
    #[cold]
    pub(super) fn model_turn_over(&mut self) {
        let waits = if self.max.lt(self.tail) { self.tail - self.max } else { 0 };
        let flight = self.pipe();
        let repaired = self.board.lost.bytes <= self.board.resent.bytes;
        if waits < self.mss && flight < self.cc.window() && repaired && !self.pacing {
            self.model(|m| m.rate.limited(flight));
        }
    }

    /// An ACK: the model says what the window is.
    #[cold]
    pub(super) fn model_acked(&mut self, news: &News<'_>, delivered: u32, lost_before: u32) {
        let flight = self.pipe();
        let rtt = news.said.acked_at.or(news.said.sacked_at);
        let rtt = rtt.filter(|_| !news.said.resent).map_or(0, |at| news.now.saturating_sub(at));
        let lost = self.board.lost.bytes.saturating_sub(lost_before);
        let (phase, cwnd) = (self.recovery.phase, self.cc.window());
        let (least, mss) = (self.rtt.least(), self.mss);
        let sent = news.said.newest_sent();
        let new = self.model(|m| {
            let measured = m.rate.acked(delivered, sent, least, news.now);
            let sample = Sample {
                total: m.rate.delivered(),
                rtt,
                acked: delivered,
                lost,
                before: flight.saturating_add(delivered + lost),
                flight,
                recovery: phase == Phase::Recovery,
                loss: phase == Phase::Loss,
                now: news.now,
                ..Sample::default()
            };
            let sample = match measured {
                Some(r) => Sample {
                    delivered: r.delivered,
                    interval: r.interval,
                    prior: r.prior,
                    app_limited: r.app_limited,
                    ..sample
                },
                None => sample,
            };
            m.bbr.set_mss(mss);
            m.bbr.on_ack(&sample, cwnd)
        });
        if let Some(window) = new {
            self.cc.set_window(window);
        }
    }

    /// The window is about to fall, or was for nothing, or the timer fired: what the model has to know of it.
    #[cold]
    pub(super) fn model_told(&mut self, tell: impl FnOnce(&mut Bbr, u32)) {
        let cwnd = self.cc.window();
        self.model(|m| tell(&mut m.bbr, cwnd));
    }

    /// Bytes a second that the model lets leave.
    pub(super) fn modelled_rate(&self) -> Option<u64> {
        self.model(|m| m.bbr.pacing())
    }

    /// Bytes a second that were delivered last, and whether the program limited that (TCP_INFO).
    pub(super) fn delivery_rate(&self) -> (u64, bool) {
        self.model(|m| m.rate.last()).unwrap_or_default()
    }
}
