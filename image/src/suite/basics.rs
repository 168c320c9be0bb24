//! Booting and ending.

use std::time::UNIX_EPOCH;

use libipc::time::Date;

use crate::bench::kernel::{self, Cost};
use crate::bench::longest;
use crate::harness::{BOOT, COMMAND, Failure, Guest, PANIC, PROMPT, wrong};
use crate::qemu::End;

pub fn boot(g: &mut Guest) -> Result<(), Failure> {
    g.wait_for(PROMPT, BOOT)?;
    let help = g.command("help", COMMAND)?;
    for command in ["ps", "crash", "kill", "restart", "ping", "ip", "poweroff"] {
        if !help.contains(command) {
            return wrong(format!("help does not list {command}:\n{help}"));
        }
    }
    let ps = g.command("ps", COMMAND)?;
    for process in ["e1000d", "netd", "sockd", "shell", "httpd"] {
        if !ps.contains(process) {
            return wrong(format!("ps does not list {process}:\n{ps}"));
        }
    }
    clock(g)?;
    random(g, "[init] randomness from the processor (RD")?;
    g.power_off()
}

pub fn jitter(g: &mut Guest) -> Result<(), Failure> {
    g.wait_for(PROMPT, BOOT)?;
    random(g, "[init] randomness from timing jitter\n")?;
    g.power_off()
}

/// Random bytes come from where `source` says, pass their tests and never come twice, neither in
/// one life of a program nor in the next.
fn random(g: &mut Guest, source: &str) -> Result<(), Failure> {
    if !g.console().text().contains(source) {
        return wrong(format!("init should say {source:?}"));
    }
    let mut seen = Vec::new();
    for command in ["random", "random", "restart shell", "random"] {
        if command != "random" {
            // The dying shell takes what is typed ahead with it.
            g.send_line(command)?;
            g.wait_for("`help` lists", COMMAND)?;
            continue;
        }
        let out = g.command(command, COMMAND)?;
        let digits = |l: &&str| l.len() == 64 && l.chars().all(|c| c.is_ascii_hexdigit());
        let Some(bytes) = out.lines().find(digits).map(str::to_string) else {
            return wrong(format!("no random bytes:\n{out}"));
        };
        if !out.contains("the source passes its tests") || seen.contains(&bytes) {
            return wrong(format!("not random enough, after {seen:?}:\n{out}"));
        }
        seen.push(bytes);
    }
    Ok(())
}

/// `date` says what the host's clock says. Each rounds to a second, and the guest reads its clock
/// to half a second.
fn clock(g: &mut Guest) -> Result<(), Failure> {
    let now = || UNIX_EPOCH.elapsed().map_or(0, |t| t.as_secs());
    let before = now();
    let out = g.command("date", COMMAND)?;
    let after = now();
    let near = |text: &str| {
        (before.saturating_sub(2)..=after + 2)
            .any(|t| text.contains(&Date::from_unix(t).to_string()))
    };
    if !near(&out) {
        return wrong(format!("it should be about {} UTC:\n{out}", Date::from_unix(before)));
    }
    Ok(())
}

pub fn kernel_panic(g: &mut Guest) -> Result<(), Failure> {
    match g.end(BOOT)? {
        End::Panic => {}
        other => return wrong(format!("the machine ended with {other:?}, not with a panic")),
    }
    // QEMU is gone; what it wrote is on its way to us.
    g.wait_until("the kernel's report", COMMAND, |text| text.contains(PANIC))
        .or_else(|e| if matches!(e, Failure::Panic) { Ok(()) } else { Err(e) })?;
    let text = g.console().text();
    let Some(report) = text.find(PANIC).map(|at| &text[at..]) else {
        return wrong("there is no report of the panic");
    };
    for part in ["panic-test was asked for", "rsp 0x", "cr3 0x", "rax 0x", "r15 0x", "panic_test"] {
        if !report.contains(part) {
            return wrong(format!("the report of the panic lacks {part}:\n{report}"));
        }
    }
    Ok(())
}

pub fn kernel_cost(g: &mut Guest) -> Result<(), Failure> {
    let costs = kernel::costs(g)?;
    let excess: Vec<String> = costs.iter().filter_map(Cost::excess).collect();
    if excess.is_empty() { Ok(()) } else { wrong(excess.join("\n")) }
}

/// What takes the kernel longest.
pub fn longest(g: &mut Guest) -> Result<(), Failure> {
    let over = longest::loads(g)?.into_iter().filter(|l| l.longest >= longest::MOST);
    let over: Vec<String> =
        over.map(|l| format!("{}: {} instructions", l.name, l.longest)).collect();
    if over.is_empty() { Ok(()) } else { wrong(over.join("\n")) }
}

/// Processor and page tables as QEMU sees them, at some instants of a system at work.
pub fn protection(g: &mut Guest) -> Result<(), Failure> {
    g.wait_for(PROMPT, BOOT)?;
    let registers = g.monitor("info registers")?;
    for (register, bit, what) in [
        ("CR0", 16, "write protection"),
        ("CR4", 11, "UMIP"),
        ("CR4", 20, "SMEP"),
        ("CR4", 21, "SMAP"),
        ("EFER", 11, "NX"),
    ] {
        let value = registers.split_once(&format!("{register}="));
        let value = value.and_then(|(_, rest)| rest.split_whitespace().next());
        let value = value.and_then(|v| u64::from_str_radix(v, 16).ok());
        if value.is_none_or(|v| v >> bit & 1 == 0) {
            return wrong(format!("{what} is off: {register} bit {bit}\n{registers}"));
        }
    }
    let mut pages = 0;
    for load in ["ps", "ping 10.0.2.2 -c 1", "stats"] {
        g.command(load, COMMAND)?;
        for line in g.monitor("info tlb")?.lines() {
            // Address, physical address, nine flags: X for not executable, W for writable.
            let Some(flags) = line.split_whitespace().nth(2) else { continue };
            pages += 1;
            if flags.contains('W') && !flags.contains('X') {
                return wrong(format!("writable and executable: {line}"));
            }
        }
    }
    if pages < 100 {
        return wrong(format!("only {pages} pages were seen"));
    }
    g.power_off()
}
