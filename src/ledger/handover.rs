//! What a ledger's successor in another process has to know beside the records: who waits for what, and which leases end
//! with which connection; part of the [`Ledger`].

use super::types::{Effects, HolderId, Lease, Request};
use super::{Ledger, Store};
use crate::slot::SlotId;

/// A request that waits, as it would have to be made anew.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// The request as it was made.
    pub request: Request,
    /// When it has waited long enough.
    pub deadline_ns: u64,
}

impl<S: Store> Ledger<S> {
    /// The requests that wait, in order of arrival.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let mut waiting: Vec<_> = self.waiters.iter().map(|index| self.waiters.get(index)).collect();
        waiting.sort_by_key(|waiter| waiter.arrival);
        waiting.iter().map(|waiter| Pending { request: waiter.request, deadline_ns: waiter.deadline_ns }).collect()
    }

    /// The leases that end with that holder's process or connection.
    pub fn leases_ending_with(&self, holder: HolderId) -> impl Iterator<Item = Lease> {
        let first = self.holders.get(holder).and_then(|holder| holder.leases.front());
        std::iter::successors(first, |number| self.links.next(*number)).map(|number| {
            let slot = SlotId::new(number).expect("slots are linked by their numbers");
            Lease { slot, generation: self.slots[slot.index()].generation() }
        })
    }

    /// Makes a connection of the same process the one that a recovered lease ends with. Nothing happens to a lease that is
    /// over, that ends by itself, or that is another's.
    pub fn take_over(&mut self, holder: HolderId, lease: Lease, fx: &mut Effects) {
        let Ok(slot) = self.leased(lease.slot, lease.generation) else { return };
        let Some(before) = self.slots[slot.index()].holder.filter(|before| *before != holder) else { return };
        if self.owner(before) != self.owner(holder) {
            return;
        }
        let from = self.holders.get_mut(before).expect("a lease's holder stays while it has leases");
        self.links.remove(&mut from.leases, slot.number());
        self.link_to_holder(slot, holder);
        self.forget_if_unused(before, fx);
        self.verify();
    }
}
