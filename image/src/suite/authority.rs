//! Who holds what in the running system.

use super::traffic::ready;
use crate::authority::accounts::Accounts;
use crate::authority::{self, declared, rules, running};
use crate::harness::{COMMAND, Failure, Guest, wrong};

/// Capabilities that a system of this size has at least.
const MANY: usize = 5_000;

pub fn authority(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let dump = authority::ask(g)?;
    if dump.entries.len() < MANY {
        return wrong(format!("only {} capabilities were told", dump.entries.len()));
    }
    let system = g.system().clone();
    let (is, declared) = (running::graph(&system, &dump), declared::graph(&system));
    let mut found = declared.differences(&is);
    found.extend(rules::violations(&is).iter().map(ToString::to_string));
    if !found.is_empty() {
        return wrong(found.join("\n"));
    }
    // What is not declared is seen: the same system, had nobody declared two of its capabilities.
    for (process, extra) in
        [("httpd", "calls sockd, badge 0x2"), ("e1000d", "the registers of nic")]
    {
        let mut less = declared.clone();
        let holder = less.holders.get_mut(process).expect("it is in every system");
        holder.holds.retain(|h| !h.to_string().starts_with(extra));
        match &less.differences(&is)[..] {
            [one] if one.starts_with(&format!("{process} → {extra}")) => {}
            other => return wrong(format!("an undeclared capability of {process}: {other:?}")),
        }
    }
    let accounts = Accounts::new(&system, &dump);
    if accounts.excess > 0 || accounts.sum() != accounts.machine {
        return wrong(format!("memory that adds up to {}:\n{accounts}", accounts.sum()));
    }
    if accounts.lost > accounts.machine / 100 {
        return wrong(format!("much memory is in no account:\n{accounts}"));
    }
    let said = g.command("authority", COMMAND)?;
    for line in ["netd: memory of its own ", " signals 0x1 to netd ", "memory: ", "interrupt "] {
        if !said.contains(line) {
            return wrong(format!("the shell does not say {line:?}:\n{said}"));
        }
    }
    g.power_off()
}
