//! What assertions may speak of: netd's counters, and `tcp_info` of the connection.

use super::calls::{Fd, record};
use super::world::World;
use libipc::sock::State;
use std::collections::HashMap;

/// `TCP_ESTABLISHED` and so on.
fn state(s: State) -> f64 {
    match s {
        State::Established => 1.0,
        State::SynSent => 2.0,
        State::SynReceived => 3.0,
        State::FinWait1 => 4.0,
        State::FinWait2 => 5.0,
        State::TimeWait => 6.0,
        State::Free | State::Open | State::Closed => 7.0,
        State::CloseWait => 8.0,
        State::LastAck => 9.0,
        State::Listen => 10.0,
        State::Closing => 11.0,
    }
}

/// Puts everything into `names`.
pub fn fill(
    w: &mut World,
    fd: Option<&Fd>,
    names: &mut HashMap<String, f64>,
) -> Result<(), String> {
    names.insert("now".into(), w.now() as f64 / 1e9);
    // Counters by the names of their fields.
    let all = format!("{:?}", w.host.stack().counters());
    for pair in all.split(['{', ',', '}']) {
        if let Some((name, value)) = pair.split_once(':')
            && let Ok(value) = value.trim().parse()
        {
            names.insert(name.trim().into(), value);
        }
    }
    if let Some(fd) = fd {
        names.insert("tcpi_state".into(), state(record(w, fd.id).state()));
    }
    Ok(())
}
