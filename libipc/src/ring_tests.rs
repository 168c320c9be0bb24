//! Rings: full, empty, wrapped, and peers that lie.

extern crate std;
use super::*;
use std::boxed::Box;

#[repr(C, align(4096))]
struct Page([u8; 4096]);

fn ring() -> Memory<[u64; 2]> {
    let page = Box::leak(Box::new(Page([0; 4096])));
    let base = page as *mut Page as usize;
    // SAFETY: leaked, aligned, and used by this ring only.
    unsafe { Memory::new(base, base + 2048, 8) }
}

#[test]
fn carries_entries_in_order_and_stops_when_full() {
    let m = ring();
    let (mut p, mut c) = (m.producer().unwrap(), m.consumer().unwrap());
    for i in 0..8 {
        assert!(p.push([i, i * 2]).unwrap());
    }
    assert!(!p.push([9, 9]).unwrap());
    assert_eq!(c.pop().unwrap(), None, "nothing is visible before publish");
    assert!(p.publish(), "a new ring starts with a sleeping consumer");
    for i in 0..8 {
        assert_eq!(c.pop().unwrap(), Some([i, i * 2]));
    }
    assert!(!p.push([9, 9]).unwrap(), "places are free only after release");
    c.release();
    assert!(p.push([9, 9]).unwrap());
    assert!(!p.publish(), "the consumer did not ask again");
}

#[test]
fn impossible_indices_are_reported() {
    let m = ring();
    let (mut p, mut c) = (m.producer().unwrap(), m.consumer().unwrap());
    m.producer.tail.store(9, Relaxed);
    assert_eq!(c.pop(), Err(PeerError::Index { claimed: 9, ours: 0 }));
    m.producer.tail.store(3, Relaxed);
    assert!(c.pop().unwrap().is_some());
    m.producer.tail.store(1, Relaxed);
    assert!(matches!(c.available(), Err(PeerError::Index { claimed: 1, .. })));
    m.consumer.head.store(5, Relaxed);
    assert_eq!(p.space(), Err(PeerError::Index { claimed: 5, ours: 0 }));
}

#[test]
fn both_ends_attach_again_where_they_were() {
    let m = ring();
    let (mut p, mut c) = (m.producer().unwrap(), m.consumer().unwrap());
    for i in 0..5 {
        p.push([i, 0]).unwrap();
    }
    let _ = p.publish();
    c.pop().unwrap();
    c.pop().unwrap();
    c.release();
    c.pop().unwrap(); // taken but not released: seen again
    let (p2, mut c2) = (m.producer().unwrap(), m.consumer().unwrap());
    assert_eq!(p2.index(), 5);
    assert_eq!(c2.pop().unwrap(), Some([2, 0]));
    c2.seek(4);
    assert_eq!(c2.pop().unwrap(), Some([4, 0]));
    assert_eq!(p2.peek(3), Some([3, 0]));
}

#[test]
fn a_ring_that_begins_anew_asks_to_be_woken() {
    let m = ring();
    let (mut p, mut c) = (m.producer().unwrap(), m.consumer().unwrap());
    for i in 0..5 {
        p.push([i, 0]).unwrap();
    }
    let _ = p.publish();
    while c.pop().unwrap().is_some() {}
    assert!(c.sleep().unwrap(), "asks for entry 5");
    // The producer's side is zeroed by a new one.
    m.producer.magic.store(0, Relaxed);
    assert!(matches!(m.consumer_at_tail(), Err(PeerError::Header)));
    let mut p = m.producer().unwrap();
    p.push([9, 0]).unwrap();
    assert!(p.publish(), "the first entry is signalled");
    let mut c = m.consumer_at_tail().unwrap();
    p.push([10, 0]).unwrap();
    assert!(p.publish());
    assert_eq!(c.pop().unwrap(), Some([10, 0]));
}

#[test]
fn a_wake_up_is_asked_for_once() {
    let m = ring();
    let (mut p, mut c) = (m.producer().unwrap(), m.consumer().unwrap());
    assert!(c.sleep().unwrap());
    p.push([1, 0]).unwrap();
    assert!(p.publish());
    p.push([2, 0]).unwrap();
    assert!(!p.publish());
    assert!(!c.sleep().unwrap(), "there is work: do not sleep");
}
