//! The services over TCP: one state a connection.

use userland::Error;
use userland::net::TcpStream;
use userland::serve::{self, Turn};

/// Bytes moved for one connection before the others get their turn.
const BUDGET: usize = 256 << 10;

/// How far a connection is.
enum State {
    Echo,
    Byte,
    /// Bytes so far.
    Count(u64),
    /// The request, as far as it has come.
    Asked {
        bytes: [u8; 8],
        have: usize,
    },
    /// Bytes still to send, and how much of the ring has been filled.
    Send {
        left: u64,
        filled: usize,
    },
}

/// A connection and its service.
pub struct Connection {
    stream: TcpStream,
    state: State,
}

impl serve::Connection for Connection {
    fn stream(&self) -> &TcpStream {
        &self.stream
    }
    fn step(&mut self) -> Result<Turn, Error> {
        let stream = &self.stream;
        let mut budget = BUDGET;
        loop {
            match &mut self.state {
                State::Echo => match stream.echo(budget)? {
                    // The peer ended: so do we. What is in the send ring still goes out.
                    0 => return Ok(Turn::Over),
                    n => budget -= n,
                },
                State::Byte => {
                    let mut byte = [0];
                    if stream.read(&mut byte)? == 1 {
                        stream.write(&byte)?;
                    }
                    return Ok(Turn::Over);
                }
                State::Count(total) => match stream.skip(budget)? {
                    0 => {
                        // The ring is empty: there is room.
                        stream.write(&total.to_le_bytes())?;
                        return Ok(Turn::Over);
                    }
                    n => {
                        *total += n as u64;
                        budget -= n;
                    }
                },
                State::Asked { bytes, have } => {
                    match stream.read(&mut bytes[*have..])? {
                        0 => return Ok(Turn::Over),
                        n => *have += n,
                    }
                    if *have == bytes.len() {
                        let left = match u64::from_le_bytes(*bytes) {
                            0 => u64::MAX,
                            n => n,
                        };
                        self.state = State::Send { left, filled: 0 };
                    }
                }
                State::Send { left: 0, .. } => return Ok(Turn::Over),
                State::Send { left, filled } => {
                    let size = stream.send_buffer_size();
                    let most = (*left).min(budget as u64) as usize;
                    let n = stream.write_with(most, |to| {
                        // Once around; after that the ring holds what is to be sent.
                        if *filled < size {
                            to.fill(b'.');
                            *filled += to.len();
                        }
                        to.len()
                    })?;
                    *left -= n as u64;
                    budget -= n;
                }
            }
            if budget == 0 {
                return Ok(Turn::Again);
            }
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, state: State) -> Self {
        stream.set_nodelay(true);
        Self { stream, state }
    }

    /// Sends back what comes.
    pub fn echo(stream: TcpStream) -> Self {
        Self::new(stream, State::Echo)
    }

    /// A byte in, a byte out, the end.
    pub fn byte(stream: TcpStream) -> Self {
        Self::new(stream, State::Byte)
    }

    /// Counts what comes.
    pub fn count(stream: TcpStream) -> Self {
        Self::new(stream, State::Count(0))
    }

    /// Sends what is asked for.
    pub fn send(stream: TcpStream) -> Self {
        Self::new(stream, State::Asked { bytes: [0; 8], have: 0 })
    }
}
