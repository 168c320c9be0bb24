//! The scoreboard against its own invariants.

use super::*;

/// Anything in any order, with little memory: no panic, the ranges cover what is in flight, and
/// the counts are right after each step.
#[test]
fn holds_whatever_happens() {
    for seed in 1..300u64 {
        let mut rng = seed;
        let mut random = |n: u32| {
            rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (rng >> 33) as u32 % n
        };
        let pool = Rc::new(super::super::pool::pool_of(1, seed as usize % 12));
        let before = pool.left();
        let mut board = Scoreboard::new(pool.clone());
        let (mut una, mut max) = (Seq(u32::MAX - 5000), Seq(u32::MAX - 5000));
        for now in 0..200 {
            let mut said = Delivered::new(max, una, 0, now);
            let flight = max - una;
            let start = una + random(flight + 1);
            let end = start + random(max - start + 1);
            let op = random(9);
            match op {
                0..3 => {
                    let len = [1, 100, 500, 1000, 3000][random(5) as usize];
                    board.sent(
                        max,
                        max + len,
                        [500, 1000][random(2) as usize],
                        len > 1 && random(5) == 0,
                        now / 3,
                    );
                    max = max + len;
                }
                3 => {
                    board.ack(start, &mut said);
                    una = start;
                }
                4 | 5 => {
                    if start.lt(end) {
                        board.sack(start, end, &mut said);
                    }
                }
                6 => {
                    board.judge(|n| n.at + 3 < now);
                }
                7 => {
                    if let Some(n) = board.next_lost() {
                        let len = n.bytes().min(n.size as u32);
                        board.resent(n.start, n.start + len, now);
                    }
                }
                _ => match random(4) {
                    0 => board.lose_first(),
                    1 => board.acquit(),
                    2 => board.renege(),
                    _ => {
                        if let Some((start, end)) = board.last_segment() {
                            board.probed(start, end, now);
                        }
                    }
                },
            }
            board.check(una, max);
            assert!(board.pipe(max - una) <= 2 * (max - una), "seed {seed}");
        }
        drop(board);
        assert_eq!(pool.left(), before, "every node comes back");
    }
}

#[test]
fn segments_that_leave_together_are_one_range_and_split_between_segments() {
    let mut board = Scoreboard::new(Rc::new(super::super::pool::pool_of(1, 16)));
    let mut said = Delivered::new(Seq(0), Seq(0), 0, 9);
    for i in 0..10 {
        board.sent(Seq(i * 1000), Seq(i * 1000 + 1000), 1000, false, 7);
    }
    assert_eq!((board.len, board.first().map(|n| n.segments)), (1, Some(10)));
    board.sack(Seq(1500), Seq(3500), &mut said);
    assert_eq!((board.len, board.sacked), (3, Count { bytes: 1000, segments: 1 }));
    board.sack(Seq(1000), Seq(5000), &mut said);
    assert_eq!((board.len, board.sacked), (3, Count { bytes: 4000, segments: 4 }), "joined");
    assert_eq!((said.bytes, said.segments), (4000, 4), "each once");
    board.judge(|n| n.start.lt(Seq(4000)));
    assert_eq!((board.lost.bytes, board.pipe(10_000)), (1000, 5000));
    board.resent(Seq(0), Seq(1000), 9);
    assert_eq!(board.pipe(10_000), 6000);
    board.ack(Seq(5000), &mut said);
    let none = Count::default();
    assert_eq!((board.pipe(5000), board.sacked, board.lost), (5000, none, none));
}
