//! Leasing: grant, wait, release, give back; part of the [`Ledger`].

use netslot_abi::{LedgerRecord, SlotState, ledger_flag};

use super::types::{Effect, Effects, Grant, HolderId, Lease, Outcome, Policy, Reason, Refusal, Request};
use super::{Ledger, Store};
use crate::config::Empty;
use crate::limits::LEASE_SLOTS_MAX;
use crate::slot::{Generation, SlotId};

/// What a lease turns into when it ends.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    /// Given back: to be cleaned.
    Scrub,
    /// The slot is no good any more.
    Quarantine(Reason),
}

impl<S: Store> Ledger<S> {
    /// Asks for slots.
    ///
    /// # Errors
    /// [`Refusal::CountRange`], [`Refusal::CountBeyondPool`], [`Refusal::LeaseQuota`], [`Refusal::OwnerGone`], and, where
    /// nothing is free, [`Refusal::PoolEmpty`], [`Refusal::WaiterQuota`] or [`Refusal::QueueFull`].
    pub fn lease(&mut self, request: &Request, now_ns: u64, fx: &mut Effects) -> Result<Outcome, Refusal> {
        let outcome = self.admit(request, now_ns, fx);
        self.verify();
        outcome
    }

    fn admit(&mut self, request: &Request, now_ns: u64, fx: &mut Effects) -> Result<Outcome, Refusal> {
        let holder = *self.holders.get(request.holder).ok_or(Refusal::OwnerGone)?;
        if request.count == 0 || request.count > LEASE_SLOTS_MAX {
            return Err(Refusal::CountRange);
        }
        if request.policy == Policy::OnExit && !holder.alive {
            return Err(Refusal::OwnerGone);
        }
        let uid = holder.owner.uid;
        let reserved = self.settings.is_reserved(uid);
        if request.count > self.reachable(reserved) {
            return Err(Refusal::CountBeyondPool);
        }
        let user = self.accounts.of(uid);
        // What waits is charged too, so that a grant out of the queue can never pass the quota.
        if !reserved && user.leases + user.waiting_slots + request.count > self.settings.quotas.leases_per_uid {
            return Err(Refusal::LeaseQuota);
        }
        // Behind whoever waits for what this request could take: a stream of small ones must not starve a large one.
        let queue = self.waiters.reserved_len() + if reserved { 0 } else { self.waiters.ordinary_len() };
        if queue == 0 && request.count <= self.available(reserved) {
            return Ok(Outcome::Granted(self.grant(request, now_ns, fx)));
        }
        if request.wait_ns == 0 || self.settings.empty == Empty::Fail {
            return Err(Refusal::PoolEmpty);
        }
        if !reserved && user.waiting >= self.settings.quotas.waiters_per_uid {
            return Err(Refusal::WaiterQuota);
        }
        if self.waiters.is_full() {
            return Err(Refusal::QueueFull);
        }
        let wait_ns = request.wait_ns.min(u64::from(self.settings.quotas.wait_ms_max) * 1_000_000);
        self.waiters.push(*request, uid, reserved, now_ns.saturating_add(wait_ns));
        self.charge_waiting(request.holder, uid, request.count);
        self.grow_for_waiters(fx);
        Ok(Outcome::Waiting)
    }

    /// Free slots that a request may take.
    pub(super) const fn available(&self, reserved: bool) -> u32 {
        if reserved { self.free.len() } else { self.free.len().saturating_sub(self.settings.quotas.reserve) }
    }

    /// Slots that a request could be given if nobody else held any.
    fn reachable(&self, reserved: bool) -> u32 {
        let made = self.slots() - self.count(SlotState::Building);
        let to_be_made = match self.settings.empty {
            Empty::Create => self.settings.slots_max,
            Empty::Fail | Empty::Wait => self.settings.slots,
        };
        let reachable = made.max(to_be_made);
        if reserved { reachable } else { reachable.saturating_sub(self.settings.quotas.reserve) }
    }

    /// Takes the longest-free slots for a request that they suffice for.
    fn grant(&mut self, request: &Request, now_ns: u64, fx: &mut Effects) -> Grant {
        let owner = self.holders.get(request.holder).expect("looked up on admission, kept while it waits").owner;
        self.granted_ns = now_ns.max(self.granted_ns.saturating_add(1));
        let (tag, tag_len) = request.tag.parts();
        let first = fx.leases_so_far();
        for _ in 0..request.count {
            let slot = self.pop_free();
            let generation = self.slots[slot.index()].record.generation() + 1;
            let record = LedgerRecord {
                commit: LedgerRecord::pack(generation, SlotState::Leased),
                since_ns: self.granted_ns,
                owner_inode: owner.inode,
                owner_uid: owner.uid,
                owner_gid: owner.gid,
                owner_pid: owner.pid,
                policy: request.policy as u8,
                reason: 0,
                tag_len,
                flags: ledger_flag::UNSENT | if request.own_stack { ledger_flag::OWN_STACK } else { 0 },
                tag,
            };
            self.commit(slot, record, fx);
            fx.push_lease(Lease { slot, generation: Generation(generation) });
            if request.policy != Policy::Explicit {
                self.link_to_holder(slot, request.holder);
            }
        }
        self.accounts.change(owner.uid, |user| user.leases += request.count);
        fx.grant_since(first)
    }

    /// Says that the reply with these leases, one message for all of them, has left.
    ///
    /// A crash between the two is no loss where the caller can tell afterwards that it had left: see [`Ledger::open`].
    pub fn reply_left(&mut self, leases: &[Lease]) {
        self.mark_answered(leases);
        self.verify();
    }

    pub(super) fn mark_answered(&mut self, leases: &[Lease]) {
        for lease in leases {
            let Ok(slot) = self.leased(lease.slot, lease.generation) else { continue };
            let record = &mut self.slots[slot.index()].record;
            if record.flags & ledger_flag::UNSENT != 0 {
                record.flags &= !ledger_flag::UNSENT;
                self.store.store_ledger(slot, record);
            }
        }
    }

    /// Gives back leases whose reply did not reach the client; those that are over are left alone.
    pub fn undo(&mut self, leases: &[Lease], now_ns: u64, fx: &mut Effects) {
        for lease in leases {
            if let Ok(slot) = self.leased(lease.slot, lease.generation) {
                self.end_lease(slot, Ending::Scrub, fx);
            }
        }
        self.pump(now_ns, fx);
        self.verify();
    }

    /// Gives one lease back.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`], [`Refusal::Stale`], [`Refusal::NotOwner`].
    pub fn release(&mut self, lease: Lease, uid: u32, fx: &mut Effects) -> Result<(), Refusal> {
        let slot = self.owned(lease, uid)?;
        self.end_lease(slot, Ending::Scrub, fx);
        self.verify();
        Ok(())
    }

    /// Time has passed: requests that waited too long are refused.
    pub fn tick(&mut self, now_ns: u64, fx: &mut Effects) {
        if now_ns < self.waiters.earliest_ns() {
            return;
        }
        let mut next = self.waiters.first();
        let waited = self.waiters.len();
        while let Some(index) = next {
            next = self.waiters.after(index);
            if self.waiters.get(index).deadline_ns <= now_ns {
                let (holder, ticket) = self.remove_waiter(index);
                fx.push(Effect::Refused { holder, ticket, why: Refusal::WaitExpired });
            }
        }
        self.waiters.refresh_earliest();
        if self.waiters.len() < waited {
            self.pump(now_ns, fx);
        }
        self.verify();
    }

    /// When to call [`Ledger::tick`] next; `None` while nobody waits. It may be early, never late.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        (self.waiters.len() != 0).then_some(self.waiters.earliest_ns())
    }

    /// The slot, if it is leased under that generation.
    pub(super) fn leased(&self, slot: SlotId, generation: Generation) -> Result<SlotId, Refusal> {
        let found = self.slots.get(slot.index()).ok_or(Refusal::NoSuchSlot)?;
        if found.state() != SlotState::Leased || found.generation() != generation {
            return Err(Refusal::Stale { generation: found.generation(), state: found.state() });
        }
        Ok(slot)
    }

    /// The slot, if it is leased under that generation, by that user or asked for by root.
    pub(super) fn owned(&self, lease: Lease, uid: u32) -> Result<SlotId, Refusal> {
        let slot = self.leased(lease.slot, lease.generation)?;
        if uid != 0 && self.slots[slot.index()].record.owner_uid != uid {
            return Err(Refusal::NotOwner);
        }
        Ok(slot)
    }

    /// Ends a lease. The commit comes first and makes the binding dead with it; the rest is tidying up.
    pub(super) fn end_lease(&mut self, slot: SlotId, ending: Ending, fx: &mut Effects) {
        let mut record = self.slots[slot.index()].record;
        let generation = record.generation() + 1;
        let uid = record.owner_uid;
        match ending {
            Ending::Scrub => {
                record.commit = LedgerRecord::pack(generation, SlotState::Scrubbing);
                self.commit(slot, record, fx);
                fx.push(Effect::Scrub(Lease { slot, generation: Generation(generation) }));
            }
            Ending::Quarantine(reason) => self.quarantine(slot, generation, reason, fx),
        }
        self.unbind_slot(slot);
        self.accounts.change(uid, |user| user.leases -= 1);
        if let Some(id) = self.slots[slot.index()].holder.take() {
            let holder = self.holders.get_mut(id).expect("a lease's holder stays while it has leases");
            self.links.remove(&mut holder.leases, slot.number());
            self.forget_if_unused(id, fx);
        }
    }

    /// Ends the holder's leases whose policy says so.
    pub(super) fn end_leases_of(&mut self, id: HolderId, ends: impl Fn(Policy) -> bool, fx: &mut Effects) {
        let mut next = self.holders.get(id).and_then(|holder| holder.leases.front());
        while let Some(number) = next {
            next = self.links.next(number);
            let slot = SlotId::new(number).expect("slots are linked by their numbers");
            let policy = Policy::from_byte(self.slots[slot.index()].record.policy);
            if policy.is_some_and(&ends) {
                self.end_lease(slot, Ending::Scrub, fx);
            }
        }
    }

    pub(super) fn link_to_holder(&mut self, slot: SlotId, id: HolderId) {
        let holder = self.holders.get_mut(id).expect("whoever is granted a lease is there");
        self.links.push_back(&mut holder.leases, slot.number());
        self.slots[slot.index()].holder = Some(id);
    }

    pub(super) fn forget_if_unused(&mut self, id: HolderId, fx: &mut Effects) {
        if self.holders.forget_if_unused(id) {
            fx.push(Effect::HolderGone(id));
        }
    }

    /// Serves whoever can be served: in order of arrival, except that a request which may take the reserve need not wait
    /// for one that may not.
    pub(super) fn pump(&mut self, now_ns: u64, fx: &mut Effects) {
        while let Some(index) = self.next_servable() {
            let request = self.waiters.get(index).request;
            let grant = self.grant(&request, now_ns, fx);
            let (holder, ticket) = self.remove_waiter(index);
            fx.push(Effect::Granted { holder, ticket, grant });
        }
        self.grow_for_waiters(fx);
    }

    pub(super) fn next_servable(&self) -> Option<u32> {
        let fits = |index: &u32| {
            let waiter = self.waiters.get(*index);
            waiter.request.count <= self.available(waiter.reserved)
        };
        match self.waiters.heads() {
            (Some(ordinary), Some(reserved)) => {
                let ordinary_first = self.waiters.get(ordinary).arrival < self.waiters.get(reserved).arrival;
                Some(ordinary).filter(|index| ordinary_first && fits(index)).or(Some(reserved).filter(fits))
            }
            (Some(only), None) | (None, Some(only)) => Some(only).filter(fits),
            (None, None) => None,
        }
    }

    /// Drops the holder's waiting requests whose policy says so, naming each one's ticket.
    pub(super) fn drop_waiters(&mut self, id: HolderId, drops: impl Fn(Policy) -> bool, mut dropped: impl FnMut(u64)) {
        if self.holders.get(id).is_none_or(|holder| holder.waiting == 0) {
            return;
        }
        let mut next = self.waiters.first();
        while let Some(index) = next {
            next = self.waiters.after(index);
            let request = self.waiters.get(index).request;
            if request.holder == id && drops(request.policy) {
                self.remove_waiter(index);
                dropped(request.ticket);
            }
        }
    }

    fn charge_waiting(&mut self, id: HolderId, uid: u32, slots: u32) {
        self.holders.get_mut(id).expect("looked up on admission").waiting += 1;
        self.accounts.change(uid, |user| {
            user.waiting += 1;
            user.waiting_slots += slots;
        });
    }

    fn remove_waiter(&mut self, index: u32) -> (HolderId, u64) {
        let waiter = self.waiters.remove(index);
        let (id, ticket) = (waiter.request.holder, waiter.request.ticket);
        self.holders.get_mut(id).expect("a holder stays while it waits").waiting -= 1;
        self.accounts.change(waiter.uid, |user| {
            user.waiting -= 1;
            user.waiting_slots -= waiter.request.count;
        });
        (id, ticket)
    }
}
