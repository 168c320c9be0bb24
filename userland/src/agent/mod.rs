//! The test agent: makes socket calls for a test host and answers on a byte stream that is not the
//! network. `docs/agent.md` has its frames and operations.
//!
//! Nothing here waits. A call that would is put on a list and made again when its socket has news or
//! its time is up, so any number of them wait while others are served.

mod arguments;
mod calls;
pub mod frame;
mod pending;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::linux::{Errno, File};
use crate::runtime::{Instant, Runtime};
use frame::{Frames, Request};
use pending::Pending;

/// First descriptor: those below are a Linux program's console.
const FIRST_FD: usize = 3;
/// Sockets that get large rings; more get small ones.
const LARGE_SOCKETS: usize = 48;
/// Bytes of a socket's rings, large and small: send, receive.
const LARGE: (u32, u32) = (256 << 10, 256 << 10);
const SMALL: (u32, u32) = (16 << 10, 64 << 10);
/// Bytes of replies that may wait before no further request is read.
const BACKLOG: usize = 2 << 20;
/// How long the rest of a frame may take.
const FRAME_TIME: Duration = Duration::from_secs(2);

/// What a request is answered with: the result, and data.
type Answer = core::result::Result<(i64, Vec<u8>), Errno>;

/// See the [module](self).
pub struct Agent {
    rt: &'static Runtime,
    frames: Frames,
    /// By descriptor.
    files: Vec<Option<File>>,
    pending: Vec<Pending>,
    replies: VecDeque<u8>,
    /// When bytes came last.
    fed: Instant,
}

impl Agent {
    /// One without descriptors.
    pub fn new(rt: &'static Runtime) -> Self {
        Self {
            rt,
            frames: Frames::default(),
            files: Vec::new(),
            pending: Vec::new(),
            replies: VecDeque::new(),
            fed: rt.now(),
        }
    }

    /// Takes bytes from the host and serves the requests that are complete.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed = self.rt.now();
        self.frames.feed(bytes);
        self.serve();
    }

    fn serve(&mut self) {
        while let Some(request) = self.frames.take() {
            self.request(&request);
        }
    }

    /// Whether it takes more: not while too many replies wait.
    pub fn is_hungry(&self) -> bool {
        self.replies.len() < BACKLOG
    }

    /// Bytes for the host.
    pub fn replies(&mut self) -> &mut VecDeque<u8> {
        &mut self.replies
    }

    /// Goes on with what waits for sockets with news, and with what has waited long enough.
    pub fn turn(&mut self) {
        let now = self.rt.now();
        if self.frames.is_waiting() && now.since(self.fed) >= FRAME_TIME {
            self.frames.give_up();
            self.fed = now;
            self.serve();
        }
        let mut news = Vec::new();
        while let Some(id) = self.rt.next_ready() {
            news.push(id);
        }
        news.sort_unstable();
        self.go_on(|p, files| p.is_due(now) || p.concerns(files, &news));
    }

    /// When [`Self::turn`] has something to do though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let calls = self.pending.iter().filter_map(Pending::deadline).min();
        let frame = self.frames.is_waiting().then(|| self.fed + FRAME_TIME);
        calls.into_iter().chain(frame).min()
    }

    /// Makes those pending calls again that `which` chooses.
    fn go_on(&mut self, which: impl Fn(&Pending, &[Option<File>]) -> bool) {
        // Whatever one call in a queue waits for, those behind it wait for, too.
        let mut queues = Vec::new();
        let waiting = core::mem::take(&mut self.pending);
        for mut p in waiting {
            let behind = p.queue().is_some_and(|q| queues.contains(&q)) && !p.is_due(self.rt.now());
            if behind || !which(&p, &self.files) {
                self.pending.push(p);
                continue;
            }
            match p.attempt(self) {
                Some(answer) => self.answer(p.tag, answer),
                None => {
                    queues.extend(p.queue());
                    self.pending.push(p);
                }
            }
        }
    }

    fn answer(&mut self, tag: u32, answer: Answer) {
        let (result, data) = answer.unwrap_or_else(|e| (-(e.0 as i64), Vec::new()));
        self.replies.extend(frame::reply(tag, result, &data));
    }

    fn request(&mut self, request: &Request) {
        let tag = request.tag;
        match self.call(request) {
            Ok(calls::Outcome::Done(result, data)) => self.answer(tag, Ok((result, data))),
            Ok(calls::Outcome::Try(mut pending)) => match pending.attempt(self) {
                Some(answer) => self.answer(tag, answer),
                None => self.pending.push(pending),
            },
            Err(e) => self.answer(tag, Err(e)),
        }
    }

    fn file(&mut self, fd: i32) -> core::result::Result<&mut File, Errno> {
        let file = self.files.get_mut(usize::try_from(fd).map_err(|_| Errno::EBADF)?);
        file.and_then(Option::as_mut).ok_or(Errno::EBADF)
    }

    /// Sizes of a new socket's rings.
    fn rings(&self) -> (u32, u32) {
        let open = self.files.iter().flatten().count();
        if open < LARGE_SOCKETS { LARGE } else { SMALL }
    }

    /// The lowest free descriptor, which is `file`'s now.
    fn install(&mut self, file: File) -> i64 {
        let free = (FIRST_FD..).find(|fd| self.files.get(*fd).is_none_or(Option::is_none));
        let fd = free.unwrap_or(FIRST_FD);
        if self.files.len() <= fd {
            self.files.resize_with(fd + 1, || None);
        }
        self.files[fd] = Some(file);
        fd as i64
    }

    /// Ends everything: connections by reset, and requests that wait without an answer.
    fn reset(&mut self) {
        for p in self.pending.drain(..) {
            p.abort();
        }
        for file in self.files.drain(..).flatten() {
            file.abort();
        }
    }
}
