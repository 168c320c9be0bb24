//! Workers, the objects that they have, and what is made anew for each round.

use abi::{
    CPtr, Error, LARGE_BITS, Label, MapAttr, ObjType, PAGE_BITS, PAGE_SIZE, Rights, ipc_buffer,
};
use libipc::sys;
use userland::own::{Own, Thread};

use crate::calls::{Contents, Record, SLOTS, instruction};
use crate::random::Random;
use crate::raw;

/// Workers of a sandbox.
pub const WORKERS: usize = 4;
/// Records of each.
pub const RECORDS: u64 = 256;
const RECORD: u64 = size_of::<Record>() as u64;
/// Pages that hold them.
const PAGES: u64 = (RECORDS * RECORD).div_ceil(PAGE_SIZE);
const BOTH: Rights = Rights::READ.union(Rights::WRITE);
/// Where workers find their code; control page and records follow. Each has an address of its own, so
/// that they fit into one address space.
const CODE: u64 = 0x10_0000_0000;
const STRIDE: u64 = 64 * PAGE_SIZE;
/// Where the snippets of other instructions begin in the code's page, and the bytes for each.
const SNIPPETS: u64 = 1024;
const SNIPPET: u64 = 32;

/// What a worker has.
pub struct Worker {
    /// Its thread.
    pub thread: Thread,
    /// Where its code begins, in its address space.
    pub code: u64,
    /// This program's view of its control page.
    pub control: u64,
    /// Its position when it faulted last, and how often it has faulted there.
    pub stuck: (u64, u32),
}

/// How often a worker may stop at the same place before it is left alone.
const STOPS: u32 = 3;

impl Worker {
    /// Lets it make its next call, unless it has made all or cannot be helped. Returns whether it runs.
    pub fn go_on(&mut self) -> bool {
        let at = self.calls();
        self.stuck = if self.stuck.0 == at { (at, self.stuck.1 + 1) } else { (at, 1) };
        // It may be gone.
        let words = [self.code, self.thread.stack, 0, 0];
        at < RECORDS
            && self.stuck.1 <= STOPS
            && sys::invoke(self.thread.tcb, Label::ThreadWriteRegisters, words, [1, 0]).is_ok()
    }

    /// Calls that it has made.
    pub fn calls(&self) -> u64 {
        raw::read(self.control) / RECORD
    }

    /// Those that the kernel did not refuse.
    pub fn done(&self) -> u64 {
        raw::read(self.control + 16)
    }
}

/// See the [module](self).
pub struct Sandbox {
    /// Its workers.
    pub workers: heapless::Vec<Worker, WORKERS>,
}

impl Sandbox {
    /// Makes a sandbox whose workers' faults go to `faults`.
    ///
    /// # Errors
    /// What the kernel says: something of an earlier sandbox was left.
    pub fn new(own: &Own, faults: CPtr, r: &mut Random) -> Result<Self, Error> {
        let cspace = own.make(ObjType::CNode, SLOTS.trailing_zeros() as u8)?;
        let vspace = own.make(ObjType::VSpace, 0)?;
        let mut contents = Contents {
            types: [None; SLOTS as usize],
            code: CODE,
            instructions: heapless::Vec::new(),
        };
        let (code, code_at) = own.page()?;
        Self::write_code(code_at, &mut contents, r);
        let mut workers = heapless::Vec::<_, WORKERS>::new();
        for n in 0..WORKERS as u64 {
            // Two share an address space with each other, one has that of its own.
            let space = if n < 3 { vspace } else { own.make(ObjType::VSpace, 0)? };
            let at = CODE + n * STRIDE;
            let map = |frame, at, rights, attr| {
                let copy = own.copy(frame, Rights::all())?;
                own.map(copy, space, at, rights, attr)
            };
            map(code, at, Rights::READ, MapAttr::EXEC)?;
            let (control, control_at) = own.page()?;
            map(control, at + PAGE_SIZE, BOTH, MapAttr::empty())?;
            let mut records = heapless::Vec::<u64, { PAGES as usize }>::new();
            for i in 0..PAGES {
                let (frame, here) = own.page()?;
                map(frame, at + (2 + i) * PAGE_SIZE, Rights::READ, MapAttr::empty())?;
                let _ = records.push(here);
            }
            raw::write(control_at, 0);
            raw::write(control_at + 8, RECORDS * RECORD);
            let thread = own.thread_in(cspace, space, faults, 40 + 10 * n as u8)?;
            let worker = Worker { thread, code: at, control: control_at, stuck: (0, 0) };
            let _ = workers.push((worker, records));
        }
        Self::fill(own, cspace, vspace, faults, &workers, &mut contents, r)?;
        for (worker, records) in &workers {
            let moved = worker.code - CODE;
            for i in 0..RECORDS {
                let mut record = contents.record(r);
                if record[10] != 0 {
                    record[10] += moved;
                }
                for (word, value) in record.into_iter().enumerate() {
                    let offset = i * RECORD + 8 * word as u64;
                    let page = records[(offset / PAGE_SIZE) as usize];
                    raw::write(page + offset % PAGE_SIZE, value);
                }
            }
            for (i, word) in contents.buffer(r).into_iter().enumerate() {
                let at = worker.thread.buffer_at + (ipc_buffer::SEND_CAPS + 8 * i) as u64;
                raw::write(at, word);
            }
        }
        Ok(Self { workers: workers.into_iter().map(|(worker, _)| worker).collect() })
    }

    /// The worker's code, and behind it other instructions, each with a way back.
    fn write_code(at: u64, contents: &mut Contents, r: &mut Random) {
        raw::write_bytes(at, raw::worker_code());
        for i in 0..contents.instructions.capacity() as u64 {
            let offset = SNIPPETS + i * SNIPPET;
            let mut bytes = instruction(r, i);
            let back = 0i32.wrapping_sub(offset as i32 + bytes.len() as i32 + 5);
            let _ = bytes.push(0xe9);
            let _ = bytes.extend_from_slice(&back.to_le_bytes());
            raw::write_bytes(at + offset, &bytes);
            let _ = contents.instructions.push(CODE + offset);
        }
    }

    /// Puts some of everything into the workers' CSpace.
    fn fill<W>(
        own: &Own,
        cspace: CPtr,
        vspace: CPtr,
        faults: CPtr,
        workers: &[(Worker, W)],
        contents: &mut Contents,
        r: &mut Random,
    ) -> Result<(), Error> {
        let free = |contents: &mut Contents, r: &mut Random, ty| loop {
            let slot = 1 + r.below(SLOTS - 1);
            if contents.types[slot as usize].is_none() {
                contents.types[slot as usize] = Some(ty);
                return slot;
            }
        };
        let give = |slot, cap| {
            let words = [slot, own.cspace, cap, 0];
            sys::invoke(cspace, Label::CNodeMove, words, [0; 2]).map(drop)
        };
        // The only capabilities to these.
        for (ty, bits, count) in [
            (ObjType::Untyped, 15, 1),
            (ObjType::Untyped, 13, 2),
            (ObjType::Untyped, 10, 1),
            (ObjType::CNode, 3, 2),
            (ObjType::CNode, 6, 1),
            (ObjType::Thread, 0, 2),
            (ObjType::Reply, 0, 4),
            (ObjType::Endpoint, 0, 3),
            (ObjType::Notification, 0, 3),
            (ObjType::SchedContext, 0, 2),
            (ObjType::VSpace, 0, 1),
            (ObjType::PageTable, 0, 5),
            (ObjType::Frame, PAGE_BITS, 4),
            (ObjType::Timer, 0, 3),
        ] {
            for _ in 0..count {
                let cap = own.make(ty, bits)?;
                give(free(contents, r, ty), cap)?;
            }
        }
        // It takes long to clear.
        if r.once_in(16) {
            let large = own.make(ObjType::Frame, LARGE_BITS)?;
            give(free(contents, r, ObjType::Frame), large)?;
        }
        // Copies, without which the workers would not be there.
        let mut copies: heapless::Vec<(ObjType, CPtr), 24> = heapless::Vec::new();
        let _ = copies.extend_from_slice(&[
            (ObjType::CNode, cspace),
            (ObjType::CNode, cspace),
            (ObjType::VSpace, vspace),
            (ObjType::Endpoint, own.mint(faults, Rights::WRITE | Rights::GRANT, 0x7777)?),
        ]);
        for (worker, _) in workers {
            let _ = copies.push((ObjType::Thread, worker.thread.tcb));
            let _ = copies.push((ObjType::SchedContext, worker.thread.sched));
            let _ = copies.push((ObjType::Frame, worker.thread.buffer));
        }
        for (ty, cap) in copies {
            let slot = free(contents, r, ty);
            sys::copy(cspace, slot, own.cspace, cap, Rights::all())?;
        }
        Ok(())
    }
}
