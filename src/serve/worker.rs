//! The slow hands: threads that do what takes the kernel's networking locks, or long, so that the loop never does.
//! They report; what follows is the loop's to decide.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::inbox::Inbox;
use super::snapshot;
use crate::bpf::MapCells;
use crate::execute::Broken;
use crate::ledger::{HolderId, Lease, Reason, Scrubbed};
use crate::limits::{SCRUB_PATIENCE_MS, SCRUB_PAUSE_MS, SCRUB_TRIES_SPARED};
use crate::netlink::Socket;
use crate::scrub::{Eyes, Held, ScrubError, Site, Verdict};
use crate::slot::SlotId;
use crate::sys::netns;
use crate::sys::tap::TapError;

/// Who waits for a job's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The connection.
    pub holder: HolderId,
    /// Which of the connections that have had that number.
    pub serial: u64,
    /// The request.
    pub id: u32,
    /// Its version.
    pub version: u16,
}

/// Something to do.
#[derive(Debug)]
pub enum Job {
    /// Clean a slot that was given back.
    Scrub {
        /// The slot, and its generation since.
        lease: Lease,
        /// Its namespace.
        netns: OwnedFd,
    },
    /// Open the taps of slots that were just leased.
    OpenTaps {
        /// Who gets them.
        asker: Asker,
        /// The leases.
        leases: Vec<Lease>,
        /// Their namespaces, in the same order.
        netns: Vec<OwnedFd>,
        /// The reply is to carry the namespaces too.
        want_netns: bool,
    },
    /// Write all records into a sealed file.
    List {
        /// Who gets it.
        asker: Asker,
    },
    /// See whether a slot's host end is still there.
    Look(SlotId),
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// A scrub ended.
    Scrubbed {
        /// As in the job.
        lease: Lease,
        /// How.
        outcome: Scrubbed,
        /// Why not well, for people.
        why: Option<String>,
    },
    /// The taps are open, or one of them is not.
    Taps {
        /// As in the job.
        asker: Asker,
        /// As in the job.
        leases: Vec<Lease>,
        /// The namespaces, if they are to be sent, then the taps.
        fds: Result<Vec<OwnedFd>, ScrubError>,
    },
    /// The list is written.
    Listed {
        /// As in the job.
        asker: Asker,
        /// The sealed file and its bytes.
        file: std::io::Result<(File, u64)>,
    },
    /// The slot's host end is gone.
    Gone(SlotId),
    /// A slot has been made, or made again.
    Built {
        /// The slot.
        slot: SlotId,
        /// Its namespace.
        netns: OwnedFd,
    },
    /// A slot could not be made.
    BuildFailed {
        /// The slot.
        slot: SlotId,
        /// Why, for people.
        why: String,
    },
    /// The pass that the daemon began with has made as many slots as must be there before it serves.
    PassServes,
    /// That pass is over.
    PassEnded(Result<(), Box<Broken>>),
}

/// A job, and since when and for when.
#[derive(Debug)]
struct Timed {
    due: Instant,
    /// Keeps jobs that are due at once in the order in which they came.
    number: u64,
    since: Instant,
    /// Who was in a slot before this moment may have left.
    seen: Instant,
    tries: u32,
    job: Job,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Taps that somebody waits for: before everything else, or a lease would wait for all the scrubs that are to be done.
    /// They hold up nothing for long, as there are no more of them than slots that were free.
    taps: VecDeque<Timed>,
    heap: BinaryHeap<Reverse<Timed>>,
    number: u64,
    closed: bool,
}

/// What is to be done: taps to be opened, then what is due soonest.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    /// With room for so many jobs; more make it grow.
    #[must_use]
    pub fn new(room: usize) -> Self {
        let waiting = Waiting { heap: BinaryHeap::with_capacity(room), ..Waiting::default() };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    /// Adds a job.
    pub fn push(&self, job: Job) {
        let now = Instant::now();
        self.push_timed(Timed { due: now, number: 0, since: now, seen: now, tries: 0, job });
    }

    fn push_timed(&self, timed: Timed) {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        waiting.number += 1;
        let number = waiting.number;
        match timed.job {
            Job::OpenTaps { .. } => waiting.taps.push_back(timed),
            Job::Scrub { .. } | Job::List { .. } | Job::Look(_) => {
                waiting.heap.push(Reverse(Timed { number, ..timed }));
            }
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Ends the workers, each after its present job.
    pub fn close(&self) {
        self.waiting.lock().expect("no holder panics").closed = true;
        self.changed.notify_all();
    }

    /// The next job, once it is due; `None` at the end.
    fn pop(&self) -> Option<Timed> {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(taps) = waiting.taps.pop_front() {
                return Some(taps);
            }
            let next = waiting.heap.peek();
            let pause = next.map(|Reverse(next)| next.due.saturating_duration_since(Instant::now()));
            waiting = match pause {
                Some(Duration::ZERO) => return waiting.heap.pop().map(|Reverse(next)| next),
                Some(pause) => self.changed.wait_timeout(waiting, pause).expect("no holder panics").0,
                None => self.changed.wait(waiting).expect("no holder panics"),
            };
        }
    }
}

/// What the workers share.
#[derive(Debug)]
pub struct Shop {
    /// What is to be done.
    pub queue: Queue,
    /// Where it is reported.
    pub inbox: Arc<Inbox<Done>>,
    /// What scrubbing needs.
    pub site: Site,
    /// The records, to be listed.
    pub records: Arc<MapCells>,
    /// Slots that a list shows at least.
    pub slots: u32,
}

impl Shop {
    /// One worker's life. `root` is a socket in the daemon's own namespace, to which the thread goes back after each job:
    /// what stays in a slot counts as its tenant's.
    pub fn work(&self, root: &mut Socket) {
        let home = match root.netns() {
            Ok(home) => home,
            Err(error) => return log::error!("a worker cannot find its own namespace: {error}"),
        };
        let mut eyes = Eyes::default();
        while let Some(mut timed) = self.queue.pop() {
            let pause = self.attempt(root, &mut eyes, &mut timed);
            if let Err(errno) = netns::enter(&home) {
                log::error!("a worker cannot go back to its own namespace: {errno}");
            }
            if let Some(pause) = pause {
                let due = Instant::now() + pause;
                self.queue.push_timed(Timed { due, tries: timed.tries + 1, ..timed });
            }
        }
    }

    /// Does a job, and reports it; or says how long to wait before the next attempt.
    fn attempt(&self, root: &mut Socket, eyes: &mut Eyes, timed: &mut Timed) -> Option<Duration> {
        match &mut timed.job {
            Job::Scrub { lease, netns } => match self.site.scrub(eyes, lease.slot, netns.as_fd(), timed.seen) {
                Ok(Verdict::Unknown) => return Some(Duration::from_millis(SCRUB_PAUSE_MS.0)),
                Ok(Verdict::Held(held)) if timed.since.elapsed() < Duration::from_millis(SCRUB_PATIENCE_MS) => {
                    timed.seen = Instant::now();
                    // A socket counts for a grace period after it was closed.
                    let tries = if held == Held::Sockets { timed.tries + SCRUB_TRIES_SPARED } else { timed.tries };
                    return Some(pause(SCRUB_PAUSE_MS, tries));
                }
                ended => self.report_scrub(*lease, netns, ended),
            },
            Job::OpenTaps { asker, leases, netns, want_netns } => {
                let mut open = |(lease, netns): (&Lease, &OwnedFd)| self.site.open_tap(eyes, lease.slot, netns.as_fd());
                let taps: Result<Vec<OwnedFd>, ScrubError> = leases.iter().zip(&*netns).map(&mut open).collect();
                let namespaces = if *want_netns { std::mem::take(netns) } else { Vec::new() };
                let fds = taps.map(|taps| namespaces.into_iter().chain(taps).collect());
                self.inbox.put(Done::Taps { asker: *asker, leases: std::mem::take(leases), fds });
            }
            Job::List { asker } => {
                let file = snapshot::write(&*self.records, self.slots);
                self.inbox.put(Done::Listed { asker: *asker, file });
            }
            Job::Look(slot) => self.look(root, *slot),
        }
        None
    }

    fn report_scrub(&self, lease: Lease, netns: &OwnedFd, ended: Result<Verdict, ScrubError>) {
        let (outcome, why) = match ended {
            Ok(Verdict::Clean) => (Scrubbed::Clean, None),
            Ok(Verdict::Held(_) | Verdict::Unknown) => {
                let holders = self.site.holders(netns.as_fd());
                let reason = if holders.tap { Reason::TapHeld } else { Reason::InUse };
                (Scrubbed::Quarantine(reason), Some(holders.told))
            }
            Err(error) => (Scrubbed::Quarantine(error.reason()), Some(error.to_string())),
        };
        self.inbox.put(Done::Scrubbed { lease, outcome, why });
    }

    fn look(&self, root: &Socket, slot: SlotId) {
        let index = self.site.blueprint().slot(slot).host_end.index;
        match root.device_name(index) {
            Ok(Some(_)) => {}
            Ok(None) => self.inbox.put(Done::Gone(slot)),
            Err(error) => log::warn!("slot {slot}: its host end cannot be looked at: {error}"),
        }
    }
}

/// Whether opening a tap failed because somebody holds it.
#[must_use]
pub fn is_held(error: &ScrubError) -> bool {
    matches!(error, ScrubError::Tap(_, TapError { errno: Errno::EBUSY, .. }))
}

/// The pause after so many tries, doubling from the first to the longest, milliseconds.
#[must_use]
pub fn pause((first, longest): (u64, u64), tries: u32) -> Duration {
    Duration::from_millis(first.checked_shl(tries).filter(|ms| ms >> tries == first).unwrap_or(longest).min(longest))
}

/// A duration as the ledger's clock counts.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> = (0..5).map(|n| u64::try_from(pause((2, 20), n).as_millis()).expect("short")).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 20]);
        assert_eq!(pause((2, 500), 63), Duration::from_millis(500));
        assert_eq!(pause((2, 500), 200), Duration::from_millis(500));
    }

    #[test]
    fn jobs_come_in_order_and_a_later_one_does_not_hold_up_an_earlier() {
        let queue = Queue::new(4);
        let look = |n| Job::Look(SlotId::new(n).expect("in range"));
        let later = Instant::now() + Duration::from_secs(3_600);
        queue.push_timed(Timed { due: later, number: 0, since: later, seen: later, tries: 0, job: look(9) });
        queue.push(look(1));
        queue.push(look(2));
        let next = || match queue.pop().map(|timed| timed.job) {
            Some(Job::Look(slot)) => Some(slot.number()),
            _ => None,
        };
        assert_eq!((next(), next()), (Some(1), Some(2)));
        queue.push(look(3));
        let asker = Asker { holder: HolderId::at(1), serial: 1, id: 1, version: 1 };
        queue.push(Job::OpenTaps { asker, leases: Vec::new(), netns: Vec::new(), want_netns: false });
        let job = |queue: &Queue| queue.pop().map(|timed| timed.job);
        assert!(matches!(job(&queue), Some(Job::OpenTaps { .. })), "nobody waits for a tap behind other work");
        assert!(matches!(job(&queue), Some(Job::Look(_))));
        queue.close();
        assert!(queue.pop().is_none(), "what is not due is left undone");
    }
}
