//! A connection turned into a stream of state changes; it can ask nothing any more.

use std::boxed::Box;
use std::time::Duration;

use super::ClientError;
use super::socket::Socket;
use crate::error::{ERROR_KIND, Refusal};
use crate::event::Event;
use crate::limits::FRAME_BYTES_MAX;
use crate::{decode, frame};

/// The pool's state changes, in order, until the daemon goes away; the iterator waits for each without bound.
#[derive(Debug)]
pub struct Watch {
    socket: Option<Socket>,
    id: u32,
}

const CALL: &str = "watch";

impl Watch {
    pub(super) const fn new(socket: Socket, id: u32) -> Self {
        Self { socket: Some(socket), id }
    }

    /// The next event, or `None` if none comes within `timeout` (at least one millisecond).
    ///
    /// # Errors
    /// Any [`ClientError`]; the stream is over after it.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<Event>, ClientError> {
        match self.receive(timeout.max(Duration::from_millis(1))) {
            Err(ClientError::TimedOut(_)) => Ok(None),
            Err(error) => {
                self.socket = None;
                Err(error)
            }
            Ok(event) => Ok(Some(event)),
        }
    }

    fn receive(&mut self, timeout: Duration) -> Result<Event, ClientError> {
        let socket = self.socket.as_mut().ok_or(ClientError::Broken)?;
        let mut room = [0; FRAME_BYTES_MAX];
        let received = socket.receive(&mut room, timeout)?;
        let (header, body) = frame::split(&room[..received.bytes])?;
        let named = |error| ClientError::Body { call: CALL, error };
        if header.kind == ERROR_KIND {
            let refusal = Box::new(decode::<Refusal>(body).map_err(named)?);
            return Err(ClientError::Refused { call: CALL, refusal });
        }
        if header.id != self.id {
            return Err(ClientError::Id { want: self.id, got: header.id });
        }
        Event::read(header.kind, body).map_err(named)?.ok_or(ClientError::Kind { call: CALL, got: header.kind })
    }
}

impl Iterator for Watch {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.socket.as_ref()?;
        let event = self.receive(Duration::ZERO);
        if event.is_err() {
            self.socket = None;
        }
        Some(event)
    }
}
