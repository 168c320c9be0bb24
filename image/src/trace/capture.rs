//! A trace as it leaves the system ([`libipc::trace`]), read and checked.

use abi::{Clock, TRACE_RECORD, TraceRecord};
use libipc::trace::{Header, INIT, MAGIC, process};

/// Why bytes are no trace.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Other bytes stand at the start.
    #[error("no trace of this version: `trace send` of the shell makes one")]
    Magic,
    /// The header does not decode.
    #[error("the trace has no header that can be read")]
    Header,
    /// It ends too early.
    #[error("the trace ends after {got} of {want} events: send it again")]
    Short {
        /// Records that came.
        got: u64,
        /// Records that the header promises.
        want: u64,
    },
}

/// A trace.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Clock parameters.
    pub clock: Clock,
    /// Names of processes by number.
    pub names: Vec<String>,
    /// Records, oldest first.
    pub records: Vec<TraceRecord>,
    /// Records that were overwritten before it was read.
    pub lost: u64,
}

impl Capture {
    /// Reads a trace.
    ///
    /// # Errors
    /// If it is none, or not all of it.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(Error::Magic)?;
        let (len, rest) = rest.split_first_chunk().ok_or(Error::Header)?;
        let (head, rest) =
            rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(Error::Header)?;
        let header: Header = postcard::from_bytes(head).map_err(|_| Error::Header)?;
        let records = rest.chunks_exact(TRACE_RECORD as usize).map(|r| {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(r.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            TraceRecord::from_words(words)
        });
        let records: Vec<_> = records.collect();
        let (got, want) = (records.len() as u64, header.records);
        if got != want {
            return Err(Error::Short { got, want });
        }
        Ok(Self {
            clock: header.clock,
            names: header.names.iter().map(|n| n.as_str().into()).collect(),
            records,
            lost: header.written.saturating_sub(got),
        })
    }

    /// What the thread with this number is called; its lives share the name.
    pub fn name(&self, thread: u32) -> String {
        match process(thread) {
            _ if thread == 0 => "idle".into(),
            _ if thread == INIT => "init".into(),
            Some(i) if i < self.names.len() => self.names[i].clone(),
            _ => format!("thread {thread:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(records: u64, words: usize) -> Vec<u8> {
        let header = Header {
            clock: Clock { tsc_base: 5, mult: 1 << 32 },
            written: 10,
            records,
            names: heapless::Vec::from_iter(["netd".try_into().unwrap()]),
        };
        let head = postcard::to_allocvec(&header).unwrap();
        let words = (0..words as u64).flat_map(u64::to_le_bytes);
        [&MAGIC[..], &(head.len() as u32).to_le_bytes(), &head]
            .concat()
            .into_iter()
            .chain(words)
            .collect()
    }

    #[test]
    fn what_was_sent_is_read() {
        let c = Capture::read(&bytes(2, 8)).unwrap();
        assert_eq!((c.records.len(), c.lost, c.records[1].tsc, c.records[1].b), (2, 8, 4, 7));
        assert_eq!([0, 1, 2, 0x5_0002].map(|t| c.name(t)), ["idle", "init", "netd", "netd"]);
        assert_eq!(c.name(9), "thread 0x9");
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        assert_eq!(Capture::read(b"BWTRACE0").unwrap_err(), Error::Magic);
        for n in 8..40 {
            assert!(Capture::read(&bytes(2, 8)[..n]).is_err(), "{n}");
        }
        assert_eq!(Capture::read(&bytes(2, 7)).unwrap_err(), Error::Short { got: 1, want: 2 });
    }
}
