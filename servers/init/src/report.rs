//! The restarts so far, as the shell can ask for them: a bounded list, the newest kept.

use alloc::collections::VecDeque;
use core::fmt::Write;
use heapless::{String, Vec};
use libipc::Name;
use libipc::proc::Report;

/// Reports kept.
const KEPT: usize = 64;

/// A bounded list of reports. Its memory is there from the start: it does not allocate again.
pub struct Reports(VecDeque<Report>);

impl Default for Reports {
    fn default() -> Self {
        Self(VecDeque::with_capacity(KEPT))
    }
}

impl Reports {
    /// Adds a report; the oldest makes room.
    pub fn add(&mut self, report: Report) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(report);
    }
    /// The reports from number `skip` of those kept, oldest first.
    pub fn page(&self, skip: u32) -> Vec<Report, 4> {
        self.0.iter().skip(skip as usize).take(4).cloned().collect()
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

    fn report(i: u32) -> Report {
        Report { name: name("p"), cause: clip(&"killed"), rip: 0, downtime_us: i, at_us: i as u64 }
    }

    #[test]
    fn pages_through_the_newest() {
        let mut reports = Reports::default();
        assert!(reports.page(0).is_empty());
        for i in 0..70 {
            reports.add(report(i));
        }
        let (mut skip, mut seen) = (0, alloc::vec::Vec::new());
        loop {
            let page = reports.page(skip);
            seen.extend(page.iter().map(|r| r.downtime_us));
            skip += 4;
            if page.len() < 4 {
                break;
            }
        }
        assert_eq!(seen, (6..70).collect::<alloc::vec::Vec<_>>());
        assert!(reports.page(u32::MAX).is_empty());
    }

    #[test]
    fn clips_at_a_character() {
        assert_eq!(clip::<4>(&"abcéf").as_str(), "abc");
        assert_eq!(clip::<5>(&"abcéf").as_str(), "abcé");
    }
}
