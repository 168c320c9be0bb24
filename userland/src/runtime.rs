//! One program's connection to the system: signals, the timer, calls to sockd, and which of its
//! sockets have news.
//!
//! Everything waits in one place, `Runtime::wait_until`, on the program's one notification: netd
//! (bit 0), the timer (bit 1) and the console (bit 2) share it. A blocking socket call is the
//! non-blocking one in a loop around that wait; an event loop calls [`Runtime::wait`] and asks
//! [`Runtime::next_ready`] which sockets to look at.

use alloc::boxed::Box;
use core::cell::{Cell, OnceCell, RefCell};
use core::sync::atomic::{Ordering::*, fence};
use core::time::Duration;

use libipc::msg::CallError;
use libipc::ring::{Consumer, Producer};
use libipc::sock::{Error, IdEntry, MAX_SOCKETS, REPEATED, Reply, Request};
use libipc::start::StartInfo;

use crate::mem::SessionMem;
pub use crate::port::{Instant, Native, Port, signal};

/// Why [`init`] failed: the manifest entry lacks what every program needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// No capability `events`.
    NoEvents,
    /// No capability `timer`.
    NoTimer,
}

/// Which ids: one bit each.
type Ids = [u64; MAX_SOCKETS as usize / 64];

struct Rings {
    submit: Producer<IdEntry>,
    ready: Consumer<IdEntry>,
    /// Sockets with news that nobody has looked at.
    news: Ids,
    /// The id whose turn was last.
    turn: u32,
    /// Sockets that netd is still to be told of: the submit ring was full.
    owed: Ids,
    any_owed: bool,
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
        }))
    }

    /// The start information; `None` on the host.
    pub fn info(&self) -> Option<&'static StartInfo> {
        self.info
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

    /// Whether console input has been announced since asked last.
    pub fn take_console(&self) -> bool {
        self.console.replace(false)
    }

    /// A socket that has news, if any: look at it until it would block. They take turns, so that a
    /// busy one holds up no other. An id may turn out to be of no interest any more.
    pub fn next_ready(&self) -> Option<u32> {
        self.drain();
        let rings = &mut *self.session.get()?.rings.borrow_mut();
        let id = after(&rings.news, rings.turn)?;
        clear(&mut rings.news, id);
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
            set(&mut session.rings.borrow_mut().news, id);
        }
    }

    pub(crate) fn forget_news(&self, id: u32) {
        if let Some(session) = self.session.get() {
            clear(&mut session.rings.borrow_mut().news, id);
        }
    }

    fn has_news(&self, id: Option<u32>) -> bool {
        let Some(session) = self.session.get() else { return false };
        let news = &session.rings.borrow().news;
        match id {
            Some(id) => news[id as usize / 64] >> (id % 64) & 1 == 1,
            None => news.iter().any(|w| *w != 0),
        }
    }

    /// Waits until `done` (`true`) or until `deadline` (`false`).
    fn wait_until(&self, deadline: Option<Instant>, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            let healthy = self.drain();
            if done(self) {
                return true;
            }
            let mut wake = deadline;
            if !healthy {
                let soon = self.now() + RESCAN;
                wake = Some(wake.map_or(soon, |w| w.min(soon)));
            }
            if let Some(end) = deadline
                && self.now() >= end
            {
                return false;
            }
            if let Some(at) = wake
                && self.armed.get() != Some(at.0)
            {
                self.port.arm(at.0);
                self.armed.set(Some(at.0));
            }
            if !self.may_sleep() {
                continue;
            }
            let bits = self.port.wait();
            if bits & signal::TIMER != 0 {
                self.armed.set(None);
            }
            if bits & signal::CONSOLE != 0 {
                self.console.set(true);
            }
            if let Some(session) = self.session.get() {
                let rings = &mut *session.rings.borrow_mut();
                if rings.rescan {
                    rings.news.fill(!0);
                }
            }
        }
    }

    /// Tells netd that this program is about to sleep; `false` if there is something to do first.
    fn may_sleep(&self) -> bool {
        let Some(session) = self.session.get() else { return true };
        let rings = &mut *session.rings.borrow_mut();
        if rings.any_owed && self.pay(rings) {
            self.port.wake_netd();
        }
        rings.rescan || rings.any_owed || rings.ready.sleep().unwrap_or(false)
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
                        set(&mut rings.news, id as u32);
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
                        rings.news.fill(!0);
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
        !rings.rescan && !rings.any_owed
    }

    /// Tells netd to look at a socket.
    pub(crate) fn submit(&self, id: u32) {
        let Some(session) = self.session.get() else { return };
        let rings = &mut *session.rings.borrow_mut();
        set(&mut rings.owed, id);
        rings.any_owed = true;
        if self.pay(rings) {
            self.port.wake_netd();
        }
    }

    /// Puts what is owed into the submit ring; `true` if netd must be woken.
    fn pay(&self, rings: &mut Rings) -> bool {
        rings.any_owed = false;
        for i in 0..rings.owed.len() {
            while rings.owed[i] != 0 {
                let id = i as u32 * 64 + rings.owed[i].trailing_zeros();
                if !matches!(rings.submit.push([id as u64]), Ok(true)) {
                    rings.any_owed = true;
                    return rings.submit.publish();
                }
                rings.owed[i] &= rings.owed[i] - 1;
            }
        }
        rings.submit.publish()
    }

    /// The session, opened on first use.
    ///
    /// # Errors
    /// [`Error::Denied`] if the manifest gives none, [`Error::Server`] if it cannot be mapped or
    /// attached.
    pub(crate) fn session(&self) -> Result<&Session, Error> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let mem = self.open_session()?;
        for id in 0..mem.sockets() {
            let words = mem.app_sock(id);
            words.tx_tail.store(0, Relaxed);
            words.rx_head.store(0, Release);
        }
        let submit = mem.submit().producer().map_err(|_| Error::Server)?;
        let ready = mem.ready().consumer().map_err(|_| Error::Server)?;
        let rings = Rings {
            submit,
            ready,
            news: [0; _],
            turn: 0,
            owed: [0; _],
            any_owed: false,
            rescan: false,
        };
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

    /// sockd's counters: open sessions, sockets in all of them, bytes of rings handed out. Opens
    /// no session.
    ///
    /// # Errors
    /// As [`Error`] says of a server that does not answer.
    pub fn sockd_stats(&self) -> Result<(u32, u32, u64), Error> {
        match self.call(&Request::Stats)? {
            Reply::Stats { sessions, sockets, bytes } => Ok((sessions, sockets, bytes)),
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

/// The first id of the set above `last`, else its lowest.
fn after(ids: &Ids, last: u32) -> Option<u32> {
    let first = last as usize / 64;
    let above = ids[first] & !(u64::MAX >> (63 - last % 64));
    if above != 0 {
        return Some(first as u32 * 64 + above.trailing_zeros());
    }
    // The word of `last` comes once more at the end, with the ids up to `last`.
    let n = ids.len();
    let i = (1..=n).map(|i| (first + i) % n).find(|i| ids[*i] != 0)?;
    Some(i as u32 * 64 + ids[i].trailing_zeros())
}

fn set(ids: &mut Ids, id: u32) {
    ids[id as usize / 64] |= 1 << (id % 64);
}

fn clear(ids: &mut Ids, id: u32) {
    ids[id as usize / 64] &= !(1 << (id % 64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_turns() {
        let mut ids: Ids = [0; _];
        assert_eq!(after(&ids, 0), None);
        for id in [0, 5, 63, 64, 127, 4095] {
            set(&mut ids, id);
        }
        for (last, next) in [
            (0, 5),
            (4, 5),
            (5, 63),
            (62, 63),
            (63, 64),
            (64, 127),
            (127, 4095),
            (4094, 4095),
            (4095, 0),
        ] {
            assert_eq!(after(&ids, last), Some(next), "after {last}");
        }
        let mut one: Ids = [0; _];
        set(&mut one, 70);
        assert_eq!(after(&one, 70), Some(70));
    }
}
