//! What Linux calls sysctls: choices that hold for the whole stack. The defaults are Linux's unless the
//! field says otherwise.

/// Settings of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether small TCP segments wait for ACKs (Nagle, RFC 9293 3.7.4) where a program has no say.
    pub nagle: bool,
    /// Whether an RST leaves TIME-WAIT as it is (RFC 1337 3, `tcp_rfc1337`).
    pub rfc1337: bool,
    /// Whether an active open may take the place of a connection in TIME-WAIT (`tcp_tw_reuse`).
    pub reuse: Reuse,
}

/// Whether, and where, an active open may take the place of a connection in TIME-WAIT that has
/// timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Never.
    Never,
    /// On the loop.
    Loopback,
    /// Wherever.
    Always,
}

impl Default for Settings {
    fn default() -> Self {
        Self { nagle: true, rfc1337: false, reuse: Reuse::Loopback }
    }
}
