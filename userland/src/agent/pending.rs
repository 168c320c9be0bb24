//! Calls that wait for their sockets.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::calls::sized;
use super::{Agent, Answer};
use crate::linux::numbers::{msg, poll};
use crate::linux::{Data, Errno, File, Message, Result};
use crate::runtime::Instant;

/// What is tried.
pub enum Call {
    /// ACCEPT.
    Accept,
    /// CONNECT, begun.
    Connect,
    /// SEND, SENDMSG, WRITE.
    Send {
        /// As of `sendmsg`.
        flags: i32,
        /// A `sockaddr`, or nothing.
        to: Vec<u8>,
        /// Control messages.
        control: Vec<u8>,
        /// What.
        data: Data,
        /// How much of it is sent.
        at: usize,
    },
    /// RECV, RECVMSG, READ.
    Receive {
        /// Which of them.
        op: u8,
        /// As of `recvmsg`.
        flags: i32,
        /// Most bytes.
        count: usize,
        /// Bit 0: the bytes, bit 1: the sender's address.
        want: u8,
        /// Bytes that control messages may have.
        room: usize,
        /// So far.
        got: Message,
    },
    /// POLL: descriptors and events.
    Poll(Vec<(i32, u16)>),
    /// CLOSE of a socket that lingers.
    Linger(Box<File>),
}

/// A request that is not answered yet.
pub struct Pending {
    /// The request's.
    pub tag: u32,
    /// Its descriptor; -1: none in particular.
    pub fd: i32,
    /// What is tried.
    pub call: Call,
    /// Whether it may wait at all.
    pub wait: bool,
    /// Until when.
    pub deadline: Option<Instant>,
}

impl Pending {
    /// Until when it waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it has waited long enough.
    pub fn is_due(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| now >= at)
    }

    /// The queue in which it stands with others of its kind: theirs is not done before its own.
    pub fn queue(&self) -> Option<(i32, bool)> {
        match &self.call {
            Call::Accept => Some((self.fd, true)),
            Call::Receive { flags, .. }
                if flags & (msg::WAITALL | msg::OOB | msg::ERRQUEUE) == 0 =>
            {
                Some((self.fd, false))
            }
            _ => None,
        }
    }

    /// Whether a call on descriptor `fd` may end its waiting.
    pub fn is_about(&self, fd: i32) -> bool {
        match &self.call {
            Call::Poll(list) => list.iter().any(|(polled, _)| *polled == fd),
            _ => self.fd == fd,
        }
    }

    /// Whether news of these sockets (ids, in order) may end its waiting.
    pub fn concerns(&self, files: &[Option<File>], news: &[u32]) -> bool {
        let file = match &self.call {
            Call::Poll(_) => return !news.is_empty(),
            Call::Linger(file) => Some(&**file),
            _ => usize::try_from(self.fd).ok().and_then(|fd| files.get(fd)?.as_ref()),
        };
        let id = file.and_then(File::id);
        id.is_some_and(|id| news.binary_search(&id).is_ok())
    }

    /// Ends it without an answer.
    pub fn abort(self) {
        if let Call::Linger(file) = self.call {
            file.abort();
        }
    }

    /// Tries it: the answer, or `None` if it goes on waiting.
    pub fn attempt(&mut self, agent: &mut Agent) -> Option<Answer> {
        let over = !self.wait || self.is_due(agent.rt.now());
        let (wait, fd) = (self.wait, self.fd);
        let tried = match &mut self.call {
            Call::Poll(list) => return agent.polled(list, over),
            Call::Linger(file) => {
                return (over || file.is_quiet()).then(|| Ok((0, Vec::new())));
            }
            Call::Accept => agent.accepted(fd),
            Call::Connect => agent.file(fd).and_then(File::connected).map(|()| (0, Vec::new())),
            Call::Send { flags, to, control, data, at } => {
                agent.file(fd).and_then(|f| send(f, *flags, to, control, data, at))
            }
            Call::Receive { op, flags, count, want, room, got } => agent.file(fd).and_then(|f| {
                receive(f, *flags, (*count, *room), *want, got, over)?;
                Ok((got.count as i64, received(*op, *want, core::mem::take(got))))
            }),
        };
        match tried {
            Err(Errno::EAGAIN) if !over => None,
            Err(Errno::EAGAIN) => {
                let gone = agent.file(fd).ok().and_then(File::gave_up);
                if let (Call::Send { .. }, Some(gone)) = (&self.call, gone) {
                    let nothing = Err(Errno::EINPROGRESS);
                    return Some(if gone > 0 { Ok((gone as i64, Vec::new())) } else { nothing });
                }
                Some(self.partly(if wait { self.tired() } else { Errno::EAGAIN }))
            }
            Err(e) => Some(self.partly(e)),
            Ok(answer) => Some(Ok(answer)),
        }
    }

    /// The error of a call whose time is up.
    fn tired(&self) -> Errno {
        if matches!(self.call, Call::Connect) { Errno::EINPROGRESS } else { Errno::EAGAIN }
    }

    /// What it has done so far is its result, if it has done something; else the error.
    fn partly(&mut self, e: Errno) -> Answer {
        match &mut self.call {
            Call::Send { at: at @ 1.., .. } => Ok((*at as i64, Vec::new())),
            Call::Receive { op, want, got, .. } if got.count > 0 => {
                let got = core::mem::take(got);
                Ok((got.count as i64, received(*op, *want, got)))
            }
            _ => Err(e),
        }
    }
}

/// Sends what there is room for; done when all is sent.
fn send(
    f: &mut File,
    flags: i32,
    to: &[u8],
    control: &[u8],
    data: &Data,
    at: &mut usize,
) -> Result<(i64, Vec<u8>)> {
    loop {
        *at += f.send(flags, to, control, data, *at)?;
        if *at >= data.len() {
            return Ok((*at as i64, Vec::new()));
        }
    }
}

/// Receives into `got` until it has what the call asks for.
fn receive(
    f: &mut File,
    flags: i32,
    (count, room): (usize, usize),
    want: u8,
    got: &mut Message,
    over: bool,
) -> Result<()> {
    let enough = f.enough(flags, count);
    loop {
        let more = f.recv(flags, count - got.count, want & 1 != 0, room)?;
        // Who waits for all of it while looking at it looks again.
        if flags & msg::PEEK != 0 && more.count < enough && !over && !f.has_ended() {
            return Err(Errno::EAGAIN);
        }
        got.count += more.count;
        got.flags |= more.flags;
        got.data.extend(more.data);
        got.control = more.control;
        if !more.from.is_empty() {
            got.from = more.from;
        }
        if more.count == 0 || got.count >= enough || flags & msg::PEEK != 0 || over && got.count > 0
        {
            return Ok(());
        }
    }
}

/// A receiving call's data.
fn received(op: u8, want: u8, got: Message) -> Vec<u8> {
    let mut b = Vec::new();
    if op == 0x21 {
        b.extend(got.flags.to_le_bytes());
        b.extend(sized(&got.from));
        b.extend((got.control.len() as u32).to_le_bytes());
        b.extend(&got.control);
    } else if want & 2 != 0 {
        b.extend(sized(&got.from));
    }
    b.extend(got.data);
    b
}

impl Agent {
    fn accepted(&mut self, fd: i32) -> Result<(i64, Vec<u8>)> {
        let (file, peer) = self.file(fd)?.accept()?;
        Ok((self.install(file), sized(&peer)))
    }

    fn polled(&mut self, list: &[(i32, u16)], over: bool) -> Option<Answer> {
        let mut found = Vec::new();
        let mut ready = 0;
        for (fd, events) in list {
            let always = poll::ERR | poll::HUP | poll::NVAL;
            let events = match self.file(*fd) {
                _ if *fd < 0 => 0,
                Ok(file) => file.events() & (*events as i32 | always),
                Err(_) => poll::NVAL,
            };
            ready += (events != 0) as i64;
            found.extend((events as u16).to_le_bytes());
        }
        (ready > 0 || over).then_some(Ok((ready, found)))
    }
}
