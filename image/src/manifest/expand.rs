//! From a checked manifest to [`spec::System`]: every region, endpoint, notification, capability
//! and mapping by name, so that init has nothing left to decide.
//!
//! Names of capabilities and regions are the ones by which servers and programs find them in
//! their start information.

use libipc::sock::{self, Layout, SessionSpec, SessionTable};
use libipc::start::{self, StartInfo};
use libipc::{Name, net, nic};
use spec::{Budget, Cap, CapKind, Device, Dma, InitRights, Map, MapKind, Process, Region, System};
use toml::Spanned;

use super::file::{
    Access, Direction, Manifest, MapUse, Policy, Program, Restart, Server, Sessions, Sockets, Trace,
};
use super::problem::{Problem, Reason};

/// Bit of a program's notification: netd has something ready for it.
const PROGRAM_READY: u64 = 1 << 0;
/// Bit of a program's notification: its timer.
const PROGRAM_TIMER: u64 = 1 << 1;
/// Room for a process's start information: init gives it two pages.
pub const START_INFO_MAX: usize = 2 * abi::PAGE_SIZE as usize;
/// First bit of the control server's notification that says that a session's program ended.
const DEATH_SHIFT: usize = 32;

/// Size of a region whose content [`libipc::nic`] lays out, KiB.
pub fn contract_kib(name: &str) -> Option<u32> {
    let bytes = match card_part(name)?.1 {
        "drv" => nic::offset::DRV_BYTES,
        "net" => nic::offset::NET_BYTES,
        "rx" => (nic::RX_BUFFERS * nic::RX_BUFFER_SIZE) as usize,
        _ => return None,
    };
    Some(kib(bytes))
}

/// The number of the network card that a region belongs to, and which of its parts it is: `nic.rx` is the first card's,
/// `nic1.rx` the second's.
pub fn card_part(region: &str) -> Option<(usize, &str)> {
    let (card, part) = region.strip_prefix("nic")?.split_once('.')?;
    let number = if card.is_empty() { 0 } else { card.parse().ok().filter(|n| *n > 0)? };
    (number < netd::dev::NICS).then_some((number, part))
}

/// The drivers of further network cards, in their order: who writes the descriptor rings of each.
pub fn other_drivers(m: &Manifest) -> impl Iterator<Item = (usize, &Server)> {
    (1..netd::dev::NICS).filter_map(|n| {
        let rings = |u: &MapUse| {
            card_part(u.region.get_ref()) == Some((n, "rings")) && u.access == Access::Rw
        };
        m.server.iter().find(|s| s.maps.iter().any(rings)).map(|s| (n, s))
    })
}

/// Whole pages that hold `bytes`, in KiB.
fn kib(bytes: usize) -> u32 {
    (bytes.next_multiple_of(4096) / 1024) as u32
}

/// `vendor:device` in hexadecimal.
pub fn pci_id(text: &str) -> Option<(u16, u16)> {
    let (vendor, device) = text.split_once(':')?;
    let hex = |s: &str| (s.len() == 4).then(|| u16::from_str_radix(s, 16).ok()).flatten();
    Some((hex(vendor)?, hex(device)?))
}

/// `80` or `7000-7010`, inclusive; 0 is no port.
pub fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

/// The system, and problems that only show when everything is laid out.
pub fn expand(m: &Manifest) -> (System, Vec<Problem>) {
    let mut x = Expansion::new(m);
    for (i, s) in m.server.iter().enumerate() {
        x.server(i, s);
    }
    for (i, p) in m.program.iter().enumerate() {
        x.program(m.server.len() + i, p);
    }
    if let Some(s) = &m.sessions {
        x.sessions(m, s.get_ref());
    }
    if let Some(t) = &m.trace {
        x.trace(t);
    }
    let problems = limits(m, &x.system);
    (x.system, problems)
}

/// The devices that are PCI functions: the system description lists these.
fn functions(m: &Manifest) -> impl Iterator<Item = &super::file::Device> {
    m.device.iter().filter(|d| d.ids.is_some())
}

struct Expansion<'a> {
    m: &'a Manifest,
    system: System,
}

impl<'a> Expansion<'a> {
    /// Lists everything that others refer to by index. Notification `i` belongs to process `i`.
    fn new(m: &'a Manifest) -> Self {
        let servers = m.server.iter().map(|s| process(s.name.get_ref(), Common::from(s)));
        let programs = m.program.iter().map(|p| process(p.name.get_ref(), Common::from(p)));
        let processes: Vec<_> = servers.chain(programs).collect();
        let regions = m.region.iter().map(|r| Region {
            name: r.name.get_ref().clone(),
            kib: r.kib.as_ref().map_or_else(
                || contract_kib(r.name.get_ref()).expect("checked: has a size"),
                |k| *k.get_ref(),
            ),
            dma: r.dma.as_ref().map(|d| {
                let how = r.device.as_ref().map_or(Direction::Rw, |d| *d.get_ref());
                let (read, write) = (how != Direction::W, how != Direction::R);
                Dma { window: *d.get_ref(), read, write }
            }),
            content: Vec::new(),
        });
        let devices = functions(m).map(|d| Device {
            name: d.name.get_ref().clone(),
            ids: d
                .ids
                .iter()
                .flat_map(|i| i.get_ref())
                .filter_map(|i| pci_id(i.get_ref()))
                .collect(),
            dma: d.bus_master,
        });
        let endpoints = m.server.iter().filter(|s| s.endpoint).map(|s| s.name.get_ref().clone());
        let system = System {
            version: spec::VERSION,
            notifications: processes.iter().map(|p| p.name.clone()).collect(),
            processes,
            regions: regions.collect(),
            endpoints: endpoints.collect(),
            devices: devices.collect(),
            trace: None,
        };
        Self { m, system }
    }

    fn process_index(&self, name: &str) -> usize {
        let found = self.system.processes.iter().position(|p| p.name == name);
        found.expect("checked: the process exists")
    }
    fn endpoint(&self, name: &str, recv: bool, badge: u64) -> CapKind {
        let found = self.system.endpoints.iter().position(|e| e == name);
        let index = found.expect("checked: the server has an endpoint") as u16;
        CapKind::Endpoint { index, recv, badge }
    }
    fn signal(&self, name: &str, badge: u64) -> CapKind {
        CapKind::Notification { index: self.process_index(name) as u16, recv: false, badge }
    }
    fn cap(&mut self, process: usize, name: impl Into<String>, kind: CapKind) {
        self.system.processes[process].caps.push(Cap { name: name.into(), kind });
    }
    fn map(&mut self, process: usize, name: impl Into<String>, kind: MapKind) {
        self.system.processes[process].maps.push(Map { name: name.into(), kind });
    }
    /// A new region; returns its index.
    fn region(&mut self, name: String, kib: u32, dma: Option<Dma>, content: Vec<u8>) -> u16 {
        self.system.regions.push(Region { name, kib, dma, content });
        self.system.regions.len() as u16 - 1
    }
    /// `events`, bound to the thread, so that one wait serves calls and signals.
    fn own_notification(&mut self, i: usize) {
        let kind = CapKind::Notification { index: i as u16, recv: true, badge: 0 };
        self.cap(i, "events", kind);
        self.system.processes[i].bound = Some(i as u16);
    }

    fn server(&mut self, i: usize, s: &Server) {
        let name = s.name.get_ref();
        if s.endpoint {
            let kind = self.endpoint(name, true, 0);
            self.cap(i, "self", kind);
            self.cap(i, "reply", CapKind::Reply);
        }
        self.own_notification(i);
        if let Some(bit) = &s.timer {
            let badge = 1 << *bit.get_ref();
            self.cap(i, "timer", CapKind::Timer { notification: i as u16, badge });
        }
        if let Some(d) = &s.device {
            let found = functions(self.m).position(|x| x.name.get_ref() == d.name.get_ref());
            let device = found.expect("checked: the device exists") as u16;
            if let Some(bit) = &d.irq {
                let badge = 1 << *bit.get_ref();
                self.cap(i, "irq", CapKind::Irq { device, notification: i as u16, badge });
            }
            for bar in &d.bars {
                let name = format!("{}.bar{}", d.name.get_ref(), bar.get_ref());
                self.map(i, name, MapKind::Bar { device, bar: *bar.get_ref() as u8 });
            }
        }
        for signal in &s.signals {
            let to = signal.to.get_ref();
            let kind = self.signal(to, 1 << *signal.bit.get_ref());
            self.cap(i, format!("{to}.events"), kind);
        }
        for call in &s.calls {
            let kind = self.endpoint(call.to.get_ref(), false, *call.badge.get_ref());
            self.cap(i, call.to.get_ref().clone(), kind);
        }
        self.maps(i, &s.maps);
    }

    fn maps(&mut self, i: usize, maps: &[MapUse]) {
        for u in maps {
            let name = u.region.get_ref();
            let found = self.m.region.iter().position(|r| r.name.get_ref() == name);
            let index = found.expect("checked: the region exists") as u16;
            let kind = match u.access {
                Access::R => MapKind::Region { index, write: false },
                Access::Rw => MapKind::Region { index, write: true },
                Access::Dma => MapKind::DmaOnly { index },
            };
            self.map(i, name.clone(), kind);
        }
    }

    fn program(&mut self, i: usize, p: &Program) {
        self.own_notification(i);
        let timer = CapKind::Timer { notification: i as u16, badge: PROGRAM_TIMER };
        self.cap(i, "timer", timer);
        if p.init || p.init_status || p.random {
            let rights = InitRights { control: p.init, status: p.init_status, random: p.random };
            self.cap(i, "init", CapKind::Init(rights));
        }
        if let (Some(status), Some(s)) = (&p.net_status, &self.m.sessions)
            && *status.get_ref()
        {
            let stack = s.get_ref().stack.get_ref().clone();
            let badge = if p.init { net::badge::ADMIN } else { net::badge::STATUS };
            let kind = self.endpoint(&stack, false, badge);
            self.cap(i, stack, kind);
        }
        if let Some(name) = &p.device {
            let found = self.m.device.iter().find(|x| x.name.get_ref() == name.get_ref());
            let (first, last, line) = found.and_then(|d| d.isa()).expect("checked: it has ports");
            self.cap(i, "ports", CapKind::Ports { first, last });
            let kind =
                CapKind::IsaIrq { line, notification: i as u16, badge: start::PROGRAM_DEVICE };
            self.cap(i, "irq", kind);
        }
        if let Some(kib) = &p.untyped_kib {
            let bits = (*kib.get_ref() as u64 * 1024).trailing_zeros() as u8;
            self.cap(i, "untyped", CapKind::Untyped { bits });
            self.cap(i, "cspace", CapKind::CSpace);
            self.cap(i, "vspace", CapKind::VSpace);
            self.cap(i, "thread", CapKind::Thread);
        }
        self.maps(i, &p.maps);
    }

    /// What programs with sockets share with the three network servers.
    fn sessions(&mut self, m: &Manifest, roles: &Sessions) {
        let [driver, stack, control] =
            [&roles.driver, &roles.stack, &roles.control].map(|r| self.process_index(r.get_ref()));
        let mut table = SessionTable::new();
        let with_sockets = m
            .program
            .iter()
            .enumerate()
            .filter_map(|(i, p)| Some((m.server.len() + i, p, p.sockets.as_ref()?.get_ref())));
        for (n, (i, p, s)) in with_sockets.enumerate() {
            table.push(session_spec(p, s)).expect("checked: not too many sessions");
            let layout = Layout { sockets: *s.count.get_ref() };
            let (app_kib, net_kib) = (kib(layout.app_bytes()), kib(layout.net_bytes()));
            let window = nic::WINDOW_SESSION + n as u8;
            let (tx_kib, rx_kib) = (*s.tx_kib.get_ref(), *s.rx_kib.get_ref());
            let name = |part: &str| format!("session.{n}.{part}");
            let app = self.region(name("app"), app_kib, None, Vec::new());
            let net = self.region(name("net"), net_kib, None, Vec::new());
            let dma = Some(Dma { window, read: true, write: false });
            let tx = self.region(name("tx"), tx_kib, dma, Vec::new());
            let rx = self.region(name("rx"), rx_kib, None, Vec::new());
            // (region, its name, whether the program writes it; netd writes the others)
            for (index, part, app_writes) in
                [(app, "app", true), (net, "net", false), (tx, "tx", true), (rx, "rx", false)]
            {
                let kind = MapKind::Region { index, write: app_writes };
                self.map(i, format!("session.{part}"), kind);
                let kind = MapKind::Region { index, write: !app_writes };
                self.map(stack, name(part), kind);
            }
            self.map(driver, name("tx"), MapKind::DmaOnly { index: tx });
            for (_, other) in other_drivers(m) {
                let other = self.process_index(other.name.get_ref());
                self.map(other, name("tx"), MapKind::DmaOnly { index: tx });
            }

            let kind = self.endpoint(roles.control.get_ref(), false, n as u64 + 1);
            self.cap(i, roles.control.get_ref().clone(), kind);
            let kind = self.signal(roles.stack.get_ref(), 1 << (sock::DOORBELL_SHIFT as usize + n));
            self.cap(i, format!("{}.events", roles.stack.get_ref()), kind);
            let kind = self.signal(p.name.get_ref(), PROGRAM_READY);
            self.cap(stack, name("events"), kind);
            let notice = (control as u16, 1 << (DEATH_SHIFT + n));
            self.system.processes[i].death_notices.push(notice);
        }
        let table = postcard::to_allocvec(&table).expect("plain data");
        let mut content = (table.len() as u32).to_le_bytes().to_vec();
        content.extend(table);
        let index = self.region("sessions".into(), kib(content.len()), None, content);
        for server in [stack, control] {
            self.map(server, "sessions", MapKind::Region { index, write: false });
        }
    }
}

impl Expansion<'_> {
    /// The ring of the kernel's trace, and who reads it.
    fn trace(&mut self, t: &Trace) {
        let name = libipc::trace::REGION;
        let region = self.region(name.into(), *t.kib.get_ref(), None, Vec::new());
        let reader = self.process_index(t.reader.get_ref());
        self.map(reader, name, MapKind::Region { index: region, write: false });
        self.system.trace = Some(spec::Trace { region, at_boot: t.at_boot });
    }
}

fn session_spec(p: &Program, s: &Sockets) -> SessionSpec {
    SessionSpec {
        program: Name::try_from(p.name.get_ref().as_str()).expect("checked: short enough"),
        sockets: *s.count.get_ref(),
        tx_len: *s.tx_kib.get_ref() * 1024,
        rx_len: *s.rx_kib.get_ref() * 1024,
        bind: s.bind.iter().filter_map(|b| ports(b.get_ref())).collect(),
        connect: s.connect,
        broadcast: s.broadcast,
        ping: s.ping,
        raw: s.raw,
        capture: s.capture,
    }
}

/// What servers and programs have in common.
struct Common {
    file: String,
    priority: u32,
    budget: Option<Budget>,
    stack_kib: u32,
    heap_kib: u32,
    args: String,
    autostart: bool,
    restart: Restart,
    console: bool,
}

impl From<&Server> for Common {
    fn from(s: &Server) -> Self {
        Self {
            file: s.file.get_ref().clone(),
            priority: *s.priority.get_ref(),
            budget: budget(&s.budget_us, &s.period_us),
            stack_kib: *s.stack_kib.get_ref(),
            heap_kib: *s.heap_kib.get_ref(),
            args: s.args.as_ref().map_or_else(String::new, |a| a.get_ref().clone()),
            autostart: true,
            restart: *s.restart.get_ref(),
            console: false,
        }
    }
}

impl From<&Program> for Common {
    fn from(p: &Program) -> Self {
        Self {
            file: p.file.get_ref().clone(),
            priority: *p.priority.get_ref(),
            budget: budget(&p.budget_us, &p.period_us),
            stack_kib: *p.stack_kib.get_ref(),
            heap_kib: *p.heap_kib.get_ref(),
            args: p.args.as_ref().map_or_else(String::new, |a| a.get_ref().clone()),
            autostart: p.autostart,
            restart: *p.restart.get_ref(),
            console: p.console,
        }
    }
}

fn budget(budget: &Option<Spanned<u32>>, period: &Option<Spanned<u32>>) -> Option<Budget> {
    let (budget, period) = budget.as_ref().zip(period.as_ref())?;
    Some(Budget { budget_us: *budget.get_ref(), period_us: *period.get_ref() })
}

fn process(name: &str, c: Common) -> Process {
    let Restart { policy, max, window_s } = c.restart;
    Process {
        name: name.into(),
        file: c.file,
        priority: c.priority as u8,
        budget: c.budget,
        stack_kib: c.stack_kib,
        heap_kib: c.heap_kib,
        args: c.args,
        autostart: c.autostart,
        restart: match policy {
            Policy::Never => spec::Restart::Never,
            Policy::Always => spec::Restart::Always { max, window_s },
            Policy::OnCrash => spec::Restart::OnCrash { max, window_s },
        },
        console: c.console,
        caps: Vec::new(),
        maps: Vec::new(),
        bound: None,
        death_notices: Vec::new(),
    }
}

/// Whether each process's start information has room for everything, measured with the largest
/// numbers that init could put in.
fn limits(m: &Manifest, system: &System) -> Vec<Problem> {
    let spans = m.server.iter().map(|s| s.name.span());
    let spans: Vec<_> = spans.chain(m.program.iter().map(|p| p.name.span())).collect();
    let mut problems = Vec::new();
    for (p, span) in system.processes.iter().zip(spans) {
        let info = start_info(p);
        let reason = match info {
            Err((what, count, max)) => {
                Reason::ManyThings { name: p.name.clone(), what, count, max }
            }
            Ok(bytes) if bytes + 4 > START_INFO_MAX => {
                Reason::StartInfo { name: p.name.clone(), bytes: bytes + 4 }
            }
            Ok(_) => continue,
        };
        problems.push(Problem { span, reason });
    }
    problems
}

/// Bytes of the largest start information of `p`, or what there is too much of.
fn start_info(p: &Process) -> Result<usize, (&'static str, usize, usize)> {
    let mut caps = heapless::Vec::new();
    let mut regions = heapless::Vec::new();
    let name = |n: &str| Name::try_from(n).unwrap_or_default();
    for c in &p.caps {
        let cap = start::Cap { name: name(&c.name), cptr: 4096 };
        let max = caps.capacity();
        caps.push(cap).map_err(|_| ("capabilities", p.caps.len(), max))?;
    }
    for r in &p.maps {
        let (vaddr, len) = (start::REGIONS * 2, start::REGION_STRIDE);
        let region = start::Region { name: name(&r.name), vaddr, len, dma: Some((255, 1 << 40)) };
        let max = regions.capacity();
        regions.push(region).map_err(|_| ("regions", p.maps.len(), max))?;
    }
    let info = StartInfo {
        name: name(&p.name),
        incarnation: u32::MAX,
        clock: abi::Clock { tsc_base: u64::MAX, mult: u64::MAX },
        utc_at_boot: Some(u64::MAX),
        heap_len: u64::MAX,
        seed: [255; 32],
        args: heapless::String::try_from(p.args.as_str()).unwrap_or_default(),
        emulated: true,
        device: Some((u16::MAX, u16::MAX)),
        caps,
        regions,
    };
    Ok(postcard::to_allocvec(&info).expect("plain data").len())
}
