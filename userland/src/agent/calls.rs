//! Operations by number.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Agent;
use super::arguments::Arguments;
use super::frame::Request;
use super::pending::{Call, Pending};
use crate::linux::numbers::msg;
use crate::linux::{Errno, File, Message, Result};

/// The protocol's version, as HELLO tells it.
const VERSION: i64 = 1;
/// What HELLO says that this is.
const NAME: &[u8] = b"Breakwater";

/// What became of a request.
pub enum Outcome {
    /// It is done: result and data.
    Done(i64, Vec<u8>),
    /// It is made, and made again while it would have to wait.
    Try(Pending),
}

use Outcome::{Done, Try};

fn done(result: i64) -> Result<Outcome> {
    Ok(Done(result, Vec::new()))
}

/// An address as replies have it.
pub fn sized(addr: &[u8]) -> Vec<u8> {
    let mut b = (addr.len() as u16).to_le_bytes().to_vec();
    b.extend(addr);
    b
}

impl Agent {
    /// Begins a request.
    pub(super) fn call(&mut self, request: &Request) -> Result<Outcome> {
        let mut a = Arguments(&request.arguments);
        match request.op {
            0x00 => {
                let mut b = 0u32.to_le_bytes().to_vec();
                b.extend((NAME.len() as u16).to_le_bytes());
                b.extend(NAME);
                Ok(Done(VERSION, b))
            }
            0x01 => {
                self.reset();
                done(0)
            }
            0x10 => {
                let (domain, ty, protocol) = (a.i32()?, a.i32()?, a.i32()?);
                let file = File::socket(self.rt, domain, ty, protocol, self.rings())?;
                done(self.install(file))
            }
            0x17 => self.close(a.i32()?, request.tag),
            0x1D => self.poll(&mut a, request.tag),
            0x11..=0x16 | 0x18..=0x21 | 0x27 | 0x28 => {
                let fd = a.i32()?;
                self.file(fd)?;
                let outcome = match request.op {
                    0x13..=0x16 | 0x20 | 0x21 | 0x27 | 0x28 => self.waiting(fd, request, &mut a),
                    _ => self.file(fd)?.at_once(request.op, &mut a),
                };
                // What waits for this socket may not have to any more.
                self.go_on(|p, _| p.is_about(fd));
                outcome
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// A call that may have to wait.
    fn waiting(&mut self, fd: i32, r: &Request, a: &mut Arguments<'_>) -> Result<Outcome> {
        let mut receives = true;
        let mut flags = 0;
        let call = match r.op {
            0x13 => Call::Accept,
            0x14 => {
                receives = false;
                match self.file(fd)?.connect(&a.addr()?) {
                    Err(e @ (Errno::EINPROGRESS | Errno::EALREADY)) => {
                        if self.file(fd)?.is_nonblocking(0) {
                            return Err(e);
                        }
                        Call::Connect
                    }
                    other => return other.and_then(|()| done(0)),
                }
            }
            0x15 | 0x20 | 0x28 => {
                receives = false;
                let mut to = Vec::new();
                if r.op != 0x28 {
                    (flags, to) = (a.i32()?, a.addr()?);
                }
                let mut control = Vec::new();
                if r.op == 0x20 {
                    let n = a.u32()?;
                    control.extend(a.bytes(n as usize)?);
                }
                Call::Send { flags, to, control, data: a.data()?, at: 0 }
            }
            op => {
                flags = if op == 0x27 { 0 } else { a.i32()? };
                let count = a.u32()? as usize;
                if op == 0x27 && count == 0 {
                    return done(0);
                }
                let room = if op == 0x21 { a.u32()? as usize } else { 0 };
                Call::Receive { op, flags, count, want: a.u8()?, room, got: Message::default() }
            }
        };
        let file = self.file(fd)?;
        let wait = !file.is_nonblocking(if receives { flags } else { flags & msg::DONTWAIT });
        let patience = file.patience(receives);
        let deadline = patience.map(|time| self.rt.now() + time);
        Ok(Try(Pending { tag: r.tag, fd, call, wait, deadline }))
    }

    fn close(&mut self, fd: i32, tag: u32) -> Result<Outcome> {
        self.file(fd)?;
        let mut file = self.files[fd as usize].take().ok_or(Errno::EBADF)?;
        let linger = file.close();
        let mut i = 0;
        while i < self.pending.len() {
            if self.pending[i].fd == fd {
                let p = self.pending.remove(i);
                self.answer(p.tag, Err(Errno::EBADF));
            } else {
                i += 1;
            }
        }
        match linger {
            None => done(0),
            Some(time) => {
                let deadline = Some(self.rt.now() + time);
                Ok(Try(Pending {
                    tag,
                    fd: -1,
                    call: Call::Linger(Box::new(file)),
                    wait: true,
                    deadline,
                }))
            }
        }
    }

    fn poll(&mut self, a: &mut Arguments<'_>, tag: u32) -> Result<Outcome> {
        let (n, timeout) = (a.u32()?, a.i32()?);
        let mut list = Vec::new();
        for _ in 0..n {
            list.push((a.i32()?, a.u16()?));
        }
        let time = u64::try_from(timeout).ok().map(core::time::Duration::from_millis);
        let deadline = time.map(|time| self.rt.now() + time);
        let call = Call::Poll(list);
        Ok(Try(Pending { tag, fd: -1, call, wait: timeout != 0, deadline }))
    }
}

impl File {
    /// A call that never waits.
    fn at_once(&mut self, op: u8, a: &mut Arguments<'_>) -> Result<Outcome> {
        match op {
            0x11 => self.bind(&a.addr()?)?,
            0x12 => self.listen(a.i32()?)?,
            0x18 => self.shutdown(a.i32()?)?,
            0x19 => {
                let (level, name, n) = (a.i32()?, a.i32()?, a.u32()?);
                self.set_option(level, name, a.bytes(n as usize)?)?;
            }
            0x1A => {
                let (level, name, max) = (a.i32()?, a.i32()?, a.u32()?);
                return Ok(Done(0, self.option(level, name, max as usize)?));
            }
            0x1B => {
                let (command, value) = (a.i32()?, a.i64()?);
                return done(self.fcntl(command, value)?);
            }
            0x1C => {
                let (request, n) = (a.u64()?, a.u32()?);
                let (result, data) = self.ioctl(request, a.bytes(n as usize)?)?;
                return Ok(Done(result, data));
            }
            0x1E => return Ok(Done(0, sized(&self.local()))),
            0x1F => return Ok(Done(0, sized(&self.peer()?))),
            _ => return Err(Errno::ENOSYS),
        }
        done(0)
    }
}
