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
/// Bytes that one piece may have ([`TxDesc::len`]).
const MAX_PIECE: u16 = 16_384;

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

/// Takes the next frame; its pieces are then in `pieces`. Unless it is whole, or not a frame, the
/// caller goes back to where it was.
pub fn take(
    used: &mut Consumer<TxDesc>,
    windows: &Windows,
    pieces: &mut [TxDesc; MAX_PIECES],
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
    if count <= MAX_PIECES && acceptable(&pieces[..count], windows) {
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
fn acceptable(pieces: &[TxDesc], windows: &Windows) -> bool {
    let mut total = 0u32;
    for p in pieces {
        if p.flags & !TxDesc::EOP != 0
            || !(1..=MAX_PIECE).contains(&p.len)
            || windows.resolve(p.window, p.offset, p.len).is_none()
        {
            return false;
        }
        total += p.len as u32;
    }
    let first = &pieces[0];
    let offsets_ok = match context(first) {
        None => true,
        Some(c) => {
            // Both header offsets in order, and the checksum field inside the frame.
            c.l3_start as u32 >= MIN_FRAME
                && c.l4_start > c.l3_start
                && c.field().is_some_and(|field| field as u32 + 2 <= total)
        }
    };
    (MIN_FRAME..=MAX_FRAME).contains(&total) && first.mss == 0 && offsets_ok
}
