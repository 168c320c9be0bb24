//! A model of the kernel: what each invocation may and may not do, written down once more, plain
//! and slow. It panics where the real kernel would be driven into undefined ground, and returns the
//! errors of [`abi::Error`] elsewhere.

use abi::{
    CPtr, Error, LARGE_BITS, Label, MapAttr, ObjType, PAGE_BITS, Rights, UntypedDesc, UserRegs,
    init_slot,
};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use libipc::log::{PANIC, READY};

use crate::kernel::Kernel;
use crate::noise::Instruction;
use crate::testing::outside::Outside;

type Object = u64;
type CapId = u64;
type Place = (Object, u64);

/// A capability.
#[derive(Clone, Debug)]
pub struct Cap {
    id: CapId,
    parent: Option<CapId>,
    /// Type.
    pub ty: ObjType,
    object: Object,
    paddr: u64,
    bits: u8,
    device: bool,
    /// Rights.
    pub rights: Rights,
    /// Badge.
    pub badge: u64,
    mapped: Option<(Object, u64)>,
}

/// A mapped page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    paddr: u64,
    bits: u8,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
    /// Uncached.
    pub uncached: bool,
}

/// An address space.
#[derive(Default)]
pub struct Space {
    /// Pages by address.
    pub pages: BTreeMap<u64, Page>,
    tables: BTreeSet<(u8, u64)>,
}

/// A thread.
#[derive(Default, Clone)]
pub struct Thread {
    cspace: Object,
    vspace: Object,
    /// Badge of its fault endpoint.
    pub fault_badge: u64,
    /// IPC buffer.
    pub buffer: u64,
    /// Priority.
    pub priority: u8,
    /// Name.
    pub name: Vec<u8>,
    /// Number in traces.
    pub number: u32,
    bound: Option<Object>,
    sched: Option<Object>,
    /// Budget and period of its scheduling context, ns.
    pub budget: (u64, u64),
    /// Whether its time-outs go where its faults go.
    pub tells_timeouts: bool,
    /// Registers.
    pub regs: UserRegs,
    /// Whether it may run.
    pub running: bool,
}

/// An IOMMU.
#[derive(Default)]
pub struct Iommu {
    bound: BTreeMap<u16, Object>,
    buses: BTreeSet<u8>,
    /// Records of refused transfers: address, device and reason.
    pub faults: VecDeque<[u64; 2]>,
    /// How often init has let the interrupt through again.
    pub acknowledged: u32,
}

/// A timer: notification and badge, deadline.
#[derive(Default)]
struct Timer {
    target: Option<(Object, u64)>,
    deadline: Option<u64>,
}

/// The model.
pub struct Model {
    slots: BTreeMap<Place, Cap>,
    watermarks: BTreeMap<CapId, u64>,
    spaces: BTreeMap<Object, Space>,
    threads: BTreeMap<Object, Thread>,
    timers: BTreeMap<Object, Timer>,
    scheds: BTreeMap<Object, (u64, u64)>,
    irqs: BTreeMap<u64, (Object, u64)>,
    /// Endpoints that were closed.
    closed: BTreeSet<Object>,
    /// Frames of the trace's ring, whether it is written, and what was logged.
    ring: Vec<Object>,
    tracing: bool,
    /// Code and words of each record that was logged.
    pub logged: Vec<[u64; 3]>,
    memory: BTreeMap<u64, Box<[u8; 4096]>>,
    /// Signalled bits by notification.
    pub signals: BTreeMap<Object, u64>,
    root: Object,
    own_space: Object,
    dumped: UserRegs,
    next: u64,
    /// Nanoseconds since boot.
    pub now: u64,
    /// The IOMMU, if there is one.
    pub iommu: Option<Iommu>,
    /// Everything around the kernel.
    pub outside: Outside,
    /// Invocations so far.
    pub invocations: u64,
    /// Nanoseconds that an invocation takes.
    pub step_ns: u64,
    /// Fail the invocation with this number with `NoMemory`.
    pub fail_at: Option<u64>,
}

const ROOT_BITS: u8 = 12;
/// Objects that are not made: far from the numbers of those that are.
const UNTYPEDS: Object = 1 << 32;
const IRQS: Object = 1 << 33;

impl Model {
    /// Interrupt lines that have a handler, with their flags.
    pub fn lines(&self) -> BTreeSet<(u64, u64)> {
        let irqs = self.slots.values().filter(|c| c.ty == ObjType::IrqHandler);
        irqs.map(|c| (c.object - IRQS, c.badge)).collect()
    }
    /// A machine as the kernel leaves it to init.
    pub fn new(untypeds: &[UntypedDesc]) -> Self {
        let mut m = Self {
            slots: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            spaces: BTreeMap::new(),
            threads: BTreeMap::new(),
            timers: BTreeMap::new(),
            scheds: BTreeMap::new(),
            irqs: BTreeMap::new(),
            closed: BTreeSet::new(),
            ring: Vec::new(),
            tracing: false,
            logged: Vec::new(),
            memory: BTreeMap::new(),
            signals: BTreeMap::new(),
            root: 1,
            own_space: 2,
            dumped: UserRegs::default(),
            next: 100,
            now: 1_000_000,
            iommu: None,
            outside: Outside::default(),
            invocations: 0,
            step_ns: 0,
            fail_at: None,
        };
        m.root_cap(init_slot::CNODE, ObjType::CNode, 1, 0, ROOT_BITS);
        m.root_cap(init_slot::VSPACE, ObjType::VSpace, 2, 0, 0);
        m.root_cap(init_slot::TCB, ObjType::Thread, 3, 0, 0);
        m.root_cap(init_slot::IRQ_CONTROL, ObjType::IrqControl, 4, 0, 0);
        m.root_cap(init_slot::IO_PORTS, ObjType::IoPort, 5, 0, 0);
        m.root_cap(init_slot::IPC_BUFFER, ObjType::Frame, 6, 0x1000, PAGE_BITS);
        m.root_cap(init_slot::SCHED, ObjType::SchedContext, 7, 0, 0);
        m.root_cap(init_slot::TRACE, ObjType::Trace, 8, 0, 0);
        m.spaces.insert(2, Space::default());
        m.threads.insert(3, Thread { cspace: 1, vspace: 2, ..Default::default() });
        for (slot, u) in (init_slot::UNTYPED..).zip(untypeds) {
            let object = UNTYPEDS + slot;
            m.root_cap(slot, ObjType::Untyped, object, u.paddr, u.size_bits as u8);
            m.slots.get_mut(&(1, slot)).unwrap().device = u.device == 1;
        }
        m
    }
    /// With an IOMMU.
    pub fn with_iommu(mut self) -> Self {
        self.root_cap(init_slot::IO_CONTROL, ObjType::IoControl, 8, 0, 0);
        self.iommu = Some(Iommu::default());
        self
    }
    /// What a device reaches: pages by address.
    pub fn reach(&self, device: u16) -> Option<&Space> {
        self.spaces.get(self.iommu.as_ref()?.bound.get(&device)?)
    }
    /// The VSpace or IoSpace at `cptr`.
    fn space(&self, cptr: CPtr) -> Result<Object, Error> {
        let space = self.typed(cptr, ObjType::VSpace).or(self.typed(cptr, ObjType::IoSpace));
        space.map(|c| c.object)
    }
    fn root_cap(&mut self, slot: u64, ty: ObjType, object: Object, paddr: u64, bits: u8) {
        let id = self.fresh();
        let cap = Cap {
            id,
            parent: None,
            ty,
            object,
            paddr,
            bits,
            device: false,
            rights: Rights::all(),
            badge: 0,
            mapped: None,
        };
        self.slots.insert((1, slot), cap);
    }
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
    /// Slots in use in init's own CSpace.
    pub fn root_slots(&self) -> usize {
        self.slots.keys().filter(|(node, _)| *node == self.root).count()
    }
    /// How many endpoints were closed since the last call.
    pub fn take_closed(&mut self) -> usize {
        core::mem::take(&mut self.closed).len()
    }
    /// All capabilities that exist.
    pub fn caps(&self) -> usize {
        self.slots.len()
    }
    /// A capability by its place in init's CSpace.
    pub fn cap(&self, cptr: CPtr) -> Result<&Cap, Error> {
        self.slots.get(&(self.root, cptr)).ok_or(Error::InvalidCap)
    }
    fn typed(&self, cptr: CPtr, ty: ObjType) -> Result<&Cap, Error> {
        self.cap(cptr).and_then(|c| if c.ty == ty { Ok(c) } else { Err(Error::WrongType) })
    }
    /// Slots of a thread's CSpace by number.
    pub fn cspace_of(&self, thread: CPtr) -> BTreeMap<u64, Cap> {
        let node = self.threads[&self.cap(thread).unwrap().object].cspace;
        let slots = self.slots.iter().filter(|((n, _), _)| *n == node);
        slots.map(|((_, slot), cap)| (*slot, cap.clone())).collect()
    }
    /// A thread by its capability.
    pub fn thread(&self, cptr: CPtr) -> &Thread {
        &self.threads[&self.cap(cptr).unwrap().object]
    }
    /// Changes a thread's registers, as its own running would.
    pub fn run(&mut self, cptr: CPtr, change: impl FnOnce(&mut UserRegs)) {
        let object = self.cap(cptr).unwrap().object;
        change(&mut self.threads.get_mut(&object).unwrap().regs);
    }
    /// The address space of a thread.
    pub fn space_of(&self, thread: CPtr) -> &Space {
        &self.spaces[&self.thread(thread).vspace]
    }
    /// Reads memory as the thread sees it.
    pub fn peek(&self, thread: CPtr, vaddr: u64, len: usize) -> Vec<u8> {
        let space = self.thread(thread).vspace;
        (vaddr..vaddr + len as u64).map(|a| self.byte(space, a)).collect()
    }
    /// Writes memory as the thread would.
    pub fn poke(&mut self, thread: CPtr, vaddr: u64, bytes: &[u8]) {
        let space = self.thread(thread).vspace;
        for (a, b) in (vaddr..).zip(bytes) {
            assert!(self.page(space, a).is_some_and(|(_, p)| p.write), "not writable: {a:#x}");
            *self.byte_mut(space, a) = *b;
        }
    }
    /// Bits signalled at the notification that is bound to a thread, cleared.
    pub fn take_signals(&mut self, thread: CPtr) -> u64 {
        let bound = self.thread(thread).bound.expect("bound");
        self.signals.remove(&bound).unwrap_or(0)
    }
    /// Timer deadlines, in init's own timer slot.
    pub fn deadline(&self, timer: CPtr) -> Option<u64> {
        self.timers[&self.cap(timer).unwrap().object].deadline
    }
    /// What was printed since the last call.
    pub fn printed(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.outside.printed)).unwrap().replace('\r', "")
    }

    fn page(&self, space: Object, vaddr: u64) -> Option<(u64, Page)> {
        let (at, page) = self.spaces[&space].pages.range(..=vaddr).next_back()?;
        (vaddr - at < 1 << page.bits).then_some((*at, *page))
    }
    fn paddr(&self, space: Object, vaddr: u64) -> u64 {
        let (at, page) = self.page(space, vaddr).unwrap_or_else(|| panic!("unmapped: {vaddr:#x}"));
        page.paddr + (vaddr - at)
    }
    fn byte(&self, space: Object, vaddr: u64) -> u8 {
        let paddr = self.paddr(space, vaddr);
        self.memory.get(&(paddr >> 12)).map_or(0, |page| page[(paddr & 4095) as usize])
    }
    fn byte_mut(&mut self, space: Object, vaddr: u64) -> &mut u8 {
        let paddr = self.paddr(space, vaddr);
        let page = self.memory.entry(paddr >> 12).or_insert_with(|| Box::new([0; 4096]));
        &mut page[(paddr & 4095) as usize]
    }

    /// A capability as the kernel describes it.
    fn told(cap: &Cap, slot: u64) -> [u64; 4] {
        let (data, link) = match cap.mapped {
            Some((space, vaddr)) => (vaddr, space),
            None => (cap.badge, 0),
        };
        abi::CapInfo {
            slot: slot as u32,
            ty: cap.ty,
            size_bits: cap.bits,
            rights: cap.rights,
            device: cap.device,
            write: false,
            attr: MapAttr::empty(),
            object: cap.object,
            data,
            link,
        }
        .to_words()
    }
    fn has_children(&self, id: CapId) -> bool {
        self.slots.values().any(|c| c.parent == Some(id))
    }
    fn unmap(&mut self, cap: &Cap) {
        if let Some((space, vaddr)) = cap.mapped
            && let Some(space) = self.spaces.get_mut(&space)
        {
            match cap.ty {
                ObjType::Frame => drop(space.pages.remove(&vaddr)),
                _ => panic!("init never deletes page tables"),
            }
        }
    }
    fn remove(&mut self, place: Place) {
        let Some(cap) = self.slots.remove(&place) else { return };
        self.unmap(&cap);
        for c in self.slots.values_mut().filter(|c| c.parent == Some(cap.id)) {
            c.parent = cap.parent;
        }
        if self.slots.values().any(|c| c.object == cap.object) {
            return;
        }
        match cap.ty {
            ObjType::CNode => {
                let inner: Vec<Place> =
                    self.slots.keys().filter(|(n, _)| *n == cap.object).copied().collect();
                inner.into_iter().for_each(|p| self.remove(p));
            }
            ObjType::Thread => drop(self.threads.remove(&cap.object)),
            ObjType::Timer => drop(self.timers.remove(&cap.object)),
            ObjType::SchedContext => {
                for t in self.threads.values_mut().filter(|t| t.sched == Some(cap.object)) {
                    t.sched = None;
                }
            }
            _ => {}
        }
    }
    fn revoke(&mut self, id: CapId) {
        while let Some(place) =
            self.slots.iter().find(|(_, c)| c.parent == Some(id)).map(|(p, _)| *p)
        {
            let child = self.slots[&place].id;
            self.revoke(child);
            if self.slots.get(&place).is_some_and(|c| c.id == child) {
                self.remove(place);
            }
        }
    }

    fn retype(&mut self, untyped: &Cap, w: [u64; 4], count: u64, offset: u64) -> Result<(), Error> {
        let ty = ObjType::from_raw(w[0]).ok_or(Error::Range)?;
        let bits = ty.bits(w[1] as u8).ok_or(Error::Range)?;
        let node = self.typed(w[2], ObjType::CNode)?.clone();
        let numbered = matches!(ty, ObjType::VSpace | ObjType::IoSpace);
        if count == 0 || count > 256 || (numbered && count != 1) {
            return Err(Error::Range);
        }
        if ty == ObjType::IoSpace && self.iommu.is_none() {
            return Err(Error::NoMemory);
        }
        if w[3] + count > 1 << node.bits {
            return Err(Error::Range);
        }
        if (w[3]..w[3] + count).any(|i| self.slots.contains_key(&(node.object, i))) {
            return Err(Error::Occupied);
        }
        let children = self.has_children(untyped.id);
        let mark =
            if children { self.watermarks.get(&untyped.id).copied().unwrap_or(0) } else { 0 };
        let wanted = if untyped.device && offset != 0 { offset } else { mark };
        if wanted < mark || untyped.device && ty != ObjType::Frame {
            return Err(Error::Range);
        }
        let start = wanted.next_multiple_of(1 << bits);
        if start + (count << bits) > 1 << untyped.bits {
            return Err(Error::NoMemory);
        }
        self.watermarks.insert(untyped.id, start + (count << bits));
        for i in 0..count {
            let (id, object) = (self.fresh(), self.fresh());
            let paddr = untyped.paddr + start + (i << bits);
            if !untyped.device {
                for page in paddr >> 12..(paddr + (1 << bits)).div_ceil(4096) {
                    if ty != ObjType::Untyped {
                        self.memory.remove(&page);
                    }
                }
            }
            match ty {
                ObjType::Thread => drop(self.threads.insert(object, Thread::default())),
                ObjType::VSpace => drop(self.spaces.insert(object, Space::default())),
                ObjType::IoSpace => {
                    // Three levels: the root stands where a thread's tables have two.
                    let tables = (0..512).map(|i| (39, i)).collect();
                    self.spaces.insert(object, Space { tables, ..Space::default() });
                }
                ObjType::Timer => drop(self.timers.insert(object, Timer::default())),
                _ => {}
            }
            let size_bits = if ty == ObjType::Frame { bits } else { w[1] as u8 };
            let cap = Cap {
                id,
                parent: Some(untyped.id),
                ty,
                object,
                paddr,
                bits: size_bits,
                device: untyped.device,
                rights: Rights::all(),
                badge: 0,
                mapped: None,
            };
            self.slots.insert((node.object, w[3] + i), cap);
        }
        Ok(())
    }

    fn copy(&mut self, node: &Cap, w: [u64; 4], badge: Option<u64>) -> Result<(), Error> {
        let from = self.typed(w[1], ObjType::CNode)?.object;
        let source = self.slots.get(&(from, w[2])).ok_or(Error::InvalidCap)?.clone();
        if self.slots.contains_key(&(node.object, w[0])) {
            return Err(Error::Occupied);
        }
        if matches!(source.ty, ObjType::Untyped | ObjType::PageTable) {
            return Err(Error::WrongType);
        }
        let mut cap = Cap { id: self.fresh(), parent: Some(source.id), mapped: None, ..source };
        cap.rights &= Rights::from_bits(w[3] as u8).ok_or(Error::Range)?;
        if let Some(badge) = badge {
            if cap.badge != 0 || !matches!(cap.ty, ObjType::Endpoint | ObjType::Notification) {
                return Err(Error::NoRights);
            }
            cap.badge = badge;
        }
        self.slots.insert((node.object, w[0]), cap);
        Ok(())
    }

    fn map(&mut self, place: Place, frame: &Cap, w: [u64; 4]) -> Result<(), Error> {
        let space = self.space(w[0])?;
        let rights = Rights::from_bits(w[2] as u8).ok_or(Error::Range)?;
        let attr = MapAttr::from_bits(w[3] as u8).ok_or(Error::Range)?;
        let (write, exec) = (rights.contains(Rights::WRITE), attr.contains(MapAttr::EXEC));
        let read = rights.contains(Rights::READ);
        let (vaddr, bits) = (w[1], frame.bits);
        if frame.mapped.is_some() {
            return Err(Error::Busy);
        }
        if vaddr % (1 << bits) != 0 {
            return Err(Error::Alignment);
        }
        if write && exec || !frame.rights.contains(rights) || vaddr >= abi::USER_END {
            return Err(Error::Range);
        }
        if exec && !rights.contains(Rights::GRANT) {
            return Err(Error::NoRights);
        }
        let levels: &[u8] = if bits == LARGE_BITS { &[39, 30] } else { &[39, 30, 21] };
        let s = self.spaces.get_mut(&space).unwrap();
        if levels.iter().any(|l| !s.tables.contains(&(*l, vaddr >> l))) {
            return Err(Error::NoTable);
        }
        if bits == LARGE_BITS && s.tables.contains(&(21, vaddr >> 21)) {
            return Err(Error::Occupied);
        }
        if s.pages.contains_key(&vaddr) {
            return Err(Error::Occupied);
        }
        let uncached = frame.device || attr.contains(MapAttr::UNCACHED);
        s.pages.insert(vaddr, Page { paddr: frame.paddr, bits, read, write, exec, uncached });
        self.slots.get_mut(&place).unwrap().mapped = Some((space, vaddr));
        Ok(())
    }

    fn invoke_thread(
        &mut self,
        cap: &Cap,
        label: Label,
        w: [u64; 4],
        more: u64,
    ) -> Result<(), Error> {
        let own = cap.object == 3;
        let mut t = self.threads[&cap.object].clone();
        match label {
            Label::ThreadConfigure => {
                t.cspace = self.typed(w[0], ObjType::CNode)?.object;
                t.vspace = self.typed(w[1], ObjType::VSpace)?.object;
                if w[2] != 0 {
                    let fault = self.typed(w[2], ObjType::Endpoint)?;
                    assert!(fault.rights.contains(Rights::WRITE));
                    t.fault_badge = fault.badge;
                }
                t.buffer = self.typed(w[3], ObjType::Frame)?.paddr;
                if own {
                    self.root = t.cspace;
                }
            }
            Label::ThreadSetPriority => t.priority = w[0] as u8,
            Label::ThreadSetName => {
                t.number = w[2] as u32;
                t.name = [w[0].to_le_bytes(), w[1].to_le_bytes()].concat();
                t.name.retain(|b| *b != 0);
            }
            Label::ThreadBindNotification => {
                let ntfn = self.typed(w[0], ObjType::Notification)?;
                assert!(ntfn.rights.contains(Rights::READ));
                if self.threads.values().any(|t| t.bound == Some(ntfn.object)) {
                    return Err(Error::Busy);
                }
                t.bound = Some(ntfn.object);
            }
            Label::ThreadBindSched => {
                let sched = self.typed(w[0], ObjType::SchedContext)?.object;
                t.sched = Some(sched);
                t.budget = *self.scheds.get(&sched).ok_or(Error::Range)?;
            }
            Label::ThreadWriteRegisters => {
                t.regs =
                    UserRegs { rip: w[0], rsp: w[1], rdi: w[2], rsi: w[3], ..Default::default() };
                t.running = more == 1;
                assert!(t.sched.is_some() && t.buffer != 0, "started too early");
            }
            Label::ThreadSetTimeout => {
                let timeout = self.typed(w[0], ObjType::Endpoint)?;
                assert!(timeout.rights.contains(Rights::WRITE) && timeout.badge == t.fault_badge);
                t.tells_timeouts = true;
            }
            Label::ThreadSuspend => t.running = false,
            Label::ThreadReadRegisters => self.dumped = t.regs,
            _ => return Err(Error::WrongType),
        }
        self.threads.insert(cap.object, t);
        Ok(())
    }
}

impl Kernel for Model {
    fn invoke(
        &mut self,
        cptr: CPtr,
        label: Label,
        w: [u64; 4],
        more: [u64; 2],
    ) -> Result<[u64; 4], Error> {
        self.invocations += 1;
        self.now += self.step_ns;
        // Deleting what is one's own cannot fail.
        let fails = !matches!(label, Label::CNodeRevoke | Label::CNodeDelete);
        if self.fail_at == Some(self.invocations) && fails {
            return Err(Error::NoMemory);
        }
        let place = (self.root, cptr);
        let cap = self.cap(cptr)?.clone();
        match (cap.ty, label) {
            (ObjType::Untyped, Label::UntypedRetype) => self.retype(&cap, w, more[0], more[1])?,
            (ObjType::Untyped, Label::UntypedInfo) => {
                let mark = match self.has_children(cap.id) {
                    true => self.watermarks.get(&cap.id).copied().unwrap_or(0),
                    false => 0,
                };
                return Ok([(1 << cap.bits) - mark, cap.bits as u64, 0, 0]);
            }
            (ObjType::CNode, Label::CNodeCopy) => self.copy(&cap, w, None)?,
            (ObjType::CNode, Label::CNodeMint) => self.copy(&cap, w, Some(more[0]))?,
            (ObjType::CNode, Label::CNodeMove) => {
                let from = (self.typed(w[1], ObjType::CNode)?.object, w[2]);
                if self.slots.contains_key(&(cap.object, w[0])) {
                    return Err(Error::Occupied);
                }
                let moved = self.slots.remove(&from).ok_or(Error::InvalidCap)?;
                self.slots.insert((cap.object, w[0]), moved);
            }
            (ObjType::CNode, Label::CNodeCloseEndpoint) => {
                let ep = self.typed(w[0], ObjType::Endpoint)?;
                assert!(ep.badge == 0 && ep.rights.contains(Rights::READ));
                let object = ep.object;
                self.closed.insert(object);
            }
            (ObjType::CNode, Label::CNodeDelete) => self.remove((cap.object, w[0])),
            (ObjType::CNode, Label::CNodeRevoke) => {
                let id = self.slots.get(&(cap.object, w[0])).ok_or(Error::InvalidCap)?.id;
                self.revoke(id);
            }
            (ObjType::Frame, Label::FrameMap) => self.map(place, &cap, w)?,
            (ObjType::Frame, Label::FrameAddress) => return Ok([cap.paddr, 0, 0, 0]),
            (ObjType::PageTable, Label::TableMap) if w[0] == init_slot::IO_CONTROL => {
                let iommu = self.iommu.as_mut().ok_or(Error::Range)?;
                assert!(iommu.buses.insert((w[1] >> 20) as u8), "a bus has one table");
            }
            (ObjType::IoControl, Label::IoBind) => {
                let space = self.typed(w[0], ObjType::IoSpace)?.object;
                let iommu = self.iommu.as_mut().ok_or(Error::Range)?;
                if !iommu.buses.contains(&((w[1] >> 8) as u8)) {
                    return Err(Error::NoTable);
                }
                assert!(iommu.bound.insert(w[1] as u16, space).is_none(), "bound twice");
            }
            (ObjType::IoControl, Label::IoFault) => {
                let iommu = self.iommu.as_mut().ok_or(Error::Range)?;
                let [address, what] = iommu.faults.pop_front().ok_or(Error::WouldBlock)?;
                return Ok([address, what, 0, 0]);
            }
            (ObjType::PageTable, Label::TableMap) => {
                let space = self.space(w[0])?;
                let tables = &mut self.spaces.get_mut(&space).unwrap().tables;
                let missing = [39, 30, 21].into_iter().find(|l| !tables.contains(&(*l, w[1] >> l)));
                let level = missing.ok_or(Error::Occupied)?;
                tables.insert((level, w[1] >> level));
                self.slots.get_mut(&place).unwrap().mapped = Some((space, w[1]));
            }
            (ObjType::Thread, Label::ThreadInspect) => {
                let t = &self.threads[&cap.object];
                let object = [t.cspace, t.vspace, 0, 0, 0, 0, 0][w[0] as usize];
                let ty = [ObjType::CNode, ObjType::VSpace][w[0] as usize % 2];
                return Ok(if object == 0 { [0; 4] } else { [ty as u64, object, 0, 0] });
            }
            (ObjType::Thread, _) => self.invoke_thread(&cap, label, w, more[0])?,
            (ObjType::SchedContext, Label::SchedConfigure) => {
                self.scheds.insert(cap.object, (w[0], w[1]));
            }
            (ObjType::SchedContext, Label::SchedConsumed) => return Ok([7_000_000, 0, 0, 0]),
            (ObjType::Timer, Label::TimerSetNotification) => {
                let n = self.typed(w[0], ObjType::Notification)?;
                let target = (n.object, n.badge);
                assert!(n.rights.contains(Rights::WRITE));
                self.timers.get_mut(&cap.object).unwrap().target = Some(target);
            }
            (ObjType::Timer, Label::TimerArm) => {
                assert!(self.timers[&cap.object].target.is_some());
                self.timers.get_mut(&cap.object).unwrap().deadline = Some(w[0]);
            }
            (ObjType::IrqControl, Label::IrqGet) => {
                let node = self.typed(w[2], ObjType::CNode)?.object;
                let id = self.fresh();
                let irq = Cap { id, ty: ObjType::IrqHandler, object: IRQS + w[0], ..cap };
                let irq = Cap { parent: Some(cap.id), badge: w[1], ..irq };
                if self.slots.values().any(|c| c.object == irq.object) {
                    return Err(Error::Busy);
                }
                assert!(self.slots.insert((node, w[3]), irq).is_none());
            }
            (ObjType::IrqHandler, Label::IrqSetNotification) => {
                let n = self.typed(w[0], ObjType::Notification)?;
                let target = (n.object, n.badge);
                self.irqs.insert(cap.object, target);
            }
            (ObjType::CNode, Label::CNodeInspect) => {
                if w[0] >= 1 << cap.bits {
                    return Err(Error::Range);
                }
                let mut later = self.slots.range((cap.object, w[0])..=(cap.object, u64::MAX));
                return Ok(match later.next() {
                    Some(((_, slot), c)) => Self::told(c, *slot),
                    None => [(1 << cap.bits) << 32, 0, 0, 0],
                });
            }
            (ObjType::Trace, Label::TraceAdd) => {
                let frame = self.typed(w[0], ObjType::Frame)?;
                assert!(frame.bits == LARGE_BITS && self.ring.len() < abi::TRACE_FRAMES);
                self.ring.push(frame.object);
            }
            (ObjType::Trace, Label::TraceStart) if self.ring.is_empty() => {
                return Err(Error::NoMemory);
            }
            (ObjType::Trace, Label::TraceStart) => {
                (self.tracing, self.logged) = (true, Vec::new());
            }
            (ObjType::Trace, Label::TraceStop) => self.tracing = false,
            (ObjType::Trace, Label::TraceLog) => {
                if self.tracing {
                    self.logged.push([w[0], w[1], w[2]]);
                }
            }
            (ObjType::Trace, Label::TraceInfo) => {
                let frames = self.ring.len() as u64;
                return Ok([self.logged.len() as u64, frames << (LARGE_BITS - 5), 0, 0]);
            }
            (ObjType::IrqHandler, Label::IrqAck) => {
                if let Some(iommu) = &mut self.iommu
                    && cap.object == IRQS + abi::DMA_FAULT_LINE
                {
                    iommu.acknowledged += 1;
                }
            }
            (ObjType::IoPort, Label::PortIn | Label::PortOut) => {
                let value = self.outside.port(label, w[0] as u16, w[2] as u32);
                return Ok([value as u64, 0, 0, 0]);
            }
            _ => return Err(Error::WrongType),
        }
        Ok([0; 4])
    }
    fn signal(&mut self, ntfn: CPtr) {
        let cap = self.typed(ntfn, ObjType::Notification).expect("a notification").clone();
        assert!(cap.rights.contains(Rights::WRITE));
        *self.signals.entry(cap.object).or_default() |= cap.badge;
    }
    fn registers(&mut self) -> UserRegs {
        self.dumped
    }
    fn now_ns(&self) -> u64 {
        self.now
    }
    fn random_instruction(&self) -> Option<Instruction> {
        self.outside.noise.instruction
    }
    fn random_word(&mut self, instruction: Instruction) -> Option<u64> {
        assert_eq!(Some(instruction), self.outside.noise.instruction);
        self.outside.noise.samples += 1;
        (self.outside.noise.word)(self.outside.noise.samples)
    }
    fn jitter(&mut self) -> u64 {
        self.outside.noise.samples += 1;
        (self.outside.noise.jitter)(self.outside.noise.samples)
    }
    fn write(&mut self, vaddr: u64, bytes: &[u8]) {
        for (a, b) in (vaddr..).zip(bytes) {
            *self.byte_mut(self.own_space, a) = *b;
        }
    }
    fn read(&mut self, vaddr: u64, into: &mut [u8]) {
        for (a, b) in (vaddr..).zip(into) {
            *b = self.byte(self.own_space, a);
        }
    }
    fn log_read(&mut self, vaddr: u64, into: &mut [u8]) -> usize {
        assert!(self.page(self.own_space, vaddr).is_some());
        let log = &mut self.outside.log(vaddr).text;
        let n = log.len().min(into.len());
        into[..n].copy_from_slice(&log[..n]);
        log.drain(..n);
        n
    }
    fn log_panic(&mut self, vaddr: u64, into: &mut [u8; PANIC]) -> usize {
        let words = core::mem::take(&mut self.outside.log(vaddr).last_words);
        let n = words.len().min(PANIC);
        into[..n].copy_from_slice(&words[..n]);
        n
    }
    fn log_ready(&mut self, vaddr: u64, incarnation: u32, into: &mut [u8; READY]) -> Option<usize> {
        let (ready, text) = self.outside.log(vaddr).ready.as_ref()?;
        let n = text.len().min(READY);
        into[..n].copy_from_slice(&text[..n]);
        (*ready == incarnation).then_some(n)
    }
    fn log_dropped(&mut self, vaddr: u64) -> u32 {
        self.outside.log(vaddr).dropped
    }
    fn log_wants_room(&mut self, vaddr: u64) -> bool {
        core::mem::take(&mut self.outside.log(vaddr).wants_room)
    }
    fn log_write(&mut self, vaddr: u64, bytes: &[u8]) -> usize {
        assert!(self.page(self.own_space, vaddr).is_some_and(|(_, p)| p.write));
        self.outside.inputs.entry(vaddr).or_default().extend(bytes);
        bytes.len()
    }
}
