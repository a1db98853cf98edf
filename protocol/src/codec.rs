//! Bodies to bytes and back: bincode 2, standard configuration, and the only file that names it.
//!
//! What bincode itself would let pass is refused here: bytes after the last field, and numbers that are not in their
//! shortest form. So each value has exactly one encoding.

use bincode::config::{Configuration, Limit, standard};
use bincode::de::read::Reader;
use bincode::enc::write::Writer;
// For the message types: their derives and tables go through this file's name.
pub(crate) use bincode::de::{BorrowDecoder, Decoder};
pub(crate) use bincode::enc::Encoder;
pub(crate) use bincode::error::{DecodeError, EncodeError};
pub(crate) use bincode::{BorrowDecode, Decode, Encode};

use crate::bounded::{List, Text, TooLong};
use crate::limits::FRAME_BYTES_MAX;

/// Little-endian, variable-length integers, at most one frame's bytes.
type Standard = Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<FRAME_BYTES_MAX>>;

const CONFIG: Standard = standard().with_limit::<FRAME_BYTES_MAX>();

/// What a frame can carry. Implemented by every message of this crate, and by nothing else that matters.
pub trait Body: Encode + Decode<()> {}

impl<T: Encode + Decode<()>> Body for T {}

/// Why bytes are no body of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A field reaches past the end.
    #[error("the body ends inside a field")]
    Short,
    /// More than the message's fields.
    #[error("{0} bytes follow the body's last field")]
    Trailing(usize),
    /// A number that takes more bytes than it needs.
    #[error("a number is not in its shortest form")]
    NotShortest,
    /// A number past its field's width.
    #[error("a number does not fit its field")]
    TooWide,
    /// A text or list past its bound.
    #[error("a text or list is longer than its limit")]
    TooLong,
    /// Text that is none.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A state, policy, option or the like outside its table.
    #[error("a tag has a value outside its table")]
    Tag,
}

/// Writes the body to the start of `room` and returns its length; allocates nothing.
///
/// # Errors
/// [`TooLong`] when it does not fit. A room of [`FRAME_BYTES_MAX`] less the header fits every message.
pub fn encode(body: &impl Body, room: &mut [u8]) -> Result<usize, TooLong> {
    let max = room.len();
    // The encoders of this crate's types only ever fail for want of room.
    bincode::encode_into_slice(body, room, CONFIG).map_err(|_| TooLong { len: max + 1, max })
}

/// The body that those bytes are, all of them; allocates nothing.
///
/// # Errors
/// [`BodyError`] names the first thing wrong.
pub fn decode<B: Body>(bytes: &[u8]) -> Result<B, BodyError> {
    let (body, used) = bincode::decode_from_slice::<B, _>(bytes, CONFIG).map_err(BodyError::of)?;
    if used < bytes.len() {
        return Err(BodyError::Trailing(bytes.len() - used));
    }
    bincode::encode_into_writer(&body, Same(bytes), CONFIG).map_err(|_| BodyError::NotShortest)?;
    Ok(body)
}

impl BodyError {
    #[expect(clippy::needless_pass_by_value, reason = "taken by map_err, which has nothing else to do with it")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "bincode leaves its enum open, and the rest means one thing")]
    fn of(error: DecodeError) -> Self {
        match error {
            DecodeError::UnexpectedEnd { .. } => Self::Short,
            DecodeError::LimitExceeded => Self::TooLong,
            DecodeError::Utf8 { .. } => Self::Utf8,
            DecodeError::InvalidIntegerType { .. } | DecodeError::OutsideUsizeRange(_) => Self::TooWide,
            // Tables, booleans and options; and whatever bincode may refuse that our types do not use.
            _ => Self::Tag,
        }
    }
}

/// A writer that takes only the bytes it already has.
struct Same<'a>(&'a [u8]);

impl Writer for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::UnexpectedEnd)?;
        Ok(())
    }
}

/// As a `str`: length, then bytes.
impl<const N: usize> Encode for Text<N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.as_str().encode(encoder)
    }
}

impl<Context, const N: usize> Decode<Context> for Text<N> {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = length(decoder, N)?;
        decoder.claim_bytes_read(len)?;
        let mut bytes = [0; N];
        decoder.reader().read(&mut bytes[..len])?;
        let text = core::str::from_utf8(&bytes[..len]).map_err(|inner| DecodeError::Utf8 { inner })?;
        Ok(Self::cut(text))
    }
}

/// As a slice: length, then items.
impl<T: Encode, const N: usize> Encode for List<T, N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (**self).encode(encoder)
    }
}

impl<Context, T: Decode<Context> + Copy + Default, const N: usize> Decode<Context> for List<T, N> {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut list = Self::new();
        for _ in 0..length(decoder, N)? {
            list.push(T::decode(decoder)?).map_err(|_| DecodeError::LimitExceeded)?;
        }
        Ok(list)
    }
}

// The derives ask for the borrowing form too; nothing here borrows.
impl<'de, Context, const N: usize> BorrowDecode<'de, Context> for Text<N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl<'de, Context, T: Decode<Context> + Copy + Default, const N: usize> BorrowDecode<'de, Context> for List<T, N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// Encodes a table of numbers by those numbers: bincode's derive counts variants from 0, whatever their discriminants.
macro_rules! numbered {
    ($($table:ty: $number:ty),+) => {
        $(impl $crate::codec::Encode for $table {
            fn encode<E: $crate::codec::Encoder>(&self, encoder: &mut E) -> Result<(), $crate::codec::EncodeError> {
                self.number().encode(encoder)
            }
        }

        impl<Context> $crate::codec::Decode<Context> for $table {
            fn decode<D: $crate::codec::Decoder<Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let number = <$number>::decode(decoder)?;
                Self::from_number(number).ok_or($crate::codec::DecodeError::Other("a number outside its table"))
            }
        }

        impl<'de, Context> $crate::codec::BorrowDecode<'de, Context> for $table {
            fn borrow_decode<D: $crate::codec::BorrowDecoder<'de, Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, $crate::codec::DecodeError> {
                <Self as $crate::codec::Decode<Context>>::decode(decoder)
            }
        })+
    };
}
pub(crate) use numbered;

fn length<Context, D: Decoder<Context = Context>>(decoder: &mut D, max: usize) -> Result<usize, DecodeError> {
    let len = u64::decode(decoder)?;
    usize::try_from(len).ok().filter(|len| *len <= max).ok_or(DecodeError::LimitExceeded)
}
