//! Packet scripts: the language and its interpreter (docs/scripts.md).
//!
//! | file | what |
//! |---|---|
//! | `cursor`, `text`, `parse` | text to packets, calls, cases |
//! | `packet`, `show` | a packet as scripts speak of it, and back to text |
//! | `build`, `dissect` | packets to bytes and back |
//! | `flow` | whose numbers are whose |
//! | `world` | the machine under test, in virtual time |
//! | `calls`, `stream`, `dgram`, `options`, `names` | socket calls as Linux has them |
//! | `compare`, `expr`, `info` | what holds |
//! | `export` | a case for packetdrill and Linux |
//! | `run`, `waiting` | a case played |

mod build;
mod calls;
mod compare;
mod cursor;
mod dgram;
mod dissect;
pub mod export;
mod expr;
mod flow;
mod info;
mod names;
mod options;
mod packet;
pub mod parse;
pub mod run;
mod show;
mod stream;
mod text;
mod waiting;
mod world;
