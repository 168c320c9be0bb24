//! The short way out for a plain TCP segment ([`crate::wire::plain`]) of a connection to another host: its headers are
//! written in one go, to the neighbour that its last one went to. What is not plain, or meets anything
//! unusual, takes the long way through `tx`, and what leaves is the same.

use super::tx::{COPY_MAX, Link, Payload};
use super::{Body, Stack};
use crate::dev::{Dev, Station};
use crate::env::{At, Env};
use crate::port::{Frame, Piece};
use crate::tcp::Out;
use crate::wire::ethernet::MIN_FRAME;
use crate::wire::ip::HOP_LIMIT;
use crate::wire::plain::{Headers, Said};
use crate::wire::tcp::Flags;
use libipc::nic::Csum;

/// Where in a frame without IP options the TCP header begins.
const TCP: u8 = 34;

impl<E: Env> Stack<E> {
    /// The station that the last segment of connection `i` went to, if that is still the way.
    #[inline]
    pub(super) fn known_way(&mut self, i: u32) -> Option<Station> {
        let Body::Tcp(conn) = &self.socks[i as usize].body else { return None };
        let known = conn.known;
        if self.settings.long_way
            || known.way != self.iface.version()
            || self.paths.is_special(self.now)
        {
            return None;
        }
        self.neighbours.again(known.neighbour, self.now)
    }

    /// The way of connection `i` has been found.
    #[cold]
    pub(super) fn remember_way(&mut self, i: u32) {
        let s = &self.socks[i as usize];
        let Some((dst, _)) = s.remote.v4() else { return };
        let known = if s.device == 0 { self.known_neighbour(dst.into()) } else { None };
        let place = known.or_else(|| {
            let hop = self.iface.next_hop(s.remote.ip(), Dev::of_number(s.device), self.now)?;
            self.neighbours.place_of(hop)
        });
        if let (Some(place), Body::Tcp(conn)) = (place, &mut self.socks[i as usize].body)
            && !self.paths.is_special(self.now)
        {
            conn.known.way = self.iface.version();
            conn.known.neighbour = place;
        }
    }

    /// Sends `out` of connection `i` to the station `to`, if it is plain. `false`: it has to go the long way.
    #[inline]
    pub(super) fn send_plain(&mut self, i: u32, out: &Out, to: Station) -> bool {
        let s = &self.socks[i as usize];
        let (Some((src, src_port)), Some((dst, dst_port)), Body::Tcp(conn)) =
            (s.local.v4(), s.remote.v4(), &s.body)
        else {
            return false;
        };
        let (flags, options) = (out.flags, &out.options);
        let plain = flags - (Flags::PSH | Flags::FIN) == Flags::ACK;
        let plain = plain && options.sack.is_empty() && out.segment == 0;
        let nic = &self.nics[to.dev];
        if !plain || !nic.offload || !nic.up || !self.is_straight() {
            return false;
        }
        let opts = conn.opts();
        if opts.may_be_cut() {
            return false;
        }
        let mut headers = Headers {
            to: to.mac,
            from: nic.mac,
            id: 0,
            ttl: if opts.ttl == 0 { HOP_LIMIT } else { opts.ttl },
            said: Said {
                tos: opts.tos & !crate::tcp::ecn::field::MASK | out.ecn,
                src,
                dst,
                src_port,
                dst_port,
                seq: out.seq,
                ack: out.ack,
                flags,
                window: out.window,
                timestamps: options.timestamps,
            },
            len: out.len as u16,
        };
        // What has to be padded is summed here, see `tx`; with a few bytes of payload the long way.
        let size = headers.size();
        let short = size + (out.len as usize) < MIN_FRAME;
        if short && out.len > 0 {
            return false;
        }
        headers.id = self.identification(core::net::IpAddr::V4(dst.into()));
        let payload = self.ring_pieces(i, out.at, out.len);
        let sent = self.put_plain(to.dev, &headers.emit(short), size, payload, short);
        if sent {
            self.counters.tx_frames += 1;
        }
        sent
    }

    /// `head`'s first `size` bytes, and payload.
    #[inline(always)]
    fn put_plain(
        &mut self,
        dev: Dev,
        head: &[u8; crate::wire::plain::HEAD],
        size: usize,
        payload: Payload<'_>,
        short: bool,
    ) -> bool {
        let len = payload.len();
        let copied = if len > COPY_MAX { 0 } else { len };
        let port = &mut self.nics[dev].port;
        let Some(room) = port.reserve(size + copied) else { return false };
        let memory = port.headers();
        // Up to the end of the cache line that holds its end: the padding of a short one, or where the payload goes.
        let written = match size {
            54 => memory.write(room.offset, &head[..64]),
            _ => memory.write(room.offset, &head[..66]),
        };
        let csum = if short { Csum::None } else { Csum::Tcp };
        let whole = Frame { csum: (csum, TCP), ..Frame::whole(size + copied) };
        match payload {
            Payload::Ring(session, pieces) if len > COPY_MAX => {
                let used: &[Piece] = if pieces[1].len > 0 { &pieces } else { &pieces[..1] };
                port.send_padded(room, &Frame { session, pieces: used, ..whole });
                self.sessions[session as usize].in_flight += 1;
            }
            Payload::None => port.send_padded(room, &whole),
            payload => {
                let to = At(&memory, room.offset + size);
                if self.copy_payload(payload, to).is_none() {
                    return false;
                }
                self.nic(dev).port.send_padded(room, &whole);
            }
        }
        written
    }
}

/// A frame's place in header memory is at least as long as what is written there.
const _: () = assert!(crate::wire::plain::HEAD >= 66);

impl Link {
    /// The station, if it is to one.
    pub(super) fn station(self) -> Option<Station> {
        match self {
            Self::Device(to) => Some(to),
            Self::Loop | Self::Later(_) => None,
        }
    }
}
