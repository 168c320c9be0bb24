//! The guest's routines against sums word by word.

use crate::copy;
use libipc::shared::Bytes;
use netd::env::At;
use netd::wire::checksum::Sum;

const ROOM: usize = 6000;

/// Whether `len` bytes of `data` from `at` on are copied and summed, and nothing else is written.
fn agrees(data: &[u8], at: usize, len: usize) {
    let (from, to) = (data.to_vec().leak(), vec![0xa5; ROOM].leak());
    let (from, to) = (Bytes::of(from), Bytes::of(to));
    let sum = copy::copy_sum(At(&from, at), At(&to, at / 2), len).expect("in range");
    let whole = Sum::ZERO.bytes(&data[at..at + len]);
    assert_eq!(sum.fold(), whole.fold(), "{len} bytes from {at}");
    assert_eq!(copy::sum(At(&from, at), len).expect("in range").fold(), whole.fold());
    let mut out = vec![0; ROOM];
    assert!(to.read(0, &mut out));
    assert_eq!(out[at / 2..at / 2 + len], data[at..at + len]);
    assert!(out[..at / 2].iter().chain(&out[at / 2 + len..]).all(|b| *b == 0xa5));
}

#[test]
fn any_length_of_any_bytes() {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    };
    let noise: Vec<u8> = (0..ROOM).map(|_| random()).collect();
    // Words at which averages and halves are furthest from the truth.
    let extremes = [vec![0; ROOM], vec![0xff; ROOM], [0xff, 0x7f, 0, 0x80].repeat(ROOM / 4)];
    let odd = [1, 0, 0, 0].repeat(ROOM / 4);
    for data in extremes.iter().chain([&noise, &odd]) {
        for len in (0..300).chain([1460, 1791, 1792, 1793, 1920, 4096, 5001]) {
            agrees(data, len % 7, len);
        }
    }
}

#[test]
fn out_of_range_is_refused() {
    let bytes = Bytes::of(vec![0; 100].leak());
    assert!(copy::copy_sum(At(&bytes, 50), At(&bytes, 0), 51).is_none());
    assert!(copy::copy_sum(At(&bytes, 0), At(&bytes, 99), 2).is_none());
    assert!(copy::sum(At(&bytes, 1), 100).is_none());
}
