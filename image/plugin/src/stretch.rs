//! What the kernel runs between one user instruction and the next, stretch by stretch: entry, length,
//! pages touched, and what the program said that it was about to do.
//!
//! A program marks what follows by an instruction that does nothing, `nop dword ptr [rax + MARK + n]`.
//! The stretches are counted in a table, which is written when QEMU ends: a line for each kind, `mark
//! entry length pages count`.

use std::collections::HashMap;
use std::ffi::{c_uint, c_void};
use std::io::Write;
use std::sync::Mutex;

use crate::api;

/// Bits of the displacement that make it a mark.
const MARK: u32 = 0x4257_0000;

/// Instructions by which the kernel ends an entry: HLT, SYSRETQ, IRETQ.
const ENDS: [&[u8]; 3] = [&[0xf4], &[0x48, 0x0f, 0x07], &[0x48, 0xcf]];

/// The stretch that is under way, and those that are over.
#[derive(Default)]
struct Stretches {
    mark: u32,
    entry: u64,
    length: u64,
    pages: Vec<u64>,
    seen: HashMap<Kind, u64>,
}

#[derive(PartialEq, Eq, Hash)]
struct Kind {
    mark: u32,
    entry: u64,
    length: u64,
    pages: usize,
}

static STRETCHES: Mutex<Option<Stretches>> = Mutex::new(None);

impl Stretches {
    fn end(&mut self) {
        if self.length > 0 {
            let (mark, entry, length) = (self.mark, self.entry, self.length);
            let kind = Kind { mark, entry, length, pages: self.pages.len() };
            *self.seen.entry(kind).or_default() += 1;
            self.length = 0;
            self.pages.clear();
        }
    }
    fn touch(&mut self, vaddr: u64) {
        let page = vaddr >> 12;
        if !self.pages.contains(&page) {
            self.pages.push(page);
        }
    }
}

fn with(f: impl FnOnce(&mut Stretches)) {
    if let Some(stretches) = STRETCHES.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
        f(stretches);
    }
}

/// Begins to record.
pub fn start() {
    *STRETCHES.lock().unwrap_or_else(|e| e.into_inner()) = Some(Stretches::default());
}

/// Writes the table.
pub fn finish(path: &str) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut result = Ok(());
    with(|s| {
        s.end();
        for (k, count) in &s.seen {
            let line = writeln!(out, "{} {:#x} {} {} {count}", k.mark, k.entry, k.length, k.pages);
            result = std::mem::replace(&mut result, Ok(())).and(line);
        }
    });
    result.and_then(|()| out.flush())
}

/// Has the runs of a block seen.
///
/// # Safety
/// `tb` is being translated.
pub unsafe fn watch(tb: *mut api::Tb, api: std::ffi::c_int) {
    // SAFETY: the caller's word; indices are below the number of instructions.
    unsafe {
        let vaddr = api::qemu_plugin_tb_vaddr(tb);
        let count = api::qemu_plugin_tb_n_insns(tb);
        let kernel = vaddr >> 63 == 1;
        let mut ends = false;
        for i in 0..count {
            let insn = api::qemu_plugin_tb_get_insn(tb, i);
            let (bytes, len) = api::bytes(insn, api);
            ends |= ENDS.contains(&&bytes[..len]);
            if let (false, Some(mark)) = (kernel, mark_of(&bytes[..len])) {
                let data = mark as usize as *mut c_void;
                api::qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, api::NO_REGS, data);
            }
            if kernel {
                let data = std::ptr::null_mut();
                api::qemu_plugin_register_vcpu_mem_cb(
                    insn,
                    on_memory,
                    api::NO_REGS,
                    api::READ_WRITE,
                    data,
                );
            }
        }
        // The address of a kernel block (whose low bits say enough beside a constant) and its length
        // fit in a word.
        let data = match kernel {
            true => (vaddr << 16 | (count as u64) << 1 | u64::from(ends)) as *mut c_void,
            false => std::ptr::null_mut(),
        };
        api::qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, api::NO_REGS, data);
    }
}

extern "C" fn on_mark(_vcpu: c_uint, mark: *mut c_void) {
    with(|s| s.mark = mark as usize as u32);
}

extern "C" fn on_memory(_vcpu: c_uint, _info: u32, vaddr: u64, _data: *mut c_void) {
    with(|s| s.touch(vaddr));
}

extern "C" fn on_block(_vcpu: c_uint, block: *mut c_void) {
    let block = block as u64;
    with(|s| {
        if block == 0 {
            return s.end();
        }
        let vaddr = 0xffff << 48 | block >> 16;
        if s.length == 0 {
            s.entry = vaddr;
        }
        s.length += block >> 1 & 0x7fff;
        s.touch(vaddr);
        // What comes next is another entry, even if no user code runs in between.
        if block & 1 == 1 {
            s.end();
        }
    });
}

/// The number in a mark.
fn mark_of(code: &[u8]) -> Option<u32> {
    let [0x0f, 0x1f, 0x80, a, b, c, d] = *code else { return None };
    let mark = u32::from_le_bytes([a, b, c, d]) ^ MARK;
    (mark < 1 << 16).then_some(mark)
}
