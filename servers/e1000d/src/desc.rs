//! Descriptors, 16 bytes as two little-endian words (manual 3.2.3 receive, 3.3.6 context,
//! 3.3.7 data).

use libipc::nic::Csum;

/// Bytes of every descriptor.
pub const BYTES: usize = 16;

/// Receive status, byte 4 of word 1 (3.2.3.1).
pub mod rx_status {
    /// The hardware is done with it.
    pub const DD: u8 = 1 << 0;
    /// The frame ends here.
    pub const EOP: u8 = 1 << 1;
    /// Ignore the checksum bits.
    pub const IXSM: u8 = 1 << 2;
    /// The TCP or UDP checksum was looked at.
    pub const TCPCS: u8 = 1 << 5;
}

/// Receive errors, byte 5 of word 1 (3.2.3.2).
pub mod rx_error {
    /// TCP or UDP checksum wrong.
    pub const TCPE: u8 = 1 << 5;
    /// IP checksum wrong.
    pub const IPE: u8 = 1 << 6;
    /// What damages a frame: CRC or alignment (CE), symbol (SE), sequence (SEQ), carrier extension
    /// (CXE), data (RXE). A wrong checksum does not: netd judges that.
    pub const FRAME: u8 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 7;
}

/// Word 1 of a receive descriptor as the hardware writes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxWriteback {
    /// Bytes.
    pub len: u16,
    /// [`rx_status`].
    pub status: u8,
    /// [`rx_error`].
    pub errors: u8,
}

impl RxWriteback {
    /// Reads it.
    pub const fn from_word(word: u64) -> Self {
        Self { len: word as u16, status: (word >> 32) as u8, errors: (word >> 40) as u8 }
    }
    /// Whether the hardware is done.
    pub const fn done(self) -> bool {
        self.status & rx_status::DD != 0
    }
    /// Whether this is one whole, undamaged frame that fits a buffer of `size` bytes.
    pub const fn good(self, size: u32) -> bool {
        self.status & rx_status::EOP != 0
            && self.errors & rx_error::FRAME == 0
            && self.len > 0
            && self.len as u32 <= size
    }
    /// Whether the hardware found the transport checksum right.
    pub const fn checksum_ok(self) -> bool {
        self.status & (rx_status::TCPCS | rx_status::IXSM) == rx_status::TCPCS
            && self.errors & (rx_error::TCPE | rx_error::IPE) == 0
    }
}

// DTYP, word 1 bits 20..24; DCMD / TUCMD, bits 24..32; STA, bits 32..36; POPTS, bits 40..48.
const DTYP_DATA: u64 = 1 << 20;
const EOP: u64 = 1 << 24;
const IFCS: u64 = 1 << 25;
const TSE: u64 = 1 << 26;
const TUCMD_TCP: u64 = 1 << 24;
const TUCMD_IP: u64 = 1 << 25;
const RS: u64 = 1 << 27;
const DEXT: u64 = 1 << 29;
const DD: u64 = 1 << 32;
const IXSM: u64 = 1 << 40;
const TXSM: u64 = 1 << 41;

/// Where a checksum is computed: what a context descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// TCP or UDP.
    pub csum: Csum,
    /// Start of the IP header.
    pub l3_start: u8,
    /// Start of the transport header.
    pub l4_start: u8,
}

impl Context {
    /// Where in the frame the checksum goes; `None` if no checksum is asked for or the offset does
    /// not fit the descriptor's byte.
    pub const fn field(self) -> Option<u8> {
        let in_header = match self.csum {
            Csum::None => return None,
            Csum::Tcp => 16,
            Csum::Udp => 6,
        };
        self.l4_start.checked_add(in_header)
    }

    /// The TCP/IP context descriptor (3.3.6). TUCSE 0: to the end of the frame. The IP checksum
    /// fields are set but not used (no IXSM in the data descriptors): netd fills it in.
    pub const fn encode(self) -> [u64; 2] {
        let field = match self.field() {
            Some(field) => field,
            None => 0,
        };
        let (l3, l4) = (self.l3_start as u64, self.l4_start as u64);
        let w0 = l3
            | ((l3 + 10) & 0xff) << 8
            | (l4.saturating_sub(1)) << 16
            | l4 << 32
            | (field as u64) << 40;
        let tcp = if matches!(self.csum, Csum::Tcp) { TUCMD_TCP } else { 0 };
        [w0, DEXT | tcp]
    }

    /// The context descriptor of one frame to be segmented (TCP over IPv4): `hdr_len` bytes of
    /// headers, `payload` bytes in segments of `mss`. Plain frames keep the context they have.
    pub const fn encode_tso(self, hdr_len: u8, mss: u16, payload: u32) -> [u64; 2] {
        let [w0, w1] = self.encode();
        let sizes = (hdr_len as u64) << 40 | (mss as u64) << 48;
        [w0, w1 | TUCMD_IP | TSE | sizes | (payload & 0xf_ffff) as u64]
    }
}

/// What the NIC is to do with a frame besides sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Nothing.
    None,
    /// Insert the checksum that the context describes.
    Checksum,
    /// Cut it into segments, each with its own checksums.
    Segment,
}

/// A data descriptor (3.3.7). `eop`: the frame ends here, report when it has left.
pub const fn data(address: u64, len: u16, offload: Offload, eop: bool) -> [u64; 2] {
    let mut w1 = len as u64 | DTYP_DATA | DEXT | IFCS;
    w1 |= match offload {
        Offload::None => 0,
        Offload::Checksum => TXSM,
        Offload::Segment => TSE | IXSM | TXSM,
    };
    if eop {
        w1 |= EOP | RS;
    }
    [address, w1]
}

/// Whether word 1 of a data descriptor says that it has been sent.
pub const fn sent(word: u64) -> bool {
    word & DD != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(d: [u64; 2]) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&d[0].to_le_bytes());
        out[8..].copy_from_slice(&d[1].to_le_bytes());
        out
    }

    #[test]
    fn context_descriptor_bytes() {
        let tcp = Context { csum: Csum::Tcp, l3_start: 14, l4_start: 34 };
        // IPCSS IPCSO IPCSE(2) TUCSS TUCSO TUCSE(2) PAYLEN(20) DTYP(4) TUCMD STA HDRLEN MSS(2)
        assert_eq!(bytes(tcp.encode()), [14, 24, 33, 0, 34, 50, 0, 0, 0, 0, 0, 0x21, 0, 0, 0, 0]);
        assert_eq!(
            bytes(tcp.encode_tso(54, 1460, 0x1_2345)),
            [14, 24, 33, 0, 34, 50, 0, 0, 0x45, 0x23, 1, 0x27, 0, 54, 0xb4, 5]
        );
        let udp6 = Context { csum: Csum::Udp, l3_start: 14, l4_start: 54 };
        assert_eq!(bytes(udp6.encode()), [14, 24, 53, 0, 54, 60, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0]);
        assert_eq!(Context { csum: Csum::Tcp, l3_start: 14, l4_start: 240 }.field(), None);
        assert_eq!(Context { csum: Csum::None, l3_start: 14, l4_start: 34 }.field(), None);
    }

    #[test]
    fn data_descriptor_bytes() {
        // Address(8) DTALEN(20) DTYP(4) DCMD STA POPTS SPECIAL(2)
        assert_eq!(
            bytes(data(0x1122_3344_5566, 0x05ea, Offload::Checksum, true)),
            [0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0xea, 5, 0x10, 0x2b, 0, 2, 0, 0]
        );
        assert_eq!(
            bytes(data(0x1000, 54, Offload::None, false)),
            [0, 0x10, 0, 0, 0, 0, 0, 0, 54, 0, 0x10, 0x22, 0, 0, 0, 0]
        );
        assert_eq!(
            bytes(data(0, 0x4000, Offload::Segment, false))[8..],
            [0, 0x40, 0x10, 0x26, 0, 3, 0, 0]
        );
        let mut b = bytes(data(0x1000, 54, Offload::None, true));
        assert!(!sent(u64::from_le_bytes(b[8..].try_into().unwrap())));
        b[12] |= 1;
        assert!(sent(u64::from_le_bytes(b[8..].try_into().unwrap())));
    }

    #[test]
    fn receive_write_back_bytes() {
        // Length(2) checksum(2) status errors special(2)
        let read = |b: [u8; 8]| RxWriteback::from_word(u64::from_le_bytes(b));
        let plain = read([0xea, 5, 0xaa, 0xbb, 0x07, 0, 0, 0]);
        assert_eq!(plain, RxWriteback { len: 1514, status: 7, errors: 0 });
        assert!(plain.done() && plain.good(2048) && !plain.checksum_ok(), "IXSM");
        assert!(read([0xea, 5, 0, 0, 0x23, 0, 0, 0]).checksum_ok());
        assert!(!read([0xea, 5, 0, 0, 0x23, 0x20, 0, 0]).checksum_ok());
        assert!(read([0xea, 5, 0, 0, 0x23, 0x20, 0, 0]).good(2048), "netd judges checksums");
        for error in [0x01, 0x02, 0x04, 0x10, 0x80] {
            assert!(!read([0xea, 5, 0, 0, 3, error, 0, 0]).good(2048));
        }
        assert!(!read([0xea, 5, 0, 0, 1, 0, 0, 0]).good(2048), "no EOP");
        assert!(!read([1, 8, 0, 0, 3, 0, 0, 0]).good(2048), "2049 bytes");
        assert!(!read([0, 0, 0, 0, 3, 0, 0, 0]).good(2048), "empty");
        assert!(!read([0; 8]).done());
    }
}
