//! What workers, builder and kernel report; part of the [`Daemon`].

use std::os::fd::{AsFd, OwnedFd};

use netslot_abi::SlotState;
use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::{frame, reply, request};

use super::daemon::{Daemon, Later};
use super::requests::Fds;
use super::worker::{Asker, Done, Job, is_held, nanos, pause};
use crate::ledger::{Lease, Reason, Scrubbed};
use crate::limits::REBUILD_PAUSE_MS;
use crate::netlink::listener::Heard;
use crate::scrub::ScrubError;
use crate::slot::SlotId;

impl Daemon {
    /// Takes what came into the inbox.
    pub fn take_results(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        self.shop.inbox.take(&mut done);
        self.done = done;
        self.take_done();
    }

    /// Works on what was taken.
    pub fn take_done(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        for one in done.drain(..) {
            self.result(one);
            self.settle();
        }
        self.done = done;
    }

    fn result(&mut self, done: Done) {
        match done {
            Done::Scrubbed { lease, outcome, why } => self.scrubbed(lease, outcome, why),
            Done::Taps { asker, leases, fds } => self.taps_opened(asker, &leases, fds),
            Done::Listed { asker, file } => self.listed(asker, file),
            Done::Gone(slot) => self.gone(slot),
            Done::Built { slot, netns } => self.built(slot, netns),
            Done::BuildFailed { slot, why } => self.build_failed(slot, why),
            Done::PassServes => {}
            Done::PassEnded(outcome) => {
                match super::pool::tunnels(&self.config) {
                    Ok(tunnels) => self.ledger.set_tunnels(tunnels),
                    Err(error) => log::error!("{error}; bindings are held to what was known before the pass"),
                }
                self.passing = false;
                if outcome.is_err() {
                    self.manager.headline("serving, though not all slots could be made");
                }
            }
        }
    }

    fn scrubbed(&mut self, lease: Lease, outcome: Scrubbed, why: Option<String>) {
        match why {
            Some(why) => {
                self.details.insert(lease.slot, why);
            }
            None if outcome == Scrubbed::Clean => {
                self.details.remove(&lease.slot);
            }
            None => {}
        }
        self.ledger.scrubbed(lease, outcome, self.now_ns, &mut self.fx);
    }

    fn taps_opened(&mut self, asker: Asker, leases: &[Lease], fds: Result<Vec<OwnedFd>, ScrubError>) {
        let listening = self.is_listening(asker);
        match fds {
            Ok(fds) if listening => {
                self.grant.clear();
                self.grant.extend_from_slice(leases);
                self.send_grant(asker.holder, asker.id, asker.version, Fds::These(&fds));
            }
            Ok(_) => self.undo.extend_from_slice(leases),
            Err(error) => {
                self.undo.extend_from_slice(leases);
                if listening {
                    let code = if is_held(&error) { ErrorCode::TapBusy } else { ErrorCode::Internal };
                    let refusal = Refusal::new(code, format_args!("{error}; ask again for another slot"));
                    self.refuse(asker.holder, asker.id, asker.version, &refusal);
                }
            }
        }
        self.job_done(asker);
    }

    fn listed(&mut self, asker: Asker, file: std::io::Result<(std::fs::File, u64)>) {
        let mut left = false;
        if self.is_listening(asker) {
            match file {
                Ok((file, bytes)) => {
                    let reply = reply::List { bytes };
                    let len = frame::write_reply::<request::List>(asker.version, asker.id, &reply, &mut self.frame[..])
                        .expect("every message fits a frame");
                    let sent = self.post(asker.holder, len, [file.as_fd()].into_iter());
                    left = sent.is_ok();
                    self.after_sending(asker.holder, sent);
                }
                Err(error) => {
                    let refusal = Refusal::new(
                        ErrorCode::Internal,
                        format_args!("the list cannot be written: {error}; ask again"),
                    );
                    self.refuse(asker.holder, asker.id, asker.version, &refusal);
                }
            }
        }
        self.list_left(asker, left);
        self.job_done(asker);
    }

    /// Whether the connection that asked is still there.
    fn is_listening(&self, asker: Asker) -> bool {
        self.connection(asker.holder).is_some_and(|c| c.serial == asker.serial && !c.talk.closing)
    }

    /// Goes on reading from a connection whose job is done.
    fn job_done(&mut self, asker: Asker) {
        if let Some(connection) = self.connection_mut(asker.holder).filter(|c| c.serial == asker.serial) {
            connection.talk.busy = false;
            self.enqueue(asker.holder.index());
        }
    }

    fn gone(&mut self, slot: SlotId) {
        if self.ledger.lost(slot, Reason::Lost, self.now_ns, &mut self.fx).is_ok() {
            log::warn!("slot {slot}: its host end is gone: deleted by somebody");
            self.hold_netns(slot, None);
        }
    }

    fn built(&mut self, slot: SlotId, netns: OwnedFd) {
        let state = self.ledger.get(slot).ok().and_then(|(record, _)| record.state());
        // One that was whole already is told of too.
        if matches!(state, Some(SlotState::Building | SlotState::Rebuilding)) {
            self.hold_netns(slot, Some(netns));
            self.details.remove(&slot);
            if let Err(why) = self.ledger.built(slot, self.now_ns, &mut self.fx) {
                log::error!("slot {slot} is built: {why}");
            } else if state == Some(SlotState::Rebuilding) {
                self.rebuilt += 1;
                log::info!("slot {slot} is made anew; {} since this daemon began", self.rebuilt);
            }
        }
    }

    fn build_failed(&mut self, slot: SlotId, why: String) {
        log::error!("slot {slot} could not be made: {why}");
        self.details.insert(slot, why);
        let state = self.ledger.get(slot).ok().and_then(|(record, _)| record.state());
        if state == Some(SlotState::Rebuilding) {
            if let Err(why) = self.ledger.build_failed(slot, &mut self.fx) {
                log::error!("slot {slot} is not built: {why}");
            }
            return;
        }
        // Requests that wait would have it asked for again at once.
        let attempts = &mut self.attempts[slot.index()];
        let due_ns = self.now_ns + nanos(pause(REBUILD_PAUSE_MS, *attempts));
        *attempts = attempts.saturating_add(1);
        self.later.insert((due_ns, slot), Later::BuildFailed);
    }

    /// Devices were deleted: has those looked at that are slots' host ends.
    pub fn hear_links(&mut self) {
        loop {
            match self.links.hear() {
                Ok(Heard::Deleted(index)) => {
                    let number = index.checked_sub(self.config.ifindex_base);
                    let slot = number.and_then(SlotId::new).filter(|slot| self.has_netns(*slot));
                    if let Some(slot) = slot {
                        // A slot that is made anew has its host end deleted too, and by the time the news is here may
                        // have another: so not the news decides, but a look.
                        self.shop.queue.push(Job::Look(slot));
                    }
                }
                Ok(Heard::Lost) => {
                    let slots = SlotId::first(self.ledger.slots()).filter(|slot| self.has_netns(*slot));
                    slots.for_each(|slot| self.shop.queue.push(Job::Look(slot)));
                }
                Ok(Heard::Nothing) => return,
                Err(error) => return log::error!("the news of deleted devices cannot be read: {error}"),
            }
        }
    }

    fn has_netns(&self, slot: SlotId) -> bool {
        self.netns.get(slot.index()).is_some_and(Option::is_some)
    }
}
