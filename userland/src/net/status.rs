//! What a stream is about: errors, readiness, figures, and its lingering end.

use core::sync::atomic::Ordering::*;
use core::time::Duration;
use libipc::sock::{Error, Kind, Reply, Request, State, TcpInfo, event};

use super::socket::Socket;
use super::{TcpStream, UdpSocket};

/// Linux's bits of `poll`.
pub mod pollbits {
    /// There is something to read.
    pub const IN: u16 = 1;
    /// There is an urgent byte.
    pub const PRI: u16 = 2;
    /// There is room to write.
    pub const OUT: u16 = 4;
    /// There is an error to be told.
    pub const ERR: u16 = 8;
    /// Both directions are over.
    pub const HUP: u16 = 0x10;
    /// The peer's direction is over.
    pub const RDHUP: u16 = 0x2000;
}

impl TcpStream {
    /// What ended the connection, once (SO_ERROR): whatever call tells it first, no other does.
    pub fn take_error(&self) -> Option<Error> {
        let error = self.socket.record().error();
        if self.socket.reported.replace(error) == error { None } else { error }
    }

    /// What `poll` says on Linux, in [`pollbits`].
    pub fn poll_bits(&self) -> u16 {
        use pollbits::*;
        let record = self.socket.record();
        let events = record.events.load(Acquire);
        let state = record.state();
        let over = matches!(state, State::Closed | State::Free);
        let receive_shut = over || events & event::PEER_FIN != 0 || self.read_ended.get();
        let send_shut = over || events & event::FIN_QUEUED != 0;
        let mut bits = 0;
        if record.error().is_some_and(|e| self.socket.reported.get() != Some(e)) {
            bits |= ERR;
        }
        if receive_shut && send_shut || state == State::Open {
            bits |= HUP;
        }
        if receive_shut {
            bits |= IN | RDHUP;
        }
        if matches!(state, State::SynSent | State::SynReceived) && !self.flows_early() {
            return bits;
        }
        let lowat = self.socket.words().rcv_lowat.load(Relaxed).max(1);
        if self.arrived().len() >= lowat as usize {
            bits |= IN;
        }
        if send_shut || self.has_much_room() {
            bits |= OUT;
        }
        if self.has_urgent() {
            bits |= PRI;
        }
        bits
    }

    /// State and figures of the connection (TCP_INFO).
    ///
    /// # Errors
    /// sockd's.
    pub fn tcp_info(&self) -> Result<TcpInfo, Error> {
        self.socket.info()
    }

    /// After [`TcpStream::shutdown`]: whether the peer has everything, our end included.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] while it has not.
    pub fn try_lingered(&self) -> Result<(), Error> {
        self.socket.try_lingered()
    }
}

impl UdpSocket {
    /// The longest packet that the path to the connected peer carries, as far as known, bytes (IP_MTU).
    ///
    /// # Errors
    /// sockd's.
    pub fn path_mtu(&self) -> Result<u32, Error> {
        Ok(self.socket.info()?.pmtu)
    }
}

impl Socket {
    fn info(&self) -> Result<TcpInfo, Error> {
        match self.rt.call(&Request::TcpInfo { id: self.id })? {
            Reply::TcpInfo(info) => Ok(info),
            _ => Err(Error::Server),
        }
    }

    fn try_lingered(&self) -> Result<(), Error> {
        match self.record().state() {
            State::FinWait1 | State::Closing | State::LastAck => Err(Error::WouldBlock),
            _ => Ok(()),
        }
    }

    /// Ends sending, and waits until the peer has everything, at most for `limit` (SO_LINGER). Does
    /// nothing to what was not read: closing resets the connection then.
    pub fn linger_for(&self, limit: Duration) {
        let record = self.record();
        let stream = record.kind.load(Relaxed) == Kind::Tcp as u16;
        if !stream || record.received() != self.rx_head() as u32 {
            return;
        }
        if self.rt.call(&Request::Shutdown { id: self.id, how: 1 }).is_err() {
            return;
        }
        let deadline = self.rt.now() + limit;
        while self.try_lingered().is_err() {
            if self.rt.wait_for(self.id, Some(deadline)).is_err() {
                return;
            }
        }
    }
}
