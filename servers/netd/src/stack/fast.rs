//! The short way in for the frame that was expected: a plain TCP segment ([`crate::wire::plain`]), the next of a connection that
//! stands ([`crate::tcp::Conn::predicts`]). It is no other way: what such a segment would meet in `rx`, `ipv4` and `tcp` has
//! been answered by one before it, or is asked here.
//!
//! Whether a packet between these two addresses may be taken at all is found out on the long way and remembered with
//! the connection ([`crate::tcp::Known`]) until the addresses of this host change.

use super::rx::Packet;
use super::{Body, Stack};
use crate::dev::Dev;
use crate::env::{At, Env};
use crate::list::NONE;
use crate::tcp::ecn::field;
use crate::tcp::{Outcome, Segment};
use crate::wire::ethernet;
use crate::wire::ip::protocol;
use crate::wire::ipv4_options::Taken;
use crate::wire::plain::{HEAD, Plain, Said, whole_v4};
use crate::wire::{Malformed, ipv4};
use libipc::shared::Bytes;

impl<E: Env> Stack<E> {
    /// Whether frames may take short ways at all: who taps them sees them on the long one.
    #[inline]
    pub(super) fn is_straight(&self) -> bool {
        self.taps.is_empty() && !self.settings.long_way
    }

    /// Whether the frame of `len` bytes at `at` of `mem` was the expected one: then it is done with.
    #[inline]
    pub(super) fn expected(
        &mut self,
        mem: &Bytes,
        at: usize,
        len: usize,
        checked: bool,
        dev: Dev,
    ) -> bool {
        let nic = &self.nics[dev];
        let Some(head) = mem.get::<HEAD>(at).filter(|_| len <= ethernet::HEADER + nic.mtu as usize)
        else {
            return false;
        };
        let Some(p) = Plain::parse(&head, len, nic.mac) else {
            return self.short_in(At(mem, at), len, checked, dev);
        };
        let said = &p.said;
        let (local, remote) = ((said.dst, said.dst_port), (said.src, said.src_port));
        let Some(i) = self.demux.find_tcp_v4(local, remote) else { return false };
        self.expected_by(i, &p, At(mem, at), checked)
    }

    /// A frame that is a whole IPv4 packet without options, from another host to an address of ours: straight
    /// to its transport. `None`: it is something else. `head` is a copy of its beginning.
    #[inline]
    pub(super) fn whole(
        &mut self,
        mem: &Bytes,
        at: usize,
        len: usize,
        head: &[u8],
        checked: bool,
        dev: Dev,
    ) -> Option<Result<(), Malformed>> {
        let nic = &self.nics[dev];
        let (from, repr) = whole_v4(head.first_chunk()?, len, nic.mac)?;
        let long = len > ethernet::HEADER + nic.mtu as usize;
        if long || !self.iface.is_from_host_to_us(repr.src, repr.dst) {
            return None;
        }
        let (header, head) = head.get(ethernet::HEADER..)?.split_at_checked(ipv4::HEADER)?;
        let at = at + ethernet::HEADER + ipv4::HEADER;
        let p = Packet {
            mem: *mem,
            at,
            head,
            header,
            behind: at,
            dev,
            from,
            ip: repr.into(),
            options: Taken::default(),
            looped: false,
            to_us: true,
            group: false,
            checked,
        };
        if repr.protocol == protocol::UDP && self.nics[dev].dhcp.is_some() {
            match self.dhcp_in(&p) {
                Ok(false) => {}
                result => return Some(result.map(|_| ())),
            }
        }
        Some(self.transport_in(&p))
    }

    /// `p`, a frame at `from`, is for the connection at socket `i`, if that is one.
    fn expected_by(&mut self, i: u32, p: &Plain, from: At<'_>, checked: bool) -> bool {
        let now = self.now;
        // Beyond the sockets are numbers of TIME-WAIT and of handshakes.
        let Some(s) = self.socks.get_mut(i as usize) else { return false };
        let Body::Tcp(conn) = &mut s.body else { return false };
        let Said { seq, ack, flags, window, tos, .. } = p.said;
        let (options, ecn) = (p.said.options(), tos & field::MASK);
        let seg = Segment { seq, ack, flags, window, urgent: 0, options, ecn, len: p.len };
        // A connection that nobody has accepted is its listener's; a neighbour in doubt wants to hear of ACKs.
        let known = conn.known.from == self.iface.version();
        if !known || s.listener != NONE || now < self.neighbours.doubted_until {
            return false;
        }
        if !conn.predicts(&seg, now) {
            return false;
        }
        let mut sum = p.sum;
        if p.len > 0 {
            let position = conn.receive_position();
            let At(mem, at) = from;
            let payload = At(mem, at + p.payload);
            let Some(stored) = self.store_at(i, payload, position, p.len as usize) else {
                return false;
            };
            sum = sum.and(stored, false);
        }
        // The long way says what is wrong.
        if !checked && !sum.is_intact() {
            return false;
        }
        let Body::Tcp(conn) = &mut self.socks[i as usize].body else { return false };
        let outcome = conn.predicted(&seg, now);
        if outcome.contains(Outcome::READY) {
            self.ready(i);
        }
        self.go_on(i);
        true
    }
}
