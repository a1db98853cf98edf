//! Cleans a slot that was given back, so that the next tenant finds nothing of the last one: its tap let go by everybody
//! and set back, what was learned about neighbours forgotten. Works in the kernel, on a thread of its own; who is to be
//! scrubbed, and what follows, is the caller's.
//!
//! The slot's packets stopped before: its lease ended with the commit that raised its generation.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::ledger::Reason;
use crate::netlink::observed::{Link, Neighbour};
use crate::netlink::{Batch, Refusal, Socket, SocketError, route};
use crate::plan::{Blueprint, SlotSpec};
use crate::slot::{IfIndex, Mac, SlotId};
use crate::sys::tap::TapError;
use crate::sys::{netns, tap, tap_reset};

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it was made, as far as this scrub looks.
    Clean,
    /// Somebody still holds the tap open: try again later. Nothing has been changed.
    Held,
}

/// Why a slot is not clean, and will not be by another attempt.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// Its namespace cannot be entered.
    #[error("setns to the namespace of slot {0}: {1}")]
    Enter(SlotId, Errno),
    /// Its devices cannot be asked.
    #[error("slot {0}: {1}")]
    Socket(SlotId, SocketError),
    /// The tap was not to be had, or not to be set back.
    #[error("slot {0}: {1}")]
    Tap(SlotId, TapError),
    /// The kernel refused to forget or to restore something.
    #[error("slot {0}: {1}: {2}")]
    Refused(SlotId, &'static str, Refusal),
    /// The tap is not there any more.
    #[error("slot {0}: its tap is gone")]
    NoTap(SlotId),
    /// Something that this scrub cannot set back.
    #[error("slot {0}: {1}")]
    Differs(SlotId, String),
}

impl ScrubError {
    /// What the ledger keeps of it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoTap(_) | Self::Enter(..) => Reason::Lost,
            Self::Socket(..) | Self::Tap(..) | Self::Refused(..) | Self::Differs(..) => Reason::ScrubFailed,
        }
    }
}

/// What scrubbing needs of the host.
#[derive(Debug)]
pub struct Site {
    blueprint: Blueprint,
    /// `/dev/net`, opened where there is one.
    dev_net: OwnedFd,
}

impl Site {
    /// Opens what the scrubs of a pool need.
    ///
    /// # Errors
    /// Those of opening `/dev/net`.
    pub fn open(blueprint: Blueprint) -> io::Result<Self> {
        Ok(Self { blueprint, dev_net: File::open("/dev/net")?.into() })
    }

    /// What the slots should be.
    #[must_use]
    pub const fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// Opens the slot's tap as a VMM does, in the calling thread, which is left in the slot's namespace.
    ///
    /// # Errors
    /// [`ScrubError`]; [`ScrubError::Tap`] with EBUSY while somebody holds it.
    pub fn open_tap(&self, slot: SlotId, namespace: BorrowedFd<'_>) -> Result<OwnedFd, ScrubError> {
        let spec = self.blueprint.slot(slot);
        let mut inside = Inside::enter(&spec, namespace)?;
        inside.tap()?;
        let tap = tap::open(self.dev_net.as_fd(), &spec.tap.name).map_err(|e| ScrubError::Tap(slot, e))?;
        // Deleted between the look and the open, it would be another one that we hold.
        inside.tap()?;
        Ok(tap)
    }

    /// Cleans the slot as far as its holder has let go of it. The calling thread is left in the slot's namespace.
    ///
    /// # Errors
    /// [`ScrubError`]: the slot is to be quarantined.
    pub fn scrub(&self, slot: SlotId, namespace: BorrowedFd<'_>) -> Result<Verdict, ScrubError> {
        let spec = self.blueprint.slot(slot);
        let mut inside = Inside::enter(&spec, namespace)?;
        let before = inside.tap()?;
        let (owner, group) = spec.tap_owner;
        let held = match tap_reset::open_and_reset(self.dev_net.as_fd(), &spec.tap.name, owner, group) {
            Ok(tap) => tap,
            Err(TapError { errno: Errno::EBUSY, .. }) => return Ok(Verdict::Held),
            Err(error) => return Err(ScrubError::Tap(slot, error)),
        };
        inside.forget(before.mac)?;
        // What was queued for the last holder, or for us, goes with the descriptor.
        drop(held);
        inside.check()?;
        Ok(Verdict::Clean)
    }
}

/// The inside of one slot.
struct Inside<'a> {
    spec: &'a SlotSpec,
    socket: Socket,
}

impl<'a> Inside<'a> {
    fn enter(spec: &'a SlotSpec, namespace: BorrowedFd<'_>) -> Result<Self, ScrubError> {
        netns::enter(namespace).map_err(|errno| ScrubError::Enter(spec.slot, errno))?;
        let socket = Socket::open().map_err(|error| ScrubError::Socket(spec.slot, error))?;
        Ok(Self { spec, socket })
    }

    /// The tap, which must be looked at before it is opened: of a name that is not there, TUNSETIFF makes a new device.
    fn tap(&mut self) -> Result<Link, ScrubError> {
        let spec = self.spec;
        let links = self.socket.dump(route::dump_links, Link::read).map_err(|e| ScrubError::Socket(spec.slot, e))?;
        let is_it = |link: &Link| link.index == spec.tap.index.0 && link.name == spec.tap.name.as_str();
        links.into_iter().find(is_it).filter(|link| link.tap.is_some()).ok_or(ScrubError::NoTap(spec.slot))
    }

    /// Forgets what was learned, and restores what we had taught.
    fn forget(&mut self, tap_mac: Option<Mac>) -> Result<(), ScrubError> {
        let spec = self.spec;
        let err = |error| ScrubError::Socket(spec.slot, error);
        let known = self.socket.dump(route::dump_neighbours, Neighbour::read).map_err(err)?;
        let (strange, missing) = difference(&known, &taught(spec));
        let mut batch = Batch::new();
        route::flush_fdb(&mut batch, spec.bridge.index);
        if tap_mac != Some(spec.tap.mac) {
            route::set_mac(&mut batch, spec.tap.index, spec.tap.mac);
        }
        for neighbour in &missing {
            route::add_neighbour(
                &mut batch,
                IfIndex(neighbour.index),
                neighbour.addr,
                neighbour.mac.unwrap_or(Mac([0; 6])),
            );
        }
        self.send(&mut batch, "restore bridge, tap and neighbours", |_| false)?;
        for some in strange.chunks(crate::limits::BATCH_MESSAGES_MAX) {
            batch.clear();
            for neighbour in some {
                route::delete_neighbour(&mut batch, IfIndex(neighbour.index), neighbour.addr);
            }
            // One that has aged in the meantime is as good as deleted.
            self.send(&mut batch, "delete a neighbour", |errno| errno == Errno::ENOENT)?;
        }
        Ok(())
    }

    fn send(&mut self, batch: &mut Batch, what: &'static str, fine: impl Fn(Errno) -> bool) -> Result<(), ScrubError> {
        let slot = self.spec.slot;
        let refusals = self.socket.send(batch).map_err(|error| ScrubError::Socket(slot, error))?;
        match refusals.into_iter().find(|refusal| !fine(refusal.errno)) {
            Some(refusal) => Err(ScrubError::Refused(slot, what, refusal)),
            None => Ok(()),
        }
    }

    /// Whether the tap is what it was made as. An owner or a group that somebody set where the pool has none cannot be
    /// taken away by any ioctl (`make_kuid` refuses −1): such a slot is made anew.
    fn check(&mut self) -> Result<(), ScrubError> {
        let link = self.tap()?;
        let spec = self.spec;
        let differs = |what: String| Err(ScrubError::Differs(spec.slot, what));
        let set = link.tap.unwrap_or_default();
        if (set.owner, set.group) != spec.tap_owner {
            return differs(format!("{} belongs to user {:?}, group {:?}", link.name, set.owner, set.group));
        }
        if !set.ethernet || !set.persist || !set.vnet_hdr || set.multi_queue {
            return differs(format!("{} has other flags than it was made with", link.name));
        }
        if link.mac != Some(spec.tap.mac) || link.mtu != spec.tap.mtu {
            return differs(format!("{} has another MAC or MTU than it was made with", link.name));
        }
        if link.master != spec.bridge.index.0 || !link.up {
            return differs(format!("{} is down, or not on the bridge", link.name));
        }
        Ok(())
    }
}

/// The permanent neighbours that a slot is made with.
fn taught(spec: &SlotSpec) -> Vec<Neighbour> {
    let v6 = spec.v6.map(|v6| v6.any());
    let of = |addresses: crate::plan::blueprint::Addresses<std::net::IpAddr>| {
        let known = |index: IfIndex, addr, mac| Neighbour { index: index.0, addr, mac: Some(mac), permanent: true };
        [
            known(spec.up.index, addresses.next_hop, spec.host_end.mac),
            known(spec.bridge.index, addresses.guest, spec.guest_mac),
        ]
    };
    [spec.v4.any()].into_iter().chain(v6).flat_map(of).collect()
}

/// What is known and was not taught, and what was taught and is not known so.
fn difference(known: &[Neighbour], taught: &[Neighbour]) -> (Vec<Neighbour>, Vec<Neighbour>) {
    let same_place = |a: &Neighbour, b: &Neighbour| a.index == b.index && a.addr == b.addr;
    let strange = known.iter().filter(|k| !taught.iter().any(|t| same_place(k, t))).copied().collect();
    let missing = taught.iter().filter(|t| !known.contains(t)).copied().collect();
    (strange, missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn only_what_was_not_taught_is_forgotten_and_what_was_changed_is_taught_again() {
        let slot = SlotId::new(3).expect("in range");
        let taught = taught(&Blueprint::new(&Config::default(), 1_430).slot(slot));
        assert_eq!(taught.len(), 2, "next hop and guest, IPv4 alone");
        assert_eq!(difference(&taught, &taught), (vec![], vec![]));
        let moved = Neighbour { mac: Some(Mac([2, 0, 0, 0, 0, 9])), ..taught[1] };
        let aged = Neighbour { permanent: false, ..taught[0] };
        let stranger = Neighbour { addr: [172, 16, 0, 9].into(), permanent: false, ..taught[1] };
        let (strange, missing) = difference(&[aged, moved, stranger], &taught);
        assert_eq!((strange, missing), (vec![stranger], taught));
    }
}
