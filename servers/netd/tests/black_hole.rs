//! Paths that lose what is too big and say nothing (RFC 4821).

mod common;

use common::HostSpec;
use common::script::Script;
use netd::Settings;
use std::collections::BTreeMap;

/// A connection with segments of 1,460 bytes.
fn connection(mtu_probing: bool) -> Script {
    let settings = Settings { mtu_probing, ..Settings::default() };
    let mut s = Script::with(HostSpec { settings, tx_bits: 20, ..HostSpec::fixed(1) });
    s.listener = s.host.listen(80, 2);
    s.send_syn("S", 0, Some(1460), None);
    s.next();
    s.send("A", 1, 1, &[]);
    (s.id, _) = s.host.accept(s.listener).expect("it waits");
    s
}

/// Sizes of the segments with data that have left: number and length.
fn sent(s: &mut Script) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    while !s.sent.is_empty() {
        let (_, repr, data) = s.next();
        if !data.is_empty() {
            all.push((repr.seq.0, data.len() as u32));
        }
    }
    all
}

#[test]
fn silence_makes_segments_small() {
    for (mtu_probing, small) in [(false, [1460; 3]), (true, [1024, 512, 256])] {
        let mut s = connection(mtu_probing);
        s.write(1460);
        let mut seen = Vec::new();
        for _ in 0..300 {
            s.pass(100);
            seen.extend(sent(&mut s).into_iter().map(|(_, len)| len));
        }
        let whole = seen.iter().take_while(|len| **len == 1460).count();
        let whole = if mtu_probing { whole } else { 5 };
        assert!((5..=6).contains(&whole), "three seconds of silence: {seen:?}");
        assert_eq!(seen[whole..][..2], small[..2], "{seen:?}");
    }
}

/// The peer behind a path that carries `most` bytes of payload takes what arrives, in whatever order, until
/// `total` bytes are there; yields the lengths of what it was sent.
fn receive(s: &mut Script, most: u32, total: u32) -> Vec<u32> {
    let (mut next, mut early, mut lengths) = (1, BTreeMap::new(), Vec::new());
    for _ in 0..3000 {
        for (seq, len) in sent(s) {
            lengths.push(len);
            if len <= most {
                early.insert(seq, seq + len);
                while let Some((&from, &to)) = early.first_key_value() {
                    if from > next {
                        break;
                    }
                    next = next.max(to);
                    early.pop_first();
                }
                s.send("A", 1, next, &[]);
            }
        }
        if next == total + 1 {
            return lengths;
        }
        s.pass(10);
    }
    panic!("{next} of {total} bytes arrived, in {lengths:?}");
}

#[test]
fn a_path_that_loses_large_segments_is_found_out() {
    let mut s = connection(true);
    let total = 400_000;
    s.write(total as usize);
    let lengths = receive(&mut s, 1200, total);
    let largest = lengths.iter().filter(|len| **len <= 1200).max();
    assert!(largest.is_some_and(|len| (1190..=1200).contains(len)), "{lengths:?}");
    let wasted = lengths.iter().rev().take(40).filter(|len| **len > 1200).count();
    assert_eq!(wasted, 0, "in the end nothing is too big: {lengths:?}");
}
