//! Fast Open (RFC 7413) of the stack: which SYNs make a connection at once, which take data along.
//! Cookies are `crate::fastopen`, connections `crate::tcp`.

use super::request::Arrival;
use super::{Body, Place, Stack};
use crate::demux::Space;
use crate::env::Env;
use crate::fastopen::cookie;
use crate::record::Fixed;
use crate::request::Request;
use crate::settings::FastOpen;
use crate::tcp::{Config, Conn, Segment};
use crate::wire::tcp::{Cookie, Flags, MAX_OPTIONS};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering::Relaxed;
use libipc::net::{Reply, Result, SockId};
use libipc::sock::{self, Error, Kind, event, option};

/// For how long a connection that was reset counts as one under way: who can send a cookie but not receive
/// under its address would fill the program's memory else (RFC 7413 5.1).
const RESET_NS: u64 = 60_000_000_000;

/// What a SYN comes to that has the option, or data.
pub(super) enum FastSyn {
    /// A connection.
    Child,
    /// A handshake as usual, whose SYN-ACK has this cookie.
    Cookie(Option<Cookie>),
}

impl<E: Env> Stack<E> {
    /// A SYN with the option or with data for listener `l`, which `request` says how to answer.
    #[cold]
    pub(super) fn fast_syn(&mut self, l: u32, a: &Arrival<'_>, request: &Request) -> FastSyn {
        let asks = a.seg.options.fast_open;
        let settings = self.settings.fast_open;
        self.counters.fast_open_asked += asks.is_some_and(|c| c.is_request()) as u64;
        if !settings.contains(FastOpen::SERVER) || !self.fast_place(l) {
            return FastSyn::Cookie(None);
        }
        let tuple = &request.tuple;
        let without = settings.contains(FastOpen::SERVER_WITHOUT_COOKIE) || self.needs_none(l);
        let good = cookie(self.cookie_key(), tuple.remote.ip(), tuple.local.ip());
        let good = good.in_experiment(asks.is_some_and(|c| c.experimental));
        let tries = match asks {
            _ if without => true,
            None => return FastSyn::Cookie(None),
            Some(c) if c.is_request() => return FastSyn::Cookie(Some(good)),
            Some(c) => c == good,
        };
        if tries && self.fast_child(l, a, request) {
            self.counters.fast_open_passive += 1;
            return FastSyn::Child;
        }
        self.counters.fast_open_passive_failed += 1;
        FastSyn::Cookie(asks.map(|_| good))
    }

    /// Whether the listener's program takes data without a cookie (TCP_FASTOPEN_NO_COOKIE).
    fn needs_none(&self, l: u32) -> bool {
        let s = &self.socks[l as usize];
        self.sessions[s.session as usize].options(s.id) & option::FASTOPEN_NO_COOKIE != 0
    }

    /// The key of our cookies. It is made of a secret that outlives netd: cookies are promises for weeks.
    fn cookie_key(&self) -> (u64, u64) {
        self.settings.fast_open_key.unwrap_or_else(|| {
            let part = |n: u16| {
                let salt = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), n);
                let tuple = crate::demux::Tuple { space: Space::Tcp, local: salt, remote: salt };
                self.keyed(self.secrets.port, &tuple)
            };
            (part(1), part(2))
        })
    }

    /// Whether listener `l` may have one more child whose handshake is not complete.
    fn fast_place(&mut self, l: u32) -> bool {
        let s = &self.socks[l as usize];
        let words = self.sessions[s.session as usize].app(s.id);
        let asked = words.queue.load(Relaxed) as u32;
        let all = self.settings.fast_open.contains(FastOpen::SERVER_WITHOUT_OPTION);
        let now = self.now;
        let Body::Listener(listener) = &mut self.socks[l as usize].body else { return false };
        let most = if asked == 0 && all { listener.backlog } else { asked };
        let (reset, since) = listener.fast_reset;
        if reset > 0 && now >= since + RESET_NS {
            listener.fast = listener.fast.saturating_sub(reset);
            listener.fast_reset = (0, 0);
        }
        let room = listener.fast < most;
        self.counters.fast_open_overflow += (most > 0 && !room) as u64;
        room
    }

    /// Makes a connection of a SYN, data and all. `false`: there is no place.
    fn fast_child(&mut self, l: u32, a: &Arrival<'_>, request: &Request) -> bool {
        let (tuple, now) = (request.tuple, self.now);
        let Some(i) = self.free_place(l) else { return false };
        let (config, home) = (self.tcp_config(l, tuple.local.ip()), self.home(i));
        let ts_offset = self.timestamp_offset(&tuple);
        let rings = self.socks[i as usize].rings;
        let take = (a.seg.len as usize).min(1 << rings.rx_bits);
        if take > 0 && self.store(i, a.packet, a.header_len, 0, take).is_none() {
            return false;
        }
        self.unlist(i);
        if !self.demux.insert(i, tuple) {
            self.spare(i, l);
            return false;
        }
        let listener = self.socks[l as usize].id;
        let s = self.sock(i);
        (s.local, s.remote, s.device) = (tuple.local.into(), tuple.remote.into(), request.device);
        let base = Fixed { listener, ts_offset, ..Fixed::open(Kind::Tcp, rings) };
        let fixed = request.fixed(base);
        home.hard.renew(&fixed);
        let conn = Conn::accept_fast(home, &fixed, config, &a.seg, take as u32, now);
        s.body = Body::Tcp(conn);
        if let Body::Listener(listener) = &mut self.socks[l as usize].body {
            listener.fast += 1;
        }
        self.ports.hold(i, Space::Tcp, tuple.local.port(), self.reuse(l));
        self.enlist(i, l, Place::Waiting);
        self.ready(l);
        self.want_send(i);
        self.arm(i);
        true
    }

    /// The handshake of connection `i` has ended, well or not: if it was a child's, its listener may have
    /// another.
    #[cold]
    pub(super) fn fast_settled(&mut self, i: u32) {
        let now = self.now;
        let s = &mut self.socks[i as usize];
        let reset = s.rec.error() == Some(Error::ConnectionReset);
        let Body::Tcp(conn) = &mut s.body else { return };
        if !conn.settled() {
            return;
        }
        let s = &self.socks[i as usize];
        let listener =
            self.demux.lookup_local_on(s.device, Space::Tcp, s.local.get(), s.remote.get());
        let Some(Body::Listener(l)) = listener.map(|l| &mut self.socks[l as usize].body) else {
            return;
        };
        if !reset {
            l.fast = l.fast.saturating_sub(1);
        } else {
            let since = if l.fast_reset.0 == 0 { now } else { l.fast_reset.1 };
            l.fast_reset = (l.fast_reset.0 + 1, since);
        }
    }

    /// Connects with Fast Open; see [`libipc::net::Request::FastOpen`].
    pub(super) fn fast_open(
        &mut self,
        name: SockId,
        addr: SocketAddr,
        data: u16,
        how: sock::FastOpen,
    ) -> Result<Reply> {
        if !self.settings.fast_open.contains(FastOpen::CLIENT) {
            return Err(Error::NotSupported);
        }
        let i = self.existing(name)?;
        if how == sock::FastOpen::Defer && matches!(self.socks[i as usize].body, Body::Open) {
            let config = self.tcp_config(i, addr.ip().to_canonical());
            let (_, takes) = self.fast_chance(i, &config, addr.ip().to_canonical(), u16::MAX);
            if takes > 0 {
                return Ok(Reply::Deferred);
            }
        }
        let reply = self.connect(name, addr, Some(data))?;
        if how == sock::FastOpen::Waits
            && let Body::Tcp(conn) = &mut self.socks[i as usize].body
        {
            conn.await_writer(data as u32);
        }
        Ok(reply)
    }

    /// What a SYN of socket `i` to `server` may do: its option, and how many of `data` bytes it takes along.
    pub(super) fn fast_chance(
        &self,
        i: u32,
        config: &Config,
        server: IpAddr,
        data: u16,
    ) -> (Option<Cookie>, u32) {
        let s = &self.socks[i as usize];
        let options = self.sessions[s.session as usize].options(s.id);
        let without = self.settings.fast_open.contains(FastOpen::CLIENT_WITHOUT_COOKIE)
            || options & option::FASTOPEN_NO_COOKIE != 0;
        if self.fast.is_paused(self.now) {
            return (None, 0);
        }
        let known = self.fast.get(server);
        if known.cookie.is_request() && !without {
            return (Some(known.cookie), 0);
        }
        let path = self.paths.mtu(server, self.now).unwrap_or(u16::MAX);
        let mss = config.mss.min(path.saturating_sub(config.headers));
        let mss = if known.mss == 0 { mss } else { mss.min(known.mss.max(48)) };
        // Middleboxes may add options (Linux's reserve).
        let space = mss.saturating_sub(MAX_OPTIONS as u16);
        let space = space.min(1 << s.rings.tx_bits.min(15));
        ((!without).then_some(known.cookie), space.min(data) as u32)
    }

    /// The option of connection `i`'s first SYN. Who was forgotten meanwhile is asked.
    #[cold]
    pub(super) fn fast_option(&self, i: u32, server: IpAddr) -> Option<Cookie> {
        let Body::Tcp(conn) = &self.socks[i as usize].body else { return None };
        conn.wants_cookie().then(|| self.fast.get(server).cookie)
    }

    /// What is learnt from the SYN-ACK of connection `i`, which stands now.
    #[cold]
    pub(super) fn fast_lesson(&mut self, i: u32, seg: &Segment) {
        let s = &self.socks[i as usize];
        let Body::Tcp(conn) = &s.body else { return };
        let Some(lesson) = conn.lesson(seg).filter(|_| seg.flags.contains(Flags::SYN)) else {
            return;
        };
        debug_assert!(s.rec.events.load(Relaxed) & event::ESTABLISHED != 0);
        match lesson.taken {
            Some(true) => {
                self.counters.fast_open_active += 1;
                self.fast.works();
            }
            Some(false) => self.counters.fast_open_active_failed += 1,
            None => {}
        }
        let server = s.remote.ip();
        self.fast.learn(server, lesson.mss, lesson.cookie, lesson.unanswered, self.now);
    }

    /// Forgets the cookies of others: whoever is connected to next is asked for a new one.
    pub fn forget_cookies(&mut self) {
        self.fast.forget();
    }

    /// A path seems to swallow what Fast Open sends.
    #[cold]
    pub(super) fn fast_swallowed(&mut self) {
        self.counters.fast_open_black_holes += 1;
        self.fast.pause(self.settings.fast_open_pause_s, self.now);
    }
}
