//! The kernel's trace: begun and ended on request, and told of deaths and restarts.

use abi::{Label, init_slot};
use libipc::proc::{Error, Reply, Trace};

use crate::kernel::Kernel;
use crate::supervisor::Supervisor;

impl Supervisor<'_> {
    /// Logs what happens to process `i`. The kernel drops it while it writes no trace.
    pub(crate) fn trace<K: Kernel>(&self, k: &mut K, code: u16, i: usize, word: u64) {
        let life = self.processes[i].starts.wrapping_sub(1);
        let number = libipc::trace::number(i, life) as u64;
        // It is init's own capability, with all rights: this cannot fail.
        let _ = k.invoke(init_slot::TRACE, Label::TraceLog, [code as u64, number, word, 0], [0; 2]);
    }

    /// Does what is asked about the trace.
    pub(crate) fn order_trace<K: Kernel>(
        &mut self,
        k: &mut K,
        order: Trace,
    ) -> Result<Reply, Error> {
        let mut ask = |label| k.invoke(init_slot::TRACE, label, [0; 4], [0; 2]);
        match order {
            Trace::Look => {}
            Trace::Start => {
                ask(Label::TraceStart).map_err(|_| Error::NoTrace)?;
                self.tracing = true;
            }
            Trace::Stop => {
                ask(Label::TraceStop).map_err(|_| Error::NoTrace)?;
                self.tracing = false;
            }
        }
        let [written, capacity, ..] = ask(Label::TraceInfo).map_err(|_| Error::NoTrace)?;
        if capacity == 0 {
            return Err(Error::NoTrace);
        }
        Ok(Reply::Trace { running: self.tracing, written, capacity })
    }
}
