//! Ones' complement arithmetic of Internet checksums (RFC 1071, RFC 1624); it knows no header.
//!
//! Sums are kept as the kernel keeps a `__wsum`: 32 bits, of words in the machine's byte order, end-around carry not
//! yet folded. Ones' complement sums do not care for byte order as long as all words share it (RFC 1071 section 2B).

/// `a + b` with end-around carry.
#[inline(always)]
#[must_use]
pub const fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u32
}

/// A sum folded to 16 bits.
#[inline(always)]
#[must_use]
#[allow(clippy::cast_possible_truncation)] // two folds leave at most 16 bits
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// What a sum gains when `old` becomes `new`.
#[inline(always)]
#[must_use]
pub const fn delta2(old: [u8; 2], new: [u8; 2]) -> u32 {
    add(!(u16::from_ne_bytes(old) as u32), u16::from_ne_bytes(new) as u32)
}

/// What a sum gains when `old` becomes `new`.
#[inline(always)]
#[must_use]
pub const fn delta4(old: u32, new: u32) -> u32 {
    add(!old, new)
}

/// What a sum gains when `old` becomes `new`.
#[inline(always)]
#[must_use]
pub const fn delta16(old: [u32; 4], new: [u32; 4]) -> u32 {
    let ([a, b, c, d], [e, f, g, h]) = (old, new);
    add(add(add(!a, e), add(!b, f)), add(add(!c, g), add(!d, h)))
}

/// The checksum field after a gain of `delta` in what it covers: RFC 1624, equation 3.
#[inline(always)]
#[must_use]
pub const fn apply(field: [u8; 2], delta: u32) -> [u8; 2] {
    (!fold(add(!u16::from_ne_bytes(field) as u32, delta))).to_ne_bytes()
}

/// The checksum field of a header whose own field is zero.
#[inline(always)]
#[must_use]
pub fn of_header(header: [u8; 20]) -> [u8; 2] {
    let mut sum = 0;
    let mut i = 0;
    while i < 20 {
        sum = add(sum, u16::from_ne_bytes([header[i], header[i + 1]]) as u32);
        i += 2;
    }
    (!fold(sum)).to_ne_bytes()
}
