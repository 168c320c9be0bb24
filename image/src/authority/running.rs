//! The graph of a running system: from what the kernel says is in every CNode and thread. The system
//! description gives names to objects; what is held comes from the kernel alone.

use std::collections::HashMap;

use abi::{CapInfo, MapAttr, ObjType, Rights, thread_slot};
use libipc::authority::{Entry, Place, Purpose};
use libipc::start;
use spec::System;

use super::declared;
use super::dump::Dump;
use super::graph::{Graph, Holder, Memory, What};

/// What is known of the objects.
struct Objects<'a> {
    system: &'a System,
    /// What init made an object for.
    purposes: HashMap<u64, Purpose>,
    /// Address spaces, and whose they are.
    spaces: HashMap<u64, u16>,
    /// CNodes and threads of processes.
    own: HashMap<u64, u16>,
}

impl<'a> Objects<'a> {
    fn new(system: &'a System, dump: &Dump) -> Self {
        let mut o =
            Self { system, purposes: HashMap::new(), spaces: HashMap::new(), own: HashMap::new() };
        for e in dump.entries.iter().filter(|e| e.place == Place::Init) {
            match (e.cap.ty, e.purpose) {
                (ObjType::VSpace, Purpose::Standing(n)) => drop(o.spaces.insert(e.cap.object, n)),
                (ObjType::CNode | ObjType::Thread, Purpose::Life(n)) => {
                    o.own.insert(e.cap.object, n);
                }
                _ => {}
            }
            // Copies for mappings are made for a process; the object was made for something.
            let specific = !matches!(e.purpose, Purpose::Own | Purpose::Standing(_));
            if specific || !o.purposes.contains_key(&e.cap.object) {
                o.purposes.insert(e.cap.object, e.purpose);
            }
        }
        o
    }

    fn process(&self, n: u16) -> String {
        let found = self.system.processes.get(n as usize);
        found.map_or_else(|| format!("process {n}"), |p| p.name.clone())
    }
    /// Who receives from an endpoint, or waits on a notification.
    fn end(&self, object: u64) -> String {
        match self.purposes.get(&object) {
            Some(Purpose::Endpoint(n)) => self.system.endpoints.get(*n as usize).cloned(),
            Some(Purpose::Notification(n)) => self.system.notifications.get(*n as usize).cloned(),
            Some(Purpose::Own) => Some("init".into()),
            _ => None,
        }
        .unwrap_or_else(|| format!("nobody ({object:08x})"))
    }
    /// What a mapped frame is.
    fn memory(&self, cap: &CapInfo) -> What {
        let memory = match self.purposes.get(&cap.object) {
            Some(Purpose::Region(n)) => {
                let region = self.system.regions.get(*n as usize);
                Memory::Region(region.map_or_else(Default::default, |r| r.name.clone()))
            }
            Some(Purpose::Program(n)) => {
                let process = self.system.processes.get(*n as usize);
                Memory::Program(process.map_or_else(Default::default, |p| p.file.clone()))
            }
            Some(Purpose::Device(n)) => {
                let device = self.system.devices.get(*n as usize);
                return What::Registers(device.map_or_else(Default::default, |d| d.name.clone()));
            }
            Some(Purpose::Life(n)) => Memory::Own(self.process(*n)),
            Some(Purpose::Standing(n)) if cap.data == start::LOG => Memory::Log(self.process(*n)),
            Some(Purpose::Standing(n)) => Memory::Start(self.process(*n)),
            Some(Purpose::Own) if cap.data == start::CONSOLE => Memory::Console,
            _ => Memory::Unknown(format!("{:08x} at {:#x}", cap.object as u32, cap.data)),
        };
        What::Memory(memory)
    }

    /// A capability in the CNode of process `n`.
    fn held(&self, n: u16, cap: &CapInfo) -> (What, Rights, u64) {
        let own = self.own.get(&cap.object) == Some(&n);
        let what = match cap.ty {
            ObjType::Endpoint => What::Endpoint(self.end(cap.object)),
            ObjType::Notification => What::Notification(self.end(cap.object)),
            ObjType::Reply => What::Reply,
            ObjType::Timer => What::Timer(self.end(cap.link)),
            ObjType::IrqHandler => What::Interrupt(self.end(cap.link)),
            ObjType::IoPort => What::Ports((cap.data >> 16) as u16, cap.data as u16),
            ObjType::Untyped if !cap.device => What::Untyped(cap.size_bits),
            ObjType::CNode if own => What::CSpace,
            ObjType::Thread if own => What::Thread,
            ObjType::VSpace if self.spaces.get(&cap.object) == Some(&n) => What::VSpace,
            ty => What::Other(format!("{ty:?} {:08x}", cap.object as u32)),
        };
        let badged = matches!(
            cap.ty,
            ObjType::Endpoint | ObjType::Notification | ObjType::Timer | ObjType::IrqHandler
        );
        (what, cap.rights, if badged { cap.data } else { 0 })
    }
}

/// The graph of what `dump` shows, with the names of `system`.
pub fn graph(system: &System, dump: &Dump) -> Graph {
    let objects = Objects::new(system, dump);
    let roles = declared::graph(system);
    let mut graph = Graph::default();
    for (n, name) in dump.names.iter().enumerate() {
        let role = roles.holders.get(name).map_or(super::graph::Role::Program, |h| h.role);
        let runs = dump.entries.iter().any(|e| e.place == Place::Thread(n as u16));
        let exists = objects.spaces.values().any(|owner| *owner as usize == n);
        // One that cannot be built, for lack of a device, has no address space.
        if exists {
            graph.holders.insert(name.clone(), Holder::new(role, runs));
        }
    }
    for e in &dump.entries {
        let holder = match e.place {
            _ if e.cap.ty == ObjType::Frame && e.cap.link != 0 => {
                objects.spaces.get(&e.cap.link).copied()
            }
            Place::CNode(n) | Place::Thread(n) => Some(n),
            Place::Init => None,
        };
        let name = holder.and_then(|n| dump.names.get(n as usize));
        let Some((n, h)) = holder.zip(name.and_then(|n| graph.holders.get_mut(n))) else {
            continue;
        };
        add(&objects, h, n, e);
    }
    graph
}

fn add(objects: &Objects<'_>, h: &mut Holder, n: u16, e: &Entry) {
    let cap = &e.cap;
    if cap.ty == ObjType::Frame && cap.link != 0 {
        let mut rights = Rights::READ;
        rights.set(Rights::WRITE, cap.write);
        rights.set(Rights::GRANT, cap.attr.contains(MapAttr::EXEC));
        let what = objects.memory(cap);
        *h.bytes.entry(what.clone()).or_default() += 1 << cap.size_bits;
        return h.add(what, rights, 0);
    }
    match e.place {
        Place::CNode(_) => {
            let (what, rights, badge) = objects.held(n, cap);
            h.add(what, rights, badge);
        }
        Place::Thread(_) => match cap.slot as u64 {
            thread_slot::FAULT => {
                h.add(What::Faults(objects.end(cap.object)), cap.rights, cap.data);
            }
            thread_slot::TIMEOUT => {
                h.add(What::Timeouts(objects.end(cap.object)), cap.rights, cap.data);
            }
            thread_slot::BOUND => {
                h.add(What::Bound(objects.end(cap.object)), Rights::empty(), 0);
            }
            thread_slot::CSPACE if objects.own.get(&cap.object) != Some(&n) => {
                h.add(What::Other("a CNode that is not its own".into()), cap.rights, 0);
            }
            thread_slot::VSPACE if objects.spaces.get(&cap.object) != Some(&n) => {
                h.add(What::Other("an address space that is not its own".into()), cap.rights, 0);
            }
            _ => {}
        },
        Place::Init => {}
    }
}
