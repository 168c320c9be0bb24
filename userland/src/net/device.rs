//! Interfaces: sockets that are bound to one (SO_BINDTODEVICE, and link-local addresses of IPv6 with their scope ids).
//! Number 1 is the loop, from 2 on they are network cards: `lo`, `eth0`, `eth1`, ….

use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{Dgram, Error, On, Reply, Request, needs_scope, scope_of, scoped};

use super::socket::Socket;
use crate::runtime::Runtime;

/// The number of the interface of this name, were there one.
pub fn device_number(name: &str) -> Option<u8> {
    match name.strip_prefix("eth") {
        Some(place) => place.parse::<u8>().ok()?.checked_add(Dgram::NIC),
        None => (name == "lo").then_some(Dgram::LOOP),
    }
}

/// The number of the interface that is named, if it is there.
///
/// # Errors
/// [`Error::NoDevice`].
pub fn find_device(rt: &'static Runtime, on: On) -> Result<u8, Error> {
    match rt.call(&Request::FindDevice { on })? {
        Reply::Device(number) => Ok(number),
        _ => Err(Error::Server),
    }
}

impl Socket {
    /// The number of the interface that it is bound to; 0: to none.
    pub fn device(&self) -> u8 {
        self.record().interface.load(Relaxed) as u8
    }

    pub fn bind_device(&self, number: u8) -> Result<(), Error> {
        if self.device() == number {
            return Ok(());
        }
        self.rt.call(&Request::BindDevice { id: self.id, number }).map(|_| ())
    }

    /// Binds it to the interface that `addr` names, if it names one.
    pub fn enter_scope(&self, addr: SocketAddr) -> Result<(), Error> {
        match scope_of(addr) {
            0 => Ok(()),
            number => self.bind_device(number),
        }
    }

    /// `addr` with the scope id of its interface.
    pub fn in_scope(&self, addr: SocketAddr) -> SocketAddr {
        if needs_scope(addr.ip()) { scoped(addr, self.device()) } else { addr }
    }
}

macro_rules! bound {
    ($($socket:ty),*) => {$(
        impl $socket {
            /// Binds it to an interface (SO_BINDTODEVICE): it gets what comes by that alone, and sends by it. 0: to none
            /// any more.
            ///
            /// # Errors
            /// [`Error::NoDevice`]: there is none of this number.
            pub fn bind_device(&self, number: u8) -> Result<(), Error> {
                self.socket.bind_device(number)
            }

            /// The number of the interface that it is bound to, by [`Self::bind_device`] or by an address that only
            /// a link knows; 0: to none.
            pub fn device(&self) -> u8 {
                self.socket.device()
            }
        }
    )*};
}
bound!(super::TcpStream, super::TcpListener, super::UdpSocket, super::Ping, super::RawSocket);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_are_linuxs() {
        for (name, number) in [
            ("lo", Some(1)),
            ("eth0", Some(2)),
            ("eth3", Some(5)),
            ("eth255", None),
            ("eth", None),
            ("wlan0", None),
            ("", None),
        ] {
            assert_eq!(device_number(name), number, "{name}");
        }
    }
}
