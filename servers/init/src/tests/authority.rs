//! Who holds what, as init tells it.

use super::*;
use abi::{CapInfo, ObjType};
use libipc::authority::{Place, Purpose};
use libipc::proc::{Reply, Request};
use std::collections::BTreeSet;

const SH: usize = 2;

fn held(b: &mut Booted, place: Place) -> Vec<(Purpose, CapInfo)> {
    let (mut from, mut all) = (0, vec![]);
    loop {
        let request = Request::Authority { place, from };
        let reply = b.s.request(&mut b.k, badge::request(SH), &request);
        let Some(Ok(Reply::Authority(page))) = reply else { panic!("{reply:?}") };
        let encoded = postcard::to_allocvec(&Ok::<_, ()>(Reply::Authority(page.clone()))).unwrap();
        assert!(encoded.len() <= abi::MSG_MAX);
        let caps = page.caps.iter().map(|(p, w)| (*p, CapInfo::from_words(*w).unwrap()));
        all.extend(caps);
        match page.next {
            Some(next) => from = next,
            None => return all,
        }
    }
}

#[test]
fn every_slot_is_told_once_and_for_what_it_is() {
    let mut b = booted();
    let own = held(&mut b, Place::Init);
    let slots: BTreeSet<u32> = own.iter().map(|(_, c)| c.slot).collect();
    assert_eq!((slots.len(), own.len()), (b.k.root_slots(), b.k.root_slots()));
    let objects = |purpose, ty| own.iter().filter(|(p, c)| *p == purpose && c.ty == ty).count();
    assert_eq!(objects(Purpose::Endpoint(0), ObjType::Endpoint), 1);
    assert_eq!(objects(Purpose::Notification(2), ObjType::Notification), 1);
    assert_eq!(objects(Purpose::Region(1), ObjType::Frame), 2 + 3);
    assert_eq!(objects(Purpose::Device(0), ObjType::Frame), 32);
    assert_eq!(objects(Purpose::Private(1), ObjType::Untyped), 1);
    assert_eq!(objects(Purpose::Life(1), ObjType::Thread), 1);
    assert_eq!(objects(Purpose::Standing(3), ObjType::VSpace), 1);
    assert_eq!(objects(Purpose::Own, ObjType::IrqControl), 1);
}

#[test]
fn a_process_is_told_from_its_own_cnode() {
    let mut b = booted();
    let thread = b.thread(SH);
    let expected = b.k.cspace_of(thread).len();
    assert_eq!(held(&mut b, Place::CNode(SH as u16)).len(), expected);
    assert_eq!(held(&mut b, Place::Thread(SH as u16)).len(), 2);
    // One that does not run, one that cannot, one that does not exist.
    for n in [3, 4, 99] {
        assert!(
            held(&mut b, Place::CNode(n)).is_empty() && held(&mut b, Place::Thread(n)).is_empty()
        );
    }
}
