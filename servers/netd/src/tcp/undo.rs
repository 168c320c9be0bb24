//! The way back when nothing was lost: by timestamps (RFC 3522), by duplicates (RFC 3708), and after a time-out by what
//! the next ACKs say (F-RTO, RFC 5682).

use super::Conn;
use super::recovery::{News, Phase};

impl Conn {
    pub(super) fn may_undo(&self, news: &News<'_>) -> bool {
        self.recovery.undo.is_some_and(|u| u.all_came_twice() || self.was_delayed(news))
    }

    /// Eifel (RFC 3522): this ACK is for what was sent before anything was sent again.
    pub(super) fn was_delayed(&self, news: &News<'_>) -> bool {
        let Some(at) = self.recovery.resent_at else { return true };
        let echo = news.seg.options.timestamps.filter(|_| self.timed()).map_or(0, |t| t.echo);
        echo != 0 && (echo.wrapping_sub(at.wrapping_add(self.ts_offset)) as i32) < 0
    }

    /// RFC 3708: everything sent again has arrived twice.
    pub(super) fn undo_by_duplicates(&mut self) -> bool {
        let all = self.recovery.undo.is_some_and(|u| u.all_came_twice());
        if all {
            let rack = &mut self.recovery.rack;
            rack.persist = (rack.persist + 1).min(16);
            self.undo(false);
        }
        all
    }

    /// The reduction was for nothing. `acquit`: neither is anything lost.
    pub(super) fn undo(&mut self, acquit: bool) {
        if acquit {
            self.board.acquit();
        }
        self.cc.undo();
        self.model_told(|bbr, _| bbr.undo());
        self.ecn_undone();
        self.recovery.undo = None;
        self.recovery.rack.advanced = true;
    }

    /// After a time-out: finds out whether it was spurious (RFC 5682), and what is lost.
    pub(super) fn in_loss(&mut self, news: &News<'_>) -> Option<u64> {
        let forward = news.prior != self.una;
        if forward && self.may_undo(news) {
            self.undo_loss();
        } else if self.still_lost(news, forward) {
            return None;
        }
        if !self.sacks() {
            return None;
        }
        let (again, look) = self.detect(news.now);
        if self.recovery.phase == Phase::Loss && again == 0 {
            return look;
        }
        let more = self.in_order(news);
        look.max(more)
    }

    fn undo_loss(&mut self) {
        self.undo(true);
        self.retries = 0;
        self.recovery.forward = false;
        if self.sacks() || self.una != self.recovery.high {
            self.recovery.phase = Phase::Open;
        }
    }

    /// F-RTO's steps 2 and 3. `true`: wait for the next ACK.
    fn still_lost(&mut self, news: &News<'_>, forward: bool) -> bool {
        let recovered = self.recovery.high.le(self.una);
        if self.recovery.forward {
            if news.said.original {
                // 3b: something arrived that was sent once.
                self.undo_loss();
                return false;
            }
            if self.recovery.high.lt(self.max) {
                // 3a: the loss was real.
                self.recovery.forward &= !(news.said.sacked || news.repeats);
            } else if forward && !recovered {
                // 2b: new data will tell, if there is any.
                self.recovery.high = self.max;
                if self.max.lt(self.tail) && self.max.lt(self.una + self.wnd) {
                    self.recovery.new_first = true;
                    return true;
                }
                self.recovery.forward = false;
            }
        }
        if recovered {
            self.recovery.forward = false;
            self.undo_recovery(news);
        } else if forward {
            self.forget_duplicates();
        } else if self.recovery.high.lt(self.max) {
            self.count_duplicate(news);
        }
        false
    }
}
