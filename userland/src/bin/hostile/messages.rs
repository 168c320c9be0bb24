//! Lies in messages: to sockd, and to netd and init, which it may only ask how things are.

use abi::{MsgInfo, Syscall};
use core::net::SocketAddr;
use libipc::msg::{self, VERSION, interface};
use libipc::net::{self, SockId};
use libipc::permission::Permission;
use libipc::proc::{self, Crash};
use libipc::sock::{Dgram, Error, Kind, REPEATED, Reply, Request};

use super::liar::{ECHO, Liar, RING, SOCKETS, made, refused};
use super::{Tell, Told, Why, raw};

/// By name.
pub const TELL: &[(&str, Tell)] = &[
    ("message-empty", |l| nonsense(l, l.info(0), &[])),
    ("message-junk", |l| nonsense(l, l.info(1024), &[0xff; 1024])),
    // `Bind` with half an address.
    ("message-cut", |l| nonsense(l, l.info(3), &[2, 0, 0])),
    // `Stats`, and more.
    ("message-trailing", |l| nonsense(l, l.info(2), &[stats(), 0])),
    ("message-unknown", |l| nonsense(l, l.info(1), &[99])),
    ("message-interface", |l| nonsense(l, MsgInfo::new(interface::PROC, VERSION, 1, 1), &[5])),
    ("message-version", |l| nonsense(l, MsgInfo::new(interface::SOCK, 9, 1, 1), &[stats()])),
    ("message-unanswered", |l| {
        raw::payload(&[0xff; 8]);
        raw::syscall(Syscall::Send as u64, l.sockd, l.info(8).0, [0; 4], 0);
        Ok(())
    }),
    ("message-too-long", |l| {
        let long = MsgInfo::new(interface::SOCK, VERSION, 1, 4095);
        let error = raw::syscall(Syscall::Call as u64, l.sockd, long.0, [0; 4], 0);
        require(error == abi::Error::Range as u64, "the kernel took it")
    }),
    ("message-kernel-bits", |l| {
        let info = MsgInfo(l.info(1).0 | MsgInfo::SIGNAL | MsgInfo::FAULT | MsgInfo::KERNEL_BITS);
        answered(l.message(info, &[stats()])?)
    }),
    ("message-capabilities", |l| {
        raw::send_caps([1, 2, 3]);
        answered(l.message(l.info(1).with_caps(3), &[stats()])?)
    }),
    ("send-flood", |l| {
        for _ in 0..300 {
            raw::payload(&[stats()]);
            raw::syscall(Syscall::Send as u64, l.sockd, l.info(1).0, [0; 4], 0);
        }
        Ok(())
    }),
    ("rings-huge", |l| {
        let huge = Request::Socket { kind: Kind::Tcp, tx: u32::MAX, rx: u32::MAX };
        refused(l.ask(huge), Error::NoBuffers)
    }),
    ("kind-listener", |l| {
        let request = Request::Socket { kind: Kind::Listener, tx: RING, rx: RING };
        refused(l.ask(request), Error::Invalid)
    }),
    ("id-huge", |l| refused(l.ask(Request::Close { id: u32::MAX, abort: true }), Error::BadSocket)),
    ("id-of-nobody", ids_of_nobody),
    ("id-stale", |l| {
        let sock = l.socket(Kind::Udp)?;
        l.ask(Request::Close { id: sock.id, abort: false })?;
        for request in [
            Request::Close { id: sock.id, abort: true },
            Request::Shutdown { id: sock.id, how: 2 },
            Request::Addresses { id: sock.id },
        ] {
            refused(l.ask(request), Error::BadSocket)?;
        }
        Ok(())
    }),
    ("call-repeated", |l| {
        let first = l.socket(Kind::Udp)?;
        let request = Request::Socket { kind: Kind::Udp, tx: RING, rx: RING };
        for _ in 0..100 {
            let number = l.last_number() | REPEATED;
            let reply: Result<Reply, Error> =
                msg::call(l.sockd, interface::SOCK, number, &request).unwrap_or(Err(Error::Server));
            require(reply.and_then(made)?.id == first.id, "it made another socket")?;
        }
        Ok(())
    }),
    ("shutdown-how", |l| {
        refused(l.ask(Request::Shutdown { id: l.honest.id, how: 200 }), Error::Invalid)
    }),
    ("bind-twice", |l| {
        let sock = l.socket(Kind::Udp)?;
        let addr = l.at;
        require(addr.port() != 0, "it has no port")?;
        // Its own free port is not among those listed: another listed one, twice.
        let (a, b) = (l.socket(Kind::Tcp)?, l.socket(Kind::Tcp)?);
        let addr = SocketAddr::from(([0, 0, 0, 0], 7200));
        l.ask(Request::Bind { id: a.id, addr })?;
        refused(l.ask(Request::Bind { id: b.id, addr }), Error::AddrInUse)?;
        refused(l.ask(Request::Bind { id: a.id, addr }), Error::Invalid)?;
        l.ask(Request::Close { id: sock.id, abort: true })?;
        Ok(())
    }),
    ("address-nonsense", |l| {
        let sock = l.socket(Kind::Tcp)?;
        for (addr, error) in [
            (SocketAddr::from(([224, 0, 0, 1], 9)), Error::NetworkUnreachable),
            (SocketAddr::from(([0xff02, 0, 0, 0, 0, 0, 0, 1], 9)), Error::NetworkUnreachable),
        ] {
            refused(l.ask(Request::Connect { id: sock.id, addr }), error)?;
        }
        let addr = SocketAddr::from(([1, 2, 3, 4], 7201));
        refused(l.ask(Request::Bind { id: sock.id, addr }), Error::AddrNotAvailable)?;
        let (datagrams, addr) = (l.socket(Kind::Udp)?, SocketAddr::from(([127, 0, 0, 1], 0)));
        refused(l.ask(Request::Connect { id: datagrams.id, addr }), Error::Invalid)
    }),
    ("bind-forbidden", |l| {
        let sock = l.socket(Kind::Tcp)?;
        let addr = SocketAddr::from(([0, 0, 0, 0], 80));
        let lacking = Error::NotPermitted(Permission::Bind);
        refused(l.ask(Request::Bind { id: sock.id, addr }), lacking)
    }),
    ("ping-forbidden", |l| {
        let request = Request::Socket { kind: Kind::Ping, tx: RING, rx: RING };
        refused(l.ask(request), Error::NotPermitted(Permission::Ping))
    }),
    ("broadcast-forbidden", |l| {
        let sock = l.socket(Kind::Udp)?;
        let lacking = Error::NotPermitted(Permission::Broadcast);
        let addr = SocketAddr::from(([255, 255, 255, 255], ECHO));
        refused(l.ask(Request::Connect { id: sock.id, addr }), lacking)?;
        l.send(sock, Dgram::new(Some(addr), 0), 0);
        let record = l.mem.record(sock.id);
        require(l.wait(|| record.error() == Some(lacking)), "the datagram was not refused")
    }),
    ("netd-close", |l| {
        for session in 0..8 {
            for id in 0..SOCKETS as u16 {
                let sock = SockId { session, id };
                netd_refuses(l, net::Request::Close { sock, abort: true })?;
            }
        }
        Ok(())
    }),
    ("netd-end-session", |l| {
        for session in 0..40 {
            netd_refuses(l, net::Request::EndSession { session })?;
        }
        Ok(())
    }),
    ("netd-junk", |l| {
        let netd = l.start.cap("netd").ok_or(Why::Says("the manifest gives no `netd`"))?;
        raw::payload(&[0xff; 64]);
        let junk = MsgInfo::new(interface::NET, VERSION, 1, 64);
        let error = raw::syscall(Syscall::Call as u64, netd, junk.0, [0; 4], 0);
        require(error == 0, "netd did not answer")
    }),
    ("init-kill", |l| {
        let name = libipc::Name::try_from("netd").map_err(|_| Why::Says("a long name"))?;
        for request in [
            proc::Request::Kill(name.clone()),
            proc::Request::Restart(name.clone()),
            proc::Request::Crash(name, Crash::Panic),
        ] {
            init_refuses(l, request)?;
        }
        Ok(())
    }),
    ("init-power-off", |l| init_refuses(l, proc::Request::PowerOff)),
    ("init-junk", |l| {
        let init = l.start.cap("init").ok_or(Why::Says("the manifest gives no `init`"))?;
        raw::payload(&[0xff; 64]);
        let junk = MsgInfo::new(interface::PROC, VERSION, 1, 64);
        let error = raw::syscall(Syscall::Call as u64, init, junk.0, [0; 4], 0);
        require(error == 0, "init did not answer")
    }),
    ("init-list-far", |l| match init(l, proc::Request::List { skip: u32::MAX })? {
        Ok(proc::Reply::Processes(list)) => require(list.is_empty(), "it lists somebody"),
        _ => Err(Why::Says("init refused")),
    }),
];

/// `Request::Stats` in a message.
fn stats() -> u8 {
    let mut bytes = [0; 4];
    let _ = postcard::to_slice(&Request::Stats, &mut bytes);
    bytes[0]
}

/// A condition that must hold.
pub fn require(holds: bool, otherwise: &'static str) -> Told {
    if holds { Ok(()) } else { Err(Why::Says(otherwise)) }
}

fn nonsense(l: &mut Liar, info: MsgInfo, payload: &[u8]) -> Told {
    let reply = l.message(info, payload)?;
    refused(reply, Error::Protocol)
}

/// `Stats` was understood.
fn answered(reply: Result<Reply, Error>) -> Told {
    match reply {
        Ok(Reply::Stats(_)) => Ok(()),
        other => Err(Why::Other(other.err())),
    }
}

fn ids_of_nobody(l: &mut Liar) -> Told {
    let honest = l.honest.id;
    for id in (0..300).chain([4095, 4096, 65_536, 1 << 31]).filter(|id| *id != honest) {
        let addr = SocketAddr::from(([127, 0, 0, 1], ECHO));
        for request in [
            Request::Close { id, abort: true },
            Request::Accept { id },
            Request::Connect { id, addr },
            Request::Listen { id, backlog: 1, tx: 0, rx: 0 },
        ] {
            refused(l.ask(request), Error::BadSocket)?;
        }
    }
    Ok(())
}

fn netd_refuses(l: &Liar, request: net::Request) -> Told {
    let netd = l.start.cap("netd").ok_or(Why::Says("the manifest gives no `netd`"))?;
    let reply: net::Result<net::Reply> = msg::call(netd, interface::NET, 0, &request)
        .map_err(|_| Why::Says("netd does not answer"))?;
    match reply {
        Err(Error::NotPermitted(Permission::Control)) => Ok(()),
        other => Err(Why::Other(other.err())),
    }
}

fn init(l: &Liar, request: proc::Request) -> Result<Result<proc::Reply, proc::Error>, Why> {
    let init = l.start.cap("init").ok_or(Why::Says("the manifest gives no `init`"))?;
    msg::call(init, interface::PROC, 0, &request).map_err(|_| Why::Says("init does not answer"))
}

fn init_refuses(l: &Liar, request: proc::Request) -> Told {
    let refused = Err(proc::Error::NotPermitted(Permission::Init));
    require(init(l, request)? == refused, "init did not refuse")
}
