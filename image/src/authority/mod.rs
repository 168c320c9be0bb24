//! Who holds what: as the manifest declares it, and as it is in a running system.
//!
//! | module | what |
//! |---|---|
//! | [`graph`] | processes and what they hold |
//! | [`declared`] | the graph that a system description declares |
//! | [`dump`], [`running`] | the graph of a running system, told by its kernel |
//! | [`rules`] | what no program may reach, by whatever path |
//! | [`accounts`] | where the machine's memory is |
//! | [`draw`] | text, Graphviz, SVG |

pub mod accounts;
pub mod declared;
pub mod draw;
pub mod dump;
pub mod graph;
pub mod rules;
pub mod running;

use std::fmt;

use spec::System;

use crate::build::Image;
use crate::harness::{Failure, Guest, Setup};
use crate::trace;
use dump::Dump;
use graph::Graph;
use rules::Violation;

/// What a system description must not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system would give somebody too much; take it away in the manifest:")?;
        self.0.iter().try_for_each(|v| write!(f, "\n  {v}"))
    }
}

impl std::error::Error for Violations {}

/// Checks what a system description would hand out. Every build does.
///
/// # Errors
/// Each path that must not be.
pub fn check(system: &System) -> Result<(), Violations> {
    let found = rules::violations(&declared::graph(system));
    if found.is_empty() { Ok(()) } else { Err(Violations(found)) }
}

/// How a graph is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines.
    Text,
    /// Graphviz.
    Dot,
    /// A picture.
    Svg,
    /// JSON.
    Json,
}

/// A graph in a format.
pub fn show(graph: &Graph, format: Format) -> String {
    match format {
        Format::Text => draw::text(graph),
        Format::Dot => draw::dot(graph),
        Format::Svg => draw::svg(&draw::dot(graph)).unwrap_or_default(),
        Format::Json => serde_json::to_string_pretty(graph).unwrap_or_default(),
    }
}

/// What the capabilities of a running guest are.
///
/// # Errors
/// If it does not say.
pub fn ask(guest: &mut Guest) -> Result<Dump, Failure> {
    let bytes = trace::fetch(guest, "authority send")?;
    Dump::read(&bytes).map_err(|e| Failure::Wrong(e.to_string()))
}

/// Boots a system, asks what its capabilities are, and compares them with what is declared. Returns
/// what to show (with the memory, as text), and what is wrong.
///
/// # Errors
/// If it does not say.
pub fn compare(image: &Image, format: Format) -> Result<(String, Vec<String>), Failure> {
    let mut guest = Guest::boot(image, &Setup::new("authority-command"))?;
    crate::suite::ready(&mut guest)?;
    let dump = ask(&mut guest)?;
    guest.forget_recording();
    guest.power_off()?;
    let system = &image.plan.system;
    let running = running::graph(system, &dump);
    let mut shown = show(&running, format);
    if format == Format::Text {
        shown += &format!("{}\n", accounts::Accounts::new(system, &dump));
    }
    let mut wrong = declared::graph(system).differences(&running);
    wrong.extend(rules::violations(&running).iter().map(ToString::to_string));
    Ok((shown, wrong))
}
