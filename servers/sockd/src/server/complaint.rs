//! What goes into the log about a caller.

use core::fmt;
use libipc::Name;
use libipc::log::Held;
use libipc::msg::Nonsense;

use crate::policy::Forbidden;

/// What a caller did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It may not do that.
    Forbidden(Forbidden),
    /// It sent what is no request, and lost its session for it.
    Nonsense(Nonsense),
}

/// Something worth a line in the log, at a bounded pace for each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The program; `None`: a caller without a session.
    pub program: Option<Name>,
    /// What it did.
    pub wrong: Wrong,
    /// Complaints about it since the last line that had none of their own.
    pub held: u32,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.program.as_ref().map_or("a caller without a session", |n| n.as_str());
        match self.wrong {
            Wrong::Forbidden(act) => {
                write!(f, "{who} may not {act}")?;
                if self.program.is_some() {
                    write!(f, ": {}", act.permission().lacked_by(who))?;
                }
            }
            Wrong::Nonsense(what) => {
                write!(f, "{who} sent {what}")?;
                if self.program.is_some() {
                    f.write_str(": its session is ended")?;
                }
            }
        }
        Held(self.held).fmt(f)
    }
}
