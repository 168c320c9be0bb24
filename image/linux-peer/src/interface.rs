//! The address of a network interface, by the classic requests (netdevice(7)).

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use crate::Result;

/// Gives `name` an address and switches it on.
pub fn up(name: &str, address: Ipv4Addr, mask: Ipv4Addr) -> Result<()> {
    // Any socket will do to carry the requests.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let empty = libc::__c_anonymous_ifr_ifru { ifru_flags: 0 };
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: empty };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_addr = ipv4(address);
    ask(&socket, libc::SIOCSIFADDR, &mut request)?;
    request.ifr_ifru.ifru_addr = ipv4(mask);
    ask(&socket, libc::SIOCSIFNETMASK, &mut request)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ask(&socket, libc::SIOCSIFFLAGS, &mut request)
}

/// `struct sockaddr_in` in the shape of `struct sockaddr`: port, address, padding.
fn ipv4(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn ask(socket: &UdpSocket, what: libc::Ioctl, request: &mut libc::ifreq) -> Result<()> {
    // SAFETY: the three requests used here read a `struct ifreq`, which `request` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) };
    if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
}
