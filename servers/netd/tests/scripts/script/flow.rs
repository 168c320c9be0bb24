//! Connections of a script: whose numbers are whose.
//!
//! A script counts both sides from their SYN. The peer's numbers are the script's plus a constant;
//! the stack's own initial number is learned from its SYN.

use super::packet::{Body, Ip, Opt, Packet, Payload, Tcp, flag, pattern};
use super::world::Settings;
use std::collections::HashMap;
use std::net::IpAddr;

#[derive(Clone, Debug)]
pub struct Flow {
    pub local: (IpAddr, Option<u16>),
    pub remote: (IpAddr, u16),
    /// The live number of the stack's script number 0.
    iss: Option<u32>,
    /// The number of the peer's last SYN.
    syn: Option<u32>,
    /// The stack's next SYN begins anew.
    fresh: bool,
    /// Script numbers of the first byte of data in each direction.
    first: [u32; 2],
    /// The live timestamp of the script's 0.
    stamp: Option<u32>,
    peer_iss: u32,
    /// packetdrill's way: only segments with SYN have absolute numbers, all others count from those.
    relative: bool,
    /// Script numbers of the SYNs: the stack's, the peer's.
    syns: [u32; 2],
    /// Programs write other bytes than the pattern.
    pub free_text: bool,
}

impl Flow {
    pub fn new(s: &Settings, port: u16, local_port: Option<u16>) -> Self {
        Self {
            local: (s.local, local_port),
            remote: (s.remote, port),
            iss: None,
            syn: None,
            fresh: true,
            first: [1, 1],
            stamp: None,
            peer_iss: s.peer_iss,
            relative: s.foreign,
            syns: [0, 0],
            free_text: false,
        }
    }

    fn local_live(&self, n: u32) -> u32 {
        n.wrapping_add(self.iss.unwrap_or(0))
    }
    fn stamp_live(&self, n: u32) -> u32 {
        if n == 0 { 0 } else { n.wrapping_add(self.stamp.unwrap_or(0)) }
    }

    fn data(&self, side: usize, t: &Tcp) -> Vec<u8> {
        let syn = t.flags & flag::SYN != 0;
        let begin = t.seq.wrapping_add(syn as u32);
        // The stack's SYN has an absolute number, too.
        let begin = if syn && side == 0 { begin.wrapping_sub(self.syns[0]) } else { begin };
        let at = begin.wrapping_sub(self.first[side]) as u64;
        (at..at + t.len as u64).map(pattern).collect()
    }

    fn fill_ip(&self, ip: &mut Ip, from_peer: bool) {
        let (l, r) = (self.local.0, self.remote.0);
        ip.src.get_or_insert(if from_peer { r } else { l });
        ip.dst.get_or_insert(if from_peer { l } else { r });
    }

    /// What the peer sends, with everything filled in and in live numbers.
    pub fn inject(&mut self, p: &mut Packet) {
        self.fill_ip(&mut p.ip, true);
        let live = |f: &Self, t: &mut Tcp| {
            t.sport.get_or_insert(f.remote.1);
            t.dport.get_or_insert(f.local.1.unwrap_or(8080));
            t.win.get_or_insert(0);
            if t.flags & flag::SYN == 0 {
                t.seq = t.seq.wrapping_add(f.syns[1]);
            }
            if t.data.is_none() {
                t.data = Some(f.data(1, t));
            }
            t.seq = t.seq.wrapping_add(f.peer_iss);
            t.ack = t.ack.map(|a| f.local_live(a));
            for option in t.options.iter_mut().flatten() {
                match option {
                    Opt::Sack(blocks) => {
                        for (l, r) in blocks {
                            (*l, *r) = (f.local_live(*l), f.local_live(*r));
                        }
                    }
                    Opt::Ts(_, Some(ecr)) => *ecr = f.stamp_live(*ecr),
                    _ => {}
                }
            }
        };
        match &mut p.body {
            Body::Tcp(t) => {
                if t.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN {
                    // A new number is a new connection; the same one is the old SYN again.
                    self.fresh = self.syn != Some(t.seq);
                }
                if t.flags & flag::SYN != 0 {
                    (self.syn, self.first[1]) = (Some(t.seq), t.seq.wrapping_add(1));
                    self.syns[1] = if self.relative { t.seq } else { 0 };
                }
                live(self, t);
            }
            Body::Icmp(m) => {
                if let Payload::Quote(inner, _) = &mut m.payload {
                    self.quoted(inner);
                }
            }
            _ => {}
        }
    }

    /// What the stack has sent, as an ICMP error quotes it.
    fn quoted(&self, p: &mut Packet) {
        self.fill_ip(&mut p.ip, false);
        match &mut p.body {
            Body::Tcp(t) => {
                t.sport.get_or_insert(self.local.1.unwrap_or(8080));
                t.dport.get_or_insert(self.remote.1);
                t.data = Some(self.data(0, t));
                t.seq = self.local_live(t.seq);
            }
            Body::Udp(u) => {
                u.sport.get_or_insert(self.local.1.unwrap_or(8080));
                u.dport.get_or_insert(self.remote.1);
            }
            _ => {}
        }
    }

    /// Turns what the stack sent into the script's numbers; `expected` is how the script has it.
    pub fn seen(&mut self, t: &mut Tcp, expected: &Tcp) {
        if t.flags & flag::SYN != 0 && (self.fresh || self.iss.is_none()) {
            self.syns[0] = if self.relative { expected.seq } else { 0 };
            let begin = expected.seq.wrapping_sub(self.syns[0]);
            self.iss = Some(t.seq.wrapping_sub(begin));
            self.first[0] = begin.wrapping_add(1);
            (self.fresh, self.stamp) = (false, None);
        }
        let (own, peer) =
            if t.flags & flag::SYN != 0 { (self.syns[0], 0) } else { (0, self.syns[1]) };
        let base = self.peer_iss.wrapping_add(peer);
        t.seq = t.seq.wrapping_sub(self.iss.unwrap_or(0)).wrapping_add(own);
        if t.flags & flag::ACK != 0 {
            t.ack = t.ack.map(|a| a.wrapping_sub(base));
        } else {
            t.ack = None;
        }
        let wanted = expected.options.iter().flatten().find_map(|o| match o {
            Opt::Ts(val, _) => *val,
            _ => None,
        });
        for option in t.options.iter_mut().flatten() {
            match option {
                Opt::Sack(blocks) => {
                    for (l, r) in blocks {
                        *l = l.wrapping_sub(base);
                        *r = r.wrapping_sub(base);
                    }
                }
                Opt::Ts(Some(val), _) => {
                    if self.stamp.is_none() {
                        self.stamp = wanted.map(|w| val.wrapping_sub(w));
                    }
                    *val = val.wrapping_sub(self.stamp.unwrap_or(0));
                }
                _ => {}
            }
        }
    }

    /// For display alone.
    pub fn shown(&self, t: &mut Tcp) {
        let expected = Tcp { seq: 0, ..Tcp::default() };
        self.clone().seen(t, &expected);
    }

    /// The bytes that belong into a segment of the stack's.
    pub fn wanted(&self, t: &Tcp) -> Option<Vec<u8>> {
        (!self.free_text).then(|| self.data(0, t))
    }
}

/// All connections of a case, by label.
pub struct Flows {
    pub all: HashMap<String, Flow>,
    settings: Settings,
    next_port: u16,
    /// Where the script's listener is.
    pub local_port: Option<u16>,
}

impl Flows {
    pub fn new(settings: &Settings) -> Self {
        Self { all: HashMap::new(), settings: settings.clone(), next_port: 5000, local_port: None }
    }

    pub fn get(&mut self, label: &str) -> &mut Flow {
        let (next, settings, local) = (&mut self.next_port, &self.settings, self.local_port);
        self.all.entry(label.into()).or_insert_with(|| {
            *next += 1;
            Flow::new(settings, *next - 1, local)
        })
    }

    /// The program opens a connection to `remote`: the one without label, or that goes there.
    pub fn connecting(&mut self, remote: (IpAddr, u16), local: Option<u16>) {
        let labelled = self.all.iter().any(|(l, f)| !l.is_empty() && f.remote == remote);
        if !labelled {
            let mut flow = Flow::new(&self.settings, remote.1, local);
            flow.remote.0 = remote.0;
            self.all.insert(String::new(), flow);
        }
    }

    /// The program listens: what comes next is a new connection to it.
    pub fn listening(&mut self, port: u16) {
        self.local_port = Some(port);
        self.all.remove("");
    }

    pub fn of(&self, p: &Packet) -> Option<(&String, &Flow)> {
        let Body::Tcp(t) = &p.body else { return None };
        self.all.iter().find(|(_, f)| {
            p.ip.dst == Some(f.remote.0)
                && t.dport == Some(f.remote.1)
                && (f.local.1.is_none() || f.local.1 == t.sport)
        })
    }
}
