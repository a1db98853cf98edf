//! What must hold after every command, checked in debug builds and by the simulation; it changes nothing but its own
//! memory of past generations.

use super::{Ledger, Store};

impl<S: Store> Ledger<S> {
    /// Checks the numbered invariants of the module's head, in debug builds.
    #[cfg(not(debug_assertions))]
    #[inline]
    pub(super) fn verify(&mut self) {}

    /// Checks the numbered invariants of the module's head.
    #[cfg(debug_assertions)]
    pub(super) fn verify(&mut self) {
        self.check_states_and_store();
        self.check_free_list();
        self.check_owners();
        self.check_accounts();
        self.check_queue();
        self.check_tenants();
    }

    /// Invariants 1, 2 and 5.
    #[cfg(debug_assertions)]
    fn check_states_and_store(&mut self) {
        let mut counts = [0; netslot_abi::SlotState::ALL.len()];
        for (id, slot) in crate::slot::SlotId::first(self.slots()).zip(&self.slots) {
            counts[slot.state() as usize] += 1;
            assert_eq!(slot.record, self.store.ledger(id), "2: slot {id} is not as stored");
            assert_eq!(slot.binding, self.store.binding(id), "2: binding of slot {id} is not as stored");
            let seen = &mut self.generations_seen[id.index()];
            assert!(slot.generation().0 >= *seen, "5: generation of slot {id} fell below {seen}");
            *seen = slot.generation().0;
        }
        assert_eq!(counts, self.counts, "1: counts by state");
        assert_eq!(counts.iter().sum::<u32>(), self.slots(), "1: sum of the counts");
    }

    /// Invariant 3, and the same for the slots to be made.
    #[cfg(debug_assertions)]
    fn check_free_list(&self) {
        use netslot_abi::SlotState::{Building, Free};
        let state = |number: u32| self.slots[number as usize].state();
        let free = self.links.iter(&self.free).inspect(|n| assert_eq!(state(*n), Free, "3: slot {n} in the free list"));
        let free = free.count();
        assert_eq!(free, self.free.len() as usize, "3: length of the free list");
        assert_eq!(free, self.count(Free) as usize, "3: every free slot is in the list");
        let idle = self.links.iter(&self.idle).inspect(|n| {
            assert_eq!(state(*n), Building, "3: slot {n} waits to be made");
            assert!(!self.slots[*n as usize].requested, "3: slot {n} is asked for and waits");
        });
        assert_eq!(idle.count(), self.idle.len() as usize, "3: length of the list of slots to be made");
        let requested = self.slots.iter().filter(|slot| slot.requested).count();
        assert_eq!(requested, self.growing as usize, "3: slots asked for");
    }

    /// Invariant 4.
    #[cfg(debug_assertions)]
    fn check_owners(&self) {
        use super::types::Policy;
        use netslot_abi::SlotState;
        let mut linked = 0;
        for (id, holder) in self.holders.iter() {
            for number in self.links.iter(&holder.leases) {
                assert_eq!(self.slots[number as usize].holder, Some(id), "4: slot {number} in another's list");
                linked += 1;
            }
            assert!(holder.connected || holder.leases.len() > 0 || holder.waiting > 0, "4: {id:?} has nothing left");
        }
        assert_eq!(linked, self.slots.iter().filter(|slot| slot.holder.is_some()).count(), "4: holders' lists");
        for (number, slot) in self.slots.iter().enumerate() {
            let leased = slot.state() == SlotState::Leased;
            let ends_with_someone = leased && Policy::from_byte(slot.record.policy) != Some(Policy::Explicit);
            assert_eq!(slot.holder.is_some(), ends_with_someone, "4: holder of slot {number}");
        }
    }

    /// Invariant 6. User by user, without a table of its own: a test counts the ledger's allocations in debug builds too.
    #[cfg(debug_assertions)]
    fn check_accounts(&self) {
        use super::accounts::User;
        let mut sum = User::default();
        for (uid, user) in self.accounts.iter() {
            let leased = |slot: &&super::Slot| slot.state() == netslot_abi::SlotState::Leased;
            let leases = self.slots.iter().filter(leased).filter(|slot| slot.record.owner_uid == uid).count();
            let connected = self.holders.iter().filter(|(_, holder)| holder.connected && holder.owner.uid == uid);
            let waiters = || self.waiters.iter().map(|index| self.waiters.get(index)).filter(|w| w.uid == uid);
            let slots: u32 = waiters().map(|waiter| waiter.request.count).sum();
            let shown = (leases, connected.count(), waiters().count(), slots);
            let charged = (user.leases as usize, user.connections as usize, user.waiting as usize, user.waiting_slots);
            assert_eq!(shown, charged, "6: account of user {uid}");
            sum.leases += user.leases;
            sum.connections += user.connections;
            sum.waiting += user.waiting;
        }
        let all = (self.count(netslot_abi::SlotState::Leased), self.holders.connected(), self.waiters.len());
        assert_eq!((sum.leases, sum.connections, sum.waiting), all, "6: somebody has no account");
    }

    /// Invariant 7.
    #[cfg(debug_assertions)]
    fn check_queue(&self) {
        assert_eq!(self.next_servable(), None, "7: a request waits that could be served");
        let mut last = (false, 0);
        for waiter in self.waiters.iter().map(|index| self.waiters.get(index)) {
            assert!(last < (waiter.reserved, waiter.arrival), "7: order of arrival");
            assert!(waiter.deadline_ns >= self.waiters.earliest_ns(), "7: a deadline before the earliest");
            last = (waiter.reserved, waiter.arrival);
        }
        let slots: u32 = self.waiters.iter().map(|index| self.waiters.get(index).request.count).sum();
        assert_eq!(slots, self.waiters.slots(), "7: slots waited for");
    }

    /// Invariant 8.
    #[cfg(debug_assertions)]
    fn check_tenants(&self) {
        let mut bound = 0;
        for (id, slot) in crate::slot::SlotId::first(self.slots()).zip(&self.slots) {
            if slot.binding.generation == 0 {
                continue;
            }
            assert_eq!(slot.state(), netslot_abi::SlotState::Leased, "8: slot {id} is bound");
            assert_eq!(slot.binding.generation, slot.generation().0, "8: slot {id} is bound for another lease");
            for tenant in Self::tenants_of(&slot.binding) {
                assert_eq!(self.tenants.get(&tenant), Some(&id), "8: tenant {tenant:?}");
                bound += 1;
            }
        }
        assert_eq!(bound, self.tenants.len(), "8: tenants of unbound slots");
    }
}
