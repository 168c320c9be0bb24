//! What a running system says of its capabilities ([`libipc::authority`]), read.

use libipc::authority::{ENTRY, Entry, Header, MAGIC};

/// Why bytes are no such thing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Other bytes stand at the start.
    #[error("no capabilities of this version: `authority send` of the shell sends them")]
    Magic,
    /// The header does not decode.
    #[error("the capabilities have no header that can be read")]
    Header,
    /// An entry does not decode, or is not all there.
    #[error("capability {0} cannot be read")]
    Entry(usize),
}

/// All capabilities of a running system.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Processes by number.
    pub names: Vec<String>,
    /// Bytes of RAM.
    pub machine: u64,
    /// Capabilities.
    pub entries: Vec<Entry>,
}

impl Dump {
    /// Reads what was sent.
    ///
    /// # Errors
    /// If it is something else, or not all of it.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(Error::Magic)?;
        let (len, rest) = rest.split_first_chunk().ok_or(Error::Header)?;
        let (head, rest) =
            rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(Error::Header)?;
        let header: Header = postcard::from_bytes(head).map_err(|_| Error::Header)?;
        let (chunks, left) = rest.as_chunks::<ENTRY>();
        let read = |(i, bytes)| Entry::from_bytes(bytes).ok_or(Error::Entry(i));
        let entries = chunks.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        if !left.is_empty() {
            return Err(Error::Entry(entries.len()));
        }
        let names = header.names.iter().map(|n| n.as_str().into()).collect();
        Ok(Self { names, machine: header.machine, entries })
    }
}
