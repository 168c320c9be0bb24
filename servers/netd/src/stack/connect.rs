//! Active opens: which port, and what becomes of a connection in TIME-WAIT between the same ports.

use super::Stack;
use super::ports::Wish;
use super::sock::Body;
use crate::demux::{ANY, Space, Tuple};
use crate::env::Env;
use crate::ports::held;
use crate::record::Fixed;
use crate::settings::Reuse;
use crate::tcp::Conn;
use crate::wire::tcp::Seq;
use core::net::SocketAddr;
use libipc::net::{Reply, Result};
use libipc::sock::{Error, Kind};

/// Ephemeral ports: Linux's `ip_local_port_range`.
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;
/// How many are tried.
const PORT_TRIES: u32 = 4096;
/// For how long the peer must have been silent before its TIME-WAIT is taken over, so that its timestamp
/// has moved (RFC 6191).
const REUSE_NS: u64 = 1_000_000_000;

impl<E: Env> Stack<E> {
    /// A port that others cannot guess, and that seldom collides: RFC 6056 3.3.3 (simple hash-based)
    /// for a pair of hosts, 3.3.1 (random) for a socket that speaks to anybody.
    pub(super) fn ephemeral(
        &mut self,
        space: Space,
        local: SocketAddr,
        remote: SocketAddr,
        (only_v6, device): (bool, u8),
    ) -> Result<u16> {
        let count = EPHEMERAL.len() as u32;
        let offset = match remote {
            ANY => self.random() % count,
            _ => self.keyed(self.secrets.port, &Tuple { space, local, remote }) as u32 % count,
        };
        for _ in 0..PORT_TRIES {
            self.port_counter = (self.port_counter + 1) % count;
            let port = EPHEMERAL.start() + ((offset + self.port_counter) % count) as u16;
            let at = SocketAddr::new(local.ip(), port);
            let wish = Wish { space, local: at, only_v6, device };
            let free = match (space, remote) {
                // Connections to different peers may have one port, as on Linux.
                (Space::Tcp, remote) if remote != ANY => {
                    self.may_dial_from(port)
                        && self.demux.find(&Tuple { space, local: at, remote }).is_none()
                }
                _ => self.is_free(&wish),
            };
            if free {
                return Ok(port);
            }
        }
        Err(if remote == ANY { Error::AddrInUse } else { Error::AddrNotAvailable })
    }

    /// Makes room for a connection where one is in TIME-WAIT, if that may be: yields the new one's
    /// ISN, beyond all numbers of the old.
    fn take_over(&mut self, tuple: &Tuple) -> Result<Option<Seq>> {
        let before = self.socks.len();
        let found = self.demux.find(tuple).map(|n| n as usize);
        let Some(entry) = found.and_then(|n| n.checked_sub(before)) else { return Ok(None) };
        let waiting = self.time_wait.get(entry).ok_or(Error::AddrNotAvailable)?;
        let allowed = match self.settings.reuse {
            Reuse::Never => false,
            Reuse::Loopback => tuple.remote.ip().is_loopback() || tuple.local.ip().is_loopback(),
            Reuse::Always => true,
        };
        // Without timestamps the peer could not tell old segments from new.
        let silent = self.now.saturating_sub(waiting.heard()) > REUSE_NS;
        if !allowed || waiting.ts_recent.is_none() || !silent {
            return Err(Error::AddrNotAvailable);
        }
        self.end_time_wait(entry);
        Ok(Some(waiting.next_iss()))
    }

    pub(super) fn connect_tcp(&mut self, i: u32, tuple: Tuple, fast: Option<u16>) -> Result<Reply> {
        let iss = self.take_over(&tuple)?;
        if !self.demux.insert(i, tuple) {
            return Err(Error::AddrNotAvailable);
        }
        let iss = iss.unwrap_or_else(|| self.initial_sequence(&tuple));
        let (now, home) = (self.now, self.home(i));
        let config = self.tcp_config(i, tuple.local.ip());
        let ts_offset = self.timestamp_offset(&tuple);
        let fast = fast.map(|data| self.fast_chance(i, &config, tuple.remote.ip(), data));
        let s = self.sock(i);
        (s.local, s.remote) = (tuple.local.into(), tuple.remote.into());
        let fixed = Fixed {
            local: tuple.local,
            remote: tuple.remote,
            iss,
            ts_offset,
            rcv_shift: config.shift(s.rings.rx_bits),
            device: s.device,
            ..Fixed::open(Kind::Tcp, s.rings)
        };
        home.hard.store(&fixed);
        s.body = Body::Tcp(match fast {
            Some(chance) => Conn::connect_fast(home, &fixed, config, chance, now),
            None => Conn::connect(home, &fixed, config, now),
        });
        // A connection is found by its whole tuple, and looks itself at where its segments came from.
        self.demux.set_device(i, 0);
        if !self.ports.holds(i) {
            self.hold_port(i, Space::Tcp, held::DIALLED);
        }
        self.want_send(i);
        Ok(Reply::Done)
    }
}
