//! The shadow model: the ledger's rules once more, in the plainest form, with vectors that are searched and no store.

use std::collections::VecDeque;

use netslot::config::Empty;
use netslot::ledger::{Binding, Owner, Policy, Reason, Settings};
use netslot_abi::SlotState;

/// What one slot's record must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub state: SlotState,
    pub generation: u64,
    /// Meaningful while leased.
    pub owner: Owner,
    pub policy: Policy,
    /// Connection, by its serial number, that the lease ends with or whose process it ends with.
    pub holder: u64,
    /// Meaningful while leased: the reply has not left.
    pub unsent: bool,
    /// Grant that the lease came with.
    pub grant: u64,
    /// Meaningful while quarantined.
    pub reason: Option<Reason>,
    pub binding: Option<Binding>,
}

#[derive(Clone, Debug)]
pub struct Connection {
    pub serial: u64,
    pub owner: Owner,
    pub connected: bool,
    pub alive: bool,
}

#[derive(Clone, Debug)]
pub struct Waiter {
    pub ticket: u64,
    pub connection: u64,
    pub owner: Owner,
    pub count: u32,
    pub policy: Policy,
    pub deadline_ns: u64,
}

/// What became of a waiting request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Granted { ticket: u64, slots: Vec<u32> },
    Refused { ticket: u64 },
}

#[derive(Clone, Debug)]
pub struct Model {
    pub settings: Settings,
    pub slots: Vec<Entry>,
    /// Every state that a slot passed through in the command under way.
    pub trail: Vec<(u32, Entry)>,
    pub free: VecDeque<u32>,
    pub idle: VecDeque<u32>,
    pub requested: Vec<u32>,
    pub queue: Vec<Waiter>,
    pub connections: Vec<Connection>,
    pub answers: Vec<Answer>,
    pub grants: u64,
}

impl Model {
    pub fn is_reserved(&self, uid: u32) -> bool {
        self.settings.quotas.reserve_uids.contains(&uid)
    }

    pub fn available(&self, uid: u32) -> u32 {
        let free = u32::try_from(self.free.len()).expect("few");
        if self.is_reserved(uid) { free } else { free.saturating_sub(self.settings.quotas.reserve) }
    }

    pub fn leases_of(&self, uid: u32) -> u32 {
        let of = |e: &&Entry| e.state == SlotState::Leased && e.owner.uid == uid;
        u32::try_from(self.slots.iter().filter(of).count()).expect("few")
    }

    pub fn waiting_slots_of(&self, uid: u32) -> u32 {
        self.queue.iter().filter(|w| w.owner.uid == uid).map(|w| w.count).sum()
    }

    pub fn connection(&self, serial: u64) -> Option<&Connection> {
        self.connections.iter().find(|c| c.serial == serial)
    }

    fn set(&mut self, slot: u32, edit: impl FnOnce(&mut Entry)) {
        let entry = &mut self.slots[slot as usize];
        edit(entry);
        self.trail.push((slot, *entry));
    }

    pub fn grant(&mut self, connection: u64, owner: Owner, count: u32, policy: Policy) -> Vec<u32> {
        self.grants += 1;
        let grant = self.grants;
        let slots: Vec<u32> = self.free.drain(..count as usize).collect();
        for slot in &slots {
            self.set(*slot, |e| {
                assert_ne!(e.state, SlotState::Leased, "slot {slot} granted twice");
                e.state = SlotState::Leased;
                e.generation += 1;
                (e.owner, e.policy, e.holder, e.unsent, e.grant) = (owner, policy, connection, true, grant);
            });
        }
        slots
    }

    /// Whether a newcomer has to stand behind somebody.
    pub fn must_queue(&self, uid: u32) -> bool {
        let reserved = self.is_reserved(uid);
        self.queue.iter().any(|w| !reserved || self.is_reserved(w.owner.uid))
    }

    pub fn pump(&mut self) {
        loop {
            // First come, first served; only who may take the reserve may pass who may not.
            let mut blocked_ordinary = false;
            let mut blocked_reserved = false;
            let mut served = None;
            for (at, w) in self.queue.iter().enumerate() {
                let reserved = self.is_reserved(w.owner.uid);
                let blocked = blocked_reserved || (blocked_ordinary && !reserved);
                if !blocked && w.count <= self.available(w.owner.uid) {
                    served = Some(at);
                    break;
                }
                if reserved {
                    blocked_reserved = true;
                } else {
                    blocked_ordinary = true;
                }
            }
            let Some(at) = served else { break };
            let w = self.queue.remove(at);
            let slots = self.grant(w.connection, w.owner, w.count, w.policy);
            self.answers.push(Answer::Granted { ticket: w.ticket, slots });
        }
        self.grow();
    }

    pub fn grow(&mut self) {
        if self.settings.empty != Empty::Create || self.queue.is_empty() {
            return;
        }
        let wanted: u32 = self.queue.iter().map(|w| w.count).sum();
        let ordinary = self.queue.iter().any(|w| !self.is_reserved(w.owner.uid));
        let wanted = wanted + if ordinary { self.settings.quotas.reserve } else { 0 };
        while (self.free.len() + self.requested.len()) < wanted as usize {
            let Some(slot) = self.idle.pop_front() else { break };
            self.requested.push(slot);
        }
    }

    pub fn end_lease(&mut self, slot: u32, reason: Option<Reason>) {
        self.set(slot, |e| {
            e.generation += 1;
            e.state = if reason.is_some() { SlotState::Quarantined } else { SlotState::Scrubbing };
            e.reason = reason;
            e.binding = None;
        });
    }

    pub fn end_leases(&mut self, ends: impl Fn(&Entry) -> bool) {
        for slot in 0..u32::try_from(self.slots.len()).expect("few") {
            let entry = self.slots[slot as usize];
            if entry.state == SlotState::Leased && ends(&entry) {
                self.end_lease(slot, None);
            }
        }
    }

    pub fn set_free(&mut self, slot: u32) {
        self.set(slot, |e| e.state = SlotState::Free);
        self.free.push_back(slot);
    }

    pub fn quarantine(&mut self, slot: u32, reason: Reason) {
        self.free.retain(|s| *s != slot);
        if self.slots[slot as usize].state == SlotState::Leased {
            return self.end_lease(slot, Some(reason));
        }
        self.set(slot, |e| {
            e.state = SlotState::Quarantined;
            e.reason = Some(reason);
        });
    }

    pub fn set_state(&mut self, slot: u32, state: SlotState) {
        self.set(slot, |e| e.state = state);
    }

    pub fn set_binding(&mut self, slot: u32, binding: Option<Binding>) {
        self.set(slot, |e| e.binding = binding);
    }

    pub fn reply_left(&mut self, slots: &[u32]) {
        for slot in slots {
            self.set(*slot, |e| e.unsent = false);
        }
    }

    /// Whether the slot's tenant addresses are another's.
    pub fn taken_by(&self, slot: u32, binding: &Binding) -> Option<u32> {
        let clash = |other: &Binding| {
            let v4 = binding.tenant_v4.is_some() && other.tenant_v4 == binding.tenant_v4;
            let v6 = binding.tenant_v6.is_some() && other.tenant_v6 == binding.tenant_v6;
            other.vni == binding.vni && (v4, v6) != (false, false)
        };
        let holders =
            || (0_u32..).zip(&self.slots).filter(|(n, e)| *n != slot && e.binding.as_ref().is_some_and(clash));
        // The ledger names the holder of the IPv4 address first.
        let v4 = holders()
            .find(|(_, e)| e.binding.is_some_and(|b| binding.tenant_v4.is_some() && b.tenant_v4 == binding.tenant_v4));
        v4.or_else(|| holders().next()).map(|(n, _)| n)
    }
}
