//! A slot's life outside its leases: made, cleaned, quarantined, rebuilt, lost, taken away; part of the [`Ledger`].

use netslot_abi::{GENERATION_MAX, LedgerRecord, SlotState};

use super::lease::Ending;
use super::types::{Effect, Effects, Lease, Reason, Refusal, Scrubbed};
use super::{Ledger, Store};
use crate::config::Empty;
use crate::slot::{Generation, SlotId};

impl<S: Store> Ledger<S> {
    /// A scrub ended. An outcome for a slot that is no longer being scrubbed in that generation is a late one, and
    /// ignored.
    pub fn scrubbed(&mut self, lease: Lease, outcome: Scrubbed, now_ns: u64, fx: &mut Effects) {
        let Some(found) = self.slots.get(lease.slot.index()) else { return };
        if found.state() != SlotState::Scrubbing || found.generation() != lease.generation {
            return;
        }
        match outcome {
            Scrubbed::Clean => self.set_free(lease.slot, fx),
            Scrubbed::Quarantine(reason) => self.quarantine(lease.slot, lease.generation.0, reason, fx),
        }
        self.pump(now_ns, fx);
        self.verify();
    }

    /// A slot has been made, or made again.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`]; [`Refusal::WrongState`] unless it is being built or rebuilt.
    pub fn built(&mut self, slot: SlotId, now_ns: u64, fx: &mut Effects) -> Result<(), Refusal> {
        match self.state_of(slot)? {
            SlotState::Building => self.leave_idle(slot),
            SlotState::Rebuilding => {}
            other @ (SlotState::Free | SlotState::Leased | SlotState::Scrubbing | SlotState::Quarantined) => {
                return Err(Refusal::WrongState(other));
            }
        }
        self.set_free(slot, fx);
        self.pump(now_ns, fx);
        self.verify();
        Ok(())
    }

    /// A slot could not be made, or made again: the former stays to be made, the latter is quarantined.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`]; [`Refusal::WrongState`] unless it is being built or rebuilt.
    pub fn build_failed(&mut self, slot: SlotId, fx: &mut Effects) -> Result<(), Refusal> {
        match self.state_of(slot)? {
            SlotState::Building => {
                self.leave_idle(slot);
                self.enter_idle(slot);
            }
            SlotState::Rebuilding => {
                let generation = self.slots[slot.index()].record.generation();
                self.quarantine(slot, generation, Reason::RebuildFailed, fx);
            }
            other @ (SlotState::Free | SlotState::Leased | SlotState::Scrubbing | SlotState::Quarantined) => {
                return Err(Refusal::WrongState(other));
            }
        }
        self.verify();
        Ok(())
    }

    /// A device or the namespace of a slot has vanished under us. A lease of it ends: its generation is raised, so that
    /// whoever held it is told on the next call.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`]; [`Refusal::WrongState`] where that is no news: not made, being made again, quarantined.
    pub fn lost(&mut self, slot: SlotId, reason: Reason, now_ns: u64, fx: &mut Effects) -> Result<(), Refusal> {
        let generation = self.slots.get(slot.index()).ok_or(Refusal::NoSuchSlot)?.generation();
        match self.state_of(slot)? {
            SlotState::Leased => self.end_lease(slot, Ending::Quarantine(reason), fx),
            SlotState::Free => {
                self.links.remove(&mut self.free, slot.number());
                self.quarantine(slot, generation.0, reason, fx);
            }
            SlotState::Scrubbing => self.quarantine(slot, generation.0, reason, fx),
            other @ (SlotState::Building | SlotState::Quarantined | SlotState::Rebuilding) => {
                return Err(Refusal::WrongState(other));
            }
        }
        self.pump(now_ns, fx);
        self.verify();
        Ok(())
    }

    /// A quarantined slot is about to be made again.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`]; [`Refusal::WrongState`] unless it is quarantined.
    pub fn rebuild(&mut self, slot: SlotId, fx: &mut Effects) -> Result<(), Refusal> {
        match self.state_of(slot)? {
            SlotState::Quarantined => self.set_state(slot, SlotState::Rebuilding, fx),
            other @ (SlotState::Building
            | SlotState::Free
            | SlotState::Leased
            | SlotState::Scrubbing
            | SlotState::Rebuilding) => return Err(Refusal::WrongState(other)),
        }
        self.verify();
        Ok(())
    }

    /// A slot is taken out of the pool: nobody can lease it, and the caller may take its devices down.
    ///
    /// # Errors
    /// [`Refusal::NoSuchSlot`]; [`Refusal::WrongState`] unless it is free or quarantined.
    pub fn retire(&mut self, slot: SlotId, fx: &mut Effects) -> Result<(), Refusal> {
        match self.state_of(slot)? {
            SlotState::Free => self.links.remove(&mut self.free, slot.number()),
            SlotState::Quarantined => {}
            other @ (SlotState::Building | SlotState::Leased | SlotState::Scrubbing | SlotState::Rebuilding) => {
                return Err(Refusal::WrongState(other));
            }
        }
        self.set_state(slot, SlotState::Building, fx);
        self.enter_idle(slot);
        self.verify();
        Ok(())
    }

    /// Asks for up to so many more slots, as far as `slots_max` allows; returns how many.
    pub fn grow(&mut self, count: u32, fx: &mut Effects) -> u32 {
        let asked = self.ask_for(count, fx);
        self.verify();
        asked
    }

    fn ask_for(&mut self, count: u32, fx: &mut Effects) -> u32 {
        for asked in 0..count {
            let Some(number) = self.links.pop_front(&mut self.idle) else { return asked };
            let slot = SlotId::new(number).expect("slots are linked by their numbers");
            self.slots[slot.index()].requested = true;
            self.growing += 1;
            fx.push(Effect::Create(slot));
        }
        count
    }

    /// Asks for what those waiting lack, where the configuration says so.
    pub(super) fn grow_for_waiters(&mut self, fx: &mut Effects) {
        if self.settings.empty != Empty::Create || self.waiters.len() == 0 {
            return;
        }
        let kept = if self.waiters.ordinary_len() == 0 { 0 } else { self.settings.quotas.reserve };
        let short = (self.waiters.slots() + kept).saturating_sub(self.free.len() + self.growing);
        self.ask_for(short, fx);
    }

    fn state_of(&self, slot: SlotId) -> Result<SlotState, Refusal> {
        self.slots.get(slot.index()).map(super::Slot::state).ok_or(Refusal::NoSuchSlot)
    }

    /// Stores a record and moves the slot's account to its new state.
    pub(super) fn commit(&mut self, slot: SlotId, record: LedgerRecord, fx: &mut Effects) {
        self.store.store_ledger(slot, &record);
        let kept = &mut self.slots[slot.index()];
        let from = kept.state();
        kept.record = record;
        let to = kept.state();
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
        fx.push(Effect::Changed { slot, generation: Generation(record.generation()), from, to });
    }

    fn set_state(&mut self, slot: SlotId, state: SlotState, fx: &mut Effects) {
        let mut record = self.slots[slot.index()].record;
        record.commit = LedgerRecord::pack(record.generation(), state);
        self.commit(slot, record, fx);
    }

    pub(super) fn set_free(&mut self, slot: SlotId, fx: &mut Effects) {
        let generation = self.slots[slot.index()].record.generation();
        // Only an edited record gets there; from it, the next lease would fold over to a generation already given out.
        if generation > GENERATION_MAX - 2 {
            return self.quarantine(slot, generation, Reason::BadRecord, fx);
        }
        self.set_state(slot, SlotState::Free, fx);
        self.links.push_back(&mut self.free, slot.number());
    }

    pub(super) fn pop_free(&mut self) -> SlotId {
        let number = self.links.pop_front(&mut self.free).expect("the caller counted the free slots");
        SlotId::new(number).expect("slots are linked by their numbers")
    }

    pub(super) fn quarantine(&mut self, slot: SlotId, generation: u64, reason: Reason, fx: &mut Effects) {
        let mut record = self.slots[slot.index()].record;
        record.reason = reason as u8;
        record.commit = LedgerRecord::pack(generation, SlotState::Quarantined);
        self.commit(slot, record, fx);
        fx.push(Effect::Quarantined { slot, reason });
    }

    /// Takes a slot in `Building` out of the account of those to be made.
    fn leave_idle(&mut self, slot: SlotId) {
        if std::mem::take(&mut self.slots[slot.index()].requested) {
            self.growing -= 1;
        } else if slot.number() < self.settings.slots_max {
            self.links.remove(&mut self.idle, slot.number());
        }
    }

    /// Puts a slot in `Building` where growth finds it.
    pub(super) fn enter_idle(&mut self, slot: SlotId) {
        if slot.number() < self.settings.slots_max {
            self.links.push_back(&mut self.idle, slot.number());
        }
    }
}
