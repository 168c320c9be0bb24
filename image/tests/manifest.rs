//! The manifest's rules, each shown by a fixture that breaks it, and what a good one expands to.
//!
//! A fixture in `manifests/` ends with the messages that it must cause, in order:
//! `#! LINE: reason`. One without such lines must be accepted. `#+ PART…` in the first line appends
//! parts (`PART.part`) of a network that works, behind the fixture so that its lines keep their
//! numbers.

use std::path::Path;

use image::manifest::{self, Plan};
use libipc::{net, nic, sock};
use spec::{Budget, CapKind, InitRights, MapKind, Process, Restart, System};

/// Guest binaries that fixtures may name.
const BINS: [&str; 9] =
    ["e1000d", "httpd", "init", "kernel", "netd", "services", "shell", "sockd", "victim"];

#[test]
fn each_kind_of_mistake_is_refused_with_line_and_reason() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut fixtures = 0;
    let mut wrong = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    for path in paths {
        let fixture = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected: Vec<String> = fixture
            .lines()
            .filter_map(|l| l.strip_prefix("#! "))
            .map(|l| format!("{name}:{l}"))
            .collect();
        // Without the messages, so that their number moves no line of what is appended.
        let mut text: String =
            fixture.split_inclusive('\n').filter(|l| !l.starts_with("#! ")).collect();
        let parts = fixture.lines().next().and_then(|l| l.strip_prefix("#+ ")).unwrap_or("");
        for part in parts.split_whitespace() {
            text += &std::fs::read_to_string(path.with_file_name(format!("{part}.part"))).unwrap();
        }
        let got = match manifest::parse(name, &text, &BINS) {
            Ok(_) => String::new(),
            Err(refused) => refused.to_string(),
        };
        if got != expected.join("\n") {
            wrong.push(format!("{name}\n  expected: {}\n  got:      {got}", expected.join("\n")));
        }
        fixtures += 1;
    }
    assert!(fixtures > 40, "the fixtures are missing: {fixtures}");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn system() -> Plan {
    let bins = image::workspace::guest_bins().unwrap();
    let bins: Vec<&str> = bins.iter().map(|b| b.name.as_str()).collect();
    let path = image::workspace::manifest();
    manifest::load(&path, &bins).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn budgets_reach_init() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/good-budget.toml");
    let system = manifest::load(&path, &BINS).unwrap_or_else(|e| panic!("{e}")).system;
    let budget = |budget_us, period_us| Some(Budget { budget_us, period_us });
    assert_eq!(process(&system, "a").budget, budget(10_000, 10_000));
    assert_eq!(process(&system, "shell").budget, budget(100, 1_000_000));
}

fn process<'a>(s: &'a System, name: &str) -> &'a Process {
    s.processes.iter().find(|p| p.name == name).unwrap()
}

fn cap<'a>(p: &'a Process, name: &str) -> &'a CapKind {
    &p.caps.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("{}: {name}", p.name)).kind
}

fn map(p: &Process, name: &str) -> MapKind {
    p.maps.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("{}: {name}", p.name)).kind
}

/// Size of a region, and its window: number, whether the device reads and writes it.
fn region(s: &System, name: &str) -> (u32, Option<(u8, bool, bool)>) {
    let r = s.regions.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("{name}"));
    (r.kib, r.dma.map(|d| (d.window, d.read, d.write)))
}

/// What a process may do with a region of the system, by the region's own name.
fn access(s: &System, process_name: &str, region: &str) -> Option<&'static str> {
    let index = s.regions.iter().position(|r| r.name == region).unwrap() as u16;
    let p = process(s, process_name);
    p.maps.iter().find_map(|m| match m.kind {
        MapKind::Region { index: i, write } if i == index => Some(if write { "rw" } else { "r" }),
        MapKind::DmaOnly { index: i } if i == index => Some("dma"),
        _ => None,
    })
}

#[test]
fn servers_get_exactly_what_the_manifest_says() {
    let s = system().system;
    let n = |name: &str| s.notifications.iter().position(|x| x == name).unwrap() as u16;
    let e = |name: &str| s.endpoints.iter().position(|x| x == name).unwrap() as u16;

    let d = process(&s, "e1000d");
    let names: Vec<&str> = d.caps.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["events", "timer", "irq", "netd.events"]);
    assert_eq!(d.bound, Some(n("e1000d")));
    assert_eq!(*cap(d, "irq"), CapKind::Irq { device: 0, notification: n("e1000d"), badge: 1 });
    assert_eq!(*cap(d, "timer"), CapKind::Timer { notification: n("e1000d"), badge: 4 });
    let signal = |to: &str, badge| CapKind::Notification { index: n(to), recv: false, badge };
    assert_eq!(*cap(d, "netd.events"), signal("netd", 1));
    assert_eq!(map(d, "nic.bar0"), MapKind::Bar { device: 0, bar: 0 });

    let netd = process(&s, "netd");
    let recv = CapKind::Endpoint { index: e("netd"), recv: true, badge: 0 };
    assert_eq!(*cap(netd, "self"), recv);
    assert_eq!(*cap(netd, "reply"), CapKind::Reply);
    assert_eq!(*cap(netd, "e1000d.events"), signal("e1000d", 2));
    assert_eq!(*cap(netd, "sockd.events"), signal("sockd", 1));
    let call = CapKind::Endpoint { index: e("netd"), recv: false, badge: net::badge::SOCKD };
    assert_eq!(*cap(process(&s, "sockd"), "netd"), call);

    for (region, driver, stack) in [
        ("nic.rings", Some("rw"), None),
        ("nic.drv", Some("rw"), Some("r")),
        ("nic.net", Some("r"), Some("rw")),
        ("nic.rx", Some("dma"), Some("rw")),
        ("nic.tx", Some("dma"), Some("rw")),
        ("netd.state", None, Some("rw")),
    ] {
        assert_eq!(access(&s, "e1000d", region), driver, "{region}");
        assert_eq!(access(&s, "netd", region), stack, "{region}");
    }
    assert_eq!(region(&s, "nic.rx"), (1024, Some((nic::WINDOW_RX, false, true))));
    assert_eq!(region(&s, "nic.tx"), (1024, Some((nic::WINDOW_TX, true, false))));
    assert_eq!(region(&s, "nic.rings"), (64, Some((nic::WINDOW_RINGS, true, true))));
    assert!(region(&s, "nic.net").0 as usize * 1024 >= nic::offset::NET_BYTES);
    let ids = [0x100e, 0x100f, 0x100c, 0x10d3].map(|id| (0x8086, id));
    assert_eq!(s.devices[0].ids, ids);
    assert!(s.devices[0].dma);
}

#[test]
fn a_session_gives_each_side_its_own_words() {
    let s = system().system;
    let with_sockets = |p: &&Process| p.caps.iter().any(|c| c.name == "sockd");
    let programs: Vec<&str> =
        s.processes.iter().filter(with_sockets).map(|p| p.name.as_str()).collect();
    assert_eq!(programs[..3], ["shell", "httpd", "services"], "in the order of the manifest");
    let n = |name: &str| s.notifications.iter().position(|x| x == name).unwrap() as u16;
    let e = |name: &str| s.endpoints.iter().position(|x| x == name).unwrap() as u16;
    for (i, program) in programs.into_iter().enumerate() {
        let p = process(&s, program);
        for (part, app, stack, driver) in [
            ("app", "rw", "r", None),
            ("net", "r", "rw", None),
            ("tx", "rw", "r", Some("dma")),
            ("rx", "r", "rw", None),
        ] {
            let name = format!("session.{i}.{part}");
            assert_eq!(access(&s, program, &name), Some(app), "{name}");
            assert_eq!(access(&s, "netd", &name), Some(stack), "{name}");
            assert_eq!(access(&s, "e1000d", &name), driver, "{name}");
            assert_eq!(access(&s, "sockd", &name), None, "{name}");
            let window = (part == "tx").then_some((nic::WINDOW_SESSION + i as u8, true, false));
            assert_eq!(region(&s, &name).1, window, "{name}");
            map(p, &format!("session.{part}"));
        }
        let doorbell = 1 << (sock::DOORBELL_SHIFT as usize + i);
        let signal = |to: &str, badge| CapKind::Notification { index: n(to), recv: false, badge };
        assert_eq!(*cap(p, "netd.events"), signal("netd", doorbell));
        assert_eq!(*cap(process(&s, "netd"), &format!("session.{i}.events")), signal(program, 1));
        let call = CapKind::Endpoint { index: e("sockd"), recv: false, badge: i as u64 + 1 };
        assert_eq!(*cap(p, "sockd"), call);
        assert_eq!(p.death_notices, [(n("sockd"), 1 << (32 + i))]);
    }
}

#[test]
fn the_session_table_reaches_stack_and_control() {
    let s = system().system;
    let r = s.regions.iter().find(|r| r.name == "sessions").unwrap();
    let len = u32::from_le_bytes(r.content[..4].try_into().unwrap()) as usize;
    assert_eq!(len + 4, r.content.len());
    let table: sock::SessionTable = postcard::from_bytes(&r.content[4..]).unwrap();
    let by_name: Vec<_> = table.iter().map(|t| t.program.as_str()).collect();
    assert_eq!(by_name[..5], ["shell", "httpd", "services", "capture", "netbench"]);
    assert!(table[3].capture && table[3].bind[..] == [(2002, 2002)]);
    assert_eq!(table[1].bind[..], [(80, 80)]);
    assert_eq!(table[4].bind[..], [(7001, 7008)]);
    assert_eq!(table[5].bind[..], [(7100, 7110)]);
    assert!(table[0].ping && table[0].connect && !table[1].connect);
    assert_eq!(table[1].tx_len, region(&s, "session.1.tx").0 * 1024);
    for server in ["netd", "sockd"] {
        assert_eq!(access(&s, server, "sessions"), Some("r"));
    }
    assert_eq!(access(&s, "shell", "sessions"), None);
}

#[test]
fn programs_get_what_their_entry_buys() {
    let plan = system();
    let s = &plan.system;
    let shell = process(s, "shell");
    assert!(shell.console && shell.autostart);
    assert_eq!(
        *cap(shell, "init"),
        CapKind::Init(InitRights { control: true, status: false, random: true })
    );
    let netd = |badge| CapKind::Endpoint { index: 0, recv: false, badge };
    assert_eq!(*cap(shell, "netd"), netd(net::badge::ADMIN));
    assert_eq!(*cap(process(s, "hostile"), "netd"), netd(net::badge::STATUS));
    assert_eq!(access(s, "shell", "nic.drv"), Some("r"));
    let httpd = process(s, "httpd");
    assert!(!httpd.caps.iter().any(|c| c.name == "init" || c.name == "netd"));
    let victim = process(s, "victim");
    assert!(!victim.autostart);
    assert_eq!(victim.budget, Some(Budget { budget_us: 18_000, period_us: 20_000 }));
    assert_eq!(victim.restart, Restart::OnCrash { max: 0, window_s: 0 });
    assert_eq!(plan.forwards.len(), 16);

    // What init reads is what was written.
    let bytes = postcard::to_allocvec(s).unwrap();
    assert_eq!(postcard::from_bytes::<System>(&bytes).unwrap(), *s);
}

#[test]
fn a_manifest_adds_to_another() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/extended");
    let load = |name: &str| manifest::load(&dir.join(name), &BINS);
    let system = load("good.toml").unwrap_or_else(|e| panic!("{e}")).system;
    let names: Vec<&str> = system.processes.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["web", "shell"]);
    assert_eq!(process(&system, "web").priority, 80);
    assert_eq!(process(&system, "shell").heap_kib, 512);
    let refused = |name: &str| load(name).unwrap_err().to_string();
    // Each mistake with the file that it is in.
    assert_eq!(
        refused("wrong.toml"),
        "wrong.toml:6: priority is 101, but must be 1 to 100\n\
         base.toml:22: stack_kib is 6, but must be a multiple of 4 (pages)"
    );
    assert_eq!(
        refused("unknown.toml"),
        "unknown.toml:2: there is no program called `nobody` (there is: shell, web, out)\n\
         unknown.toml:3: there is no server, program or region called `nothing`"
    );
}

#[test]
fn the_agent_has_its_serial_port_and_nobody_else_does() {
    let bins = image::workspace::guest_bins().unwrap();
    let bins: Vec<&str> = bins.iter().map(|b| b.name.as_str()).collect();
    let plan = manifest::load(&image::workspace::agent_manifest(), &bins);
    let system = plan.unwrap_or_else(|e| panic!("{e}")).system;
    let agent = process(&system, "agent");
    assert_eq!(*cap(agent, "ports"), CapKind::Ports { first: 0x2f8, last: 0x2ff });
    let CapKind::IsaIrq { line: 3, notification, badge: 8 } = *cap(agent, "irq") else {
        panic!("its interrupt");
    };
    assert_eq!(system.notifications[notification as usize], "agent");
    let has_ports = |p: &&Process| p.caps.iter().any(|c| matches!(c.kind, CapKind::Ports { .. }));
    assert_eq!(system.processes.iter().filter(has_ports).count(), 1);
    assert!(!system.processes.iter().any(|p| p.name == "netbench"));
}
