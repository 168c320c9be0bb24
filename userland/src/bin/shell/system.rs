//! Processes and the machine: requests to init.

use core::fmt::Write;
use core::time::Duration;
use libipc::msg::{self, interface};
use libipc::{Name, proc};
use userland::random;
use userland::time::SystemTime;

use super::failure::{Done, Failure, clip};
use super::{Shell, out};

/// How often, and how far apart, a driver that is to rest is looked at.
const REST_LOOKS: u32 = 200;
const REST_PAUSE: Duration = Duration::from_millis(5);

impl Shell {
    /// What devices reach.
    pub(super) fn dma(&mut self) -> Done {
        let proc::Reply::Dma { devices, refused, lost, last } = self.init(&proc::Request::Dma)?
        else {
            return Err(Failure::Nonsense("init"));
        };
        for d in &devices {
            let at = proc::pci_address(d.device);
            match d.reach {
                Some((read, write)) => {
                    out!(self, "{at} {} reads {read} KiB and writes {write} KiB", d.driver);
                }
                None => out!(self, "{at} {} reaches all memory: no IOMMU", d.driver),
            }
        }
        let more = if lost { "; others were not recorded" } else { "" };
        out!(self, "{refused} transfers refused{more}");
        if let Some(fault) = last {
            let (s, us) = (fault.at_us / 1_000_000, fault.at_us % 1_000_000);
            out!(self, "the last at {s}.{us:06} s: {fault}");
        }
        Ok(())
    }

    pub(super) fn processes(&mut self) -> Done {
        out!(
            self,
            "{:<12} {:<12} {:>4} {:>8} {:>9} {:>10} {:>9}",
            "NAME",
            "STATE",
            "PRIO",
            "RESTARTS",
            "MEMORY",
            "UP",
            "RAN"
        );
        let mut skip = 0;
        loop {
            let proc::Reply::Processes(some) = self.init(&proc::Request::List { skip })? else {
                return Err(Failure::Nonsense("init"));
            };
            for p in &some {
                let mut state = heapless::String::<24>::new();
                let _ = match p.state {
                    proc::State::Running => state.push_str("running").map_err(|_| ()),
                    proc::State::Exited(status) => write!(state, "exited {status}").map_err(|_| ()),
                    proc::State::Failed => state.push_str("failed").map_err(|_| ()),
                    proc::State::Restarting => state.push_str("restarting").map_err(|_| ()),
                    proc::State::Stopped => state.push_str("stopped").map_err(|_| ()),
                    proc::State::Suspended => state.push_str("suspended").map_err(|_| ()),
                };
                let mut ran = heapless::String::<24>::new();
                let _ = match p.ran_us {
                    Some(us) => write!(ran, "{} ms", us / 1000),
                    None => write!(ran, "-"),
                };
                out!(
                    self,
                    "{:<12} {:<12} {:>4} {:>8} {:>5} KiB {:>4}.{:03} s {ran:>9}",
                    p.name,
                    state,
                    p.priority,
                    p.restarts,
                    p.memory / 1024,
                    p.uptime_us / 1_000_000,
                    p.uptime_us / 1000 % 1000
                );
            }
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    pub(super) fn change(&mut self, request: proc::Request, who: &str) -> Done {
        match self.ask_init(&request)? {
            Ok(_) => Ok(()),
            Err(proc::Error::NotFound) => Err(Failure::NoProcess(clip(who))),
            Err(proc::Error::NotRunning) => Err(Failure::NotRunning(clip(who))),
            Err(proc::Error::NoDevice) => Err(Failure::NoDevice(clip(who))),
            Err(proc::Error::CannotStart) => Err(Failure::CannotStart(clip(who))),
            Err(e) => Err(Failure::Init(e)),
        }
    }

    /// Shows `see` every process.
    pub(super) fn each_process(&self, mut see: impl FnMut(&proc::Process)) -> Done {
        let mut skip = 0;
        loop {
            let proc::Reply::Processes(some) = self.init(&proc::Request::List { skip })? else {
                return Err(Failure::Nonsense("init"));
            };
            some.iter().for_each(&mut see);
            if !some.is_full() {
                return Ok(());
            }
            skip += some.len() as u32;
        }
    }

    /// The first process that `wanted` says.
    fn find(
        &self,
        wanted: impl Fn(&proc::Process) -> bool,
    ) -> Result<Option<proc::Process>, Failure> {
        let mut found = None;
        self.each_process(|p| {
            if found.is_none() && wanted(p) {
                found = Some(p.clone());
            }
        })?;
        Ok(found)
    }

    /// Stops or wakes the network card.
    pub(super) fn link(&mut self, up: bool) -> Done {
        let Some(driver) = self.find(|p| p.drives)? else { return Err(Failure::NoDriver) };
        match up {
            true => self.change(proc::Request::Resume(driver.name.clone()), &driver.name),
            false => self.rest(driver.name),
        }
    }

    /// Puts a driver to rest, and waits until it rests.
    pub(super) fn rest(&mut self, who: Name) -> Done {
        self.change(proc::Request::Suspend(who.clone()), &who)?;
        // init gives it less time than this.
        for _ in 0..REST_LOOKS {
            if self.find(|p| p.name == who && p.state == proc::State::Suspended)?.is_some() {
                return Ok(());
            }
            self.rt.sleep(REST_PAUSE);
        }
        Err(Failure::Restless(who))
    }

    pub(super) fn date(&mut self) -> Done {
        let date = SystemTime::now(self.rt).ok_or(Failure::NoClock)?.date();
        out!(self, "{} {date} UTC", date.weekday());
        Ok(())
    }

    pub(super) fn random(&mut self) {
        let mut bytes = [0u8; 32];
        random::fill(self.rt, &mut bytes);
        let mut text = heapless::String::<64>::new();
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        out!(self, "{text}");
        match random::is_sound(self.rt) {
            Some(true) => out!(self, "the source passes its tests"),
            Some(false) => out!(
                self,
                "NO source of randomness passes its tests: give the machine a processor with RDRAND"
            ),
            None => out!(self, "from the seed at the start: the manifest gives no `random = true`"),
        }
    }

    pub(super) fn init(&self, request: &proc::Request) -> Result<proc::Reply, Failure> {
        match self.ask_init(request)? {
            Ok(reply) => Ok(reply),
            Err(e) => Err(Failure::Init(e)),
        }
    }

    pub(super) fn ask_init(
        &self,
        request: &proc::Request,
    ) -> Result<Result<proc::Reply, proc::Error>, Failure> {
        let Some(ep) = self.start.cap("init") else {
            return Err(Failure::NoCapability("init"));
        };
        match msg::call(ep, interface::PROC, 0, request) {
            Ok(reply) => Ok(reply),
            Err(e) => Err(Failure::Silent("init", e)),
        }
    }
}
