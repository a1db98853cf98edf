//! The scrub itself: wait for those who hold the slot, set its tap back, compare, mend what differs, compare again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;

use super::ScrubError;
use super::holders::{self, Census, Holders, Registry, inode_of};
use super::mend::{Mend, mend, renew_neighbours};
use super::observe::{Eyes, Inside};
use super::pristine::Pristine;
use super::rules::SlotRules;
use crate::config::Config;
use crate::fingerprint::{Class, Difference, Fact, Fingerprint, compare, line, told};
use crate::limits::{BATCH_MESSAGES_MAX, DIFFERENCES_TOLD, MENDS};
use crate::netlink::{Batch, Protocol, Socket, SocketError, conntrack, diag, route};
use crate::plan::{Blueprint, SlotSpec};
use crate::slot::SlotId;
use crate::sys::tap::TapError;
use crate::sys::{kernel, tap, tap_reset};

/// The kernel from which on a device has a list of its own neighbours ("neighbour: Create netdev->neighbour association"):
/// forgetting them took 16 to 24 µs per device on 6.18, whatever other namespaces have. Before that it walks the table of
/// all namespaces for each family and device, under a lock, which is worse than to look at them.
const OWN_NEIGHBOURS: (u32, u32) = (6, 13);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it was made.
    Clean,
    /// Somebody is still in it, or holds something of it: try again later.
    Held(Held),
    /// Who is in it is not known yet: try again soon.
    Unknown,
}

/// What somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The tap.
    Tap,
    /// A socket, of which the tap may be one.
    Sockets,
    /// A process or thread is in the namespace.
    Processes,
}

/// What scrubbing needs of the host.
#[derive(Debug)]
pub struct Site {
    config: Arc<Config>,
    blueprint: Blueprint,
    rules: SlotRules,
    /// `/dev/net`, opened where there is one.
    dev_net: OwnedFd,
    pristine: Mutex<Option<Arc<Pristine>>>,
    registry: Registry,
    /// Whether a slot's neighbours are made anew instead of looked at.
    renews: bool,
}

impl Site {
    /// Opens what the scrubs of a pool need, whose devices have that MTU.
    ///
    /// # Errors
    /// Those of opening `/dev/net`, and of starting a thread.
    pub fn open(config: &Arc<Config>, blueprint: Blueprint) -> io::Result<Self> {
        Ok(Self {
            config: Arc::clone(config),
            blueprint,
            rules: SlotRules::new(Arc::clone(config))?,
            dev_net: File::open("/dev/net")?.into(),
            pristine: Mutex::new(None),
            registry: Registry::default(),
            renews: kernel::release().is_some_and(|release| kernel::version(&release) >= OWN_NEIGHBOURS),
        })
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
    pub fn open_tap(&self, eyes: &mut Eyes, slot: SlotId, namespace: BorrowedFd<'_>) -> Result<OwnedFd, ScrubError> {
        let spec = self.blueprint.slot(slot);
        eyes.arrive(slot, namespace)?;
        let inside = eyes.open(&spec)?;
        find_tap(&inside, &spec)?;
        let tap = tap::open(self.dev_net.as_fd(), &spec.tap.name).map_err(|e| ScrubError::Tap(slot, e))?;
        // Deleted between the look and the open, it would be another one that we hold.
        find_tap(&inside, &spec)?;
        Ok(tap)
    }

    /// Cleans a slot that was given back before `since`, and in which nobody counts who was there before that and is not
    /// now. The calling thread is left in the slot's namespace.
    ///
    /// # Errors
    /// [`ScrubError`]: the slot is to be quarantined.
    pub fn scrub(
        &self,
        eyes: &mut Eyes,
        slot: SlotId,
        namespace: BorrowedFd<'_>,
        since: Instant,
    ) -> Result<Verdict, ScrubError> {
        let spec = self.blueprint.slot(slot);
        let expected = self.pristine(slot)?.of(&spec);
        // A tap that is held is a socket too.
        if eyes.arrive(slot, namespace)? > 0 {
            return Ok(Verdict::Held(Held::Sockets));
        }
        let Some(census) = self.registry.since(since) else { return Ok(Verdict::Unknown) };
        if inode_of(namespace).is_none_or(|inode| census.contains_key(&inode)) {
            return Ok(Verdict::Held(Held::Processes));
        }
        let mut inside = eyes.open(&spec)?;
        find_tap(&inside, &spec)?;
        let (owner, group) = spec.tap_owner;
        let tap = match tap_reset::open_and_reset(self.dev_net.as_fd(), &spec.tap.name, owner, group) {
            Ok(tap) => tap,
            Err(TapError { errno: Errno::EBUSY, .. }) => return Ok(Verdict::Held(Held::Tap)),
            Err(error) => return Err(ScrubError::Tap(slot, error)),
        };
        settle_carriers(&mut inside, &spec)?;
        self.clean(&mut inside, &spec, &expected)?;
        // What was queued for the last holder, or for us, goes with the descriptor.
        drop(tap);
        Ok(Verdict::Clean)
    }

    /// Who holds the slot.
    #[must_use]
    pub fn holders(&self, namespace: BorrowedFd<'_>) -> Holders {
        holders::told(namespace, &holders::take())
    }

    /// In what the slot is not as it was made, and who is in it by that census. The calling thread is left in the slot's
    /// namespace; nothing is changed.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn differences(
        &self,
        eyes: &mut Eyes,
        slot: SlotId,
        namespace: BorrowedFd<'_>,
        census: &Census,
    ) -> Result<Vec<Difference>, ScrubError> {
        let spec = self.blueprint.slot(slot);
        let expected = self.pristine(slot)?.of(&spec);
        let sockets = eyes.arrive(slot, namespace)? as usize;
        let mut differences = self.compare(&mut eyes.open(&spec)?, &expected, None)?;
        let processes = inode_of(namespace).and_then(|inode| census.get(&inode)).map_or(0, Vec::len);
        for (what, count) in [("sockets", sockets), ("processes", processes)].into_iter().filter(|(_, n)| *n > 0) {
            differences.push(Difference::Added(told(Class::Count, what, &count.to_string())));
        }
        Ok(differences)
    }

    /// Compares, mends what differs, and compares again: most slots need one look.
    fn clean(&self, inside: &mut Inside<'_>, spec: &SlotSpec, expected: &Fingerprint) -> Result<(), ScrubError> {
        for _ in 0..MENDS {
            let differences = self.sweep(inside, spec, expected)?;
            if differences.is_empty() {
                return Ok(());
            }
            self.mend(inside, spec, expected, &differences)?;
        }
        match self.sweep(inside, spec, expected)? {
            differences if differences.is_empty() => Ok(()),
            differences => Err(differs(spec, &differences)),
        }
    }

    /// Compares; where that is cheaper, with neighbours made anew before. They are looked at nevertheless where the kernel
    /// refuses a part of that, as for a device that is gone.
    fn sweep(
        &self,
        inside: &mut Inside<'_>,
        spec: &SlotSpec,
        expected: &Fingerprint,
    ) -> Result<Vec<Difference>, ScrubError> {
        let mut renewed = None;
        if self.renews {
            let mut batch = Batch::new();
            let neighbours = renew_neighbours(&mut batch, expected, spec);
            renewed = send(inside, &mut batch)?.then_some(neighbours);
        }
        self.compare(inside, expected, renewed)
    }

    fn compare(
        &self,
        inside: &mut Inside<'_>,
        expected: &Fingerprint,
        neighbours: Option<Vec<Fact>>,
    ) -> Result<Vec<Difference>, ScrubError> {
        let mut differences = compare(expected, &inside.look(neighbours)?);
        differences.extend(self.rules.difference(inside.slot)?);
        Ok(differences)
    }

    fn mend(
        &self,
        inside: &mut Inside<'_>,
        spec: &SlotSpec,
        expected: &Fingerprint,
        differences: &[Difference],
    ) -> Result<(), ScrubError> {
        let slot = spec.slot;
        let mut batch = Batch::new();
        for difference in differences {
            if batch.is_full() || batch.len() + 8 > BATCH_MESSAGES_MAX {
                send(inside, &mut batch)?;
            }
            match mend(&mut batch, difference, expected, spec) {
                Mend::Messages => {}
                Mend::Nothing => return Err(differs(spec, differences)),
                Mend::Rules => self.rules.make_again(slot)?,
                Mend::Counts => self.rules.reset_counts(slot)?,
                Mend::Connections => forget_connections(slot)?,
                Mend::Waiting => {
                    if let Err(error) = end_waiting() {
                        log::debug!("slot {slot}: closed TCP connections cannot be ended: {error}");
                    }
                }
                Mend::Sysctl(name, value) => {
                    let path = format!("sys/{name}");
                    let failed =
                        |error| ScrubError::Proc(slot, format!("write of {value} to /proc/{path}"), Arc::new(error));
                    inside.procfs.write(&path, &value).map_err(failed)?;
                }
            }
        }
        send(inside, &mut batch).map(drop)
    }

    fn pristine(&self, slot: SlotId) -> Result<Arc<Pristine>, ScrubError> {
        let mut known = self.pristine.lock().expect("no holder panics");
        if let Some(pristine) = &*known {
            return Ok(Arc::clone(pristine));
        }
        let pristine = Pristine::learn(&self.config, &self.blueprint)
            .map_err(|error| ScrubError::Pristine(slot, Arc::new(error)))?;
        Ok(Arc::clone(known.insert(Arc::new(pristine))))
    }
}

/// The tap, which must be looked at before it is opened: of a name that is not there, TUNSETIFF makes a new device.
fn find_tap(inside: &Inside<'_>, spec: &SlotSpec) -> Result<(), ScrubError> {
    let found = inside.socket.device_name(spec.tap.index);
    let name = found.map_err(|error| ScrubError::Socket(spec.slot, Arc::new(error)))?;
    name.filter(|name| *name == spec.tap.name).map(drop).ok_or(ScrubError::NoTap(spec.slot))
}

/// What the last holder's close left of carrier events would slow down everybody who opens a tap.
fn settle_carriers(inside: &mut Inside<'_>, spec: &SlotSpec) -> Result<(), ScrubError> {
    let mut batch = Batch::new();
    route::settle_carriers(&mut batch, spec.tap.index, spec.bridge.index);
    let asked = inside.socket.ask(&mut batch, |_| ());
    asked.map(drop).map_err(|error| ScrubError::Socket(inside.slot, Arc::new(error)))
}

/// What is refused here shows in the next look: a neighbour may have aged in the meantime, an address have taken its
/// routes along. Tells whether nothing was.
fn send(inside: &mut Inside<'_>, batch: &mut Batch) -> Result<bool, ScrubError> {
    let refusals = inside.socket.send(batch).map_err(|error| ScrubError::Socket(inside.slot, Arc::new(error)))?;
    for refusal in &refusals {
        log::debug!("slot {}: a request to set something back: {refusal}", inside.slot);
    }
    batch.clear();
    Ok(refusals.is_empty())
}

fn forget_connections(slot: SlotId) -> Result<(), ScrubError> {
    let err = |error| ScrubError::Socket(slot, Arc::new(error));
    let mut batch = Batch::new();
    conntrack::flush(&mut batch);
    let refused = Socket::open_to(Protocol::Netfilter).and_then(|mut socket| socket.send(&mut batch)).map_err(err)?;
    match refused.into_iter().next() {
        Some(refusal) => Err(ScrubError::Refused(slot, "forget its tracked connections".into(), refusal)),
        None => Ok(()),
    }
}

/// Ends the connections that were closed and wait for late packets. What the kernel cannot end shows in the next look.
fn end_waiting() -> Result<(), SocketError> {
    let mut socket = Socket::open_to(Protocol::Diag)?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut batch = Batch::new();
        for waiting in socket.dump(|batch| diag::dump_waiting(batch, family), diag::waiting)? {
            if batch.is_full() {
                socket.send(&mut batch)?;
                batch.clear();
            }
            diag::destroy(&mut batch, &waiting);
        }
        socket.send(&mut batch)?;
    }
    Ok(())
}

fn differs(spec: &SlotSpec, differences: &[Difference]) -> ScrubError {
    let lines: Vec<String> = differences.iter().flat_map(|d| line(d, spec)).map(|line| line.to_string()).collect();
    let mut text = lines[..lines.len().min(DIFFERENCES_TOLD)].join("; ");
    if lines.len() > DIFFERENCES_TOLD {
        text += &format!("; and {} more", lines.len() - DIFFERENCES_TOLD);
    }
    ScrubError::Differs(spec.slot, text)
}
