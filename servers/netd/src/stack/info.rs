//! TCP_INFO of a socket.

use super::{Body, Stack};
use crate::env::Env;
use crate::tcp::info_options;
use core::sync::atomic::Ordering::Relaxed;
use libipc::net::{Result, SockId};
use libipc::sock::{Error, Kind, TcpInfo};

impl<E: Env> Stack<E> {
    /// State and figures of a TCP socket; of a datagram socket the MTU of the path to its peer.
    pub(super) fn tcp_info(&self, sock: SockId) -> Result<TcpInfo> {
        let i = self.existing(sock)?;
        let s = &self.socks[i as usize];
        let whole = self.mtu_of(s.local.ip());
        let pmtu = self.paths.mtu(s.remote.ip(), self.now).map_or(whole, |path| path.min(whole));
        let pmtu = pmtu as u32;
        match self.kind(i) {
            Some(Kind::Tcp | Kind::Listener) => {}
            Some(Kind::Udp | Kind::Ping | Kind::Raw) => {
                return Ok(TcpInfo { pmtu, ..TcpInfo::default() });
            }
            _ => return Err(Error::NotSupported),
        }
        let Body::Tcp(conn) = &s.body else {
            let state = TcpInfo::state_of(s.rec.state());
            let options = info_options(s.rec.flags.load(Relaxed), s.rec);
            return Ok(TcpInfo { state, options, ..TcpInfo::default() });
        };
        let mut info = conn.info(self.now);
        info.pmtu = pmtu;
        // The program counts in 64 bits what the connection counts in 32.
        let (written, taken) = self.sessions[s.session as usize].words(s.id);
        info.bytes_acked = written.saturating_sub(conn.unsent() as u64);
        info.bytes_sent = info.bytes_acked + conn.flight() as u64 + info.bytes_retrans;
        info.bytes_received = taken.saturating_add(conn.unread() as u64);
        Ok(info)
    }
}
