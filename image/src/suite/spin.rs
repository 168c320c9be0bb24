//! Servers that do nothing but run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::traffic::{outside, ready};
use crate::client;
use crate::harness::{COMMAND, Failure, Guest, wrong};
use crate::manifest::Protocol::Tcp;

/// How long it is watched, about.
const SPINS: Duration = Duration::from_secs(2);

/// Time since the start of the first process, and what each has run, ms.
struct Times {
    at: u64,
    ran: BTreeMap<String, u64>,
}

/// What `ps` says.
fn times(g: &mut Guest) -> Result<Times, Failure> {
    let table = g.command("ps", COMMAND)?;
    let mut times = Times { at: 0, ran: BTreeMap::new() };
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, "running", _, _, _, "KiB", up, "s", ran, "ms"] = words[..] {
            let (up, ran) = (up.replace('.', "").parse::<u64>(), ran.parse::<u64>());
            let (Ok(up), Ok(ran)) = (up, ran) else { return wrong(format!("ps says\n{table}")) };
            times.at = times.at.max(up);
            times.ran.insert(name.into(), ran);
        }
    }
    if times.ran.len() > 4 { Ok(times) } else { wrong(format!("ps lacks times:\n{table}")) }
}

/// Each server in turn spins at its priority, above which is only init, and so does a program below
/// them all. The server gets its budget and not more, the program most of the rest, and the shell
/// answers. Restarted, they serve again.
pub fn spin(g: &mut Guest) -> Result<(), Failure> {
    ready(g)?;
    let port = g.host_port(80, Tcp)?;
    for server in ["e1000d", "netd"] {
        for who in [server, "services"] {
            g.command(&format!("crash {who} spin"), COMMAND)?;
        }
        let said = format!("[init] {server} uses up its 18000 us of 20000 us again and again");
        g.wait_until("init's line", COMMAND, |text| text.contains(&said))?;
        let before = times(g)?;
        // The guest's clock counts; printing is init's work, so there is none meanwhile.
        std::thread::sleep(SPINS);
        let after = times(g)?;
        let all = after.at - before.at;
        let ran = |who| {
            (after.ran.get(who).copied().unwrap_or(0), before.ran.get(who).copied().unwrap_or(0))
        };
        let share = |who| {
            let (after, before) = ran(who);
            after.saturating_sub(before) * 100 / all.max(1)
        };
        let (spins, rest) = (share(server), share("services"));
        // 90 and 10, less what init and the shell ran. What the host takes is charged, too.
        if !(50..=96).contains(&spins) || !(2..=45).contains(&rest) {
            let text = format!("{server} ran {spins} % of {all} ms, and services {rest} %");
            return wrong(text);
        }
        for who in ["services", server] {
            g.command(&format!("restart {who}"), COMMAND)?;
        }
        let said = format!("[init] restarted {server}: restart requested");
        g.wait_until("the restart line", COMMAND, |text| text.contains(&said))?;
        let page = outside(client::get(port, "/"))?;
        if page.head.is_empty() {
            return wrong("an empty page");
        }
    }
    g.power_off()
}
