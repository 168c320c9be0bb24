//! What a program may do, by the words of its manifest entry.
//!
//! A call that is refused for lack of a permission says which one, and the message names it as the
//! manifest writes it, so that whoever reads it knows what to change and where.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A permission that a manifest entry gives or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Permission {
    /// To have sockets at all.
    Sockets = 1,
    /// To bind a port, or to listen on it.
    Bind = 2,
    /// To name a peer: to connect, and to send from a port that is not listed.
    Connect = 3,
    /// To send to a broadcast address.
    Broadcast = 4,
    /// To send echo requests.
    Ping = 5,
    /// To decide about sockets: the one server that the manifest says.
    Control = 6,
    /// To ask the stack how things are.
    NetStatus = 7,
    /// To end, start and crash processes, and to turn the machine off.
    Init = 8,
    /// To ask init how things are.
    InitStatus = 9,
    /// To ask init for random bytes.
    Random = 10,
    /// To receive and send IP packets of any protocol.
    Raw = 11,
    /// To get copies of frames.
    Capture = 12,
}

impl Permission {
    const ALL: [Self; 12] = [
        Self::Sockets,
        Self::Bind,
        Self::Connect,
        Self::Broadcast,
        Self::Ping,
        Self::Control,
        Self::NetStatus,
        Self::Init,
        Self::InitStatus,
        Self::Random,
        Self::Raw,
        Self::Capture,
    ];

    /// From its number.
    pub fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| *p as u8 == raw)
    }

    /// The manifest's word for it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::Bind => "sockets.bind",
            Self::Connect => "sockets.connect",
            Self::Broadcast => "sockets.broadcast",
            Self::Ping => "sockets.ping",
            Self::Control => "sessions.control",
            Self::NetStatus => "net_status",
            Self::Init => "init",
            Self::InitStatus => "init_status",
            Self::Random => "random",
            Self::Raw => "sockets.raw",
            Self::Capture => "sockets.capture",
        }
    }

    /// How `program` lacks it: the second half of a sentence that says what it may not do.
    pub const fn lacked_by(self, program: &str) -> Lack<'_> {
        Lack { permission: self, program: Some(program) }
    }
}

/// How a program lacks a permission.
#[derive(Clone, Copy, Debug)]
pub struct Lack<'a> {
    permission: Permission,
    program: Option<&'a str>,
}

impl fmt::Display for Lack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ", self.permission.key())?;
        match (self.permission, self.program) {
            (Permission::Control, _) => f.write_str("in the manifest names another server"),
            (p, Some(program)) => {
                let how = if p == Permission::Bind { "does not list it" } else { "is not set" };
                write!(f, "of program \"{program}\" in the manifest {how}")
            }
            (Permission::Bind, None) => {
                f.write_str("of this program in the manifest does not list it")
            }
            (_, None) => f.write_str("of this program in the manifest is not set"),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Lack { permission: *self, program: None }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn numbers_are_read_back() {
        for raw in 0..=u8::MAX {
            assert!(Permission::from_raw(raw).is_none_or(|p| p as u8 == raw));
        }
        assert!(Permission::ALL.iter().all(|p| Permission::from_raw(*p as u8) == Some(*p)));
    }

    #[test]
    fn the_text_names_key_and_program() {
        let bind = Permission::Bind.lacked_by("nc").to_string();
        assert_eq!(bind, "`sockets.bind` of program \"nc\" in the manifest does not list it");
        let ping = Permission::Ping.to_string();
        assert_eq!(ping, "`sockets.ping` of this program in the manifest is not set");
    }
}
