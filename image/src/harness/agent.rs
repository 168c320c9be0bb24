//! The host's side of the test agent (docs/agent.md): requests out, replies in, in any order.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddrV4;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Failure, host, wrong};

/// Numbers of its calls (docs/agent.md); not the agent's own, which are under test.
pub(crate) mod op {
    pub const HELLO: u8 = 0x00;
    pub const RESET: u8 = 0x01;
    pub const SOCKET: u8 = 0x10;
    pub const BIND: u8 = 0x11;
    pub const LISTEN: u8 = 0x12;
    pub const ACCEPT: u8 = 0x13;
    pub const CONNECT: u8 = 0x14;
    pub const SEND: u8 = 0x15;
    pub const RECV: u8 = 0x16;
    pub const CLOSE: u8 = 0x17;
    pub const SHUTDOWN: u8 = 0x18;
    pub const SETSOCKOPT: u8 = 0x19;
    pub const GETSOCKOPT: u8 = 0x1A;
    pub const FCNTL: u8 = 0x1B;
    pub const IOCTL: u8 = 0x1C;
    pub const POLL: u8 = 0x1D;
    pub const GETPEERNAME: u8 = 0x1F;
    pub const SENDMSG: u8 = 0x20;
    pub const RECVMSG: u8 = 0x21;
    pub const READ: u8 = 0x27;
    pub const WRITE: u8 = 0x28;
}

/// How long a call may take that does not wait for anything by itself.
const CALL: Duration = Duration::from_secs(60);

/// A path for QEMU to make the socket at.
pub fn path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("breakwater-{}-{}.agent", std::process::id(), COUNT.fetch_add(1, Relaxed));
    std::env::temp_dir().join(name)
}

/// A connection to the agent.
pub struct Agent {
    stream: UnixStream,
    tag: u32,
    received: Vec<u8>,
    /// Replies that nobody has asked for yet, by tag.
    early: HashMap<u32, (i64, Vec<u8>)>,
}

/// Arguments of a request, one after the other.
#[derive(Default)]
pub struct Arguments(pub Vec<u8>);

impl Arguments {
    /// So many numbers of 32 bits.
    pub fn ints(numbers: &[i32]) -> Self {
        Self(numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
    }
    /// An IPv4 address.
    pub fn addr(mut self, addr: SocketAddrV4) -> Self {
        self.0.extend(16u16.to_le_bytes());
        self.0.extend(2u16.to_le_bytes());
        self.0.extend(addr.port().to_be_bytes());
        self.0.extend(addr.ip().octets());
        self.0.extend([0; 8]);
        self
    }
    /// No address.
    pub fn nowhere(mut self) -> Self {
        self.0.extend([0; 2]);
        self
    }
    /// Bytes to send.
    pub fn data(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u32).to_le_bytes());
        self.0.push(0);
        self.0.extend(bytes);
        self
    }
    /// One byte, many times, to send.
    pub fn repeated(mut self, byte: u8, count: u32) -> Self {
        self.0.extend(count.to_le_bytes());
        self.0.extend([1, byte]);
        self
    }
    /// Anything else.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

impl Agent {
    /// Connects to the socket that QEMU has made at `path`.
    ///
    /// # Errors
    /// [`Failure::Host`].
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|e| host("cannot reach the agent", e))?;
        Ok(Self { stream, tag: 0, received: Vec::new(), early: HashMap::new() })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// [`Failure::Host`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(|e| host("cannot write to the agent", e))
    }

    /// Sends a request; its tag.
    ///
    /// # Errors
    /// [`Failure::Host`].
    pub fn begin(&mut self, op: u8, arguments: &Arguments) -> Result<u32, Failure> {
        self.tag += 1;
        let mut frame = vec![0xA5, 0x5A];
        frame.extend((5 + arguments.0.len() as u32).to_le_bytes());
        frame.extend(self.tag.to_le_bytes());
        frame.push(op);
        frame.extend(&arguments.0);
        self.raw(&frame)?;
        Ok(self.tag)
    }

    /// The reply to `tag`, if it comes within `limit`.
    ///
    /// # Errors
    /// [`Failure::Host`], or [`Failure::Wrong`] for bytes that are no reply.
    pub fn reply(&mut self, tag: u32, limit: Duration) -> Result<Option<(i64, Vec<u8>)>, Failure> {
        let end = Instant::now() + limit;
        loop {
            self.take()?;
            if let Some(reply) = self.early.remove(&tag) {
                return Ok(Some(reply));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let set = self.stream.set_read_timeout(Some(left));
            set.map_err(|e| host("cannot wait for the agent", e))?;
            let mut bytes = [0; 65536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return wrong("the agent's socket was closed"),
                Ok(n) => self.received.extend(&bytes[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(host("cannot read from the agent", e)),
            }
        }
    }

    /// Takes the replies that are complete.
    fn take(&mut self) -> Result<(), Failure> {
        while let Some(head) = self.received.first_chunk::<6>() {
            let len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
            if head[..2] != [0x5A, 0xA5] || len < 12 {
                return wrong(format!("the agent sent {:02x?}", &self.received[..6]));
            }
            let Some(body) = self.received.get(6..6 + len) else { return Ok(()) };
            let tag = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
            let result = i64::from_le_bytes(core::array::from_fn(|i| body[4 + i]));
            self.early.insert(tag, (result, body[12..].to_vec()));
            self.received.drain(..6 + len);
        }
        Ok(())
    }

    /// Makes a call and waits for its result.
    ///
    /// # Errors
    /// As [`Self::reply`], or if there is none in time.
    pub fn call(&mut self, op: u8, arguments: &Arguments) -> Result<(i64, Vec<u8>), Failure> {
        let tag = self.begin(op, arguments)?;
        match self.reply(tag, CALL)? {
            Some(reply) => Ok(reply),
            None => wrong(format!("operation {op:#x} got no reply")),
        }
    }

    /// A call that must succeed.
    ///
    /// # Errors
    /// As [`Self::call`], or if it does not.
    pub fn must(&mut self, op: u8, arguments: &Arguments) -> Result<(i64, Vec<u8>), Failure> {
        let (result, data) = self.call(op, arguments)?;
        if result < 0 {
            return wrong(format!("operation {op:#x} failed with errno {}", -result));
        }
        Ok((result, data))
    }
}
