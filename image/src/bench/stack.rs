//! `bench stack`: what the network stack runs on the host for one segment, datagram, ping or connection, in
//! instructions as callgrind counts them; beside smoltcp doing the same work (`servers/netd/bench`).
//!
//! Callgrind's files stay in target/bench/stack: `callgrind_annotate --inclusive=yes FILE` shows
//! where an operation's instructions go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::figure::{Better, Figure, median};
use super::{Error, Options, tools};
use crate::{guest, workspace};

/// Connections that are open meanwhile, and how often smoltcp does each operation then: it walks
/// through all its sockets.
const CONNECTIONS: [(u32, u32); 3] = [(1, 64), (1_000, 16), (50_000, 2)];
/// How often we do.
const TIMES: u32 = 64;
/// At one connection our share of smoltcp's instructions; at more, growth over our own at one.
const SHARE: f64 = 0.6;
const GROWTH: f64 = 1.25;
/// Bytes of an idle connection.
const IDLE: f64 = 1024.0;
const SMOLTCP: &str = "smoltcp";

/// The operations: as the program names them, and for people.
const OPERATIONS: [(&str, &str); 9] = [
    ("tcp.received.train", "one of four TCP segments of 1,460 bytes received and read together"),
    ("tcp.received.1460", "TCP segment of 1,460 bytes received and read, half an ACK"),
    ("tcp.sent.1460", "TCP segment of 1,460 bytes written and sent, half an ACK"),
    ("tcp.received.64", "TCP segment of 64 bytes received and read"),
    ("tcp.sent.64", "TCP segment of 64 bytes written and sent, and its ACK"),
    ("udp.received", "UDP datagram of 64 bytes received and read"),
    ("udp.sent", "UDP datagram of 64 bytes written and sent"),
    ("ping", "echo request answered"),
    ("connection", "connection accepted and closed"),
];

/// What one run counted.
struct Counted {
    /// Instructions an operation.
    costs: BTreeMap<String, f64>,
    /// Bytes a connection.
    bytes: f64,
}

/// Builds the program that is measured, with the code generation of the guest.
fn build() -> Result<PathBuf, Error> {
    let mut cargo = guest::nested();
    cargo.env("RUSTFLAGS", "-Cforce-frame-pointers=yes");
    let files = tools::build(cargo.args(["build", "--quiet", "--release", "-p", "stack-bench"]))?;
    files.into_iter().find(|f| f.ends_with("stack-bench")).ok_or(Error::NotMade("stack-bench"))
}

fn failed(what: &str, said: &[u8]) -> Error {
    Error::Program { what: what.into(), said: String::from_utf8_lossy(said).trim().into() }
}

/// Runs `program` for one stack.
fn count(program: &Path, stack: &str, connections: u32, times: u32) -> Result<Counted, Error> {
    let dir = workspace::target_dir().join("bench/stack");
    std::fs::create_dir_all(&dir).map_err(Error::io("making target/bench/stack"))?;
    let prefix = format!("{stack}-{connections}");
    let parts = || -> Result<Vec<PathBuf>, Error> {
        let entries = std::fs::read_dir(&dir).map_err(Error::io("reading target/bench/stack"))?;
        let begins = |p: &PathBuf| p.file_stem().is_some_and(|s| s == &*prefix);
        Ok(entries.filter_map(|e| Some(e.ok()?.path())).filter(begins).collect())
    };
    for old in parts()? {
        std::fs::remove_file(old).map_err(Error::io("removing an old file of callgrind"))?;
    }
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", dir.join(&prefix).display()));
    valgrind.arg(program).args([stack, &connections.to_string(), &times.to_string()]);
    let output = valgrind.stdin(Stdio::null()).output().map_err(|_| Error::NoValgrind)?;
    let what = format!("`stack-bench {stack} {connections}` under callgrind");
    if !output.status.success() {
        return Err(failed(&what, &output.stderr));
    }
    let mut costs = BTreeMap::new();
    for part in parts()? {
        let text = std::fs::read_to_string(part).map_err(Error::io("reading callgrind's file"))?;
        costs.extend(cost(&text));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let bytes = said.trim().strip_prefix("bytes ").and_then(|n| n.parse().ok());
    Ok(Counted { costs, bytes: bytes.ok_or_else(|| failed(&what, &output.stdout))? })
}

/// Name and instructions of the operation that a file of callgrind is about.
fn cost(text: &str) -> Option<(String, f64)> {
    let after = |prefix| text.lines().find_map(|l: &str| l.strip_prefix(prefix));
    let (name, times) = after("desc: Trigger: Client Request: ")?.split_once(' ')?;
    let sum: f64 = after("summary: ").or_else(|| after("totals: "))?.trim().parse().ok()?;
    Some((name.into(), sum / times.trim().parse::<f64>().ok()?))
}

/// Figures of all operations, with `connections` open.
fn figures(connections: u32, ours: &Counted, smoltcp: &Counted, alone: &Counted) -> Vec<Figure> {
    let of = |c: &Counted, name: &str| c.costs.get(name).copied();
    let figure = |(name, what): &(&str, &str)| {
        let aim = match connections {
            1 => of(smoltcp, name).map(|c| c * SHARE),
            _ => of(alone, name).map(|c| c * GROWTH),
        };
        Some(Figure {
            name: format!("stack.{name}.at_{connections}"),
            what: format!("{what}; {connections} open"),
            unit: "instructions",
            better: Better::Less,
            aim,
            ours: vec![of(ours, name)?],
            peers: of(smoltcp, name).map(|c| (SMOLTCP, vec![c])).into_iter().collect(),
        })
    };
    OPERATIONS.iter().filter_map(figure).collect()
}

/// Builds, runs, reads.
///
/// # Errors
/// Without valgrind, or if the program fails.
pub fn run(_: &Options) -> Result<Vec<Figure>, Error> {
    let program = build()?;
    let mut all = Vec::new();
    let mut alone = None;
    for (connections, smoltcp_times) in CONNECTIONS {
        let ours = count(&program, "ours", connections, TIMES)?;
        let smoltcp = count(&program, SMOLTCP, connections, smoltcp_times)?;
        let alone = alone.get_or_insert_with(|| Counted { costs: ours.costs.clone(), bytes: 0.0 });
        all.extend(figures(connections, &ours, &smoltcp, alone));
        if connections == CONNECTIONS[2].0 {
            all.push(Figure {
                name: "stack.idle_connection".into(),
                what: "memory of an idle connection, without data and records".into(),
                unit: "bytes",
                better: Better::Less,
                aim: Some(IDLE),
                ours: vec![ours.bytes],
                peers: BTreeMap::from([(SMOLTCP, vec![smoltcp.bytes])]),
            });
        }
    }
    if all.iter().any(|f| median(&f.ours).is_none()) || all.len() != 3 * OPERATIONS.len() + 1 {
        return Err(failed("callgrind", b"it counted too few operations"));
    }
    Ok(all)
}
