//! What can be wrong with a manifest, and how it is said.

use std::fmt;
use std::ops::Range;

use super::file::Access;
use super::text::Text;

/// One mistake and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Byte range in the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong. `what` is a key or kind of thing, `name` what the manifest calls it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Reason {
    #[error("the name `{name}` is longer than {max} characters", max = libipc::NAME_MAX)]
    NameTooLong { name: String },
    #[error("`{name}` is no name: lower-case letters, digits, `-`, `_` and `.`")]
    NameCharacters { name: String },
    #[error("`{name}` is taken by the system itself")]
    NameReserved { name: String },
    #[error("there are two {what} called `{name}`")]
    Duplicate { what: &'static str, name: String },
    #[error("there is no {what} called `{name}`{}", listed(.known))]
    Unknown { what: &'static str, name: String, known: Vec<String> },
    #[error("{key} is {value}, but must be {min} to {max}")]
    Range { key: &'static str, value: u64, min: u64, max: u64 },
    #[error("{key} is {value}, but must be a multiple of 4 (pages)")]
    Pages { key: &'static str, value: u32 },
    #[error("count is {0}, but must be a power of two up to {max}", max = libipc::sock::MAX_SOCKETS)]
    SocketCount(u32),
    #[error("untyped_kib is {0}, but must be a power of two from {min} to {max}", min = super::check::UNTYPED_KIB.0, max = super::check::UNTYPED_KIB.1)]
    Untyped(u32),
    #[error("args has {0} bytes, but there is room for {max}", max = super::check::ARGS_MAX)]
    Args(usize),
    #[error("{0}")]
    BadArgs(String),
    #[error("budget_us and period_us go together: so much time within so much")]
    HalfBudget,
    #[error("budget_us is {budget}, more than the period of {period}")]
    Budget { budget: u32, period: u32 },
    #[error("`{0}` is no PCI id: write vendor:device in hexadecimal, as in \"8086:100e\"")]
    PciId(String),
    #[error("device `{0}` has no ids: which PCI function is it?")]
    NoIds(String),
    #[error(
        "device `{0}` is either a PCI function (`ids`) or has ports and an interrupt line \
         (`ports = \"0x2f8-0x2ff\"`, `line = 3`, up to 15)"
    )]
    NoIsa(String),
    #[error("`{server}` is a server: its device must be a PCI function, and `{device}` is none")]
    ServerPorts { server: String, device: String },
    #[error(
        "`{program}` is a program: its device must be one of ports, which reaches no memory, and \
         `{device}` is none"
    )]
    ProgramDevice { program: String, device: String },
    #[error("policy \"never\" starts nothing again: leave out max and window_s")]
    NeverLimited,
    #[error("max and window_s go together: so many starts within so many seconds")]
    HalfLimit,
    #[error("no program has `console = true`: who gets the keyboard?")]
    NoConsole,
    #[error("`{0}` has the console already")]
    SecondConsole(String),
    #[error("`{0}` is no port or range of ports: write \"80\" or \"7000-7010\"")]
    Ports(String),
    #[error("port {port} belongs to `{owner}` already")]
    PortTaken { port: u16, owner: String },
    #[error("bind has {0} entries, but there is room for {max}", max = super::check::BIND_MAX)]
    BindMany(usize),
    #[error("sockets need a [sessions] table that says which servers do the work")]
    NoSessions,
    #[error("net_status needs a [sessions] table that says which server is the stack")]
    NoStack,
    #[error("`{program}` would be session number {number}, but there are at most {max}")]
    ManySessions { program: String, number: usize, max: usize },
    #[error("`{name}` would have {count} {what}, but there is room for {max}")]
    ManyThings { name: String, what: &'static str, count: usize, max: usize },
    #[error("there are {count} servers and programs, but there is room for {max}")]
    ManyProcesses { count: usize, max: usize },
    #[error("the start information of `{name}` would take {bytes} bytes, but has {max}", max = super::expand::START_INFO_MAX)]
    StartInfo { name: String, bytes: usize },
    #[error("`{0}` answers no calls: give it `endpoint = true`")]
    NoEndpoint(String),
    #[error("badge {badge} of `{server}` belongs to {owner} already")]
    BadgeTaken { badge: u64, server: String, owner: String },
    #[error("bit {bit} of `{server}` is used twice: by {first} and by {second}")]
    BitTaken { bit: u32, server: String, first: String, second: String },
    #[error("region `{0}` needs a size: give it `kib`")]
    NoSize(String),
    #[error("region `{name}` must have {need} KiB (libipc::nic), not {kib}")]
    ContractSize { name: String, need: u32, kib: u32 },
    #[error("region `{region}` is written by `{first}` already: one writer for each")]
    TwoWriters { region: String, first: String },
    #[error("`{process}` maps region `{region}` twice")]
    MappedTwice { process: String, region: String },
    #[error("`{program}` is a program: it may only read region `{region}`, access \"r\"")]
    ProgramWrites { program: String, region: String },
    #[error("region `{0}` is used by nobody")]
    Unused(String),
    #[error("region `{0}` has no `dma` number, so no device can reach it")]
    NoDmaNumber(String),
    #[error("region `{0}` is read and nobody writes it: who has access \"rw\" or \"dma\"?")]
    NoWriter(String),
    #[error(
        "`{server}` is the {role} of the sessions, so it must map region `{region}`, access \"{access}\""
    )]
    NeedsRegion { server: String, role: &'static str, region: String, access: Access },
    #[error(
        "`{server}` is the driver of the sessions, so it needs a `device` that is a bus master"
    )]
    DriverWithoutDevice { server: String },
    #[error("`{server}` is the {first} already: driver, stack and control are three servers")]
    SameServer { server: String, first: &'static str },
    #[error(
        "the program `{file}` is the server `{owner}` already: a server shares its file with nobody"
    )]
    FileTaken { file: String, owner: String },
    #[error("`{0}` drives no device that is a bus master, so its device reaches no memory")]
    NoBusMaster(String),
    #[error("dma number {number} belongs to `{owner}` already")]
    DmaTaken { number: u8, owner: String },
    #[error("device `{device}` belongs to `{owner}` already")]
    DeviceTaken { device: String, owner: String },
    #[error("kib is {kib}, but must be a multiple of 2048 up to {max}", max = super::check::TRACE_MAX)]
    TraceSize { kib: u32 },
    #[error("no program may bind port {0}, so nothing would answer there")]
    ForwardToNobody(u16),
    #[error("host port {0} leads somewhere else already")]
    ForwardTwice(u16),
    #[error("protocols is empty: \"tcp\", \"udp\" or both")]
    NoProtocol,
    /// What the TOML reader says.
    #[error("{0}")]
    Syntax(String),
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (there is: {})", known.join(", ")) }
}

/// A manifest with mistakes. Displays a line for each: `system.toml:12: reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    lines: Vec<(String, usize, Reason)>,
}

impl Refused {
    /// Finds the line of each problem in `text`.
    pub(super) fn new(text: &Text, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| text.line(p.span.start));
        let place = |p: Problem| {
            let (file, line) = text.place(p.span.start);
            (file.to_string(), line, p.reason)
        };
        Self { lines: problems.into_iter().map(place).collect() }
    }

    /// What the TOML reader refused.
    pub(super) fn syntax(text: &Text, error: &toml::de::Error) -> Self {
        let message = error.message().replace('\n', ", ");
        let span = error.span().unwrap_or(0..0);
        Self::new(text, vec![Problem { span, reason: Reason::Syntax(message) }])
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (file, line, reason)) in self.lines.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{file}:{line}: {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}
