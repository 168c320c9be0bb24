//! What is used of QEMU's plugin interface (include/qemu/qemu-plugin.h). API 1 (QEMU 7.2) and API 2
//! and later (QEMU 9.0 and later) differ: functions that only one of them has are looked up at run
//! time.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// A block in translation; QEMU's.
#[repr(C)]
pub struct Tb {
    _opaque: [u8; 0],
}

/// An instruction in translation; QEMU's.
#[repr(C)]
pub struct Insn {
    _opaque: [u8; 0],
}

/// The beginning of `qemu_info_t`; what follows is not used.
#[repr(C)]
pub struct Info {
    /// Name of the guest's processor.
    pub target_name: *const c_char,
    /// Oldest version of the interface that this QEMU accepts.
    pub min: c_int,
    /// Its own version.
    pub cur: c_int,
}

/// Called at each run of a block or instruction, with what was registered for it.
pub type Callback = extern "C" fn(vcpu: c_uint, data: *mut c_void);
/// Called at each access of an instruction to memory.
pub type MemoryCallback = extern "C" fn(vcpu: c_uint, info: u32, vaddr: u64, data: *mut c_void);
/// Called when QEMU ends.
pub type ExitCallback = extern "C" fn(id: u64, data: *mut c_void);
/// `qemu_plugin_register_vcpu_tb_exec_inline`: adds a number to a word at each run. API 1 only.
pub type TbInline = unsafe extern "C" fn(*mut Tb, op: c_int, *mut c_void, u64);

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
pub const ADD_U64: c_int = 0;
/// `QEMU_PLUGIN_CB_NO_REGS`: the callback reads no register.
pub const NO_REGS: c_int = 0;
/// `QEMU_PLUGIN_MEM_RW`.
pub const READ_WRITE: c_int = 3;

unsafe extern "C" {
    pub fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, cb: extern "C" fn(u64, *mut Tb));
    pub fn qemu_plugin_register_vcpu_tb_exec_cb(
        tb: *mut Tb,
        cb: Callback,
        flags: c_int,
        data: *mut c_void,
    );
    pub fn qemu_plugin_register_vcpu_insn_exec_cb(
        insn: *mut Insn,
        cb: Callback,
        flags: c_int,
        data: *mut c_void,
    );
    pub fn qemu_plugin_register_vcpu_mem_cb(
        insn: *mut Insn,
        cb: MemoryCallback,
        flags: c_int,
        rw: c_int,
        data: *mut c_void,
    );
    pub fn qemu_plugin_register_atexit_cb(id: u64, cb: ExitCallback, data: *mut c_void);
    pub fn qemu_plugin_tb_n_insns(tb: *const Tb) -> usize;
    pub fn qemu_plugin_tb_vaddr(tb: *const Tb) -> u64;
    pub fn qemu_plugin_tb_get_insn(tb: *const Tb, index: usize) -> *mut Insn;
    pub fn qemu_plugin_insn_size(insn: *const Insn) -> usize;
    /// Up to API 2 it takes only the instruction and returns where its bytes are; since API 3 it
    /// copies them. Arguments that a function does not take do no harm in this calling convention.
    pub fn qemu_plugin_insn_data(insn: *const Insn, to: *mut u8, len: usize) -> *const u8;
}

/// The address of a function of QEMU; null if it has none of this name.
fn find(name: &CStr) -> *mut c_void {
    // SAFETY: `name` ends with a zero byte.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// The version to declare: QEMU up to 8 knows only 1, QEMU from 9 on accepts nothing below 2.
pub fn version() -> c_int {
    if find(c"qemu_plugin_scoreboard_new").is_null() { 1 } else { 2 }
}

/// Addition without a call, where there is one that reaches memory of ours.
pub fn tb_inline() -> Option<TbInline> {
    let found = find(c"qemu_plugin_register_vcpu_tb_exec_inline");
    // SAFETY: the function of this name has this type; a null pointer is `None`.
    unsafe { std::mem::transmute::<*mut c_void, Option<TbInline>>(found) }
}

/// The bytes of an instruction, and how many.
///
/// # Safety
/// Only while QEMU translates the block that `insn` belongs to.
pub unsafe fn bytes(insn: *const Insn, api: c_int) -> ([u8; 16], usize) {
    let mut bytes = [0; 16];
    // SAFETY: the caller's word; the buffer has the length that is told.
    unsafe {
        let len = qemu_plugin_insn_size(insn).min(bytes.len());
        let data = qemu_plugin_insn_data(insn, bytes.as_mut_ptr(), len);
        if api < 3 && !data.is_null() {
            bytes[..len].copy_from_slice(std::slice::from_raw_parts(data, len));
        }
        (bytes, len)
    }
}
