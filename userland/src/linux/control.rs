//! `setsockopt`, `getsockopt`, `fcntl`, `ioctl`.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use libipc::sock::{AppSock, TcpInfo, defer_retries, option};

use super::file::{File, Kind};
use super::flavour::Flavour;
use super::numbers::{Errno, fcntl, icmp, ioctl, ip, ipproto, ipv6, so, sock, tcp, udp};
use super::options::{self, Settings};
use super::stream::Stream;
use super::{Result, congestion};
use crate::net::Ancillary;

/// Smallest buffers, as Linux tells them.
const MIN_SEND: u32 = 4608;
const MIN_RECEIVE: u32 = 2304;
/// A stream's before it is connected (`tcp_wmem`).
const FIRST_SEND: i32 = 16_384;
/// Largest value that SO_SNDBUF and SO_RCVBUF take (`wmem_max`, `rmem_max`).
const MAX_BUFFER: u32 = 212_992;
/// Options of IPv4 that refuse to be set to nothing.
const NEEDS_VALUE: [i32; 4] = [ip::TTL, ip::MULTICAST_TTL, ip::MULTICAST_LOOP, ip::MULTICAST_ALL];
/// Longest TCP_LINGER2, seconds.
const LINGER2_MAX: i32 = 120;

impl Settings {
    /// Bytes of the send ring, `usual` unless SO_SNDBUF was set.
    pub fn sending(&self, usual: u32) -> u32 {
        match self.send_buffer.get() {
            0 => usual,
            set => set.next_power_of_two(),
        }
    }

    /// Bytes of the receive ring, likewise.
    pub fn receiving(&self, usual: u32) -> u32 {
        match self.receive_buffer.get() {
            0 => usual,
            set => (set / 2).next_power_of_two(),
        }
    }

    /// Bytes of a stream's rings: never less than usual, since buffers may be set anew later; what they
    /// are set to bounds how far the rings are used.
    pub fn stream_rings(&self, usual: (u32, u32)) -> (u32, u32) {
        (usual.0.max(self.sending(usual.0)), usual.1.max(self.receiving(usual.1)))
    }

    /// What SO_RCVBUF and TCP_WINDOW_CLAMP come to for netd.
    fn clamp(&self) {
        let clamp = self.noted.borrow().get(&(ipproto::TCP, tcp::WINDOW_CLAMP)).copied();
        let clamp = clamp.unwrap_or(0) as u32;
        let word = match self.receive_buffer.get() / 2 {
            0 => clamp,
            half if clamp == 0 => AppSock::RCVBUF | half,
            half => AppSock::RCVBUF | half.min(clamp),
        };
        self.words.window_clamp.store(word, Relaxed);
    }
}

/// `struct tcp_info`: of a socket that is no connection, the state alone.
fn info(stream: &Stream) -> Vec<u8> {
    const CLOSE: u8 = 7;
    const LISTEN: u8 = 10;
    let alone = if stream.is_listener() { LISTEN } else { CLOSE };
    let unconnected = || {
        let mut b = vec![0; size_of_val(&TcpInfo::default().to_linux())];
        b[0] = alone;
        b
    };
    stream.info().map_or_else(unconnected, |i| i.to_linux().to_vec())
}

fn int(bytes: &[u8]) -> Result<i32> {
    let (value, _) = bytes.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
    Ok(i32::from_le_bytes(*value))
}

fn word(bytes: &[u8], at: usize) -> Result<i64> {
    let bytes = bytes.get(at..at + 8).ok_or(Errno::EINVAL)?;
    Ok(i64::from_le_bytes(core::array::from_fn(|i| bytes[i])))
}

/// A `struct timeval`; 0 means for ever.
fn time(bytes: &[u8]) -> Result<Option<Duration>> {
    let (seconds, micros) = (word(bytes, 0)?, word(bytes, 8)?);
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    let time = Duration::from_secs(seconds.max(0) as u64) + Duration::from_micros(micros as u64);
    Ok((!time.is_zero() && seconds >= 0).then_some(time))
}

fn timeval(time: Option<Duration>) -> Vec<u8> {
    let time = time.unwrap_or_default();
    let mut b = (time.as_secs() as i64).to_le_bytes().to_vec();
    b.extend((time.subsec_micros() as i64).to_le_bytes());
    b
}

impl File {
    /// Tells the socket, if it is made, what it was set to.
    pub(super) fn push(&self) {
        match &self.kind {
            Kind::Stream(s) => s.push(&self.set),
            Kind::Datagram(d) => d.push(&self.set),
        }
    }

    /// `setsockopt(2)`.
    ///
    /// # Errors
    /// [`Errno::ENOPROTOOPT`]: unknown here. [`Errno::EINVAL`]: no such value.
    pub fn set_option(&mut self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level == ipproto::TCP && matches!(self.kind, Kind::Datagram(_)) {
            return Err(Errno::ENOPROTOOPT);
        }
        if let Some(outcome) = self.membership(level, name, value) {
            return outcome;
        }
        if let Some(outcome) = self.set_way(level, name, value) {
            return outcome;
        }
        match level {
            so::SOCKET => self.set_socket(name, value)?,
            ipproto::UDP => return self.set_udp(name, value),
            ipproto::TCP => self.set_tcp(name, value)?,
            ipproto::IP | ipproto::IPV6 => self.set_ip(level, name, value)?,
            ipproto::RAW if name == icmp::FILTER => {
                self.filters_icmp()?;
                self.set.words.icmp_filter().store(int(value)? as u32, Relaxed);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        self.push();
        Ok(())
    }

    /// Whether it has ICMP_FILTER: raw sockets of ICMP.
    fn filters_icmp(&self) -> Result<()> {
        match &self.kind {
            Kind::Datagram(d) if d.flavour == Flavour::Raw(ipproto::ICMP as u8, false) => Ok(()),
            Kind::Datagram(d) if matches!(d.flavour, Flavour::Raw(..)) => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_word(&mut self, level: i32, name: i32, value: i32) -> Result<()> {
        let entry = options::find(level, name).ok_or(Errno::ENOPROTOOPT)?;
        entry.set(&self.set.words, value)
    }

    fn set_socket(&mut self, name: i32, value: &[u8]) -> Result<()> {
        let set = &self.set;
        int(value)?;
        match name {
            so::LINGER => {
                let (on, seconds) = (int(value)?, int(value.get(4..).unwrap_or_default())?);
                set.linger.set((on != 0).then_some(seconds.max(0) as u32));
            }
            so::RCVTIMEO | so::RCVTIMEO_NEW => set.receive_timeout.set(time(value)?),
            so::SNDTIMEO | so::SNDTIMEO_NEW => set.send_timeout.set(time(value)?),
            so::SNDBUF | so::SNDBUFFORCE => {
                let asked = (int(value)? as u32).min(MAX_BUFFER);
                set.send_buffer.set((asked * 2).max(MIN_SEND));
            }
            so::RCVBUF | so::RCVBUFFORCE => {
                let asked = (int(value)? as u32).min(MAX_BUFFER);
                let granted = (asked * 2).max(MIN_RECEIVE);
                set.receive_buffer.set(granted);
                set.clamp();
            }
            so::MAX_PACING_RATE => {
                let rate = word(value, 0).or_else(|_| int(value).map(|n| n as u32 as i64))?;
                // All ones, in either size, means no limit.
                let none = rate == -1 || rate == u32::MAX as i64;
                set.words.pacing_rate.store(if none { 0 } else { rate as u64 }, Relaxed);
            }
            so::RCVLOWAT => {
                let value = int(value)?;
                let value = if value < 0 { i32::MAX } else { value };
                set.words.rcv_lowat.store(value as u32, Relaxed);
            }
            so::DEBUG | so::DONTROUTE | so::PRIORITY | so::MARK => {
                set.note(so::SOCKET, name, int(value)?);
            }
            so::RXQ_OVFL => set.note(so::SOCKET, name, (int(value)? != 0) as i32),
            so::TYPE | so::ERROR | so::ACCEPTCONN | so::PROTOCOL | so::DOMAIN | so::SNDLOWAT => {
                return Err(Errno::ENOPROTOOPT);
            }
            _ => {
                let value = int(value)?;
                self.set_word(so::SOCKET, name, value)?;
            }
        }
        Ok(())
    }

    fn set_tcp(&mut self, name: i32, value: &[u8]) -> Result<()> {
        if name == tcp::CONGESTION {
            let number = congestion::number(value)?;
            self.set.words.congestion.store(number, Relaxed);
            return Ok(());
        }
        let value = int(value)?;
        match name {
            tcp::LINGER2 => {
                let word = match value {
                    ..0 => libipc::sock::AppSock::NO_LINGER2,
                    0 => 0,
                    _ => value.min(LINGER2_MAX) as u16,
                };
                self.set.words.linger2_s.store(word, Relaxed);
                Ok(())
            }
            tcp::DEFER_ACCEPT => {
                self.set.words.defer_accept_s().store(value.clamp(0, 255) as u8, Relaxed);
                Ok(())
            }
            tcp::WINDOW_CLAMP => {
                let clamp = if value == 0 { 0 } else { value.max(MIN_RECEIVE as i32 / 2) };
                self.set.noted.borrow_mut().insert((ipproto::TCP, name), clamp);
                self.set.clamp();
                Ok(())
            }
            // Below this Linux refuses; 0 takes a choice back.
            tcp::MAXSEG if (1..88).contains(&value) => Err(Errno::EINVAL),
            tcp::INQ if !(0..=1).contains(&value) => Err(Errno::EINVAL),
            tcp::INQ => {
                self.set.note(ipproto::TCP, name, value);
                Ok(())
            }
            // Said again, they act again.
            tcp::QUICKACK | tcp::NODELAY => {
                let words = &self.set.words.options;
                let bits = words.load(Relaxed);
                let bits = match name {
                    tcp::QUICKACK => option::with_quickack(bits, value & 1 != 0),
                    _ => option::with_nodelay(bits, value != 0),
                };
                words.store(bits, Relaxed);
                Ok(())
            }
            _ => self.set_word(ipproto::TCP, name, value),
        }
    }

    fn set_udp(&mut self, name: i32, value: &[u8]) -> Result<()> {
        let Kind::Datagram(d) = &mut self.kind else { return Err(Errno::ENOPROTOOPT) };
        if name != udp::CORK {
            return Err(Errno::ENOPROTOOPT);
        }
        let on = int(value)? != 0;
        self.set.note(ipproto::UDP, name, on as i32);
        if on { Ok(()) } else { d.uncork(&Ancillary::default(), &self.set, self.rings) }
    }

    fn set_ip(&mut self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        // IPv4's options take a byte as well, and most of them nothing.
        let number = match value {
            [] if level == ipproto::IP && !NEEDS_VALUE.contains(&name) => 0,
            [byte] | [byte, _] | [byte, _, _] if level == ipproto::IP => *byte as i32,
            _ => int(value)?,
        };
        let words = &self.set.words;
        let raw = matches!(&self.kind, Kind::Datagram(d) if matches!(d.flavour, Flavour::Raw(..)));
        match (level, name) {
            (ipproto::IP, ip::HDRINCL) if !raw => return Err(Errno::ENOPROTOOPT),
            (ipproto::IP, ip::TTL) | (ipproto::IPV6, ipv6::UNICAST_HOPS) if number == -1 => {
                words.ttl.store(0, Relaxed);
            }
            (ipproto::IP, ip::TOS) => {
                // ECN's bits are TCP's own.
                let keep = if matches!(self.kind, Kind::Stream(_)) { !3 } else { !0 };
                words.tos.store(number as u8 & keep, Relaxed);
            }
            (ipproto::IP, ip::MULTICAST_TTL) | (ipproto::IPV6, ipv6::MULTICAST_HOPS) => {
                let hops = if number == -1 { 1 } else { number };
                if matches!(self.kind, Kind::Stream(_)) {
                    // There TCP_DEFER_ACCEPT lies.
                    let v4 = level == ipproto::IP;
                    return Err(if v4 { Errno::EINVAL } else { Errno::ENOPROTOOPT });
                }
                if !(0..=255).contains(&hops) {
                    return Err(Errno::EINVAL);
                }
                words.multicast_ttl.store(hops as u8 ^ 1, Relaxed);
            }
            (ipproto::IP, ip::MTU_DISCOVER) | (ipproto::IPV6, ipv6::MTU_DISCOVER) => {
                let bits = match number {
                    0 => option::PMTU_DONT,
                    1 => option::PMTU_WANT,
                    2 => option::PMTU_DO,
                    3 => option::PMTU_PROBE,
                    _ => return Err(Errno::EINVAL),
                };
                let old = words.options.load(Relaxed) & !option::PMTU;
                words.options.store(old | bits, Relaxed);
            }
            (ipproto::IP, ip::RECVORIGDSTADDR) => {
                self.set.note(level, name, (number != 0) as i32);
            }
            _ => self.set_word(level, name, number)?,
        }
        Ok(())
    }

    /// `getsockopt(2)`: the value, at most `max` bytes.
    ///
    /// # Errors
    /// [`Errno::ENOPROTOOPT`]: unknown here.
    pub fn option(&mut self, level: i32, name: i32, max: usize) -> Result<Vec<u8>> {
        if level == ipproto::TCP && matches!(self.kind, Kind::Datagram(_)) {
            return Err(Errno::ENOPROTOOPT);
        }
        let mut value = match (level, name) {
            (so::SOCKET, so::LINGER) => {
                let linger = self.set.linger.get();
                let mut b = (linger.is_some() as i32).to_le_bytes().to_vec();
                b.extend(linger.unwrap_or(0).to_le_bytes());
                b
            }
            (so::SOCKET, so::RCVTIMEO | so::RCVTIMEO_NEW) => {
                timeval(self.set.receive_timeout.get())
            }
            (so::SOCKET, so::SNDTIMEO | so::SNDTIMEO_NEW) => timeval(self.set.send_timeout.get()),
            (so::SOCKET, so::MAX_PACING_RATE) => {
                let rate = match self.set.words.pacing_rate.load(Relaxed) {
                    0 => u64::MAX,
                    rate => rate,
                };
                rate.to_le_bytes()[..if max < 8 { 4 } else { 8 }].to_vec()
            }
            (so::SOCKET, so::BINDTODEVICE) => self.device_name(max)?,
            (ipproto::TCP, tcp::CONGESTION) => {
                let asked = self.set.words.congestion.load(Relaxed);
                let runs = match &self.kind {
                    Kind::Stream(s) => s.congestion(asked),
                    Kind::Datagram(_) => asked,
                };
                congestion::name(runs)
            }
            (ipproto::TCP, tcp::INFO) => match &self.kind {
                Kind::Stream(s) => info(s),
                Kind::Datagram(_) => return Err(Errno::ENOPROTOOPT),
            },
            (ipproto::RAW, icmp::FILTER) => {
                self.filters_icmp()?;
                self.set.words.icmp_filter().load(Relaxed).to_le_bytes().to_vec()
            }
            _ => {
                let number = self.number(level, name)?;
                // A byte is what IPv4's options are when there is no room for more.
                let byte = level == ipproto::IP && max < 4 && (0..256).contains(&number);
                number.to_le_bytes()[..if byte { 1 } else { 4 }].to_vec()
            }
        };
        value.truncate(max);
        Ok(value)
    }

    fn number(&mut self, level: i32, name: i32) -> Result<i32> {
        if let Some(number) = self.way(level, name) {
            return Ok(number);
        }
        let stream = matches!(self.kind, Kind::Stream(_));
        let set = &self.set;
        let words = &set.words;
        Ok(match (level, name) {
            (so::SOCKET, so::ERROR) => {
                let error = match &mut self.kind {
                    Kind::Stream(s) => s.take_error().or_else(|| s.doubt()),
                    Kind::Datagram(d) => d.take_error(),
                };
                error.map_or(0, |e| e.0)
            }
            (so::SOCKET, so::TYPE) => match &self.kind {
                Kind::Stream(_) => sock::STREAM,
                Kind::Datagram(d) => d.flavour.ty(),
            },
            (so::SOCKET, so::DOMAIN) => self.domain,
            (so::SOCKET, so::PROTOCOL) => match &self.kind {
                Kind::Stream(_) => ipproto::TCP,
                Kind::Datagram(d) => d.flavour.protocol(),
            },
            (so::SOCKET, so::ACCEPTCONN) => match &self.kind {
                Kind::Stream(s) => s.is_listener() as i32,
                Kind::Datagram(_) => 0,
            },
            (so::SOCKET, so::SNDLOWAT) => 1,
            (so::SOCKET, so::SNDBUF) => match set.send_buffer.get() {
                0 => match &self.kind {
                    Kind::Stream(s) => s.send_buffer().unwrap_or(FIRST_SEND),
                    Kind::Datagram(_) => MAX_BUFFER as i32,
                },
                bytes => bytes as i32,
            },
            (so::SOCKET, so::RCVBUF) => match set.receive_buffer.get() {
                0 if stream => 131_072,
                0 => MAX_BUFFER as i32,
                bytes => bytes as i32,
            },
            (so::SOCKET, so::DEBUG | so::DONTROUTE | so::PRIORITY | so::MARK | so::RXQ_OVFL)
            | (ipproto::IP, ip::RECVORIGDSTADDR)
            | (ipproto::TCP, tcp::INQ | tcp::WINDOW_CLAMP) => set.noted(level, name),
            (ipproto::UDP, udp::CORK) if !stream => set.noted(level, name),
            (ipproto::TCP, tcp::LINGER2) => match words.linger2_s.load(Relaxed) {
                0 => 60,
                libipc::sock::AppSock::NO_LINGER2 => -1,
                seconds => seconds as i32,
            },
            // In whole repetitions of a SYN-ACK.
            (ipproto::TCP, tcp::DEFER_ACCEPT) => {
                (1 << defer_retries(words.defer_accept_s().load(Relaxed))) - 1
            }
            (ipproto::TCP, tcp::MAXSEG) => match &self.kind {
                Kind::Stream(s) if s.is_connected() => s.info().map_or(0, |i| i.snd_mss as i32),
                _ => options::find(level, name).ok_or(Errno::ENOPROTOOPT)?.get(words),
            },
            (ipproto::IP, ip::MULTICAST_TTL) | (ipproto::IPV6, ipv6::MULTICAST_HOPS) => {
                if stream {
                    1
                } else {
                    (words.multicast_ttl.load(Relaxed) ^ 1) as i32
                }
            }
            (ipproto::IP, ip::MTU_DISCOVER) | (ipproto::IPV6, ipv6::MTU_DISCOVER) => {
                match words.options.load(Relaxed) & option::PMTU {
                    option::PMTU_DONT => 0,
                    option::PMTU_DO => 2,
                    option::PMTU_PROBE => 3,
                    _ => 1,
                }
            }
            (ipproto::IP, ip::MTU) | (ipproto::IPV6, ipv6::MTU) => {
                self.peer()?;
                let mtu = match &self.kind {
                    Kind::Stream(s) => s.info().map(|i| i.pmtu),
                    Kind::Datagram(d) => d.path_mtu(),
                };
                mtu.ok_or(Errno::ENOTCONN)? as i32
            }
            _ => options::find(level, name).ok_or(Errno::ENOPROTOOPT)?.get(words),
        })
    }

    /// `fcntl(2)`.
    ///
    /// # Errors
    /// [`Errno::EINVAL`]: another command.
    pub fn fcntl(&mut self, command: i32, value: i64) -> Result<i64> {
        match command {
            fcntl::GETFD => Ok(self.closes_on_exec as i64),
            fcntl::SETFD => {
                self.closes_on_exec = value as i32 & fcntl::CLOEXEC != 0;
                Ok(0)
            }
            fcntl::GETFL => Ok(self.flags as i64),
            fcntl::SETFL => {
                const CHANGES: i32 = fcntl::NONBLOCK | fcntl::APPEND | fcntl::ASYNC;
                self.flags = self.flags & !CHANGES | value as i32 & CHANGES;
                Ok(0)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// `ioctl(2)`: the result, and what the argument is then.
    ///
    /// # Errors
    /// [`Errno::ENOTTY`]: another request.
    pub fn ioctl(&mut self, request: u64, argument: &[u8]) -> Result<(i64, Vec<u8>)> {
        let request = i32::try_from(request).map_err(|_| Errno::ENOTTY)?;
        let value = match (request, &self.kind) {
            (ioctl::FIONBIO, _) => {
                let on = int(argument)? != 0;
                let others = self.flags & !fcntl::NONBLOCK;
                self.flags = others | if on { fcntl::NONBLOCK } else { 0 };
                return Ok((0, argument.to_vec()));
            }
            (ioctl::INQ | ioctl::OUTQ | ioctl::OUTQNSD | ioctl::ATMARK, Kind::Stream(s)) => {
                s.queued(request)?
            }
            (ioctl::INQ, Kind::Datagram(d)) => d.queued(true),
            (ioctl::OUTQ, Kind::Datagram(d)) => d.queued(false),
            // No datagram's time of arrival is kept.
            (ioctl::GSTAMP | ioctl::GSTAMPNS, _) => return Err(Errno::ENOENT),
            _ => return Err(Errno::ENOTTY),
        };
        let mut out = vec![0; argument.len()];
        let n = out.len().min(4);
        out[..n].copy_from_slice(&value.to_le_bytes()[..n]);
        Ok((0, out))
    }
}
