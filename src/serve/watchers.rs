//! Those who watch: subscribed, sent what is new, left behind where they do not read; part of the [`Daemon`].

use netslot_protocol::event::{Event, Lagged};
use netslot_protocol::frame::Header;
use netslot_protocol::request;
use nix::errno::Errno;

use super::conversation::Watching;
use super::daemon::Daemon;
use super::events::Next;
use crate::ledger::HolderId;
use crate::limits::EVENTS_PER_TURN;

impl Daemon {
    /// Subscribes a connection.
    pub fn watch(&mut self, holder: HolderId, header: Header) {
        self.reply::<request::Watch>(holder, header, &());
        let place = self.ring.now();
        let Some(connection) = self.connection_mut(holder) else { return };
        if connection.talk.watching.is_none() {
            let (id, version) = (header.id, header.version);
            connection.talk.watching = Some(Watching { id, version, place, stalled: false });
            self.watchers.push(holder);
        }
    }

    /// Whether a watcher has not been sent all yet, and could be.
    pub fn has_events_to_send(&self) -> bool {
        let waits = |w: &Watching| !w.stalled && w.place < self.ring.now();
        let watching = |holder: &HolderId| {
            self.connection(*holder).filter(|c| !c.talk.held).and_then(|c| c.talk.watching.as_ref())
        };
        self.watchers.iter().filter_map(watching).any(waits)
    }

    /// Sends watchers what is new, each up to its share of the turn.
    pub fn send_events(&mut self) {
        for at in 0..self.watchers.len() {
            let Some(holder) = self.watchers.get(at).copied() else { break };
            self.send_events_to(holder);
        }
        self.settle();
    }

    fn send_events_to(&mut self, holder: HolderId) {
        for _ in 0..EVENTS_PER_TURN {
            // One that is to read what it has before its next list comes is not sent more of it.
            let connection = self.connection(holder).filter(|c| !c.talk.held);
            let Some(mut watching) = connection.and_then(|c| c.talk.watching) else { return };
            let (event, next) = match self.ring.at(watching.place) {
                _ if watching.stalled => return,
                Next::Nothing => return,
                Next::Missed(dropped) => (Event::Lagged(Lagged { dropped }), self.ring.oldest()),
                Next::Change(changed) => (Event::Changed(changed), watching.place + 1),
            };
            let len =
                event.write(watching.version, watching.id, &mut self.frame[..]).expect("every event fits a frame");
            match self.post(holder, len, std::iter::empty()) {
                Ok(()) => watching.place = next,
                Err(Errno::EAGAIN) => watching.stalled = true,
                Err(errno) => return self.lost_touch(holder, errno),
            }
            if watching.stalled {
                self.watch_writable(holder, true);
            }
            if let Some(connection) = self.connection_mut(holder) {
                connection.talk.watching = Some(watching);
                if !watching.stalled {
                    connection.talk.sent_other();
                }
            }
        }
    }

    /// A connection takes more again.
    pub fn resume_watcher(&mut self, number: usize) {
        let connection = self.peers.get_mut(number).and_then(|peer| peer.connection.as_mut());
        if let Some(watching) = connection.and_then(|c| c.talk.watching.as_mut()).filter(|watching| watching.stalled) {
            watching.stalled = false;
            let holder = HolderId::at(u32::try_from(number).expect("holders are numbered by u32"));
            self.watch_writable(holder, self.is_list_watched(holder));
        }
    }
}
