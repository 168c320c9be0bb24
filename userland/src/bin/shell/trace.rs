//! The kernel's trace: started, stopped, and sent to whoever connects.

use core::fmt::Write;
use core::net::SocketAddr;
use core::time::Duration;
use libipc::proc::{self, Trace};
use libipc::trace::{Header, MAGIC};
use userland::mem;
use userland::net::TcpStream;

use super::failure::{Done, Failure, clip};
use super::{Shell, out};

const USAGE: &str = "trace [start|stop], or trace send PORT";
/// How long a reader may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the ring that are sent at once.
const PIECE: usize = 4096;

/// What init says of the trace.
struct State {
    running: bool,
    written: u64,
    capacity: u64,
}

impl Shell {
    pub(super) fn trace(&mut self, args: &[&str]) -> Done {
        match args {
            [] => self.order_trace(Trace::Look).map(|s| self.trace_line(&s)),
            ["start"] => self.order_trace(Trace::Start).map(drop),
            ["stop"] => self.order_trace(Trace::Stop).map(|s| self.trace_line(&s)),
            ["send", port] => {
                let at = self.listening_address("trace", port)?;
                self.send_trace(at)
            }
            _ => Err(Failure::Usage(USAGE)),
        }
    }

    fn order_trace(&self, order: Trace) -> Result<State, Failure> {
        match self.init(&proc::Request::Trace(order))? {
            proc::Reply::Trace { running, written, capacity } => {
                Ok(State { running, written, capacity })
            }
            _ => Err(Failure::Nonsense("init")),
        }
    }

    fn trace_line(&mut self, s: &State) {
        let how = if s.running { "runs" } else { "is stopped" };
        let kept = s.written.min(s.capacity);
        out!(self, "the trace {how}: {} events, the last {kept} are kept", s.written);
    }

    /// The address to listen on at a port.
    pub(super) fn listening_address(
        &self,
        command: &'static str,
        port: &str,
    ) -> Result<SocketAddr, Failure> {
        let number = port.parse::<u16>().ok().filter(|p| *p > 0);
        let number = number.ok_or(Failure::NoNumber(command, clip(port)))?;
        Ok(SocketAddr::from(([0, 0, 0, 0], number)))
    }

    fn send_trace(&mut self, at: SocketAddr) -> Done {
        let ring = mem::trace_ring(self.start).ok_or(Failure::NoTrace)?;
        let state = self.order_trace(Trace::Stop)?;
        let bytes = (state.capacity * abi::TRACE_RECORD).min(ring.len() as u64) as usize;
        if bytes == 0 {
            return Err(Failure::NoTrace);
        }
        let capacity = bytes as u64 / abi::TRACE_RECORD;
        let records = state.written.min(capacity);
        let mut header = Header {
            clock: self.start.clock,
            written: state.written,
            records,
            names: Default::default(),
        };
        self.each_process(|p| drop(header.names.push(p.name.clone())))?;
        let Some(stream) = self.accept(at).map_err(Failure::Send)? else { return Ok(()) };
        stream.set_user_timeout(Some(PATIENCE));
        send_header(&stream, &MAGIC, &header)?;
        // The oldest is where the next would go, once the ring has been filled.
        let oldest = if state.written > capacity { state.written % capacity } else { 0 };
        let (mut from, mut left) = ((oldest * abi::TRACE_RECORD) as usize, records as usize * 32);
        let mut piece = [0; PIECE];
        while left > 0 {
            let n = left.min(PIECE).min(bytes - from);
            if !ring.read(from, &mut piece[..n]) {
                return Err(Failure::NoTrace);
            }
            stream.write_all(&piece[..n]).map_err(Failure::Send)?;
            from = (from + n) % bytes;
            left -= n;
        }
        out!(self, "{records} events sent");
        Ok(())
    }
}

/// Sends what comes before the data: a mark, and a header with its length.
pub(super) fn send_header(
    stream: &TcpStream,
    magic: &[u8; 8],
    header: &impl serde::Serialize,
) -> Done {
    let mut bytes = [0; 2048];
    let len = postcard::to_slice(header, &mut bytes).map_err(|_| Failure::Nonsense("init"))?.len();
    let parts = [&magic[..], &(len as u32).to_le_bytes(), &bytes[..len]];
    parts.into_iter().try_for_each(|p| stream.write_all(p)).map_err(Failure::Send)
}
