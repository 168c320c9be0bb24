//! The console: what processes log, what the console process prints, and what is typed.

use core::fmt::Write;
use libipc::log::RING;

use crate::kernel::Kernel;
use crate::layout::window;
use crate::power;
use crate::screen::{LineBuf, Screen};
use crate::supervisor::{Supervisor, say};
use crate::uart::READ_MAX;

impl Supervisor<'_> {
    /// Console input to the console process.
    pub(crate) fn input<K: Kernel>(&mut self, k: &mut K) {
        let mut bytes = [0; READ_MAX];
        let n = self.uart.read(k, &mut bytes);
        // A port that was not emptied makes no new edge: look again.
        self.input_waits = n == READ_MAX;
        // What does not fit is lost, as on any terminal nobody reads from.
        k.log_write(window::CONSOLE, &bytes[..n]);
        let signal = self.processes.iter().find_map(|p| p.parts.as_ref()?.console);
        if let Some(ntfn) = signal.filter(|_| n > 0) {
            k.signal(ntfn);
        }
    }

    /// Takes what a process has logged, at most one log page full and what it may have printed.
    pub(crate) fn drain<K: Kernel>(&mut self, k: &mut K, i: usize) {
        let (p, screen) = (&mut self.processes[i], &mut self.screen);
        let page = p.log_page();
        if p.parts.is_none() {
            return;
        }
        let mut taken = 0;
        p.log_waits = false;
        while taken < RING {
            let mut bytes = [0; 256];
            let room = match p.console {
                true => screen.raw_room().min(bytes.len()),
                false => p.log_allowance.left(k.now_ns()).min(bytes.len()),
            };
            if room == 0 && !p.console {
                p.log_due = Some(p.log_allowance.due());
                self.arm(k);
                return;
            }
            if room == 0 {
                p.log_waits = true;
                break;
            }
            let n = k.log_read(page, &mut bytes[..room]).min(room);
            taken += n;
            if p.console {
                screen.raw(&bytes[..n]);
            } else {
                p.log_allowance.spend(n);
                let name = &p.name;
                p.lines.push(&bytes[..n], |line| print_line(screen, name, line));
            }
            if n < room {
                break;
            }
        }
        let dropped = k.log_dropped(page);
        if dropped != p.dropped {
            let lost = dropped.wrapping_sub(p.dropped);
            p.dropped = dropped;
            // The console process's own losses show in what it prints.
            if !p.console {
                say!(screen, "[init] {}: {lost} bytes of its log lost", p.name);
            }
        }
        if taken > 0
            && k.log_wants_room(page)
            && let Some(ntfn) = p.parts.as_ref().and_then(|parts| parts.console)
        {
            k.signal(ntfn);
        }
        self.look_ready(k, i);
    }

    /// Ends the unfinished line of a dead process.
    pub(crate) fn end_log(&mut self, i: usize) {
        let (p, screen) = (&mut self.processes[i], &mut self.screen);
        if p.console {
            screen.drop_partial();
        }
        let name = &p.name;
        p.lines.flush(|line| print_line(screen, name, line));
    }

    /// Moves what waits for the console or from it; returns whether more can be moved at once.
    pub fn pump<K: Kernel>(&mut self, k: &mut K) -> bool {
        self.screen.show_partial();
        if self.input_waits {
            self.input(k);
        }
        let mut more = self.uart.pump(k, &mut self.screen) || self.input_waits;
        for i in 0..self.processes.len() {
            if self.processes[i].log_waits && self.screen.raw_room() > 0 {
                self.drain(k, i);
                more |= !self.uart.is_waiting();
            }
        }
        more
    }

    /// Empties the console's queue and turns the machine off.
    pub(crate) fn power_off<K: Kernel>(&mut self, k: &mut K) {
        say!(self.screen, "[init] power off");
        self.uart.flush(k, &mut self.screen);
        power::turn_off(k, &self.power);
        // Still here.
        say!(self.screen, "[init] this machine did not turn itself off; it is safe to do so");
        self.uart.flush(k, &mut self.screen);
    }
}

fn print_line(screen: &mut Screen, name: &str, line: &[u8]) {
    let mut out = LineBuf::default();
    let _ = write!(out, "[{name}] ");
    out.push(line);
    screen.log(out.as_bytes());
}

/// init itself has panicked: says so without any of its state, and ends QEMU with a failing
/// status (`isa-debug-exit`) where there is one.
pub fn last_words<K: Kernel>(k: &mut K, message: &dyn core::fmt::Display) {
    struct Port<'k, K>(&'k mut K);
    impl<K: Kernel> Write for Port<'_, K> {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            s.bytes().for_each(|b| crate::uart::emergency(self.0, b));
            Ok(())
        }
    }
    let _ = write!(Port(k), "\r\n[init] FATAL: {message}\r\n");
    k.port_out(0xf4, 4, 0x31);
}
