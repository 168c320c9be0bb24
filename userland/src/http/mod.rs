//! The HTTP server's logic, free of sockets: requests in, responses out, one connection a
//! state machine.
//!
//! | module | what |
//! |---|---|
//! | [`request`] | a request head, parsed by `httparse` and reduced to what `httpd` serves |
//! | [`response`] | response heads |
//! | [`connection`] | one connection: reads, answers, streams, keeps alive, closes |

pub mod connection;
pub mod request;
pub mod response;
