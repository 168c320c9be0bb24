//! Classic BPF, the filter machine of packet taps (McCanne and Jacobson, 1993; opcodes as in every
//! system that has it).
//!
//! A [`Program`] was checked when it was made: it only jumps forward, so it ends; it names memory and
//! divisors that exist. A load beyond the packet ends it with 0, as everywhere.

use libipc::sock::filter::{Insn, MAX};

/// Words of scratch memory.
const MEM: usize = 16;

/// Where an operand comes from.
#[derive(Clone, Copy)]
enum Source {
    K,
    X,
}

#[derive(Clone, Copy)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
}

#[derive(Clone, Copy)]
enum Test {
    Eq,
    Gt,
    Ge,
    Set,
}

/// An instruction, understood.
#[derive(Clone, Copy)]
enum Op {
    /// Into A: `size` bytes at `k` (plus X).
    Load {
        size: u8,
        k: u32,
        indexed: bool,
    },
    LoadLen,
    LoadK(u32),
    LoadMem(u8),
    /// Into X.
    XLen,
    XK(u32),
    XMem(u8),
    /// Four times the low four bits of the byte at `k`: the length of an IPv4 header.
    XHeader(u32),
    Store(u8),
    StoreX(u8),
    Alu(Alu, Source, u32),
    Neg,
    Jump(u32),
    Branch(Test, Source, u32, u8, u8),
    ReturnK(u32),
    ReturnA,
    Tax,
    Txa,
}

/// Why a filter was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// None, or more than [`MAX`].
    Length,
    /// No such instruction.
    Code(u16),
    /// A jump out of the program.
    Jump,
    /// No such word of scratch memory.
    Memory,
    /// A division by zero, or a shift by more than 31.
    Operand,
    /// It does not end with a return.
    End,
}

/// A filter that was checked.
#[derive(Clone)]
pub struct Program(heapless::Vec<Op, MAX>);

impl Program {
    /// Takes nothing.
    pub fn nothing() -> Self {
        Self(heapless::Vec::new())
    }

    /// Checks a filter.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(insns: impl ExactSizeIterator<Item = Insn>) -> Result<Self, Bad> {
        let n = insns.len();
        if n == 0 || n > MAX {
            return Err(Bad::Length);
        }
        let mut ops = heapless::Vec::new();
        for (i, insn) in insns.enumerate() {
            let op = decode(insn)?;
            let after = (n - i - 1) as u32;
            let furthest = match op {
                Op::Jump(k) => k,
                Op::Branch(_, _, _, t, f) => t.max(f) as u32,
                _ => 0,
            };
            if furthest >= after && !matches!(op, Op::ReturnK(_) | Op::ReturnA) {
                return Err(if after == 0 { Bad::End } else { Bad::Jump });
            }
            let _ = ops.push(op);
        }
        Ok(Self(ops))
    }

    /// How many bytes of a packet of `len` bytes are wanted, 0: it is not. `load(at, size)` yields
    /// 1, 2 or 4 bytes of it, big-endian.
    pub fn run(&self, len: u32, load: impl Fn(u32, u8) -> Option<u32>) -> u32 {
        let (mut a, mut x, mut mem) = (0u32, 0u32, [0u32; MEM]);
        let mut at = 0usize;
        while let Some(op) = self.0.get(at) {
            at += 1;
            match *op {
                Op::Load { size, k, indexed } => {
                    let from = if indexed { k.checked_add(x) } else { Some(k) };
                    match from.and_then(|from| load(from, size)) {
                        Some(value) => a = value,
                        None => return 0,
                    }
                }
                Op::XHeader(k) => match load(k, 1) {
                    Some(byte) => x = (byte & 15) * 4,
                    None => return 0,
                },
                Op::LoadLen => a = len,
                Op::LoadK(k) => a = k,
                Op::LoadMem(m) => a = mem[m as usize % MEM],
                Op::XLen => x = len,
                Op::XK(k) => x = k,
                Op::XMem(m) => x = mem[m as usize % MEM],
                Op::Store(m) => mem[m as usize % MEM] = a,
                Op::StoreX(m) => mem[m as usize % MEM] = x,
                Op::Alu(alu, source, k) => match alu.apply(a, source.of(k, x)) {
                    Some(value) => a = value,
                    None => return 0,
                },
                Op::Neg => a = a.wrapping_neg(),
                Op::Jump(k) => at += k as usize,
                Op::Branch(test, source, k, t, f) => {
                    at += if test.holds(a, source.of(k, x)) { t } else { f } as usize;
                }
                Op::ReturnK(k) => return k,
                Op::ReturnA => return a,
                Op::Tax => x = a,
                Op::Txa => a = x,
            }
        }
        0
    }
}

impl Source {
    fn of(self, k: u32, x: u32) -> u32 {
        match self {
            Self::K => k,
            Self::X => x,
        }
    }
}

impl Alu {
    /// `None`: a division by zero, which ends the program.
    fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b)?,
            Self::Mod => a.checked_rem(b)?,
            Self::Or => a | b,
            Self::And => a & b,
            Self::Xor => a ^ b,
            Self::Lsh => a.checked_shl(b).unwrap_or(0),
            Self::Rsh => a.checked_shr(b).unwrap_or(0),
        })
    }
}

impl Test {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::Set => a & b != 0,
        }
    }
}

fn decode(insn: Insn) -> Result<Op, Bad> {
    let Insn { code, jt, jf, k } = insn;
    let word = || u8::try_from(k).ok().filter(|m| (*m as usize) < MEM).ok_or(Bad::Memory);
    let source = if code & 8 != 0 { Source::X } else { Source::K };
    let size = [4, 2, 1, 0][(code >> 3 & 3) as usize];
    Ok(match code & 7 {
        // LD: mode IMM 0x00, ABS 0x20, IND 0x40, MEM 0x60, LEN 0x80.
        0 => match (code & 0xe0, size) {
            (0x00, 4) => Op::LoadK(k),
            (0x20, 1..) => Op::Load { size, k, indexed: false },
            (0x40, 1..) => Op::Load { size, k, indexed: true },
            (0x60, 4) => Op::LoadMem(word()?),
            (0x80, 4) => Op::LoadLen,
            _ => return Err(Bad::Code(code)),
        },
        // LDX: and MSH 0xa0.
        1 => match (code & 0xe0, size) {
            (0x00, 4) => Op::XK(k),
            (0x60, 4) => Op::XMem(word()?),
            (0x80, 4) => Op::XLen,
            (0xa0, 1) => Op::XHeader(k),
            _ => return Err(Bad::Code(code)),
        },
        2 => Op::Store(word()?),
        3 => Op::StoreX(word()?),
        4 => alu(code, source, k)?,
        5 => {
            let test = match code & 0xf0 {
                0x00 => return Ok(Op::Jump(k)),
                0x10 => Test::Eq,
                0x20 => Test::Gt,
                0x30 => Test::Ge,
                0x40 => Test::Set,
                _ => return Err(Bad::Code(code)),
            };
            Op::Branch(test, source, k, jt, jf)
        }
        6 => match code & 0x18 {
            0x00 => Op::ReturnK(k),
            0x10 => Op::ReturnA,
            _ => return Err(Bad::Code(code)),
        },
        _ => match code & 0xf8 {
            0x00 => Op::Tax,
            0x80 => Op::Txa,
            _ => return Err(Bad::Code(code)),
        },
    })
}

fn alu(code: u16, source: Source, k: u32) -> Result<Op, Bad> {
    let by_k = matches!(source, Source::K);
    let alu = match code & 0xf0 {
        0x00 => Alu::Add,
        0x10 => Alu::Sub,
        0x20 => Alu::Mul,
        0x30 | 0x90 if by_k && k == 0 => return Err(Bad::Operand),
        0x30 => Alu::Div,
        0x40 => Alu::Or,
        0x50 => Alu::And,
        0x60 | 0x70 if by_k && k > 31 => return Err(Bad::Operand),
        0x60 => Alu::Lsh,
        0x70 => Alu::Rsh,
        0x80 => return Ok(Op::Neg),
        0x90 => Alu::Mod,
        0xa0 => Alu::Xor,
        _ => return Err(Bad::Code(code)),
    };
    Ok(Op::Alu(alu, source, k))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }

    fn run(program: &[Insn], packet: &[u8]) -> u32 {
        let program = Program::new(program.iter().copied()).unwrap();
        program.run(packet.len() as u32, |at, size| {
            let bytes = packet.get(at as usize..)?.get(..size as usize)?;
            Some(bytes.iter().fold(0, |v, b| v << 8 | *b as u32))
        })
    }

    #[test]
    fn loads_branches_and_returns() {
        // ldh [12]; jeq #0x806; ret #96; ret #0: what `arp` is.
        let arp = [
            insn(0x28, 0, 0, 12),
            insn(0x15, 0, 1, 0x806),
            insn(0x06, 0, 0, 96),
            insn(0x06, 0, 0, 0),
        ];
        let mut packet = [0; 60];
        packet[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(run(&arp, &packet), 96);
        packet[13] = 0;
        assert_eq!(run(&arp, &packet), 0);
        assert_eq!(run(&arp, &packet[..13]), 0, "a load beyond the end");
    }

    #[test]
    fn header_lengths_memory_and_arithmetic() {
        // ldxb 4*([0]&0xf); txa; add #2; st M[3]; ld #0; ld M[3]; ret a
        let program = [
            insn(0xb1, 0, 0, 0),
            insn(0x87, 0, 0, 0),
            insn(0x04, 0, 0, 2),
            insn(0x02, 0, 0, 3),
            insn(0x00, 0, 0, 0),
            insn(0x60, 0, 0, 3),
            insn(0x16, 0, 0, 0),
        ];
        assert_eq!(run(&program, &[0x45]), 22);
    }

    #[test]
    fn what_could_run_away_is_refused() {
        let ret = insn(6, 0, 0, 0);
        let cases = [
            (vec![], Bad::Length),
            (vec![ret; MAX + 1], Bad::Length),
            (vec![insn(0x28, 0, 0, 0)], Bad::End),
            (vec![insn(0x05, 0, 0, 1), ret], Bad::Jump),
            (vec![insn(0x15, 0, 9, 0), ret], Bad::Jump),
            (vec![insn(0x02, 0, 0, 16), ret], Bad::Memory),
            (vec![insn(0x34, 0, 0, 0), ret], Bad::Operand),
            (vec![insn(0x64, 0, 0, 32), ret], Bad::Operand),
            (vec![insn(0xff, 0, 0, 0), ret], Bad::Code(0xff)),
        ];
        for (program, why) in cases {
            assert_eq!(Program::new(program.into_iter()).err(), Some(why));
        }
    }

    #[test]
    fn dividing_by_an_x_of_zero_ends_it() {
        assert_eq!(run(&[insn(0x3c, 0, 0, 0), insn(6, 0, 0, 7)], &[]), 0);
    }

    #[test]
    fn anything_ends() {
        let mut seed = 1u64;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            seed >> 33
        };
        let mut ran = 0;
        for _ in 0..20_000 {
            let n = 1 + next() as usize % 8;
            let any: Vec<_> = (0..n)
                .map(|_| {
                    insn(
                        next() as u16 % 0xc0,
                        next() as u8 % 4,
                        next() as u8 % 4,
                        next() as u32 % 40,
                    )
                })
                .chain([insn(6, 0, 0, 1)])
                .collect();
            if Program::new(any.iter().copied()).is_ok() {
                run(&any, &[1; 30]);
                ran += 1;
            }
        }
        assert!(ran > 500, "{ran}");
    }
}
