//! What netd asks to be sent, before it is believed: pieces in order, whole frames, memory that init
//! lent, lengths and offsets that the NIC can bear.

use crate::desc::Context;
use crate::window::Windows;
use libipc::nic::{self, Csum, MAX_PIECES, TxDesc};
use libipc::ring::{Consumer, PeerError};

/// Bytes of the largest frame, without FCS.
pub const MAX_FRAME: u32 = 1514;
/// Bytes of an Ethernet header: less is no frame.
const MIN_FRAME: u32 = 14;

/// Bytes of a frame that the NIC cuts into segments: what an IP header can say.
const MAX_LONG: u32 = 65_535;
/// Smallest segment: no peer may ask for less, and it bounds how many a frame becomes.
const MIN_MSS: u16 = 48;
/// Ethernet, IPv4 and TCP headers, without options.
const MIN_HEADERS: u32 = 54;

/// What [`take`] found at the head of *tx used*.
pub enum Take {
    /// Nothing.
    Nothing,
    /// Pieces without an end of frame, yet.
    Partial,
    /// A frame: how many pieces it has.
    Frame(usize),
    /// Not a frame that can be sent; the cookie of its first piece.
    Refused(u16),
}

/// Takes the next frame; its pieces are then in `pieces`. `tso`: it may be one to be segmented.
/// Unless it is whole, or not a frame, the
/// caller goes back to where it was.
pub fn take(
    used: &mut Consumer<TxDesc>,
    windows: &Windows,
    pieces: &mut [TxDesc; MAX_PIECES],
    tso: bool,
) -> Result<Take, PeerError> {
    let mut count = 0;
    loop {
        let Some(piece) = used.pop()? else {
            match count {
                0 => return Ok(Take::Nothing),
                n if n < nic::RING as usize => return Ok(Take::Partial),
                // A full ring without an end of frame: there will never be one.
                _ => break,
            }
        };
        if let Some(place) = pieces.get_mut(count) {
            *place = piece;
        }
        count += 1;
        if piece.flags & TxDesc::EOP != 0 {
            break;
        }
    }
    if count <= MAX_PIECES && acceptable(&pieces[..count], windows, tso) {
        Ok(Take::Frame(count))
    } else {
        Ok(Take::Refused(pieces[0].cookie))
    }
}

/// Which checksum the NIC is to compute, by the first piece.
pub fn context(first: &TxDesc) -> Option<Context> {
    let c = Context { csum: first.csum, l3_start: first.l3_start, l4_start: first.l4_start };
    (first.csum != Csum::None).then_some(c)
}

/// Whether the NIC may be given this frame.
fn acceptable(pieces: &[TxDesc], windows: &Windows, tso: bool) -> bool {
    let mut total = 0u32;
    for p in pieces {
        if p.flags & !TxDesc::EOP != 0
            || !(1..=nic::MAX_PIECE).contains(&(p.len as u32))
            || windows.resolve(p.window, p.offset, p.len).is_none()
        {
            return false;
        }
        total += p.len as u32;
    }
    let first = &pieces[0];
    if first.mss != 0 {
        return tso && long(pieces, total);
    }
    let offsets_ok = match context(first) {
        None => true,
        Some(c) => {
            // Both header offsets in order, and the checksum field inside the frame.
            c.l3_start as u32 >= MIN_FRAME
                && c.l4_start > c.l3_start
                && c.field().is_some_and(|field| field as u32 + 2 <= total)
        }
    };
    (MIN_FRAME..=MAX_FRAME).contains(&total) && offsets_ok
}

/// Whether this is a TCP frame that the NIC can cut into segments: its headers in the first piece,
/// payload behind them, and no segment longer than a frame may be.
fn long(pieces: &[TxDesc], total: u32) -> bool {
    let first = &pieces[0];
    let (headers, mss) = (first.hdr_len as u32, first.mss);
    first.csum == Csum::Tcp
        && first.l3_start as u32 == MIN_FRAME
        && first.l4_start as u32 >= MIN_FRAME + 20
        && headers >= MIN_HEADERS.max(first.l4_start as u32 + 20)
        && first.len as u32 == headers
        && mss >= MIN_MSS
        && headers + mss as u32 <= MAX_FRAME
        && (headers + 1..=MAX_LONG).contains(&total)
}

/// What becomes of an acceptable frame: frames on the wire, and their bytes together.
pub fn on_wire(pieces: &[TxDesc]) -> (u16, u32) {
    let total: u32 = pieces.iter().map(|p| p.len as u32).sum();
    let (headers, mss) = (pieces[0].hdr_len as u32, pieces[0].mss as u32);
    if mss == 0 {
        return (1, total);
    }
    let segments = (total - headers).div_ceil(mss);
    (segments as u16, total + (segments - 1) * headers)
}
