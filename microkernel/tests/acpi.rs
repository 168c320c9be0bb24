//! ACPI tables as firmware writes them, and as it must not.

use abi::{IsaLine, PowerOff};
use microkernel::acpi::madt::{Interrupts, IoApic, STANDARD_IO_APIC};
use microkernel::acpi::{Acpi, Records, fadt, number, remapping_units};

/// Memory from 0 on.
struct Firmware {
    memory: Vec<u8>,
}

type Tables<'f> = Acpi<'f, Box<dyn Fn(u64, u64) -> Option<&'f [u8]> + 'f>>;

const RSDP: usize = 0xf_5a40;
const XSDT: usize = 0x20_0000;
const RSDT: usize = 0x20_1000;
const DMAR: usize = 0x20_2000;
const MADT: usize = 0x20_3000;

fn seal(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    let sum = bytes.iter().fold(0u8, |s, b| s.wrapping_add(*b));
    bytes[at] = sum.wrapping_neg();
}

impl Firmware {
    fn new(revision: u8) -> Self {
        let mut f = Self { memory: vec![0; 0x20_4000] };
        f.put(RSDP, b"RSD PTR ");
        f.memory[RSDP + 15] = revision;
        f.put(RSDP + 16, &(RSDT as u32).to_le_bytes());
        f.put(RSDP + 20, &36u32.to_le_bytes());
        f.put(RSDP + 24, &(XSDT as u64).to_le_bytes());
        seal(&mut f.memory[RSDP..RSDP + 20], 8);
        seal(&mut f.memory[RSDP..RSDP + 36], 32);
        let wide: Vec<u8> = [DMAR, MADT].iter().flat_map(|t| (*t as u64).to_le_bytes()).collect();
        f.table(XSDT, b"XSDT", &wide);
        f.table(RSDT, b"RSDT", &(MADT as u32).to_le_bytes());
        // 46-bit addresses, then: a unit of one device, an address range, the unit of the rest.
        let mut dmar = vec![45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (kind, flags, base) in
            [(0u16, 0u8, 0xfed9_1000u64), (1, 0, 0x1234), (0, 1, 0xfed9_0000)]
        {
            dmar.extend_from_slice(&kind.to_le_bytes());
            dmar.extend_from_slice(&16u16.to_le_bytes());
            dmar.extend_from_slice(&[flags, 0, 0, 0]);
            dmar.extend_from_slice(&base.to_le_bytes());
        }
        f.table(DMAR, b"DMAR", &dmar);
        f.table(MADT, b"APIC", &[0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 1, 4, 7, 7]);
        f
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn table(&mut self, at: usize, signature: &[u8; 4], body: &[u8]) {
        let len = 36 + body.len();
        self.put(at, signature);
        self.put(at + 4, &(len as u32).to_le_bytes());
        self.put(at + 36, body);
        seal(&mut self.memory[at..at + len], 9);
    }
    fn read(&self, at: u64, len: u64) -> Option<&[u8]> {
        self.memory.get(at as usize..at.checked_add(len)? as usize)
    }
    fn acpi(&self, rsdp: u64) -> Option<Tables<'_>> {
        Acpi::new(Box::new(|at, len| self.read(at, len)), rsdp)
    }
}

#[test]
fn tables_are_found_by_the_loaders_pointer_and_by_search() {
    let mut f = Firmware::new(2);
    for rsdp in [RSDP as u64, 0, 0x1_0000] {
        let acpi = f.acpi(rsdp).expect("a root table");
        assert_eq!(acpi.table(b"DMAR").map(<[u8]>::len), Some(36 + 12 + 48), "{rsdp:#x}");
        assert!(acpi.table(b"HPET").is_none());
    }
    // In the extended BIOS data area as well.
    let pointer = f.memory[RSDP..RSDP + 36].to_vec();
    f.memory[RSDP..RSDP + 36].fill(0);
    assert!(f.acpi(0).is_none());
    f.put(0x40e, &0x9fc0u16.to_le_bytes());
    f.put(0x9_fc00 + 0x3e0, &pointer);
    assert!(f.acpi(0).is_some());
}

#[test]
fn old_and_broken_pointers_lead_to_the_old_root_table() {
    assert!(Firmware::new(0).acpi(0).expect("RSDT").table(b"DMAR").is_none());
    let mut f = Firmware::new(2);
    f.memory[XSDT + 20] ^= 1;
    let acpi = f.acpi(0).expect("RSDT");
    assert!(acpi.table(b"DMAR").is_none() && acpi.table(b"APIC").is_some());
}

#[test]
fn a_table_that_is_not_whole_is_not_there() {
    for (at, value) in [(9usize, 1u8), (4, 35), (6, 0xff), (7, 0xff), (40, 9)] {
        let mut f = Firmware::new(2);
        f.memory[DMAR + at] ^= value;
        let acpi = f.acpi(0).expect("the root table is right");
        assert!(acpi.table(b"DMAR").is_none(), "byte {at}");
        assert!(acpi.table(b"APIC").is_some());
    }
}

#[test]
fn records_end_where_one_cannot_be() {
    let f = Firmware::new(2);
    let acpi = f.acpi(0).expect("tables");
    let dmar = acpi.table(b"DMAR").expect("there");
    let units: Vec<_> = remapping_units(dmar).collect();
    assert_eq!(units, [0xfed9_1000, 0xfed9_0000]);
    let madt = acpi.table(b"APIC").expect("there");
    // The second says 4 bytes and has them; one byte less, and it is not there.
    assert_eq!(
        Records::madt(madt).map(|(k, r)| (k, r.len())).collect::<Vec<_>>(),
        [(0, 8), (1, 4)]
    );
    assert_eq!(Records::madt(&madt[..madt.len() - 1]).count(), 1);
    let mut zero = madt.to_vec();
    zero[45] = 0;
    assert_eq!(Records::madt(&zero).count(), 0);
    assert_eq!(Records::dmar(&dmar[..40]).count(), 0);
}

#[test]
fn any_firmware_is_survived() {
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..300 {
        let mut f = Firmware::new(2);
        for _ in 0..rng.usize(1..6) {
            let table = [RSDP, XSDT, RSDT, DMAR, MADT][rng.usize(..5)];
            let at = table + rng.usize(..60);
            f.memory[at] = rng.u8(..);
            if rng.bool() {
                // What lies about itself most convincingly has its sum right.
                let len = number(&f.memory, table + 4, 4).unwrap_or(0) as usize;
                if let Some(bytes) = f.memory.get_mut(table..table + len.clamp(36, 4096)) {
                    seal(bytes, 9);
                }
            }
        }
        if let Some(acpi) = f.acpi(if round % 2 == 0 { 0 } else { rng.u64(..) }) {
            for table in [acpi.table(b"DMAR"), acpi.table(b"APIC")].into_iter().flatten() {
                assert!(Records::dmar(table).count() <= table.len() / 4);
                assert!(Records::madt(table).count() <= table.len() / 2);
            }
        }
    }
}

fn madt(records: &[&[u8]]) -> Vec<u8> {
    [&[0; 44][..], &records.concat()].concat()
}

const LOCAL: &[u8] = &[0, 8, 0, 0, 1, 0, 0, 0];
const LOCAL_OFF: &[u8] = &[0, 8, 1, 1, 0, 0, 0, 0];
const WIDE: &[u8] = &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0];
const FIRST: &[u8] = &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
const SECOND: &[u8] = &[1, 12, 1, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0];
/// As QEMU has them: the timer at line 2; line 9 level triggered, active high; one active low.
const TIMER: &[u8] = &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0];
const LINE_9: &[u8] = &[2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0];
const LINE_11: &[u8] = &[2, 10, 0, 11, 30, 0, 0, 0, 0x0f, 0];
const NO_LINE: &[u8] = &[2, 10, 0, 16, 1, 0, 0, 0, 0, 0];

#[test]
fn interrupt_controllers_and_overrides_are_read() {
    let records = [LOCAL, LOCAL_OFF, WIDE, FIRST, SECOND, TIMER, LINE_9, LINE_11, NO_LINE];
    let it = Interrupts::read(&madt(&records)).expect("I/O APICs");
    let units =
        [(0xfec0_0000, 0), (0xfec0_1000, 24)].map(|(address, base)| IoApic { address, base });
    assert_eq!((it.io_apics(), it.processors), (&units[..], 2));
    let line = |gsi, flags| IsaLine { gsi, flags };
    assert_eq!(
        [0, 1, 4, 9, 11].map(|i| it.isa[i]),
        [line(2, 0), line(1, 0), line(4, 0), line(9, 1), line(30, 3)]
    );
}

#[test]
fn without_a_table_there_is_what_every_pc_has() {
    assert_eq!(Interrupts::read(&madt(&[LOCAL])), None);
    let it = Interrupts::standard();
    assert_eq!(it.io_apics(), [IoApic { address: STANDARD_IO_APIC, base: 0 }]);
    assert_eq!((it.isa[4].gsi, it.processors), (4, 1));
    // More than there is room for.
    let many = vec![SECOND; 40];
    assert_eq!(Interrupts::read(&madt(&many)).map(|i| i.io_apics().len()), Some(8));
}

fn facp(control: [u32; 2], flags: u32) -> Vec<u8> {
    let mut t = vec![0; 276];
    let mut put = |at: usize, bytes: &[u8]| t[at..at + bytes.len()].copy_from_slice(bytes);
    put(40, &0x7fe_0040u32.to_le_bytes());
    put(48, &[0xb2, 0, 0, 0, 0xf1]);
    put(64, &control[0].to_le_bytes());
    put(68, &control[1].to_le_bytes());
    put(112, &flags.to_le_bytes());
    t
}

#[test]
fn the_way_to_turn_the_machine_off_is_found() {
    let s5 = b"xx_S5_yy\x08_S5_\x12\x06\x04\x0a\x05\x0b\x07\x00\x00\x00zz";
    let off = PowerOff { control: [0x604, 0], smi_command: 0xb2, enable: 0xf1, sleep_type: [5, 7] };
    let table = facp([0x604, 0], 0);
    assert_eq!(fadt::power_off(&table, s5), Some(off));
    assert_eq!(fadt::dsdt(&table), Some(0x7fe_0040));
    // With a root character, a long length, and small numbers as opcodes.
    let other = b"\x08\\_S5_\x12\x47\x00\x04\x01\x00";
    let types = fadt::power_off(&facp([0x604, 0x704], 0), other).map(|p| (p.control, p.sleep_type));
    assert_eq!(types, Some(([0x604, 0x704], [1, 0])));
    assert_eq!(fadt::power_off(&facp([0, 0], 0), s5), None);
    assert_eq!(fadt::power_off(&table, b"\x08_S4_\x12\x06\x04\x0a\x05\x0a\x07"), None);
    assert_eq!(fadt::power_off(&facp([0x604, 0], 1 << 20), s5), None);
    // The register's address in the newer form; the DSDT's too.
    let mut new = facp([0, 0], 0);
    new[172] = 1;
    new[176..178].copy_from_slice(&0x804u16.to_le_bytes());
    new[140..148].copy_from_slice(&0x1234u64.to_le_bytes());
    assert_eq!(fadt::power_off(&new, s5).map(|p| p.control), Some([0x804, 0]));
    assert_eq!(fadt::dsdt(&new), Some(0x1234));
    for len in 0..table.len() {
        let _ = fadt::power_off(&table[..len], s5);
    }
    for len in 0..s5.len() {
        let _ = fadt::power_off(&table, &s5[..len]);
    }
}
