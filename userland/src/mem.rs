//! Memory that a program shares with netd and init: the only unsafe code of this crate.
//!
//! Socket words are atomics and may be referenced. Receive rings are read by raw copies, since
//! netd writes them at any time. Send rings are written by this process alone: netd and the NIC
//! read them through mappings of their own, and only what `tx_tail` has published; a mutable slice
//! into the unpublished part therefore meets no other access.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use libipc::log::LogPage;
use libipc::nic::Status;
use libipc::ring::Memory;
use libipc::shared::Bytes;
use libipc::sock::{AppSock, IdEntry, Layout, MAX_SOCKETS, Record};
use libipc::start::{self, StartInfo};

/// The four regions of a session.
#[derive(Clone, Copy)]
pub struct SessionMem {
    app: usize,
    net: usize,
    layout: Layout,
    tx: *mut u8,
    tx_len: usize,
    rx: Bytes,
}

impl SessionMem {
    /// The session regions of this process, once: a second call gets `None`, so that every ring
    /// has one end here. Also `None` if the manifest gives no session, or the regions are too
    /// small for `sockets` sockets.
    pub fn of_process(info: &StartInfo, sockets: u32) -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let layout = Layout { sockets };
        let (app, net) = (info.region("session.app")?, info.region("session.net")?);
        let (tx, rx) = (info.region("session.tx")?, info.region("session.rx")?);
        let fits = sockets.is_power_of_two()
            && sockets <= MAX_SOCKETS
            && layout.app_bytes() as u64 <= app.len
            && layout.net_bytes() as u64 <= net.len
            && [app, net, tx, rx].iter().all(|r| r.vaddr != 0);
        if !fits || TAKEN.swap(true, AcqRel) {
            return None;
        }
        // SAFETY: init wrote the start information and maps these regions, page-aligned and of
        // these lengths, for the process's life: `app` and `tx` writable. `TAKEN` makes this the
        // only mapping object, so nothing else in the process refers to them.
        Some(unsafe {
            Self::new(
                app.vaddr as usize,
                net.vaddr as usize,
                sockets,
                (tx.vaddr as *mut u8, tx.len as usize),
                (rx.vaddr as *mut u8, rx.len as usize),
            )
        })
    }

    /// The regions at these addresses; `tx` and `rx` as base and length.
    ///
    /// # Safety
    /// They are mapped for the process's life and hold [`Layout`] of `sockets`, `app` and `tx`
    /// writable, page-aligned; in this process, nothing else refers to them.
    pub unsafe fn new(
        app: usize,
        net: usize,
        sockets: u32,
        tx: (*mut u8, usize),
        rx: (*mut u8, usize),
    ) -> Self {
        let layout = Layout { sockets };
        // SAFETY: mapped for ever by the caller's promise, only read here.
        let rx = unsafe { Bytes::new(rx.0, rx.1) };
        Self { app, net, layout, tx: tx.0, tx_len: tx.1, rx }
    }

    /// Sockets of the session.
    pub fn sockets(&self) -> u32 {
        self.layout.sockets
    }

    /// Whether a send and a receive ring lie inside the regions and are powers of two.
    pub fn holds(&self, tx_off: u32, tx_size: u32, rx_off: u32, rx_size: u32) -> bool {
        tx_size.is_power_of_two()
            && rx_size.is_power_of_two()
            && tx_off as usize + tx_size as usize <= self.tx_len
            && rx_off as usize + rx_size as usize <= self.rx.len()
    }

    /// This program's words of a socket; ids beyond the session read as its last one.
    pub fn app_sock(&self, id: u32) -> &'static AppSock {
        let id = id.min(self.layout.sockets - 1);
        // SAFETY: inside the `app` region by the bound and `Layout`; all atomics.
        unsafe { &*((self.app + self.layout.app_sock(id)) as *const AppSock) }
    }

    /// netd's words of a socket; ids beyond the session read as its last one.
    pub fn record(&self, id: u32) -> &'static Record {
        let id = id.min(self.layout.sockets - 1);
        // SAFETY: inside the `net` region by the bound and `Layout`; all atomics, only read.
        unsafe { &*((self.net + self.layout.record(id)) as *const Record) }
    }

    /// netd's word on the interface.
    pub fn link(&self) -> &'static AtomicU64 {
        // SAFETY: inside the `net` region by `Layout`, aligned; atomic, only read.
        unsafe { &*((self.net + Layout::LINK) as *const AtomicU64) }
    }

    /// Whether this program wants to be woken when that changes.
    pub fn watch(&self) -> &'static AtomicU64 {
        // SAFETY: inside the `app` region by `Layout`, aligned; atomic.
        unsafe { &*((self.app + Layout::WATCH) as *const AtomicU64) }
    }

    /// The submit ring: this program produces.
    pub fn submit(&self) -> Memory<IdEntry> {
        // SAFETY: both sides lie where `Layout` says, inside mapped regions, 64-byte aligned.
        unsafe {
            Memory::new(
                self.app + Layout::PRODUCER,
                self.net + Layout::SUBMIT_CONSUMER,
                self.layout.sockets,
            )
        }
    }

    /// The ready ring: this program consumes.
    pub fn ready(&self) -> Memory<IdEntry> {
        // SAFETY: as in `submit`.
        unsafe {
            Memory::new(
                self.net + Layout::PRODUCER,
                self.app + Layout::READY_CONSUMER,
                self.layout.sockets,
            )
        }
    }

    /// Lends `f` the bytes `offset..offset + len` of the send region; `None` if out of range.
    /// The range must lie in the unpublished part of the caller's own send ring.
    pub fn with_tx<R>(
        &self,
        offset: usize,
        len: usize,
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        if offset.checked_add(len)? > self.tx_len {
            return None;
        }
        // SAFETY: inside the writable region. Rings of different sockets are disjoint (sockd
        // allots them), a socket is borrowed while `f` runs, and no other slice into the region
        // outlives its `f`. netd and the NIC only read, and nothing depends on what they see of
        // this part before `tx_tail` is published.
        Some(f(unsafe { core::slice::from_raw_parts_mut(self.tx.add(offset), len) }))
    }

    /// Copies out of the receive region; `false` if out of range.
    #[must_use]
    pub fn read_rx(&self, offset: usize, into: &mut [u8]) -> bool {
        self.rx.read(offset, into)
    }
}

/// Zeroes this program's words of both id rings, in which an earlier incarnation may have left
/// anything: before the session is opened, see [`libipc::sock`].
pub fn forget_rings(info: &StartInfo) {
    let Some(app) = info.region("session.app") else { return };
    if app.vaddr == 0 || app.len < Layout::PRODUCER as u64 + 64 {
        return;
    }
    for offset in (0..Layout::PRODUCER as u64 + 64).step_by(8) {
        // SAFETY: inside the region, which init maps writable for the process's life; atomic.
        unsafe { (*((app.vaddr + offset) as *const AtomicU64)).store(0, Relaxed) };
    }
}

/// The process's log page.
pub fn log_page() -> &'static LogPage {
    // SAFETY: init maps this page writable in every process for its whole life; all atomics.
    unsafe { &*(start::LOG as *const LogPage) }
}

/// The page through which console input arrives. Only for the process that has the console.
pub fn console_page() -> &'static LogPage {
    // SAFETY: init maps this page in the process whose manifest entry has `console`, and callers
    // are reached only with that knowledge (`Console::open`); elsewhere the first access is a
    // fault of this program alone. All atomics.
    unsafe { &*(start::CONSOLE as *const LogPage) }
}

/// The NIC driver's status words, if the manifest shows region `nic.drv` to this program.
pub fn nic_status(info: &StartInfo) -> Option<&'static Status> {
    let region = info.region("nic.drv")?;
    let fits = region.vaddr != 0 && region.len as usize >= size_of::<Status>();
    // SAFETY: init maps the region readable for the process's life; all atomics, only read.
    fits.then(|| unsafe { &*(region.vaddr as *const Status) })
}

/// The ring of the kernel's trace, if the manifest has this program read it.
pub fn trace_ring(info: &StartInfo) -> Option<Bytes> {
    let region = info.region(libipc::trace::REGION).filter(|r| r.vaddr != 0)?;
    // SAFETY: init maps the region readable for the process's life; it is only read.
    Some(unsafe { Bytes::new(region.vaddr as *mut u8, region.len as usize) })
}

/// Memory of a session for tests on the host.
#[cfg(test)]
pub mod testing {
    extern crate std;
    use super::*;
    use core::alloc::Layout as Alloc;
    use std::alloc::alloc_zeroed;

    /// A region as netd sees it.
    #[derive(Clone, Copy)]
    pub struct Region(*mut u8, usize);

    impl Region {
        // Leaked: handles to a session live as long as the process.
        fn new(len: usize) -> Self {
            // SAFETY: the size is not zero.
            Self(unsafe { alloc_zeroed(Alloc::from_size_align(len.max(1), 4096).unwrap()) }, len)
        }
        /// Writes as netd would.
        pub fn write(&self, offset: usize, bytes: &[u8]) {
            assert!(offset + bytes.len() <= self.1);
            // SAFETY: inside the region; tests have one thread.
            unsafe {
                core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.add(offset), bytes.len())
            }
        }
        /// Reads as netd would.
        pub fn read(&self, offset: usize, into: &mut [u8]) {
            assert!(offset + into.len() <= self.1);
            // SAFETY: as above.
            unsafe {
                core::ptr::copy_nonoverlapping(self.0.add(offset), into.as_mut_ptr(), into.len());
            }
        }
    }

    impl SessionMem {
        /// A word of the `app` region.
        pub fn app_word(&self, offset: usize) -> &'static AtomicU64 {
            assert!(offset < self.layout.app_bytes());
            // SAFETY: inside the region, which is leaked; atomic.
            unsafe { &*((self.app + offset) as *const AtomicU64) }
        }
        /// A word of the `net` region, to be spoilt.
        pub fn net_word(&self, offset: usize) -> &'static AtomicU64 {
            assert!(offset < self.layout.net_bytes());
            // SAFETY: inside the region, which is leaked; atomic.
            unsafe { &*((self.net + offset) as *const AtomicU64) }
        }
    }

    /// A fresh session with its `tx` and `rx`.
    pub fn session(sockets: u32, tx_len: usize, rx_len: usize) -> (SessionMem, Region, Region) {
        let layout = Layout { sockets };
        let (tx, rx) = (Region::new(tx_len), Region::new(rx_len));
        let (app, net) = (Region::new(layout.app_bytes()), Region::new(layout.net_bytes()));
        // SAFETY: just allocated, leaked, of the right sizes.
        let mem = unsafe {
            SessionMem::new(app.0 as usize, net.0 as usize, sockets, (tx.0, tx.1), (rx.0, rx.1))
        };
        (mem, tx, rx)
    }
}
