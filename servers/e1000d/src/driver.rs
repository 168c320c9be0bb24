//! Start, cold or warm, the polling loop, and the end.
//!
//! [`Driver::start`] opens a NIC, [`Driver::stop`] closes it for good, [`Driver::suspend`] for a
//! while: netd sees the link down, what it gives from then on waits in its rings, and resuming is
//! opening. The NIC may have lost its power in between.

use crate::filter::Filter;
use crate::frame::MAX_FRAME;
use crate::hardware::{Event, Hardware};
use crate::models::Model;
use crate::regs::{self, Cause};
use crate::rx::{self, Rx};
use crate::settings::Settings;
use crate::setup;
use crate::tx::{self, Tx};
use crate::window::Windows;
use core::sync::atomic::Ordering::*;
use libipc::nic::{self, Counter, Groups, RxFree, RxUsed, Status, TxDesc, TxFree, caps};
use libipc::ring::{Memory, PeerError};

/// Rounds per [`Driver::poll`].
const ROUNDS: usize = 8;
/// Polls that [`Driver::stop`] grants netd for what it has asked to be sent: enough for rings that
/// are full with frames of one piece, with the smallest budget.
const LAST_POLLS: usize = nic::RING as usize / ROUNDS;
/// How often a netd that takes nothing from its rings is looked at again.
const RETRY_NS: u64 = 10_000_000;

/// What is driven, how, and where everything is.
pub struct Config {
    /// The NIC.
    pub model: Model,
    /// Ring sizes and budget.
    pub settings: Settings,
    /// Bus address of `nic.rings` ([`crate::lent::BYTES`] at least, page-aligned).
    pub rings_bus: u64,
    /// Bus address of `nic.rx`.
    pub pool_bus: u64,
    /// What descriptors may name.
    pub windows: Windows,
    /// Status page in `nic.drv`.
    pub status: &'static Status,
    /// What netd says about groups, in `nic.net`.
    pub groups: &'static Groups,
    /// The rings.
    pub rx_free: Memory<RxFree>,
    /// See [`libipc::nic`].
    pub rx_used: Memory<RxUsed>,
    /// See [`libipc::nic`].
    pub tx_used: Memory<TxDesc>,
    /// See [`libipc::nic`].
    pub tx_free: Memory<TxFree>,
    /// Whether the NIC is QEMU's model, whose rings may be taken over while they run.
    pub emulated: bool,
}

/// Why the driver cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// netd's index of a ring that this driver produces is impossible: try again when netd
    /// signals.
    Peer(PeerError),
    /// The NIC has no MAC address: try another.
    NoAddress,
}

/// What to do after [`Driver::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Poll again, there is more.
    Again,
    /// Sleep until a signal; acknowledge the interrupt if there was one.
    Sleep,
    /// As [`Next::Sleep`], but at most so many ns.
    SleepFor(u64),
}

/// What [`Driver::poll`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Signal netd.
    pub notify: bool,
    /// Then do this.
    pub next: Next,
}

/// A running NIC.
pub struct Driver {
    rx: Rx,
    tx: Tx,
    windows: Windows,
    status: &'static Status,
    filter: Filter,
    model: Model,
    budget: usize,
    notify: bool,
}

impl Driver {
    /// Takes over a NIC: warm if a predecessor left it running and everything it left holds, else
    /// by reset. netd must be signalled afterwards, whatever [`Driver::poll`] says.
    ///
    /// # Errors
    /// See [`StartError`].
    // Its tables are large, and needed no longer when it returns.
    #[inline(never)]
    pub fn start<H: Hardware>(hw: &mut H, config: &Config) -> Result<Self, StartError> {
        let status = config.status;
        let rx_used = config.rx_used.producer().map_err(StartError::Peer)?;
        let tx_free = config.tx_free.producer().map_err(StartError::Peer)?;
        let rx_released = config.rx_free.consumer().map_or(0, |c| c.index());
        let tx_released = config.tx_used.consumer().map_or(0, |c| c.index());
        let found_rx = rx::Found::read(hw, config, rx_used.index(), rx_released);
        let found_tx = tx::Found::read(hw, config, tx_free.index(), tx_released);
        let running = setup::is_running(hw, config);
        let sound = running && found_rx.sound && found_tx.sound;
        let (rx, tx);
        if sound && config.emulated {
            let in_flight = found_tx.frames.len() as u16 + found_rx.waiting(hw);
            rx = Rx::warm(hw, config, rx_used, &found_rx);
            tx = Tx::warm(hw, config, tx_free, &found_tx);
            hw.write(regs::IMS, regs::CAUSES.bits());
            status.count(Counter::Reattached, 1);
            hw.event(Event::Reattached { in_flight });
        } else {
            setup::stop(hw, config);
            crate::lent::tear_down(hw);
            let (buffers, frames) = (found_rx.held.len() as u16, found_tx.frames.len() as u16);
            rx = Rx::restart(hw, config, rx_used, &found_rx);
            tx = Tx::restart(hw, config, tx_free, &found_tx);
            setup::reset(hw, config);
            let mac = setup::mac(hw, &config.model).ok_or(StartError::NoAddress)?;
            setup::program(hw, config, mac);
            hw.write(regs::IMS, regs::CAUSES.bits());
            status.count(Counter::ColdStarts, 1);
            let [a, b, c, d, e, f] = mac;
            status.mac.store(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), Relaxed);
            if running || buffers > 0 || frames > 0 {
                hw.event(Event::GaveBack { buffers, frames });
            }
            let speed = setup::link(hw);
            hw.event(Event::Started { model: config.model.name, mac, speed });
        }
        let (model, budget) = (config.model, config.settings.budget as usize);
        let windows = config.windows.clone();
        let filter = Filter::new(config.groups);
        let mut driver = Self { rx, tx, windows, status, filter, model, budget, notify: true };
        driver.filter.update(hw);
        driver.publish_link(setup::link(hw), true);
        Ok(driver)
    }

    /// Closes the NIC: sends what netd has asked for so far, stops interrupts, reception, sending
    /// and DMA, gives everything back to netd and says that the link is down. netd must be
    /// signalled afterwards. Bounded, whatever netd and the NIC do; dying in the middle is as
    /// harmless as dying at work.
    pub fn stop<H: Hardware>(mut self, hw: &mut H, config: &Config) {
        self.last_polls(hw);
        setup::stop(hw, config);
        let frames = self.tx.unsent(hw);
        self.rx.close(hw, self.status);
        self.tx.close(hw, self.status);
        crate::lent::tear_down(hw);
        self.publish_link(None, true);
        hw.event(Event::Stopped { frames });
    }

    /// Lays the NIC to rest: sends what netd has asked for so far, stops interrupts and says that the
    /// link is down. The rings stay as they are, for the next [`Driver::start`] to go on with; init
    /// takes bus mastering away meanwhile, so that the NIC does nothing. netd must be signalled
    /// afterwards. A real NIC is closed, as by [`Driver::stop`].
    pub fn suspend<H: Hardware>(mut self, hw: &mut H, config: &Config) {
        if !config.emulated {
            return self.stop(hw, config);
        }
        self.last_polls(hw);
        hw.write(regs::IMC, !0);
        self.publish_link(None, true);
        hw.event(Event::Suspended);
    }

    /// Sends what netd has asked for so far.
    fn last_polls<H: Hardware>(&mut self, hw: &mut H) {
        for _ in 0..LAST_POLLS {
            if self.poll(hw, true).next != Next::Again {
                break;
            }
        }
    }

    /// Publishes the link if it changed, or if `anyway`.
    fn publish_link(&mut self, speed: Option<u32>, anyway: bool) -> bool {
        let s = self.status;
        let changed = s.link.load(Relaxed) != speed.is_some() as u32
            || speed.is_some_and(|speed| speed != s.speed.load(Relaxed));
        if changed || anyway {
            s.link.store(speed.is_some() as u32, Relaxed);
            s.speed.store(speed.unwrap_or(0), Relaxed);
            s.max_frame.store(MAX_FRAME, Relaxed);
            let tso = if self.tx.segments() { caps::TSO } else { 0 };
            s.caps.store(caps::TX_CSUM | tso, Relaxed);
            // 0 means "not started yet".
            let version = s.version.load(Relaxed).wrapping_add(1).max(1);
            s.version.store(version, Release);
            self.notify = true;
        }
        changed
    }

    /// Does everything there is to do, within a budget. `irq`: the interrupt line has fired and
    /// is not acknowledged yet.
    ///
    /// The line stays masked in the interrupt controller until it is acknowledged, so that the
    /// NIC's own mask (IMC, IMS) need not be touched on the way; ICR is read until it is empty
    /// instead, which spares the interrupt that would follow for work already done.
    pub fn poll<H: Hardware>(&mut self, hw: &mut H, irq: bool) -> Poll {
        let mut drained = false;
        self.filter.update(hw);
        if irq {
            self.causes(hw);
        }
        for _ in 0..ROUNDS {
            let received = self.rx.harvest(hw, self.status, self.budget);
            self.rx.refill(hw, self.status);
            self.tx.reap(hw, self.status);
            let sent = self.tx.send(hw, self.status, &self.windows, self.budget);
            // QEMU's model has sent everything when the TDT write returns.
            let freed = self.tx.reap(hw, self.status) > 0 && self.tx.waits_for_nic();
            // A long frame may take it beyond the budget.
            let full = received >= self.budget || sent >= self.budget;
            let more = full || freed || (irq && self.causes(hw));
            if !more {
                drained = true;
                break;
            }
        }
        let next = if !drained {
            Next::Again
        } else {
            // Race: netd may have written since the last round. `sleep` says which entry is
            // waited for and looks once more; netd writes first and looks then. Neither can miss
            // the other. (The NIC needs no such thing: its causes stay in ICR.)
            let rx_idle = self.rx.sleep(hw, self.status);
            let tx_idle = self.tx.sleep(hw, self.status);
            if !rx_idle || !tx_idle {
                Next::Again
            } else if self.tx.blocked() || self.rx.blocked(hw) {
                // Only a netd that does not take its reports leads here; it owes no signal.
                Next::SleepFor(RETRY_NS)
            } else {
                Next::Sleep
            }
        };
        let mut notify = core::mem::take(&mut self.notify);
        notify |= core::mem::take(&mut self.rx.notify);
        notify |= core::mem::take(&mut self.tx.notify);
        Poll { notify, next }
    }

    /// Reads (and so clears) the interrupt causes; says whether there were any.
    fn causes<H: Hardware>(&mut self, hw: &mut H) -> bool {
        let causes = Cause::from_bits_retain(hw.read(regs::ICR));
        if self.model.express && !causes.is_empty() {
            // Before the descriptors are looked at: a cause that is set again in between is one
            // whose frame is found.
            hw.write(regs::ICR, causes.bits());
        }
        if causes.is_empty() {
            return false;
        }
        self.status.count(Counter::Interrupts, 1);
        if causes.contains(Cause::LSC) {
            let speed = setup::link(hw);
            if self.publish_link(speed, false) {
                self.status.count(Counter::LinkChanges, 1);
                hw.event(Event::Link(speed));
            }
        }
        true
    }

    /// Whether the NIC has a receive buffer.
    pub fn holds(&self, buffer: u32) -> bool {
        self.rx.holds(buffer)
    }
}
