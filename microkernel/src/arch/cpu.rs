//! A processor: its block and stacks, descriptor tables, model-specific registers, protection bits.

use abi::USER_END;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use microkernel::Obj;
use microkernel::percpu::{self, CPUS};
use microkernel::thread::Tcb;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr2, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{FsBase, GsBase, KernelGsBase, LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::paging;

unsafe extern "C" {
    fn syscall_entry();
    fn trap_stubs();
    fn return_to_user();
}

/// What a processor has for itself. The entry code reaches the first fields through GS, the kernel's
/// logic the index.
#[repr(C)]
struct Block {
    current: u64,
    stack: u64,
    scratch: u64,
    vector_owner: u64,
    /// FS base in the processor.
    fs_base: u64,
    _entry: [u64; 3],
    index: usize,
    tss: TaskStateSegment,
    gdt: GlobalDescriptorTable,
}

const _: () = assert!(offset_of!(Block, index) == percpu::INDEX);
const _: () = assert!(offset_of!(Block, vector_owner) == 24);

impl Block {
    const fn new() -> Self {
        Self {
            current: 0,
            stack: 0,
            scratch: 0,
            vector_owner: 0,
            fs_base: 0,
            _entry: [0; 3],
            index: 0,
            tss: TaskStateSegment::new(),
            gdt: GlobalDescriptorTable::new(),
        }
    }
}

/// A processor's stacks, with a page below each that is not mapped. The first one's top is known to
/// `boot.s`.
#[repr(C, align(4096))]
struct Stacks {
    kernel_guard: [u8; 4096],
    kernel: [u8; 32768],
    fault_guard: [u8; 4096],
    fault: [u8; 8192],
}

const _: () = assert!(offset_of!(Stacks, fault_guard) == 0x9000);

impl Stacks {
    const EMPTY: Self = Self {
        kernel_guard: [0; 4096],
        kernel: [0; 32768],
        fault_guard: [0; 4096],
        fault: [0; 8192],
    };
}

/// Kernel data that processors themselves read and write.
#[repr(transparent)]
struct Static<T>(UnsafeCell<T>);
// SAFETY: a processor's part is written in its `init`, then used by it alone, in hardware and in
// `entry.s`, with interrupts off; the IDT is written by the first before the others start.
unsafe impl<T> Sync for Static<T> {}

static BLOCKS: Static<[Block; CPUS]> = Static(UnsafeCell::new([const { Block::new() }; CPUS]));
static IDT: Static<[[u64; 2]; 256]> = Static(UnsafeCell::new([[0; 2]; 256]));
#[unsafe(export_name = "kernel_stacks")]
static STACKS: Static<[Stacks; CPUS]> = Static(UnsafeCell::new([Stacks::EMPTY; CPUS]));

/// The pages below the stacks.
pub fn guard_pages() -> impl Iterator<Item = u64> + Clone {
    let guards = [offset_of!(Stacks, kernel_guard), offset_of!(Stacks, fault_guard)];
    stacks().step_by(size_of::<Stacks>()).flat_map(move |at| guards.map(|g| at + g as u64))
}

/// Whether a word lies on a stack of a processor, where it can be read.
pub fn on_stack(addr: u64) -> bool {
    let guard = guard_pages().any(|g| (g..g + 4096).contains(&addr));
    addr.is_multiple_of(8) && stacks().contains(&addr) && !guard
}

/// Where the stacks are.
fn stacks() -> core::ops::Range<u64> {
    let start = STACKS.0.get() as u64;
    start..start + size_of::<[Stacks; CPUS]>() as u64
}

/// Size of a stub in `entry.s`.
const STUB: u64 = 16;

/// Sets the processor `index` up. Called once on each, the first one before all others.
pub fn init(index: usize) {
    let stacks = stacks().start + (index * size_of::<Stacks>()) as u64;
    let stack = stacks + offset_of!(Stacks, fault_guard) as u64;
    // SAFETY: called once on each processor, whose block this is; all addresses are of statics and
    // code of the kernel.
    unsafe {
        let base = &raw mut (*BLOCKS.0.get())[index];
        let block = &mut *base;
        (block.index, block.stack) = (index, stack);
        let tss = &mut block.tss;
        tss.privilege_stack_table[0] = VirtAddr::new(stack);
        tss.interrupt_stack_table[0] = VirtAddr::new(stacks + size_of::<Stacks>() as u64);
        let gdt = &mut block.gdt;
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let user_data = gdt.append(Descriptor::user_data_segment());
        let user_code = gdt.append(Descriptor::user_code_segment());
        let tss_selector = gdt.append(Descriptor::tss_segment(&block.tss));
        gdt.load();
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(SegmentSelector(0));
        ES::set_reg(SegmentSelector(0));
        x86_64::instructions::tables::load_tss(tss_selector);
        debug_assert!(user_data.0 == 0x1b && user_code.0 == 0x23);

        let idt = &mut *IDT.0.get();
        for (vector, gate) in idt.iter_mut().enumerate() {
            let handler = trap_stubs as *const () as u64 + vector as u64 * STUB;
            // #DB, NMI, #DF and #MC have a stack of their own.
            let ist = u64::from(matches!(vector, 1 | 2 | 8 | 18));
            // Present interrupt gate (0x8e) in the kernel's code segment.
            gate[0] = handler & 0xffff
                | (code.0 as u64) << 16
                | ist << 32
                | 0x8e << 40
                | (handler >> 16 & 0xffff) << 48;
            gate[1] = handler >> 32;
        }
        x86_64::instructions::tables::lidt(&DescriptorTablePointer {
            limit: (size_of::<[[u64; 2]; 256]>() - 1) as u16,
            base: VirtAddr::from_ptr(IDT.0.get()),
        });

        GsBase::write(VirtAddr::from_ptr(base));
        KernelGsBase::write(VirtAddr::new(0));
        Efer::update(|e| {
            e.insert(EferFlags::SYSTEM_CALL_EXTENSIONS | EferFlags::NO_EXECUTE_ENABLE)
        });
        LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
        Star::write(user_code, user_data, code, data).expect("segment order for syscall");
        SFMask::write(
            RFlags::INTERRUPT_FLAG
                | RFlags::DIRECTION_FLAG
                | RFlags::TRAP_FLAG
                | RFlags::ALIGNMENT_CHECK
                | RFlags::NESTED_TASK,
        );
        Cr0::update(|c| {
            c.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::NUMERIC_ERROR);
            c.remove(Cr0Flags::TASK_SWITCHED | Cr0Flags::EMULATE_COPROCESSOR);
        });
        let mut cr4 =
            Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
        let features = core::arch::x86_64::__cpuid_count(7, 0);
        for (bit, present) in [
            (Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.ebx >> 7 & 1),
            (Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.ebx >> 20 & 1),
            (Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.ecx >> 2 & 1),
        ] {
            cr4.set(bit, present != 0);
        }
        Cr4::write(cr4);
    }
}

/// Address of the last page fault.
pub fn fault_address() -> u64 {
    Cr2::read_raw()
}

/// A jump to a non-canonical address may be reported at its target; `iretq` to such an address
/// would fault in the kernel, so the thread is put at the end of user space, where it faults.
pub fn keep_rip_canonical(t: &Tcb) {
    t.with_regs(|r| r.rip = r.rip.min(USER_END));
}

/// Clears DS, ES, FS and GS selectors, which user code may set to anything it could load and which
/// its successor could read, and sets the FS base. Loading a selector, be it null, makes that 0 and
/// leaves no trace when it is null: only a base of 0 behind one of 0 is sure to be there.
#[inline(always)]
pub fn load_segments(fs_base: u64) {
    let (used, last): (u32, u64);
    // SAFETY: reads selectors, and `Block::fs_base`.
    unsafe {
        core::arch::asm!(
            "mov {0:e}, ds", "mov {1:e}, es", "or {0:e}, {1:e}",
            "mov {1:e}, fs", "or {0:e}, {1:e}", "mov {1:e}, gs", "or {0:e}, {1:e}",
            "mov {1}, gs:[{fs_base}]",
            out(reg) used, out(reg) last, fs_base = const offset_of!(Block, fs_base),
            options(nostack, readonly),
        );
    }
    if used != 0 {
        // SAFETY: null selectors. Loading GS clears the base in use, which between the two `swapgs`
        // is the user's.
        unsafe {
            core::arch::asm!(
                "mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}",
                "swapgs", "mov gs, {0:e}", "swapgs",
                in(reg) 0, options(nostack),
            );
        }
    }
    if used != 0 || last | fs_base != 0 {
        // SAFETY: `Block::fs_base`.
        unsafe {
            core::arch::asm!(
                "mov gs:[{at}], {base}",
                at = const offset_of!(Block, fs_base), base = in(reg) fs_base, options(nostack),
            );
        }
        FsBase::write(VirtAddr::new_truncate(fs_base));
    }
}

/// A number that user code cannot guess, where the processor makes random ones; else the time-stamp
/// counter has to do.
pub fn draw() -> u64 {
    let mut word = super::clock::tsc();
    // CPUID, Intel SDM volume 2: leaf 1 ECX bit 30.
    if core::arch::x86_64::__cpuid(1).ecx >> 30 & 1 != 0 {
        let random: u64;
        // SAFETY: the processor has the instruction; it changes a register and the flags. Without
        // a number to give it leaves zero, which does no harm.
        unsafe { core::arch::asm!("rdrand {}", out(reg) random, options(nomem, nostack)) };
        word ^= random;
    }
    word
}

/// Ends the boot and enters user mode. (Not a part of the boot code, which it gives away.)
#[inline(never)]
pub fn enter_user(t: Obj<Tcb>) -> ! {
    paging::forget_boot_code();
    // SAFETY: `return_to_user` expects a runnable TCB in RAX and a kernel stack; boot is over.
    unsafe {
        core::arch::asm!(
            "mov rsp, gs:[8]",
            "jmp {target}",
            target = sym return_to_user,
            in("rax") t.as_ptr(),
            options(noreturn)
        )
    }
}
