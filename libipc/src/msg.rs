//! Postcard messages in the thread's IPC buffer.
//!
//! Every message names an interface, a version and a method in its [`MsgInfo`]; the payload is a
//! postcard value of at most [`abi::MSG_MAX`] bytes. What arrives is an allegation: decoding
//! yields an error, never a panic.

use abi::{CPtr, Error, MSG_MAX, MsgInfo};
use serde::{Serialize, de::DeserializeOwned};

use crate::start::IPC_BUFFER;
use crate::sys;

/// Numbers of the interfaces.
pub mod interface {
    /// [`crate::sock::Request`] to sockd.
    pub const SOCK: u16 = 1;
    /// [`crate::net::Request`] to netd.
    pub const NET: u16 = 2;
    /// [`crate::proc::Request`] to init.
    pub const PROC: u16 = 3;
    /// To a NIC driver; none so far.
    pub const NIC: u16 = 4;

    /// What people call it; `None`: it is none of these.
    pub const fn name(number: u16) -> Option<&'static str> {
        Some(match number {
            SOCK => "sock",
            NET => "net",
            PROC => "proc",
            NIC => "nic",
            _ => return None,
        })
    }
}

/// Version of all interfaces.
pub const VERSION: u8 = 1;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The kernel refused or ended the call. [`Error::ServerDied`]: the server was restarted; the
    /// request may have acted, ask again.
    Kernel(Error),
    /// The request does not fit into a message.
    TooLong,
    /// The reply does not decode, or is of another interface or version: the peer misbehaves.
    BadReply,
}

impl From<Error> for CallError {
    fn from(e: Error) -> Self {
        Self::Kernel(e)
    }
}

/// Why a message is no request of the interface that it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonsense {
    /// It names another interface.
    Interface(u16),
    /// It is of another version.
    Version(u8),
    /// It brings capabilities, which no request does.
    Capabilities,
    /// Its payload is not a request, or a request and more.
    Payload,
}

impl core::fmt::Display for Nonsense {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Interface(other) => write!(f, "a message for interface {other}"),
            Self::Version(other) => {
                write!(f, "a message of version {other}, where {VERSION} is spoken")
            }
            Self::Capabilities => f.write_str("a message with capabilities"),
            Self::Payload => f.write_str("a message that is no request"),
        }
    }
}

/// The request to `interface` in a message that arrived: its word and its payload.
///
/// # Errors
/// Why it is none.
pub fn request<T: DeserializeOwned>(
    interface: u16,
    info: MsgInfo,
    payload: &[u8],
) -> Result<T, Nonsense> {
    if info.interface() != interface {
        return Err(Nonsense::Interface(info.interface()));
    }
    if info.version() != VERSION {
        return Err(Nonsense::Version(info.version()));
    }
    if info.caps() != 0 {
        return Err(Nonsense::Capabilities);
    }
    exactly(payload).ok_or(Nonsense::Payload)
}

/// The value that these bytes are, all of them.
fn exactly<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// Copies the received payload out of the IPC buffer (it is shared with nobody, but the next
/// system call overwrites it).
pub fn take(info: MsgInfo, into: &mut [u8; MSG_MAX]) -> &[u8] {
    let len = info.len().min(MSG_MAX);
    // SAFETY: init maps one page for the IPC buffer of every thread at `IPC_BUFFER`, and `len` is
    // within its payload area; `into` is a local.
    unsafe {
        core::ptr::copy_nonoverlapping(IPC_BUFFER as *const u8, into.as_mut_ptr(), len);
    }
    &into[..len]
}

/// Puts a value into the IPC buffer, returning its length.
fn put<T: Serialize>(value: &T) -> Option<usize> {
    // SAFETY: as in `take`; no other reference into the buffer exists while this one lives.
    let buffer = unsafe { core::slice::from_raw_parts_mut(IPC_BUFFER as *mut u8, MSG_MAX) };
    postcard::to_slice(value, buffer).ok().map(|s| s.len())
}

/// Calls `ep`: request `value` as `method` of `interface`, and the decoded reply.
///
/// # Errors
/// See [`CallError`].
pub fn call<Q: Serialize, R: DeserializeOwned>(
    ep: CPtr,
    interface: u16,
    method: u16,
    value: &Q,
) -> Result<R, CallError> {
    let len = put(value).ok_or(CallError::TooLong)?;
    let ret = sys::call(ep, MsgInfo::new(interface, VERSION, method, len), [0; 4])?;
    if ret.info.interface() != interface || ret.info.version() != VERSION {
        return Err(CallError::BadReply);
    }
    decode(ret.info).ok_or(CallError::BadReply)
}

/// Decodes the payload that arrived with `info`; `None` if it is not a `T`.
pub fn decode<T: DeserializeOwned>(info: MsgInfo) -> Option<T> {
    let mut bytes = [0; MSG_MAX];
    exactly(take(info, &mut bytes))
}

/// Puts a reply of `interface` into the IPC buffer; pass the result to [`sys::reply_recv`].
/// A value that does not fit becomes an empty message, which the caller reads as
/// [`CallError::BadReply`].
pub fn encode<T: Serialize>(interface: u16, value: &T) -> MsgInfo {
    MsgInfo::new(interface, VERSION, 0, put(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_exactly_that() {
        let good = MsgInfo::new(interface::SOCK, VERSION, 9, 1);
        let read = |info, payload| request::<u8>(interface::SOCK, info, payload);
        assert_eq!(read(good, &[7]), Ok(7));
        assert_eq!(read(good, &[]), Err(Nonsense::Payload));
        assert_eq!(read(good, &[7, 0]), Err(Nonsense::Payload));
        assert_eq!(read(good.with_caps(1), &[7]), Err(Nonsense::Capabilities));
        let old = MsgInfo::new(interface::SOCK, 0, 9, 1);
        assert_eq!(read(old, &[7]), Err(Nonsense::Version(0)));
        let other = MsgInfo::new(interface::PROC, VERSION, 9, 1);
        assert_eq!(read(other, &[7]), Err(Nonsense::Interface(interface::PROC)));
    }
}
