//! QEMU as a child that does not outlive this tool: not when a test fails, and not when the tool is
//! ended by a signal. (Ctrl-C reaches QEMU by itself, through the terminal.)

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Those that were started and not dropped yet.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that is ended when it goes out of scope.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        watch()?;
        let mut running = running();
        let child = command.spawn()?;
        running.push(child.id());
        Ok(Self(child))
    }
}

impl Deref for Guarded {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let id = self.0.id();
        running().retain(|r| *r != id);
        // Both fail when it has exited already, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From now on, a signal that ends this tool ends its children first.
fn watch() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = Signals::new([SIGTERM, SIGHUP]).map(|mut signals| {
            std::thread::spawn(move || {
                for signal in signals.forever() {
                    // Kept locked: nothing is started any more.
                    let running = running();
                    for id in running.iter() {
                        let _ = kill(Pid::from_raw(*id as i32), Signal::SIGTERM);
                    }
                    let _ = emulate_default_handler(signal);
                }
            });
        });
    });
    result
}
