//! What identifies a slot: newtypes for numbers, generations, device names and MACs; no I/O, no policy.

use std::fmt;
use std::str::FromStr;

use crate::limits::{LINK_NAME_BYTES_MAX, SLOTS_MAX};

/// Number of a slot, 0 to [`SLOTS_MAX`] − 1. Everything else about a slot follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u32);

impl SlotId {
    /// The slot of that number, or `None` past [`SLOTS_MAX`].
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < SLOTS_MAX { Some(Self(number)) } else { None }
    }

    /// The slots 0 to `count` − 1; `count` is cut to [`SLOTS_MAX`].
    pub fn first(count: u32) -> impl ExactSizeIterator<Item = Self> + DoubleEndedIterator + Clone {
        (0..count.min(SLOTS_MAX)).map(Self)
    }

    /// The number itself.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number as an index into a pool-sized array.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fencing token of a lease: raised by every lease and every release of the slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kernel's number of a device in its namespace; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it may stand as a device's own address: unicast and not all zero.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        let Self(b) = self;
        b[0] & 1 == 0 && (b[0] | b[1] | b[2] | b[3] | b[4] | b[5]) != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Text that is no MAC of the form `06:00:ac:10:00:02`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no MAC address: six two-digit hexadecimal bytes with colons between, as in 06:00:ac:10:00:02")]
pub struct MacError(String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(|| MacError(text.into()))?;
            // from_str_radix takes a leading '+'; two characters of hexadecimal digits do not.
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacError(text.into()));
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError(text.into()))?;
        }
        if parts.next().is_some() {
            return Err(MacError(text.into()));
        }
        Ok(Self(mac))
    }
}

/// A device name that the kernel takes: 1 to 15 bytes, kept in place so that copying allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName {
    bytes: [u8; LINK_NAME_BYTES_MAX],
    len: u8,
}

/// Why a text is no device name (`dev_valid_name`, net/core/dev.c: no '/', ':', white space; not "." or "..").
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LinkNameError {
    /// Nothing there.
    #[error("a device name is at least one character")]
    Empty,
    /// Past 15 bytes.
    #[error("'{0}' is {1} bytes long; the kernel takes at most {LINK_NAME_BYTES_MAX}")]
    TooLong(String, usize),
    /// Something the kernel refuses.
    #[error("'{0}' is no device name: no '/', ':', white space or '%', and not '.' or '..'")]
    Refused(String),
}

impl LinkName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("built from a str, whole")
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        if text.is_empty() {
            return Err(LinkNameError::Empty);
        }
        if text.len() > LINK_NAME_BYTES_MAX {
            return Err(LinkNameError::TooLong(text.into(), text.len()));
        }
        let bad = |b: u8| matches!(b, b'/' | b':' | b'%') || b.is_ascii_whitespace() || b.is_ascii_control();
        if matches!(text, "." | "..") || text.bytes().any(bad) {
            return Err(LinkNameError::Refused(text.into()));
        }
        let mut bytes = [0; LINK_NAME_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, len: u8::try_from(text.len()).expect("at most 15") })
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_six_two_digit_bytes_and_nothing_else() {
        assert_eq!("06:00:ac:10:00:02".parse(), Ok(Mac([6, 0, 0xac, 0x10, 0, 2])));
        for bad in
            ["", "06:00:ac:10:00", "06:00:ac:10:00:02:03", "6:0:ac:10:0:2", "+6:00:ac:10:00:02", "06-00-ac-10-00-02"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_link_name_is_what_the_kernel_takes() {
        assert_eq!("slot42".parse::<LinkName>().map(|n| n.to_string()), Ok("slot42".into()));
        assert_eq!("a23456789012345".parse::<LinkName>().map(|n| n.as_str().len()), Ok(15));
        for bad in ["", ".", "..", "a/b", "a b", "eth0:1", "slot%d", "a234567890123456", "a\nb"] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad:?} was taken");
        }
    }
}
