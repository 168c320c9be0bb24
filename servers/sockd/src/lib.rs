//! sockd: who may open which socket. Control, not data: it checks what a program asks against
//! its manifest entry, finds room for the rings in the program's own session regions, keeps
//! listeners supplied with spare sockets, and tells netd. No payload and no packet passes here.
//!
//! | module | what |
//! |---|---|
//! | [`table`] | what was promised to programs, in memory that survives sockd |
//! | [`space`] | room for rings in a session's regions |
//! | [`policy`] | permissions of a session |
//! | [`server`] | requests, death notices, restart |
//!
//! Everything here runs on the host; `main.rs` adds the endpoint loop.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod policy;
pub mod server;
pub mod space;
pub mod table;
