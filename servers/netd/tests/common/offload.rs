//! What a NIC does with frames that netd leaves to it.

use libipc::nic::{Csum, TxDesc};
use netd::wire::checksum::Sum;

/// Fills in the checksum as the NIC does.
/// What the NIC makes of a frame: itself, or segments of `mss` bytes whose headers differ in what
/// they must (82540EM manual 3.5).
pub fn segments(frame: &[u8], desc: &TxDesc) -> Vec<Vec<u8>> {
    if desc.mss == 0 {
        return vec![frame.to_vec()];
    }
    let (headers, payload) = frame.split_at(desc.hdr_len as usize);
    let (mss, l4) = (desc.mss as usize, desc.l4_start as usize);
    assert!(desc.len == desc.hdr_len as u16 && desc.csum == Csum::Tcp, "{desc:?}");
    assert!(payload.len() > mss, "one segment is none to be cut");
    assert!(!payload.len().is_multiple_of(mss), "QEMU's model would send an empty segment");
    let seq = u32::from_be_bytes(headers[l4 + 4..l4 + 8].try_into().unwrap());
    let pseudo = u16::from_be_bytes([headers[l4 + 16], headers[l4 + 17]]);
    let count = payload.len().div_ceil(mss);
    let cut = |(i, part): (usize, &[u8])| {
        let mut out = [headers, part].concat();
        let len = (out.len() - 14) as u16;
        out[16..18].copy_from_slice(&len.to_be_bytes());
        assert_eq!(out[24..26], [0, 0], "the NIC sums this field, too");
        let sum = Sum::ZERO.bytes(&out[14..34]).finish();
        out[24..26].copy_from_slice(&sum);
        out[l4 + 4..l4 + 8].copy_from_slice(&seq.wrapping_add((i * mss) as u32).to_be_bytes());
        if i + 1 < count {
            // FIN and PSH belong to the last.
            out[l4 + 13] &= !9;
        }
        let pseudo = pseudo as u32 + (out.len() - l4) as u32;
        let pseudo = (pseudo & 0xffff) + (pseudo >> 16);
        out[l4 + 16..l4 + 18].copy_from_slice(&(pseudo as u16).to_be_bytes());
        out
    };
    payload.chunks(mss).enumerate().map(cut).collect()
}

/// Where the IP packet in a frame ends, of either family.
pub fn ip_end(frame: &[u8]) -> usize {
    let len = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]) as usize;
    if frame[12..14] == [0x86, 0xdd] { 54 + len(18) } else { 14 + len(16) }
}

pub fn offload(frame: &mut [u8], desc: &TxDesc) {
    let field = match desc.csum {
        Csum::None => return,
        Csum::Tcp => 16,
        Csum::Udp => 6,
    };
    let l4 = desc.l4_start as usize;
    let end = ip_end(frame);
    // The field holds the pseudo-header's sum.
    let sum = Sum::ZERO.bytes(&frame[l4..end]).finish();
    frame[l4 + field..l4 + field + 2].copy_from_slice(&sum);
}
