//! CUBIC (RFC 9438): the window as a cubic function of the time since it last fell. Bytes and
//! milliseconds, in integers: C = 0.4 segments/s^3 and beta = 0.7.

use super::{Ack, ms};

/// The window falls to 717/1024 of what it was.
const BETA: u64 = 717;
const BETA_SCALE: u64 = 1024;
/// Between two looks at the curve while the window stays: it moves little in that time.
const LOOK: u32 = 30;
/// Beyond this the curve is steeper than the window may grow whatever it was.
const MAX_MS: u64 = 100_000;

/// Segments to acknowledge for one more, at most, while nothing is known of what the path carries (Linux).
const UNKNOWN: u32 = 20;

/// Where the window stands on its curve.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// The window before it fell: where the curve is flat.
    w_max: u32,
    /// When the epoch began, ms; 0: with the next ACK.
    start: u32,
    /// From its beginning until the curve is at `w_max`, ms.
    k: u32,
    /// The flat part of this epoch's curve: `w_max`, or where the window began if that is higher.
    origin: u32,
    /// What Reno's window would be.
    w_est: u32,
}

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct Cubic {
    epoch: Epoch,
    /// The epoch before the last fall.
    before: Epoch,
    /// Acknowledged since the last look at the curve.
    unlooked: u32,
    /// Bytes to acknowledge for one segment more, since that look.
    per_segment: u32,
    looked: u32,
    looked_cwnd: u32,
}

impl Cubic {
    pub const NEW: Self = {
        let epoch = Epoch { w_max: 0, start: 0, k: 0, origin: 0, w_est: 0 };
        Self { epoch, before: epoch, unlooked: 0, per_segment: 1, looked: 0, looked_cwnd: 0 }
    };

    /// How many acknowledged bytes make the window a segment larger.
    pub fn acks_per_segment(&mut self, acked: u32, cwnd: u32, mss: u32, ack: &Ack) -> u32 {
        self.unlooked = self.unlooked.saturating_add(acked);
        if self.epoch.start == 0 {
            self.begin(cwnd, mss, ack.now);
        } else if self.looked_cwnd == cwnd && ms(ack.now).wrapping_sub(self.looked) < LOOK {
            return self.per_segment;
        }
        self.look(cwnd, mss, ack);
        self.per_segment
    }

    /// The first ACK of an epoch.
    fn begin(&mut self, cwnd: u32, mss: u32, now: u64) {
        let e = &mut self.epoch;
        e.start = ms(now).max(1);
        e.w_est = cwnd;
        let below = e.w_max.saturating_sub(cwnd);
        e.origin = e.w_max.max(cwnd);
        // K = cbrt((W_max - cwnd) / C) seconds, RFC 9438 figure 2.
        e.k = cube_root(below as u64 * 2_500_000_000 / mss as u64);
    }

    fn look(&mut self, cwnd: u32, mss: u32, ack: &Ack) {
        (self.looked, self.looked_cwnd) = (ms(ack.now), cwnd);
        let acked = core::mem::take(&mut self.unlooked);
        let target = self.curve(mss, ms(ack.now + ack.srtt)).clamp(cwnd, cwnd + cwnd / 2);
        self.estimate(acked, cwnd, mss);
        // RFC 9438 4.3: where Reno would be faster, be as fast.
        let gain = target.max(self.epoch.w_est).saturating_sub(cwnd);
        // On the plateau next to nothing.
        let gain = gain.max(mss / 100).max(1);
        self.per_segment = (cwnd as u64 * mss as u64 / gain as u64).min(u32::MAX as u64) as u32;
        let most = if self.epoch.w_max == 0 { UNKNOWN * mss } else { u32::MAX };
        self.per_segment = self.per_segment.min(most).max(2 * mss);
    }

    /// W_cubic at `at` ms, RFC 9438 figure 1.
    fn curve(&self, mss: u32, at: u32) -> u32 {
        let t = at.wrapping_sub(self.epoch.start);
        // A pause may have put the beginning into the future.
        let t = if t > u32::MAX / 2 { 0 } else { (t as u64).min(MAX_MS) };
        let k = self.epoch.k as u64;
        let d = t.abs_diff(k);
        // mss * 0.4 * (d / 1000)^3
        let away = (d * d * d / 2500 * mss as u64 / 1_000_000).min(u32::MAX as u64) as u32;
        if t < k {
            self.epoch.origin.saturating_sub(away)
        } else {
            self.epoch.origin.saturating_add(away)
        }
    }

    /// W_est, RFC 9438 4.3: alpha is 9/17, and 1 from where the window was when it fell.
    fn estimate(&mut self, acked: u32, cwnd: u32, mss: u32) {
        let e = &mut self.epoch;
        let gain = acked as u64 * mss as u64 / cwnd.max(1) as u64;
        let gain = if e.w_est < e.w_max || e.w_max == 0 { gain * 9 / 17 } else { gain };
        e.w_est = e.w_est.saturating_add(gain.min(u32::MAX as u64) as u32);
    }

    /// The window `cwnd` is to fall; yields where to.
    #[cold]
    pub fn on_loss(&mut self, cwnd: u32) -> u32 {
        self.before = self.epoch;
        // RFC 9438 4.7, fast convergence: who loses again below the last maximum makes room.
        self.epoch.w_max = if cwnd < self.epoch.w_max {
            (cwnd as u64 * (BETA_SCALE + BETA) / (2 * BETA_SCALE)) as u32
        } else {
            cwnd
        };
        self.epoch.start = 0;
        self.unlooked = 0;
        (cwnd as u64 * BETA / BETA_SCALE) as u32
    }

    /// The timer fired: the next epoch's curve begins where its window does (RFC 9438 4.8).
    #[cold]
    pub fn on_rto(&mut self) {
        self.epoch.w_max = 0;
    }

    /// RFC 9438 4.9: the fall was for nothing.
    #[cold]
    pub fn undo(&mut self) {
        self.epoch = self.before;
    }

    /// Nothing was sent for `idle` ns: that time does not count (RFC 9438 5.8).
    pub fn pause(&mut self, idle: u64) {
        if self.epoch.start != 0 {
            let idle = (idle / 1_000_000).min(u32::MAX as u64 / 4) as u32;
            self.epoch.start = self.epoch.start.wrapping_add(idle).max(1);
        }
    }
}

/// The cube root, rounded down: bit by bit, 22 steps.
fn cube_root(n: u64) -> u32 {
    /// The largest number whose cube fits.
    const MOST: u64 = 2_642_245;
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let tried = root | 1 << bit;
        if tried <= MOST && tried.pow(3) <= n {
            root = tried;
        }
    }
    root as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::Seq;

    const MSS: u32 = 1000;
    const MS: u64 = 1_000_000;

    #[test]
    fn cube_roots() {
        for n in [0, 1, 2, 7, 8, 26, 27, 999, 1000, u64::MAX] {
            let r = cube_root(n) as u128;
            assert!(r.pow(3) <= n as u128 && (r + 1).pow(3) > n as u128, "{n}");
        }
    }

    /// The window after `ms` of acknowledging a window each `rtt` ms.
    fn run(c: &mut Cubic, mut cwnd: u32, from: u64, ms: u64, rtt: u64) -> u32 {
        let mut counted = 0;
        let mut at = from;
        while at < from + ms {
            for _ in 0..cwnd / MSS {
                let now = at * MS;
                let ack = Ack { acked: MSS, una: Seq(0), max: Seq(0), rtt: 0, srtt: rtt * MS, now };
                let per = c.acks_per_segment(MSS, cwnd, MSS, &ack);
                counted += MSS;
                if counted >= per {
                    counted -= per;
                    cwnd += MSS;
                }
            }
            at += rtt;
        }
        cwnd
    }

    /// RFC 9438 figure 1 at a long round-trip time, where Reno is far slower.
    #[test]
    fn the_window_follows_the_curve() {
        let mut c = Cubic::NEW;
        let cwnd = c.on_loss(1000 * MSS);
        assert_eq!(cwnd, 700_195);
        // K = cbrt(300 / 0.4) = 9.08 s.
        let at_k = run(&mut c, cwnd, 1000, 9_000, 200);
        assert_eq!(c.epoch.k, 9083);
        assert!((970_000..=1_010_000).contains(&at_k), "{at_k}");
        // 5 s later 0.4 * 5^3 = 50 segments more.
        let later = run(&mut c, at_k, 10_000, 5_000, 200);
        assert!((1_030_000..=1_070_000).contains(&later), "{later}");
    }

    /// RFC 9438 4.3: at short round-trip times Reno's window is the larger one.
    #[test]
    fn not_slower_than_reno() {
        let mut c = Cubic::NEW;
        let cwnd = c.on_loss(20 * MSS);
        // 100 round trips: 9/17 segment each up to 20 segments, then a segment.
        let later = run(&mut c, cwnd, 1000, 1000, 10);
        assert!((98..=109).contains(&(later / MSS)), "{later}");
    }

    #[test]
    fn fast_convergence_and_undo() {
        let mut c = Cubic::NEW;
        c.on_loss(1000 * MSS);
        let first = c.epoch;
        c.on_loss(800 * MSS);
        assert_eq!(c.epoch.w_max, (800_000u64 * 1741 / 2048) as u32);
        c.undo();
        assert_eq!(c.epoch.w_max, first.w_max);
    }
}
