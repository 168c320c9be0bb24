//! What the manifest may say about addresses of IPv6, in `args` beside those of IPv4.

use crate::addressing::ArgError;
use core::fmt;
use core::net::Ipv6Addr;

/// How the interface gets its addresses of IPv6. A link-local one it always has, unless it does not
/// speak IPv6 at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing6 {
    /// None: IPv6 is not spoken.
    Off,
    /// As routers say (RFC 4862), as long as there are any.
    #[default]
    Auto,
    /// Given; what routers say is not heeded.
    Static {
        /// Address.
        addr: Ipv6Addr,
        /// Prefix length.
        prefix: u8,
        /// Default gateway.
        gateway: Option<Ipv6Addr>,
        /// Name server.
        dns: Option<Ipv6Addr>,
    },
}

/// The words that are read here; [`crate::Addressing`] passes over them.
pub(crate) fn is_word(arg: &str) -> bool {
    matches!(arg.split_once('='), Some(("ip6" | "gw6" | "dns6", _)))
}

impl Addressing6 {
    /// Reads arguments, separated by spaces: `ip6=off`, `ip6=auto` or nothing, or
    /// `ip6=2001:db8::2/64` with or without `gw6=` and `dns6=`. Words about IPv4 are passed over.
    ///
    /// # Errors
    /// The first argument that is wrong.
    pub fn parse(args: &str) -> Result<Self, ArgError<'_>> {
        let (mut ip, mut gw, mut dns) = (None, None, None);
        for arg in args.split_whitespace().filter(|a| is_word(a)) {
            let seen = match arg.split_once('=') {
                Some(("ip6", v)) => ip.replace(own(v).ok_or(ArgError::Address6(arg))?).is_some(),
                Some(("gw6", v)) => gw.replace((arg, host_of(arg, v)?)).is_some(),
                Some((_, v)) => dns.replace((arg, host_of(arg, v)?)).is_some(),
                None => false,
            };
            if seen {
                return Err(ArgError::Twice(arg));
            }
        }
        match ip {
            Some(Self::Static { addr, prefix, .. }) => {
                let (gateway, dns) = (gw.map(|(_, v)| v), dns.map(|(_, v)| v));
                Ok(Self::Static { addr, prefix, gateway, dns })
            }
            how => match gw.or(dns) {
                Some((arg, _)) => Err(ArgError::NoAddress6(arg)),
                None => Ok(how.unwrap_or_default()),
            },
        }
    }
}

/// Whether a host may have this address.
fn is_host(a: &Ipv6Addr) -> bool {
    !a.is_unspecified() && !a.is_loopback() && !a.is_multicast() && a.to_ipv4_mapped().is_none()
}

fn host_of<'a>(arg: &'a str, value: &str) -> Result<Ipv6Addr, ArgError<'a>> {
    value.parse().ok().filter(is_host).ok_or(ArgError::Host(arg))
}

fn own(text: &str) -> Option<Addressing6> {
    match text {
        "off" => Some(Addressing6::Off),
        "auto" => Some(Addressing6::Auto),
        _ => {
            let (addr, prefix) = network(text)?;
            Some(Addressing6::Static { addr, prefix, gateway: None, dns: None })
        }
    }
}

/// `2001:db8::2/64`: an address that a host may have, and the length of its network's prefix.
pub fn network(text: &str) -> Option<(Ipv6Addr, u8)> {
    let (addr, prefix) = text.split_once('/')?;
    let addr: Ipv6Addr = addr.parse().ok().filter(is_host)?;
    let prefix = prefix.parse().ok().filter(|p| (1..=128).contains(p))?;
    Some((addr, prefix))
}

/// As [`Addressing6::parse`] reads it.
impl fmt::Display for Addressing6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addr, prefix, gateway, dns) = match self {
            Self::Off => return f.write_str("ip6=off"),
            Self::Auto => return f.write_str("ip6=auto"),
            Self::Static { addr, prefix, gateway, dns } => (addr, prefix, gateway, dns),
        };
        write!(f, "ip6={addr}/{prefix}")?;
        if let Some(gateway) = gateway {
            write!(f, " gw6={gateway}")?;
        }
        if let Some(dns) = dns {
            write!(f, " dns6={dns}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::Addressing;
    use std::string::ToString;

    #[test]
    fn words_of_both_families_stand_side_by_side() {
        let args = "ip=10.9.0.2/24 ip6=2001:db8::2/64 gw6=fe80::1 gw=10.9.0.1 dns6=2001:db8::53";
        let v6 = Addressing6::parse(args).unwrap();
        assert_eq!(v6.to_string(), "ip6=2001:db8::2/64 gw6=fe80::1 dns6=2001:db8::53");
        assert_eq!(Addressing::parse(args).unwrap().to_string(), "ip=10.9.0.2/24 gw=10.9.0.1");
        assert_eq!(Addressing6::parse("dhcp"), Ok(Addressing6::Auto));
        assert_eq!(Addressing6::parse("ip6=off dhcp"), Ok(Addressing6::Off));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, why) in [
            ("ip6=2001:db8::2", ArgError::Address6("ip6=2001:db8::2")),
            ("ip6=ff02::1/64", ArgError::Address6("ip6=ff02::1/64")),
            ("ip6=auto ip6=off", ArgError::Twice("ip6=off")),
            ("ip6=2001:db8::2/64 gw6=::1", ArgError::Host("gw6=::1")),
            ("gw6=fe80::1", ArgError::NoAddress6("gw6=fe80::1")),
        ] {
            assert_eq!(Addressing6::parse(args), Err(why), "{args}");
        }
    }
}
