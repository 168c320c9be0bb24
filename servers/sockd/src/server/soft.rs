//! What sockd counts of a session, so that no call walks through the table: room for rings, free
//! ids, each listener's spares. All of it follows from the table, and a new sockd counts again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use libipc::sock::SessionSpec;

use crate::space::Space;
use crate::table::Use;

pub(super) struct Soft {
    pub tx: Space,
    pub rx: Space,
    /// Free ids. They are used again as late as possible.
    free: VecDeque<u16>,
    /// By id: spares of that listener.
    spares: Vec<u16>,
    pub listeners: Vec<u16>,
    /// Ids in use.
    pub used: u16,
    /// Ids in [`Use::Closing`].
    pub closing: u16,
    /// Ids in [`Use::Accepted`].
    pub accepted: u16,
    /// Listeners may lack spares.
    pub hungry: bool,
}

impl Soft {
    /// A session in which nothing was counted yet, not even free ids.
    pub fn uncounted(spec: &SessionSpec) -> Self {
        let n = spec.sockets as usize;
        Self {
            tx: Space::new(spec.tx_len),
            rx: Space::new(spec.rx_len),
            free: VecDeque::with_capacity(n),
            spares: alloc::vec![0; n],
            listeners: Vec::new(),
            used: 0,
            closing: 0,
            accepted: 0,
            hungry: false,
        }
    }

    /// A session in which every id is free.
    pub fn empty(spec: &SessionSpec) -> Self {
        let mut soft = Self::uncounted(spec);
        soft.free.extend(0..spec.sockets as u16);
        soft
    }

    pub fn take_id(&mut self) -> Option<u16> {
        self.free.pop_front()
    }

    pub fn give_id(&mut self, id: u16) {
        self.free.push_back(id);
    }

    /// Spares of `listener`.
    pub fn spares(&self, listener: u16) -> u16 {
        self.spares.get(listener as usize).copied().unwrap_or(0)
    }

    /// Counts an id that has this use now, or (`now` false) has it no more.
    pub fn count(&mut self, id: u16, (usage, listener): (Use, u16), now: bool) {
        let step = |n: &mut u16| *n = if now { *n + 1 } else { n.saturating_sub(1) };
        match usage {
            Use::Free => {
                if now {
                    self.free.push_back(id);
                }
                return;
            }
            Use::Spare => {
                if let Some(n) = self.spares.get_mut(listener as usize) {
                    step(n);
                }
            }
            Use::Listener if now => self.listeners.push(id),
            Use::Listener => self.listeners.retain(|l| *l != id),
            Use::Closing => step(&mut self.closing),
            Use::Accepted => step(&mut self.accepted),
            Use::Opening | Use::Open => {}
        }
        step(&mut self.used);
    }
}
