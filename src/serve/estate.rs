//! What a daemon leaves to its successor beside the records: who is connected, and what each connection waits for, holds
//! and watches. A format and its bounds; knows no fd and moves nothing.
//!
//! Nothing else is in a daemon's hands: requests that were not read yet and replies that were not read yet stand in the
//! connections' own buffers, and go with them.

use netslot_protocol::event::Changed;
use netslot_protocol::types::State;
use serde::{Deserialize, Serialize};

use super::conversation::Watching;
use crate::bpf::layout::{self, Fate};
use crate::ledger::{HolderId, Lease, Pending, Policy, Request, Tag};
use crate::limits::{ESTATE_BYTES_MAX, EVENTS_KEPT};
use crate::slot::{Generation, SlotId};

/// Version of the format: another one is refused, and the daemon starts as after a kill.
pub const LAYOUT: u32 = 1;

/// What is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estate {
    /// [`LAYOUT`].
    pub layout: u32,
    /// Layout of the records: a successor that cannot read them must not begin.
    pub records: u32,
    /// Leases, releases and refusals for want of a slot, so far.
    pub totals: [u64; 3],
    /// Number of the first of the changes.
    pub first_change: u64,
    /// Changes that some watcher has not been sent: slot, generation, state.
    pub changes: Vec<(u32, u64, u8)>,
    /// The connections.
    pub connections: Vec<Left>,
}

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// Its socket's inode, by which it is known again among the fds that come along.
    pub inode: u64,
    /// Its requests that wait.
    pub waits: Vec<Wait>,
    /// Its subscription: id, version, place in the changes.
    pub watching: Option<(u32, u16, u64)>,
    /// Leases that end with it or with its process.
    pub leases: Vec<(u32, u64)>,
    /// The leases in the last message sent to it, if that was a grant.
    pub last_grant: Vec<(u32, u64)>,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Its place among those of all connections.
    pub arrival: u32,
    /// The ledger's ticket.
    pub ticket: u64,
    /// Slots.
    pub count: u32,
    /// Word to remember.
    pub tag: String,
    /// When the leases end, as in a record.
    pub policy: u8,
    /// The slots are used without a guest.
    pub own_stack: bool,
    /// Until when it waits, nanoseconds of `CLOCK_BOOTTIME`.
    pub deadline_ns: u64,
}

/// Why an estate cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum EstateError {
    /// More than any daemon leaves.
    #[error("its list is {0} bytes long, and {ESTATE_BYTES_MAX} are the most")]
    TooLarge(u64),
    /// Not what a daemon writes.
    #[error("its list cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version's.
    #[error("its list has layout {0}, and this netslot knows {LAYOUT}")]
    Layout(u32),
    /// The records are another version's.
    #[error("its records have layout {0}, and this netslot knows {known}", known = netslot_abi::LAYOUT_VERSION)]
    Records(u32),
}

impl Estate {
    /// An empty one of this version.
    #[must_use]
    pub fn new() -> Self {
        Self { layout: LAYOUT, records: netslot_abi::LAYOUT_VERSION, ..Self::default() }
    }

    /// Its bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, texts and lists are always JSON")
    }

    /// Reads it. The version comes first: of another one's, the rest may be anything.
    ///
    /// # Errors
    /// [`EstateError`].
    pub fn read(bytes: &[u8]) -> Result<Self, EstateError> {
        #[derive(Deserialize)]
        struct Version {
            layout: u32,
        }
        if bytes.len() as u64 > ESTATE_BYTES_MAX {
            return Err(EstateError::TooLarge(bytes.len() as u64));
        }
        let Version { layout } = serde_json::from_slice(bytes)?;
        if layout != LAYOUT {
            return Err(EstateError::Layout(layout));
        }
        let estate: Self = serde_json::from_slice(bytes)?;
        if let Fate::Refuse = layout::fate(estate.records) {
            return Err(EstateError::Records(estate.records));
        }
        Ok(estate)
    }

    /// The changes, as far as they are any; past what a ring keeps, the newest.
    pub fn changes(&self) -> (u64, impl Iterator<Item = Changed>) {
        let cut = self.changes.len().saturating_sub(EVENTS_KEPT);
        let change = |(slot, generation, state): &(u32, u64, u8)| {
            let state = State::from_number(*state).unwrap_or(State::Quarantined);
            Changed { slot: *slot, generation: *generation, state }
        };
        (self.first_change.saturating_add(cut as u64), self.changes[cut..].iter().map(change))
    }
}

impl Left {
    /// The subscription.
    #[must_use]
    pub fn watching(&self) -> Option<Watching> {
        self.watching.map(|(id, version, place)| Watching { id, version, place, stalled: false })
    }
}

impl Wait {
    /// A request that waits, the how-manieth of all.
    #[must_use]
    pub fn new(arrival: u32, pending: &Pending) -> Self {
        let Request { holder: _, ticket, count, tag, policy, own_stack, wait_ns: _ } = pending.request;
        let (tag, deadline_ns) = (tag.as_str().to_owned(), pending.deadline_ns);
        Self { arrival, ticket, count, tag, policy: policy as u8, own_stack, deadline_ns }
    }

    /// The request, made anew; one whose time is over still waits a moment, so as to be refused for that.
    #[must_use]
    pub fn request(&self, holder: HolderId, now_ns: u64) -> Request {
        Request {
            holder,
            ticket: self.ticket,
            count: self.count,
            tag: Tag::new(&self.tag).unwrap_or_default(),
            policy: Policy::from_byte(self.policy).unwrap_or(Policy::OnDisconnect),
            own_stack: self.own_stack,
            wait_ns: self.deadline_ns.saturating_sub(now_ns).max(1),
        }
    }
}

/// Leases as they are written.
#[must_use]
pub fn numbers(leases: impl Iterator<Item = Lease>) -> Vec<(u32, u64)> {
    leases.map(|lease| (lease.slot.number(), lease.generation.0)).collect()
}

/// Leases as they were written; numbers that no slot has are left out.
pub fn leases(numbers: &[(u32, u64)]) -> impl Iterator<Item = Lease> {
    numbers
        .iter()
        .filter_map(|(slot, generation)| Some(Lease { slot: SlotId::new(*slot)?, generation: Generation(*generation) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn estate() -> Estate {
        let wait = Wait {
            arrival: 0,
            ticket: 1 << 60,
            count: 2,
            tag: "a \"b\"".into(),
            policy: 1,
            own_stack: true,
            deadline_ns: 77,
        };
        let left = Left {
            inode: 9,
            waits: vec![wait],
            watching: Some((3, 1, 12)),
            leases: vec![(4, 5)],
            last_grant: vec![(u32::MAX, 1), (6, 7)],
        };
        Estate {
            totals: [1, 2, 3],
            first_change: 11,
            changes: vec![(4, 5, 2)],
            connections: vec![left],
            ..Estate::new()
        }
    }

    #[test]
    fn an_estate_is_read_as_it_was_written() {
        let estate = estate();
        assert_eq!(Estate::read(&estate.write()).expect("ours"), estate);
        let left = &estate.connections[0];
        assert_eq!(leases(&left.last_grant).count(), 1, "no slot has the other's number");
        let request = left.waits[0].request(HolderId::at(2), 100);
        assert_eq!((request.ticket, request.count, request.tag.as_str(), request.wait_ns), (1 << 60, 2, "a \"b\"", 1));
        assert_eq!((request.policy, request.own_stack), (Policy::OnExit, true));
    }

    #[test]
    fn another_versions_is_refused_before_the_rest_of_it_is_looked_at() {
        let later = Estate::read(br#"{"layout": 2, "what": ["nobody", "knows"]}"#);
        assert!(matches!(later, Err(EstateError::Layout(2))), "{later:?}");
        let records = Estate::read(&Estate { records: 99, ..estate() }.write());
        assert!(matches!(records, Err(EstateError::Records(99))), "{records:?}");
        assert!(matches!(Estate::read(b"{}"), Err(EstateError::Json(_))));
        let long = vec![b' '; usize::try_from(ESTATE_BYTES_MAX).expect("fits") + 1];
        assert!(matches!(Estate::read(&long), Err(EstateError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..200) {
            let mut ours = estate().write();
            let _ = Estate::read(&bytes);
            let end = (at + bytes.len()).min(ours.len());
            let begin = at.min(end);
            ours.splice(begin..end, bytes);
            let _ = Estate::read(&ours);
        }
    }
}
