//! What assertions may speak of: netd's counters, and `tcp_info` of the connection.

use super::calls::{Fd, record, sock};
use super::world::World;
use libipc::net::{Reply, Request};
use libipc::sock::TcpInfo;
use std::collections::HashMap;

/// Puts everything into `names`.
pub fn fill(
    w: &mut World,
    fd: Option<&Fd>,
    names: &mut HashMap<String, f64>,
) -> Result<(), String> {
    names.insert("now".into(), w.now() as f64 / 1e9);
    let counters = format!("{:?}", w.host.stack().counters());
    fields(&counters, "", names);
    let Some(fd) = fd.filter(|f| f.opened) else { return Ok(()) };
    names.insert("tcpi_state".into(), TcpInfo::state_of(record(w, fd.id).state()) as f64);
    if let Ok(Reply::TcpInfo(info)) = w.host.ask(Request::TcpInfo { sock: sock(fd) }) {
        fields(&format!("{info:?}"), "tcpi_", names);
    }
    Ok(())
}

/// Figures of a structure by the names of their fields.
fn fields(all: &str, prefix: &str, names: &mut HashMap<String, f64>) {
    for pair in all.split(['{', ',', '}']) {
        if let Some((name, value)) = pair.split_once(':')
            && let Ok(value) = value.trim().parse()
        {
            names.insert(format!("{prefix}{}", name.trim()), value);
        }
    }
}
