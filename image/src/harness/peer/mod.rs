//! The host on the other end of the cable, for tests that user-mode networking is too kind for.
//!
//! QEMU hands every frame to a Unix socket (`-netdev stream`), so this needs no privileges. Behind
//! the socket is a stack of its own (smoltcp: ARP, echo, TCP), a DHCP server, and the test, which
//! may send frames made by hand and look at every frame that came. The peer can vanish: from
//! then on only ARP is answered, as by a router in front of a host that is gone.
//!
//! | file | what |
//! |---|---|
//! | `cable` | QEMU's framing on the socket |
//! | `device` | frames to and from smoltcp |
//! | `dhcp`, `dns` | the servers |
//! | `frames` | frames made and read by hand |
//! | `six` | those of IPv6 |

pub mod cable;
mod device;
pub mod dhcp;
pub mod dns;
pub mod frames;
pub mod six;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint, Ipv4Address};

use cable::Cable;
use device::Device;

/// The peer's address.
pub const PEER: Ipv4Address = Ipv4Address::new(10, 9, 0, 1);
/// The address of the system under test.
pub const GUEST: Ipv4Address = Ipv4Address::new(10, 9, 0, 2);
/// Length of their network's prefix.
pub const PREFIX: u8 = 24;
/// The peer's hardware address.
pub const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
/// What QEMU gives its first network card.
pub const GUEST_MAC: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

/// How often the stack looks at its timers.
const TICK: Duration = Duration::from_millis(5);
/// Bytes of each of a TCP socket's buffers.
const BUFFER: usize = 64 * 1024;

/// See the [module](self). Clones are the same peer.
#[derive(Clone)]
pub struct Peer(Arc<Shared>);

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    /// A frame has come.
    news: Condvar,
}

struct State {
    started: Instant,
    /// What the test sends, and the stack's answers.
    device: Device,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: Option<dhcp::Server>,
    dns: Option<dns::Server>,
    vanished: bool,
    /// Every frame that has come, vanished or not.
    seen: Vec<Vec<u8>>,
}

impl State {
    fn now(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros(self.started.elapsed().as_micros() as i64)
    }

    fn frame(&mut self, frame: Vec<u8>) {
        if !self.vanished || frames::is_arp(&frame) {
            let dhcp = self.dhcp.as_mut().and_then(|server| server.answer(&frame));
            match dhcp.or_else(|| self.dns.as_mut().and_then(|server| server.answer(&frame))) {
                Some(answers) => self.device.out.extend(answers),
                None => self.device.inbox.push_back(frame.clone()),
            }
        }
        self.seen.push(frame);
    }

    fn poll(&mut self) {
        let now = self.now();
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        if self.vanished {
            self.device.out.retain(|frame| frames::is_arp(frame));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Peer {
    /// Waits for one QEMU on a socket of its own.
    ///
    /// # Errors
    /// If there is no place for a socket.
    pub fn listen() -> std::io::Result<Self> {
        let (path, listener) = cable::bind()?;
        let mut device = Device::default();
        let started = Instant::now();
        let config = Config::new(HardwareAddress::Ethernet(PEER_MAC));
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addrs| {
            let _ = addrs.push(IpCidr::new(PEER.into(), PREFIX));
        });
        let state = State {
            started,
            device,
            interface,
            sockets: SocketSet::new(Vec::new()),
            dhcp: None,
            dns: None,
            vanished: false,
            seen: Vec::new(),
        };
        let shared = Arc::new(Shared { path, state: Mutex::new(state), news: Condvar::new() });
        let peer = Self(shared);
        let other = peer.clone();
        std::thread::spawn(move || {
            if let Ok(cable) = Cable::accept(&listener, TICK) {
                other.serve(cable);
            }
        });
        Ok(peer)
    }

    /// Where QEMU is to connect.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Lives until QEMU is gone.
    fn serve(&self, mut cable: Cable) {
        while let Ok(frames) = cable.receive() {
            let mut state = self.state();
            let news = !frames.is_empty();
            frames.into_iter().for_each(|f| state.frame(f));
            state.poll();
            let out = std::mem::take(&mut state.device.out);
            drop(state);
            if news {
                self.0.news.notify_all();
            }
            if out.iter().any(|frame| cable.send(frame).is_err()) {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Sends a frame made by hand, within a tick.
    pub fn send(&self, frame: Vec<u8>) {
        self.state().device.out.push_back(frame);
    }

    /// From now on the peer answers nothing but ARP; the test still sees what comes.
    pub fn vanish(&self) {
        self.state().vanished = true;
    }

    /// Serves DHCP from now on (or, with `None`, no more).
    pub fn set_dhcp(&self, server: Option<dhcp::Server>) {
        self.state().dhcp = server;
    }

    /// What the DHCP server has heard.
    pub fn dhcp_heard(&self) -> Vec<dhcp::Heard> {
        self.state().dhcp.as_ref().map(|s| s.heard.clone()).unwrap_or_default()
    }

    /// Changes the DHCP server, if there is one.
    pub fn with_dhcp(&self, change: impl FnOnce(&mut dhcp::Server)) {
        if let Some(server) = &mut self.state().dhcp {
            change(server);
        }
    }

    /// Serves names from now on.
    pub fn set_dns(&self, server: Option<dns::Server>) {
        self.state().dns = server;
    }

    /// The questions that the name server has heard: number and port.
    pub fn dns_heard(&self) -> Vec<(u16, u16)> {
        self.state().dns.as_ref().map(|s| s.heard.clone()).unwrap_or_default()
    }

    /// Changes the name server, if there is one.
    pub fn with_dns(&self, change: impl FnOnce(&mut dns::Server)) {
        if let Some(server) = &mut self.state().dns {
            change(server);
        }
    }

    /// Number of frames that have come: a place to look from with [`Self::wait`].
    pub fn mark(&self) -> usize {
        self.state().seen.len()
    }

    /// The frames that have come since `mark` and in which `find` finds something.
    pub fn found<T>(&self, mark: usize, find: impl FnMut(&[u8]) -> Option<T>) -> Vec<T> {
        let state = self.state();
        state.seen[mark..].iter().map(Vec::as_slice).filter_map(find).collect()
    }

    /// Waits until `find` finds something in a frame that has come since `mark`.
    pub fn wait<T>(
        &self,
        mark: usize,
        limit: Duration,
        mut find: impl FnMut(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let (mut at, mut state) = (mark, self.state());
        loop {
            while let Some(frame) = state.seen.get(at) {
                if let Some(found) = find(frame) {
                    return Some(found);
                }
                at += 1;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let woken = self.0.news.wait_timeout(state, left);
            state = woken.unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// Has addresses of IPv6 from now on ([`six`]).
    pub fn speak_v6(&self) {
        self.state().interface.update_ip_addrs(|addrs| {
            for address in [six::PEER, six::ROUTER] {
                let _ = addrs.push(IpCidr::new(address.into(), 64));
            }
        });
    }

    /// Connects from `port` to `to`.
    pub fn connect(&self, port: u16, to: IpEndpoint) -> Stream {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut state = self.state();
        let State { interface, sockets, .. } = &mut *state;
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // Fails for impossible addresses and open sockets only.
        socket.connect(interface.context(), to, port).expect("a fresh socket connects");
        let handle = sockets.add(socket);
        drop(state);
        Stream { peer: self.clone(), handle }
    }

    /// A TCP socket that takes one connection to `port`.
    pub fn accept(&self, port: u16) -> Stream {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // Fails for port 0 and open sockets only.
        socket.listen(IpEndpoint::from((PEER, port))).expect("a fresh socket listens");
        let handle = self.state().sockets.add(socket);
        Stream { peer: self.clone(), handle }
    }
}

/// A TCP connection of the peer.
pub struct Stream {
    peer: Peer,
    handle: SocketHandle,
}

impl Stream {
    /// Waits until `ready` makes something of the socket.
    pub fn wait<T>(
        &self,
        limit: Duration,
        mut ready: impl FnMut(&mut tcp::Socket<'static>) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(done) = ready(self.peer.state().sockets.get_mut(self.handle)) {
                return Some(done);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(TICK);
        }
    }
}
