//! Data that goes with the SYN (RFC 7413): to servers that gave a cookie before, or take data without.
//! Servers have it by `opts().set_fast_open_queue`.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::{Acquire, Release};
use libipc::sock::{Error, FastOpen, Kind, Reply, Request, event, flags};

use super::socket::Socket;
use super::{Options, TcpStream};
use crate::runtime::Runtime;

impl TcpStream {
    /// Connects and writes all of `bytes`, as many with the SYN as that may take along. The peer may get
    /// those twice if the network repeats a SYN: send only what does no harm so (RFC 7413 2.1).
    ///
    /// # Errors
    /// As [`Self::connect_with`] and [`Self::write_all`].
    pub fn connect_with_data(
        rt: &'static Runtime,
        addr: SocketAddr,
        options: Options,
        bytes: &[u8],
    ) -> Result<Self, Error> {
        let socket = Socket::open(rt, Kind::Tcp, options.tx, options.rx)?;
        socket.set_user_timeout(options.user_timeout);
        let stream = Self::new(socket);
        let mut from = bytes;
        let mut copy = |to: &mut [u8]| {
            let (now, later) = from.split_at(to.len());
            to.copy_from_slice(now);
            from = later;
            to.len()
        };
        let gone = stream.begin_fast(addr, bytes.len(), &mut copy, FastOpen::Waits)?;
        stream.socket.retry(options.connect_timeout, || stream.try_connected())?;
        stream.write_all(&bytes[gone.unwrap_or(0)..])?;
        Ok(stream)
    }

    /// Begins to connect; `copy` fills the room for up to `len` bytes, of which so many are written then as
    /// this yields. `None`: nothing has begun, as data may come later ([`FastOpen::Defer`]).
    pub(crate) fn begin_fast(
        &self,
        addr: SocketAddr,
        len: usize,
        copy: &mut dyn FnMut(&mut [u8]) -> usize,
        how: FastOpen,
    ) -> Result<Option<usize>, Error> {
        let s = &self.socket;
        let data = s.fill(0, len.min(u16::MAX as usize), copy)?;
        let request = Request::FastOpen { id: s.id, addr, data: data as u16, how };
        if s.rt.call(&request)? == Reply::Deferred {
            return Ok(None);
        }
        // What netd says has left, or may leave at any moment, is written.
        let gone = s.record().sent() as usize;
        let gone = if gone <= data { gone } else { 0 };
        s.words().tx_tail.store(gone as u64, Release);
        s.rt.submit(s.id);
        Ok(Some(gone))
    }

    /// Whether it was accepted before its handshake was complete: data flows already.
    pub(super) fn flows_early(&self) -> bool {
        let record = self.socket.record();
        record.events.load(Acquire) & event::FAST_OPEN != 0
            && record.flags.load(Acquire) & flags::PASSIVE != 0
    }
}
