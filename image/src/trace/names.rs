//! What messages are called: interface and request, from the types that the two sides exchange.
//!
//! The first byte of a request is the number of its variant (postcard). The variants' names come
//! from the types themselves, by a deserializer that is given nothing and only listens which enum it
//! is asked for.

use libipc::msg::interface;
use libipc::{net, proc, sock};
use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// What a message with this interface number and first byte asks.
pub fn request(number: u16, first: u8) -> String {
    let requests = match number {
        interface::SOCK => variants::<sock::Request>(),
        interface::NET => variants::<net::Request>(),
        interface::PROC => variants::<proc::Request>(),
        _ => &[],
    };
    match (interface::name(number), requests.get(first as usize)) {
        (Some(interface), Some(request)) => format!("{interface}.{request}"),
        (Some(interface), None) => format!("{interface}.{first}"),
        (None, _) => format!("message {number:#x}.{first}"),
    }
}

/// Names of the variants of an enum.
fn variants<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names = Listener(&[]);
    // It always fails: there is nothing to make a value of.
    let _ = T::deserialize(&mut names);
    names.0
}

struct Listener(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut Listener {
    type Error = Error;
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("nothing here"))
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0 = variants;
        Err(Error::custom("nothing here"))
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number that names a request is the first byte of its encoding.
    fn named<T: serde::Serialize>(interface: u16, value: &T) -> String {
        request(interface, postcard::to_allocvec(value).unwrap()[0])
    }

    #[test]
    fn requests_are_called_as_in_the_code() {
        let accept = sock::Request::Accept { id: 3 };
        assert_eq!(named(interface::SOCK, &accept), "sock.Accept");
        assert_eq!(named(interface::NET, &net::Request::Stats), "net.Stats");
        assert_eq!(named(interface::PROC, &proc::Request::PowerOff), "proc.PowerOff");
        assert_eq!(request(interface::NIC, 4), "nic.4");
        assert_eq!(request(77, 0), "message 0x4d.0");
    }
}
