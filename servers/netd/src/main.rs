//! The guest: turns rings, notifications and messages into calls of the stack, and what the stack
//! wants to say into signals.
//!
//! One wait serves everything: the notification is bound to the thread, so a signal also ends the
//! wait for a message.
#![no_std]
#![no_main]

extern crate alloc;

mod copy;
mod guest;

use alloc::vec::Vec;
use libipc::sock::DOORBELL_SHIFT;
use libipc::{msg, sys};
use netd::addressing::ArgError;
use netd::env::Env;
use netd::{Addressing, Addressing6, Settings, Setup, Stack};

use guest::{Caps, Guest};

rt::entry!(main);

fn main(start: &'static rt::StartInfo) -> u64 {
    let both = |args| Ok((Addressing::parse(args)?, Addressing6::parse(args)?));
    let all = netd::addressing::cards(&start.args).map(both);
    let addressing = match all.collect::<Result<Vec<_>, ArgError<'_>>>() {
        Ok(all) => all,
        Err(e) => {
            rt::log!("{e}");
            return 1;
        }
    };
    let settings = match Settings::parse(&start.args) {
        Ok(settings) => settings,
        Err(e) => {
            rt::log!("{e}");
            return 1;
        }
    };
    let (setup, caps) = match guest::setup(start, &addressing) {
        Ok(found) => found,
        Err(missing) => {
            rt::log!("{missing} is missing or does not fit");
            return 1;
        }
    };
    let stack = Stack::new(Setup { settings, ..setup }, Guest::default(), start.now_ns());
    Server { start, caps, stack, armed: u64::MAX }.run()
}

struct Server {
    start: &'static rt::StartInfo,
    caps: Caps,
    stack: Stack<Guest>,
    /// For when the timer is armed.
    armed: u64,
}

impl Server {
    fn run(mut self) -> ! {
        // A predecessor may have died between publishing and signalling: everybody is told once.
        self.signal_all();
        match &self.stack.env.recovered {
            Some(event) => rt::ready(self.start, format_args!("{event}")),
            None => rt::ready(self.start, format_args!("nothing to recover")),
        }
        let mut bells = u32::MAX;
        // An answer that is owed. It goes out with the next wait, or at once if there is none.
        let mut owed: Option<abi::MsgInfo> = None;
        loop {
            let busy = self.stack.poll(self.start.now_ns(), bells);
            self.signal();
            let idle = !busy && self.stack.sleep();
            if idle {
                self.arm();
            }
            let event = match (owed.take(), idle) {
                (Some(info), true) => sys::reply_recv(self.caps.own, self.caps.reply, info, [0; 4]),
                (None, true) => sys::recv(self.caps.own, self.caps.reply),
                (answer, false) => {
                    if let Some(info) = answer {
                        let _ = sys::reply(self.caps.reply, info, [0; 4]);
                    }
                    sys::nb_recv(self.caps.own, self.caps.reply)
                }
            };
            bells = 0;
            // Nothing there, or a cancelled wait: look at the rings again.
            let Ok(event) = event else { continue };
            if event.info.is_signal() {
                bells = (event.badge >> DOORBELL_SHIFT) as u32;
                if event.badge & guest::TIMER_BIT != 0 {
                    self.armed = u64::MAX;
                }
            } else {
                owed = Some(self.answer(&event));
            }
        }
    }

    fn answer(&mut self, event: &sys::Ret) -> abi::MsgInfo {
        let info = event.info;
        let mut bytes = [0; abi::MSG_MAX];
        let payload = msg::take(info, &mut bytes);
        let reply = self.stack.message(event.badge, info, payload, self.start.now_ns());
        msg::encode(msg::interface::NET, &reply)
    }

    /// Arms the timer for the stack's next deadline.
    fn arm(&mut self) {
        let at = self.stack.poll_at().unwrap_or(u64::MAX);
        // An earlier deadline replaces a later one; a later one can wait until the timer fires.
        if at < self.armed && sys::arm(self.caps.timer, at).is_ok() {
            self.armed = at;
        }
    }

    fn signal(&mut self) {
        let signals = self.stack.take_signals();
        for (i, driver) in self.caps.drivers.iter().enumerate() {
            if signals.drivers >> i & 1 != 0 {
                sys::signal(*driver);
            }
        }
        if signals.sockd {
            sys::signal(self.caps.sockd);
        }
        for i in signals.sessions() {
            if let Some(cap) = self.caps.sessions.get(i) {
                sys::signal(*cap);
            }
        }
    }

    fn signal_all(&self) {
        for cap in &self.caps.drivers {
            sys::signal(*cap);
        }
        sys::signal(self.caps.sockd);
        for cap in &self.caps.sessions {
            sys::signal(*cap);
        }
    }
}

impl Env for Guest {
    fn copy_sum(
        &mut self,
        from: netd::env::At<'_>,
        to: netd::env::At<'_>,
        len: usize,
    ) -> Option<netd::wire::checksum::Sum> {
        copy::copy_sum(from, to, len)
    }

    fn sum(&mut self, from: netd::env::At<'_>, len: usize) -> Option<netd::wire::checksum::Sum> {
        copy::sum(from, len)
    }

    fn event(&mut self, event: netd::env::Event) {
        if matches!(event, netd::env::Event::Recovered { .. }) {
            self.recovered = Some(event.clone());
        }
        rt::log!("{event}");
    }
}
