//! The process: one endpoint, one notification, one netd to ask.
#![no_std]
#![no_main]

use core::sync::atomic::AtomicU64;
use libipc::msg::{self, CallError, interface};
use libipc::sock::{Error, SessionTable};
use libipc::{net, sys};
use rt::StartInfo;
use sockd::server::{Answer, Netd, Server};
use sockd::table::Table;

rt::entry!(main);

/// Notification bit: netd freed sockets.
const FREED: u64 = 1;
/// Notification bit of session 0's death notice.
const DEATHS: u32 = 32;

/// netd behind its endpoint, which outlives it.
struct Remote {
    ep: abi::CPtr,
}

impl Netd for Remote {
    fn ask(&mut self, request: &net::Request) -> Answer {
        let mut again = false;
        loop {
            match msg::call(self.ep, interface::NET, 0, request) {
                Ok(reply) => return Answer { reply, again },
                // The endpoint outlives netd: this waits for the next one.
                Err(CallError::Kernel(abi::Error::ServerDied)) => again = true,
                Err(_) => return Answer { reply: Err(Error::Server), again },
            }
        }
    }
}

/// The session table in region `sessions`.
fn sessions(start: &StartInfo) -> Option<SessionTable> {
    let region = start.region("sessions")?;
    // SAFETY: init maps the region read-only for the process's life, and nobody writes it.
    let bytes =
        unsafe { core::slice::from_raw_parts(region.vaddr as *const u8, region.len as usize) };
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    postcard::from_bytes(rest.get(..u32::from_le_bytes(*len) as usize)?).ok()
}

fn main(start: &'static StartInfo) -> u64 {
    let (Some(own), Some(reply), Some(events), Some(netd)) =
        (start.cap("self"), start.cap("reply"), start.cap("events"), start.cap("netd"))
    else {
        rt::log!("the manifest must give it `self`, `reply`, `events` and `netd`");
        return 1;
    };
    let Some(specs) = sessions(start) else {
        rt::log!("region `sessions` is missing or holds no session table");
        return 1;
    };
    let Some(region) = start.region("sockd.state") else {
        rt::log!("region `sockd.state` is missing");
        return 1;
    };
    // SAFETY: init maps the region writable for the process's life; sockd alone has it.
    let words = unsafe {
        core::slice::from_raw_parts(region.vaddr as *const AtomicU64, region.len as usize / 8)
    };
    let Some(table) = Table::new(words, &specs) else {
        rt::log!(
            "region `sockd.state` has {} bytes, the sessions need {}",
            region.len,
            Table::words(&specs) * 8
        );
        return 1;
    };
    let mut netd = Remote { ep: netd };
    let (mut server, report) = Server::start(table, &specs, &mut netd);
    if start.incarnation > 0 {
        rt::log!(
            "again here: {} sockets kept, {} dropped{}",
            report.kept,
            report.dropped,
            if report.found { "" } else { " (no table found)" }
        );
    }
    // An earlier sockd may have taken netd's signal and died.
    server.take_freed(&mut netd);
    rt::ready(start, format_args!("{} sockets kept, {} dropped", report.kept, report.dropped));
    serve(start, [own, reply, events], &mut server, &mut netd)
}

fn serve(
    start: &StartInfo,
    [own, reply, events]: [abi::CPtr; 3],
    server: &mut Server,
    netd: &mut Remote,
) -> u64 {
    let mut answer = None;
    let mut failures = 0;
    loop {
        let received = match answer.take() {
            Some(info) => sys::reply_recv(own, reply, info, [0; 4]),
            None => sys::recv(own, reply),
        };
        let Ok(message) = received else {
            // A caller that vanished costs nothing; an endpoint that is gone ends us.
            failures += 1;
            if failures > 100 {
                return 1;
            }
            continue;
        };
        failures = 0;
        if message.info.is_signal() {
            on_signals(server, netd, message.badge);
            continue;
        }
        let mut bytes = [0; abi::MSG_MAX];
        // Taken first: the next system call may overwrite it.
        let payload = msg::take(message.info, &mut bytes);
        // A death notice that waits is older than this message: were it taken later, it would
        // end the session that a new incarnation opens now.
        let signals = sys::poll(events);
        if signals != 0 {
            on_signals(server, netd, signals);
        }
        let result = server.message(netd, message.badge, message.info, payload, start.now_ns());
        if let Some(complaint) = server.take_complaint() {
            rt::log!("{complaint}");
        }
        answer = Some(msg::encode(interface::SOCK, &result));
    }
}

fn on_signals(server: &mut Server, netd: &mut Remote, bits: u64) {
    let deaths = (bits >> DEATHS) as u32;
    if deaths != 0 {
        server.programs_died(netd, deaths);
    }
    if bits & FREED != 0 {
        server.take_freed(netd);
    }
    if server.is_waiting() {
        server.poll(netd);
    }
}
