//! Rules for programs: console, sessions, ports, and what the host forwards.

use libipc::sock;

use super::{BIND_MAX, Problems, REGION_MAX, TRACE_MAX, UNTYPED_KIB, wiring};
use crate::manifest::expand::{other_drivers, ports};
use crate::manifest::file::{Manifest, Sockets};
use crate::manifest::problem::Reason;

pub fn check(m: &Manifest, p: &mut Problems) {
    console(m, p);
    sessions(m, p);
    bound_ports(m, p);
    forwards(m, p);
    trace(m, p);
}

/// The ring is made of large frames, and a program reads it.
fn trace(m: &Manifest, p: &mut Problems) {
    let Some(t) = &m.trace else { return };
    let kib = *t.kib.get_ref();
    if kib == 0 || kib > TRACE_MAX || !kib.is_multiple_of(2048) {
        p.add(t.kib.span(), Reason::TraceSize { kib });
    }
    if !m.program.iter().any(|x| x.name.get_ref() == t.reader.get_ref()) {
        let known = m.program.iter().map(|x| x.name.get_ref().clone()).collect();
        let name = t.reader.get_ref().clone();
        p.add(t.reader.span(), Reason::Unknown { what: "program", name, known });
    }
}

fn console(m: &Manifest, p: &mut Problems) {
    let mut with = m.program.iter().filter(|x| x.console);
    match with.next() {
        None => p.add(0..0, Reason::NoConsole),
        Some(first) => {
            for other in with {
                let first = first.name.get_ref().clone();
                p.add(other.name.span(), Reason::SecondConsole(first));
            }
        }
    }
}

fn sessions(m: &Manifest, p: &mut Problems) {
    if let Some(s) = &m.sessions {
        let s = s.get_ref();
        let roles = [(&s.driver, "driver"), (&s.stack, "stack"), (&s.control, "control")];
        for (i, (role, name)) in roles.into_iter().enumerate() {
            let Some(server) = wiring::server(m, role, p) else { continue };
            let first = roles[..i].iter().find(|(r, _)| r.get_ref() == role.get_ref());
            if let Some((_, first)) = first {
                let server = role.get_ref().clone();
                p.add(role.span(), Reason::SameServer { server, first });
                continue;
            }
            if name == "driver" && !wiring::drives_bus_master(m, server) {
                let server = role.get_ref().clone();
                p.add(role.span(), Reason::DriverWithoutDevice { server });
                continue;
            }
            wiring::contract(server, role, name, 0, p);
            for (card, driver) in other_drivers(m) {
                match name {
                    "stack" => wiring::contract(server, role, name, card, p),
                    "driver" => wiring::contract(driver, &driver.name, name, card, p),
                    _ => {}
                }
            }
        }
        // Programs ask the stack how things are and call the control server for everything else.
        for role in [&s.stack, &s.control] {
            if m.server.iter().any(|x| x.name.get_ref() == role.get_ref() && !x.endpoint) {
                p.add(role.span(), Reason::NoEndpoint(role.get_ref().clone()));
            }
        }
    }
    let mut number = 0;
    for x in &m.program {
        if let Some(status) = x.net_status.as_ref().filter(|s| *s.get_ref())
            && m.sessions.is_none()
        {
            p.add(status.span(), Reason::NoStack);
        }
        if let Some(kib) = x.untyped_kib.as_ref().filter(|k| !untyped(*k.get_ref())) {
            p.add(kib.span(), Reason::Untyped(*kib.get_ref()));
        }
        let Some(sockets) = &x.sockets else { continue };
        if m.sessions.is_none() {
            p.add(sockets.span(), Reason::NoSessions);
        }
        if number >= sock::MAX_SESSIONS {
            let (program, max) = (x.name.get_ref().clone(), sock::MAX_SESSIONS);
            p.add(sockets.span(), Reason::ManySessions { program, number, max });
        }
        number += 1;
        sizes(sockets.get_ref(), p);
    }
}

/// Whether a program may have an untyped of so many KiB: as init gives them.
fn untyped(kib: u32) -> bool {
    kib.is_power_of_two() && (UNTYPED_KIB.0..=UNTYPED_KIB.1).contains(&kib)
}

fn sizes(s: &Sockets, p: &mut Problems) {
    let count = *s.count.get_ref();
    if !count.is_power_of_two() || count > sock::MAX_SOCKETS {
        p.add(s.count.span(), Reason::SocketCount(count));
    }
    p.kib("tx_kib", &s.tx_kib, 16, REGION_MAX);
    p.kib("rx_kib", &s.rx_kib, 16, REGION_MAX);
}

/// A port belongs to one program at most, whatever the protocol.
fn bound_ports(m: &Manifest, p: &mut Problems) {
    let mut taken: Vec<((u16, u16), &str)> = Vec::new();
    for x in &m.program {
        let Some(s) = &x.sockets else { continue };
        let (s, owner) = (s.get_ref(), x.name.get_ref().as_str());
        if let Some(one_too_many) = s.bind.get(BIND_MAX) {
            p.add(one_too_many.span(), Reason::BindMany(s.bind.len()));
        }
        for b in &s.bind {
            let Some((first, last)) = ports(b.get_ref()) else {
                p.add(b.span(), Reason::Ports(b.get_ref().clone()));
                continue;
            };
            let clash = taken.iter().find(|((f, l), _)| first <= *l && *f <= last);
            if let Some(((f, _), owner)) = clash {
                let (port, owner) = (first.max(*f), owner.to_string());
                p.add(b.span(), Reason::PortTaken { port, owner });
            }
            taken.push(((first, last), owner));
        }
    }
}

fn forwards(m: &Manifest, p: &mut Problems) {
    let bound: Vec<(u16, u16)> = m
        .program
        .iter()
        .filter_map(|x| x.sockets.as_ref())
        .flat_map(|s| s.get_ref().bind.iter().filter_map(|b| ports(b.get_ref())))
        .collect();
    for (i, f) in m.forward.iter().enumerate() {
        let (host, port) = (*f.host.get_ref(), *f.port.get_ref());
        p.range("host", f.host.span(), host as u64, 1, 65535);
        if !bound.iter().any(|(first, last)| (*first..=*last).contains(&port)) {
            p.add(f.port.span(), Reason::ForwardToNobody(port));
        }
        if m.forward[..i].iter().any(|g| *g.host.get_ref() == host) {
            p.add(f.host.span(), Reason::ForwardTwice(host));
        }
        if f.protocols.is_empty() {
            p.add(f.host.span(), Reason::NoProtocol);
        }
    }
}
