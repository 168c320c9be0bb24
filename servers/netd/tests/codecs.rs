//! Properties of every codec: what is emitted is read again as it was, and no bytes make a parser panic,
//! whether they are noise, a message with damage, or one that was cut off.
//!
//! `SEEDS=1000000` runs that many.

use fuzz::Random;
use netd::wire::ethernet::{EtherType, Mac};
use netd::wire::ipv4_options::{self, Here};
use netd::wire::ndp::{self, Advert, Message};
use netd::wire::tcp::{self, Blocks, Cookie, Flags, MAX_SHIFT, Options, Seq, Timestamps};
use netd::wire::{arp, dhcp, ethernet, ext, icmp, icmpv6, igmp, ipv4, ipv6, mld, udp};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A station's address.
fn mac(r: &mut Random) -> Mac {
    let [.., a, b, c, d] = r.word().to_be_bytes();
    Mac([2, 1, a, b, c, d])
}

/// An address that one host may have.
fn v4(r: &mut Random) -> Ipv4Addr {
    Ipv4Addr::from(1 + r.below(126) as u32 * 0x100_0000 + r.below(0xff_ffff) as u32)
}

fn v6(r: &mut Random) -> Ipv6Addr {
    let low = r.word() as u128;
    Ipv6Addr::from(0x2001_0db8_u128 << 96 | (r.word() as u32 as u128) << 64 | low)
}

fn flag(r: &mut Random) -> bool {
    r.one_in(2)
}

fn maybe<T>(r: &mut Random, value: impl FnOnce(&mut Random) -> T) -> Option<T> {
    flag(r).then(|| value(r))
}

fn options(r: &mut Random) -> Options {
    let timestamps = maybe(r, |r| Timestamps { value: r.word() as u32, echo: r.word() as u32 });
    if flag(r) {
        // A SYN's: more than these do not fit beside a cookie.
        let cookie = 2 * r.below(5) as usize;
        let bytes = [if cookie < Cookie::MIN { 0 } else { 7 }; 8];
        return Options {
            mss: maybe(r, |r| r.word() as u16),
            scale: maybe(r, |r| r.below(MAX_SHIFT as u64 + 1) as u8),
            sack_permitted: flag(r),
            timestamps,
            fast_open: maybe(r, |r| {
                let len = if cookie < Cookie::MIN { 0 } else { cookie };
                Cookie::new(&bytes[..len]).expect("a length").in_experiment(flag(r))
            }),
            ..Options::NONE
        };
    }
    let mut sack = Blocks::NONE;
    for _ in 0..r.below(4) {
        sack.push(Seq(r.word() as u32), Seq(r.word() as u32));
    }
    Options { timestamps, sack, ..Options::NONE }
}

/// One message of any kind, which has come back from its parser as it was.
fn message(r: &mut Random) -> Vec<u8> {
    match r.below(10) {
        0 => {
            let op = r.pick(&[arp::Op::Request, arp::Op::Reply]);
            let (sender_mac, target_mac) = (mac(r), mac(r));
            let repr = arp::Repr { op, sender_mac, sender: v4(r), target_mac, target: v4(r) };
            let mut out = [0xaa; arp::BYTES];
            repr.emit(&mut out);
            assert_eq!(arp::Repr::parse(&out), Ok(repr));
            out.into()
        }
        1 => {
            let ty = r.pick(&[EtherType::Arp, EtherType::Ipv4, EtherType::Ipv6]);
            let repr = ethernet::Repr { dst: Mac(mac(r).0.map(|b| b ^ 1)), src: mac(r), ty };
            let mut out = [0xaa; ethernet::HEADER];
            repr.emit(&mut out);
            assert_eq!(ethernet::Repr::parse(&out), Ok(repr));
            out.into()
        }
        2 => {
            let offset = (r.word() as u16) & !7;
            let payload_len = r.below(65_516) as u16;
            let repr = ipv4::Repr {
                ttl: r.word() as u8,
                id: r.word() as u16,
                tos: r.word() as u8,
                dont_fragment: flag(r),
                more: flag(r),
                offset,
                ..ipv4::Repr::new(v4(r), v4(r), r.word() as u8, payload_len)
            };
            let mut out = [0xaa; ipv4::HEADER];
            repr.emit(&mut out);
            assert_eq!(ipv4::Repr::parse(&out, 65_535), Ok((repr, ipv4::HEADER)));
            out.into()
        }
        3 => {
            let repr = ipv6::Repr {
                src: v6(r),
                dst: v6(r),
                next: r.word() as u8,
                hop_limit: r.word() as u8,
                class: r.word() as u8,
                flow: r.below(1 << 20) as u32,
                payload_len: r.word() as u16,
            };
            let mut out = [0xaa; ipv6::HEADER];
            repr.emit(&mut out);
            assert_eq!(ipv6::Repr::parse(&out, 70_000), Ok(repr));
            out.into()
        }
        4 => {
            let payload_len = r.below(65_528) as u16;
            let (src, dst) = (r.word() as u16, r.word() as u16);
            let repr = udp::Repr { src, dst, payload_len, has_checksum: false };
            let mut out = [0xaa; udp::HEADER];
            repr.emit(&mut out);
            assert_eq!(udp::Repr::parse(&out, 65_535), Ok(repr));
            out.into()
        }
        5 | 6 => {
            let repr = tcp::Repr {
                seq: Seq(r.word() as u32),
                ack: Seq(r.word() as u32),
                flags: Flags::from_bits_retain(r.word() as u8),
                window: r.word() as u16,
                urgent: r.word() as u16,
                options: options(r),
                ..tcp::Repr::new(r.word() as u16, r.word() as u16)
            };
            let mut out = [0xaa; tcp::MAX_HEADER];
            let len = repr.emit(&mut out);
            assert_eq!(len, repr.header_len());
            assert_eq!(tcp::Repr::parse(&out[..len]), Ok((repr, len)));
            out[..len].into()
        }
        7 => {
            let (reply, id, seq) = (flag(r), r.word() as u16, r.word() as u16);
            let (mut out, mut six) = ([0xaa; icmp::HEADER], [0xaa; icmpv6::HEADER]);
            icmp::emit_echo(reply, id, seq, &mut out);
            icmpv6::emit_echo(reply, id, seq, &mut six);
            let echo = match reply {
                true => icmp::Repr::EchoReply { id, seq },
                false => icmp::Repr::EchoRequest { code: 0, id, seq },
            };
            assert_eq!(icmp::Repr::parse(&out), Ok(echo));
            assert_eq!(icmpv6::Repr::parse(&six), Ok(icmpv6::Repr::Echo { reply, id, seq }));
            if flag(r) { out.into() } else { six.into() }
        }
        8 => {
            let offset = r.below(8000) as u16 & !7;
            let f = ext::Fragment { next: 17, offset, more: flag(r), id: r.word() as u32 };
            let mut out = vec![0; ipv6::HEADER + ext::FRAGMENT_HEADER + 64];
            let (_, rest) = out.split_at_mut(ipv6::HEADER);
            ext::emit_fragment(&f, rest.first_chunk_mut().expect("room"));
            let chain = ext::Chain::new(ext::number::FRAGMENT).walk(&out[..], out.len());
            let read = chain.expect("a header").fragment(&out[..], out.len());
            assert_eq!(read, Ok(f));
            out
        }
        _ => {
            let (target, at) = (v6(r), maybe(r, mac));
            let advert = Advert { target, router: flag(r), solicited: flag(r), replaces: flag(r) };
            let said = Message::advert(&advert, at);
            match ndp::Repr::parse(said.bytes()) {
                Ok(ndp::Repr::Advert(read, o)) => assert_eq!((read, o.target()), (advert, at)),
                other => panic!("{other:?}"),
            }
            let asked = Message::solicit(target, at, None);
            match ndp::Repr::parse(asked.bytes()) {
                Ok(ndp::Repr::Solicit(read, o)) => assert_eq!((read, o.source()), (target, at)),
                other => panic!("{other:?}"),
            }
            if flag(r) { said.bytes().into() } else { asked.bytes().into() }
        }
    }
}

/// Shows `b` to every parser.
fn read(b: &[u8], r: &mut Random) {
    let available = r.edge() as usize;
    let _ = ethernet::Repr::parse(b);
    let _ = arp::Repr::parse(b);
    if let Ok((repr, len)) = ipv4::Repr::parse(b, available) {
        assert!(len <= b.len() && len + repr.payload_len as usize <= available);
        let here = Here { addr: v4(r), time: [0; 4] };
        if let Ok(taken) = ipv4_options::take(&b[ipv4::HEADER..len], &here) {
            assert!(taken.len() <= 40 && taken.answer(&here).len() <= 40);
        }
    }
    if let Ok(repr) = ipv6::Repr::parse(b, available) {
        assert!(ipv6::HEADER + repr.payload_len as usize <= available);
    }
    if let Ok((repr, len)) = tcp::Repr::parse(b) {
        // What was understood can be said again, and means the same.
        let mut out = [0; tcp::MAX_HEADER];
        let again = repr.emit(&mut out);
        assert!(len <= b.len() && again <= tcp::MAX_HEADER);
        let (read, _) = tcp::Repr::parse(&out[..again]).expect("what was emitted");
        assert_eq!((read.options.mss, read.options.scale), (repr.options.mss, repr.options.scale));
    }
    if let Ok(repr) = udp::Repr::parse(b, available) {
        assert!(udp::HEADER + repr.payload_len as usize <= available);
    }
    let _ = icmp::Repr::parse(b);
    let _ = icmpv6::Repr::parse(b);
    let _ = igmp::Repr::parse(b, b.len());
    let _ = mld::Query::parse(b);
    let _ = dhcp::Answer::parse(b);
    if let Ok(ndp::Repr::RouterAdvert(_, options)) = ndp::Repr::parse(b) {
        assert!(options.into_iter().count() <= b.len() / 8);
    }
    if let Some(next) = b.first() {
        let end = b.len().min(available);
        if let Ok(chain) = ext::Chain::new(*next).walk(b, end) {
            let _ = chain.fragment(b, end);
        }
    }
}

#[test]
fn codecs_read_what_they_write_and_survive_the_rest() {
    fuzz::each(50_000, |r| {
        let mut bytes = message(r);
        read(&bytes, r);
        r.spoil(&mut bytes);
        read(&bytes, r);
        let noise = r.bytes(130);
        read(&noise, r);
    });
}
