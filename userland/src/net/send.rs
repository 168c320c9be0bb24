//! Writing to a stream.

use core::sync::atomic::Ordering::*;
use libipc::sock::{Error, State, event, option};

use super::TcpStream;

impl TcpStream {
    /// Bytes written and not acknowledged by the peer (SIOCOUTQ).
    pub fn unsent(&self) -> u32 {
        let n = (self.socket.tx_tail() as u32).wrapping_sub(self.socket.record().acknowledged());
        if n as u64 <= self.socket.tx_size() { n } else { self.socket.tx_size() as u32 }
    }

    /// Bytes written and never sent (SIOCOUTQNSD).
    pub fn not_sent(&self) -> u32 {
        let n = (self.socket.tx_tail() as u32).wrapping_sub(self.socket.record().sent());
        if n as u64 <= self.socket.tx_size() { n } else { 0 }
    }

    /// Whether the end of what was written is not acknowledged, or not even `sent`: as Linux counts, it takes the room of
    /// a byte.
    pub(crate) fn owes_end(&self, sent: bool) -> bool {
        let record = self.socket.record();
        if record.events.load(Acquire) & event::FIN_QUEUED == 0 {
            return false;
        }
        let snd = record.snd.load(Acquire);
        let up_to = if sent { (snd >> 32) as u32 } else { snd as u32 };
        let ending = [State::FinWait1, State::Closing, State::LastAck];
        ending.contains(&record.state()) && up_to != record.fin_seq.load(Acquire).wrapping_add(1)
    }

    /// Bytes that can be written now.
    pub(crate) fn try_writable(&self) -> Result<usize, Error> {
        let record = self.socket.record();
        if record.events.load(Acquire) & event::FIN_QUEUED != 0 {
            return Err(self.write_error());
        }
        match record.state() {
            State::Established | State::CloseWait => {}
            State::SynReceived if self.flows_early() => {}
            State::SynSent | State::SynReceived => return Err(Error::WouldBlock),
            _ => return Err(self.write_error()),
        }
        match self.room() {
            0 => Err(Error::WouldBlock),
            room => Ok(room),
        }
    }

    /// Free room of the send ring, as far as TCP_NOTSENT_LOWAT and SO_SNDBUF let it be filled.
    fn room(&self) -> usize {
        let lowat = self.socket.words().notsent_lowat.load(Relaxed);
        if lowat != 0 && self.not_sent() >= lowat {
            return 0;
        }
        self.socket.send_limit().saturating_sub(self.unsent() as u64) as usize
    }

    /// Whether so much room is free that writing is worth while: a third (POLLOUT).
    pub(super) fn has_much_room(&self) -> bool {
        self.room() > 0 && self.room() as u64 >= self.unsent() as u64 / 2
    }

    fn write_error(&self) -> Error {
        match self.socket.record().state() {
            State::Free => Error::ConnectionAborted,
            _ => self.take_error().unwrap_or(Error::BrokenPipe),
        }
    }

    /// Writes as much as there is room for, at least a byte.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] (non-blocking), [`Error::TimedOut`], or, once, what ended the connection;
    /// after that, and after a shutdown, [`Error::BrokenPipe`].
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        let n = self.put(bytes)?;
        self.written(self.socket.tx_tail() + n as u64);
        Ok(n)
    }

    /// As [`Self::write`]; a small segment waits for what is written next (MSG_MORE), at most 200 ms.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_more(&self, bytes: &[u8]) -> Result<usize, Error> {
        let n = self.put(bytes)?;
        if !self.opts().flag(option::MORE) {
            self.opts().set_flag(option::MORE, true);
        }
        self.socket.publish(self.socket.tx_tail() + n as u64);
        Ok(n)
    }

    /// As [`Self::write`]; the last byte is urgent (MSG_OOB).
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_urgent(&self, bytes: &[u8]) -> Result<usize, Error> {
        let n = self.put(bytes)?;
        let tail = self.socket.tx_tail() + n as u64;
        self.socket.words().tx_urgent.store(tail as u32, Relaxed);
        self.opts().set_flag(option::URGENT, true);
        self.written(tail);
        Ok(n)
    }

    /// Copies as much as there is room for behind what was published.
    fn put(&self, bytes: &[u8]) -> Result<usize, Error> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = self.socket.retry(self.socket.write_timeout.get(), || self.try_writable())?;
        let n = room.min(bytes.len());
        self.socket.copy_in(self.socket.tx_tail(), &bytes[..n])?;
        Ok(n)
    }

    /// Publishes what was written up to `tail`.
    pub(super) fn written(&self, tail: u64) {
        if self.opts().flag(option::MORE) {
            self.opts().set_flag(option::MORE, false);
        }
        self.socket.publish(tail);
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_all(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.write(rest)?;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// Lets `f` produce up to `max` bytes right in the send ring; returns how many it did. `f` is
    /// called once or, where the ring's end lies between, twice, and says how much it filled.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_with(
        &self,
        max: usize,
        mut f: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<usize, Error> {
        let room = self.socket.retry(self.socket.write_timeout.get(), || self.try_writable())?;
        let tail = self.socket.tx_tail();
        let n = self.socket.fill(tail, room.min(max), &mut f)?;
        if n > 0 {
            self.written(tail + n as u64);
        }
        Ok(n)
    }
}
