//! What the daemon sends a watching connection unasked, under the id of its watch request.

use crate::bounded::TooLong;
use crate::codec::{Body, BodyError, Decode, Encode, decode};
use crate::frame::{self, Header};
use crate::types::State;

/// A slot came into a state. Events of one slot come in order; a watcher that lists after the watch reply and drops
/// events below a slot's listed generation misses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Changed {
    /// Number of the slot.
    pub slot: u32,
    /// Its generation now.
    pub generation: u64,
    /// Its state now.
    pub state: State,
}

/// The watcher read too slowly: so many events were dropped since the last one it got. List again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lagged {
    /// Events dropped, at least 1.
    pub dropped: u64,
}

/// Any event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// See [`Changed`].
    Changed(Changed),
    /// See [`Lagged`].
    Lagged(Lagged),
}

/// Kind of a [`Changed`] frame.
pub const CHANGED_KIND: u16 = 0x4040;
/// Kind of a [`Lagged`] frame.
pub const LAGGED_KIND: u16 = 0x4041;

impl Event {
    /// The event in that frame, or `None` if its kind is no event's.
    ///
    /// # Errors
    /// [`BodyError`] when the kind is an event's and the body is not.
    pub fn read(kind: u16, body: &[u8]) -> Result<Option<Self>, BodyError> {
        match kind {
            CHANGED_KIND => Ok(Some(Self::Changed(decode(body)?))),
            LAGGED_KIND => Ok(Some(Self::Lagged(decode(body)?))),
            _ => Ok(None),
        }
    }

    /// Writes the event's frame to the start of `room` and returns its length; allocates nothing.
    ///
    /// # Errors
    /// [`TooLong`] when it does not fit.
    pub fn write(&self, version: u16, id: u32, room: &mut [u8]) -> Result<usize, TooLong> {
        fn put(room: &mut [u8], version: u16, id: u32, kind: u16, body: &impl Body) -> Result<usize, TooLong> {
            frame::join(Header { version, kind, id }, body, room)
        }
        match self {
            Self::Changed(changed) => put(room, version, id, CHANGED_KIND, changed),
            Self::Lagged(lagged) => put(room, version, id, LAGGED_KIND, lagged),
        }
    }
}
