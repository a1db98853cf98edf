//! The lease state machine: who holds which slot, who waits, what is bound; a pure core that knows no fd, no clock, no
//! log and no randomness.
//!
//! Commands change it, an argument gives them the time (nanoseconds of `CLOCK_BOOTTIME`), a [`Store`] keeps its records,
//! and [`Effects`] tell the caller what else has to happen. After [`Ledger::open`] no command allocates.
//!
//! One ordering rule: *store, then reply*. A grant is stored as unsent; [`Ledger::reply_left`] is called when the reply has
//! left, [`Ledger::undo`] where it could not. A crash finds the leases unsent and gives them back, but for those of the
//! reply that the caller knows to have left: they stay with a client that has it in its receive queue.
//!
//! One arbitration rule: kernel objects come from the configuration, leases from the records; a slot in which the two
//! disagree is quarantined.
//!
//! What holds after every command, checked in debug builds (`invariants.rs`):
//! 1. Every slot is in exactly one state, and the counts sum to the number of slots.
//! 2. Memory and store agree: nothing is answered before it is stored.
//! 3. The free list holds the free slots, each once, the longest free first.
//! 4. A slot has one owner while it is leased and none otherwise.
//! 5. A slot's generation only grows, and each lease and each release raises it.
//! 6. What users are charged is what slots, queue and connections show.
//! 7. No request waits that could be served: the queue is in order of arrival, and its head is larger than what is free.
//! 8. A tenant address is one slot's; a binding is of the slot's current lease.

mod accounts;
mod bind;
mod handover;
mod holders;
mod invariants;
mod lease;
mod life;
mod links;
mod recover;
mod store;
mod types;
mod waiters;

use std::collections::HashMap;
use std::net::IpAddr;

use netslot_abi::{BindingRecord, LedgerRecord, SlotState};

pub use handover::Pending;
pub use store::{Cells, Memory, Records, Store, StoreError, WORDS, Words};
pub use types::{
    Binding, Effect, Effects, Grant, HolderId, Lease, Observed, Outcome, Owner, Policy, Reason, Refusal, Request,
    Scrubbed, Settings, Tag, Tunnels, Underlay,
};

use accounts::Accounts;
use holders::Holders;
use links::{Links, List};
use waiters::Waiters;

use crate::limits::CONNECTIONS_KEPT_FOR_ROOT;
use crate::slot::{Generation, SlotId};

/// A slot as the ledger keeps it: the stored records, and what is only memory's.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    record: LedgerRecord,
    binding: BindingRecord,
    /// Whose list the lease is in; none for a lease that ends with nobody.
    holder: Option<HolderId>,
    /// Asked to be made, and not reported yet.
    requested: bool,
}

impl Slot {
    const fn state(&self) -> SlotState {
        // Recovery lets no other byte in.
        self.record.state().expect("only states are stored")
    }

    const fn generation(&self) -> Generation {
        Generation(self.record.generation())
    }
}

/// A tenant's address in its virtual network.
type Tenant = (u32, IpAddr);

/// The lease state of a pool.
#[derive(Debug)]
pub struct Ledger<S> {
    store: S,
    settings: Settings,
    slots: Box<[Slot]>,
    /// Links the slots of `free`, of `idle`, and of each holder: a slot is in one of them at most.
    links: Links,
    free: List,
    /// Slots that growth may have made, in `Building`.
    idle: List,
    counts: [u32; SlotState::ALL.len()],
    /// Slots asked to be made and not reported yet.
    growing: u32,
    holders: Holders,
    waiters: Waiters,
    accounts: Accounts,
    tenants: HashMap<Tenant, SlotId>,
    /// Time of the last grant: each has its own, so that recovery can tell the leases of one request.
    granted_ns: u64,
    #[cfg(debug_assertions)]
    generations_seen: Box<[u64]>,
}

impl<S: Store> Ledger<S> {
    /// The store, to read.
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Slots with a record.
    #[must_use]
    pub fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("one per record")
    }

    /// Slots in that state.
    #[must_use]
    pub const fn count(&self, state: SlotState) -> u32 {
        self.counts[state as usize]
    }

    /// Slots asked to be made that were not there, and not reported yet.
    #[must_use]
    pub const fn growing(&self) -> u32 {
        self.growing
    }

    /// Requests that wait for a slot.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.waiters.len()
    }

    /// The requests that wait, each by who asked and its ticket.
    pub fn waiting_requests(&self) -> impl Iterator<Item = (HolderId, u64)> {
        let request = |index| self.waiters.get(index).request;
        self.waiters.iter().map(move |index| (request(index).holder, request(index).ticket))
    }

    /// Connections that are open.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        self.holders.connected()
    }

    /// Leases the user holds.
    #[must_use]
    pub fn leases_of(&self, uid: u32) -> u32 {
        self.accounts.of(uid).leases
    }

    /// The slot's records: its lease, and its binding if it has one.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`].
    pub fn get(&self, slot: SlotId) -> Result<(&LedgerRecord, Option<&BindingRecord>), Refusal> {
        let slot = self.slots.get(slot.index()).ok_or(Refusal::NoSuchSlot)?;
        Ok((&slot.record, (slot.binding.generation != 0).then_some(&slot.binding)))
    }

    /// All slots' records, in order of their numbers.
    pub fn records(&self) -> impl ExactSizeIterator<Item = (&LedgerRecord, Option<&BindingRecord>)> {
        self.slots.iter().map(|slot| (&slot.record, (slot.binding.generation != 0).then_some(&slot.binding)))
    }

    /// The connections and remains of connections that can be at once: the bound of [`HolderId::index`].
    #[must_use]
    pub const fn holders_max(&self) -> u32 {
        self.holders.max()
    }

    /// Who the holder is; `None` where nothing is left of it.
    #[must_use]
    pub fn owner(&self, holder: HolderId) -> Option<Owner> {
        self.holders.get(holder).map(|h| h.owner)
    }

    /// Leases that end with that holder's process or connection.
    #[must_use]
    pub fn leases_of_holder(&self, holder: HolderId) -> u32 {
        self.holders.get(holder).map_or(0, |h| h.leases.len())
    }

    /// When the first of them was given; `None` where there is none.
    #[must_use]
    pub fn held_since_ns(&self, holder: HolderId) -> Option<u64> {
        let holder = self.holders.get(holder)?;
        self.links.iter(&holder.leases).map(|number| self.slots[number as usize].record.since_ns).min()
    }

    /// A connection came. Root has a few beyond each limit: an admin must be able to look.
    ///
    /// # Errors
    /// [`Refusal::ConnectionsFull`] and [`Refusal::ConnectionQuota`].
    pub fn connect(&mut self, owner: Owner) -> Result<HolderId, Refusal> {
        let quotas = &self.settings.quotas;
        let kept = if owner.uid == 0 { CONNECTIONS_KEPT_FOR_ROOT } else { 0 };
        if self.holders.connected() >= quotas.connections.saturating_add(kept) {
            return Err(Refusal::ConnectionsFull);
        }
        let of_user = self.accounts.of(owner.uid).connections;
        if !self.settings.is_reserved(owner.uid) && of_user >= quotas.connections_per_uid.saturating_add(kept) {
            return Err(Refusal::ConnectionQuota);
        }
        let holder = self.holders.add(owner, true).ok_or(Refusal::ConnectionsFull)?;
        self.accounts.change(owner.uid, |user| user.connections += 1);
        self.verify();
        Ok(holder)
    }

    /// A connection went: its waiting requests are dropped, and its leases released where their policy says so.
    pub fn disconnect(&mut self, holder: HolderId, now_ns: u64, fx: &mut Effects) {
        let Some(uid) = self.holders.disconnect(holder) else { return };
        self.accounts.change(uid, |user| user.connections -= 1);
        self.drop_waiters(holder, |_| true, |_| ());
        self.end_leases_of(holder, |policy| policy == Policy::OnDisconnect, fx);
        self.forget_if_unused(holder, fx);
        self.pump(now_ns, fx);
        self.verify();
    }

    /// A holder's process exited: the leases that end with it are released, and requests for such leases refused.
    pub fn owner_died(&mut self, holder: HolderId, now_ns: u64, fx: &mut Effects) {
        let Some(connected) = self.holders.mark_dead(holder) else { return };
        self.drop_waiters(
            holder,
            |policy| policy == Policy::OnExit,
            |ticket| fx.push(Effect::Refused { holder, ticket, why: Refusal::OwnerGone }),
        );
        // Without a connection, leases of the other kind are here only where a restart of the daemon broke it.
        self.end_leases_of(holder, |policy| policy == Policy::OnExit || !connected, fx);
        self.forget_if_unused(holder, fx);
        self.pump(now_ns, fx);
        self.verify();
    }
}

#[cfg(test)]
mod tests;
