//! The graph that a system description declares: what init is to hand out, and nothing else.

use abi::Rights;
use init::layout::{badge, signal};
use spec::{CapKind, MapKind, System};

use super::graph::{Graph, Holder, Memory, Role, What};

/// The declared graph. Who has an endpoint or a device is a server.
pub fn graph(system: &System) -> Graph {
    let mut graph = Graph::default();
    let name = |i: u16| system.notifications.get(i as usize).cloned().unwrap_or_default();
    for (i, p) in system.processes.iter().enumerate() {
        let serves =
            |k: &CapKind| matches!(k, CapKind::Endpoint { recv: true, .. } | CapKind::Irq { .. });
        let is_server = p.caps.iter().any(|c| serves(&c.kind));
        let role = if is_server { Role::Server } else { Role::Program };
        let mut h = Holder::new(role, p.autostart);
        let (read, write, all) = (Rights::READ, Rights::WRITE, Rights::all());
        for cap in &p.caps {
            match &cap.kind {
                CapKind::Endpoint { index, recv, badge } => {
                    let of = system.endpoints.get(*index as usize).cloned().unwrap_or_default();
                    h.add(What::Endpoint(of), if *recv { read } else { write }, *badge);
                }
                CapKind::Init(_) => {
                    h.add(What::Endpoint("init".into()), write, badge::request(i));
                }
                CapKind::Notification { index, recv, badge } => {
                    let rights = if *recv { read } else { write };
                    h.add(What::Notification(name(*index)), rights, *badge);
                }
                CapKind::Reply => h.add(What::Reply, all, 0),
                CapKind::Timer { notification, badge } => {
                    h.add(What::Timer(name(*notification)), all, *badge);
                }
                CapKind::Irq { notification, badge, .. } => {
                    h.add(What::Interrupt(name(*notification)), read | write, *badge);
                }
                CapKind::Ports { first, last } => h.add(What::Ports(*first, *last), all, 0),
                CapKind::IsaIrq { notification, badge, .. } => {
                    h.add(What::Interrupt(name(*notification)), read | write, *badge);
                }
                CapKind::Untyped { bits } => h.add(What::Untyped(*bits), all, 0),
                CapKind::CSpace => h.add(What::CSpace, all, 0),
                CapKind::VSpace => h.add(What::VSpace, all, 0),
                CapKind::Thread => h.add(What::Thread, all, 0),
            }
        }
        for map in &p.maps {
            let region = |index: u16| {
                let region = system.regions.get(index as usize);
                region.map_or_else(Default::default, |r| r.name.clone())
            };
            match map.kind {
                MapKind::Region { index, write: w } => {
                    let rights = if w { read | write } else { read };
                    h.add(What::Memory(Memory::Region(region(index))), rights, 0);
                }
                MapKind::Bar { device, .. } => {
                    let device = system.devices.get(device as usize);
                    let of = device.map_or_else(Default::default, |d| d.name.clone());
                    h.add(What::Registers(of), read | write, 0);
                }
                // Reads and writes are told apart where a device has a domain.
                MapKind::DmaOnly { index } => h.add(What::Dma(region(index)), read | write, 0),
            }
        }
        // What every process gets.
        let memory = |m| What::Memory(m);
        h.add(memory(Memory::Own(p.name.clone())), read | write, 0);
        h.add(memory(Memory::Program(p.file.clone())), read | Rights::GRANT, 0);
        h.add(memory(Memory::Log(p.name.clone())), read | write, 0);
        h.add(memory(Memory::Start(p.name.clone())), read, 0);
        if p.console {
            h.add(memory(Memory::Console), read | write, 0);
        }
        h.add(What::Notification("init".into()), write, signal::log(i));
        h.add(What::Faults("init".into()), write, badge::fault(i));
        h.add(What::Timeouts("init".into()), write, badge::fault(i));
        if let Some(n) = p.bound {
            h.add(What::Bound(name(n)), Rights::empty(), 0);
        }
        let optional = Memory::Program(p.file.clone());
        let holding = super::graph::Holding { what: memory(optional), rights: read, badge: 0 };
        h.may_hold.insert(holding);
        graph.holders.insert(p.name.clone(), h);
    }
    graph
}
