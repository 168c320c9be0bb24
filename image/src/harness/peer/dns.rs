//! A name server over UDP for one client, which does what a test wants.

use simple_dns::rdata::{A, CNAME, RData};
use simple_dns::{CLASS, Name, Packet as Message, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::frames::Packet;
use super::{GUEST, PEER};

/// The name that has an address, through an alias.
pub const NAME: &str = "www.breakwater.test";
const REAL: &str = "real.breakwater.test";
/// And the address.
pub const ADDRESS: [u8; 4] = [192, 0, 2, 7];
/// A name whose answer must be asked for by TCP.
pub const LARGE: &str = "large.breakwater.test";

/// What the server does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers.
    Answers,
    /// Passes over the first, answers the next.
    Drowsy,
    /// Answers after lies: under another number, from another port, about another name.
    AmongLiars,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it does.
    pub mood: Mood,
    /// Seconds that its answers hold.
    pub ttl: u32,
    /// Number and source port of each question so far.
    pub heard: Vec<(u16, u16)>,
}

impl Server {
    /// One that answers.
    pub fn new(ttl: u32) -> Self {
        Self { mood: Mood::Answers, ttl, heard: Vec::new() }
    }

    /// What to send for a frame; `None` if it is none for a name server.
    pub fn answer(&mut self, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
        let packet = Packet::read(frame)?;
        let (port, 53, data) = packet.as_udp()? else { return None };
        let question = Message::parse(data).ok()?;
        self.heard.push((question.id(), port));
        let datagram = |from, bytes: Vec<u8>| Packet::udp(PEER, from, GUEST, port, &bytes).frame();
        let truth = datagram(53, reply(data, self.ttl, false)?);
        Some(match self.mood {
            Mood::Answers => vec![truth],
            Mood::Drowsy => {
                self.mood = Mood::Answers;
                Vec::new()
            }
            Mood::AmongLiars => {
                let lie = reply(data, self.ttl, true)?;
                let mut number = lie.clone();
                number[0] ^= 1;
                let mut name = lie.clone();
                name[13] ^= 1;
                vec![datagram(53, number), datagram(5353, lie), datagram(53, name), truth]
            }
        })
    }
}

/// The answer to a question as it came; a lie says another address. Over TCP `LARGE` is answered.
pub fn reply(question: &[u8], ttl: u32, lie: bool) -> Option<Vec<u8>> {
    let asked = Message::parse(question).ok()?;
    let of = asked.questions.first()?;
    let name = of.qname.to_string();
    let mut message = asked.clone().into_reply();
    let v4 = of.qtype == QTYPE::TYPE(TYPE::A);
    let record = |name, data| ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, ttl, data);
    let ip = if lie { [203, 0, 113, 66] } else { ADDRESS };
    let a = RData::A(A { address: u32::from_be_bytes(ip) });
    match name.as_str() {
        NAME => {
            let alias = RData::CNAME(CNAME(Name::new_unchecked(REAL)));
            message.answers.push(record(NAME, alias));
            if v4 {
                message.answers.push(record(REAL, a));
            }
        }
        LARGE if v4 => message.set_flags(PacketFlag::TRUNCATION),
        LARGE => {}
        _ => *message.rcode_mut() = RCODE::NameError,
    }
    message.build_bytes_vec_compressed().ok()
}

/// The answer to a question for [`LARGE`] over TCP.
pub fn large(question: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::parse(question).ok()?.into_reply();
    for last in 1..=40 {
        let a = RData::A(A { address: u32::from_be_bytes([198, 51, 100, last]) });
        message.answers.push(ResourceRecord::new(Name::new_unchecked(LARGE), CLASS::IN, 60, a));
    }
    message.build_bytes_vec_compressed().ok()
}
