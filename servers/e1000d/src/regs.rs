//! Registers of the 8254x, by byte offset in BAR 0 (manual, chapter 13).

use bitflags::bitflags;

/// A register: its byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u32);

/// Bytes of BAR 0 (manual 4.1).
pub const BAR_BYTES: u64 = 0x2_0000;

/// Device control (13.4.1).
pub const CTRL: Reg = Reg(0x0000);
/// Device status (13.4.2).
pub const STATUS: Reg = Reg(0x0008);
/// EEPROM read (13.4.4).
pub const EERD: Reg = Reg(0x0014);
/// Extended device control (13.4.5; datasheet of the 82574L, 10.2.2.5).
pub const CTRL_EXT: Reg = Reg(0x0018);
/// Flow control address, low.
pub const FCAL: Reg = Reg(0x0028);
/// Flow control address, high.
pub const FCAH: Reg = Reg(0x002c);
/// Flow control type.
pub const FCT: Reg = Reg(0x0030);
/// Interrupt cause: reading clears it (13.4.17).
pub const ICR: Reg = Reg(0x00c0);
/// Interrupt throttling, units of 256 ns (13.4.18).
pub const ITR: Reg = Reg(0x00c4);
/// Interrupt mask set (13.4.20).
pub const IMS: Reg = Reg(0x00d0);
/// Interrupt mask clear (13.4.21).
pub const IMC: Reg = Reg(0x00d8);
/// Receive control (13.4.22).
pub const RCTL: Reg = Reg(0x0100);
/// Flow control transmit timer value.
pub const FCTTV: Reg = Reg(0x0170);
/// Transmit control (13.4.33).
pub const TCTL: Reg = Reg(0x0400);
/// Transmit inter-packet gap (13.4.34).
pub const TIPG: Reg = Reg(0x0410);
/// Receive descriptor base, low (13.4.25).
pub const RDBAL: Reg = Reg(0x2800);
/// Receive descriptor base, high (13.4.26).
pub const RDBAH: Reg = Reg(0x2804);
/// Receive descriptor ring bytes (13.4.27).
pub const RDLEN: Reg = Reg(0x2808);
/// Receive descriptor head (13.4.28).
pub const RDH: Reg = Reg(0x2810);
/// Receive descriptor tail (13.4.29).
pub const RDT: Reg = Reg(0x2818);
/// Receive delay timer (13.4.30).
pub const RDTR: Reg = Reg(0x2820);
/// Receive absolute delay timer (13.4.31).
pub const RADV: Reg = Reg(0x282c);
/// Transmit descriptor base, low (13.4.36).
pub const TDBAL: Reg = Reg(0x3800);
/// Transmit descriptor base, high (13.4.37).
pub const TDBAH: Reg = Reg(0x3804);
/// Transmit descriptor ring bytes (13.4.38).
pub const TDLEN: Reg = Reg(0x3808);
/// Transmit descriptor head (13.4.39).
pub const TDH: Reg = Reg(0x3810);
/// Transmit descriptor tail (13.4.40).
pub const TDT: Reg = Reg(0x3818);
/// Transmit interrupt delay (13.4.41).
pub const TIDV: Reg = Reg(0x3820);
/// Transmit descriptor control (13.4.43).
pub const TXDCTL: Reg = Reg(0x3828);
/// Receive checksum control.
pub const RXCSUM: Reg = Reg(0x5000);
/// Receive filter control; 82574L only.
pub const RFCTL: Reg = Reg(0x5008);
/// Multicast table array, 128 words (13.5.1).
pub const MTA: Reg = Reg(0x5200);
/// Words of [`MTA`] and of [`VFTA`].
pub const TABLE_WORDS: u32 = 128;
/// Receive address 0, low (13.5.2).
pub const RAL0: Reg = Reg(0x5400);
/// Receive address 0, high (13.5.3).
pub const RAH0: Reg = Reg(0x5404);
/// VLAN filter table array, 128 words (13.5.4).
pub const VFTA: Reg = Reg(0x5600);
/// Distribution of received frames to queues; 82574L only.
pub const MRQC: Reg = Reg(0x5818);
/// PCI Express control; 82574L only.
pub const GCR: Reg = Reg(0x5b00);
/// PCI Express control 2; 82574L only.
pub const GCR2: Reg = Reg(0x5b64);

impl Reg {
    /// Word `i` of an array that starts here.
    pub const fn word(self, i: u32) -> Reg {
        Reg(self.0 + 4 * i)
    }
}

// The last register used lies inside the smallest BAR.
const _: () = assert!((GCR2.0 as u64) < BAR_BYTES && VFTA.0 + 4 * TABLE_WORDS <= MRQC.0);

bitflags! {
    /// Device control (13.4.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ctrl: u32 {
        /// Start no more transfers (PCI Express).
        const GIO_MASTER_DISABLE = 1 << 2;
        /// Link reset (fibre): must be clear.
        const LRST = 1 << 3;
        /// Auto-speed detection.
        const ASDE = 1 << 5;
        /// Set link up.
        const SLU = 1 << 6;
        /// Invert loss of signal: clear on copper.
        const ILOS = 1 << 7;
        /// Force speed: clear, the PHY negotiates.
        const FRCSPD = 1 << 11;
        /// Force duplex.
        const FRCDPLX = 1 << 12;
        /// Device reset; clears itself.
        const RST = 1 << 26;
        /// Strip VLAN tags.
        const VME = 1 << 30;
        /// PHY reset: never set here, so that the link stays up.
        const PHY_RST = 1 << 31;
        const _ = !0;
    }

    /// Extended device control.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CtrlExt: u32 {
        /// Mask extended interrupts when they are taken (82574L).
        const EIAME = 1 << 24;
        /// Mask interrupts when ICR is read (82574L).
        const IAME = 1 << 27;
        /// A driver is loaded (82574L).
        const DRV_LOAD = 1 << 28;
        const _ = !0;
    }

    /// Device status (13.4.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceStatus: u32 {
        /// Link up.
        const LU = 1 << 1;
        /// Transfers may be under way (PCI Express).
        const GIO_MASTER_ENABLE = 1 << 19;
        const _ = !0;
    }

    /// Interrupt causes (13.4.17), also the bits of IMS and IMC.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cause: u32 {
        /// Transmit descriptor written back.
        const TXDW = 1 << 0;
        /// Link status changed.
        const LSC = 1 << 2;
        /// Receive descriptors run low.
        const RXDMT0 = 1 << 4;
        /// Receiver overrun.
        const RXO = 1 << 6;
        /// Receive timer: a frame has arrived.
        const RXT0 = 1 << 7;
        const _ = !0;
    }

    /// Receive control (13.4.22). Buffer size bits 0: 2048 bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rctl: u32 {
        /// Enable.
        const EN = 1 << 1;
        /// Accept broadcast.
        const BAM = 1 << 15;
        /// Strip the FCS.
        const SECRC = 1 << 26;
        const _ = !0;
    }

    /// Transmit control (13.4.33).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Tctl: u32 {
        /// Enable.
        const EN = 1 << 1;
        /// Pad short packets.
        const PSP = 1 << 3;
        /// Collision threshold 15, the manual's value.
        const CT_15 = 0x0f << 4;
        /// Collision distance 64, the manual's value for full duplex.
        const COLD_64 = 0x40 << 12;
        const _ = !0;
    }

    /// Receive checksum control.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rxcsum: u32 {
        /// Check IP header checksums.
        const IPOFLD = 1 << 8;
        /// Check TCP and UDP checksums.
        const TUOFLD = 1 << 9;
    }
}

impl DeviceStatus {
    /// Link speed in Mbit/s: bits 7:6 (13.4.2).
    pub fn speed(self) -> u32 {
        match self.bits() >> 6 & 3 {
            0 => 10,
            1 => 100,
            _ => 1000,
        }
    }
}

/// Receive control as this driver sets it, once.
pub const RCTL_VALUE: Rctl = Rctl::EN.union(Rctl::BAM).union(Rctl::SECRC);
/// Transmit control as this driver sets it.
pub const TCTL_VALUE: Tctl = Tctl::EN.union(Tctl::PSP).union(Tctl::CT_15).union(Tctl::COLD_64);
/// The gaps of IEEE 802.3 (13.4.34): IPGT 10, IPGR2 6, IPGR1 two thirds of that.
pub const TIPG_VALUE: u32 = 10 | 4 << 10 | 6 << 20;
/// At most 20,000 interrupts a second: 50 µs in units of 256 ns. QEMU's model never goes below
/// 128 µs, whatever stands here.
pub const ITR_VALUE: u32 = 195;
/// What may interrupt. [`Cause::TXDW`] is added while frames are in flight.
pub const CAUSES: Cause = Cause::LSC.union(Cause::RXDMT0).union(Cause::RXO).union(Cause::RXT0);
/// EERD: start (13.4.4); the rest differs, see [`crate::models::Eerd`].
pub const EERD_START: u32 = 1 << 0;
/// RAH: address valid (13.5.3).
pub const RAH_AV: u32 = 1 << 31;
