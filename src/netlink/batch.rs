//! Writes netlink messages one after another into one reused buffer; knows headers, attributes and padding, not what
//! they mean.

use crate::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER_BYTES: usize = 16;
/// Room that must be left for one more rtnetlink message: the longest we write (a veth pair) is under 400 bytes. What
/// is longer, as rules are, has a bound of its own.
const MESSAGE_BYTES_MAX: usize = 1024;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer also when all went well.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`: refuse what exists.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: behind those that are there.
pub const APPEND: u16 = 0x800;

/// Messages for one `send`: the first has sequence number 0, so an answer's number is the message's index.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    last_start: usize,
    len: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next message must go into another batch.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len >= BATCH_MESSAGES_MAX || self.bytes.len() + MESSAGE_BYTES_MAX > BATCH_BYTES_MAX
    }

    /// Forgets the messages, keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.last_start = 0;
        self.len = 0;
    }

    /// The bytes to send; the last message asks for an ACK, so that an answer always comes. Errors come unasked.
    pub fn finish(&mut self) -> &[u8] {
        self.acknowledge();
        &self.bytes
    }

    /// Has the last message ask for an ACK.
    pub fn acknowledge(&mut self) {
        if self.len > 0 {
            for (byte, ack) in self.bytes[self.last_start + 6..].iter_mut().zip(ACK.to_ne_bytes()) {
                *byte |= ack;
            }
        }
    }

    /// The bytes as they stand: for a batch that says itself which of its messages asks for an ACK.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends one message: its kind, flags beside `REQUEST`, the kind's fixed header, and what `fill` adds.
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        let sequence = u32::try_from(self.len).expect("bounded by is_full");
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        pad(&mut self.bytes);
        fill(&mut Attributes { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).expect("a message is short");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        debug_assert!(self.bytes.len() - start >= HEADER_BYTES);
        self.last_start = start;
        self.len += 1;
    }
}

/// Appends attributes to the message, or to the attribute, that is being written.
#[derive(Debug)]
pub struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Attributes<'a> {
    /// Attributes that stand in no message yet.
    pub fn to(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// An attribute of raw bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).expect("an attribute is short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }

    /// An attribute of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// An attribute of two bytes, host order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// An attribute of four bytes, host order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut buffer = [0; 64];
        buffer[..value.len()].copy_from_slice(value.as_bytes());
        self.bytes(kind, &buffer[..=value.len()])
    }

    /// Bytes without an attribute header: the fixed header inside a nested message.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(&mut Attributes { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).expect("an attribute is short");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_each_other_aligned_and_only_the_last_asks_for_an_ack() {
        let mut batch = Batch::new();
        batch.message(16, CREATE, &[1, 2, 3, 4], |a| {
            a.text(3, "br0").nest(18, |n| {
                n.u8(1, 7);
            });
        });
        batch.message(20, 0, &[9; 8], |_| ());
        let expected = [
            &[40, 0, 0, 0, 16, 0, 0x01, 0x04, 0, 0, 0, 0, 0, 0, 0, 0][..], // length, kind, flags, sequence, port
            &[1, 2, 3, 4],
            &[8, 0, 3, 0, b'b', b'r', b'0', 0],
            &[12, 0, 18, 0, 5, 0, 1, 0, 7, 0, 0, 0], // the nest ends with the padding of what it holds
            &[24, 0, 0, 0, 20, 0, 0x05, 0x00, 1, 0, 0, 0, 0, 0, 0, 0],
            &[9; 8],
        ]
        .concat();
        assert_eq!(batch.finish(), expected);
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn a_batch_is_full_at_the_number_whose_answers_fit_the_socket() {
        let mut batch = Batch::new();
        while !batch.is_full() {
            batch.message(16, 0, &[0; 16], |_| ());
        }
        assert_eq!(batch.len(), BATCH_MESSAGES_MAX);
        batch.clear();
        assert!(batch.is_empty() && !batch.is_full() && batch.finish().is_empty());
    }
}
