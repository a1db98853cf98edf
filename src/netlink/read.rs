//! Reads netlink datagrams: messages, attributes, and the kernel's answers with its own words; trusts no length in
//! them and never panics.

use nix::errno::Errno;

/// `NLMSG_ERROR`: an error, or an ACK where the number in it is 0.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: end of a dump.
pub const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the table changed during the dump.
pub const DUMP_INTR: u16 = 0x10;
/// `NLM_F_CAPPED`: the answer leaves out the request's body.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: the answer ends with ext-ack attributes.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words.
const ATTR_MSG: u16 = 1;

/// Bytes that are no netlink message, or no attribute: the length in them is impossible.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed netlink {what}: {length} bytes said, {left} there")]
pub struct Malformed {
    what: &'static str,
    length: usize,
    left: usize,
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: the index of the request in its batch.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of a datagram, in order; ends after the first malformed one.
#[derive(Clone, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let length = u32_at(bytes, 0).map_or(0, |l| l as usize);
        if length < 16 || length > bytes.len() {
            return Some(Err(Malformed { what: "message", length, left: bytes.len() }));
        }
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16_at(bytes, 4).unwrap_or_default(),
            flags: u16_at(bytes, 6).unwrap_or_default(),
            sequence: u32_at(bytes, 8).unwrap_or_default(),
            body: &bytes[16..length],
        }))
    }
}

/// The attributes of a message's body, or of a nested attribute: kind (without its flag bits) and value. Ends at the
/// first whose length is impossible.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        if length < 4 || length > bytes.len() {
            return None;
        }
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, &bytes[4..length]))
    }
}

/// The kernel's answer to one request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None` = done as asked.
    pub errno: Option<Errno>,
    /// The kernel's own words, where it has any.
    pub words: Option<String>,
}

/// Reads the body of an [`ERROR`] or [`DONE`] message.
///
/// # Errors
/// [`Malformed`] where it is too short to hold an error number.
pub fn answer(message: &Message<'_>) -> Result<Answer, Malformed> {
    let short = Malformed { what: "answer", length: 4, left: message.body.len() };
    let code = i32::from_ne_bytes(message.body.first_chunk().copied().ok_or(short)?);
    let errno = (code != 0).then(|| Errno::from_raw(code.saturating_neg()));
    // The attributes stand behind the request's header, and behind its body too unless the answer is capped; a DONE
    // carries no request.
    let skipped = match (message.kind, message.flags & CAPPED != 0) {
        (DONE, _) => 4,
        (_, true) => 4 + 16,
        (_, false) => 4 + u32_at(message.body, 4).map_or(16, |l| (l as usize).next_multiple_of(4)),
    };
    let words = (message.flags & ACK_TLVS != 0)
        .then(|| message.body.get(skipped..))
        .flatten()
        .and_then(|tail| Attributes(tail).find(|(kind, _)| *kind == ATTR_MSG))
        .map(|(_, text)| text_of(text).into_owned());
    Ok(Answer { errno, words })
}

/// Two bytes in host order at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// Four bytes in host order at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// A text up to its terminating zero; what is no UTF-8 is shown as such.
#[must_use]
pub fn text_of(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).expect("short");
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &5_u32.to_ne_bytes(), &[0; 4], body]
            .concat()
    }

    #[test]
    fn an_answer_gives_number_and_words_capped_or_not() {
        let words = [&[13, 0, 1, 0][..], b"no such\x00\x00"].concat();
        let request_header = [&28_u32.to_ne_bytes()[..], &[0; 12]].concat();
        let capped =
            message(ERROR, CAPPED | ACK_TLVS, &[&(-17_i32).to_ne_bytes()[..], &request_header, &words].concat());
        let whole =
            message(ERROR, ACK_TLVS, &[&(-17_i32).to_ne_bytes()[..], &request_header, &[7; 12], &words].concat());
        for bytes in [capped, whole] {
            let read = Messages(&bytes).next().expect("one message").expect("well-formed");
            assert_eq!(read.sequence, 5);
            let expected = Answer { errno: Some(Errno::EEXIST), words: Some("no such".into()) };
            assert_eq!(answer(&read), Ok(expected));
        }
    }

    #[test]
    fn an_ack_is_no_error() {
        let bytes = message(ERROR, 0, &[0; 20]);
        let read = Messages(&bytes).next().expect("one message").expect("well-formed");
        assert_eq!(answer(&read), Ok(Answer { errno: None, words: None }));
    }

    #[test]
    fn impossible_lengths_end_the_reading() {
        for bytes in [
            &[0, 0, 0, 0][..],
            &[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1],
        ] {
            let read: Vec<_> = Messages(bytes).collect();
            assert!(matches!(read[..], [Err(_)]), "{bytes:?} gave {read:?}");
        }
        for bytes in [&[0, 0, 0, 0][..], &[3, 0, 1, 0], &[5, 0, 1, 0], &[4, 0, 1], &[]] {
            assert_eq!(Attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            for read in Messages(&bytes).flatten() {
                let _ = answer(&read);
                for (_, value) in Attributes(read.body) {
                    Attributes(value).for_each(drop);
                }
            }
        }
    }
}
