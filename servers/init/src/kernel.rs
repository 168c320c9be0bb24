//! What init needs of the kernel and of memory it has mapped, as a trait: the whole of building,
//! supervising and restarting runs on the host against a model of the kernel.

use abi::{CPtr, Error, Label, MapAttr, ObjType, Rights, UserRegs};
use libipc::log::{PANIC, READY};

use crate::layout::ROOT;
use crate::noise::Instruction;

/// The kernel and init's windows into the memory of others.
///
/// Slots without a named CNode are in init's own CSpace.
pub trait Kernel {
    /// Invokes a method of a kernel object; returns the words of the reply.
    fn invoke(
        &mut self,
        cap: CPtr,
        label: Label,
        words: [u64; 4],
        more: [u64; 2],
    ) -> Result<[u64; 4], Error>;
    /// Signals a notification.
    fn signal(&mut self, ntfn: CPtr);
    /// Registers that the last [`Label::ThreadReadRegisters`] left in init's IPC buffer.
    fn registers(&mut self) -> UserRegs;
    /// Nanoseconds since boot.
    fn now_ns(&self) -> u64;
    /// The processor's instruction for random bits, the better one if it has both.
    fn random_instruction(&self) -> Option<Instruction>;
    /// Executes it. `None`: it has nothing now.
    fn random_word(&mut self, instruction: Instruction) -> Option<u64>;
    /// Does a little work on memory and says how many ticks of the time-stamp counter it took.
    fn jitter(&mut self) -> u64;
    /// Writes into a window ([`crate::layout::window`]); the range must be mapped.
    fn write(&mut self, vaddr: u64, bytes: &[u8]);
    /// Reads from a window.
    fn read(&mut self, vaddr: u64, into: &mut [u8]);
    /// Takes bytes from the log page at `vaddr`.
    fn log_read(&mut self, vaddr: u64, into: &mut [u8]) -> usize;
    /// Takes the last words from the log page at `vaddr`.
    fn log_panic(&mut self, vaddr: u64, into: &mut [u8; PANIC]) -> usize;
    /// What incarnation number `incarnation` said in the log page at `vaddr` when it was ready.
    fn log_ready(&mut self, vaddr: u64, incarnation: u32, into: &mut [u8; READY]) -> Option<usize>;
    /// Bytes that the writer of the log page at `vaddr` had no room for.
    fn log_dropped(&mut self, vaddr: u64) -> u32;
    /// Whether the writer of the log page at `vaddr` waits for room; forgets it.
    fn log_wants_room(&mut self, vaddr: u64) -> bool;
    /// Appends console input to the page at `vaddr`; returns how much fitted.
    fn log_write(&mut self, vaddr: u64, bytes: &[u8]) -> usize;

    /// Makes `count` objects in slots `index..` of `cnode`.
    #[expect(clippy::too_many_arguments, reason = "the words of the invocation, one each")]
    fn retype(
        &mut self,
        untyped: CPtr,
        ty: ObjType,
        size_bits: u8,
        cnode: CPtr,
        index: u64,
        count: u64,
        offset: u64,
    ) -> Result<(), Error> {
        let words = [ty as u64, size_bits as u64, cnode, index];
        self.invoke(untyped, Label::UntypedRetype, words, [count, offset]).map(|_| ())
    }
    /// Copies slot `src` to `(cnode, dest)` with at most `rights`.
    fn copy(&mut self, cnode: CPtr, dest: u64, src: u64, rights: Rights) -> Result<(), Error> {
        let words = [dest, ROOT, src, rights.bits() as u64];
        self.invoke(cnode, Label::CNodeCopy, words, [0; 2]).map(|_| ())
    }
    /// As [`Kernel::copy`], with a badge or guard.
    fn mint(
        &mut self,
        cnode: CPtr,
        dest: u64,
        src: u64,
        rights: Rights,
        badge: u64,
    ) -> Result<(), Error> {
        let words = [dest, ROOT, src, rights.bits() as u64];
        self.invoke(cnode, Label::CNodeMint, words, [badge, 0]).map(|_| ())
    }
    /// Moves slot `src` to `(cnode, dest)`.
    fn move_to(&mut self, cnode: CPtr, dest: u64, src: u64) -> Result<(), Error> {
        self.invoke(cnode, Label::CNodeMove, [dest, ROOT, src, 0], [0; 2]).map(|_| ())
    }
    /// Deletes a slot.
    fn delete(&mut self, index: u64) -> Result<(), Error> {
        self.invoke(ROOT, Label::CNodeDelete, [index, 0, 0, 0], [0; 2]).map(|_| ())
    }
    /// Deletes everything derived from a slot's capability.
    fn revoke(&mut self, index: u64) -> Result<(), Error> {
        self.invoke(ROOT, Label::CNodeRevoke, [index, 0, 0, 0], [0; 2]).map(|_| ())
    }
    /// Takes an endpoint out of service until its server receives again.
    fn close_endpoint(&mut self, index: u64) -> Result<(), Error> {
        self.invoke(ROOT, Label::CNodeCloseEndpoint, [index, 0, 0, 0], [0; 2]).map(|_| ())
    }
    /// Maps a frame.
    fn map(
        &mut self,
        frame: CPtr,
        vspace: CPtr,
        vaddr: u64,
        rights: Rights,
        attr: MapAttr,
    ) -> Result<(), Error> {
        let words = [vspace, vaddr, rights.bits() as u64, attr.bits() as u64];
        self.invoke(frame, Label::FrameMap, words, [0; 2]).map(|_| ())
    }
    /// Maps a page table at the highest level missing above `vaddr`.
    fn map_table(&mut self, table: CPtr, vspace: CPtr, vaddr: u64) -> Result<u64, Error> {
        self.invoke(table, Label::TableMap, [vspace, vaddr, 0, 0], [0; 2]).map(|w| w[0])
    }
    /// Physical address of a frame.
    fn frame_address(&mut self, frame: CPtr) -> Result<u64, Error> {
        self.invoke(frame, Label::FrameAddress, [0; 4], [0; 2]).map(|w| w[0])
    }
    /// Bytes left in an untyped.
    fn untyped_left(&mut self, untyped: CPtr) -> Result<u64, Error> {
        self.invoke(untyped, Label::UntypedInfo, [0; 4], [0; 2]).map(|w| w[0])
    }
    /// Reads an I/O port of `bytes` 1, 2 or 4. init owns all ports, so it cannot fail; all ones
    /// is what an absent device reads as.
    fn port_in(&mut self, port: u16, bytes: u8) -> u32 {
        let words = [port as u64, bytes as u64, 0, 0];
        self.invoke(abi::init_slot::IO_PORTS, Label::PortIn, words, [0; 2])
            .map_or(u32::MAX, |w| w[0] as u32)
    }
    /// Writes an I/O port.
    fn port_out(&mut self, port: u16, bytes: u8, value: u32) {
        let words = [port as u64, bytes as u64, value as u64, 0];
        let _ = self.invoke(abi::init_slot::IO_PORTS, Label::PortOut, words, [0; 2]);
    }
}
