//! A program's session: its memory, its id rings, what it is owed.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::*, fence};

use libipc::log::Pace;
use libipc::net::FREED_MANY;
use libipc::ring::{Consumer, Memory, PeerError, Producer};
use libipc::shared::Bytes;
use libipc::sock::{AppSock, IdEntry, Record, SessionSpec};

/// Memory of a session as mapped in netd. `records` and `apps` have as many entries as the
/// session has sockets, and so have the rings.
#[derive(Clone, Copy)]
pub struct SessionMemory {
    /// Region `net`.
    pub records: &'static [Record],
    /// Region `app`.
    pub apps: &'static [AppSock],
    /// Send rings.
    pub tx: Bytes,
    /// Receive rings.
    pub rx: Bytes,
    /// Ids from the program.
    pub submit: Memory<IdEntry>,
    /// Ids to the program.
    pub ready: Memory<IdEntry>,
    /// Region `net`: the state of the interface.
    pub link: &'static AtomicU64,
    /// Region `app`: whether the program wants to know when that changes.
    pub watch: &'static AtomicU64,
}

/// A session.
pub struct Session {
    /// Whose it is, and what that program may do.
    pub spec: SessionSpec,
    /// Its memory.
    pub mem: SessionMemory,
    /// Number of its first socket among all.
    pub base: u32,
    /// Nonsense was found in its memory: nothing is believed until it begins anew.
    pub dead: bool,
    /// How often that happened.
    pub faults: u32,
    /// Lines in the log about that, and about its full backlogs.
    pub fault_pace: Pace,
    /// Likewise.
    pub backlog_pace: Pace,
    /// Frames with the driver that use its send region.
    pub in_flight: u32,
    /// sockd waits for that number to become 0.
    pub ending: bool,
    submit: Option<Consumer<IdEntry>>,
    ready: Option<Producer<IdEntry>>,
    /// Index after the last announcement of each id.
    announced: Vec<u64>,
    /// The program sleeps and there is news for it.
    signal: bool,
    /// Ids freed since asked: a bit each, and how many.
    freed: Vec<u64>,
    freed_count: u32,
    /// sockd waits for the next one.
    wanted: bool,
}

impl Session {
    /// Attaches where the rings stand. The second value: whether they made sense.
    pub fn new(spec: SessionSpec, mem: SessionMemory, base: u32) -> (Self, Result<(), PeerError>) {
        let sockets = mem.records.len();
        let ready = mem.ready.producer();
        let result = ready.as_ref().map(|_| ()).map_err(|e| *e);
        let mut session = Self {
            spec,
            mem,
            base,
            dead: result.is_err(),
            faults: 0,
            fault_pace: Pace::default(),
            backlog_pace: Pace::default(),
            in_flight: 0,
            ending: false,
            submit: mem.submit.consumer().ok(),
            ready: ready.ok(),
            announced: alloc::vec![0; sockets],
            // A predecessor may have published without signalling.
            signal: true,
            freed: alloc::vec![0; sockets.div_ceil(64)],
            freed_count: 0,
            wanted: true,
        };
        session.remember_announcements();
        (session, result)
    }

    /// Number of sockets.
    pub fn sockets(&self) -> u32 {
        self.mem.records.len() as u32
    }

    /// What a predecessor announced and the program has not consumed.
    fn remember_announcements(&mut self) {
        let Some(ready) = &self.ready else { return };
        for index in ready.released()..ready.index() {
            if let Some([id]) = ready.peek(index)
                && let Some(at) = self.announced.get_mut(id as usize)
            {
                *at = index + 1;
            }
        }
    }

    /// Empties the id rings by taking over the program's indices, for a new incarnation of it.
    ///
    /// # Errors
    /// If even that makes no sense; the session stays dead.
    pub fn begin_anew(&mut self) -> Result<(), PeerError> {
        self.dead = true;
        self.submit = match self.mem.submit.consumer_at_tail() {
            Ok(ring) => Some(ring),
            Err(PeerError::Header) => None,
            Err(e) => return Err(e),
        };
        self.ready = Some(self.mem.ready.producer_at_head()?);
        self.announced.fill(0);
        self.freed.fill(0);
        self.freed_count = 0;
        self.dead = false;
        Ok(())
    }

    /// Looks at how many ids the program has submitted.
    ///
    /// # Errors
    /// The program's fault.
    #[inline]
    pub fn look(&mut self) -> Result<u64, PeerError> {
        if self.submit.is_none() {
            self.submit = self.mem.submit.consumer().ok();
        }
        self.submit.as_mut().map_or(Ok(0), Consumer::available)
    }

    /// The next id, of those that [`Self::look`] saw.
    #[inline]
    pub fn submitted(&mut self) -> Option<u64> {
        self.submit.as_mut().and_then(Consumer::pop_seen).map(|[id]| id)
    }

    /// Publishes what was taken and asks to be signalled; `true`: there is nothing more.
    ///
    /// # Errors
    /// The program's fault.
    #[inline]
    pub fn sleep(&mut self) -> Result<bool, PeerError> {
        match &mut self.submit {
            Some(ring) => {
                ring.release();
                ring.sleep()
            }
            None => Ok(true),
        }
    }

    /// Announces `id`, unless it is announced and not consumed yet.
    ///
    /// # Errors
    /// The program's fault.
    #[inline]
    pub fn announce(&mut self, id: u16) -> Result<(), PeerError> {
        let Some(ready) = &mut self.ready else { return Ok(()) };
        let at = &mut self.announced[id as usize];
        if *at > ready.released() {
            // The program may have consumed it since. It releases first and looks second; the
            // record was written before this fence, so one of the two sees the other.
            fence(SeqCst);
            ready.space()?;
            if *at > ready.released() {
                return Ok(());
            }
        }
        if ready.push([id as u64])? {
            *at = ready.index();
        }
        Ok(())
    }

    /// Makes announcements visible.
    #[inline]
    pub fn publish(&mut self) {
        if let Some(ready) = &mut self.ready {
            crate::crash::point();
            self.signal |= ready.publish();
            crate::crash::point();
        }
    }

    /// Has the program signalled though nothing is announced: it finds its records closed.
    pub fn wake(&mut self) {
        self.signal = true;
    }

    /// Whether the program must be signalled; asking clears it.
    #[inline]
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }

    /// The program's indices of a socket: bytes ever written, and taken.
    pub fn words(&self, id: u16) -> (u64, u64) {
        let app = &self.mem.apps[id as usize];
        (app.tx_tail.load(Acquire), app.rx_head.load(Acquire))
    }

    /// The program's words of a socket.
    pub fn app(&self, id: u16) -> &AppSock {
        &self.mem.apps[id as usize]
    }

    /// The program's options of a socket ([`libipc::sock::option`]).
    pub fn options(&self, id: u16) -> u32 {
        self.mem.apps[id as usize].options.load(Relaxed)
    }

    /// Notes that `id` was freed; `true`: sockd must be told.
    pub fn note_freed(&mut self, id: u16) -> bool {
        let word = &mut self.freed[id as usize / 64];
        if *word & 1 << (id % 64) == 0 {
            *word |= 1 << (id % 64);
            self.freed_count += 1;
        }
        self.wanted || self.freed_count >= FREED_MANY
    }

    /// Forgets that `id` was freed: it is in use again.
    pub fn forget_freed(&mut self, id: u16) {
        let word = &mut self.freed[id as usize / 64];
        if *word & 1 << (id % 64) != 0 {
            *word &= !(1 << (id % 64));
            self.freed_count -= 1;
        }
    }

    /// Takes up to 32 freed ids. `wait`: the next one is worth a signal.
    pub fn take_freed(&mut self, wait: bool) -> heapless::Vec<u16, 32> {
        self.wanted = wait;
        let mut out = heapless::Vec::new();
        for (i, word) in self.freed.iter_mut().enumerate() {
            while *word != 0 && !out.is_full() && self.freed_count > 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                self.freed_count -= 1;
                let _ = out.push((i * 64) as u16 + bit as u16);
            }
            if out.is_full() || self.freed_count == 0 {
                break;
            }
        }
        out
    }
}
