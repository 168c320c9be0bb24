//! MSG_FASTOPEN and TCP_FASTOPEN_CONNECT (RFC 7413).

use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use libipc::sock::{FastOpen, option};

use super::Result;
use super::data::Data;
use super::numbers::{Errno, msg};
use super::options::Settings;
use super::stream::{Phase, Stream};

impl Stream {
    /// Whether a call that sends may have to connect.
    pub fn is_fast(&self, flags: i32) -> bool {
        let deferred = matches!(self.phase, Phase::Deferred(_)) || self.went.is_some();
        deferred || flags & msg::FASTOPEN != 0
    }

    /// Begins to connect, or does not yet, since data can go along: `true`.
    pub fn defers(&mut self, to: SocketAddr, set: &Settings, rings: (u32, u32)) -> Result<bool> {
        let stream = self.open(set, rings)?;
        if set.words.options.load(Relaxed) & option::FASTOPEN_CONNECT == 0 {
            stream.begin(to)?;
            return Ok(false);
        }
        let deferred = stream.begin_fast(to, 0, &mut |_| 0, FastOpen::Defer)?.is_none();
        if deferred {
            self.phase = Phase::Deferred(to);
        }
        Ok(deferred)
    }

    /// A call that waited for the connection waits no more: the bytes that went with the SYN.
    pub fn gave_up(&mut self) -> Option<usize> {
        self.went.take()
    }

    /// Sends bytes of `data` from `at` on, and connects if that was not done: as many as went with the
    /// SYN, at once or (`wait`) when the connection stands.
    pub fn send_fast(
        &mut self,
        to: Option<SocketAddr>,
        (flags, data, at): (i32, &Data, usize),
        wait: bool,
        set: &Settings,
        rings: (u32, u32),
    ) -> Result<usize> {
        if let Some(went) = self.went {
            match self.connected() {
                Err(Errno::EAGAIN) if wait => return Err(Errno::EAGAIN),
                Err(Errno::EAGAIN) => return Err(Errno::EALREADY),
                other => {
                    self.went = None;
                    other?;
                }
            }
            if went > 0 && at == 0 {
                return Ok(went);
            }
            return self.send_rest(flags, data, at);
        }
        let to = match self.phase {
            Phase::Deferred(to) => to,
            Phase::Connecting => {
                // As if `connect` was called again.
                self.connected()?;
                return self.send(flags, data, at);
            }
            // What is left of a call that connected.
            Phase::Connected if at > 0 => return self.send(flags, data, at),
            Phase::Connected => return Err(Errno::EISCONN),
            Phase::Unconnected if self.is_listener() => return Err(Errno::EISCONN),
            Phase::Unconnected => to.ok_or(Errno::EDESTADDRREQ)?,
        };
        let how = if wait { FastOpen::Waits } else { FastOpen::Now };
        let mut from = 0;
        let mut copy = |part: &mut [u8]| {
            data.copy(from, part);
            from += part.len();
            part.len()
        };
        let stream = self.open(set, rings)?;
        let went = stream.begin_fast(to, data.len(), &mut copy, how)?.unwrap_or(0);
        self.phase = Phase::Connecting;
        match self.connected() {
            Err(Errno::EAGAIN) if wait => {
                self.went = Some(went);
                Err(Errno::EAGAIN)
            }
            Err(Errno::EAGAIN) if went == 0 => Err(Errno::EINPROGRESS),
            Err(Errno::EAGAIN) => Ok(went),
            Ok(()) if went == 0 => self.send_rest(flags, data, at),
            other => other.map(|()| went),
        }
    }

    /// Sends on the connection that this call has made. If there is no room yet, it is known again by
    /// [`Self::went`].
    fn send_rest(&mut self, flags: i32, data: &Data, at: usize) -> Result<usize> {
        let sent = self.send(flags, data, at);
        if sent == Err(Errno::EAGAIN) && at == 0 {
            self.went = Some(0);
        }
        sent
    }
}
