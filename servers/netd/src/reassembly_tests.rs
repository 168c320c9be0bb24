use super::*;

struct World;
impl Env for World {
    fn event(&mut self, _: crate::env::Event) {}
}

/// Leaked: tests are short.
fn bytes(data: &[u8]) -> &'static Bytes {
    Vec::leak(alloc::vec![Bytes::of(Vec::leak(data.to_vec()))]).first().unwrap()
}

fn reassembly(len: usize) -> Reassembly {
    Reassembly::new(*bytes(&alloc::vec![0; len]), 77)
}

const KEY: Key = Key {
    src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    id: 5,
    protocol: 17,
};

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// Puts bytes `range` of `data` in, as the last fragment if they end it.
fn put(
    r: &mut Reassembly,
    key: Key,
    data: &[u8],
    range: core::ops::Range<usize>,
    now: u64,
) -> Outcome {
    let from = bytes(&data[range.clone()]);
    let header = [0x45, 0, 0, 0];
    let fragment = Fragment {
        from: At(from, 0),
        len: range.len(),
        offset: range.start,
        more: range.end != data.len(),
        header: &header,
        tos: 0,
    };
    r.insert(&mut World, &key, &fragment, now)
}

fn got(r: &Reassembly, len: usize) -> Vec<u8> {
    let mut out = alloc::vec![0; len];
    assert!(r.mem().read(0, &mut out));
    out
}

#[test]
fn pieces_in_any_order_make_the_whole() {
    let mut r = reassembly(BYTES);
    for len in [9, 3000, 65_515, PAYLOAD_MAX] {
        let data = payload(len);
        for piece in [8, 1480, 2048, 30_000] {
            if len / piece > 3000 {
                continue;
            }
            let mut ranges: Vec<_> =
                (0..len).step_by(piece).map(|at| at..(at + piece).min(len)).collect();
            let n = ranges.len();
            if n < 2 {
                continue;
            }
            ranges.rotate_left(n / 3);
            ranges.swap(0, n / 2);
            let last = ranges.pop().unwrap();
            for range in ranges {
                assert_eq!(put(&mut r, KEY, &data, range, 0), Outcome::Waits);
            }
            assert_eq!(put(&mut r, KEY, &data, last, 0), Outcome::Whole { len, ecn: 0 });
            assert_eq!((got(&r, len), r.header()), (data.clone(), &[0x45, 0, 0, 0][..]));
            assert_eq!((r.waiting(), r.free.len()), (0, 256));
        }
    }
}

#[test]
fn repetitions_are_passed_over_and_overlaps_end_the_packet() {
    let data = payload(4000);
    let mut r = reassembly(BYTES);
    assert_eq!(put(&mut r, KEY, &data, 0..1480, 0), Outcome::Waits);
    assert_eq!(put(&mut r, KEY, &data, 0..1480, 0), Outcome::Duplicate);
    assert_eq!(put(&mut r, KEY, &data, 80..800, 0), Outcome::Duplicate, "inside");
    for range in [1472..2960, 0..1488, 1472..4000] {
        put(&mut r, KEY, &data, 0..1480, 0);
        assert_eq!(put(&mut r, KEY, &data, range, 0), Outcome::Overlap);
        assert_eq!((r.waiting(), r.free.len()), (0, 256), "all of it is gone");
    }
}

#[test]
fn ends_that_contradict_one_another_end_the_packet() {
    let mut r = reassembly(BYTES);
    let data = payload(4000);
    let short = payload(2000);
    let cases = [(&data, 3000..4000, &short, 1600..2000), (&data, 1600..2400, &short, 1600..2000)];
    for (a, first, b, second) in cases {
        assert_eq!(put(&mut r, KEY, a, first, 0), Outcome::Waits);
        assert_eq!(put(&mut r, KEY, b, second, 0), Outcome::Malformed);
        assert_eq!(r.waiting(), 0);
    }
    // Beyond the end that is known.
    put(&mut r, KEY, &short, 1600..2000, 0);
    assert_eq!(put(&mut r, KEY, &data, 1600..2400, 0), Outcome::Malformed);
    // Nothing at all, and more than a packet can hold.
    assert_eq!(put(&mut r, KEY, &data, 8..8, 0), Outcome::Malformed);
    let long = payload(PAYLOAD_MAX + 9);
    assert_eq!(put(&mut r, KEY, &long, 65_528..65_544, 0), Outcome::Malformed);
}

#[test]
fn packets_expire_by_family_and_quote_their_first_fragment() {
    let mut r = reassembly(BYTES);
    let data = payload(4000);
    put(&mut r, KEY, &data, 0..1480, S);
    put(&mut r, Key { id: 6, ..KEY }, &data, 1480..2960, 2 * S);
    let six: IpAddr = "fe80::1".parse().unwrap();
    put(&mut r, Key { src: six, dst: six, ..KEY }, &data, 0..1480, S);
    put(&mut r, KEY, &data, 1480..2960, 20 * S);
    assert_eq!(r.deadline(), Some(31 * S), "not put off by a later piece");
    assert_eq!(r.expire(&mut World, 31 * S - 1), None);
    assert_eq!(r.expire(&mut World, 31 * S), Some(Expired { key: KEY, first: Some(1480) }));
    assert_eq!(got(&r, 1480), data[..1480]);
    assert_eq!(r.expire(&mut World, 31 * S), None);
    let second = r.expire(&mut World, 32 * S).unwrap();
    assert_eq!((second.key.id, second.first), (6, None));
    assert_eq!(r.deadline(), Some(61 * S));
    assert!(r.expire(&mut World, 61 * S).is_some());
    assert_eq!((r.deadline(), r.free.len()), (None, 256));
}

#[test]
fn memory_is_bounded_and_the_oldest_gives_way() {
    let mut r = reassembly(BYTES);
    let data = payload(60_000);
    for id in 0..2000 {
        put(&mut r, Key { id, ..KEY }, &data, 0..1480, id as u64);
        assert!(r.waiting() as usize <= SETS * WAYS);
    }
    assert!(r.evicted > 1500);
    for at in (0..60_000).step_by(8000) {
        let whole = put(&mut r, KEY, &data, at..(at + 8000).min(60_000), 1 << 40);
        assert_eq!(whole == Outcome::Whole { len: 60_000, ecn: 0 }, at == 56_000, "{at}");
    }
    // Fewer pages than one packet needs: it ends, and nothing is left behind.
    let mut r = reassembly(SCRATCH + 4 * PAGE);
    assert_eq!(put(&mut r, KEY, &data, 0..8000, 0), Outcome::Waits);
    assert_eq!(put(&mut r, KEY, &data, 8000..16_000, 0), Outcome::Malformed);
    assert_eq!((r.waiting(), r.free.len()), (0, 4));
}

#[test]
fn congestion_marks_of_a_piece_are_the_wholes() {
    let data = payload(16);
    for (a, b, whole) in
        [(0, 0, Some(0)), (2, 3, Some(3)), (2, 2, Some(2)), (0, 2, None), (0, 3, None)]
    {
        let mut r = reassembly(BYTES);
        let mut piece = |tos: u8, offset: usize| {
            let header = [0x45, tos];
            let from = At(bytes(&data), offset);
            let fragment =
                Fragment { from, len: 8, offset, more: offset == 0, header: &header, tos };
            r.insert(&mut World, &KEY, &fragment, 0)
        };
        piece(a, 0);
        let expected = whole.map_or(Outcome::Malformed, |ecn| Outcome::Whole { len: 16, ecn });
        assert_eq!(piece(b, 8), expected, "{a} {b}");
    }
}
