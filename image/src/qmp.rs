//! QEMU's control socket (QMP, JSON lines): commands, and the one thing that its exit status hides,
//! whether the machine switched itself off or reset.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;

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
    /// For commands, once QEMU is there.
    stream: Arc<OnceLock<UnixStream>>,
    /// Answers to commands: a value, or what went wrong.
    answers: Receiver<Result<Value, String>>,
    stop: Receiver<Stop>,
}

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(10);

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
        let (stopped, stop) = channel();
        let (answered, answers) = channel();
        let stream = Arc::new(OnceLock::new());
        let shared = stream.clone();
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            // Events come only after this. If QEMU is gone already, what it said can still be read.
            let _ = stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n");
            if let Ok(copy) = stream.try_clone() {
                let _ = shared.set(copy);
            }
            // An error here only loses the reason.
            if let Some(reason) = follow(stream, &answered) {
                let _ = stopped.send(reason);
            }
        });
        Ok(Self { path, stream, answers, stop })
    }

    /// Has QEMU execute a command, a JSON object in a line. To be called when the system runs.
    ///
    /// # Errors
    /// If QEMU is gone, does not answer in time, or refuses.
    pub fn execute(&self, command: &str) -> std::io::Result<Value> {
        let mut stream = self.stream.get().ok_or(ErrorKind::NotConnected)?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        match self.answers.recv_timeout(COMMAND) {
            Ok(answer) => answer.map_err(std::io::Error::other),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
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

/// Reads events and answers until QEMU is gone; the last reason counts.
fn follow(stream: UnixStream, answers: &Sender<Result<Value, String>>) -> Option<Stop> {
    let (mut stop, mut negotiated) = (None, false);
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        stop = reason(&line).or(stop);
        // The first answer is to the negotiation.
        if let Some(answer) = answer(&line)
            && std::mem::replace(&mut negotiated, true)
        {
            let _ = answers.send(answer);
        }
    }
    stop
}

fn answer(line: &str) -> Option<Result<Value, String>> {
    let mut value: Value = serde_json::from_str(line).ok()?;
    if let Some(error) = value.get("error") {
        return Some(Err(error.to_string()));
    }
    value.get_mut("return").map(|v| Ok(v.take()))
}

fn reason(line: &str) -> Option<Stop> {
    let event: Value = serde_json::from_str(line).ok()?;
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
    fn commands_are_answered() {
        let qmp = Qmp::listen().unwrap();
        assert!(qmp.execute("{}").is_err(), "nobody is there");
        let mut qemu = UnixStream::connect(qmp.path()).unwrap();
        let mut lines = BufReader::new(qemu.try_clone().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("qmp_capabilities"));
        qemu.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"X\"}\n").unwrap();
        qemu.write_all(b"{\"return\": {}}\n{\"error\": {\"desc\": \"no\"}}\n").unwrap();
        while qmp.stream.get().is_none() {
            std::thread::yield_now();
        }
        assert!(qmp.execute("{\"execute\": \"stop\"}").is_ok());
        assert!(lines.next().unwrap().unwrap().contains("stop"));
        assert!(qmp.execute("{}").unwrap_err().to_string().contains("no"));
    }

    #[test]
    fn other_events_say_nothing() {
        assert_eq!(reason("{\"event\": \"RTC_CHANGE\", \"data\": {}}"), None);
        assert_eq!(reason("garbage"), None);
    }
}
