//! Handing over, and taking over: what a daemon leaves is gathered, given to a successor or to the service manager's
//! keeping, and taken up by the next one; part of the [`Daemon`].

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use netslot_protocol::event::Changed;
use nix::sys::stat::fstat;

use super::daemon::{Daemon, Later, Totals};
use super::estate::{self, Estate, Left, Wait};
use super::events::{Next, Ring};
use super::succession::{self, Heir, Heritage};
use super::{manager, snapshot};
use crate::ledger::{HolderId, Policy};
use crate::limits::{EVENTS_KEPT, FDSTORE_CONNECTIONS_MAX, HAND_OVER_MS};
use crate::sys::seqpacket;

impl Daemon {
    /// Somebody asks for the pool: hands it over, if it can be now. Nobody is served meanwhile; whatever goes wrong, this
    /// daemon serves on.
    pub fn meet_heirs(&mut self) {
        while let Ok(socket) = seqpacket::accept(&self.heirs) {
            if let Some(heir) = Heir::of(socket) {
                self.meet(heir);
            }
        }
    }

    fn meet(&mut self, heir: Heir) {
        if self.is_succeeded() {
            return heir.refuse("another successor was first");
        }
        if manager::is_there() {
            return heir.refuse("it is the service manager's: 'systemctl restart netslot' keeps its connections too");
        }
        if self.before.is_some() {
            return heir.put_off("names of leases still lead to the daemon before this one");
        }
        if self.is_building() {
            return heir.put_off("slots are being made");
        }
        if !self.finish_jobs() {
            return heir.put_off("a client's tap takes long to open");
        }
        let (estate, connections) = self.estate(usize::MAX);
        let taken = match snapshot::seal("netslot-estate", &estate.write()) {
            Ok(file) => heir.offer(self.listener.fd.as_fd(), file.as_fd(), &connections),
            Err(error) => return heir.refuse(&format!("its list cannot be written: {error}")),
        };
        if taken {
            log::info!("a successor has taken over");
            self.succeed(heir);
        } else {
            log::warn!("a successor that asked for the pool has not taken it; serving on");
        }
    }

    /// Gives everything to the service manager's keeping; whether it has it.
    pub fn leave_with_manager(&mut self) -> bool {
        if !manager::keeps_fds() || !self.finish_jobs() {
            return false;
        }
        let (estate, connections) = self.estate(FDSTORE_CONNECTIONS_MAX);
        let kept = snapshot::seal("netslot-estate", &estate.write())
            .and_then(|file| manager::keep_estate(file.as_fd(), &connections));
        if let Err(error) = &kept {
            log::warn!("the connections cannot be kept by the service manager, and end: {error}");
            manager::forget_estate();
        }
        kept.is_ok()
    }

    /// Takes up what the daemon before this has left. Comes before anything else is served.
    pub fn inherit(&mut self, heritage: Heritage) {
        // Recovery's own effects name holders by numbers that the connections are about to get.
        self.settle();
        let Heritage { estate, connections, before } = heritage;
        self.before = before;
        let (first, changes) = estate.changes();
        self.ring = Ring::starting_at(EVENTS_KEPT, first);
        changes.for_each(|change| self.ring.push(change));
        let [leases, releases, empty] = estate.totals;
        self.totals = Totals { leases, releases, empty };
        let inode = |socket: &OwnedFd| fstat(socket).map(|status| status.st_ino).unwrap_or_default();
        let mut sockets: HashMap<u64, OwnedFd> = connections.into_iter().map(|s| (inode(&s), s)).collect();
        let (mut waits, mut taken) = (Vec::new(), 0);
        for left in &estate.connections {
            if let Some(holder) = sockets.remove(&left.inode).and_then(|socket| self.welcome(socket)) {
                taken += 1;
                self.seat(holder, left);
                waits.extend(left.waits.iter().map(|wait| (wait, holder)));
            } else {
                self.end_leases_of_lost(left);
            }
            self.settle();
        }
        waits.sort_by_key(|(wait, _)| wait.arrival);
        log::info!("{taken} connections go on, with {} requests that wait", waits.len());
        for (wait, holder) in waits {
            self.ask(&wait.request(holder, self.now_ns));
            self.settle();
        }
    }

    /// Gives a connection back what it had.
    fn seat(&mut self, holder: HolderId, left: &Left) {
        estate::leases(&left.leases).for_each(|lease| self.ledger.take_over(holder, lease, &mut self.fx));
        let ends_with_process = |lease: &crate::ledger::Lease| {
            let record = self.ledger.get(lease.slot).map(|(record, _)| record.policy);
            record.is_ok_and(|policy| Policy::from_byte(policy) == Some(Policy::OnExit))
        };
        if estate::leases(&left.leases).any(|lease| ends_with_process(&lease)) {
            self.watch_process(holder);
        }
        let watching = left.watching();
        let Some(connection) = self.connection_mut(holder) else { return };
        connection.talk.watching = watching;
        if !left.last_grant.is_empty() {
            let leases: Vec<_> = estate::leases(&left.last_grant).collect();
            connection.talk.sent_grant(&leases);
        }
        if watching.is_some() {
            self.watchers.push(holder);
        }
        self.note_unread(holder);
        // Whatever it has said meanwhile.
        self.enqueue(holder.index());
    }

    /// The leases that were to end with a connection that did not come along.
    fn end_leases_of_lost(&mut self, left: &Left) {
        let ends = |lease: &crate::ledger::Lease| {
            let policy = self.ledger.get(lease.slot).map(|(record, _)| record.policy);
            policy.is_ok_and(|policy| Policy::from_byte(policy) == Some(Policy::OnDisconnect))
        };
        let ended: Vec<_> = estate::leases(&left.leases).filter(ends).collect();
        self.ledger.undo(&ended, self.now_ns, &mut self.fx);
    }

    /// Everything that is in memory alone, and the connections' sockets, `most` of them.
    fn estate(&self, most: usize) -> (Estate, Vec<BorrowedFd<'_>>) {
        let mut estate = Estate::new();
        estate.totals = [self.totals.leases, self.totals.releases, self.totals.empty];
        let mut sockets = Vec::new();
        let mut places = HashMap::new();
        for (number, peer) in (0_u32..).zip(&self.peers) {
            let Some(connection) = peer.connection.as_ref().filter(|_| sockets.len() < most) else { continue };
            let holder = HolderId::at(number);
            places.insert(holder, sockets.len());
            sockets.push(connection.socket.as_fd());
            estate.connections.push(Left {
                inode: fstat(&connection.socket).map(|status| status.st_ino).unwrap_or_default(),
                waits: Vec::new(),
                watching: connection.talk.watching.map(|w| (w.id, w.version, w.place)),
                leases: estate::numbers(self.ledger.leases_ending_with(holder)),
                last_grant: estate::numbers(connection.talk.never_read().iter().copied()),
            });
        }
        for (arrival, pending) in (0_u32..).zip(&self.ledger.pending()) {
            if let Some(place) = places.get(&pending.request.holder) {
                estate.connections[*place].waits.push(Wait::new(arrival, pending));
            }
        }
        let oldest = self.ring.oldest();
        let places = estate.connections.iter().filter_map(|left| left.watching).map(|(_, _, place)| place.max(oldest));
        estate.first_change = places.min().unwrap_or(self.ring.now());
        let changes = (estate.first_change..self.ring.now()).map(|place| self.ring.at(place));
        estate.changes = changes.filter_map(numbers_of).collect();
        (estate, sockets)
    }

    /// Waits for the jobs that a connection waits for; whether there are none left.
    fn finish_jobs(&mut self) -> bool {
        let until = Instant::now() + Duration::from_millis(HAND_OVER_MS);
        self.order_all_lists();
        loop {
            self.take_results();
            let busy = |peer: &super::peer::Peer| peer.connection.as_ref().is_some_and(|c| c.talk.busy);
            if !self.peers.iter().any(busy) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the builder has anything to do: what it is about is known to this process alone.
    fn is_building(&self) -> bool {
        let put_off = self.later.values().filter(|later| **later == Later::BuildFailed).count();
        let asked = self.ledger.count(netslot_abi::SlotState::Rebuilding) + self.ledger.growing();
        self.passing || asked as usize > put_off
    }
}

fn numbers_of(next: Next) -> Option<(u32, u64, u8)> {
    match next {
        Next::Change(Changed { slot, generation, state }) => Some((slot, generation, state.number())),
        Next::Nothing | Next::Missed(_) => None,
    }
}

/// What the service manager has kept of the daemon before this, if it can be read; else that one's clients are gone, as
/// after a kill.
pub fn kept(estate: Option<File>, connections: Vec<OwnedFd>) -> Option<Heritage> {
    let read = |file| -> Result<Estate, String> {
        let bytes = succession::read(file).map_err(|error: io::Error| error.to_string())?;
        Estate::read(&bytes).map_err(|error| error.to_string())
    };
    match read(estate?) {
        Ok(estate) => Some(Heritage { estate, connections, before: None }),
        Err(error) => {
            log::error!("what the daemon before this has left is given up, and its connections end: {error}");
            None
        }
    }
}
