//! Every state and every kind of segment: RFC 9293 3.10.7, with RFC 5961, as a table. Where the RFCs
//! leave a choice, and in what is not answered, the table says what Linux 6.18 does on the wire.
//!
//! A row: the segment, what it is answered with, the state after it (`-` before an error: it ended so).

mod common;

use common::frames::Frame;
use common::script::Script;
use libipc::sock::{Error, State};
use netd::wire::tcp::Flags;

fn letters(flags: Flags) -> String {
    "FSRPAU"
        .chars()
        .enumerate()
        .filter(|(i, _)| flags.bits() >> i & 1 == 1)
        .map(|(_, c)| c)
        .collect()
}

/// What the stack has sent, relative to the script's numbers: flags, sequence, acknowledgment.
fn answers(s: &mut Script) -> Vec<(String, u32, u32)> {
    s.settle();
    let mut all = Vec::new();
    while !s.sent.is_empty() {
        assert!(matches!(s.sent[0].1, Frame::Tcp(..)));
        let (_, repr, _) = s.next();
        all.push((letters(repr.flags - Flags::PSH), repr.seq.0, repr.ack.0));
    }
    all
}

struct Row(&'static str, u32, u32, usize, &'static [(&'static str, u32, u32)], State);

/// Plays each row against a connection of its own.
#[track_caller]
fn table(name: &str, make: impl Fn() -> Script, rows: &[Row]) {
    for Row(flags, seq, ack, len, want, state) in rows {
        let mut s = make();
        s.send(flags, *seq, *ack, &vec![1; *len]);
        let got = answers(&mut s);
        let got: Vec<_> = got.iter().map(|(f, s, a)| (f.as_str(), *s, *a)).collect();
        let what = format!("{name}: {flags} seq {seq} ack {ack} len {len}");
        assert_eq!(got, *want, "{what}");
        assert_eq!(s.state(), *state, "{what}");
    }
}

use State::*;
const NONE: &[(&str, u32, u32)] = &[];

#[test]
fn syn_sent() {
    let make = Script::connecting;
    table(
        "SYN-SENT",
        make,
        &[
            Row("", 0, 0, 0, NONE, SynSent),
            Row("F", 0, 0, 0, NONE, SynSent),
            Row("A", 0, 1, 0, NONE, SynSent),
            Row("FA", 0, 1, 0, NONE, SynSent),
            Row("A", 0, 0, 0, &[("R", 0, 0)], SynSent),
            Row("A", 0, 2, 0, &[("R", 2, 0)], SynSent),
            Row("SA", 0, 2, 0, &[("R", 2, 0)], SynSent),
            Row("R", 0, 0, 0, NONE, SynSent),
            Row("RA", 0, 2, 0, NONE, SynSent),
            Row("RA", 0, 1, 0, NONE, Closed),
            Row("SRA", 0, 1, 0, NONE, Closed),
            Row("SA", 0, 1, 0, &[("A", 1, 1)], Established),
            Row("SFA", 0, 1, 0, &[("A", 1, 1)], Established),
            Row("SA", 0, 1, 9, &[("A", 1, 1)], Established),
            Row("S", 0, 0, 0, &[("SA", 0, 1)], SynReceived),
            Row("SF", 0, 0, 0, &[("SA", 0, 1)], SynReceived),
        ],
    );
    let mut s = make();
    s.send("SA", 0, 2, &[]);
    s.expect("R", 2, 0, 0);
    s.pass(10);
    s.expect("S", 0, 0, 0);
}

#[test]
fn syn_received_by_simultaneous_open() {
    let make = || {
        let mut s = Script::connecting();
        s.send_syn("S", 0, Some(1460), None);
        s.expect("SA", 0, 1, 0);
        s
    };
    table(
        "SYN-RECEIVED",
        make,
        &[
            Row("A", 1, 1, 0, NONE, Established),
            Row("A", 1, 1, 5, &[("A", 1, 6)], Established),
            Row("FA", 1, 1, 0, &[("A", 1, 2)], CloseWait),
            Row("SA", 0, 1, 0, &[("A", 1, 1)], Established),
            Row("A", 1, 2, 0, &[("R", 2, 0)], SynReceived),
            Row("A", 1, 0, 0, &[("R", 0, 0)], SynReceived),
            Row("S", 0, 0, 0, &[("A", 1, 1)], SynReceived),
            Row("R", 1, 0, 0, NONE, Closed),
            Row("R", 9, 0, 0, &[("A", 1, 1)], SynReceived),
            Row("", 1, 0, 5, NONE, SynReceived),
        ],
    );
    let mut s = make();
    s.send("R", 1, 0, &[]);
    assert_eq!(s.error(), Some(Error::ConnectionReset));
}

/// What holds in every synchronised state: `una` and `max` are SND.UNA and SND.NXT, `n` is RCV.NXT.
#[track_caller]
fn always(name: &str, make: fn() -> Script, state: State, una: u32, max: u32, n: u32) {
    let far = 70_000;
    for (f, seq, ack, len, answered) in [
        ("", n, 0, 0, false),
        ("", n, 0, 9, false),
        ("", far, 0, 0, false),
        ("F", n, 0, 0, false),
        ("R", n + 1, 0, 0, true),
        ("R", far, 0, 0, false),
        ("S", n, 0, 0, true),
        ("S", n - 1, 0, 0, true),
        ("S", n + 100, 0, 0, true),
        ("S", far, 0, 0, true),
        ("SA", n, una, 0, true),
        ("SA", 0, una, 0, true),
        ("A", n, max + 1, 0, true),
        ("A", n, max + 1, 9, true),
        ("A", n - 1, una, 0, true),
        ("A", n.wrapping_sub(2), una, 2, true),
        ("A", far, una, 0, true),
        ("A", far, una, 9, true),
        ("A", n, una.wrapping_sub(100_000), 0, true),
        ("A", n, una, 0, false),
    ] {
        let mut s = make();
        s.send(f, seq, ack, &vec![1; len]);
        let want = if answered { vec![("A".to_string(), max, n)] } else { Vec::new() };
        assert_eq!(answers(&mut s), want, "{name}: {f} seq {seq} ack {ack} len {len}");
        assert_eq!(s.state(), state, "{name}: {f} seq {seq} ack {ack} len {len}");
    }
    let mut s = make();
    s.send("R", n, 0, &[]);
    assert!(answers(&mut s).is_empty() && matches!(s.state(), Closed | Free), "{name}: RST");
}

fn fin_wait_1() -> Script {
    let mut s = Script::accepted();
    s.shutdown();
    s.expect("FA", 1, 1, 0);
    s
}

fn fin_wait_2() -> Script {
    let mut s = fin_wait_1();
    s.send("A", 1, 2, &[]);
    s
}

fn close_wait() -> Script {
    let mut s = Script::accepted();
    s.send("FA", 1, 1, &[]);
    s.expect("A", 1, 2, 0);
    s
}

fn closing() -> Script {
    let mut s = fin_wait_1();
    s.send("FA", 1, 1, &[]);
    s.expect("A", 2, 2, 0);
    s
}

fn last_ack() -> Script {
    let mut s = close_wait();
    s.close();
    s.expect("FA", 1, 2, 0);
    s
}

#[test]
fn established() {
    always("ESTABLISHED", Script::accepted, Established, 1, 1, 1);
    let rows = [
        Row("FA", 1, 1, 0, &[("A", 1, 2)], CloseWait),
        Row("FA", 2, 1, 0, &[("A", 1, 1)], Established),
        // It takes the place of text that is missing.
        Row("A", 2, 1, 9, &[("A", 1, 1)], Established),
    ];
    table("ESTABLISHED", Script::accepted, &rows[..1]);
    table("ESTABLISHED", Script::accepted, &rows[2..]);
    let mut s = Script::accepted();
    s.send("R", 1, 0, &[]);
    assert_eq!(s.error(), Some(Error::ConnectionReset));
}

#[test]
fn fin_wait() {
    always("FIN-WAIT-1", fin_wait_1, FinWait1, 1, 2, 1);
    always("FIN-WAIT-2", fin_wait_2, FinWait2, 2, 2, 1);
    table(
        "FIN-WAIT-1",
        fin_wait_1,
        &[
            Row("A", 1, 2, 0, NONE, FinWait2),
            Row("FA", 1, 1, 0, &[("A", 2, 2)], Closing),
            Row("FA", 1, 2, 0, &[("A", 2, 2)], Closed),
        ],
    );
    table(
        "FIN-WAIT-2",
        fin_wait_2,
        &[Row("FA", 1, 2, 0, &[("A", 2, 2)], Closed), Row("A", 1, 1, 0, NONE, FinWait2)],
    );
}

#[test]
fn nobody_reads_any_more() {
    let orphan_1 = || {
        let mut s = Script::accepted();
        s.close();
        s.expect("FA", 1, 1, 0);
        s
    };
    let orphan_2 = || {
        let mut s = orphan_1();
        s.send("A", 1, 2, &[]);
        s
    };
    // RFC 1122 4.2.2.13.
    let reset = &[("R", 1, 0)][..];
    table(
        "FIN-WAIT-1",
        orphan_1,
        &[
            Row("A", 1, 1, 9, reset, Free),
            Row("A", 2, 1, 9, reset, Free),
            Row("FA", 1, 1, 9, reset, Free),
            Row("A", 1, 2, 9, &[("R", 2, 0)], Free),
            Row("FA", 2, 2, 0, &[("R", 2, 0)], Free),
            Row("FA", 1, 1, 0, &[("A", 2, 2)], Closing),
        ],
    );
    table(
        "FIN-WAIT-2",
        orphan_2,
        &[
            Row("A", 1, 2, 9, &[("R", 2, 0)], Free),
            Row("A", 101, 2, 9, &[("R", 2, 0)], Free),
            Row("FA", 2, 2, 0, &[("R", 2, 0)], Free),
            Row("FA", 1, 2, 0, &[("A", 2, 2)], Free),
        ],
    );
}

#[test]
fn after_the_peers_fin() {
    always("CLOSE-WAIT", close_wait, CloseWait, 1, 1, 2);
    always("CLOSING", closing, Closing, 1, 2, 2);
    always("LAST-ACK", last_ack, LastAck, 1, 2, 2);
    for (name, make, state, max) in [
        ("CLOSE-WAIT", close_wait as fn() -> Script, CloseWait, 1),
        ("CLOSING", closing, Closing, 2),
        ("LAST-ACK", last_ack, LastAck, 2),
    ] {
        let over = if state == LastAck { Free } else { Closed };
        table(
            name,
            make,
            &[
                // "This should not occur": RFC 9293 3.10.7.4, seventh and eighth.
                Row("A", 2, 1, 9, NONE, state),
                Row("A", 102, 1, 9, NONE, state),
                Row("FA", 2, 1, 0, NONE, state),
                Row("FA", 3, 1, 0, NONE, state),
                // A stack that does not count its FIN.
                Row("R", 1, 0, 0, NONE, over),
            ],
        );
        // The FIN again: our ACK was lost.
        let mut s = make();
        s.send("FA", 1, 1, &[]);
        assert_eq!(answers(&mut s), [("A".to_string(), max, 2)], "{name}");
    }
    table("CLOSING", closing, &[Row("A", 2, 2, 0, NONE, Closed), Row("FA", 1, 2, 0, NONE, Closed)]);
    table("LAST-ACK", last_ack, &[Row("A", 2, 2, 0, NONE, Free), Row("FA", 1, 2, 0, NONE, Free)]);
    let mut s = close_wait();
    s.send("R", 2, 0, &[]);
    assert_eq!(s.error(), Some(Error::BrokenPipe));
}

#[test]
fn time_wait() {
    let make = || {
        let mut s = fin_wait_2();
        s.send("FA", 1, 2, &[]);
        s.expect("A", 2, 2, 0);
        s
    };
    let answer = &[("A", 2, 2)][..];
    let stays = [
        Row("R", 3, 0, 0, NONE, Closed),
        Row("R", 1, 0, 0, NONE, Closed),
        Row("S", 2, 0, 0, answer, Closed),
        Row("S", 1, 0, 0, answer, Closed),
        Row("S", 100, 0, 0, answer, Closed),
        Row("SA", 2, 2, 0, answer, Closed),
        Row("SA", 100, 2, 0, answer, Closed),
        Row("", 2, 0, 0, NONE, Closed),
        Row("F", 2, 0, 0, answer, Closed),
        Row("A", 2, 3, 0, NONE, Closed),
        Row("A", 2, 1, 0, NONE, Closed),
        Row("A", 2, 2, 0, NONE, Closed),
        Row("A", 2, 2, 9, answer, Closed),
        Row("A", 1, 2, 0, answer, Closed),
        Row("A", 102, 2, 9, answer, Closed),
        Row("FA", 2, 2, 0, answer, Closed),
        Row("FA", 1, 2, 0, answer, Closed),
    ];
    // Nobody listens any more, so no SYN begins anything.
    let deaf = || {
        let mut s = make();
        let listener = s.listener;
        s.host.close(listener);
        s.settle();
        s
    };
    table("TIME-WAIT", deaf, &stays);
    for Row(flags, seq, ack, len, ..) in stays {
        let mut s = deaf();
        s.send(flags, seq, ack, &vec![1; len]);
        answers(&mut s);
        s.pass(600);
        s.send("A", 9, 2, &[]);
        assert_eq!(answers(&mut s), [("A".to_string(), 2, 2)], "{flags} {seq} does not end it");
    }
    // An exact RST does, unless RFC 1337 is wanted.
    let mut s = make();
    s.send("R", 2, 0, &[]);
    s.send("A", 2, 2, &[]);
    assert_eq!(answers(&mut s), [("R".to_string(), 2, 0)]);
}

#[test]
fn listen() {
    let make = || {
        let mut s = Script::new();
        s.id = s.host.listen(80, 2);
        s
    };
    let mut s = make();
    s.send_syn("S", 0, None, None);
    s.expect("SA", 0, 1, 0);
    for flags in ["", "F", "R", "RA", "SF", "SR", "SFPU", "FPU"] {
        let mut s = make();
        s.send(flags, 0, 5, &[]);
        assert_eq!(answers(&mut s), [], "LISTEN: {flags}");
    }
    for flags in ["A", "SA", "FA"] {
        let mut s = make();
        s.send(flags, 0, 5, &[]);
        assert_eq!(answers(&mut s), [("R".to_string(), 5, 0)], "LISTEN: {flags}");
    }
}
