//! Who holds what, as the kernel tells it: in short on the console, in full to whoever connects.

use abi::{CapInfo, MapAttr, ObjType, Rights, thread_slot};
use core::fmt::Write;
use core::net::SocketAddr;
use core::time::Duration;
use libipc::authority::{Entry, Header, MAGIC, Place, Purpose};
use libipc::{Name, proc};

use super::failure::{Done, Failure};
use super::{Shell, out};

const USAGE: &str = "authority, or authority send PORT";
/// How long a reader may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Processes that there may be.
const MOST: usize = 64;

type List<T> = heapless::Vec<T, MOST>;

/// What a process can reach, in bytes.
#[derive(Clone, Copy, Default)]
struct Memory {
    space: u64,
    own: u64,
    program: u64,
    written: u64,
    read: u64,
    device: u64,
}

impl Memory {
    fn add(&mut self, purpose: Purpose, cap: &CapInfo) {
        let bytes = 1 << cap.size_bits;
        let kind = match purpose {
            Purpose::Life(_) => &mut self.own,
            _ if cap.device => &mut self.device,
            _ if cap.attr.contains(MapAttr::EXEC) => &mut self.program,
            _ if cap.write => &mut self.written,
            _ => &mut self.read,
        };
        *kind += bytes;
    }
}

impl Shell {
    pub(super) fn authority(&mut self, args: &[&str]) -> Done {
        match args {
            [] => self.show_authority(),
            ["send", port] => {
                let at = self.listening_address("authority", port)?;
                self.send_authority(at)
            }
            _ => Err(Failure::Usage(USAGE)),
        }
    }

    /// Shows `see` everything that is held in a place.
    fn held(&self, place: Place, mut see: impl FnMut(Entry) -> Done) -> Done {
        let mut from = 0;
        loop {
            let request = proc::Request::Authority { place, from };
            let proc::Reply::Authority(page) = self.init(&request)? else {
                return Err(Failure::Nonsense("init"));
            };
            for (purpose, words) in page.caps {
                if let Some(cap) = CapInfo::from_words(words) {
                    see(Entry { place, purpose, cap })?;
                }
            }
            match page.next {
                Some(next) if next > from => from = next,
                _ => return Ok(()),
            }
        }
    }

    fn names(&self) -> Result<List<Name>, Failure> {
        let mut names = List::new();
        self.each_process(|p| drop(names.push(p.name.clone())))?;
        Ok(names)
    }

    /// For each process: memory by kind, then its capabilities.
    fn show_authority(&mut self) -> Done {
        let names = self.names()?;
        let mut memory = List::<Memory>::new();
        let mut ends = heapless::Vec::<(u64, Purpose), 160>::new();
        let (mut objects, mut free, mut untyped) = (0, 0, 0);
        for n in 0..names.len() as u16 {
            let mut m = Memory::default();
            self.held(Place::Thread(n), |e| {
                if e.cap.slot as u64 == thread_slot::VSPACE {
                    m.space = e.cap.object;
                }
                Ok(())
            })?;
            let _ = memory.push(m);
        }
        self.held(Place::Init, |e| {
            let cap = &e.cap;
            match (cap.ty, e.purpose) {
                (ObjType::Notification, _) if cap.data == 0 => {
                    let _ = ends.push((cap.object, e.purpose));
                }
                (ObjType::Untyped, Purpose::Own) if !cap.device => {
                    untyped += 1 << cap.size_bits;
                    free += (1 << cap.size_bits) - cap.data;
                }
                (ObjType::Frame, _) if cap.link != 0 => {
                    if let Some(m) = memory.iter_mut().find(|m| m.space == cap.link) {
                        m.add(e.purpose, cap);
                    }
                }
                _ => {}
            }
            objects += 1;
            Ok(())
        })?;
        for (n, name) in names.iter().enumerate() {
            let m = memory.get(n).copied().unwrap_or_default();
            if m.space == 0 {
                out!(self, "{name}: does not run");
                continue;
            }
            out!(
                self,
                "{name}: memory of its own {} KiB; program {} KiB; shared: writes {} KiB, reads {} KiB; \
                 registers {} KiB",
                m.own >> 10,
                m.program >> 10,
                m.written >> 10,
                m.read >> 10,
                m.device >> 10
            );
            let mut caps = heapless::Vec::<CapInfo, 64>::new();
            self.held(Place::CNode(n as u16), |e| {
                // More than fit are in CNodes that make objects of their own.
                let _ = caps.push(e.cap);
                Ok(())
            })?;
            for cap in &caps {
                self.capability(&names, &ends, cap);
            }
        }
        let proc::Reply::Machine(ram) = self.init(&proc::Request::Machine)? else {
            return Err(Failure::Nonsense("init"));
        };
        let (kernel, used) = (ram.saturating_sub(untyped), untyped - free);
        out!(
            self,
            "memory: {} KiB = kernel, boot and init {} + objects {} + free {}; init holds {objects} capabilities",
            ram >> 10,
            kernel >> 10,
            used >> 10,
            free >> 10
        );
        Ok(())
    }

    fn capability(&mut self, names: &[Name], ends: &[(u64, Purpose)], cap: &CapInfo) {
        let whose = |object: u64| {
            let found = ends.iter().find(|(o, _)| *o == object).map(|(_, purpose)| *purpose);
            match found {
                Some(Purpose::Notification(n)) => names.get(n as usize).map_or("?", |n| n.as_str()),
                Some(Purpose::Own) => "init",
                _ => "?",
            }
        };
        let mut text = heapless::String::<96>::new();
        let receives = cap.rights.contains(Rights::READ);
        let _ = match cap.ty {
            // (Which is which: by the numbers at the ends of the lines.)
            ObjType::Endpoint if receives => write!(text, "receives calls"),
            ObjType::Endpoint => write!(text, "calls with badge {:#x}", cap.data),
            ObjType::Notification if receives => {
                write!(text, "waits on the signals of {}", whose(cap.object))
            }
            ObjType::Notification => {
                write!(text, "signals {:#x} to {}", cap.data, whose(cap.object))
            }
            ObjType::IrqHandler => {
                write!(
                    text,
                    "interrupt {}, which signals {:#x} to {}",
                    cap.object,
                    cap.data,
                    whose(cap.link)
                )
            }
            ObjType::Timer => {
                write!(text, "timer, which signals {:#x} to {}", cap.data, whose(cap.link))
            }
            ObjType::Reply => write!(text, "answers callers"),
            ty => write!(text, "{ty:?}, 2^{} bytes or slots", cap.size_bits),
        };
        out!(self, "  {:>3} {text} {:08x}", cap.slot, cap.object as u32);
    }

    /// Everything, for the host's tool.
    fn send_authority(&mut self, at: SocketAddr) -> Done {
        let names = self.names()?;
        let proc::Reply::Machine(machine) = self.init(&proc::Request::Machine)? else {
            return Err(Failure::Nonsense("init"));
        };
        let processes = names.len() as u16;
        let header = Header { names, machine };
        let Some(stream) = self.accept(at).map_err(Failure::Send)? else { return Ok(()) };
        stream.set_user_timeout(Some(PATIENCE));
        super::trace::send_header(&stream, &MAGIC, &header)?;
        let (mut place, mut count) = (Some(Place::Init), 0);
        while let Some(here) = place {
            let mut batch = heapless::Vec::<u8, 4000>::new();
            self.held(here, |e| {
                count += 1;
                if batch.extend_from_slice(&e.to_bytes()).is_err() {
                    stream.write_all(&batch).map_err(Failure::Send)?;
                    batch.clear();
                    let _ = batch.extend_from_slice(&e.to_bytes());
                }
                Ok(())
            })?;
            stream.write_all(&batch).map_err(Failure::Send)?;
            place = here.next(processes);
        }
        out!(self, "{count} capabilities sent");
        Ok(())
    }
}
