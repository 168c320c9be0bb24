//! Rules for servers: devices, memory, who may signal and call whom.

use std::collections::HashMap;

use libipc::{nic, sock, start};
use toml::Spanned;

use super::{Problems, REGION_MAX};
use crate::manifest::expand::{card_part, contract_kib, pci_id};
use crate::manifest::file::{Access, Manifest, MapUse, Region, Server};
use crate::manifest::problem::Reason;

pub fn check(m: &Manifest, p: &mut Problems) {
    devices(m, p);
    regions(m, p);
    maps(m, p);
    signals(m, p);
    calls(m, p);
}

fn known<'a>(names: impl Iterator<Item = &'a Spanned<String>>) -> Vec<String> {
    names.map(|n| n.get_ref().clone()).collect()
}

/// The server called `name`, or a problem.
pub fn server<'a>(m: &'a Manifest, name: &Spanned<String>, p: &mut Problems) -> Option<&'a Server> {
    let found = m.server.iter().find(|s| s.name.get_ref() == name.get_ref());
    if found.is_none() {
        let known = known(m.server.iter().map(|s| &s.name));
        let name_text = name.get_ref().clone();
        p.add(name.span(), Reason::Unknown { what: "server", name: name_text, known });
    }
    found
}

fn devices(m: &Manifest, p: &mut Problems) {
    for d in &m.device {
        let Some(ids) = &d.ids else {
            if d.isa().is_none() || d.bus_master {
                p.add(d.name.span(), Reason::NoIsa(d.name.get_ref().clone()));
            }
            continue;
        };
        if d.ports.is_some() || d.line.is_some() {
            p.add(d.name.span(), Reason::NoIsa(d.name.get_ref().clone()));
        }
        if ids.get_ref().is_empty() {
            p.add(ids.span(), Reason::NoIds(d.name.get_ref().clone()));
        }
        for id in ids.get_ref().iter().filter(|id| pci_id(id.get_ref()).is_none()) {
            p.add(id.span(), Reason::PciId(id.get_ref().clone()));
        }
    }
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for s in &m.server {
        let Some(d) = &s.device else { continue };
        if own(m, &d.name, s.name.get_ref(), &mut owners, p) == Some(true) {
            let (server, device) = (s.name.get_ref().clone(), d.name.get_ref().clone());
            p.add(d.name.span(), Reason::ServerPorts { server, device });
        }
        for bar in &d.bars {
            p.range("bars", bar.span(), *bar.get_ref() as u64, 0, 5);
        }
    }
    for x in &m.program {
        let Some(d) = &x.device else { continue };
        if own(m, d, x.name.get_ref(), &mut owners, p) == Some(false) {
            let (program, device) = (x.name.get_ref().clone(), d.get_ref().clone());
            p.add(d.span(), Reason::ProgramDevice { program, device });
        }
    }
}

/// Enters the owner of a device; whether it is one of ports.
fn own<'a>(
    m: &'a Manifest,
    device: &'a Spanned<String>,
    owner: &'a str,
    owners: &mut HashMap<&'a str, &'a str>,
    p: &mut Problems,
) -> Option<bool> {
    let name = device.get_ref();
    if let Some(first) = owners.insert(name, owner) {
        let (device_name, owner) = (name.clone(), first.to_string());
        p.add(device.span(), Reason::DeviceTaken { device: device_name, owner });
    }
    let found = m.device.iter().find(|x| x.name.get_ref() == name);
    if found.is_none() {
        let known = known(m.device.iter().map(|x| &x.name));
        p.add(device.span(), Reason::Unknown { what: "device", name: name.clone(), known });
    }
    found.map(|x| x.ids.is_none())
}

fn regions(m: &Manifest, p: &mut Problems) {
    // Each card's driver has numbers of its own.
    let mut numbers: HashMap<(usize, u8), &str> = HashMap::new();
    for r in &m.region {
        let name = r.name.get_ref();
        match (&r.kib, contract_kib(name)) {
            (None, None) => p.add(r.name.span(), Reason::NoSize(name.clone())),
            (Some(kib), Some(need)) if *kib.get_ref() != need => {
                let reason = Reason::ContractSize { name: name.clone(), need, kib: *kib.get_ref() };
                p.add(kib.span(), reason);
            }
            (Some(kib), _) => p.kib("kib", kib, 4, REGION_MAX),
            (None, Some(_)) => {}
        }
        if let (Some(device), None) = (&r.device, &r.dma) {
            p.add(device.span(), Reason::NoDmaNumber(name.clone()));
        }
        if let Some(dma) = &r.dma {
            let number = *dma.get_ref();
            p.range("dma", dma.span(), number as u64, 0, nic::WINDOW_SESSION as u64 - 1);
            let card = card_part(name).map_or(0, |(card, _)| card);
            if let Some(owner) = numbers.insert((card, number), name) {
                p.add(dma.span(), Reason::DmaTaken { number, owner: owner.into() });
            }
        }
        let maps = m.server.iter().flat_map(|s| &s.maps);
        let maps = maps.chain(m.program.iter().flat_map(|x| &x.maps));
        let uses: Vec<_> = maps.filter(|u| u.region.get_ref() == name).map(|u| u.access).collect();
        if uses.is_empty() {
            p.add(r.name.span(), Reason::Unused(name.clone()));
        } else if uses.iter().all(|access| *access == Access::R) {
            p.add(r.name.span(), Reason::NoWriter(name.clone()));
        }
    }
}

/// Whether the device that `s` drives reaches memory by itself.
pub fn drives_bus_master(m: &Manifest, s: &Server) -> bool {
    s.device.as_ref().is_some_and(|d| {
        m.device.iter().any(|x| x.name.get_ref() == d.name.get_ref() && x.bus_master)
    })
}

/// The regions by which the servers of the sessions work together ([`libipc::nic`]), and what is
/// theirs alone. Where one has access "rw", [`maps`] sees to it that nobody else has.
const CONTRACT: [(&str, &str, Access); 11] = [
    ("driver", "nic.rings", Access::Rw),
    ("driver", "nic.drv", Access::Rw),
    ("driver", "nic.net", Access::R),
    ("driver", "nic.rx", Access::Dma),
    ("driver", "nic.tx", Access::Dma),
    ("stack", "nic.drv", Access::R),
    ("stack", "nic.net", Access::Rw),
    ("stack", "nic.rx", Access::Rw),
    ("stack", "nic.tx", Access::Rw),
    ("stack", "netd.state", Access::Rw),
    ("control", "sockd.state", Access::Rw),
];

/// Whether `server` maps what its `role`, standing at `at`, needs, for network card `card`.
pub fn contract(
    server: &Server,
    at: &Spanned<String>,
    role: &'static str,
    card: usize,
    p: &mut Problems,
) {
    let needs = CONTRACT
        .into_iter()
        .filter(|(r, region, _)| *r == role && (card == 0 || card_part(region).is_some()));
    for (_, region, access) in needs {
        let region = match card {
            0 => region.to_string(),
            card => region.replace("nic.", &format!("nic{card}.")),
        };
        let mapped = server.maps.iter().find(|u| *u.region.get_ref() == region);
        if mapped.is_none_or(|u| u.access != access) {
            let span = mapped.map_or(at.span(), |u| u.region.span());
            let server = server.name.get_ref().clone();
            p.add(span, Reason::NeedsRegion { server, role, region, access });
        }
    }
}

fn maps(m: &Manifest, p: &mut Problems) {
    let mut writers: HashMap<&str, &str> = HashMap::new();
    for s in &m.server {
        let server = s.name.get_ref();
        let bus_master = drives_bus_master(m, s);
        for (u, r) in known_maps(m, server, &s.maps, p) {
            let region = u.region.get_ref();
            if u.access == Access::Rw
                && let Some(first) = writers.insert(region, server)
            {
                let (region, first) = (region.clone(), first.to_string());
                p.add(u.region.span(), Reason::TwoWriters { region, first });
            }
            if u.access == Access::Dma && r.dma.is_none() {
                p.add(u.region.span(), Reason::NoDmaNumber(region.clone()));
            }
            if u.access == Access::Dma && !bus_master {
                p.add(u.region.span(), Reason::NoBusMaster(server.clone()));
            }
        }
    }
    for x in &m.program {
        let program = x.name.get_ref();
        for (u, _) in known_maps(m, program, &x.maps, p) {
            if u.access != Access::R {
                let (program, region) = (program.clone(), u.region.get_ref().clone());
                p.add(u.region.span(), Reason::ProgramWrites { program, region });
            }
        }
    }
}

/// The entries of `maps` that name a region, each region once.
fn known_maps<'a>(
    m: &'a Manifest,
    process: &str,
    maps: &'a [MapUse],
    p: &mut Problems,
) -> Vec<(&'a MapUse, &'a Region)> {
    let mut found: Vec<(&MapUse, &Region)> = Vec::new();
    for u in maps {
        let name = u.region.get_ref();
        if let Some(r) = m.region.iter().find(|r| r.name.get_ref() == name) {
            if found.iter().any(|(v, _)| v.region.get_ref() == name) {
                let (process, region) = (process.to_string(), name.clone());
                p.add(u.region.span(), Reason::MappedTwice { process, region });
            } else {
                found.push((u, r));
            }
        } else {
            let known = known(m.region.iter().map(|r| &r.name));
            let reason = Reason::Unknown { what: "region", name: name.clone(), known };
            p.add(u.region.span(), reason);
        }
    }
    found
}

/// Each bit of a server's notification means one thing.
fn signals(m: &Manifest, p: &mut Problems) {
    let mut bits: HashMap<(&str, u32), String> = HashMap::new();
    let mut take = |p: &mut Problems, server: &str, bit: &Spanned<u32>, user: String| {
        let number = *bit.get_ref();
        p.range("bit", bit.span(), number as u64, 0, 63);
        let Some((key, _)) = m
            .server
            .iter()
            .find(|s| s.name.get_ref() == server)
            .map(|s| ((s.name.get_ref().as_str(), number), ()))
        else {
            return;
        };
        if let Some(first) = bits.get(&key) {
            let (server, first) = (server.to_string(), first.clone());
            p.add(bit.span(), Reason::BitTaken { bit: number, server, first, second: user });
        } else {
            bits.insert(key, user);
        }
    };
    for s in &m.server {
        let name = s.name.get_ref();
        if let Some(device) = &s.device {
            let stop = Spanned::new(device.name.span(), start::STOP.trailing_zeros());
            take(p, name, &stop, "init, to stop its device".into());
            let rest = Spanned::new(device.name.span(), start::SUSPEND.trailing_zeros());
            take(p, name, &rest, "init, to suspend its device".into());
        }
        if let Some(irq) = s.device.as_ref().and_then(|d| d.irq.as_ref()) {
            take(p, name, irq, "its interrupt".into());
        }
        if let Some(timer) = &s.timer {
            take(p, name, timer, "its timer".into());
        }
    }
    if let Some(sessions) = &m.sessions {
        let s = sessions.get_ref();
        for n in 0..m.program.iter().filter(|x| x.sockets.is_some()).count() as u32 {
            for (role, shift) in [(&s.stack, sock::DOORBELL_SHIFT), (&s.control, 32)] {
                let bit = Spanned::new(role.span(), shift + n);
                if shift + n < 64 {
                    take(p, role.get_ref(), &bit, format!("session {n}"));
                }
            }
        }
    }
    for s in &m.server {
        for signal in &s.signals {
            if server(m, &signal.to, p).is_some() {
                let user = format!("`{}`", s.name.get_ref());
                take(p, signal.to.get_ref(), &signal.bit, user);
            }
        }
    }
}

fn calls(m: &Manifest, p: &mut Problems) {
    let mut badges: HashMap<(&str, u64), String> = HashMap::new();
    if let Some(sessions) = &m.sessions {
        let s = sessions.get_ref();
        badges.insert((s.stack.get_ref(), libipc::net::badge::STATUS), "status readers".into());
        badges
            .insert((s.stack.get_ref(), libipc::net::badge::ADMIN), "who may stop servers".into());
        for (n, x) in m.program.iter().filter(|x| x.sockets.is_some()).enumerate() {
            let owner = format!("session {n}, `{}`", x.name.get_ref());
            badges.insert((s.control.get_ref(), n as u64 + 1), owner);
        }
    }
    for s in &m.server {
        for call in &s.calls {
            let Some(callee) = server(m, &call.to, p) else { continue };
            let name = callee.name.get_ref();
            if !callee.endpoint {
                p.add(call.to.span(), Reason::NoEndpoint(name.clone()));
            }
            let badge = *call.badge.get_ref();
            p.range("badge", call.badge.span(), badge, 1, u64::MAX);
            let owner = format!("`{}`", s.name.get_ref());
            if let Some(owner) = badges.insert((name, badge), owner) {
                let server = name.clone();
                p.add(call.badge.span(), Reason::BadgeTaken { badge, server, owner });
            }
        }
    }
}
