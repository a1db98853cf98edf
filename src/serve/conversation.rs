//! One connection as a pure thing: datagrams in, requests or refusals out, and what is known of the replies' fate; holds
//! no fd and sends nothing.

use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::frame::Header;
use netslot_protocol::request::{Request, RequestError};
use netslot_protocol::{VERSION_MAX, limits::REQUEST_BYTES_MAX};

use crate::ledger::Lease;
use crate::limits::LEASE_SLOTS_MAX;
use crate::sys::seqpacket::Received;

/// Room for the largest request and one byte more, by which a larger one is known.
pub const ROOM_BYTES: usize = REQUEST_BYTES_MAX + 1;

/// What a datagram was.
#[derive(Debug)]
pub enum Heard {
    /// A request.
    Request(Header, Request),
    /// None: to be refused, and the connection closed where the refusal's code says so.
    Refused(Header, Refusal),
    /// The client has gone, or will send nothing more.
    End,
}

/// What the connection is subscribed to.
#[derive(Clone, Copy, Debug)]
pub struct Watching {
    /// Id of the watch request, which its events carry.
    pub id: u32,
    /// Version of the watch request.
    pub version: u16,
    /// Place in the ring of changes.
    pub place: u64,
    /// The client has left so much unread that the last event could not be sent.
    pub stalled: bool,
}

/// The state of a connection beside its socket.
#[derive(Debug)]
pub struct Conversation {
    /// A job for it is under way on a worker; until it is answered, nothing more is read. So a client has one at a time.
    pub busy: bool,
    /// What it is busy with is a list that nobody writes yet: it has not read the one before, or others of its user have not.
    pub held: bool,
    /// To be closed as soon as the loop gets there; nothing more is sent.
    pub closing: bool,
    /// Its subscription.
    pub watching: Option<Watching>,
    /// The leases in the last message sent, if that was a grant.
    last_grant: Vec<Lease>,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// A connection that has just come.
    #[must_use]
    pub fn new() -> Self {
        // Made here, so that no lease makes it grow.
        let last_grant = Vec::with_capacity(LEASE_SLOTS_MAX as usize);
        Self { busy: false, held: false, closing: false, watching: None, last_grant }
    }

    /// Reads a datagram.
    #[must_use]
    pub fn hear(&self, received: Received, room: &[u8]) -> Heard {
        // An empty datagram cannot be told from the end, and is no frame either.
        if received.bytes == 0 && !received.cut {
            return Heard::End;
        }
        let nobody = Header { version: VERSION_MAX, kind: 0, id: 0 };
        if received.had_fds {
            let detail = format_args!("the daemon takes no fds: send frames without them");
            return Heard::Refused(nobody, Refusal::new(ErrorCode::BadFrame, detail));
        }
        if received.cut {
            return Heard::Refused(nobody, RequestError::TooLarge(received.bytes).into());
        }
        match Request::read(&room[..received.bytes]) {
            Ok((header, request)) => Heard::Request(header, request),
            Err((header, error)) => Heard::Refused(header, error.into()),
        }
    }

    /// A grant was sent.
    pub fn sent_grant(&mut self, leases: &[Lease]) {
        self.last_grant.clear();
        self.last_grant.extend_from_slice(leases);
    }

    /// Something else was sent.
    pub fn sent_other(&mut self) {
        self.last_grant.clear();
    }

    /// The leases that the client certainly never learnt of, when it has closed with something unread: what it left
    /// unread includes the last message, as they are read in order. (The kernel says no more than that; of an earlier
    /// grant followed by other messages nothing can be told, and it stays.)
    #[must_use]
    pub fn never_read(&self) -> &[Lease] {
        &self.last_grant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::{Generation, SlotId};
    use netslot_protocol::frame;
    use netslot_protocol::request;

    fn hear(bytes: &[u8]) -> Heard {
        let mut room = [0; ROOM_BYTES];
        let len = bytes.len().min(ROOM_BYTES);
        room[..len].copy_from_slice(&bytes[..len]);
        let received = Received { bytes: len, cut: bytes.len() > ROOM_BYTES, had_fds: false };
        Conversation::new().hear(received, &room)
    }

    #[test]
    fn a_request_is_heard_with_its_header() {
        let mut room = [0; 64];
        let len = frame::write_request(1, 77, &request::Get { slot: 5 }, &mut room).expect("fits");
        let Heard::Request(header, Request::Get(get)) = hear(&room[..len]) else { panic!("a get") };
        assert_eq!((header.id, get.slot), (77, 5));
    }

    #[test]
    fn what_is_no_request_is_refused_and_the_rest_of_the_connection_with_it_where_the_code_says_so() {
        let mut half = [0; 64];
        let len = frame::write_request(1, 9, &request::Get { slot: 5 }, &mut half).expect("fits");
        for (bytes, code) in [
            (&half[..len - 1], ErrorCode::BadFrame),
            (&half[..10], ErrorCode::BadFrame),
            (b"GET / HTTP/1.1\r\n\r\n", ErrorCode::BadFrame),
            (&[0xff; ROOM_BYTES], ErrorCode::TooLarge),
            (&vec![0; 1 << 20], ErrorCode::TooLarge),
        ] {
            let Heard::Refused(_, refusal) = hear(bytes) else { panic!("{} bytes were taken", bytes.len()) };
            assert_eq!(refusal.code, code);
            assert!(refusal.code.closes());
        }
        let with_fds = Received { bytes: len, cut: false, had_fds: true };
        let heard = Conversation::new().hear(with_fds, &half);
        assert!(matches!(heard, Heard::Refused(_, refusal) if refusal.code == ErrorCode::BadFrame));
        assert!(matches!(hear(b""), Heard::End));
    }

    #[test]
    fn only_the_last_message_is_known_to_be_unread() {
        let lease = Lease { slot: SlotId::new(1).expect("in range"), generation: Generation(3) };
        let mut conversation = Conversation::new();
        conversation.sent_grant(&[lease]);
        assert_eq!(conversation.never_read(), [lease]);
        conversation.sent_other();
        assert!(conversation.never_read().is_empty());
    }
}
