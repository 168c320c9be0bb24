//! smoltcp.

use std::net::Ipv4Addr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::{Socket, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpListenEndpoint};

use crate::rings::Rings;
use crate::work::{DATAGRAMS, GATEWAY, SERVER, Subject, US};
use crate::world::{Driver, World};

/// As ours.
const RING: usize = 8192;

pub struct Smol {
    iface: Interface,
    wire: Rings,
    driver: Driver,
    sockets: SocketSet<'static>,
    /// While connections are made: one at a time, since a set is walked through at every step.
    one: SocketSet<'static>,
    making: Option<SocketHandle>,
    made: Vec<SocketHandle>,
    is_ready: bool,
    server: Option<SocketHandle>,
    datagrams: Option<SocketHandle>,
    sender: Option<udp::UdpMetadata>,
    now: Instant,
}

fn stream() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; RING]);
    tcp::Socket::new(buffer(), buffer())
}

impl Smol {
    /// With room for so many connections.
    pub fn new(connections: u32) -> Self {
        let World { setup, driver, .. } = World::new(0, 16);
        let (mut wire, driver) = Rings::new(setup.nic.port, driver);
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut iface = Interface::new(Config::new(mac), &mut wire, Instant::ZERO);
        iface.update_ip_addrs(|a| {
            a.push(IpCidr::new(US.into(), 24)).expect("room for one");
        });
        iface.routes_mut().add_default_ipv4_route(GATEWAY).expect("room for one");
        Self {
            iface,
            wire,
            driver,
            sockets: SocketSet::new(Vec::with_capacity(connections as usize + 2)),
            one: SocketSet::new(vec![]),
            making: None,
            made: Vec::with_capacity(connections as usize),
            is_ready: false,
            server: None,
            datagrams: None,
            sender: None,
            now: Instant::ZERO,
        }
    }
}

impl Subject for Smol {
    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.driver.sent(&[])
    }

    fn arrive(&mut self, frame: &[u8]) {
        self.driver.arrive(frame);
    }

    fn turn(&mut self, now_us: u64) {
        self.now = Instant::from_micros(now_us as i64);
        let sockets = if self.is_ready { &mut self.sockets } else { &mut self.one };
        self.iface.poll(self.now, &mut self.wire, sockets);
        self.wire.publish();
        self.wire.sleep();
        std::hint::black_box(self.iface.poll_at(self.now, sockets));
    }

    fn connect(&mut self, n: u32, to: (Ipv4Addr, u16)) {
        let handle = self.one.add(stream());
        let port = 49_152 + (n % 16_000) as u16;
        let socket = self.one.get_mut::<tcp::Socket>(handle);
        socket.connect(self.iface.context(), to, port).expect("a route");
        self.making = Some(handle);
    }

    fn connected(&mut self, _: u32) {
        let handle = self.making.take().expect("one is being made");
        let Socket::Tcp(socket) = self.one.remove(handle) else { panic!("a stream") };
        assert_eq!(socket.state(), tcp::State::Established);
        self.made.push(self.sockets.add(socket));
    }

    fn ready(&mut self) {
        let mut server = stream();
        server.listen(SERVER).expect("a port");
        self.server = Some(self.sockets.add(server));
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; RING]);
        let mut datagrams = udp::Socket::new(buffer(), buffer());
        datagrams.bind(DATAGRAMS).expect("a port");
        self.datagrams = Some(self.sockets.add(datagrams));
        self.is_ready = true;
    }

    fn read(&mut self, n: u32, into: &mut [u8]) -> usize {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.made[n as usize]);
        socket.recv_slice(into).expect("open")
    }

    fn write(&mut self, n: u32, bytes: &[u8]) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.made[n as usize]);
        let written = socket.send_slice(bytes).expect("open");
        assert_eq!(written, bytes.len());
    }

    fn read_datagram(&mut self, into: &mut [u8]) -> usize {
        let socket = self.sockets.get_mut::<udp::Socket>(self.datagrams.expect("ready"));
        let (len, from) = socket.recv_slice(into).expect("a datagram");
        self.sender = Some(from);
        len
    }

    fn write_datagram(&mut self, bytes: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket>(self.datagrams.expect("ready"));
        socket.send_slice(bytes, self.sender.expect("one was read")).expect("room");
    }

    fn accept(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.server.expect("ready"));
        assert!(socket.may_send());
    }

    fn close(&mut self) {
        self.sockets.get_mut::<tcp::Socket>(self.server.expect("ready")).close();
    }

    fn renew(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.server.expect("ready"));
        assert_eq!(socket.state(), tcp::State::Closed);
        socket.listen(IpListenEndpoint::from(SERVER)).expect("closed");
    }

    fn bytes(&self) -> usize {
        size_of::<SocketStorage>()
    }
}
