//! Reading from a stream, and its urgent data (RFC 6093, RFC 9293 3.8.5) in Linux's manner: one byte,
//! taken out of the stream unless `SO_OOBINLINE` is on.

use core::sync::atomic::Ordering::*;
use libipc::sock::{Error, State, event, option};

use super::TcpStream;

/// Bytes that can be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Count of the first.
    from: u64,
    /// How many; 0: the stream has ended.
    len: usize,
}

impl Span {
    /// How many.
    pub fn len(self) -> usize {
        self.len
    }
}

impl TcpStream {
    /// Reads what is there, at least a byte; 0 at the end of the peer's stream.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] (non-blocking), [`Error::TimedOut`], or, once, what ended the connection;
    /// after that the stream has an end.
    pub fn read(&self, into: &mut [u8]) -> Result<usize, Error> {
        self.receive(into, true)
    }

    /// As [`Self::read`], leaving the bytes in place.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn peek(&self, into: &mut [u8]) -> Result<usize, Error> {
        self.receive(into, false)
    }

    /// Whether the stack hears of every read, not just of those that matter to a bulk transfer: then ACKs
    /// and windows that wait for the program to read leave at once, as on Linux. Costs a signal a read.
    pub fn set_eager(&self, on: bool) {
        self.socket.eager.set(on);
    }

    fn receive(&self, into: &mut [u8], take: bool) -> Result<usize, Error> {
        if into.is_empty() {
            return Ok(0);
        }
        let least = self.least(into.len());
        let span = self.readable(least)?;
        self.copy(span, into, take)
    }

    /// How many bytes a blocking read of up to `max` waits for (SO_RCVLOWAT).
    fn least(&self, max: usize) -> usize {
        let lowat = self.socket.words().rcv_lowat.load(Relaxed) as usize;
        if self.socket.nonblocking.get() { 1 } else { lowat.clamp(1, max.max(1)) }
    }

    fn readable(&self, least: usize) -> Result<Span, Error> {
        self.socket.retry(self.socket.read_timeout.get(), || self.try_span(least))
    }

    fn copy(&self, span: Span, into: &mut [u8], take: bool) -> Result<usize, Error> {
        let n = span.len.min(into.len());
        self.socket.copy_out(span.from, &mut into[..n])?;
        if take && n > 0 {
            self.socket.read_up_to(span.from + n as u64);
        }
        Ok(n)
    }

    /// As [`Self::read`] (`take`) or [`Self::peek`] without ever waiting, and only if at least `least`
    /// bytes have come, or no more will.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn try_read(&self, into: &mut [u8], least: usize, take: bool) -> Result<usize, Error> {
        let span = self.try_span(least)?;
        self.copy(span, into, take)
    }

    /// Takes up to `max` bytes without looking at them, as [`Self::read`] into a buffer that nobody
    /// needs (MSG_TRUNC); 0 at the end of the peer's stream.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn skip(&self, max: usize) -> Result<usize, Error> {
        let span = self.readable(self.least(max))?;
        let n = span.len.min(max);
        if n > 0 {
            self.socket.read_up_to(span.from + n as u64);
        }
        Ok(n)
    }

    /// Writes up to `max` of the bytes that have arrived back to the peer, from ring to ring; how
    /// many, 0 at the end of the peer's stream.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::write`].
    pub fn echo(&self, max: usize) -> Result<usize, Error> {
        let span = self.readable(1)?;
        if span.len == 0 {
            return Ok(0);
        }
        let room = self.socket.retry(self.socket.write_timeout.get(), || self.try_writable())?;
        let n = span.len.min(room).min(max);
        let tail = self.socket.tx_tail();
        self.socket.copy_across(span.from, tail, n)?;
        self.socket.read_up_to(span.from + n as u64);
        self.written(tail + n as u64);
        Ok(n)
    }

    /// Fills the whole of `into` (MSG_WAITALL).
    ///
    /// # Errors
    /// As [`Self::read`]; [`Error::ConnectionReset`] if the stream ends before.
    pub fn read_exact(&self, into: &mut [u8]) -> Result<(), Error> {
        let mut at = 0;
        while at < into.len() {
            match self.read(&mut into[at..])? {
                0 => return Err(Error::ConnectionReset),
                n => at += n,
            }
        }
        Ok(())
    }

    /// Bytes that can be read now.
    pub(crate) fn try_readable(&self) -> Result<usize, Error> {
        self.try_span(1).map(Span::len)
    }

    /// What can be read now if it is at least `least` bytes, or the end is near.
    fn try_span(&self, least: usize) -> Result<Span, Error> {
        // In this order: when these words say that all has arrived, `unread` counts it in full.
        let record = self.socket.record();
        let events = record.events.load(Acquire);
        let state = record.state();
        let span = self.arrived();
        if span.len >= least.max(1) {
            return Ok(span);
        }
        let ended = events & event::PEER_FIN != 0
            || self.read_ended.get()
            || matches!(state, State::Closed | State::Free);
        match state {
            _ if span.len > 0 && ended => Ok(span),
            _ if events & event::PEER_FIN != 0 => Ok(span),
            State::Free => Err(self.socket.ended()),
            State::Closed => self.take_error().map_or(Ok(span), Err),
            _ if self.read_ended.get() => Ok(span),
            State::Open | State::Listen => Err(Error::NotConnected),
            _ => Err(Error::WouldBlock),
        }
    }

    /// What has arrived and can be read in one piece.
    pub(super) fn arrived(&self) -> Span {
        let span = Span { from: self.socket.rx_head(), len: self.unread() as usize };
        if self.socket.record().events.load(Acquire) & event::URGENT != 0 {
            return self.around_urgent(span);
        }
        span
    }

    /// Bytes that have arrived and were not read.
    pub fn unread(&self) -> u32 {
        let n = self.socket.record().received().wrapping_sub(self.socket.rx_head() as u32);
        // More than the ring holds is netd's mistake, not our panic.
        if n as u64 <= self.socket.rx_size() { n } else { 0 }
    }

    /// What SIOCINQ says: [`Self::unread`], but only up to the mark of urgent data.
    pub fn readable_bytes(&self) -> u32 {
        let unread = self.unread();
        match self.urgent() {
            Some(mark) if !self.opts().flag(option::OOBINLINE) && mark < unread => mark,
            _ => unread,
        }
    }

    /// Whether the peer has ended its direction or the connection is over: further data can only
    /// be what [`Self::unread`] counts.
    pub fn peer_has_ended(&self) -> bool {
        let record = self.socket.record();
        record.events.load(Acquire) & event::PEER_FIN != 0
            || matches!(record.state(), State::Closed | State::Free)
    }

    /// How many bytes before the last urgent one have not been read, if it has not been passed. It may
    /// not have arrived yet.
    fn urgent(&self) -> Option<u32> {
        let record = self.socket.record();
        if record.events.load(Acquire) & event::URGENT == 0 {
            return None;
        }
        let mark = record.pending.load(Acquire).wrapping_sub(self.socket.rx_head() as u32);
        (mark as i32 >= 0).then_some(mark)
    }

    /// Reads stop before the urgent byte; one that begins at it leaves it out unless it is in line.
    #[cold]
    fn around_urgent(&self, span: Span) -> Span {
        match self.urgent() {
            Some(0) if span.len > 0 && !self.opts().flag(option::OOBINLINE) => {
                Span { from: span.from + 1, len: span.len - 1 }
            }
            Some(mark @ 1..) => Span { len: span.len.min(mark as usize), ..span },
            _ => span,
        }
    }

    /// The urgent byte (MSG_OOB). `take`: it can be read no second time.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, it was read, or it is in line (SO_OOBINLINE);
    /// [`Error::WouldBlock`] if it is announced and has not arrived, at a blocking socket, too;
    /// [`Error::NotConnected`].
    pub fn read_urgent(&self, take: bool) -> Result<u8, Error> {
        let mark = self.urgent().ok_or(Error::Invalid)?;
        let at = self.socket.rx_head() + mark as u64;
        if self.opts().flag(option::OOBINLINE) || self.urgent_taken.get() == Some(at as u32) {
            return Err(Error::Invalid);
        }
        if mark >= self.unread() {
            return Err(Error::WouldBlock);
        }
        let mut byte = [0];
        self.socket.copy_out(at, &mut byte)?;
        if take {
            self.urgent_taken.set(Some(at as u32));
        }
        Ok(byte[0])
    }

    /// Passes an urgent byte that is all there is: a read that finds nothing else does that (Linux's
    /// `tcp_recvmsg`), and it is neither at the mark then nor can the byte be read out of band.
    pub(crate) fn pass_urgent(&self) {
        let out_of_band = !self.opts().flag(option::OOBINLINE);
        if self.urgent() == Some(0) && out_of_band && self.unread() == 1 {
            self.socket.read_up_to(self.socket.rx_head() + 1);
        }
    }

    /// Whether the next byte to be read is the urgent one (SIOCATMARK).
    pub fn at_mark(&self) -> bool {
        self.urgent() == Some(0)
    }

    /// Whether [`Self::read_urgent`] would succeed, in line or not (POLLPRI).
    pub fn has_urgent(&self) -> bool {
        let Some(mark) = self.urgent() else { return false };
        let at = (self.socket.rx_head() as u32).wrapping_add(mark);
        mark < self.unread() && self.urgent_taken.get() != Some(at)
    }
}
