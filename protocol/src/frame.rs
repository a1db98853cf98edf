//! One datagram, one frame: a fixed header, then the body; decides nothing about kinds and versions.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bounded::TooLong;
use crate::call::Call;
use crate::codec::{Body, encode};
use crate::error::{ERROR_KIND, Refusal};
use crate::limits::HEADER_BYTES;
use crate::{VERSION_MAX, VERSION_MIN};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"NSLT";

/// The header's bytes. Its layout is the same in every version.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],
    version: U16,
    kind: U16,
    body_bytes: U32,
    id: U32,
}

const _: () = assert!(size_of::<Raw>() == HEADER_BYTES);

/// What a header says besides magic and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version that the body is written in.
    pub version: u16,
    /// What the body is.
    pub kind: u16,
    /// The client's number for the request: its reply and its events carry it too. 0 is the daemon's, for a refusal
    /// that answers no request it could read.
    pub id: u32,
}

impl Header {
    /// Whether this crate speaks the header's version.
    #[must_use]
    pub const fn is_spoken(self) -> bool {
        VERSION_MIN <= self.version && self.version <= VERSION_MAX
    }

    /// This header, its version one that an answer can be written in.
    pub(crate) const fn answerable(self) -> Self {
        if self.is_spoken() { self } else { Self { version: VERSION_MAX, ..self } }
    }
}

/// Why a datagram is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not even a header.
    #[error("the frame is {0} bytes long, its header alone is {HEADER_BYTES}")]
    Short(usize),
    /// Another protocol's bytes.
    #[error("the frame begins with {0:02x?}, not with the magic {MAGIC:02x?}")]
    Magic([u8; 4]),
    /// The header's length is not the datagram's.
    #[error("the header announces {said} bytes of body, the frame has {has}")]
    Length {
        /// In the header.
        said: u32,
        /// In the datagram.
        has: usize,
    },
}

/// Splits a datagram into its header and its body.
///
/// # Errors
/// [`FrameError`] when it is not one whole frame.
pub fn split(datagram: &[u8]) -> Result<(Header, &[u8]), FrameError> {
    let (raw, body) = Raw::ref_from_prefix(datagram).map_err(|_| FrameError::Short(datagram.len()))?;
    if raw.magic != MAGIC {
        return Err(FrameError::Magic(raw.magic));
    }
    if usize::try_from(raw.body_bytes.get()) != Ok(body.len()) {
        return Err(FrameError::Length { said: raw.body_bytes.get(), has: body.len() });
    }
    Ok((Header { version: raw.version.get(), kind: raw.kind.get(), id: raw.id.get() }, body))
}

/// Writes a frame to the start of `room` and returns its length; allocates nothing.
///
/// # Errors
/// [`TooLong`] when it does not fit. [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX) fits every message.
pub fn join(header: Header, body: &impl Body, room: &mut [u8]) -> Result<usize, TooLong> {
    let max = room.len();
    let (head, rest) = room.split_at_mut_checked(HEADER_BYTES).ok_or(TooLong { len: HEADER_BYTES, max })?;
    let bytes = encode(body, rest)?;
    let raw = Raw {
        magic: MAGIC,
        version: header.version.into(),
        kind: header.kind.into(),
        body_bytes: u32::try_from(bytes).map_err(|_| TooLong { len: bytes, max })?.into(),
        id: header.id.into(),
    };
    head.copy_from_slice(raw.as_bytes());
    Ok(HEADER_BYTES + bytes)
}

/// Writes a request's frame; see [`join`].
///
/// # Errors
/// As [`join`].
pub fn write_request<C: Call>(version: u16, id: u32, call: &C, room: &mut [u8]) -> Result<usize, TooLong> {
    join(Header { version, kind: C::KIND.request(), id }, call, room)
}

/// Writes the frame of the reply to a request of type `C`; see [`join`].
///
/// # Errors
/// As [`join`].
pub fn write_reply<C: Call>(version: u16, id: u32, reply: &C::Reply, room: &mut [u8]) -> Result<usize, TooLong> {
    join(Header { version, kind: C::KIND.reply(), id }, reply, room)
}

/// Writes the frame of a refusal; see [`join`].
///
/// # Errors
/// As [`join`].
pub fn write_refusal(version: u16, id: u32, refusal: &Refusal, room: &mut [u8]) -> Result<usize, TooLong> {
    join(Header { version, kind: ERROR_KIND, id }, refusal, room)
}
