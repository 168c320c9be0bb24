//! The deaths so far, as the shell can ask for them: a bounded list, the newest kept.

use abi::UserRegs;
use alloc::collections::VecDeque;
use core::fmt::Write;
use heapless::{String, Vec};
use libipc::Name;
use libipc::log::READY;
use libipc::proc::{Details, Outcome, Phases, Report};

use crate::backtrace::Frames;
use crate::cause::Cause;

/// Reports kept: more than there can be processes, and so more than can be incomplete.
const KEPT: usize = 64;
const _: () = assert!(KEPT > crate::layout::MAX_PROCESSES);

/// Moments between a death and the successor's readiness, ns since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The fault.
    pub died: u64,
    /// init heard of it.
    pub noticed: u64,
    /// The process was gone.
    pub torn_down: u64,
    /// Its successor began to be built.
    pub resumed: Option<u64>,
    /// It could run.
    pub started: Option<u64>,
    /// It said that it is ready.
    pub ready: Option<u64>,
}

impl Times {
    /// How long each part took. Differences of whole microseconds, so that they add up.
    pub fn phases(&self) -> Phases {
        let mut last = self.died / 1000;
        let mut until = |moment: u64| {
            let from = last;
            last = last.max(moment / 1000);
            last - from
        };
        let (detect_us, tear_down_us) = (until(self.noticed), until(self.torn_down));
        let pause_us = self.resumed.map_or(0, &mut until);
        let build_us = self.started.map_or(0, &mut until);
        Phases { detect_us, tear_down_us, pause_us, build_us, attach_us: self.ready.map(until) }
    }
}

/// A death.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number, from 1; given by [`Reports::add`].
    pub number: u32,
    /// Process, by its number in the system description.
    pub process: usize,
    /// Its incarnation.
    pub incarnation: u32,
    /// Why.
    pub cause: Cause,
    /// Registers.
    pub regs: UserRegs,
    /// The way there.
    pub frames: Frames,
    /// When.
    pub times: Times,
    /// What followed.
    pub outcome: Outcome,
    /// What the successor said when it was ready.
    pub said: String<READY>,
    /// The restart has had its line on the console.
    pub printed: bool,
}

impl Record {
    /// A death that is only just known.
    pub fn new(process: usize, incarnation: u32, cause: Cause, regs: UserRegs) -> Self {
        Self {
            number: 0,
            process,
            incarnation,
            cause,
            regs,
            frames: Frames::new(),
            times: Times::default(),
            outcome: Outcome::Waiting,
            said: String::new(),
            printed: false,
        }
    }
    /// Whether something of it is still to come.
    fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Waiting | Outcome::Attaching)
    }
    /// In short.
    pub fn summary(&self, name: &Name) -> Report {
        Report {
            number: self.number,
            name: name.clone(),
            incarnation: self.incarnation,
            cause: clip(&self.cause),
            rip: self.regs.rip,
            at_us: self.times.died / 1000,
            outcome: self.outcome,
            phases: self.times.phases(),
        }
    }
    /// In full, but for the backtrace.
    pub fn details(&self, name: &Name) -> Details {
        Details {
            report: self.summary(name),
            cause: clip(&format_args!("{:#}", self.cause)),
            said: self.said.clone(),
            regs: self.regs,
        }
    }
}

/// A bounded list of records. Its memory is there from the start: it does not allocate again.
pub struct Reports {
    kept: VecDeque<Record>,
    /// Number of the newest.
    last: u32,
}

impl Default for Reports {
    fn default() -> Self {
        Self { kept: VecDeque::with_capacity(KEPT), last: 0 }
    }
}

impl Reports {
    /// Adds a record and says its number; the oldest that is complete makes room.
    pub fn add(&mut self, mut record: Record) -> u32 {
        if self.kept.len() == KEPT {
            let oldest = self.kept.iter().position(|r| !r.is_open()).unwrap_or(0);
            self.kept.remove(oldest);
        }
        self.last = self.last.wrapping_add(1);
        record.number = self.last;
        self.kept.push_back(record);
        self.last
    }
    /// Record `number`, if it is still kept.
    pub fn get(&self, number: u32) -> Option<&Record> {
        self.kept.iter().find(|r| r.number == number)
    }
    /// As [`Self::get`].
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Record> {
        self.kept.iter_mut().find(|r| r.number == number)
    }
    /// The first few records from number `from` on, oldest first.
    pub fn page(&self, from: u32) -> impl Iterator<Item = &Record> {
        self.kept.iter().filter(move |r| r.number >= from).take(Vec::<Report, 4>::new().capacity())
    }
}

/// As much of `text` as fits.
pub fn clip<const N: usize>(text: &dyn core::fmt::Display) -> String<N> {
    struct Clip<const N: usize>(String<N>);
    impl<const N: usize> Write for Clip<N> {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            s.chars().try_for_each(|c| self.0.push(c)).map_err(|_| core::fmt::Error)
        }
    }
    let mut clip = Clip(String::new());
    let _ = write!(clip, "{text}");
    clip.0
}

/// A name, clipped to what fits.
pub fn name(text: &str) -> Name {
    clip(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(died: u64, outcome: Outcome) -> Record {
        let times = Times { died, ..Default::default() };
        Record { times, outcome, ..Record::new(0, 0, Cause::Killed, UserRegs::default()) }
    }

    #[test]
    fn pages_through_the_newest() {
        let mut reports = Reports::default();
        assert_eq!(reports.page(0).count(), 0);
        for i in 1..=70 {
            assert_eq!(reports.add(record(i, Outcome::Ready)), i as u32);
        }
        let (mut from, mut seen) = (0, alloc::vec::Vec::<u32>::new());
        loop {
            let page: alloc::vec::Vec<u32> = reports.page(from).map(|r| r.number).collect();
            let Some(last) = page.last() else { break };
            from = last + 1;
            seen.extend(&page);
        }
        assert_eq!(seen, (7..=70).collect::<alloc::vec::Vec<_>>());
        assert!(reports.get(6).is_none() && reports.get(7).is_some());
        assert_eq!(reports.page(u32::MAX).count(), 0);
    }

    #[test]
    fn incomplete_ones_stay() {
        let mut reports = Reports::default();
        let waiting = reports.add(record(1, Outcome::Waiting));
        for i in 0..200 {
            reports.add(record(i, Outcome::Ended));
        }
        assert!(reports.get(waiting).is_some());
        assert_eq!(reports.kept.len(), KEPT);
        reports.get_mut(waiting).unwrap().outcome = Outcome::Ready;
        reports.add(record(300, Outcome::Ended));
        assert!(reports.get(waiting).is_none());
    }

    #[test]
    fn phases_add_up() {
        let mut t = Times { died: 1_999, noticed: 3_001, torn_down: 204_999, ..Default::default() };
        let phases = |t: &Times| {
            let p = t.phases();
            (p.detect_us, p.tear_down_us, p.pause_us, p.build_us, p.attach_us, p.downtime_us())
        };
        assert_eq!(phases(&t), (2, 201, 0, 0, None, 203));
        (t.resumed, t.started) = (Some(205_000), Some(700_999));
        assert_eq!(phases(&t), (2, 201, 1, 495, None, 699));
        t.ready = Some(900_000);
        assert_eq!(phases(&t), (2, 201, 1, 495, Some(200), 899));
        // A clock that goes backwards makes nothing negative.
        t.torn_down = 0;
        assert_eq!(phases(&t).5, 899);
    }

    #[test]
    fn clips_at_a_character() {
        assert_eq!(clip::<4>(&"abcéf").as_str(), "abc");
        assert_eq!(clip::<5>(&"abcéf").as_str(), "abcé");
    }
}
