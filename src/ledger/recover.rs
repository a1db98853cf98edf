//! Opening a ledger: from nothing, or from the records that an earlier process left; part of the [`Ledger`].

use std::collections::HashMap;

use netslot_abi::{BindingRecord, LedgerRecord, SlotState, ledger_flag};

use super::accounts::Accounts;
use super::holders::Holders;
use super::lease::Ending;
use super::links::{Links, List};
use super::types::{Binding, Effect, Effects, HolderId, Lease, Observed, Owner, Policy, Reason, Settings, Tag};
use super::waiters::Waiters;
use super::{Ledger, Slot, Store};
use crate::limits::{CONNECTIONS_KEPT_FOR_ROOT, WAITERS_MAX};
use crate::slot::{Generation, SlotId};

/// What identifies the leases of one request: they share the time of their grant and the owner.
type GrantKey = (u64, Owner);

impl<S: Store> Ledger<S> {
    /// Takes over the store's records and brings them in line with the kernel objects that exist.
    ///
    /// Leases stay; one that was never answered is given back, and so are its siblings of the same request. `answered` are
    /// the leases of the last reply, if it left: they were, whatever their records say. What was being scrubbed is
    /// scrubbed again. What the records and `observed` disagree on is quarantined.
    /// `fx` then says what to scrub, which holders to watch, and what was quarantined.
    pub fn open(
        store: S,
        settings: Settings,
        observed: impl Fn(SlotId) -> Observed,
        answered: &[Lease],
        now_ns: u64,
        fx: &mut Effects,
    ) -> Self {
        let slots = store.slots();
        let holders = settings.quotas.connections.saturating_add(CONNECTIONS_KEPT_FOR_ROOT).saturating_add(slots);
        let mut ledger = Self {
            store,
            settings,
            slots: vec![Slot::default(); slots as usize].into_boxed_slice(),
            links: Links::new(slots),
            free: List::EMPTY,
            idle: List::EMPTY,
            counts: [0; SlotState::ALL.len()],
            growing: 0,
            holders: Holders::new(holders),
            waiters: Waiters::new(WAITERS_MAX),
            accounts: Accounts::new(holders),
            // Two addresses for each slot, twice: as for the accounts.
            tenants: HashMap::with_capacity(4 * slots as usize + 2),
            granted_ns: 0,
            #[cfg(debug_assertions)]
            generations_seen: vec![0; slots as usize].into_boxed_slice(),
        };
        // Every slot begins as `Building` in memory, which is what an absent record says.
        ledger.counts[SlotState::Building as usize] = slots;
        ledger.read(now_ns);
        ledger.mark_answered(answered);
        let unsent = ledger.unsent_grants();
        ledger.restore_owners(fx);
        for slot in SlotId::first(slots) {
            ledger.settle(slot, observed(slot), &unsent, fx);
        }
        ledger.queue_free();
        ledger.verify();
        ledger
    }

    /// Reads each record, as far as it is one.
    fn read(&mut self, now_ns: u64) {
        for slot in SlotId::first(self.slots()) {
            let record = self.store.ledger(slot);
            let kept = &mut self.slots[slot.index()];
            kept.binding = self.store.binding(slot);
            kept.record = record;
            // A time to come is an edited one; taken over, it would pull the clock of all later grants along.
            if record.since_ns <= now_ns {
                self.granted_ns = self.granted_ns.max(record.since_ns);
            }
            self.counts[SlotState::Building as usize] -= 1;
            match record.state() {
                Some(state) => self.counts[state as usize] += 1,
                None => {
                    kept.record.commit = LedgerRecord::pack(record.generation(), SlotState::Building);
                    self.counts[SlotState::Building as usize] += 1;
                    let mut fx = Effects::default();
                    self.quarantine(slot, record.generation(), Reason::UnknownState, &mut fx);
                }
            }
        }
    }

    /// The requests whose reply had not left. A crash between two of a request's slots leaves some marked and some not:
    /// none of them was answered, since one reply carries them all and leaves after the last mark is taken off.
    fn unsent_grants(&self) -> Vec<GrantKey> {
        let unsent = |slot: &&Slot| slot.state() == SlotState::Leased && slot.record.flags & ledger_flag::UNSENT != 0;
        let mut keys: Vec<_> = self.slots.iter().filter(unsent).map(|slot| grant_key(&slot.record)).collect();
        keys.dedup();
        keys
    }

    /// Charges the users for their leases, and makes a holder of each process that leases end with.
    fn restore_owners(&mut self, fx: &mut Effects) {
        let mut holders: HashMap<Owner, HolderId> = HashMap::new();
        for slot in SlotId::first(self.slots()) {
            let record = self.slots[slot.index()].record;
            if self.slots[slot.index()].state() != SlotState::Leased {
                continue;
            }
            self.accounts.change(record.owner_uid, |user| user.leases += 1);
            let Some(Policy::OnExit | Policy::OnDisconnect) = Policy::from_byte(record.policy) else { continue };
            let owner = owner_of(&record);
            let id = *holders.entry(owner).or_insert_with(|| {
                let id = self.holders.add(owner, false).expect("there are at least as many places as slots");
                fx.push(Effect::Adopted(id));
                id
            });
            self.link_to_holder(slot, id);
        }
    }

    /// Brings one slot in line with what is there.
    fn settle(&mut self, slot: SlotId, observed: Observed, unsent: &[GrantKey], fx: &mut Effects) {
        let record = self.slots[slot.index()].record;
        let generation = record.generation();
        let binding = std::mem::take(&mut self.slots[slot.index()].binding);
        let state = self.slots[slot.index()].state();
        let whole = observed == Observed::Whole;
        match state {
            SlotState::Leased => {
                if !whole {
                    self.end_lease(slot, Ending::Quarantine(Reason::Lost), fx);
                } else if Policy::from_byte(record.policy).is_none() || Tag::of(&record).is_none() {
                    self.end_lease(slot, Ending::Quarantine(Reason::BadRecord), fx);
                } else if unsent.contains(&grant_key(&record)) {
                    self.end_lease(slot, Ending::Scrub, fx);
                } else {
                    return self.settle_binding(slot, binding, fx);
                }
            }
            SlotState::Building if whole => self.set_free(slot, fx),
            SlotState::Building => self.enter_idle(slot),
            SlotState::Free if whole => self.links.push_back(&mut self.free, slot.number()),
            SlotState::Scrubbing if whole => fx.push(Effect::Scrub(Lease { slot, generation: Generation(generation) })),
            // A pool made smaller in the meantime: nothing is lost that anybody had.
            SlotState::Free | SlotState::Quarantined if !whole && slot.number() >= self.settings.slots => {
                self.retire_absent(slot, fx);
            }
            SlotState::Free | SlotState::Scrubbing => self.quarantine(slot, generation, Reason::Lost, fx),
            SlotState::Rebuilding => self.quarantine(slot, generation, Reason::RebuildCut, fx),
            SlotState::Quarantined => {
                let reason = Reason::from_byte(record.reason).unwrap_or(Reason::BadRecord);
                self.quarantine(slot, generation, reason, fx);
            }
        }
        if binding != BindingRecord::default() {
            self.store.clear_binding(slot);
        }
    }

    /// Takes over the binding of a lease that stays, unless it is an older lease's or no binding.
    fn settle_binding(&mut self, slot: SlotId, record: BindingRecord, fx: &mut Effects) {
        if record == BindingRecord::default() {
            return;
        }
        let current = record.generation == self.slots[slot.index()].record.generation();
        match Binding::of(&record).filter(|_| current) {
            None => self.store.clear_binding(slot),
            Some(binding) if self.tenant_elsewhere(slot, &binding).is_some() => {
                self.store.clear_binding(slot);
                self.end_lease(slot, Ending::Quarantine(Reason::TenantTwice), fx);
            }
            Some(binding) => {
                self.slots[slot.index()].binding = record;
                self.remember_tenants(slot, &binding);
            }
        }
    }

    fn retire_absent(&mut self, slot: SlotId, fx: &mut Effects) {
        let mut record = self.slots[slot.index()].record;
        record.commit = LedgerRecord::pack(record.generation(), SlotState::Building);
        self.commit(slot, record, fx);
        self.enter_idle(slot);
    }

    /// Puts the free slots in order: the longer ago a slot was last leased, the sooner it is leased again.
    fn queue_free(&mut self) {
        let mut free: Vec<u32> = self.links.iter(&self.free).collect();
        free.sort_by_key(|number| self.slots[*number as usize].record.since_ns);
        for number in free {
            self.links.remove(&mut self.free, number);
            self.links.push_back(&mut self.free, number);
        }
    }
}

fn owner_of(record: &LedgerRecord) -> Owner {
    Owner { uid: record.owner_uid, gid: record.owner_gid, pid: record.owner_pid, inode: record.owner_inode }
}

fn grant_key(record: &LedgerRecord) -> GrantKey {
    (record.since_ns, owner_of(record))
}
