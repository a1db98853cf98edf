//! What the daemon answers; where a reply is a mere "done", its body is empty.

use crate::bounded::{List as Items, Text};
use crate::codec::{Decode, Encode};
use crate::limits::{DETAIL_BYTES_MAX, LEASE_COUNT_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, RECORD_BYTES};
use crate::types::{Grant, Guest, Net4, Net6, State};

/// Answers [`request::Hello`](crate::request::Hello).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// The newest version that both speak: what the client writes into its later headers.
    pub version: u16,
    /// The daemon's name and version.
    pub server: Text<NAME_BYTES_MAX>,
    /// The pool's constants.
    pub pool: Pool,
}

/// What a client can compute a slot's names and addresses from. Constant while the daemon runs, but for `slots`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Pool {
    /// Slots that the pool is to have.
    pub slots: u32,
    /// Slots that an empty pool may grow to; equal to `slots` where it may not.
    pub slots_max: u32,
    /// Index of slot 0's host end, and of the tap in slot 0; slot *i* has this + *i*.
    pub ifindex_base: u32,
    /// Range of the slots' own addresses; slot *i* has the first address of the network + 2 + *i*.
    pub slot_net: Net4,
    /// Range of the slots' own IPv6 addresses, by the same rule, where the pool has it.
    pub slot_net6: Option<Net6>,
    /// What is the same inside every slot.
    pub guest: Guest,
    /// Directory where a leased slot's namespace is shown under its name.
    pub netns_dir: Text<PATH_BYTES_MAX>,
    /// Longest wait that a lease request gets, milliseconds.
    pub wait_ms_max: u32,
}

/// Answers [`request::Lease`](crate::request::Lease), with fds: first each grant's namespace, in the order of `grants`,
/// if asked for; then each grant's tap, in the same order, if asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// What is the same inside every slot.
    pub guest: Guest,
    /// As many slots as were asked for.
    pub grants: Items<Grant, LEASE_COUNT_MAX>,
}

/// Answers [`request::Get`](crate::request::Get).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Get {
    /// The slot's record, bytes as in a snapshot: see [`snapshot::Record`](crate::snapshot::Record).
    pub record: [u8; RECORD_BYTES],
    /// Why the slot is quarantined, in words; empty otherwise.
    pub detail: Text<DETAIL_BYTES_MAX>,
}

/// Answers [`request::List`](crate::request::List), with one fd: a memfd, sealed against every change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct List {
    /// Bytes in the memfd.
    pub bytes: u64,
}

/// Answers [`request::Status`](crate::request::Status).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// The daemon's name and version.
    pub server: Text<NAME_BYTES_MAX>,
    /// The daemon's process id in its own pid namespace.
    pub pid: u32,
    /// Milliseconds since this process started.
    pub uptime_ms: u64,
    /// Slots that the pool is to have.
    pub slots: u32,
    /// Slots in each state, by the state's number.
    pub states: [u32; State::ALL.len()],
    /// Lease requests waiting for a slot.
    pub waiters: u32,
    /// Open connections, this one included.
    pub connections: u32,
    /// Leases given since a daemon started that took over from none; so are the next two counted.
    pub leases_total: u64,
    /// Leases ended, by whatever policy.
    pub releases_total: u64,
    /// Lease requests refused for want of a slot, timed out ones included.
    pub empty_total: u64,
}

impl Status {
    /// Slots in that state.
    #[must_use]
    pub fn count(&self, state: State) -> u32 {
        self.states[usize::from(state.number())]
    }
}
