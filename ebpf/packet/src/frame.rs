//! The packet as the functions of this crate see it: bytes to load and store, and checksums to mend; how is the
//! implementer's matter (kernel helpers in a program, plain memory in a test).

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// How a store weighs in the sum of the whole packet, which a network card may have computed on receipt
/// (`CHECKSUM_COMPLETE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Another store or mend in the same change gives it back: the packet's sum stays.
    Balanced,
    /// The packet's sum changes with these bytes.
    Counted,
}

/// Which checksum is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// An IPv4 header's.
    Header,
    /// A transport's, after a change in the bytes it covers. Left alone where a device will compute it later.
    Body,
    /// A transport's, after a change in its pseudo-header: mended even where a device will compute the rest later,
    /// since what stands in the field until then is the pseudo-header's sum.
    Pseudo,
    /// UDP's [`Pseudo`](Self::Pseudo): 0 means "none" and stays 0, and a computed 0 is written as 0xffff.
    PseudoUdp,
}

/// A packet in the hands of a program. `None` = out of the packet's bounds, or refused by the kernel.
pub trait Frame {
    /// The value whose bytes are at `at`.
    fn load<T: FromBytes>(&self, at: u32) -> Option<T>;

    /// Replaces the bytes at `at` by the value's.
    fn store<T: IntoBytes + Immutable>(&mut self, at: u32, value: &T, share: Share) -> Option<()>;

    /// Mends the checksum field at `at` for a gain of `delta` (see [`checksum`](crate::checksum)) in what it covers.
    fn mend(&mut self, at: u32, delta: u32, sum: Sum) -> Option<()>;

    /// Copies `len` bytes at `at`, at least 1 and at most `N`, to the front of `out`.
    fn load_some<const N: usize>(&self, at: u32, len: u32, out: &mut [u8; N]) -> Option<()>;
}
