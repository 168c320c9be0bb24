//! A manifest that adds to another: `extends`, `without`, `[[size]]`.

use std::collections::HashSet;

use toml::Spanned;

use super::expand::ports;
use super::file::Manifest;
use super::problem::{Problem, Reason};

/// Has what stands before byte `base` replace what stands behind it under the same name, leaves out what
/// the manifest does without, and changes sizes.
///
/// # Errors
/// Names that mean nothing.
pub fn apply(m: &mut Manifest, base: usize) -> Vec<Problem> {
    replace(&mut m.device, base, |x| &x.name);
    replace(&mut m.region, base, |x| &x.name);
    replace(&mut m.server, base, |x| &x.name);
    replace(&mut m.program, base, |x| &x.name);
    let mut problems = Vec::new();
    for name in core::mem::take(&mut m.without) {
        let known: Vec<String> = m.program.iter().map(|p| p.name.get_ref().clone()).collect();
        m.program.retain(|p| p.name.get_ref() != name.get_ref());
        if m.program.len() == known.len() {
            problems.push(unknown(&name, "program", known));
        }
    }
    let bound: Vec<(u16, u16)> = m
        .program
        .iter()
        .flat_map(|p| p.sockets.iter().flat_map(|s| &s.get_ref().bind))
        .filter_map(|b| ports(b.get_ref()))
        .collect();
    let answers = |port: u16| bound.iter().any(|(first, last)| (*first..=*last).contains(&port));
    m.forward.retain(|f| f.host.span().start < base || answers(*f.port.get_ref()));
    for size in core::mem::take(&mut m.size) {
        if !resize(m, size.name.get_ref(), &size.kib) {
            problems.push(unknown(&size.name, "server, program or region", Vec::new()));
        }
    }
    problems
}

fn unknown(name: &Spanned<String>, what: &'static str, known: Vec<String>) -> Problem {
    let reason = Reason::Unknown { what, name: name.get_ref().clone(), known };
    Problem { span: name.span(), reason }
}

fn replace<T>(list: &mut Vec<T>, base: usize, name: impl Fn(&T) -> &Spanned<String>) {
    let new = list.iter().map(&name).filter(|n| n.span().start < base);
    let new: HashSet<String> = new.map(|n| n.get_ref().clone()).collect();
    list.retain(|x| name(x).span().start < base || !new.contains(name(x).get_ref()));
}

/// Whether there is something called `name`.
fn resize(m: &mut Manifest, name: &str, kib: &Spanned<u32>) -> bool {
    let servers = m.server.iter_mut().map(|s| (s.name.get_ref(), &mut s.heap_kib));
    let programs = m.program.iter_mut().map(|p| (p.name.get_ref(), &mut p.heap_kib));
    let mut heaps = servers.chain(programs);
    if let Some((_, heap)) = heaps.find(|(n, _)| *n == name) {
        *heap = kib.clone();
        return true;
    }
    let region = m.region.iter_mut().find(|r| r.name.get_ref() == name);
    region.map(|r| r.kib = Some(kib.clone())).is_some()
}
