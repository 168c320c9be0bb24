//! The machine under test, in virtual time, and the wire it hangs on.

use super::build;
use super::cursor::Cursor;
use super::dissect;
use super::packet::{Arp, Body, Icmp, Mac, Packet, Payload};
use crate::common::{Host, HostSpec, MS};
use netd::settings::FastOpen;
use netd::{Addressing, Addressing6};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a case says of its surroundings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub local: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub remote: IpAddr,
    pub local_mac: Mac,
    pub remote_mac: Mac,
    /// Neighbours answer, and what they say is not shown.
    pub resolve: bool,
    pub offload: bool,
    pub tx_bits: u8,
    pub rx_bits: u8,
    pub sockets: u32,
    /// `tcp_fastopen`.
    pub fast_open: FastOpen,
    /// How early and how late things may happen, in nanoseconds.
    pub early: u64,
    pub late: u64,
    pub peer_iss: u32,
    /// A script of Linux's own: what it leaves open is judged generously.
    pub foreign: bool,
    /// `tcp_timestamps=0` of Linux: the offer of our SYN is passed over, and so never taken up.
    pub no_stamps: bool,
    /// PSH is not compared.
    pub ignore_push: bool,
    /// Milliseconds a timestamp may differ; `None`: timestamps are not compared.
    pub stamps: Option<u32>,
}

/// One tick of netd's wheel: a timer may fire so much late, never early.
const TICK: u64 = 1 << 20;

impl Settings {
    pub fn new(foreign: bool) -> Self {
        Self {
            local: Ipv4Addr::new(192, 168, 0, 1).into(),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 168, 0, 2).into()),
            remote: Ipv4Addr::new(192, 0, 2, 1).into(),
            local_mac: [2, 0, 0, 0, 0, 1],
            remote_mac: [2, 0, 0, 0, 0, 2],
            resolve: true,
            // A NIC that segments is given pieces that end a byte short (docs/driver.md).
            offload: false,
            tx_bits: 20,
            rx_bits: 16,
            sockets: 32,
            fast_open: match foreign {
                // As the settings that those scripts begin with.
                true => FastOpen::from_bits_truncate(0x403),
                false => netd::Settings::default().fast_open,
            },
            // Linux's timers have a resolution of their own; packetdrill allows four milliseconds.
            early: if foreign { 5 * MS } else { 0 },
            late: if foreign { 5 * MS } else { TICK },
            // Wraps within the first few kilobytes.
            peer_iss: 0xffff_f000,
            foreign,
            no_stamps: false,
            ignore_push: foreign,
            stamps: (!foreign).then_some(1),
        }
    }

    /// The surroundings of IPv6.
    fn six(&mut self) {
        let at = |net: u16, host: u16| Ipv6Addr::new(0xfd3d, net, 0x17d6, 0, 0, 0, 0, host).into();
        (self.local, self.gateway) = (at(0xa0b, 1), Some(at(0xa0b, 2)));
        (self.remote, self.prefix) = (at(0xfa7b, 1), 64);
    }

    fn addressing6(&self) -> Addressing6 {
        let v6 = |ip: IpAddr| match ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        };
        match v6(self.local) {
            Some(addr) => Addressing6::Static {
                addr,
                prefix: self.prefix,
                gateway: self.gateway.and_then(v6),
                dns: None,
            },
            None => Addressing6::Off,
        }
    }

    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut c = Cursor::new(value);
        let bad = |_| format!("`{value}` is no value of `{key}`");
        match key {
            "local_ip" => self.local = c.ip().map_err(bad)?,
            "remote_ip" => self.remote = c.ip().map_err(bad)?,
            "gateway" | "gateway_ip" => {
                self.gateway = if value == "none" { None } else { Some(c.ip().map_err(bad)?) };
            }
            "prefix" => self.prefix = c.num().map_err(bad)?,
            "arp" => self.resolve = value != "shown",
            "offload" => self.offload = value == "1",
            "tx_bits" => self.tx_bits = c.num().map_err(bad)?,
            "rx_bits" => self.rx_bits = c.num().map_err(bad)?,
            "sockets" => self.sockets = c.num().map_err(bad)?,
            "tolerance_usecs" => {
                let ns = c.num::<u64>().map_err(bad)? * 1000;
                (self.early, self.late) = (ns, ns);
            }
            "fastopen" => self.fast_open = bits(value).ok_or_else(|| bad(String::new()))?,
            "push" => self.ignore_push = value == "ignored",
            "ip_version" if value == "ipv6" => self.six(),
            "peer_iss" => self.peer_iss = c.num().map_err(bad)?,
            "tcp_ts_tick_usecs" => self.stamps = Some(20),
            "strict_segments" | "mss" | "netmask_ip" | "init_scripts" => {}
            _ => return Err(format!("nothing is known of the setting `{key}={value}`")),
        }
        Ok(())
    }
}

/// A value of `tcp_fastopen`.
fn bits(value: &str) -> Option<FastOpen> {
    let bits = match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => value.parse().ok()?,
    };
    Some(FastOpen::from_bits_truncate(bits as u16))
}

/// A value of `tcp_fastopen_key`.
fn key(value: &str) -> Option<(u64, u64)> {
    let words: Vec<u64> =
        value.split('-').map(|w| u64::from_str_radix(w, 16)).collect::<Result<_, _>>().ok()?;
    match words[..] {
        [a, b, c, d] => Some((a | b << 32, c | d << 32)),
        _ => None,
    }
}

pub struct World {
    pub host: Host,
    pub s: Settings,
    epoch: u64,
    /// Frames that the stack sent and nobody has looked at.
    pub sent: VecDeque<(u64, Vec<u8>)>,
}

impl World {
    pub fn new(s: Settings) -> Self {
        let v4 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        };
        let host = Host::new(HostSpec {
            mac: s.local_mac,
            addressing: Addressing::Static {
                addr: v4(s.local).unwrap_or(Ipv4Addr::new(192, 168, 0, 1)),
                prefix: if s.local.is_ipv6() { 24 } else { s.prefix },
                // A script may give our side the usual gateway's.
                gateway: match s.gateway.and_then(v4) {
                    Some(gateway) if s.local == gateway => Some(Ipv4Addr::new(192, 168, 0, 254)),
                    gateway => gateway,
                },
                dns: None,
            },
            ip6: s.addressing6(),
            sockets: s.sockets,
            settings: netd::Settings {
                fast_open: s.fast_open,
                fast_open_key: key("a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"),
                ..Default::default()
            },
            tx_bits: s.tx_bits,
            rx_bits: s.rx_bits,
            offload: s.offload,
            ..HostSpec::fixed(1)
        });
        let mut world = Self { host, s, epoch: 0, sent: VecDeque::new() };
        // Whatever an interface does when it comes up.
        world.run(10_000 * MS, &mut |_| {});
        world.epoch = world.host.now;
        world.sent.clear();
        world
    }

    /// Changes `fastopen` or its `key`.
    pub fn fast_open(&mut self, name: &str, value: &str) -> Result<(), String> {
        let bad = || format!("`{value}` is no value of `{name}`");
        let settings = &mut self.host.spec.settings;
        match name {
            "key" => settings.fast_open_key = Some(key(value).ok_or_else(bad)?),
            _ => settings.fast_open = bits(value).ok_or_else(bad)?,
        }
        let settings = *settings;
        self.host.stack().set_settings(settings);
        Ok(())
    }

    pub fn now(&self) -> u64 {
        self.host.now - self.epoch
    }

    /// Collects what the stack sends now.
    pub fn settle(&mut self) {
        loop {
            self.host.settle();
            let frames = self.host.transmitted();
            if frames.is_empty() {
                // What came back from the driver.
                return self.host.settle();
            }
            for frame in frames {
                let answer = self.s.resolve.then(|| self.neighbour(&frame)).flatten();
                match answer {
                    Some(Some(reply)) => drop(self.host.receive(&reply)),
                    Some(None) => {}
                    None => self.sent.push_back((self.now(), frame)),
                }
            }
        }
    }

    /// What the neighbours make of a frame: nothing, silence, or an answer.
    fn neighbour(&self, frame: &[u8]) -> Option<Option<Vec<u8>>> {
        let p = dissect::frame(frame).ok()?;
        match &p.body {
            Body::Arp(a) => {
                let asked = a.op == 1 && a.sender != Some([0; 4]) && a.sender != a.target;
                Some(asked.then(|| self.arp_reply(a, &p)))
            }
            Body::Icmp(m) if m.v6 && matches!(m.ty, 133 | 143) => Some(None),
            Body::Icmp(m) if m.v6 && m.ty == 135 => {
                let Payload::Bytes(b) = &m.payload else { return None };
                let target: [u8; 16] = b.get(..16)?.try_into().ok()?;
                // Who asks from `::` asks whether the address is free: it is.
                let asked = p.ip.src != Some(IpAddr::from([0u8; 16]));
                Some(asked.then(|| self.advertisement(target, &p)))
            }
            _ => None,
        }
    }

    fn arp_reply(&self, a: &Arp, p: &Packet) -> Vec<u8> {
        let reply = Arp {
            op: 2,
            sender_mac: Some(self.s.remote_mac),
            sender: a.target,
            target_mac: a.sender_mac,
            target: a.sender,
            types: None,
        };
        build::frame(&Packet {
            eth_src: Some(self.s.remote_mac),
            eth_dst: p.eth_src,
            body: Body::Arp(reply),
            ..Packet::default()
        })
    }

    fn advertisement(&self, target: [u8; 16], p: &Packet) -> Vec<u8> {
        let payload = [&target[..], &[2, 1], &self.s.remote_mac].concat();
        let na = Icmp {
            v6: true,
            ty: 136,
            code: 0,
            half: [Some(0x6000), Some(0)],
            payload: Payload::Bytes(payload),
        };
        let mut reply = Packet {
            eth_src: Some(self.s.remote_mac),
            eth_dst: p.eth_src,
            body: Body::Icmp(na),
            ..Packet::default()
        };
        reply.ip.src = Some(IpAddr::from(target));
        reply.ip.dst = p.ip.src;
        reply.ip.ttl = Some(255);
        build::frame(&reply)
    }

    /// Lets time pass up to `until` (on the script's clock); `each` looks whenever something may have
    /// changed.
    pub fn run(&mut self, until: u64, each: &mut dyn FnMut(&mut Self)) {
        let until = until + self.epoch;
        self.settle();
        each(self);
        while let Some(at) = self.host.stack().poll_at().filter(|at| *at <= until) {
            self.host.now = self.host.now.max(at);
            self.settle();
            each(self);
        }
        self.host.now = self.host.now.max(until);
        self.settle();
        each(self);
    }

    /// The time of the next thing that the stack will do by itself, on the script's clock.
    pub fn next_event(&mut self) -> Option<u64> {
        self.host.stack().poll_at().map(|at| at.saturating_sub(self.epoch))
    }

    pub fn inject(&mut self, frame: &[u8]) -> Result<(), String> {
        if !self.host.receive(frame) {
            return Err("netd has given the NIC no buffer for it".into());
        }
        self.settle();
        Ok(())
    }
}
