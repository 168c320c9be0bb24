//! Filters of packet taps from words, a part of what `tcpdump` takes.
//!
//! ```text
//! filter  = term { "or" term }          term = factor { "and" factor }
//! factor  = "not" factor | "(" filter ")" | primitive
//! primitive = arp | ip | ip6 | icmp | icmp6 | igmp | tcp | udp
//!           | [src | dst] host ADDRESS | [src | dst] net ADDRESS/LENGTH | [tcp | udp] [src | dst] port N
//!           | less N | greater N
//! ```
//! Offsets are those of Ethernet without tags; IPv6 extension headers are not passed over, as in `tcpdump`.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use libipc::sock::filter::{Insn, MAX};

/// Why words are no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// This word (its number, from 0) cannot be there; the first one beyond the end: something is missing.
    Word(usize),
    /// It needs more than 128 instructions, or is nested too deep.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(n) => write!(f, "word {} of the filter is wrong or missing", n + 1),
            Self::TooLong => f.write_str("the filter is too long: 128 instructions at most"),
        }
    }
}

impl core::error::Error for Error {}

/// Longest nesting of `not` and parentheses.
const DEPTH: usize = 16;
/// Bytes wanted of a frame that passes.
const WHOLE: u32 = 262_144;

const ETHERTYPE: u32 = 12;
const IPV4: u32 = 0x800;
const ARP: u32 = 0x806;
const IPV6: u32 = 0x86dd;

/// Which of the two ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Src,
    Dst,
    Either,
}

/// Compiles words, separated by white space; none: everything.
///
/// # Errors
/// The first word that cannot be there.
pub fn compile(text: &str) -> Result<Vec<Insn>, Error> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut c = Compiler { words: &words, at: 0, depth: 0, code: Vec::new(), places: Vec::new() };
    let (yes, no) = (c.label(), c.label());
    if !words.is_empty() {
        c.filter(yes, no)?;
        if c.at != words.len() {
            return Err(Error::Word(c.at));
        }
    }
    c.put(yes);
    c.code.push(Step::Plain(0x06, WHOLE));
    c.put(no);
    c.code.push(Step::Plain(0x06, 0));
    c.link()
}

/// A place in the program that may not be known yet.
#[derive(Clone, Copy)]
struct Label(usize);

enum Step {
    Plain(u16, u32),
    /// Code, operand, where to go if it holds and if not.
    Branch(u16, u32, Label, Label),
}

struct Compiler<'a> {
    words: &'a [&'a str],
    at: usize,
    depth: usize,
    code: Vec<Step>,
    /// Where each label is.
    places: Vec<usize>,
}

impl Compiler<'_> {
    fn label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }
    /// The next step is where `label` leads.
    fn put(&mut self, label: Label) {
        self.places[label.0] = self.code.len();
    }
    fn load(&mut self, code: u16, k: u32) {
        self.code.push(Step::Plain(code, k));
    }
    fn jump_eq(&mut self, k: u32, yes: Label, no: Label) {
        self.code.push(Step::Branch(0x15, k, yes, no));
    }
    fn byte_is(&mut self, at: u32, value: u32, yes: Label, no: Label) {
        self.load(0x30, at);
        self.jump_eq(value, yes, no);
    }
    fn ethertype_is(&mut self, value: u32, yes: Label, no: Label) {
        self.load(0x28, ETHERTYPE);
        self.jump_eq(value, yes, no);
    }

    fn link(self) -> Result<Vec<Insn>, Error> {
        if self.code.len() > MAX {
            return Err(Error::TooLong);
        }
        let ahead = |from: usize, label: &Label| (self.places[label.0] - from - 1) as u8;
        let insns = self.code.iter().enumerate().map(|(i, step)| match step {
            Step::Plain(code, k) => Insn { code: *code, jt: 0, jf: 0, k: *k },
            Step::Branch(code, k, yes, no) => {
                Insn { code: *code, jt: ahead(i, yes), jf: ahead(i, no), k: *k }
            }
        });
        Ok(insns.collect())
    }

    fn word(&self) -> Option<&str> {
        self.words.get(self.at).copied()
    }
    fn take(&mut self, word: &str) -> bool {
        let found = self.word() == Some(word);
        self.at += found as usize;
        found
    }

    fn filter(&mut self, yes: Label, no: Label) -> Result<(), Error> {
        loop {
            let next = self.label();
            // Only what follows says whether this was the last term.
            let start = self.code.len();
            self.term(yes, next)?;
            if !(self.take("or") || self.take("||")) {
                self.redirect(start, next, no);
                return Ok(());
            }
            self.put(next);
        }
    }

    fn term(&mut self, yes: Label, no: Label) -> Result<(), Error> {
        loop {
            let next = self.label();
            let start = self.code.len();
            self.factor(next, no)?;
            if !(self.take("and") || self.take("&&")) {
                self.redirect(start, next, yes);
                return Ok(());
            }
            self.put(next);
        }
    }

    /// Has the branches from step `start` on lead to `to` in place of `from`.
    fn redirect(&mut self, start: usize, from: Label, to: Label) {
        for step in &mut self.code[start..] {
            if let Step::Branch(_, _, yes, no) = step {
                for label in [yes, no] {
                    if label.0 == from.0 {
                        *label = to;
                    }
                }
            }
        }
    }

    fn factor(&mut self, yes: Label, no: Label) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH || self.code.len() > MAX {
            return Err(Error::TooLong);
        }
        if self.take("not") || self.take("!") {
            self.factor(no, yes)?;
        } else if self.take("(") {
            self.filter(yes, no)?;
            if !self.take(")") {
                return Err(Error::Word(self.at));
            }
        } else {
            self.primitive(yes, no)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn primitive(&mut self, yes: Label, no: Label) -> Result<(), Error> {
        let wrong = Error::Word(self.at);
        let word = self.word().ok_or(wrong)?;
        let simple = match word {
            "arp" => Some((ARP, None)),
            "ip" => Some((IPV4, None)),
            "ip6" => Some((IPV6, None)),
            "icmp" => Some((IPV4, Some(1))),
            "igmp" => Some((IPV4, Some(2))),
            "icmp6" => Some((IPV6, Some(58))),
            _ => None,
        };
        if let Some((ethertype, protocol)) = simple {
            self.at += 1;
            match protocol {
                None => self.ethertype_is(ethertype, yes, no),
                Some(p) => self.family_protocol(ethertype, p, yes, no),
            }
            return Ok(());
        }
        match word {
            "less" | "greater" => self.length(yes, no),
            "tcp" | "udp" => {
                let protocol = if word == "tcp" { 6 } else { 17 };
                self.at += 1;
                if matches!(self.word(), Some("port" | "src" | "dst")) {
                    return self.sided(Some(protocol), yes, no);
                }
                let other = self.label();
                self.family_protocol(IPV4, protocol, yes, other);
                self.put(other);
                self.family_protocol(IPV6, protocol, yes, no);
                Ok(())
            }
            _ => self.sided(None, yes, no),
        }
    }

    fn family_protocol(&mut self, ethertype: u32, protocol: u32, yes: Label, no: Label) {
        let family = self.label();
        self.ethertype_is(ethertype, family, no);
        self.put(family);
        self.byte_is(if ethertype == IPV4 { 23 } else { 20 }, protocol, yes, no);
    }

    fn number(&mut self, most: u32) -> Result<u32, Error> {
        let number = self.word().and_then(|w| w.parse().ok()).filter(|n| *n <= most);
        let number = number.ok_or(Error::Word(self.at))?;
        self.at += 1;
        Ok(number)
    }

    fn length(&mut self, yes: Label, no: Label) -> Result<(), Error> {
        let less = self.take("less") || !self.take("greater");
        let n = self.number(u16::MAX as u32)?;
        self.load(0x80, 0);
        self.code.push(match less {
            true => Step::Branch(0x25, n, no, yes),
            false => Step::Branch(0x35, n, yes, no),
        });
        Ok(())
    }

    /// What speaks of one end or either.
    fn sided(&mut self, protocol: Option<u32>, yes: Label, no: Label) -> Result<(), Error> {
        let side = match (self.take("src"), self.take("dst")) {
            (true, _) => Side::Src,
            (_, true) => Side::Dst,
            _ => Side::Either,
        };
        if self.take("port") {
            let port = self.number(u16::MAX as u32)?;
            self.port(protocol, side, port, yes, no);
            return Ok(());
        }
        let net = self.word() == Some("net");
        if protocol.is_some() || !(net || self.word() == Some("host")) {
            return Err(Error::Word(self.at));
        }
        self.at += 1;
        let wrong = Error::Word(self.at);
        let word = self.word().ok_or(wrong)?;
        let (addr, len) = match word.split_once('/') {
            Some((addr, len)) if net => (addr, Some(len.parse::<u32>().map_err(|_| wrong)?)),
            _ => (word, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| wrong)?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(most);
        if len > most {
            return Err(wrong);
        }
        self.at += 1;
        self.address(side, addr, len, yes, no);
        Ok(())
    }

    fn port(&mut self, protocol: Option<u32>, side: Side, port: u32, yes: Label, no: Label) {
        let (v4, v6, other) = (self.label(), self.label(), self.label());
        self.ethertype_is(IPV4, v4, other);
        self.put(v4);
        let found = self.label();
        self.transport(23, protocol, found, no);
        self.put(found);
        // Only the first fragment has ports.
        self.load(0x28, 20);
        let first = self.label();
        self.code.push(Step::Branch(0x45, 0x1fff, no, first));
        self.put(first);
        self.load(0xb1, 14);
        self.ends(side, [(0x48, 14), (0x48, 16)], port, yes, no);
        self.put(other);
        self.ethertype_is(IPV6, v6, no);
        self.put(v6);
        let found = self.label();
        self.transport(20, protocol, found, no);
        self.put(found);
        self.ends(side, [(0x28, 54), (0x28, 56)], port, yes, no);
    }

    /// Whether the protocol at `at` is the one, or one of those with ports.
    fn transport(&mut self, at: u32, protocol: Option<u32>, yes: Label, no: Label) {
        match protocol {
            Some(p) => self.byte_is(at, p, yes, no),
            None => {
                let udp = self.label();
                self.byte_is(at, 6, yes, udp);
                self.put(udp);
                self.jump_eq(17, yes, no);
            }
        }
    }

    /// Compares what lies at the place of the source, of the destination, or of either.
    fn ends(&mut self, side: Side, [src, dst]: [(u16, u32); 2], value: u32, yes: Label, no: Label) {
        if side != Side::Dst {
            let other = if side == Side::Src { no } else { self.label() };
            self.load(src.0, src.1);
            self.jump_eq(value, yes, other);
            if side == Side::Src {
                return;
            }
            self.put(other);
        }
        self.load(dst.0, dst.1);
        self.jump_eq(value, yes, no);
    }

    fn address(&mut self, side: Side, addr: IpAddr, len: u32, yes: Label, no: Label) {
        match addr {
            IpAddr::V4(addr) => {
                let (v4, arp, other) = (self.label(), self.label(), self.label());
                self.ethertype_is(IPV4, v4, other);
                self.put(v4);
                self.words_at(side, [26, 30], &[u32::from(addr)], len, yes, no);
                self.put(other);
                self.ethertype_is(ARP, arp, no);
                self.put(arp);
                self.words_at(side, [28, 38], &[u32::from(addr)], len, yes, no);
            }
            IpAddr::V6(addr) => {
                let bits = addr.to_bits();
                let words: [u32; 4] = core::array::from_fn(|i| (bits >> (96 - 32 * i)) as u32);
                let v6 = self.label();
                self.ethertype_is(IPV6, v6, no);
                self.put(v6);
                self.words_at(side, [22, 38], &words, len, yes, no);
            }
        }
    }

    fn words_at(
        &mut self,
        side: Side,
        at: [u32; 2],
        words: &[u32],
        len: u32,
        yes: Label,
        no: Label,
    ) {
        let other = if side == Side::Either { self.label() } else { no };
        if side != Side::Dst {
            self.prefix_at(at[0], words, len, yes, other);
            if side == Side::Src {
                return;
            }
            self.put(other);
        }
        self.prefix_at(at[1], words, len, yes, no);
    }

    fn prefix_at(&mut self, at: u32, words: &[u32], len: u32, yes: Label, no: Label) {
        let used = len.div_ceil(32).max(1) as usize;
        for (i, word) in words.iter().enumerate().take(used) {
            let bits = (len - 32 * i as u32).min(32);
            let mask = (u32::MAX as u64).wrapping_shl(32 - bits) as u32;
            self.load(0x20, at + 4 * i as u32);
            if mask != u32::MAX {
                self.load(0x54, mask);
            }
            let next = if i + 1 == used { yes } else { self.label() };
            self.jump_eq(word & mask, next, no);
            if i + 1 < used {
                self.put(next);
            }
        }
    }
}
