//! Every rule that a manifest must keep.
//!
//! The checks collect problems instead of stopping at the first, so that one build shows all of
//! them. Expansion runs only on a manifest without problems and may rely on every rule here.

mod programs;
mod wiring;

use std::ops::Range;

use toml::Spanned;

use super::file::{Manifest, Policy, Restart, Server};
use super::problem::{Problem, Reason};

/// Room for arguments in [`libipc::start::StartInfo`].
pub const ARGS_MAX: usize = 128;
/// Port ranges in [`libipc::sock::SessionSpec`].
pub const BIND_MAX: usize = 8;
/// Largest stack and heap, KiB: more than the largest machine this is meant for could lend.
const MEMORY_MAX: u32 = 1 << 20;
/// Smallest (a large frame) and largest untyped of a program, KiB.
pub const UNTYPED_KIB: (u32, u32) = (2048, MEMORY_MAX);
/// Largest region, KiB: regions lie [`libipc::start::REGION_STRIDE`] apart.
const REGION_MAX: u32 = 2 << 20;
/// init's own priority: whoever is above it could not be stopped.
const INIT_PRIORITY: u64 = 250;
/// Periods of budgets, µs: not shorter than what switching costs, not longer than people wait.
const PERIOD_US: (u64, u64) = (1000, 1_000_000);
/// Shortest budget, µs: a server's turn takes tens of them.
const BUDGET_US_MIN: u64 = 100;
/// Processes that init can tell apart by the bits of its own notification.
const PROCESSES_MAX: usize = 60;
/// Largest ring of the kernel's trace, KiB.
pub const TRACE_MAX: u32 = (abi::TRACE_FRAMES as u32) << (abi::LARGE_BITS - 10);
/// Highest priority of a program, so that servers always go first.
const PROGRAM_PRIORITY: u64 = 100;

/// Problems found so far.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, span: Range<usize>, reason: Reason) {
        self.0.push(Problem { span, reason });
    }
    fn range(&mut self, key: &'static str, value: Range<usize>, v: u64, min: u64, max: u64) {
        if !(min..=max).contains(&v) {
            self.add(value, Reason::Range { key, value: v, min, max });
        }
    }
    /// A size in KiB: within limits, whole pages.
    fn kib(&mut self, key: &'static str, value: &Spanned<u32>, min: u32, max: u32) {
        let v = *value.get_ref();
        if !(min..=max).contains(&v) {
            let (min, max) = (min as u64, max as u64);
            self.add(value.span(), Reason::Range { key, value: v as u64, min, max });
        } else if !v.is_multiple_of(4) {
            self.add(value.span(), Reason::Pages { key, value: v });
        }
    }
}

/// All mistakes of `m`; `bins` are the guest binaries that exist.
pub fn check(m: &Manifest, bins: &[&str]) -> Vec<Problem> {
    let mut p = Problems::default();
    names(m, &mut p);
    processes(m, bins, &mut p);
    files(m, &mut p);
    wiring::check(m, &mut p);
    programs::check(m, &mut p);
    p.0
}

/// What servers and programs have in common.
struct Common<'a> {
    name: &'a Spanned<String>,
    file: &'a Spanned<String>,
    priority: &'a Spanned<u32>,
    max_priority: u64,
    stack_kib: &'a Spanned<u32>,
    heap_kib: &'a Spanned<u32>,
    budget_us: Option<&'a Spanned<u32>>,
    period_us: Option<&'a Spanned<u32>>,
    args: Option<&'a Spanned<String>>,
    restart: &'a Spanned<Restart>,
}

fn common(m: &Manifest) -> Vec<Common<'_>> {
    let servers = m.server.iter().map(|s| Common {
        name: &s.name,
        file: &s.file,
        priority: &s.priority,
        max_priority: INIT_PRIORITY - 1,
        stack_kib: &s.stack_kib,
        heap_kib: &s.heap_kib,
        budget_us: s.budget_us.as_ref(),
        period_us: s.period_us.as_ref(),
        args: s.args.as_ref(),
        restart: &s.restart,
    });
    let programs = m.program.iter().map(|s| Common {
        name: &s.name,
        file: &s.file,
        priority: &s.priority,
        max_priority: PROGRAM_PRIORITY,
        stack_kib: &s.stack_kib,
        heap_kib: &s.heap_kib,
        budget_us: s.budget_us.as_ref(),
        period_us: s.period_us.as_ref(),
        args: s.args.as_ref(),
        restart: &s.restart,
    });
    servers.chain(programs).collect()
}

fn names(m: &Manifest, p: &mut Problems) {
    let processes: Vec<_> = common(m).iter().map(|c| ("processes", c.name)).collect();
    let regions = m.region.iter().map(|r| ("regions", &r.name)).collect();
    let devices = m.device.iter().map(|d| ("devices", &d.name)).collect();
    for list in [processes, regions, devices] {
        for (i, (what, name)) in list.iter().enumerate() {
            let text = name.get_ref();
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            if text.len() > libipc::NAME_MAX {
                p.add(name.span(), Reason::NameTooLong { name: text.clone() });
            } else if text.is_empty() || !text.chars().all(fine) {
                p.add(name.span(), Reason::NameCharacters { name: text.clone() });
            } else if ["init", "kernel", "sessions", "trace"].contains(&text.as_str())
                || text.starts_with("session.")
            {
                p.add(name.span(), Reason::NameReserved { name: text.clone() });
            }
            if list[..i].iter().any(|(_, n)| n.get_ref() == text) {
                p.add(name.span(), Reason::Duplicate { what, name: text.clone() });
            }
        }
    }
}

fn processes(m: &Manifest, bins: &[&str], p: &mut Problems) {
    let all = common(m);
    if let Some(one_too_many) = all.get(PROCESSES_MAX) {
        let reason = Reason::ManyProcesses { count: all.len(), max: PROCESSES_MAX };
        p.add(one_too_many.name.span(), reason);
    }
    for c in all {
        let file = c.file.get_ref().as_str();
        // kernel and init are started by other means, once.
        let offered = bins.iter().filter(|b| !["kernel", "init"].contains(b));
        if !offered.clone().any(|b| *b == file) {
            let known = offered.map(|b| b.to_string()).collect();
            p.add(
                c.file.span(),
                Reason::Unknown { what: "guest binary", name: file.into(), known },
            );
        }
        p.range("priority", c.priority.span(), *c.priority.get_ref() as u64, 1, c.max_priority);
        p.kib("stack_kib", c.stack_kib, 4, MEMORY_MAX);
        p.kib("heap_kib", c.heap_kib, 0, MEMORY_MAX);
        budget(&c, p);
        args(&c, p);
        let r = c.restart.get_ref();
        if r.policy == Policy::Never && (r.max, r.window_s) != (0, 0) {
            p.add(c.restart.span(), Reason::NeverLimited);
        } else if (r.max == 0) != (r.window_s == 0) {
            p.add(c.restart.span(), Reason::HalfLimit);
        }
    }
}

fn budget(c: &Common<'_>, p: &mut Problems) {
    let (budget, period) = match (c.budget_us, c.period_us) {
        (None, None) => return,
        (Some(budget), Some(period)) => (budget, period),
        (Some(half), None) | (None, Some(half)) => return p.add(half.span(), Reason::HalfBudget),
    };
    let (b, period_us) = (*budget.get_ref(), *period.get_ref());
    let (min, max) = PERIOD_US;
    p.range("period_us", period.span(), period_us as u64, min, max);
    if b > period_us {
        p.add(budget.span(), Reason::Budget { budget: b, period: period_us });
    } else {
        p.range("budget_us", budget.span(), b as u64, BUDGET_US_MIN, max);
    }
}

/// Arguments are read by the very code that the server reads them with.
fn args(c: &Common<'_>, p: &mut Problems) {
    let Some(args) = c.args else { return };
    let text = args.get_ref();
    if text.len() > ARGS_MAX {
        return p.add(args.span(), Reason::Args(text.len()));
    }
    let refused = match c.file.get_ref().as_str() {
        "netd" => {
            let wrong = |card| {
                let v6 = || netd::Addressing6::parse(card).err();
                netd::Addressing::parse(card).err().or_else(v6)
            };
            let rest = || netd::Settings::parse(text).err();
            netd::addressing::cards(text).find_map(wrong).or_else(rest).map(|e| e.to_string())
        }
        "e1000d" => e1000d::settings::Settings::parse(text).err().map(|e| e.to_string()),
        _ => None,
    };
    if let Some(why) = refused {
        p.add(args.span(), Reason::BadArgs(why));
    }
}

/// A server is the only one of its kind: it believes that its lent memory is its own. But each device has a driver of its
/// own, with memory of its own (no region has two writers). Programs may run twice.
fn files(m: &Manifest, p: &mut Problems) {
    for (i, c) in common(m).iter().enumerate() {
        let drives = m.server.get(i).is_some_and(|s| s.device.is_some());
        let same =
            |s: &&Server| s.file.get_ref() == c.file.get_ref() && !(drives && s.device.is_some());
        if let Some(owner) = m.server.iter().take(i).find(same) {
            let (file, owner) = (c.file.get_ref().clone(), owner.name.get_ref().clone());
            p.add(c.file.span(), Reason::FileTaken { file, owner });
        }
    }
}
