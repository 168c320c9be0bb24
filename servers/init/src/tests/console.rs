//! Logs, the shell's output and input.

use super::*;
use crate::kernel::Kernel;
use crate::layout::{CONSOLE_BIT, signal, window};

const DRV: usize = 0;
const SH: usize = 2;

#[test]
fn log_lines_carry_their_process_and_spare_the_prompt() {
    let mut b = booted();
    b.printed();
    b.log(SH, b"> pi");
    b.log(DRV, b"link ");
    assert_eq!(b.printed(), "> pi");
    b.log(DRV, b"up\n\x1b[2Jmore\n");
    assert_eq!(b.printed(), "\x1b[K[drv] link up\n[drv]  [2Jmore\n> pi");
    b.log(SH, b"ng\n");
    assert_eq!(b.printed(), "ng\n");
}

#[test]
fn a_process_that_dies_in_a_line_has_it_printed() {
    let mut b = booted();
    b.printed();
    let page = b.log_page(DRV);
    b.k.outside.log(page).text = b"about to".to_vec();
    b.fault(DRV, FaultKind::Divide, [0x40_1100, 0, 0, 0]);
    let printed = b.printed();
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some("[drv] about to"));
    assert!(
        lines.next().unwrap().starts_with("[init] restarted drv: division error, rip 0x401100")
    );
}

#[test]
fn lost_log_bytes_are_counted_once() {
    let mut b = booted();
    b.printed();
    let page = b.log_page(DRV);
    b.k.outside.log(page).dropped = 120;
    b.log(DRV, b"");
    b.log(DRV, b"");
    assert_eq!(b.printed(), "[init] drv: 120 bytes of its log lost\n");
}

#[test]
fn a_flood_of_logs_is_bounded_by_the_page() {
    let mut b = booted();
    b.printed();
    // More than a log page holds: a writer that goes on while init reads.
    b.log(DRV, &vec![b'\n'; 100_000]);
    let left = b.k.outside.logs[&b.log_page(DRV)].text.len();
    assert_eq!(left, 100_000 - 2048);
}

#[test]
fn a_stuck_port_holds_up_nothing() {
    let mut b = booted();
    b.printed();
    b.k.outside.stuck = true;
    for _ in 0..1000 {
        b.log(DRV, &[b'x'; 100]);
        b.log(DRV, b"\n");
        b.log(SH, &[b'y'; 100]);
        assert!(!b.s.pump(&mut b.k));
    }
    // The shell's bytes wait in its page; once there is room, all of them come.
    let waiting = b.k.outside.logs[&b.log_page(SH)].text.len();
    assert!(waiting > 50_000, "{waiting}");
    let page = b.log_page(SH);
    b.k.outside.log(page).wants_room = true;
    b.k.outside.stuck = false;
    let printed = b.printed();
    assert!(printed.contains("log lines lost") || printed.contains('x'));
    assert_eq!(b.k.outside.logs[&page].text.len(), 0);
    let sh = b.thread(SH);
    assert_eq!(b.k.take_signals(sh), CONSOLE_BIT);
}

/// The line would stay high, and no edge ever come again.
#[test]
fn nothing_stays_pending_behind_what_was_typed() {
    let mut b = booted();
    b.k.outside.typed.extend(b"x");
    b.k.outside.empty_pending = true;
    b.s.signals(&mut b.k, crate::layout::signal::UART);
    assert!(b.k.outside.typed.is_empty() && !b.k.outside.empty_pending);
}

#[test]
fn input_reaches_the_shell_whole() {
    let mut b = booted();
    let typed: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    b.k.outside.typed.extend(&typed);
    b.s.signals(&mut b.k, signal::UART);
    b.printed();
    assert_eq!(b.k.outside.inputs[&window::CONSOLE], typed);
    let sh = b.thread(SH);
    assert_eq!(b.k.take_signals(sh), CONSOLE_BIT);
    assert_eq!(b.k.now_ns(), b.k.now);
}

#[test]
fn the_console_survives_a_restart_of_the_shell() {
    let mut b = booted();
    b.printed();
    b.log(SH, b"> half");
    b.fault(SH, FaultKind::Undefined, [0x40_1100, 0, 0, 0]);
    b.log(SH, b"> ");
    let printed = b.printed();
    assert!(printed.starts_with("> half\x1b[K[init] restarted sh: undefined instruction"));
    assert!(printed.ends_with("us\n> "), "{printed}");
}

#[test]
fn init_has_last_words_too() {
    let mut k = machine();
    crate::console::last_words(&mut k, &"boot bundle");
    assert_eq!(k.printed(), "\n[init] FATAL: boot bundle\n");
    assert_eq!(k.outside.off, [(0xf4, 0x31)]);
}
