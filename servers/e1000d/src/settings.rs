//! What the manifest may say about the driver, in `args`: `rx=256 tx=256 budget=64`, and of which card it is: `nic=nic1`.

use crate::lent::RingSize;
use core::fmt;

/// Ring sizes and budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Receive descriptors.
    pub rx: RingSize,
    /// Transmit descriptors.
    pub tx: RingSize,
    /// Frames in each direction per round, so that neither starves the other.
    pub budget: u16,
    /// Names of its card's regions begin so ("nic": the first one's).
    pub nic: &'static str,
}

/// What cards are called.
const CARDS: [&str; 4] = ["nic", "nic1", "nic2", "nic3"];

impl Default for Settings {
    fn default() -> Self {
        Self { rx: RingSize::DEFAULT, tx: RingSize::DEFAULT, budget: 64, nic: CARDS[0] }
    }
}

/// Largest budget: what the rings to netd hold.
const MAX_BUDGET: u16 = libipc::nic::RING as u16;

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgError<'a> {
    /// Not one of the names above, or no `=`.
    Unknown(&'a str),
    /// Given twice: which of them counts?
    Twice(&'a str),
    /// A ring has no such size.
    RingSize(&'a str),
    /// A budget must be 1 to 1024.
    Budget(&'a str),
    /// No card is called so.
    Nic(&'a str),
}

impl fmt::Display for ArgError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (RingSize::MIN, RingSize::MAX);
        match self {
            Self::Unknown(arg) => write!(f, "argument {arg}: known are rx=, tx=, budget= and nic="),
            Self::Twice(arg) => write!(f, "argument {arg}: given before"),
            Self::RingSize(arg) => {
                write!(f, "argument {arg}: a ring has a power of two from {min} to {max}")
            }
            Self::Nic(arg) => {
                write!(f, "argument {arg}: cards are called nic, nic1, nic2 and nic3")
            }
            Self::Budget(arg) => write!(f, "argument {arg}: a budget is 1 to {MAX_BUDGET}"),
        }
    }
}

impl Settings {
    /// Reads arguments, separated by spaces; what is not there has its default.
    ///
    /// # Errors
    /// The first argument that is wrong.
    pub fn parse(args: &str) -> Result<Self, ArgError<'_>> {
        let mut settings = Self::default();
        let mut seen = [false; 4];
        for arg in args.split_whitespace() {
            let (key, value) = arg.split_once('=').ok_or(ArgError::Unknown(arg))?;
            let number = value.parse().ok();
            let size = number.and_then(RingSize::new).ok_or(ArgError::RingSize(arg));
            let budget = number.and_then(|n| u16::try_from(n).ok());
            let budget = budget.filter(|n| (1..=MAX_BUDGET).contains(n));
            let index = match key {
                "rx" => {
                    settings.rx = size?;
                    0
                }
                "tx" => {
                    settings.tx = size?;
                    1
                }
                "budget" => {
                    settings.budget = budget.ok_or(ArgError::Budget(arg))?;
                    2
                }
                "nic" => {
                    let known = CARDS.into_iter().find(|name| *name == value);
                    settings.nic = known.ok_or(ArgError::Nic(arg))?;
                    3
                }
                _ => return Err(ArgError::Unknown(arg)),
            };
            if core::mem::replace(&mut seen[index], true) {
                return Err(ArgError::Twice(arg));
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn arguments() {
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
        let s = Settings::parse(" tx=512  rx=32 budget=1024").unwrap();
        assert_eq!((s.rx.get(), s.tx.get(), s.budget), (32, 512, 1024));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (args, error) in [
            ("rx", "argument rx: known are rx=, tx=, budget= and nic="),
            ("rx=64 mtu=9000", "argument mtu=9000: known are rx=, tx=, budget= and nic="),
            ("rx=64 rx=64", "argument rx=64: given before"),
            ("nic=eth0", "argument nic=eth0: cards are called nic, nic1, nic2 and nic3"),
            ("rx=0", "argument rx=0: a ring has a power of two from 32 to 512"),
            ("rx=16", "argument rx=16: a ring has a power of two from 32 to 512"),
            ("tx=100", "argument tx=100: a ring has a power of two from 32 to 512"),
            ("tx=1024", "argument tx=1024: a ring has a power of two from 32 to 512"),
            ("tx=65792", "argument tx=65792: a ring has a power of two from 32 to 512"),
            ("tx=-1", "argument tx=-1: a ring has a power of two from 32 to 512"),
            ("tx=", "argument tx=: a ring has a power of two from 32 to 512"),
            ("budget=0", "argument budget=0: a budget is 1 to 1024"),
            ("budget=1025", "argument budget=1025: a budget is 1 to 1024"),
            ("budget=65600", "argument budget=65600: a budget is 1 to 1024"),
            ("budget=many", "argument budget=many: a budget is 1 to 1024"),
        ] {
            let found = Settings::parse(args).unwrap_err();
            assert_eq!(std::format!("{found}"), error);
        }
    }
}
