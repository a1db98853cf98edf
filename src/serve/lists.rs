//! Lists: how many are written for clients that have not read the ones before; part of the [`Daemon`].
//!
//! A list is a file of its own, that lives as long as the message which carries it, and the kernel counts the message alone
//! against what a connection may leave unread. So a connection is sent its next list when it has read all before it, and of
//! a user's connections so many at a time; until then the request waits, as one does that a worker is busy with.

use netslot_protocol::frame::Header;

use super::daemon::Daemon;
use super::worker::{Asker, Job};
use crate::ledger::HolderId;
use crate::limits::LISTS_UNREAD_PER_USER;
use crate::sys::seqpacket;

/// A list that is being written, or was sent and has not been seen to be read.
#[derive(Debug)]
pub(super) struct Unread {
    holder: HolderId,
    serial: u64,
    uid: u32,
    sent: bool,
    /// The poll tells when something is read.
    watched: bool,
}

impl Daemon {
    /// A connection asks for a list.
    pub fn list(&mut self, holder: HolderId, header: Header) {
        let Some(connection) = self.connection_mut(holder) else { return };
        (connection.talk.busy, connection.talk.held) = (true, true);
        let asker = Asker { holder, serial: connection.serial, id: header.id, version: header.version };
        self.lists_held.push_back(asker);
        self.order_lists();
        // The poll has told already of one that went before its request was read.
        self.close_if_gone(holder);
    }

    /// Has those lists written that may be, in the order in which they were asked for.
    fn order_lists(&mut self) {
        for list in std::mem::take(&mut self.lists_unread) {
            let Some(connection) = self.connection(list.holder).filter(|c| c.serial == list.serial) else { continue };
            if !list.sent || seqpacket::has_unread(&connection.socket) {
                self.lists_unread.push(list);
            } else if list.watched {
                self.watch_writable(list.holder, connection.talk.watching.is_some_and(|watching| watching.stalled));
            }
        }
        for asker in std::mem::take(&mut self.lists_held) {
            let Some(connection) = self.connection(asker.holder).filter(|c| c.serial == asker.serial) else { continue };
            let uid = connection.uid;
            let one = self.lists_unread.iter().any(|list| list.holder == asker.holder);
            if one || self.lists_unread.iter().filter(|list| list.uid == uid).count() >= LISTS_UNREAD_PER_USER {
                self.lists_held.push_back(asker);
            } else {
                let (holder, serial) = (asker.holder, asker.serial);
                self.lists_unread.push(Unread { holder, serial, uid, sent: false, watched: false });
                self.order_list(asker);
            }
        }
        if self.lists_held.is_empty() {
            return;
        }
        for at in 0..self.lists_unread.len() {
            let list = &mut self.lists_unread[at];
            if list.sent && !std::mem::replace(&mut list.watched, true) {
                let holder = list.holder;
                self.watch_writable(holder, true);
            }
        }
    }

    fn order_list(&mut self, asker: Asker) {
        if let Some(connection) = self.connection_mut(asker.holder).filter(|c| c.serial == asker.serial) {
            connection.talk.held = false;
            self.shop.queue.push(Job::List { asker });
        }
    }

    /// Has all lists written that are asked for: this process is about to end, and can keep no request.
    pub fn order_all_lists(&mut self) {
        for asker in std::mem::take(&mut self.lists_held) {
            self.order_list(asker);
        }
    }

    /// A list was sent, or could not be.
    pub fn list_left(&mut self, asker: Asker, sent: bool) {
        let its = |list: &Unread| (list.holder, list.serial) == (asker.holder, asker.serial);
        match self.lists_unread.iter_mut().find(|list| its(list)) {
            Some(list) if sent => list.sent = true,
            _ => self.lists_unread.retain(|list| !its(list)),
        }
        self.lists_may_go_on();
    }

    /// A connection that the daemon before this has left: what is unread there may be a list.
    pub fn note_unread(&mut self, holder: HolderId) {
        let Some(connection) = self.connection(holder) else { return };
        if seqpacket::has_unread(&connection.socket) {
            let (serial, uid) = (connection.serial, connection.uid);
            self.lists_unread.push(Unread { holder, serial, uid, sent: true, watched: false });
        }
    }

    /// Something has happened to the lists that others wait behind.
    pub fn lists_may_go_on(&mut self) {
        if !self.lists_held.is_empty() {
            self.order_lists();
        }
    }

    /// Whether the poll is to tell when this connection has read something.
    pub fn is_list_watched(&self, holder: HolderId) -> bool {
        self.lists_unread.iter().any(|list| list.holder == holder && list.watched)
    }

    /// Something has happened to a connection: it has read, or has gone while its request was held.
    pub fn look_at_lists(&mut self, number: usize) {
        if self.lists_held.is_empty() {
            return;
        }
        let holder = HolderId::at(u32::try_from(number).expect("holders are numbered by u32"));
        if self.is_list_watched(holder) {
            self.order_lists();
        } else {
            self.close_if_gone(holder);
            self.settle();
        }
    }

    /// Ends a connection whose client has gone while its request was held: nothing else would find that.
    fn close_if_gone(&mut self, holder: HolderId) {
        let Some(connection) = self.peers.get(holder.index()).and_then(|peer| peer.connection.as_ref()) else { return };
        if connection.talk.held && seqpacket::has_hung_up(&connection.socket) {
            self.close(holder);
        }
    }
}
