//! Echo requests.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{At, Error, LOST, Outcome, finish};

/// Sends `n` echo requests, `gap` after each answer. Needs the right to open a raw socket.
pub fn pings(ip: Ipv4Addr, n: u64, gap: Duration) -> Result<Outcome, Error> {
    let mut pinger = Pinger::new(ip)?;
    let (mut each, start) = (Vec::new(), Instant::now());
    for _ in 0..n {
        each.extend(pinger.once(LOST)?);
        std::thread::sleep(gap);
    }
    finish(n, each, start.elapsed())
}

/// Sends echo requests and knows the answers.
pub struct Pinger {
    socket: Socket,
    to: SocketAddr,
    sequence: u16,
}

impl Pinger {
    /// To `ip`.
    pub fn new(ip: Ipv4Addr) -> Result<Self, Error> {
        let socket =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).at("raw socket")?;
        Ok(Self { socket, to: SocketAddr::from((ip, 0)), sequence: 0 })
    }

    /// Sends one and waits for its answer, at most `limit`; how long it took.
    pub fn once(&mut self, limit: Duration) -> Result<Option<Duration>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let id = std::process::id() as u16;
        let mut message = [8, 0, 0, 0, 0, 0, 0, 0];
        message[4..6].copy_from_slice(&id.to_be_bytes());
        message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        let words = message.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let start = Instant::now();
        // Refused while the guest is not there yet: then there is no answer either.
        let _ = self.socket.send_to(&message, &self.to.into());
        let mut packet = [0; 256];
        loop {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left)).at("time-out")?;
            let Ok(len) = (&self.socket).read(&mut packet) else { return Ok(None) };
            // Behind an IPv4 header without options: an echo reply with our numbers.
            if len >= 28 && packet[20] == 0 && packet[24..28] == message[4..8] {
                return Ok(Some(start.elapsed()));
            }
        }
    }
}
