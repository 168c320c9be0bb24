//! The network cards of this host, and what each has for itself: the driver's rings, link, addresses of IPv6,
//! the client of DHCP, what routers on it are told. What they have together (addresses, routes) is in
//! [`crate::iface`].

use super::Stack;
use crate::addressing::Addressing;
use crate::addressing6::Addressing6;
use crate::dev::Dev;
use crate::dhcp;
use crate::env::{DriverFault, Env};
use crate::ip6::Ip6;
use crate::ip6::listener::Listener;
use crate::port::{Port, PortHard, PortMemory};
use crate::state::NicHard;
use crate::wire::ethernet::Mac;
use alloc::vec::Vec;

/// What the stack is told of a network card.
pub struct NicSetup {
    /// Memory shared with its driver.
    pub port: PortMemory,
    /// Address.
    pub addressing: Addressing,
    /// Addresses of IPv6.
    pub ip6: Addressing6,
}

/// A network card.
pub(super) struct Nic {
    pub port: Port,
    /// The driver's session was reset: nothing is looked at before.
    pub closed_until: u64,
    pub status_version: u32,
    /// The driver computes checksums.
    pub offload: bool,
    /// The driver cuts long frames into segments.
    pub tso: bool,
    pub mac: Mac,
    pub up: bool,
    pub mtu: u16,
    /// Mbit/s, as the driver says.
    pub speed: u32,
    pub addressing: Addressing,
    pub dhcp: Option<dhcp::Client>,
    pub ip6: Ip6,
    /// What routers of IPv4 are told. The rules of IGMPv3 and MLDv2 are the same; groups stand in
    /// their mapped form.
    pub igmp: Listener,
    /// When an address was last defended (RFC 5227).
    pub defended_at: Option<u64>,
    /// Hard state.
    pub hard: &'static NicHard,
}

impl Nic {
    /// On what its driver and an earlier incarnation have left. The second value: what was wrong with that.
    pub fn new(setup: NicSetup, hard: &'static NicHard) -> (Self, Option<DriverFault>) {
        let NicSetup { port, addressing, ip6 } = setup;
        let (port, fault) =
            Port::new(port, PortHard { rx_base: &hard.rx_base, tx_base: &hard.tx_base });
        let nic = Self {
            port,
            closed_until: 0,
            status_version: 0,
            offload: false,
            tso: false,
            mac: Mac([0; 6]),
            up: false,
            mtu: 1500,
            speed: 0,
            addressing,
            dhcp: None,
            ip6: Ip6::new(ip6),
            igmp: Listener::default(),
            defended_at: None,
            hard,
        };
        (nic, fault)
    }

    /// Bytes that a packet of IPv6 may have on its link.
    pub fn mtu_v6(&self) -> u16 {
        self.ip6.routers.mtu.unwrap_or(self.mtu)
    }
}

/// All network cards. There is one at least, and hardly ever another: that one is at hand.
pub(super) struct Nics {
    first: Nic,
    others: Vec<Nic>,
}

impl Nics {
    pub fn new(first: Nic, others: Vec<Nic>) -> Self {
        Self { first, others }
    }
    /// Whether there is one only.
    #[inline]
    pub fn is_alone(&self) -> bool {
        self.others.is_empty()
    }
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }
    /// Card `dev`, if there is one.
    pub fn get_mut(&mut self, dev: Dev) -> Option<&mut Nic> {
        match dev.index() {
            0 => Some(&mut self.first),
            i => self.others.get_mut(i - 1),
        }
    }
    pub fn iter(&self) -> impl Iterator<Item = &Nic> {
        core::iter::once(&self.first).chain(&self.others)
    }
    /// Does something with each and its number.
    #[inline]
    pub fn each(&mut self, mut with: impl FnMut(Dev, &mut Nic)) {
        with(Dev::FIRST, &mut self.first);
        for (i, nic) in self.others.iter_mut().enumerate() {
            with(Dev::at(i + 1), nic);
        }
    }
}

impl core::ops::Index<Dev> for Nics {
    type Output = Nic;
    #[inline(always)]
    fn index(&self, dev: Dev) -> &Nic {
        match dev.index() {
            0 => &self.first,
            i => &self.others[i - 1],
        }
    }
}

impl core::ops::IndexMut<Dev> for Nics {
    #[inline(always)]
    fn index_mut(&mut self, dev: Dev) -> &mut Nic {
        match dev.index() {
            0 => &mut self.first,
            i => &mut self.others[i - 1],
        }
    }
}

impl<E: Env> Stack<E> {
    /// Network card `dev`.
    #[inline]
    pub(super) fn nic(&mut self, dev: Dev) -> &mut Nic {
        &mut self.nics[dev]
    }

    /// All network cards there are.
    #[inline]
    pub(super) fn devs(&self) -> impl Iterator<Item = Dev> + use<E> {
        Dev::first(self.nics.len())
    }

    /// All but the first.
    #[inline]
    pub(super) fn other_devs(&self) -> impl Iterator<Item = Dev> + use<E> {
        (1..self.nics.len()).map(Dev::at)
    }

    /// The card that is interface `number`, if there is one.
    pub(super) fn dev_of_number(&self, number: u8) -> Option<Dev> {
        Dev::of_number(number).filter(|dev| dev.index() < self.nics.len())
    }

    /// Whether one of them speaks IPv6.
    pub(super) fn speaks_v6(&self) -> bool {
        self.nics.iter().any(|n| n.ip6.is_on())
    }
}
