//! One program's connection to the system: signals, the timer, calls to sockd, and which of its
//! sockets have news.
//!
//! Everything waits in one place, `Runtime::wait_until`, on the program's one notification: netd
//! (bit 0), the timer (bit 1), the console (bit 2) and the program's device (bit 3) share it. A blocking socket call is the
//! non-blocking one in a loop around that wait; an event loop uses [`crate::poll::Poll`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};
use core::net::IpAddr;
use core::sync::atomic::{Ordering::*, fence};
use core::task::Waker;
use core::time::Duration;

use libipc::msg::CallError;
use libipc::ring::{Consumer, Producer};
use libipc::sock::{Error, IdEntry, REPEATED, Reply, Request, Stats};
use libipc::start::StartInfo;

use crate::ids::Ids;
use crate::mem::SessionMem;
use crate::poll::{self, Watch};
pub use crate::port::{Instant, Native, Port, signal};
use crate::random::Generator;

/// Why [`init`] failed: the manifest entry lacks what every program needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// No capability `events`.
    NoEvents,
    /// No capability `timer`.
    NoTimer,
}

struct Rings {
    submit: Producer<IdEntry>,
    ready: Consumer<IdEntry>,
    /// Sockets with news that nobody has looked at.
    news: Ids,
    /// The id whose turn was last.
    turn: u32,
    /// Sockets that netd is still to be told of: the submit ring was full, or [`Runtime::gather`].
    owed: Ids,
    /// netd wrote nonsense into the ready ring: look at every socket from time to time instead.
    rescan: bool,
}

pub(crate) struct Session {
    pub(crate) mem: SessionMem,
    rings: RefCell<Rings>,
}

/// How long to wait for what an earlier incarnation left behind.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look at all sockets when the ready ring cannot be trusted.
const RESCAN: Duration = Duration::from_millis(10);

/// See the [module](self).
pub struct Runtime {
    port: Box<dyn Port>,
    info: Option<&'static StartInfo>,
    mem: OnceCell<SessionMem>,
    session: OnceCell<Session>,
    number: Cell<u16>,
    armed: Cell<Option<u64>>,
    console: Cell<bool>,
    device: Cell<bool>,
    gathers: Cell<bool>,
    /// For [`crate::poll::Poll`]: whether there is one, what it reports of which id, and under
    /// which token it reports console input.
    pub(crate) polled: Cell<bool>,
    pub(crate) watches: RefCell<Vec<Watch>>,
    pub(crate) console_token: Cell<Option<usize>>,
    /// Tasks that wait for news of an id.
    wakers: RefCell<Vec<Option<Waker>>>,
    random: RefCell<Option<Generator>>,
}

/// Makes the program's runtime. It lives as long as the program; call this once.
///
/// No server is needed for it: the session is opened by the first socket.
///
/// # Errors
/// [`InitError`] if the manifest entry lacks a capability.
pub fn init(info: &'static StartInfo) -> Result<&'static Runtime, InitError> {
    let native = Native {
        info,
        events: info.cap("events").ok_or(InitError::NoEvents)?,
        timer: info.cap("timer").ok_or(InitError::NoTimer)?,
        sockd: info.cap("sockd"),
        netd: info.cap("netd.events"),
    };
    Ok(Runtime::with_port(Box::new(native), Some(info)))
}

impl Runtime {
    /// A runtime over any kernel.
    pub fn with_port(port: Box<dyn Port>, info: Option<&'static StartInfo>) -> &'static Self {
        Box::leak(Box::new(Self {
            port,
            info,
            mem: OnceCell::new(),
            session: OnceCell::new(),
            number: Cell::new(0),
            armed: Cell::new(None),
            console: Cell::new(false),
            device: Cell::new(false),
            gathers: Cell::new(false),
            polled: Cell::new(false),
            watches: RefCell::new(Vec::new()),
            console_token: Cell::new(None),
            wakers: RefCell::new(Vec::new()),
            random: RefCell::new(None),
        }))
    }

    /// The start information; `None` on the host.
    pub fn info(&self) -> Option<&'static StartInfo> {
        self.info
    }

    /// See [`crate::random::fill`].
    pub(crate) fn random(&self, bytes: &mut [u8]) {
        let generator = &mut *self.random.borrow_mut();
        generator.get_or_insert_with(|| Generator::new(self)).fill(self, bytes);
    }

    /// Now.
    pub fn now(&self) -> Instant {
        Instant(self.port.now_ns())
    }

    /// Sleeps; sockets' news are kept for later.
    pub fn sleep(&self, time: Duration) {
        let end = self.now() + time;
        self.wait_until(Some(end), |_| false);
    }

    /// Waits until a socket has news or console input has come (`true`), or until `deadline`.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        self.wait_until(deadline, |rt| rt.console.get() || rt.has_news(None))
    }

    /// Waits for console input (`true`) or until `deadline`.
    pub fn wait_console(&self, deadline: Option<Instant>) -> bool {
        self.wait_until(deadline, |rt| rt.console.get())
    }

    /// Waits until the program's device has interrupted, a socket has news or console input has come
    /// (`true`), or until `deadline`.
    pub fn wait_device(&self, deadline: Option<Instant>) -> bool {
        let news = |rt: &Self| rt.console.get() || rt.device.get() || rt.has_news(None);
        self.wait_until(deadline, news)
    }

    /// Whether the program's device has interrupted since asked last.
    pub fn take_device(&self) -> bool {
        self.device.replace(false)
    }

    /// Whether console input has been announced since asked last.
    pub fn take_console(&self) -> bool {
        self.console.replace(false)
    }

    /// With `true`, netd is told of what was read and written when the program next waits, not with
    /// each call: an event loop that serves many sockets a turn wakes netd once. [`Self::flush`]
    /// tells it earlier.
    pub fn gather(&self, on: bool) {
        self.gathers.set(on);
        self.flush();
    }

    /// Tells netd now of everything read and written so far.
    pub fn flush(&self) {
        if self.pay() {
            self.port.wake_netd();
        }
    }

    /// A socket that has news, if any: look at it until it would block. They take turns, so that a
    /// busy one holds up no other. An id may turn out to be of no interest any more.
    pub fn next_ready(&self) -> Option<u32> {
        self.drain();
        self.next_news()
    }

    /// As [`Self::next_ready`], of what was taken from the ring so far.
    pub(crate) fn next_news(&self) -> Option<u32> {
        let rings = &mut *self.session.get()?.rings.borrow_mut();
        let id = rings.news.after(rings.turn)?;
        rings.news.remove(id);
        rings.turn = id;
        Some(id)
    }

    /// Waits until `id` has news; they count as seen then.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    pub(crate) fn wait_for(&self, id: u32, deadline: Option<Instant>) -> Result<(), Error> {
        if !self.wait_until(deadline, |rt| rt.has_news(Some(id))) {
            return Err(Error::TimedOut);
        }
        self.forget_news(id);
        Ok(())
    }

    /// Marks a socket as having news.
    pub(crate) fn set_news(&self, id: u32) {
        if let Some(session) = self.session.get() {
            session.rings.borrow_mut().news.insert(id);
        }
    }

    /// Forgets what concerns `id`: its socket is closed.
    pub(crate) fn forget(&self, id: u32) {
        self.forget_news(id);
        self.unwatch(id);
        if let Some(session) = self.session.get() {
            session.rings.borrow_mut().owed.remove(id);
        }
    }

    fn forget_news(&self, id: u32) {
        if let Some(session) = self.session.get() {
            session.rings.borrow_mut().news.remove(id);
        }
    }

    /// What is ready at socket `id`.
    pub(crate) fn readiness(&self, id: u32) -> Option<u8> {
        let mem = &self.session.get()?.mem;
        Some(poll::readiness(mem.record(id), mem.app_sock(id)))
    }

    /// Has `waker` called when socket `id` has news.
    pub(crate) fn wake_on_news(&self, id: u32, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if wakers.len() <= id as usize {
            wakers.resize(id as usize + 1, None);
        }
        match &mut wakers[id as usize] {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Calls the waker that waits for news of `id`, if any: once.
    pub(crate) fn wake_task(&self, id: u32) {
        let waker = self.wakers.borrow_mut().get_mut(id as usize).and_then(Option::take);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the registration of `id`.
    pub(crate) fn unwatch(&self, id: u32) {
        if let Some(watch) = self.watches.borrow_mut().get_mut(id as usize) {
            *watch = Watch::default();
        }
    }

    pub(crate) fn has_console(&self) -> bool {
        self.console.get()
    }

    pub(crate) fn has_news(&self, id: Option<u32>) -> bool {
        let Some(session) = self.session.get() else { return false };
        let news = &session.rings.borrow().news;
        match id {
            Some(id) => news.contains(id),
            None => !news.is_empty(),
        }
    }

    /// Waits until `done` (`true`) or until `deadline` (`false`).
    pub(crate) fn wait_until(
        &self,
        deadline: Option<Instant>,
        done: impl Fn(&Self) -> bool,
    ) -> bool {
        loop {
            // netd is woken last, if need be: in the same kernel entry that waits.
            let wake = self.pay();
            let healthy = self.drain();
            if done(self) {
                if wake {
                    self.port.wake_netd();
                }
                return true;
            }
            let mut until = deadline;
            if !healthy {
                let soon = self.now() + RESCAN;
                until = Some(until.map_or(soon, |w| w.min(soon)));
            }
            let over = deadline.is_some_and(|end| self.now() >= end);
            if over || !self.may_sleep() {
                if wake {
                    self.port.wake_netd();
                }
                if over {
                    return false;
                }
                continue;
            }
            if let Some(at) = until
                && self.armed.get() != Some(at.0)
            {
                self.port.arm(at.0);
                self.armed.set(Some(at.0));
            }
            let bits = self.port.wait(wake);
            if bits & signal::TIMER != 0 {
                self.armed.set(None);
            }
            if bits & signal::CONSOLE != 0 {
                self.console.set(true);
            }
            if bits & signal::DEVICE != 0 {
                self.device.set(true);
            }
            if let Some(session) = self.session.get() {
                let rings = &mut *session.rings.borrow_mut();
                if rings.rescan {
                    rings.news.fill(session.mem.sockets());
                }
            }
        }
    }

    /// Asks netd to signal when something becomes ready; `false`: something is.
    fn may_sleep(&self) -> bool {
        let Some(session) = self.session.get() else { return true };
        let rings = &mut *session.rings.borrow_mut();
        rings.rescan || rings.ready.sleep().unwrap_or(false)
    }

    /// Moves the ready ring into `news`. `false`: the ring is not usable, or the submit ring was
    /// full, so that the caller must not sleep for long.
    fn drain(&self) -> bool {
        let Some(session) = self.session.get() else { return true };
        let rings = &mut *session.rings.borrow_mut();
        let mut taken = false;
        loop {
            match rings.ready.pop() {
                Ok(Some([id])) => {
                    taken = true;
                    if id < session.mem.sockets() as u64 {
                        rings.news.insert(id as u32);
                    }
                }
                Ok(None) => {
                    rings.rescan = false;
                    break;
                }
                Err(_) => {
                    // Start over behind whatever was announced, and look at every socket: now,
                    // and after each pause until the ring makes sense again.
                    if !rings.rescan {
                        rings.news.fill(session.mem.sockets());
                    }
                    if let Ok(ready) = session.mem.ready().consumer_at_tail() {
                        rings.ready = ready;
                    }
                    rings.rescan = true;
                    break;
                }
            }
        }
        if taken {
            rings.ready.release();
            // The record is looked at only after netd can see that its id was taken.
            fence(SeqCst);
        }
        !rings.rescan && rings.owed.is_empty()
    }

    /// Tells netd to look at a socket.
    pub(crate) fn submit(&self, id: u32) {
        let Some(session) = self.session.get() else { return };
        session.rings.borrow_mut().owed.insert(id);
        if !self.gathers.get() {
            self.flush();
        }
    }

    /// Puts what is owed into the submit ring; `true` if netd must be woken.
    fn pay(&self) -> bool {
        let Some(session) = self.session.get() else { return false };
        let rings = &mut *session.rings.borrow_mut();
        while let Some(id) = rings.owed.first() {
            if !matches!(rings.submit.push([id as u64]), Ok(true)) {
                break;
            }
            rings.owed.remove(id);
        }
        rings.submit.publish()
    }

    /// The session, opened on first use.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] if the manifest gives none, [`Error::Server`] if it cannot be mapped or
    /// attached.
    pub(crate) fn session(&self) -> Result<&Session, Error> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let mem = self.open_session()?;
        for id in 0..mem.sockets() {
            mem.app_sock(id).clear();
        }
        let submit = mem.submit().producer().map_err(|_| Error::Server)?;
        let ready = mem.ready().consumer().map_err(|_| Error::Server)?;
        let rings =
            Rings { submit, ready, news: Ids::EMPTY, turn: 0, owed: Ids::EMPTY, rescan: false };
        Ok(self.session.get_or_init(|| Session { mem: *mem, rings: RefCell::new(rings) }))
    }

    fn open_session(&self) -> Result<&SessionMem, Error> {
        let give_up = self.now() + OPEN_TIMEOUT;
        self.port.forget_rings();
        loop {
            match self.call(&Request::OpenSession) {
                Ok(Reply::Session { sockets, .. }) => {
                    if self.mem.get().is_none() {
                        let mem = self.port.session_mem(sockets).ok_or(Error::Server)?;
                        return Ok(self.mem.get_or_init(|| mem));
                    }
                    return self.mem.get().ok_or(Error::Server);
                }
                Ok(_) => return Err(Error::Server),
                // netd or the NIC still uses what an earlier incarnation left.
                Err(Error::WouldBlock) if self.now() < give_up => {
                    self.sleep(Duration::from_millis(1));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The name servers that the stack knows, the best first.
    ///
    /// # Errors
    /// As [`Error`] says of a server that does not answer.
    pub fn name_servers(&self) -> Result<Vec<IpAddr>, Error> {
        self.session()?;
        match self.call(&Request::NameServers)? {
            Reply::NameServers(servers) => Ok(servers.into_iter().flatten().collect()),
            _ => Err(Error::Server),
        }
    }

    /// sockd's counters. Opens no session.
    ///
    /// # Errors
    /// As [`Error`] says of a server that does not answer.
    pub fn sockd_stats(&self) -> Result<Stats, Error> {
        match self.call(&Request::Stats)? {
            Reply::Stats(stats) => Ok(stats),
            _ => Err(Error::Server),
        }
    }

    /// Asks sockd, again under the same number if it died meanwhile.
    ///
    /// # Errors
    /// sockd's, or [`Error::Server`] if it answers nonsense.
    pub(crate) fn call(&self, request: &Request) -> Result<Reply, Error> {
        let number = self.number.get().wrapping_add(1) & !REPEATED;
        self.number.set(number);
        let mut again = false;
        loop {
            let method = if again { number | REPEATED } else { number };
            match self.port.sockd(method, request) {
                Ok(Err(Error::BadSocket)) if again && matches!(request, Request::Close { .. }) => {
                    return Ok(Reply::Done);
                }
                Ok(reply) => return reply,
                Err(CallError::Kernel(abi::Error::ServerDied)) => again = true,
                Err(CallError::TooLong) => return Err(Error::Invalid),
                Err(_) => return Err(Error::Server),
            }
        }
    }
}
