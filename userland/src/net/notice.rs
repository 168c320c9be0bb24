//! What became of datagrams: Linux's error queue (IP_RECVERR, MSG_ERRQUEUE), and what a datagram is
//! told to be sent with.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::*;
use libipc::sock::{Dgram, Error, Notice, ip_from_words, ip_words, scoped};

use super::UdpSocket;
use super::socket::Socket;

/// Most entries of an error queue; what comes then is lost, as when a receive ring is full.
const MOST: usize = 64;

/// An entry of the error queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// What happened.
    pub notice: Notice,
    /// Where the datagram was to go.
    pub to: SocketAddr,
    /// Who says so.
    pub by: IpAddr,
    /// As much of the datagram's payload as is known.
    pub data: Vec<u8>,
}

/// With what a datagram is sent, where that is not the socket's (IP_PKTINFO, IP_TTL, IP_TOS as control
/// messages).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ancillary {
    /// Own address.
    pub source: Option<IpAddr>,
    /// Time to live, hop limit.
    pub ttl: Option<u8>,
    /// Type of service, traffic class.
    pub tos: Option<u8>,
    /// Number of the interface to leave by.
    pub device: Option<u8>,
}

impl Ancillary {
    pub(super) fn header(&self, to: Option<SocketAddr>, len: usize) -> Dgram {
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        let to = to.map(|to| self.device.map_or(to, |number| scoped(to, number)));
        let addressed = Dgram::new(to, len as u16);
        Dgram {
            ttl: self.ttl.unwrap_or(0),
            tos: self.tos.unwrap_or(0),
            flags: flag(self.tos.is_some(), Dgram::TOS)
                | flag(self.source.is_some(), Dgram::SOURCE)
                | flag(self.device.is_some(), Dgram::DEVICE)
                | addressed.flags,
            interface: self.device.unwrap_or(addressed.interface),
            local: self.source.map_or([0; 2], ip_words),
            ..addressed
        }
    }
}

impl Socket {
    /// Takes what lies in the receive ring for the error queue out of it, wherever it is.
    pub(super) fn gather_notices(&self) {
        let tail = self.record().dgram_rx_tail();
        let mut at = self.gathered.get().max(self.rx_head());
        while tail.wrapping_sub(at) >= Dgram::BYTES as u64 && at < tail {
            let mut header = [0; Dgram::BYTES];
            if self.copy_out(at, &mut header).is_err() {
                return;
            }
            let header = Dgram::from_bytes(&header);
            let space = Dgram::space(header.len as usize);
            // Nonsense is for who reads to find.
            if space > tail - at {
                return;
            }
            if header.flags & Dgram::NOTICE != 0 && header.len as usize >= Notice::BYTES {
                self.keep_notice(at + Dgram::BYTES as u64, &header);
            }
            at += space;
            self.gathered.set(at);
        }
    }

    fn keep_notice(&self, at: u64, header: &Dgram) {
        let mut queue = self.notices.borrow_mut();
        let mut notice = [0; Notice::BYTES];
        let mut data = alloc::vec![0; header.len as usize - Notice::BYTES];
        let known = self.copy_out(at, &mut notice).is_ok()
            && self.copy_out(at + Notice::BYTES as u64, &mut data).is_ok();
        if known && queue.len() < MOST {
            queue.push_back(Undelivered {
                notice: Notice::from_bytes(&notice),
                to: SocketAddr::new(ip_from_words(header.ip), header.port),
                by: ip_from_words(header.local),
                data,
            });
        }
    }
}

impl UdpSocket {
    /// The next entry of the error queue, which is filled with [`option::RECVERR`] alone. As on Linux it
    /// takes the error with it that calls would tell, and the next entry's takes its place.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if it is empty.
    ///
    /// [`option::RECVERR`]: libipc::sock::option::RECVERR
    pub fn take_undelivered(&self) -> Result<Undelivered, Error> {
        self.socket.gather_notices();
        let entry = self.socket.notices.borrow_mut().pop_front().ok_or(Error::WouldBlock)?;
        if self.socket.notices.borrow().is_empty() {
            self.socket.told_errors.set(self.socket.record().events.load(Acquire));
        }
        Ok(entry)
    }

    /// Whether [`Self::take_undelivered`] has one.
    pub fn has_undelivered(&self) -> bool {
        self.socket.gather_notices();
        !self.socket.notices.borrow().is_empty()
    }

    /// Adds an entry of this host's own: a datagram that no call could send.
    pub(crate) fn add_undelivered(&self, entry: Undelivered) {
        let mut queue = self.socket.notices.borrow_mut();
        if queue.len() < MOST {
            queue.push_back(entry);
        }
    }

    /// As [`Self::send_to_with`], to `to` or the connected peer, with `how` beside the socket's options.
    ///
    /// # Errors
    /// As [`Self::send_to`].
    pub fn send_msg_with(
        &self,
        to: Option<SocketAddr>,
        how: &Ancillary,
        len: usize,
        mut f: impl FnMut(&mut [u8]),
    ) -> Result<(), Error> {
        let timeout = self.socket.write_timeout.get();
        let header = how.header(to, len);
        self.socket.retry(timeout, || self.socket.try_put(&header, len, &mut f))
    }
}
