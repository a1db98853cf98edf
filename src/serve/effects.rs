//! What the ledger wants done after a command; part of the [`Daemon`].

use std::os::fd::OwnedFd;

use netslot_abi::SlotState;
use netslot_protocol::event::Changed;

use super::answer;
use super::builder::Order;
use super::daemon::{Daemon, Later};
use super::worker::{Job, pause};
use crate::ledger::{Effect, Lease, Reason};
use crate::limits::REBUILD_PAUSE_MS;
use crate::slot::{Generation, SlotId};

impl Daemon {
    /// Brings about the effects of the last command, and of those that follow from them: leases to be given back,
    /// connections to be closed, owners who are gone.
    pub fn settle(&mut self) {
        loop {
            self.bring_about();
            if !self.undo.is_empty() {
                self.ledger.undo(&self.undo, self.now_ns, &mut self.fx);
                self.undo.clear();
            } else if let Some(holder) = self.closings.pop() {
                self.hang_up(holder);
            } else if let Some(holder) = self.orphans.pop() {
                self.ledger.owner_died(holder, self.now_ns, &mut self.fx);
            } else {
                return;
            }
        }
    }

    fn bring_about(&mut self) {
        let mut at = 0;
        // By index: an effect may send, which needs the rest of the daemon; none adds to the list.
        while let Some(effect) = self.fx.list().get(at).copied() {
            at += 1;
            match effect {
                Effect::Changed { slot, generation, from, to } => self.changed(slot, generation, from, to),
                Effect::Scrub(lease) => self.order_scrub(lease),
                Effect::Quarantined { slot, reason } => self.quarantined(slot, reason),
                Effect::Create(slot) => self.order_build(slot),
                Effect::Granted { holder, ticket, grant } => {
                    self.grant.clear();
                    self.grant.extend_from_slice(self.fx.leases(grant));
                    self.answer_grant(holder, ticket);
                }
                Effect::Refused { holder, ticket, why } => self.refuse_waiter(holder, ticket, why),
                Effect::Adopted(holder) => self.adopt_owner(holder),
                Effect::HolderGone(holder) => {
                    let peer = &mut self.peers[holder.index()];
                    peer.process = None;
                    peer.watched = false;
                }
            }
        }
        self.fx.clear();
    }

    fn changed(&mut self, slot: SlotId, generation: Generation, from: SlotState, to: SlotState) {
        if from == SlotState::Leased && to != SlotState::Leased {
            self.totals.releases += 1;
            self.publisher.want(slot, false, self.now_ns);
        }
        if to == SlotState::Leased && from != SlotState::Leased {
            self.totals.leases += 1;
            self.publisher.want(slot, true, self.now_ns);
            // Made, and of use to somebody: what becomes of it from here on is its holder's doing, for which the pool is not
            // to be a slot short. One that does not last until then, or cannot be made, is made less and less often.
            self.attempts[slot.index()] = 0;
        }
        self.ring.push(Changed { slot: slot.number(), generation: generation.0, state: answer::state(to) });
    }

    fn order_scrub(&mut self, lease: Lease) {
        let netns = self.netns[lease.slot.index()].as_ref().map(OwnedFd::try_clone);
        match netns {
            Some(Ok(netns)) => self.shop.queue.push(Job::Scrub { lease, netns }),
            // Without it nothing can be cleaned: let the slot be made anew.
            Some(Err(error)) => self.unscrubbed(
                lease,
                Reason::ScrubFailed,
                &format!("fcntl(F_DUPFD_CLOEXEC) of its namespace: {error}"),
            ),
            None => self.unscrubbed(lease, Reason::Lost, "its namespace is not open here"),
        }
    }

    /// A scrub that could not even be ordered: reported like any other, in the next turn.
    fn unscrubbed(&self, lease: Lease, reason: Reason, why: &str) {
        let outcome = crate::ledger::Scrubbed::Quarantine(reason);
        self.shop.inbox.put(super::worker::Done::Scrubbed { lease, outcome, why: Some(why.into()) });
    }

    fn quarantined(&mut self, slot: SlotId, reason: Reason) {
        let detail = self.details.get(&slot).map(|detail| format!(" ({detail})")).unwrap_or_default();
        let beyond = slot.number() >= self.config.slots;
        if beyond && reason == Reason::Lost {
            log::warn!("slot {slot}, beyond the configured number, is gone");
            self.later.insert((self.now_ns, slot), Later::Retire);
            return;
        }
        let attempts = &mut self.attempts[slot.index()];
        let wait = if *attempts == 0 { 0 } else { super::worker::nanos(pause(REBUILD_PAUSE_MS, *attempts - 1)) };
        *attempts = attempts.saturating_add(1);
        log::warn!("slot {slot} is quarantined: {reason}{detail}; it is made anew in {} s", wait / 1_000_000_000);
        self.later.insert((self.now_ns + wait, slot), Later::Rebuild);
    }

    /// Holds that namespace as the slot's, in place of another or none. A name that leads to the other goes before it is
    /// closed: its descriptor's number is at once the next one's, which may be the namespace of another tenant's slot.
    pub fn hold_netns(&mut self, slot: SlotId, netns: Option<OwnedFd>) {
        self.publisher.hide(slot);
        self.netns[slot.index()] = netns;
    }

    fn order_build(&mut self, slot: SlotId) {
        if self.builder.send(Order::Make(slot)).is_err() {
            log::error!("slot {slot} cannot be made: the builder is gone");
        }
    }

    /// Does what was put off until now.
    pub fn do_what_is_due(&mut self) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.now_ns) {
            let ((_, slot), what) = entry.remove_entry();
            let done = match what {
                Later::Rebuild => self.ledger.rebuild(slot, &mut self.fx).map(|()| {
                    // Ours must not be the hand that keeps the old namespace.
                    self.hold_netns(slot, None);
                    self.order_build(slot);
                }),
                Later::Retire => self.ledger.retire(slot, &mut self.fx),
                Later::BuildFailed => self.ledger.build_failed(slot, &mut self.fx),
            };
            if let Err(why) = done {
                log::debug!("slot {slot}: {what:?} is not needed any more: {why}");
            }
            self.settle();
        }
    }
}
