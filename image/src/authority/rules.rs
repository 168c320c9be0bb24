//! What no program may reach, by whatever path: a device's registers, another's memory, or a
//! capability that no system description can declare.
//!
//! A program has what it holds, and what others could pass on to it. Capabilities travel with messages
//! only if the sender's capability has the grant right and the receiver has a CNode to put them
//! into; so there are few ways, and where there is one, what lies behind it counts as reached.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use abi::Rights;

use super::graph::{Graph, Holding, Memory, Role, What};

/// A path that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who reaches it, and through whom.
    pub path: Vec<String>,
    /// What it reaches.
    pub holding: Holding,
    /// Why that must not be.
    pub why: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}: {}", self.path.join(" → "), self.holding, self.why)
    }
}

/// Everything that is wrong with a graph.
pub fn violations(graph: &Graph) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, holder) in &graph.holders {
        for (from, path) in reach(graph, name) {
            for holding in &graph.holders[&from].holds {
                let why = match holder.role {
                    Role::Program => program_may_not(graph, name, &from, holding),
                    Role::Server => server_may_not(name, holding),
                };
                if let Some(why) = why {
                    found.push(Violation { path: path.clone(), holding: holding.clone(), why });
                }
            }
        }
    }
    found
}

/// From whom a process could get capabilities, itself included, and the way.
fn reach(graph: &Graph, name: &str) -> BTreeMap<String, Vec<String>> {
    let mut ways = BTreeMap::from([(name.to_string(), vec![name.to_string()])]);
    let mut todo = VecDeque::from([name.to_string()]);
    while let Some(to) = todo.pop_front() {
        for from in graph.holders.keys().filter(|from| passes(graph, from, &to)) {
            if !ways.contains_key(from) {
                let way = ways[&to].iter().chain([from]).cloned().collect();
                ways.insert(from.clone(), way);
                todo.push_back(from.clone());
            }
        }
    }
    ways
}

/// Whether `from` could send `to` a capability.
fn passes(graph: &Graph, from: &str, to: &str) -> bool {
    let (from, to) = (&graph.holders[from], &graph.holders[to]);
    if !to.holds.iter().any(|h| h.what == What::CSpace) {
        return false;
    }
    let answers =
        from.holds.iter().any(|h| h.what == What::Reply && h.rights.contains(Rights::GRANT));
    let can =
        |h: &Holding, rights| matches!(h.what, What::Endpoint(_)) && h.rights.contains(rights);
    let meet = |a: &Holding, b: &Holding| a.what == b.what;
    let sends = from.holds.iter().filter(|h| can(h, Rights::WRITE | Rights::GRANT));
    let sends = sends.flat_map(|a| to.holds.iter().map(move |b| (a, b)));
    let called = from.holds.iter().filter(|h| answers && can(h, Rights::READ));
    let called = called.flat_map(|a| to.holds.iter().map(move |b| (a, b)));
    sends.into_iter().any(|(a, b)| can(b, Rights::READ) && meet(a, b))
        || called.into_iter().any(|(a, b)| can(b, Rights::WRITE) && meet(a, b))
}

fn program_may_not(graph: &Graph, name: &str, from: &str, h: &Holding) -> Option<&'static str> {
    match &h.what {
        What::Registers(_) => Some("no program reaches a device's registers"),
        // A device of ports alone reaches no memory, and the manifest gives it to one program by name.
        What::Ports(..) if from != name => Some("that is another's device"),
        What::Interrupt(_) if from == name && has_ports(graph, name) => None,
        What::Interrupt(_) => Some("no program acknowledges interrupts"),
        What::Dma(_) => Some("no program has a device read or write memory"),
        What::Memory(Memory::Region(region)) => shared(graph, name, region),
        What::Memory(Memory::Own(of) | Memory::Log(of) | Memory::Start(of)) if of != name => {
            Some("that is another's memory")
        }
        What::CSpace | What::VSpace | What::Thread | What::Untyped(_) if from != name => {
            Some("that is another's to decide about")
        }
        _ => server_may_not(name, h),
    }
}

/// Whether a process has a device of ports, and so the interrupt that belongs to it.
fn has_ports(graph: &Graph, name: &str) -> bool {
    graph.holders[name].holds.iter().any(|h| matches!(h.what, What::Ports(..)))
}

fn server_may_not(_: &str, h: &Holding) -> Option<&'static str> {
    let write_exec = Rights::WRITE | Rights::GRANT;
    match &h.what {
        What::Memory(Memory::Unknown(_)) | What::Other(_) => {
            Some("the manifest has no word for it, so nobody declared it")
        }
        What::Memory(_) if h.rights.contains(write_exec) => {
            Some("memory is never writable and executable")
        }
        _ => None,
    }
}

/// Why program `name` may not see a region, if so: it belongs to another program's session, or
/// another program is in it too and one of them writes.
fn shared(graph: &Graph, name: &str, region: &str) -> Option<&'static str> {
    let what = What::Memory(Memory::Region(region.into()));
    let programs = graph.holders.iter().filter(|(_, h)| h.role == Role::Program);
    let users: Vec<(&str, bool)> = programs
        .flat_map(|(n, h)| {
            let uses = h.holds.iter().filter(|h| h.what == what);
            uses.map(move |h| (n.as_str(), h.rights.contains(Rights::WRITE)))
        })
        .collect();
    let alone = users.iter().all(|(user, _)| *user == name);
    let written = users.iter().any(|(_, writes)| *writes);
    (!alone && (written || region.starts_with("session."))).then_some("that is another's memory")
}

#[cfg(test)]
mod tests {
    use super::super::declared;
    use super::*;
    use crate::{manifest, workspace};
    use spec::{CapKind, Map, MapKind, System};

    fn system() -> System {
        let bins = workspace::guest_bins().unwrap();
        let bins: Vec<&str> = bins.iter().map(|b| b.name.as_str()).collect();
        manifest::load(&workspace::manifest(), &bins).unwrap().system
    }
    fn index(s: &System, name: &str) -> usize {
        s.processes.iter().position(|p| p.name == name).unwrap()
    }
    fn told(s: &System) -> Vec<String> {
        violations(&declared::graph(s)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_system_keeps_them() {
        assert_eq!(told(&system()), [""; 0]);
    }

    #[test]
    fn registers_interrupts_and_dma_are_for_drivers() {
        let mut s = system();
        let i = index(&s, "httpd");
        let map = |kind| Map { name: "x".into(), kind };
        s.processes[i].maps.push(map(MapKind::Bar { device: 0, bar: 0 }));
        assert_eq!(
            told(&s),
            ["httpd → the registers of nic (rw-): no program reaches a device's registers"]
        );
        s.processes[i].maps.pop();
        s.processes[i].maps.push(map(MapKind::DmaOnly { index: 0 }));
        assert!(told(&s)[0].starts_with("httpd → region nic.rx, by its device"));
    }

    #[test]
    fn sessions_are_not_shared() {
        let mut s = system();
        let (i, region) = (index(&s, "services"), "session.1.rx");
        let index = s.regions.iter().position(|r| r.name == region).unwrap() as u16;
        let kind = MapKind::Region { index, write: false };
        s.processes[i].maps.push(Map { name: "x".into(), kind });
        let expected = ["httpd", "services"]
            .map(|p| format!("{p} → reads region session.1.rx: that is another's memory"));
        assert_eq!(told(&s), expected);
    }

    #[test]
    fn what_others_could_pass_on_counts() {
        let s = system();
        let mut graph = declared::graph(&s);
        // The driver could answer calls, and httpd could call it and has room for what comes.
        let driver = graph.holders.get_mut("e1000d").unwrap();
        driver.add(What::Endpoint("e1000d".into()), Rights::READ, 0);
        driver.add(What::Reply, Rights::all(), 0);
        let httpd = graph.holders.get_mut("httpd").unwrap();
        httpd.add(What::Endpoint("e1000d".into()), Rights::WRITE, 3);
        assert_eq!(violations(&graph), []);
        graph.holders.get_mut("httpd").unwrap().add(What::CSpace, Rights::all(), 0);
        let told: Vec<String> = violations(&graph).iter().map(ToString::to_string).collect();
        let expected =
            "httpd → e1000d → the registers of nic (rw-): no program reaches a device's registers";
        assert!(told.iter().any(|t| t == expected), "{told:#?}");
    }

    #[test]
    fn differences_are_told_both_ways() {
        let mut s = system();
        let declared = declared::graph(&s);
        assert_eq!(declared.differences(&declared), [""; 0]);
        let i = index(&s, "httpd");
        let extra = CapKind::Notification { index: 0, recv: false, badge: 9 };
        s.processes[i].caps.push(spec::Cap { name: "x".into(), kind: extra });
        let other = declared::graph(&s);
        let extra = "httpd → signals e1000d, badge 0x9";
        assert_eq!(declared.differences(&other), [format!("{extra}: nobody declared that")]);
        let missing = "httpd should hold this, and does not: signals e1000d, badge 0x9";
        assert_eq!(other.differences(&declared), [missing]);
    }
}
