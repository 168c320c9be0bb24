use super::*;

const HERE: Here = Here { addr: Ipv4Addr::new(10, 0, 0, 1), time: [0x80, 0, 0, 9] };

fn answer(options: &[u8]) -> Bytes {
    take(options, &HERE).unwrap().answer(&HERE)
}

#[test]
fn a_route_is_recorded_there_and_back() {
    let mut ping = [0; 40];
    ping[..3].copy_from_slice(&[7, 39, 8]);
    ping[3..7].copy_from_slice(&[10, 0, 0, 9]);
    let back = answer(&ping);
    assert_eq!(back.len(), 40);
    assert_eq!(back[..15], [7, 39, 16, 10, 0, 0, 9, 10, 0, 0, 1, 10, 0, 0, 1]);
    assert!(back[15..].iter().all(|b| *b == 0));
    // One place left: the request takes it.
    assert_eq!(answer(&[7, 7, 4, 0, 0, 0, 0])[..], [7, 7, 8, 10, 0, 0, 1, 0]);
    // None left.
    assert_eq!(answer(&[7, 7, 8, 1, 2, 3, 4])[..], [7, 7, 8, 1, 2, 3, 4, 0]);
}

#[test]
fn times_are_recorded_by_their_flags() {
    let time = HERE.time;
    let back = answer(&[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(back[..], [&[68, 12, 13, 0][..], &time, &time].concat());
    let back = answer(&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(back[..], [&[68, 12, 13, 1, 10, 0, 0, 1][..], &time].concat());
    // Named in advance: us, or another.
    let back = answer(&[68, 12, 5, 3, 10, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(back[..], [&[68, 12, 13, 3, 10, 0, 0, 1][..], &time].concat());
    let other = [68, 12, 5, 3, 10, 0, 0, 2, 0, 0, 0, 0];
    assert_eq!(answer(&other)[..], other);
    // Full: who is missed is counted once.
    assert_eq!(answer(&[68, 8, 9, 0x10, 1, 2, 3, 4])[..], [68, 8, 9, 0x20, 1, 2, 3, 4]);
}

#[test]
fn what_is_wrong_is_pointed_at() {
    for (options, at) in [
        (&[7, 2][..], 1),
        (&[7, 7, 3, 0, 0, 0, 0], 2),
        (&[7, 7, 5, 0, 0, 0, 0], 2),
        (&[1, 1, 7, 1], 2),
        (&[7, 9, 4, 0], 0),
        (&[7], 0),
        (&[7, 7, 4, 0, 0, 0, 0, 7, 7, 4, 0, 0, 0, 0], 7),
        (&[68, 3, 5], 1),
        (&[68, 8, 4, 0, 0, 0, 0, 0], 2),
        (&[68, 8, 6, 0, 0, 0, 0, 0], 2),
        (&[68, 8, 5, 1, 0, 0, 0, 0], 2),
        (&[68, 8, 9, 0xf0, 0, 0, 0, 0], 3),
        (&[131, 2], 1),
        (&[137, 3, 3], 2),
        (&[131, 3, 4, 131, 3, 4], 3),
        (&[148, 2], 1),
    ] {
        assert_eq!(take(options, &HERE), Err(Refused::Problem(20 + at)), "{options:?}");
    }
}

#[test]
fn source_routes_are_refused_and_the_unknown_is_passed_over() {
    assert_eq!(take(&[131, 7, 4, 1, 2, 3, 4, 0], &HERE), Err(Refused::SourceRoute));
    assert_eq!(take(&[137, 3, 4], &HERE), Err(Refused::SourceRoute));
    // Security, stream identifier, router alert, an unknown one, the end and what lies behind it.
    for options in [&[130, 3, 0][..], &[136, 4, 1, 1], &[148, 4, 0, 0], &[0x99, 5, 1, 1, 1, 0, 7]] {
        assert!(take(options, &HERE).unwrap().is_empty(), "{options:?}");
        assert!(answer(options).is_empty());
    }
}

#[test]
fn nothing_makes_it_panic() {
    let mut seed = 1u64;
    let mut options = [0; 40];
    for _ in 0..200_000 {
        for b in &mut options {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let kinds = [7, 68, 131, 1, 0, 4, 5, 8, 12, (seed >> 40) as u8];
            *b = kinds[(seed >> 33) as usize % 10];
        }
        if let Ok(taken) = take(&options[..(seed >> 50) as usize % 41], &HERE) {
            assert!(taken.answer(&HERE).len() <= MAX);
        }
    }
}
