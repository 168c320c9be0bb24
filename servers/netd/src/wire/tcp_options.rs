//! TCP options: MSS (RFC 9293 3.7.1), window scale and timestamps (RFC 7323), SACK (RFC 2018), Fast
//! Open (RFC 7413). Others are skipped. What we write has the order and the padding of Linux.

use super::Malformed;
use super::tcp::Seq;

/// Most bytes of options in a header.
pub const MAX_OPTIONS: usize = 40;
/// Largest window scale (RFC 7323 2.3).
pub const MAX_SHIFT: u8 = 14;
/// Bytes that timestamps take in every segment, padding included.
pub const TIMESTAMPS: usize = 12;
/// Most blocks in a SACK option.
pub const MAX_BLOCKS: usize = 4;

const NOP: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMP: u8 = 8;
const MD5: u8 = 19;
const AUTHENTICATION: u8 = 29;
const FAST_OPEN: u8 = 34;
/// An experiment (RFC 6994), with the number that Fast Open had before RFC 7413.
const EXPERIMENT: u8 = 254;
const FAST_OPEN_EXPERIMENT: [u8; 2] = 0xf989u16.to_be_bytes();

/// The timestamps option (RFC 7323 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval.
    pub value: u32,
    /// TSecr; meaningful in segments with an ACK.
    pub echo: u32,
}

/// The blocks of a SACK option: ranges `[start, end)`, as they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    blocks: [(Seq, Seq); MAX_BLOCKS],
    len: u8,
}

impl Blocks {
    /// None.
    pub const NONE: Self = Self { blocks: [(Seq(0), Seq(0)); MAX_BLOCKS], len: 0 };

    /// Adds one; a fifth is left out.
    pub fn push(&mut self, start: Seq, end: Seq) {
        if let Some(place) = self.blocks.get_mut(self.len as usize) {
            *place = (start, end);
            self.len += 1;
        }
    }
    /// The blocks.
    pub fn get(&self) -> &[(Seq, Seq)] {
        &self.blocks[..self.len as usize]
    }
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A Fast Open cookie (RFC 7413 4.1.1): 4 to 16 bytes, or none, which asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    bytes: [u8; Self::MAX],
    len: u8,
    /// In the option of the experiment that came before the RFC (RFC 7413 A.2), as old peers have it.
    pub experimental: bool,
}

impl Cookie {
    /// Most bytes.
    pub const MAX: usize = 16;
    /// Fewest, but for a request.
    pub const MIN: usize = 4;
    /// Asks for a cookie.
    pub const REQUEST: Self = Self { bytes: [0; Self::MAX], len: 0, experimental: false };

    /// A cookie of these bytes; `None` if their number is none that a cookie may have.
    pub fn new(cookie: &[u8]) -> Option<Self> {
        let len = cookie.len();
        if len != 0 && (!(Self::MIN..=Self::MAX).contains(&len) || !len.is_multiple_of(2)) {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes[..len].copy_from_slice(cookie);
        Some(Self { bytes, len: len as u8, experimental: false })
    }
    /// The same, in the option of the experiment or not.
    pub const fn in_experiment(self, experimental: bool) -> Self {
        Self { experimental, ..self }
    }
    /// Whether it is none, but asks for one.
    pub const fn is_request(&self) -> bool {
        self.len == 0
    }
    /// Bytes of the option without padding.
    const fn option_len(&self) -> usize {
        self.len as usize + if self.experimental { 4 } else { 2 }
    }
    /// Its bytes.
    pub fn get(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// The options of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size (SYN only).
    pub mss: Option<u16>,
    /// Window scale (SYN only), at most [`MAX_SHIFT`].
    pub scale: Option<u8>,
    /// SACK permitted (SYN only).
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK.
    pub sack: Blocks,
    /// Fast Open (SYN only).
    pub fast_open: Option<Cookie>,
}

impl Options {
    /// None.
    pub const NONE: Self = Self {
        mss: None,
        scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: Blocks::NONE,
        fast_open: None,
    };

    /// Reads what follows the fixed part of a header.
    ///
    /// Malformed options end the list (RFC 9293 3.1: MUST be prepared to handle an illegal option
    /// length); the segment itself goes on.
    ///
    /// # Errors
    /// [`Malformed::Signature`]: signed (RFC 2385, RFC 5925) with a key that nobody here has.
    pub fn parse(o: &[u8]) -> Result<Self, Malformed> {
        // Nearly every segment has nothing, or timestamps alone as everybody pads them.
        match *o {
            [] => Ok(Self::NONE),
            [NOP, NOP, TIMESTAMP, 10, a, b, c, d, e, f, g, h] => Ok(Self {
                timestamps: Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                }),
                ..Self::NONE
            }),
            _ => Self::parse_any(o),
        }
    }

    fn parse_any(mut o: &[u8]) -> Result<Self, Malformed> {
        let mut options = Self::NONE;
        loop {
            match *o {
                [0, ..] | [] => return Ok(options),
                [NOP, ref rest @ ..] => o = rest,
                [MD5, 18, ..] | [AUTHENTICATION, 4..=40, ..] => return Err(Malformed::Signature),
                [kind, len, ..] if len >= 2 && len as usize <= o.len() => {
                    let (option, rest) = o.split_at(len as usize);
                    options.take(kind, &option[2..]);
                    o = rest;
                }
                _ => return Ok(options),
            }
        }
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (MSS, &[hi, lo]) => self.mss = Some(u16::from_be_bytes([hi, lo])),
            (SCALE, &[shift]) => self.scale = Some(shift.min(MAX_SHIFT)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMP, _) if body.len() == 8 => {
                self.timestamps = Some(Timestamps { value: word(body), echo: word(&body[4..]) });
            }
            (SACK, _) if !body.is_empty() && body.len().is_multiple_of(8) => {
                self.sack = Blocks::NONE;
                for block in body.chunks_exact(8) {
                    self.sack.push(Seq(word(block)), Seq(word(&block[4..])));
                }
            }
            (FAST_OPEN, _) => self.fast_open = Cookie::new(body),
            (EXPERIMENT, [a, b, cookie @ ..]) if [*a, *b] == FAST_OPEN_EXPERIMENT => {
                let cookie = Cookie::new(cookie);
                self.fast_open = cookie.map(|c| Cookie { experimental: true, ..c });
            }
            _ => {}
        }
    }

    /// Bytes that [`Options::emit`] writes, padding included: a multiple of 4.
    pub const fn len(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += 4;
        }
        if self.timestamps.is_some() {
            len += TIMESTAMPS;
        } else if self.sack_permitted {
            len += 4;
        }
        if self.scale.is_some() {
            len += 4;
        }
        if let Some(cookie) = self.fast_open {
            len += cookie.option_len().next_multiple_of(4);
        }
        match self.blocks(len) {
            0 => len,
            n => len + 4 + 8 * n,
        }
    }
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many SACK blocks have room after `used` bytes.
    const fn blocks(&self, used: usize) -> usize {
        let room = MAX_OPTIONS.saturating_sub(used + 4) / 8;
        if room < self.sack.len as usize { room } else { self.sack.len as usize }
    }

    /// Writes them, and how many bytes that were. SACK blocks that have no room are left out: three
    /// go with timestamps.
    pub fn emit(&self, out: &mut [u8; MAX_OPTIONS]) -> usize {
        let mut w = Writer { out, at: 0 };
        if let Some(mss) = self.mss {
            let [hi, lo] = mss.to_be_bytes();
            w.put(&[MSS, 4, hi, lo]);
        }
        if let Some(t) = self.timestamps {
            let pad = if self.sack_permitted { [SACK_PERMITTED, 2] } else { [NOP, NOP] };
            w.put(&[pad[0], pad[1], TIMESTAMP, 10]);
            w.put(&t.value.to_be_bytes());
            w.put(&t.echo.to_be_bytes());
        } else if self.sack_permitted {
            w.put(&[NOP, NOP, SACK_PERMITTED, 2]);
        }
        if let Some(shift) = self.scale {
            w.put(&[NOP, SCALE, 3, shift]);
        }
        if !self.sack.is_empty() || self.fast_open.is_some() {
            self.emit_rare(&mut w);
        }
        w.at
    }

    #[cold]
    fn emit_rare(&self, w: &mut Writer<'_>) {
        let cookie = self.fast_open.map_or(0, |c| c.option_len().next_multiple_of(4));
        let n = self.blocks(w.at + cookie);
        if n > 0 {
            w.put(&[NOP, NOP, SACK, 2 + 8 * n as u8]);
            for (start, end) in &self.sack.get()[..n] {
                w.put(&start.0.to_be_bytes());
                w.put(&end.0.to_be_bytes());
            }
        }
        if let Some(cookie) = self.fast_open {
            let kind = if cookie.experimental { EXPERIMENT } else { FAST_OPEN };
            w.put(&[kind, cookie.option_len() as u8]);
            if cookie.experimental {
                w.put(&FAST_OPEN_EXPERIMENT);
            }
            w.put(cookie.get());
            while !w.at.is_multiple_of(4) {
                w.put(&[NOP]);
            }
        }
    }
}

fn word(b: &[u8]) -> u32 {
    b.first_chunk().map_or(0, |w| u32::from_be_bytes(*w))
}

struct Writer<'a> {
    out: &'a mut [u8; MAX_OPTIONS],
    at: usize,
}

impl Writer<'_> {
    /// What has no room is left out; [`Options`] cannot ask for more than there is.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(to) = self.out.get_mut(self.at..self.at + bytes.len()) {
            to.copy_from_slice(bytes);
            self.at += bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(options: &Options) -> ([u8; MAX_OPTIONS], usize) {
        let mut out = [0xff; MAX_OPTIONS];
        let len = options.emit(&mut out);
        assert_eq!(len, options.len());
        (out, len)
    }

    fn syn() -> Options {
        Options {
            mss: Some(1460),
            scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 1, echo: 0 }),
            ..Options::NONE
        }
    }

    #[test]
    fn a_syn_is_laid_out_as_linux_does() {
        let (out, len) = emitted(&syn());
        let bytes = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(out[..len], bytes);
        assert_eq!(Options::parse(&out[..len]), Ok(syn()));
        let (out, len) = emitted(&Options { timestamps: None, ..syn() });
        assert_eq!(out[..len], [2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7]);
        let full = Options { fast_open: Cookie::new(&[9; 16]), ..syn() };
        let (out, len) = emitted(&full);
        assert_eq!((len, &out[20..22], &out[38..]), (40, &[34, 18][..], &[1, 1][..]));
        assert_eq!(Options::parse(&out), Ok(full));
        let old = Cookie { experimental: true, ..Cookie::new(&[9; 8]).unwrap() };
        let old = Options { fast_open: Some(old), ..syn() };
        let (out, len) = emitted(&old);
        assert_eq!((len, &out[20..25]), (32, &[254, 12, 0xf9, 0x89, 9][..]));
        assert_eq!(Options::parse(&out[..len]), Ok(old));
    }

    #[test]
    fn blocks_share_the_room_with_timestamps() {
        let mut sack = Blocks::NONE;
        for i in 0..5 {
            sack.push(Seq(i * 100), Seq(i * 100 + 50));
        }
        assert_eq!(sack.get().len(), 4);
        let options = Options { sack, ..Options::NONE };
        let (out, len) = emitted(&options);
        assert_eq!((len, &out[..4]), (36, &[1, 1, 5, 34][..]));
        assert_eq!(Options::parse(&out[..len]), Ok(options));
        let timed = Options { timestamps: Some(Timestamps { value: 5, echo: 6 }), ..options };
        let (out, len) = emitted(&timed);
        assert_eq!((len, &out[12..16]), (40, &[1, 1, 5, 26][..]));
        let parsed = Options::parse(&out).unwrap();
        assert_eq!(parsed.timestamps, timed.timestamps);
        assert_eq!(parsed.sack.get(), &sack.get()[..3]);
    }

    #[test]
    fn illegal_options_end_the_list_and_unknown_ones_do_not() {
        let (out, len) = emitted(&Options { timestamps: None, sack_permitted: false, ..syn() });
        for (at, value, mss, scale) in [
            (1, 0, None, None),
            (1, 1, None, None),
            (1, 40, None, None),
            (6, 9, Some(1460), None),
            (4, 0, Some(1460), None),
            (0, 77, None, Some(7)),
        ] {
            let mut bytes = out;
            bytes[at] = value;
            let options = Options::parse(&bytes[..len]).unwrap();
            assert_eq!((options.mss, options.scale), (mss, scale), "byte {at}");
        }
        assert_eq!(Options::parse(&[3, 3, 200]).unwrap().scale, Some(MAX_SHIFT));
        let mut signed = [1; 20];
        (signed[1], signed[2]) = (19, 18);
        assert_eq!(Options::parse(&signed), Err(Malformed::Signature));
        assert_eq!(Options::parse(&[29, 4, 1, 1]), Err(Malformed::Signature));
        for odd in
            [&[8, 9, 0, 0, 0, 0, 0, 0, 0][..], &[5, 2], &[5, 6, 0, 0, 0, 0], &[34, 5, 1, 2, 3]]
        {
            assert_eq!(Options::parse(odd), Ok(Options::NONE), "{odd:?}");
        }
    }

    /// Arbitrary bytes: no panic, and what was understood says the same when written and read again.
    #[test]
    fn what_is_understood_survives_a_round_trip() {
        let mut rng = 1u64;
        let mut random = || {
            rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (rng >> 33) as u8
        };
        for _ in 0..20_000 {
            let mut bytes = [0; MAX_OPTIONS];
            for b in &mut bytes {
                *b = if random() % 2 == 0 {
                    random()
                } else {
                    [1, 2, 3, 4, 5, 8, 10, 34, 254, 0xf9, 0x89][random() as usize % 11]
                };
            }
            let Ok(read) = Options::parse(&bytes) else { continue };
            let (out, len) = emitted(&read);
            let again = Options::parse(&out[..len]).unwrap();
            assert_eq!(Options { sack: read.sack, ..again }, read);
            assert!(read.sack.get().starts_with(again.sack.get()));
        }
    }
}
