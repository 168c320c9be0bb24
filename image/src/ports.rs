//! Free ports of the host for the manifest's forwards.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use crate::manifest::{Forward, Protocol};

/// A port of the host that leads to a port of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// On 127.0.0.1.
    pub host: u16,
    /// In the system.
    pub port: u16,
    /// For which protocols.
    pub protocols: Vec<Protocol>,
    /// A word for people.
    pub what: String,
}

/// How many free ports are tried before giving up.
const TRIES: usize = 64;

/// A port that is bound for some protocols, as long as this is held.
struct Bound {
    port: u16,
    _tcp: Option<TcpListener>,
    _udp: Option<UdpSocket>,
}

/// Binds `port` for all `protocols`; 0 means any.
fn try_bind(port: u16, protocols: &[Protocol]) -> Option<Bound> {
    let mut bound = Bound { port, _tcp: None, _udp: None };
    if protocols.contains(&Protocol::Tcp) {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        bound.port = tcp.local_addr().ok()?.port();
        bound._tcp = Some(tcp);
    }
    if protocols.contains(&Protocol::Udp) {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, bound.port)).ok()?;
        bound.port = udp.local_addr().ok()?.port();
        bound._udp = Some(udp);
    }
    Some(bound)
}

/// The mapping for each forward: the wished port where it is free (and `wish` is set), else another.
/// `None` if the host has no free port. QEMU binds a moment later: somebody else may come first, and
/// QEMU says so.
pub fn choose(forwards: &[Forward], wish: bool) -> Option<Vec<Mapping>> {
    // Held until all are chosen, or the host might hand out one port twice.
    let mut held = Vec::new();
    let mut one = |f: &Forward| {
        let wished = wish.then(|| try_bind(*f.host.get_ref(), &f.protocols)).flatten();
        let any = || (0..TRIES).find_map(|_| try_bind(0, &f.protocols));
        let bound = wished.or_else(any)?;
        let mapping = Mapping {
            host: bound.port,
            port: *f.port.get_ref(),
            protocols: f.protocols.clone(),
            what: f.what.clone(),
        };
        held.push(bound);
        Some(mapping)
    };
    forwards.iter().map(&mut one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Spanned;

    fn forward(host: u16, protocols: &[Protocol]) -> Forward {
        Forward {
            host: Spanned::new(0..0, host),
            port: Spanned::new(0..0, 7),
            protocols: protocols.to_vec(),
            what: "echo".into(),
        }
    }

    #[test]
    fn a_taken_port_is_replaced() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // Somebody else has the port for one of the two protocols.
            let both = [Protocol::Tcp, Protocol::Udp];
            let port = (0..TRIES).find_map(|_| try_bind(0, &both)).unwrap().port;
            let _tcp = (protocol == Protocol::Tcp)
                .then(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
            let _udp = (protocol == Protocol::Udp)
                .then(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
            let chosen = choose(&[forward(port, &both)], true).unwrap();
            assert_ne!(chosen[0].host, port);
            assert_eq!(chosen[0].port, 7);
        }
    }

    #[test]
    fn a_free_port_is_kept() {
        let port = (0..TRIES).find_map(|_| try_bind(0, &[Protocol::Tcp])).unwrap().port;
        let chosen = choose(&[forward(port, &[Protocol::Tcp])], true).unwrap();
        assert_eq!(chosen[0].host, port);
    }

    #[test]
    fn no_port_is_chosen_twice() {
        let both = [Protocol::Tcp, Protocol::Udp];
        let forwards: Vec<_> = (0..200).map(|_| forward(7007, &both)).collect();
        let mut ports: Vec<_> = choose(&forwards, true).unwrap().iter().map(|m| m.host).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), forwards.len());
    }
}
