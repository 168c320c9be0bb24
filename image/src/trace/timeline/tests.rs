use super::*;
use abi::{Clock, MsgInfo};
use libipc::msg::interface;

const HTTPD: u32 = 2;
const SOCKD: u32 = 3;

fn record(
    tsc: u64,
    kind: TraceKind,
    flags: u8,
    tag: u8,
    thread: u32,
    a: u64,
    b: u64,
) -> TraceRecord {
    TraceRecord { tsc, head: TraceRecord::head(kind, flags, tag, 7, thread), a, b }
}

fn capture(records: Vec<TraceRecord>) -> Capture {
    let names = vec!["httpd".into(), "sockd".into()];
    Capture { clock: Clock { tsc_base: 0, mult: 1 << 32 }, names, records, lost: 0 }
}

/// httpd calls sockd, which answers; then nobody runs.
fn call() -> Vec<TraceRecord> {
    let info = MsgInfo::new(interface::SOCK, 1, 0, 4).0;
    let (to_sockd, to_httpd) = (SOCKD as u64 | 0xabcd << 32, HTTPD as u64);
    vec![
        record(100, TraceKind::Message, trace_flag::CALL, 4, HTTPD, to_sockd, info),
        record(110, TraceKind::Switch, trace_state::CALLING, 0, SOCKD, HTTPD as u64, 0),
        record(200, TraceKind::Reply, 0, 0, SOCKD, to_httpd, info),
        record(210, TraceKind::Switch, trace_state::RECEIVING, 0, HTTPD, SOCKD as u64, 0),
        record(300, TraceKind::Switch, trace_state::WAITING, 0, 0, HTTPD as u64, 0),
        record(350, TraceKind::Timer, 0, 0, 0, 5 << 32, 2),
    ]
}

#[test]
fn a_call_is_a_span_two_arrows_and_slices() {
    let t = Timeline::new(&capture(call()));
    let (httpd, sockd) = (thread(HTTPD), thread(SOCKD));
    let runs: Vec<_> = t.slices.iter().map(|s| (s.track, s.time)).collect();
    let idle = thread(0);
    assert_eq!(
        runs,
        [(httpd, [100, 110]), (sockd, [110, 210]), (httpd, [210, 300]), (idle, [300, 350])]
    );
    assert_eq!(t.slices[0].args, [("then", "waits for a reply".to_string())]);
    let [span] = &t.calls[..] else { panic!("{:?}", t.calls) };
    assert_eq!((span.track, span.name.as_str(), span.time), (httpd, "sock.Accept", [100, 200]));
    let arrows: Vec<_> = t.arrows.iter().map(|a| (a.name.as_str(), a.from, a.to)).collect();
    assert_eq!(
        arrows,
        [("sock.Accept", (httpd, 100), (sockd, 110)), ("reply", (sockd, 200), (httpd, 210))]
    );
    assert_eq!(t.tracks[&httpd], "httpd");
    assert!(t.instants.iter().any(|i| i.name == "timer fires" && i.track == idle));
}

#[test]
fn a_message_that_waited_begins_when_it_was_sent() {
    let info = MsgInfo::new(interface::SOCK, 1, 0, 4).0;
    let mut records = call();
    records.insert(0, record(50, TraceKind::Queued, trace_flag::CALL, 4, HTTPD, 0, info));
    let t = Timeline::new(&capture(records));
    assert_eq!((t.calls[0].time, t.arrows[0].from.1), ([50, 200], 50));
}

#[test]
fn restarts_have_phases_that_fill_them() {
    let log = |tsc, code, life: u32, b| {
        let head = TraceRecord::head(TraceKind::User, 0, 0, code, INIT);
        TraceRecord { tsc, head, a: (SOCKD | life << 16) as u64, b }
    };
    let t = Timeline::new(&capture(vec![
        log(100, code::DIED, 0, 90),
        log(120, code::GONE, 0, 0),
        log(150, code::STARTED, 1, 0),
        log(180, code::READY, 1, 0),
        log(200, code::DIED, 1, 170),
        log(210, code::STAYS, 1, 0),
    ]));
    let slices: Vec<_> = t.slices.iter().map(|s| (s.name.as_str(), s.time)).collect();
    assert_eq!(
        slices,
        [
            ("restart of sockd", [90, 180]),
            ("detect", [90, 100]),
            ("tear down", [100, 120]),
            ("build", [120, 150]),
            ("re-attach", [150, 180]),
            ("end of sockd", [180, 200]),
            ("detect", [180, 200]),
        ]
    );
    assert_eq!(t.tracks[&Track::Restarts(1)], "sockd: restarts");
}

#[test]
fn an_interrupt_lasts_until_it_is_acknowledged() {
    let t = Timeline::new(&capture(vec![
        record(10, TraceKind::Irq, 0, 0, 0, 11 | 9 << 32, 1),
        record(30, TraceKind::IrqAck, 0, 0, HTTPD, 11, 0),
    ]));
    assert_eq!((t.slices[0].track, t.slices[0].time), (Track::Irq(11), [10, 30]));
    assert_eq!(t.tracks[&Track::Irq(11)], "interrupt 11 (httpd)");
}
