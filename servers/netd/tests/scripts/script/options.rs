//! Socket options, as Linux numbers them, in the words that netd reads.

use super::calls::{Calls, Fd, Outcome, Pending, app, int};
use super::parse::Arg;
use super::world::World;
use libipc::net::{Reply, Request};
use libipc::sock::{AppSock, congestion, option};
use libipc::sock::{Kind, State};
use std::sync::atomic::Ordering::Relaxed;

type Errno = i64;
const EINVAL: Errno = 22;
const ENOPROTOOPT: Errno = 92;

/// Options that are one bit: (level, name, bit, whether the bit says no).
const BITS: [(i64, i64, u32, bool); 14] = [
    (6, 1, option::NODELAY, false),
    (6, 3, option::CORK, false),
    (6, 30, option::FASTOPEN_CONNECT, false),
    (6, 34, option::FASTOPEN_NO_COOKIE, false),
    (1, 2, option::REUSEADDR, false),
    (1, 6, option::BROADCAST, false),
    (1, 9, option::KEEPALIVE, false),
    (1, 10, option::OOBINLINE, false),
    (1, 11, option::NO_CHECK, false),
    (1, 15, option::REUSEPORT, false),
    (0, 11, option::RECVERR, false),
    (0, 34, option::MULTICAST_LOOP_OFF, true),
    (0, 49, option::MULTICAST_ALL_OFF, true),
    (41, 26, option::V6ONLY, false),
];

pub fn set_bits(app: &AppSock, bits: u32, on: bool) {
    let old = app.options.load(Relaxed);
    app.options.store(if on { old | bits } else { old & !bits }, Relaxed);
    changed(app);
}

/// The count of changes, by which netd sees that there was one.
fn changed(app: &AppSock) {
    let old = app.options.load(Relaxed);
    let count = (old & option::CHANGES).wrapping_add(option::CHANGE) & option::CHANGES;
    app.options.store(old & !option::CHANGES | count, Relaxed);
}

fn ranged<T: TryFrom<i64>>(value: i64, low: i64, high: i64) -> Result<T, Errno> {
    let fits = (low..=high).contains(&value);
    T::try_from(value).ok().filter(|_| fits).ok_or(EINVAL)
}

/// Sets an integer option.
pub fn set(fd: &mut Fd, app: &AppSock, level: i64, name: i64, value: i64) -> Result<(), Errno> {
    if let Some((.., bit, no)) = BITS.iter().find(|b| (b.0, b.1) == (level, name) && name != 1) {
        set_bits(app, *bit, (value != 0) != *no);
        return Ok(());
    }
    let bits = app.options.load(Relaxed);
    match (level, name) {
        (6, 1) => app.options.store(option::with_nodelay(bits, value != 0), Relaxed),
        // A buffer is twice what is asked for, as Linux counts its own overhead.
        (1, 7 | 32) => fd.sndbuf = Some((value * 2).max(4608)),
        (1, 8 | 33) => {
            let bytes = (value * 2).max(2304);
            fd.rcvbuf = Some(bytes);
            app.window_clamp.store(AppSock::RCVBUF | (bytes as u32 / 2), Relaxed);
        }
        (1, 12 | 60) => {}
        (1, 18) => app.rcv_lowat.store(ranged(value, 0, i32::MAX as i64)?, Relaxed),
        (1, 47) => app.pacing_rate.store(value as u64, Relaxed),
        (6, 2) if value == 0 => app.max_seg.store(0, Relaxed),
        (6, 2) => app.max_seg.store(ranged(value, 88, 32767)?, Relaxed),
        (6, 4) => app.keep_idle_s.store(ranged(value, 1, 32767)?, Relaxed),
        (6, 5) => app.keep_interval_s.store(ranged(value, 1, 32767)?, Relaxed),
        (6, 6) => app.keep_count.store(ranged(value, 1, 127)?, Relaxed),
        (6, 7) => app.syn_retries.store(ranged(value, 1, 127)?, Relaxed),
        (6, 8) if value < 0 => app.linger2_s.store(AppSock::NO_LINGER2, Relaxed),
        (6, 8) => app.linger2_s.store(value.min(120) as u16, Relaxed),
        (6, 9) => app.defer_accept_s().store(value.clamp(0, 255) as u8, Relaxed),
        (6, 10) => app.window_clamp.store(ranged(value, 0, i32::MAX as i64)?, Relaxed),
        (6, 12) => app.options.store(option::with_quickack(bits, value & 1 != 0), Relaxed),
        (6, 18) => app.user_timeout_ms.store(ranged(value, 0, i32::MAX as i64)?, Relaxed),
        (6, 23) => app.queue.store(ranged(value, 0, u16::MAX as i64)?, Relaxed),
        (6, 25) => app.notsent_lowat.store(value as u32, Relaxed),
        (0, 1) | (41, 67) => app.tos.store(ranged(value, 0, 255)?, Relaxed),
        (0, 2) | (41, 16) if value == -1 => app.ttl.store(0, Relaxed),
        (0, 2) | (41, 16) => app.ttl.store(ranged(value, 1, 255)?, Relaxed),
        (0, 10) => {
            let mode = match value {
                0 => option::PMTU_DONT,
                1 => option::PMTU_WANT,
                2 => option::PMTU_DO,
                3 => option::PMTU_PROBE,
                _ => return Err(EINVAL),
            };
            set_bits(app, option::PMTU, false);
            set_bits(app, mode, true);
        }
        (0, 33) => app.multicast_ttl.store(ranged::<u8>(value, 0, 255)? ^ 1, Relaxed),
        _ => return Err(ENOPROTOOPT),
    }
    changed(app);
    Ok(())
}

/// What an option says that the program set itself; the others are asked of netd.
pub fn get(fd: &Fd, app: &AppSock, level: i64, name: i64) -> Option<i64> {
    if let Some((.., bit, no)) = BITS.iter().find(|b| (b.0, b.1) == (level, name)) {
        return Some(((app.options.load(Relaxed) & bit != 0) != *no) as i64);
    }
    let or = |value: i64, default: i64| if value == 0 { default } else { value };
    Some(match (level, name) {
        (1, 7) => fd.sndbuf.unwrap_or(16384),
        (1, 8) => fd.rcvbuf.unwrap_or(131_072),
        (1, 18) => or(app.rcv_lowat.load(Relaxed) as i64, 1),
        (6, 4) => or(app.keep_idle_s.load(Relaxed) as i64, 7200),
        (6, 5) => or(app.keep_interval_s.load(Relaxed) as i64, 75),
        (6, 6) => or(app.keep_count.load(Relaxed) as i64, 9),
        (6, 7) => or(app.syn_retries.load(Relaxed) as i64, 6),
        (6, 8) => match app.linger2_s.load(Relaxed) {
            AppSock::NO_LINGER2 => -1,
            s => or(s as i64, 60),
        },
        (6, 18) => app.user_timeout_ms.load(Relaxed) as i64,
        (6, 23) => app.queue.load(Relaxed) as i64,
        (6, 25) => app.notsent_lowat.load(Relaxed) as i64,
        (0, 1) => app.tos.load(Relaxed) as i64,
        (0, 2) => or(app.ttl.load(Relaxed) as i64, 64),
        _ => return None,
    })
}

/// TCP_CONGESTION by name.
pub fn set_congestion(app: &AppSock, name: &str) -> Result<(), Errno> {
    let number = match name {
        "cubic" => congestion::CUBIC,
        "reno" => congestion::RENO,
        "bbr" => congestion::BBR,
        _ => return Err(2),
    };
    app.congestion.store(number, Relaxed);
    changed(app);
    Ok(())
}

/// The number in an option's value: `[N]`, `N`, or a struct's first.
pub fn integer(arg: &Arg) -> Option<i64> {
    match arg {
        Arg::Int(v) => Some(*v),
        Arg::Name(n) => super::names::value(n).ok(),
        Arg::List(l) => l.first().and_then(integer),
        _ => None,
    }
}

/// TCP_MAXSEG: what was asked for, or what the connection has.
fn segment_size(w: &mut World, fd: &Fd) -> i64 {
    let wanted = app(w, fd.id).max_seg.load(Relaxed) as i64;
    let state = super::calls::record(w, fd.id).state();
    if !fd.opened || matches!(state, State::Open | State::Closed | State::Listen) {
        return if wanted == 0 { 536 } else { wanted };
    }
    let request = Request::TcpInfo { sock: super::calls::sock(fd) };
    match w.host.ask(request) {
        Ok(Reply::TcpInfo(info)) => info.snd_mss as i64,
        _ => 536,
    }
}

impl Calls {
    pub(super) fn setsockopt(
        &mut self,
        w: &mut World,
        fd: &mut Fd,
        args: &[Arg],
    ) -> Result<Outcome, String> {
        let (level, name) = (int(args, 1)?, int(args, 2)?);
        let words = app(w, fd.id);
        let value = args.get(3).ok_or("no value")?;
        let done = match (level, name, value) {
            (6, 13, Arg::Text(text)) => set_congestion(words, text),
            (1, 13, Arg::Struct(fields)) => {
                let field = |n: &str| {
                    let found = fields.iter().find(|(name, _)| name == n);
                    found.and_then(|(_, v)| integer(v)).unwrap_or(0)
                };
                fd.linger = (field("onoff") + field("l_onoff") != 0)
                    .then(|| field("linger") + field("l_linger"));
                Ok(())
            }
            (1, 20 | 21, Arg::Struct(fields)) => {
                let number = |i: usize| fields.get(i).and_then(|(_, v)| integer(v));
                let us = number(0).unwrap_or(0) * 1_000_000 + number(1).unwrap_or(0);
                let limit = (us > 0).then_some(us as u64 * 1000);
                if name == 20 {
                    fd.receive_timeout = limit;
                } else {
                    fd.send_timeout = limit;
                }
                Ok(())
            }
            _ => match integer(value) {
                Some(value) => set(fd, words, level, name, value),
                None => return Err(format!("no value of an option here: {value:?}")),
            },
        };
        if fd.opened {
            w.host.progs[0].submit(fd.id);
            w.settle();
        }
        Ok(done.map(|()| Some(0)))
    }

    pub(super) fn getsockopt(
        &mut self,
        w: &mut World,
        fd: &mut Fd,
        args: &[Arg],
    ) -> Result<Outcome, String> {
        let (level, name) = (int(args, 1)?, int(args, 2)?);
        let found = match (level, name) {
            (1, 4) => Some(super::stream::take_error(w, fd).unwrap_or(0)),
            (1, 3) => Some(if fd.kind == Kind::Tcp { 1 } else { 2 }),
            (1, 30) => Some(fd.listening as i64),
            (6, 2) => Some(segment_size(w, fd)),
            _ => get(fd, app(w, fd.id), level, name),
        };
        let Some(found) = found else { return Ok(Err(ENOPROTOOPT)) };
        if let Some(wanted) = args.get(3).and_then(integer)
            && wanted != found
        {
            self.complaint = Some(format!("the option is {found}"));
        }
        Ok(Ok(Some(0)))
    }

    pub(super) fn ioctl(
        &mut self,
        w: &mut World,
        fd: &mut Fd,
        args: &[Arg],
    ) -> Result<Outcome, String> {
        let found = match int(args, 1)? {
            0x541b => super::stream::unread(w, fd),
            0x5411 => super::stream::unacknowledged(w, fd),
            0x8905 => super::stream::at_mark(w, fd) as i64,
            0x5421 => {
                fd.nonblocking = args.get(2).and_then(integer) != Some(0);
                return Ok(Ok(Some(0)));
            }
            other => return Err(format!("ioctl {other:#x} is not among those here")),
        };
        if let Some(wanted) = args.get(2).and_then(integer)
            && wanted != found
        {
            self.complaint = Some(format!("the value is {found}"));
        }
        Ok(Ok(Some(0)))
    }

    pub(super) fn poll(&mut self, w: &mut World, p: &Pending) -> Result<Option<i64>, String> {
        let Some(Arg::List(list)) = p.call.args.first() else { return Err("poll([...])".into()) };
        let timeout = int(&p.call.args, 2)?;
        let (mut ready, mut wrong) = (0, None);
        for entry in list {
            let Arg::Struct(fields) = entry else { return Err("poll([{fd=, ...}])".into()) };
            let field = |n: &str| {
                let found = fields.iter().find(|(name, _)| name == n);
                found.and_then(|(_, v)| integer(v))
            };
            let number = field("fd").ok_or("no fd")?;
            let events = field("events").unwrap_or(0) | 0x18;
            let mask = self.fds.get(&number).map_or(0x20, |fd| super::stream::readiness(w, fd));
            let seen = mask & events | mask & 0x20;
            ready += (seen != 0) as i64;
            if let Some(wanted) = field("revents").filter(|r| *r != seen) {
                wrong = Some(format!("revents of {number} are {seen:#x}, not {wanted:#x}"));
            }
        }
        let over = timeout >= 0 && w.now() >= p.begun + timeout as u64 * 1_000_000;
        if ready == 0 && !over {
            return Ok(None);
        }
        self.complaint = wrong;
        Ok(Some(ready))
    }
}
