//! A TCP segment as nearly all of them are, read and written in one go: IPv4 without options or fragments, ACK or
//! PSH and ACK, no TCP options or timestamps alone, aligned as everybody writes them (RFC 7323 appendix
//! A). What is not of this form is nothing special, only read by the codecs of each layer.

use super::checksum::Sum;
use super::ethernet::Mac;
use super::ipv4;
use super::tcp::{Flags, Options, Seq, Timestamps};
use core::net::Ipv4Addr;

/// Bytes of a frame that are looked at.
pub const HEAD: usize = 72;
/// Of headers without options, and with timestamps.
const SHORT: usize = 54;
const LONG: usize = 66;
/// An IPv4 header of five words; no fragment, whether it may be cut or not.
const VERSION: u64 = 0x45;
const FRAGMENT: u64 = 0xff3f;
const DONT_FRAGMENT: u64 = 0x0040;
/// NOP, NOP, timestamps of ten bytes.
const TIMESTAMPS: u32 = u32::from_le_bytes([1, 1, 8, 10]);

/// What such a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Addresses.
    pub src: u32,
    /// Likewise.
    pub dst: u32,
    /// Ports.
    pub src_port: u16,
    /// Likewise.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number.
    pub ack: Seq,
    /// [`Flags::ACK`], perhaps [`Flags::PSH`]; when written perhaps [`Flags::FIN`], too.
    pub flags: Flags,
    /// Window, unscaled.
    pub window: u16,
    /// Type of service.
    pub tos: u8,
    /// Options.
    pub timestamps: Option<Timestamps>,
}

impl Said {
    /// Its options.
    pub fn options(&self) -> Options {
        Options { timestamps: self.timestamps, ..Options::NONE }
    }
}

/// Such a segment that has come. Its IPv4 header is intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// What it says.
    pub said: Said,
    /// Where in the frame the payload begins.
    pub payload: usize,
    /// Its length.
    pub len: u32,
    /// Sum of the pseudo-header and the TCP header.
    pub sum: Sum,
}

/// The `i`-th eight bytes of `h`.
fn word(h: &[u8; HEAD], i: usize) -> u64 {
    let (words, _) = h.as_chunks::<8>();
    u64::from_le_bytes(words[i])
}

impl Plain {
    /// Reads the beginning `h` of a frame of `len` bytes, whatever follows it: for station `to`, of
    /// one station. `None`: it is not of this form, or its IPv4 header is damaged.
    #[inline]
    pub fn parse(h: &[u8; HEAD], len: usize, to: Mac) -> Option<Self> {
        let w: [u64; HEAD / 8] = core::array::from_fn(|i| word(h, i));
        let [a, b, c, d, e, f] = to.0;
        let to = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let (src_high, src_low) = (w[0] >> 48, w[1] as u32);
        let one_station = src_high & 1 == 0 && src_high | src_low as u64 != 0;
        // Type and version; fragment; protocol; data offset, flags and urgent pointer.
        let form = w[0] << 16 == to << 16
            && (w[1] >> 32) as u16 == 0x0008
            && w[1] >> 48 & 0xff == VERSION
            && w[2] >> 32 & FRAGMENT == 0
            && w[2] >> 56 == 6
            && one_station;
        let (offset, flags) = ((w[5] >> 48) as u8, Flags::from_bits_retain((w[5] >> 56) as u8));
        let header = match offset {
            0x50 => SHORT,
            0x80 if w[6] >> 48 == TIMESTAMPS as u64 & 0xffff
                && w[7] as u16 == (TIMESTAMPS >> 16) as u16 =>
            {
                LONG
            }
            _ => return None,
        };
        if !form || flags - Flags::PSH != Flags::ACK {
            return None;
        }
        let be16 = |w: u64| (w as u16).swap_bytes();
        let total = be16(w[2]) as usize;
        if total + 14 < header || total + 14 > len {
            return None;
        }
        let (src, dst) = ((w[3] >> 16) as u32, (w[3] >> 48) as u32 | (w[4] as u16 as u32) << 16);
        // The IPv4 header from its first word in the frame's second.
        let ip = (w[1] >> 48) + low(w[2]) + (w[3] & 0xffff) + src as u64 + dst as u64;
        if !Sum::from_raw(ip).is_intact() {
            return None;
        }
        let tcp = (total - 20) as u16;
        let mut sum = src as u64 + dst as u64 + (6u16.to_be() as u64) + tcp.to_be() as u64;
        sum += (w[4] >> 16) + low(w[5]) + (w[6] & 0xffff_ffff_ffff);
        let mut timestamps = None;
        if header == LONG {
            sum += (w[6] >> 48) + low(w[7]) + (w[8] & 0xffff);
            let value = (w[7] >> 16) as u32;
            let echo = (w[7] >> 48) as u32 | (w[8] as u16 as u32) << 16;
            timestamps = Some(Timestamps { value: u32::from_be(value), echo: u32::from_be(echo) });
        }
        let ports = (be16(w[4] >> 16), be16(w[4] >> 32));
        if ports.0 == 0 || ports.1 == 0 {
            return None;
        }
        let said = Said {
            src: u32::from_be(src),
            dst: u32::from_be(dst),
            src_port: ports.0,
            dst_port: ports.1,
            seq: Seq(u32::from_be((w[4] >> 48) as u32 | (w[5] as u16 as u32) << 16)),
            ack: Seq(u32::from_be((w[5] >> 16) as u32)),
            flags,
            window: be16(w[6]),
            tos: (w[1] >> 56) as u8,
            timestamps,
        };
        let len = (total + 14 - header) as u32;
        Some(Self { said, payload: header, len, sum: Sum::from_raw(sum) })
    }
}

/// The length of the whole IPv4 packet without options that begins in a frame of `len` bytes with the words `w`, for
/// station `to`, of one station. Its header is intact.
#[inline(always)]
pub(super) fn whole_len(w: &[u64; 5], len: usize, to: Mac) -> Option<u16> {
    let Mac([a, b, c, d, e, f]) = to;
    let to = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let from = station(w);
    let form = w[0] << 16 == to << 16
        && (w[1] >> 32) as u16 == 0x0008
        && w[1] >> 48 & 0xff == VERSION
        && w[2] >> 32 & FRAGMENT == 0
        && from & 1 == 0
        && from != 0;
    let total = (w[2] as u16).swap_bytes();
    if !form || total < 20 || total as usize + 14 > len {
        return None;
    }
    let (src, dst) = addresses(w);
    let sum = (w[1] >> 48) + low(w[2]) + (w[3] & 0xffff) + src as u64 + dst as u64;
    Sum::from_raw(sum).is_intact().then_some(total)
}

/// The station that it is from.
fn station(w: &[u64; 5]) -> u64 {
    w[0] >> 48 | (w[1] & 0xffff_ffff) << 16
}

/// Source and destination, as they stand there.
#[inline(always)]
pub(super) fn addresses(w: &[u64; 5]) -> (u32, u32) {
    ((w[3] >> 16) as u32, (w[3] >> 48) as u32 | (w[4] as u16 as u32) << 16)
}

/// What the headers of a whole IPv4 packet without options say, for station `to`, of one station.
#[inline]
pub fn whole_v4(h: &[u8; 40], len: usize, to: Mac) -> Option<(Mac, ipv4::Repr)> {
    let (words, _) = h.as_chunks::<8>();
    let w: [u64; 5] = core::array::from_fn(|i| u64::from_le_bytes(words[i]));
    let total = whole_len(&w, len, to)?;
    let (from, (src, dst)) = (station(&w), addresses(&w));
    let [a, b, c, d, e, f, ..] = from.to_le_bytes();
    let repr = ipv4::Repr {
        ttl: (w[2] >> 48) as u8,
        id: ((w[2] >> 16) as u16).swap_bytes(),
        tos: (w[1] >> 56) as u8,
        dont_fragment: w[2] >> 32 & DONT_FRAGMENT != 0,
        ..ipv4::Repr::new(
            Ipv4Addr::from_bits(u32::from_be(src)),
            Ipv4Addr::from_bits(u32::from_be(dst)),
            (w[2] >> 56) as u8,
            total - 20,
        )
    };
    Some((Mac([a, b, c, d, e, f]), repr))
}

/// A word as a sum of its halves, which cannot overflow when a few are added.
pub(super) const fn low(w: u64) -> u64 {
    (w & 0xffff_ffff) + (w >> 32)
}

/// Headers of such a segment, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Stations.
    pub to: Mac,
    /// Likewise.
    pub from: Mac,
    /// Identification, time to live.
    pub id: u16,
    /// Likewise.
    pub ttl: u8,
    /// What the segment says.
    pub said: Said,
    /// Bytes of payload.
    pub len: u16,
}

impl Headers {
    /// Their length.
    pub const fn size(&self) -> usize {
        if self.said.timestamps.is_some() { LONG } else { SHORT }
    }

    /// Writes them, zeros behind. `whole`: with the checksum, as nothing follows; else with the sum of
    /// the pseudo-header, which the NIC completes.
    #[inline(always)]
    pub fn emit(&self, whole: bool) -> [u8; HEAD] {
        let mac = |Mac([a, b, c, d, e, f]): Mac| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let be16 = |n: u16| n.to_be() as u64;
        let be32 = |n: u32| n.to_be() as u64;
        let (to, from) = (mac(self.to), mac(self.from));
        let (src, dst) = (be32(self.said.src), be32(self.said.dst));
        let (seq, ack) = (be32(self.said.seq.0), be32(self.said.ack.0));
        let size = self.size();
        let tcp = self.len + (size - 34) as u16;
        let first = VERSION | (self.said.tos as u64) << 8;
        let second = be16(tcp + 20) | be16(self.id) << 16 | DONT_FRAGMENT << 32;
        let second = second | (self.ttl as u64) << 48 | 6 << 56;
        let pseudo = src + dst;
        let ip = Sum::from_raw(first + low(second) + pseudo).finish();
        let offset = (size as u64 - 34) << 2;
        let mut w = [
            to | from << 48,
            from >> 16 | 0x0008 << 32 | first << 48,
            second,
            u16::from_le_bytes(ip) as u64 | src << 16 | dst << 48,
            dst >> 16 | be16(self.said.src_port) << 16 | be16(self.said.dst_port) << 32 | seq << 48,
            seq >> 16 | ack << 16 | offset << 48 | (self.said.flags.bits() as u64) << 56,
            be16(self.said.window),
            0,
            0,
        ];
        if let Some(Timestamps { value, echo }) = self.said.timestamps {
            let (kinds, value, echo) = (TIMESTAMPS as u64, be32(value), be32(echo));
            w[6] |= kinds << 48;
            w[7] = kinds >> 16 | value << 16 | echo << 48;
            w[8] = echo >> 16;
        }
        let mut sum = pseudo + be16(6) + be16(tcp);
        if whole {
            sum += (w[4] >> 16) + low(w[5]) + low(w[6]) + low(w[7]) + w[8];
        }
        let sum = Sum::from_raw(sum).fold();
        w[6] |= (if whole { !sum } else { sum } as u64) << 16;
        let mut out = [0; HEAD];
        let (words, _) = out.as_chunks_mut::<8>();
        for (to, word) in words.iter_mut().zip(w) {
            *to = word.to_le_bytes();
        }
        out
    }
}

/// Bytes of the headers of a datagram or an echo: Ethernet, IPv4, and eight.
pub const SHORT_HEAD: usize = 42;

/// Those headers, of a whole packet; `body` is the transport's.
#[inline(always)]
pub fn short_head(to: Mac, from: Mac, ip: &ipv4::Repr, body: [u8; 8]) -> [u8; SHORT_HEAD] {
    let mac = |Mac([a, b, c, d, e, f]): Mac| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let be16 = |n: u16| n.to_be() as u64;
    let (to, from, body) = (mac(to), mac(from), u64::from_le_bytes(body));
    let (src, dst) = (ip.src.to_bits().to_be() as u64, ip.dst.to_bits().to_be() as u64);
    let first = VERSION | (ip.tos as u64) << 8;
    let cut = if ip.dont_fragment { DONT_FRAGMENT << 32 } else { 0 };
    let second = be16(ip.payload_len + 20) | be16(ip.id) << 16 | cut;
    let second = second | (ip.ttl as u64) << 48 | (ip.protocol as u64) << 56;
    let sum = Sum::from_raw(first + low(second) + src + dst).finish();
    let words = [
        to | from << 48,
        from >> 16 | 0x0008 << 32 | first << 48,
        second,
        u16::from_le_bytes(sum) as u64 | src << 16 | dst << 48,
        dst >> 16 | body << 16,
    ];
    let mut out = [0; SHORT_HEAD];
    let (whole, rest) = out.as_chunks_mut::<8>();
    for (to, word) in whole.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    rest.copy_from_slice(&((body >> 48) as u16).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ethernet, ip, tcp};

    fn headers(timestamps: Option<Timestamps>, len: u16) -> Headers {
        Headers {
            to: Mac([2, 3, 4, 5, 6, 7]),
            from: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            id: 0xfedc,
            ttl: 63,
            said: Said {
                tos: 0x10,
                src: 0x0a00_020f,
                dst: 0xc0a8_ff01,
                src_port: 0x1234,
                dst_port: 0xabcd,
                seq: Seq(0xfffe_fdfc),
                ack: Seq(0x0102_0304),
                flags: Flags::ACK | Flags::PSH,
                window: 0x9876,
                timestamps,
            },
            len,
        }
    }

    /// The same by the codecs of each layer.
    fn by_layers(h: &Headers, whole: bool) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        let (eth, rest) = out.split_at_mut(ethernet::HEADER);
        let ty = ethernet::EtherType::Ipv4;
        ethernet::Repr { dst: h.to, src: h.from, ty }.emit(eth.try_into().unwrap());
        let tcp_len = h.len + (h.size() - 34) as u16;
        let (src, dst) = (Ipv4Addr::from_bits(h.said.src), Ipv4Addr::from_bits(h.said.dst));
        let ip = ip::Repr::new(src.into(), dst.into(), ip::protocol::TCP, tcp_len);
        let ip = ip::Repr { tos: h.said.tos, hop_limit: h.ttl, ..ip };
        ip.v4(src, dst, h.id).emit(rest.first_chunk_mut().unwrap());
        let options = h.said.options();
        let Said { seq, ack, flags, window, src_port: src, dst_port: dst, .. } = h.said;
        let repr = tcp::Repr { src, dst, seq, ack, flags, window, urgent: 0, options };
        let mut tcp = [0; tcp::MAX_HEADER];
        let len = repr.emit(&mut tcp);
        let sum = if whole {
            ip.pseudo().bytes(&tcp[..len]).finish()
        } else {
            ip.pseudo().fold().to_le_bytes()
        };
        tcp[16..18].copy_from_slice(&sum);
        rest[ipv4::HEADER..][..len].copy_from_slice(&tcp[..len]);
        out
    }

    #[test]
    fn what_is_written_is_what_the_layers_write() {
        let some = Some(Timestamps { value: 0x0123_4567, echo: 0x89ab_cdef });
        for (timestamps, len, whole) in [
            (None, 0, true),
            (some, 0, true),
            (None, 1460, false),
            (some, 1448, false),
            (None, 7, false),
        ] {
            let h = headers(timestamps, len);
            assert_eq!(h.emit(whole), by_layers(&h, whole), "{timestamps:?} {len}");
        }
    }

    #[test]
    fn so_are_short_headers() {
        let (src, dst) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(192, 168, 255, 1));
        for (dont_fragment, id) in [(true, 0xfedc), (false, 1)] {
            let whole = ipv4::Repr::new(src, dst, ip::protocol::UDP, 1480);
            let repr = ipv4::Repr { tos: 0x10, ttl: 3, id, dont_fragment, ..whole };
            let (to, from) = (Mac([2, 3, 4, 5, 6, 7]), Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
            let mut out = [0; SHORT_HEAD];
            let ty = ethernet::EtherType::Ipv4;
            ethernet::Repr { dst: to, src: from, ty }.emit(out.first_chunk_mut().unwrap());
            repr.emit(out[14..].first_chunk_mut().unwrap());
            out[34..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
            assert_eq!(short_head(to, from, &repr, [1, 2, 3, 4, 5, 6, 7, 8]), out);
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let some = Some(Timestamps { value: 0x0123_4567, echo: 0x89ab_cdef });
        for timestamps in [None, some] {
            let h = headers(timestamps, 0);
            let frame = h.emit(true);
            let p = Plain::parse(&frame, 60.max(h.size()), h.to).expect("plain");
            assert!(p.sum.is_intact());
            assert_eq!((p.said, p.payload, p.len), (h.said, h.size(), 0));
        }
    }

    #[test]
    fn a_whole_packet_is_what_the_layers_read() {
        let h = headers(None, 100);
        let frame: [u8; 40] = *h.emit(false).first_chunk().unwrap();
        let (from, repr) = whole_v4(&frame, 154, h.to).expect("whole");
        assert_eq!((from, whole_v4(&frame, 153, h.to)), (h.from, None));
        assert_eq!(ipv4::Repr::parse(&frame[14..], 140), Ok((repr, 20)));
        // The station it came from is anybody; the rest is found out, too.
        for bit in (0..34 * 8).filter(|b| !matches!(b / 8, 6..=11)) {
            let mut other = frame;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(whole_v4(&other, 154, h.to), None, "bit {bit}");
        }
    }

    /// Whatever is unusual about a frame is left to the layers.
    #[test]
    fn other_frames_are_not_plain() {
        let h = headers(None, 0);
        let frame = h.emit(true);
        let read = |f: &[u8; HEAD], len| Plain::parse(f, len, h.to);
        assert!(read(&frame, 60).is_some() && read(&frame, 53).is_none());
        assert!(Plain::parse(&frame, 60, h.from).is_none(), "for another station");
        // Every bit of the headers but those of the TCP header that are numbers, and the TCP checksum.
        for bit in (0..54 * 8).filter(|b| !matches!(b / 8, 6..=11 | 34..=45 | 47..=53)) {
            let mut other = frame;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&other, 60), None, "bit {bit}");
        }
        for flags in 0..=255 {
            let mut other = frame;
            other[47] = flags;
            assert_eq!(read(&other, 60).is_some(), flags == 0x10 || flags == 0x18, "{flags:x}");
        }
        for (at, byte) in [(6, 1), (14, 0x46), (46, 0x60)] {
            let mut other = frame;
            other[at] = byte;
            assert_eq!(read(&other, 60), None, "byte {at}");
        }
    }
}
