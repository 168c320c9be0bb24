//! QEMU's control socket (QMP, JSON lines), for the one thing that its exit status hides: whether
//! the machine switched itself off or reset.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Why QEMU stopped the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The system switched the machine off.
    Shutdown,
    /// The machine reset (with `-no-reboot` that ends QEMU): a triple fault.
    Reset,
    /// Somebody outside ended it: Ctrl-A X, a signal.
    Host,
}

/// A socket that QEMU connects to.
pub struct Qmp {
    path: PathBuf,
    stop: Receiver<Stop>,
}

impl Qmp {
    /// Listens at a fresh path, for one QEMU.
    ///
    /// # Errors
    /// If there is no place for a socket.
    pub fn listen() -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Relaxed);
        let name = format!("breakwater-{}-{n}.qmp", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Left over from a process of the same number, long gone.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let (send, stop) = channel();
        std::thread::spawn(move || {
            let Ok((stream, _)) = listener.accept() else { return };
            // An error here only loses the reason.
            if let Some(reason) = follow(stream) {
                let _ = send.send(reason);
            }
        });
        Ok(Self { path, stop })
    }

    /// Where QEMU is to connect.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the machine stopped. To be asked when QEMU has exited; waits no longer than a second.
    pub fn stop(&self) -> Option<Stop> {
        self.stop.recv_timeout(Duration::from_secs(1)).ok()
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads events until QEMU is gone; the last reason counts.
fn follow(mut stream: UnixStream) -> Option<Stop> {
    // Events come only after this. If QEMU is gone already, what it said can still be read.
    let _ = stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n");
    let mut stop = None;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        stop = reason(&line).or(stop);
    }
    stop
}

fn reason(line: &str) -> Option<Stop> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    if event.get("event")?.as_str()? != "SHUTDOWN" {
        return None;
    }
    Some(match event.get("data")?.get("reason")?.as_str()? {
        "guest-shutdown" => Stop::Shutdown,
        "guest-reset" => Stop::Reset,
        _ => Stop::Host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_is_known_when_the_socket_closes() {
        let qmp = Qmp::listen().unwrap();
        let mut qemu = UnixStream::connect(qmp.path()).unwrap();
        qemu.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n").unwrap();
        qemu.write_all(
            b"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n",
        )
        .unwrap();
        drop(qemu);
        assert_eq!(qmp.stop(), Some(Stop::Reset));
    }

    #[test]
    fn other_events_say_nothing() {
        assert_eq!(reason("{\"event\": \"RTC_CHANGE\", \"data\": {}}"), None);
        assert_eq!(reason("garbage"), None);
    }
}
