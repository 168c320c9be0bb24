//! A graph of authority for people: text, Graphviz, SVG.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use abi::Rights;
use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};

use super::graph::{Graph, Holding, Memory, Role, What};

/// A line for each thing that each process holds.
pub fn text(graph: &Graph) -> String {
    let mut out = String::new();
    for (name, h) in &graph.holders {
        let (role, state) = (
            if h.role == Role::Server { "server" } else { "program" },
            if h.runs { "" } else { ", not started" },
        );
        let _ = writeln!(out, "{name} ({role}{state})");
        for holding in &h.holds {
            let bytes = h.bytes.get(&holding.what);
            let size = bytes.map_or_else(String::new, |b| format!(", {} KiB", b >> 10));
            let _ = writeln!(out, "  {holding}{size}");
        }
    }
    out
}

/// A node of the drawing, and the label of the edge to it.
fn target(h: &Holding) -> Option<(String, Shape, String)> {
    let (read, write) = (h.rights.contains(Rights::READ), h.rights.contains(Rights::WRITE));
    let way =
        |out: &str, inside: &str| if write && !read { out.to_string() } else { inside.into() };
    Some(match &h.what {
        What::Endpoint(of) if write => (of.clone(), Shape::Process, "calls".into()),
        What::Notification(of) if write && of != "init" => {
            (of.clone(), Shape::Process, "signals".into())
        }
        What::Registers(of) => (format!("{of} registers"), Shape::Device, way("writes", "drives")),
        What::Interrupt(_) => ("interrupt".into(), Shape::Device, "acknowledges".into()),
        What::Dma(region) => (region.clone(), Shape::Memory, "DMA".into()),
        What::Memory(Memory::Region(region)) => {
            (region.clone(), Shape::Memory, if write { "writes" } else { "reads" }.into())
        }
        What::Memory(Memory::Unknown(what)) => (what.clone(), Shape::Memory, way("w", "r")),
        What::Other(what) => (what.clone(), Shape::Device, "holds".into()),
        // What everybody has, and what says the same again from the other end.
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Process,
    Memory,
    Device,
}

/// The graph as Graphviz text. The four regions of a session are drawn as one.
pub fn dot(graph: &Graph) -> String {
    let mut nodes: BTreeMap<String, Shape> = BTreeMap::new();
    let mut edges: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (name, h) in graph.holders.iter().filter(|(_, h)| h.runs) {
        nodes.insert(name.clone(), Shape::Process);
        for (to, shape, label) in h.holds.iter().filter_map(target) {
            let session = to.strip_prefix("session.").and_then(|s| s.split_once('.'));
            let to = session.map_or(to.clone(), |(n, _)| format!("session {n}"));
            // A program that is not started may be called or signalled: it is drawn when it runs.
            if shape == Shape::Process
                && to != "init"
                && !graph.holders.get(&to).is_some_and(|h| h.runs)
            {
                continue;
            }
            if to != *name {
                nodes.entry(to.clone()).or_insert(shape);
                edges.entry((name.clone(), to)).or_default().insert(label);
            }
        }
    }
    // Sessions of programs that are not started have only the servers.
    let lonely = |node: &String| {
        node.starts_with("session ")
            && edges
                .keys()
                .filter(|(_, to)| to == node)
                .all(|(from, _)| graph.holders.get(from).is_some_and(|h| h.role == Role::Server))
    };
    let lonely: BTreeSet<String> = nodes.keys().filter(|n| lonely(n)).cloned().collect();
    let mut out = String::from("digraph authority {\n  rankdir=LR;\n");
    for (node, shape) in nodes.iter().filter(|(n, _)| !lonely.contains(*n)) {
        let (shape, color) = match shape {
            Shape::Process => ("ellipse", "lightblue"),
            Shape::Memory => ("box", "lightyellow"),
            Shape::Device => ("box", "lightpink"),
        };
        let _ = writeln!(out, "  \"{node}\" [shape={shape}, style=filled, fillcolor={color}];");
    }
    for ((from, to), labels) in edges.iter().filter(|((_, to), _)| !lonely.contains(to)) {
        let label = labels.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "  \"{from}\" -> \"{to}\" [label=\"{label}\"];");
    }
    out + "}\n"
}

/// Graphviz text laid out and drawn. `None`: it is none that the layout understands.
pub fn svg(dot: &str) -> Option<String> {
    let parsed = DotParser::new(dot).process().ok()?;
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&parsed);
    let mut graph = builder.get();
    let mut writer = SVGWriter::new();
    graph.do_it(false, false, false, &mut writer);
    Some(writer.finalize())
}

#[cfg(test)]
mod tests {
    use super::super::declared;
    use super::*;
    use crate::{manifest, workspace};

    #[test]
    fn the_system_is_drawn() {
        let bins = workspace::guest_bins().unwrap();
        let bins: Vec<&str> = bins.iter().map(|b| b.name.as_str()).collect();
        let system = manifest::load(&workspace::manifest(), &bins).unwrap().system;
        let graph = declared::graph(&system);
        let dot = dot(&graph);
        for edge in [
            "\"e1000d\" -> \"nic registers\" [label=\"drives\"]",
            "\"sockd\" -> \"netd\" [label=\"calls\"]",
            "\"httpd\" -> \"session 1\" [label=\"reads, writes\"]",
        ] {
            assert!(dot.contains(edge), "{edge} is missing:\n{dot}");
        }
        assert!(!dot.contains("victim"), "it is not started");
        let svg = svg(&dot).expect("a picture");
        assert!(svg.starts_with("<?xml") && svg.contains("e1000d") && svg.contains("session 1"));
        let lines = text(&graph);
        assert!(
            lines.contains("httpd (program)\n") && lines.contains("  calls sockd, badge 0x2\n")
        );
    }
}
