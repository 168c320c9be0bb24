//! Counts guest instructions in QEMU's translator: user and kernel apart, further iterations of
//! `rep` instructions apart, and with `profile=on` the runs of every block of code.
//!
//! `-plugin libinsn_count.so,counts=PATH[,profile=on][,stretches=PATH]`. The counts lie in a file that is mapped, in
//! [`layout`]: whoever wants them reads it, at any moment, and nobody is asked. A halted processor runs
//! no block and counts nothing. With `stretches` the kernel's single entries are recorded as well. For one virtual processor: with several the additions would race.

mod api;
mod layout;
mod stretch;
mod table;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

use table::{Entry, Table};

/// What QEMU reads first: which version of its interface this is for. The value is set when the
/// library is loaded, which is before QEMU looks, so that one file serves every version.
#[unsafe(export_name = "qemu_plugin_version")]
static VERSION: AtomicI32 = AtomicI32::new(1);

#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = {
    extern "C" fn on_load() {
        VERSION.store(api::version(), Relaxed);
    }
    on_load
};

/// The plugin, once it is installed.
struct Plugin {
    table: Table,
    api: c_int,
    inline: Option<api::TbInline>,
    profile: bool,
    /// Where the kernel's stretches go.
    stretches: Option<String>,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// Called by QEMU with the plugin's arguments.
///
/// # Safety
/// QEMU's part: `info` and the `argc` strings at `argv` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const api::Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let (mut file, mut profile, mut stretches) = (None, false, None);
    for i in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: QEMU passes `argc` strings.
        let argument = unsafe { CStr::from_ptr(*argv.add(i)) }.to_string_lossy();
        match argument.split_once('=') {
            Some(("counts", path)) => file = Some(path.to_string()),
            Some(("stretches", path)) => stretches = Some(path.to_string()),
            // QEMU itself turns `on` into other words of the same meaning.
            Some(("profile", how)) => profile = ["on", "true", "yes"].contains(&how),
            _ => {
                eprintln!(
                    "insn_count: unknown argument `{argument}`; there are counts=, profile=, stretches="
                );
                return -1;
            }
        }
    }
    let Some(file) = file else {
        eprintln!("insn_count: counts=PATH is missing: where the counts go");
        return -1;
    };
    let table = match Table::create(&file) {
        Ok(table) => table,
        Err(e) => {
            eprintln!("insn_count: cannot map {file}: {e}");
            return -1;
        }
    };
    // SAFETY: QEMU passes its own description.
    let api = unsafe { (*info).cur };
    let recording = stretches.is_some();
    let plugin = Plugin { table, api, inline: api::tb_inline(), profile, stretches };
    if PLUGIN.set(plugin).is_err() {
        eprintln!("insn_count: loaded twice; once is enough");
        return -1;
    }
    // SAFETY: `id` is ours, and the callbacks stay as long as the process.
    unsafe {
        if recording {
            stretch::start();
            api::qemu_plugin_register_atexit_cb(id, on_exit, std::ptr::null_mut());
        }
        api::qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    }
    0
}

extern "C" fn on_exit(_id: u64, _data: *mut c_void) {
    let path = PLUGIN.get().and_then(|p| p.stretches.as_ref());
    if let Some(path) = path
        && let Err(e) = stretch::finish(path)
    {
        eprintln!("insn_count: cannot write {path}: {e}");
    }
}

/// A block is being translated: has its runs counted.
extern "C" fn on_translation(_id: u64, tb: *mut api::Tb) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: `tb` is valid for this call, and so are its instructions; indices are below their
    // number.
    unsafe {
        let count = api::qemu_plugin_tb_n_insns(tb);
        let vaddr = api::qemu_plugin_tb_vaddr(tb);
        let mut code = Vec::with_capacity(64);
        let mut rep = None;
        for i in 0..count {
            let insn = api::qemu_plugin_tb_get_insn(tb, i);
            let (bytes, len) = api::bytes(insn, plugin.api);
            if is_rep(&bytes[..len]) {
                rep = Some(insn);
            }
            code.extend_from_slice(&bytes[..len]);
        }
        let entry = plugin.table.entry(vaddr, count, &code);
        let total = plugin.table.total(vaddr >> 63 == 1);
        match plugin.inline {
            Some(add) => {
                add(tb, api::ADD_U64, total.as_ptr().cast(), count as u64);
                if plugin.profile {
                    add(tb, api::ADD_U64, entry.runs().as_ptr().cast(), 1);
                }
            }
            None => {
                let data = entry.as_ptr();
                api::qemu_plugin_register_vcpu_tb_exec_cb(tb, on_run, api::NO_REGS, data);
            }
        }
        if plugin.stretches.is_some() {
            stretch::watch(tb, plugin.api);
        }
        // Such an instruction ends its block, so there is at most one.
        if let Some(insn) = rep {
            let data = entry.as_ptr();
            api::qemu_plugin_register_vcpu_insn_exec_cb(insn, on_rep, api::NO_REGS, data);
        }
    }
}

/// A block is about to run.
extern "C" fn on_run(_vcpu: c_uint, entry: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: what was registered came from an entry, and entries are never taken away.
    let entry = unsafe { Entry::from_ptr(entry) };
    let total = plugin.table.total(entry.kernel());
    total.store(total.load(Relaxed) + entry.instructions(), Relaxed);
    if plugin.profile {
        entry.runs().store(entry.runs().load(Relaxed) + 1, Relaxed);
    }
}

/// An instruction with a `rep` prefix is about to run: for the first time, or again. It runs again
/// exactly if nothing else ran since it last did: a block of its own, one instruction long.
extern "C" fn on_rep(_vcpu: c_uint, entry: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: as in `on_run`.
    let entry = unsafe { Entry::from_ptr(entry) };
    let table = &plugin.table;
    let now = table.total(false).load(Relaxed) + table.total(true).load(Relaxed);
    let last = table.last_rep.swap(now, Relaxed);
    if entry.instructions() == 1 && now == last + 1 {
        let sum = table.repeated(entry.kernel());
        sum.store(sum.load(Relaxed) + 1, Relaxed);
        entry.repeats().store(entry.repeats().load(Relaxed) + 1, Relaxed);
    }
}

/// Whether an instruction repeats a string operation: legacy prefixes with F2 or F3 among them, at
/// most one REX, then INS, OUTS, MOVS, CMPS, STOS, LODS or SCAS (Intel SDM volume 2, REP).
fn is_rep(bytes: &[u8]) -> bool {
    let prefix = |b: &&u8| {
        matches!(**b, 0xf2 | 0xf3 | 0x66 | 0x67 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65)
    };
    let prefixes = bytes.iter().take_while(prefix).count();
    let (before, rest) = bytes.split_at(prefixes);
    let rest = match rest {
        [0x40..=0x4f, rest @ ..] => rest,
        rest => rest,
    };
    let repeats = before.contains(&0xf2) || before.contains(&0xf3);
    repeats && matches!(rest.first(), Some(0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf))
}
