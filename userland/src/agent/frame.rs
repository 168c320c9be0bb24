//! Frames of the control channel: a magic of two bytes, a length, the rest. What lies between them is
//! skipped.

use alloc::vec::Vec;

/// First bytes of a request.
pub const REQUEST: [u8; 2] = [0xA5, 0x5A];
/// First bytes of a reply.
pub const REPLY: [u8; 2] = [0x5A, 0xA5];
/// Most bytes behind the length.
pub const MAX: usize = 1 << 20;
/// Bytes of magic and length.
const HEAD: usize = 6;
/// Bytes of tag and operation, the least that a request has.
const LEAST: usize = 5;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Comes back in the reply.
    pub tag: u32,
    /// Operation.
    pub op: u8,
    /// Its arguments.
    pub arguments: Vec<u8>,
}

/// Finds requests in a stream of bytes.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame is looked for.
    from: usize,
}

impl Frames {
    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.from > 0 && self.from == self.bytes.len() {
            self.bytes.clear();
            self.from = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_waiting(&self) -> bool {
        self.from < self.bytes.len()
    }

    /// What has begun is no frame after all: the rest never came. Looks for the next behind its magic.
    pub fn give_up(&mut self) {
        self.from = self.bytes.len().min(self.from + 1);
    }

    /// The next request, if it is complete.
    pub fn take(&mut self) -> Option<Request> {
        loop {
            let rest = &self.bytes[self.from..];
            let magic = rest.windows(2).position(|w| w == REQUEST);
            let Some(at) = magic else {
                // The last byte may be the magic's first.
                let keep = rest.last() == Some(&REQUEST[0]);
                self.from = self.bytes.len() - keep as usize;
                return None;
            };
            self.from += at;
            let frame = &self.bytes[self.from..];
            let len = frame.get(2..HEAD)?;
            let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
            if !(LEAST..=MAX).contains(&len) {
                self.from += 1;
                continue;
            }
            let body = frame.get(HEAD..HEAD + len)?;
            let tag = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
            let request = Request { tag, op: body[4], arguments: body[LEAST..].to_vec() };
            self.from += HEAD + len;
            self.trim();
            return Some(request);
        }
    }

    fn trim(&mut self) {
        if self.from * 2 > self.bytes.len() {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
    }
}

/// A reply's bytes.
pub fn reply(tag: u32, result: i64, data: &[u8]) -> impl Iterator<Item = u8> + use<'_> {
    let len = 12 + data.len() as u32;
    REPLY
        .into_iter()
        .chain(len.to_le_bytes())
        .chain(tag.to_le_bytes())
        .chain(result.to_le_bytes())
        .chain(data.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn frame(tag: u32, op: u8, arguments: &[u8]) -> Vec<u8> {
        let mut b = REQUEST.to_vec();
        b.extend((5 + arguments.len() as u32).to_le_bytes());
        b.extend(tag.to_le_bytes());
        b.push(op);
        b.extend(arguments);
        b
    }

    #[test]
    fn frames_are_found_among_garbage_in_pieces_of_any_size() {
        let mut stream = vec![0xA5, 0, 0x5A, 0xA5];
        stream.extend(frame(7, 0x10, &[1, 2, 3]));
        // A magic with an impossible length, and one byte of a magic before a real one.
        stream.extend([0xA5, 0x5A, 0xff, 0xff, 0xff, 0xff, 0xA5]);
        stream.extend(frame(8, 0, &[]));
        stream.extend([1; 40]);
        stream.extend(frame(u32::MAX, 0xff, &[0xA5, 0x5A, 9]));
        for size in [1, 2, 3, 7, 1000] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.feed(piece);
                while let Some(request) = frames.take() {
                    found.push((request.tag, request.op, request.arguments));
                }
            }
            let expected =
                [(7, 0x10, vec![1, 2, 3]), (8, 0, vec![]), (u32::MAX, 0xff, vec![0xA5, 0x5A, 9])];
            assert_eq!(found, expected, "{size}");
            assert!(!frames.is_waiting());
        }
    }

    #[test]
    fn a_frame_that_never_ends_does_not_swallow_the_next() {
        let mut frames = Frames::default();
        frames.feed(&[0xA5, 0x5A, 0, 1, 0, 0, 9]);
        frames.feed(&frame(1, 2, &[3]));
        assert_eq!(frames.take(), None);
        assert!(frames.is_waiting());
        frames.give_up();
        assert_eq!(frames.take(), Some(Request { tag: 1, op: 2, arguments: vec![3] }));
    }

    #[test]
    fn replies_are_little_endian() {
        let bytes: Vec<u8> = reply(0x0102_0304, -11, b"ab").collect();
        let expected = [
            0x5A, 0xA5, 14, 0, 0, 0, 4, 3, 2, 1, 0xf5, 255, 255, 255, 255, 255, 255, 255, b'a',
            b'b',
        ];
        assert_eq!(bytes, expected);
    }
}
