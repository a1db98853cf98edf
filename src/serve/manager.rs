//! The service manager: told how things are and that the loop turns, and asked to keep over a restart what would end with
//! this process. Without one, all of this does nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

use super::error::ServeError;
use crate::limits::STATUS_PAUSE_MS;
use crate::sys::{passed, seqpacket};

/// Names under which the manager keeps what this daemon gives it.
mod name {
    pub const LISTENER: &str = "netslot-listener";
    pub const ESTATE: &str = "netslot-estate";
    pub const CONNECTION: &str = "netslot-connection";
}

/// Fds in one notification: the kernel takes 253 (SCM_MAX_FD, include/net/scm.h).
const FDS_AT_ONCE: usize = 250;

/// How long the manager may take to have read everything: it may be busy with a host of other units.
const BARRIER_MS: u16 = 5_000;

/// What the manager passed at start.
#[derive(Debug, Default)]
pub struct Passed {
    /// The listening socket: a `.socket` unit's, or the one that a daemon before this has stored.
    pub listener: Option<OwnedFd>,
    /// The list of what the daemon before this has left.
    pub estate: Option<File>,
    /// Its connections, in any order.
    pub connections: Vec<OwnedFd>,
}

impl Passed {
    /// Takes what was passed. What bears no name that is known is the socket of a `.socket` unit, which can have any.
    ///
    /// # Errors
    /// [`ServeError::Activation`].
    pub fn take() -> Result<Self, ServeError> {
        let mut taken = Self::default();
        let mut stored = None;
        for (fd, called) in passed::take().map_err(ServeError::Activation)? {
            match &*called {
                name::ESTATE => taken.estate = Some(fd.into()),
                name::CONNECTION => taken.connections.push(fd),
                name::LISTENER => stored = Some(fd),
                _ if taken.listener.is_none() => taken.listener = Some(fd),
                other => log::warn!("the service manager passed a second socket, '{other}', which is closed"),
            }
        }
        if taken.listener.is_some() && stored.take().is_some() {
            // There is a .socket unit now: the older one has no path any more.
            forget(name::LISTENER);
        }
        taken.listener =
            taken.listener.or(stored).map(seqpacket::adopt_listener).transpose().map_err(ServeError::Activation)?;
        Ok(taken)
    }
}

/// Tells the service manager, if there is one.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {error}");
    }
}

/// Whether there is a service manager.
#[must_use]
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Whether it keeps descriptors for this unit: systemd says so by `$FDSTORE` from version 254 on, our unit for those before.
#[must_use]
pub fn keeps_fds() -> bool {
    is_there() && std::env::var("FDSTORE").is_ok_and(|most| most.parse::<u32>().is_ok_and(|most| most > 0))
}

/// Has the listening socket kept, for when this process is gone.
pub fn keep_listener(listener: &OwnedFd) {
    if keeps_fds()
        && let Err(error) = keep(name::LISTENER, &[listener.as_fd()])
    {
        log::warn!("the listening socket cannot be kept by the service manager: {error}");
    }
}

/// Has what this daemon leaves kept for the next one; returns when the manager has it.
///
/// # Errors
/// Those of the socket to the manager; `TimedOut` where it does not read.
pub fn keep_estate(estate: BorrowedFd<'_>, connections: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in connections.chunks(FDS_AT_ONCE) {
        keep(name::CONNECTION, some)?;
    }
    // Last: without it the others mean nothing.
    keep(name::ESTATE, &[estate])?;
    barrier()
}

/// Has nothing kept any more of what was left: it is ours now, and a connection that is closed must be closed.
pub fn forget_estate() {
    forget(name::ESTATE);
    forget(name::CONNECTION);
}

fn keep(called: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    // FDPOLL=0: a client that says its last words and goes is to be heard all the same.
    let state = [NotifyState::FdStore, NotifyState::FdName(called), NotifyState::Custom("FDPOLL=0")];
    sd_notify::notify_with_fds(&state, fds)
}

fn forget(called: &str) {
    notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(called)]);
}

/// Waits until the manager has read everything so far: it closes what comes with this message (sd_notify_barrier(3)).
fn barrier() -> io::Result<()> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    match poll(&mut [PollFd::new(ours.as_fd(), PollFlags::empty())], PollTimeout::from(BARRIER_MS))? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the service manager does not read")),
        _ => Ok(()),
    }
}

/// What the manager shows of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Slots by state.
    pub free: u32,
    /// See there.
    pub leased: u32,
    /// See there.
    pub scrubbing: u32,
    /// Quarantined and rebuilding.
    pub quarantined: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Slots made anew since this daemon began.
    pub rebuilt: u64,
}

/// The running daemon's words to the manager: signs of life, and a status line as it changes.
#[derive(Debug)]
pub struct Manager {
    /// There is one; asked once.
    is_there: bool,
    /// Sign of life: every so many nanoseconds, and when next.
    watchdog: Option<(u64, u64)>,
    told: Option<Counts>,
    /// When it may be told again.
    tell_at_ns: u64,
    /// It would be told something else now.
    changed: bool,
    headline: &'static str,
}

impl Manager {
    /// One that is told for the first time at once.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        // Twice as often as it must be.
        let every_ns = |period: std::time::Duration| u64::try_from(period.as_nanos() / 2).unwrap_or(u64::MAX);
        let watchdog = sd_notify::watchdog_enabled().map(|period| (every_ns(period), now_ns));
        Self { is_there: is_there(), watchdog, told: None, tell_at_ns: now_ns, changed: false, headline: "serving" }
    }

    /// What the status begins with from now on.
    pub fn headline(&mut self, headline: &'static str) {
        self.headline = headline;
        self.told = None;
    }

    /// Called in each turn of the loop, and by nothing else: a loop that stands still is not alive.
    pub fn turn(&mut self, now_ns: u64, counts: impl FnOnce() -> Counts) {
        if let Some((every_ns, due_ns)) = self.watchdog.filter(|(_, due_ns)| *due_ns <= now_ns) {
            self.watchdog = Some((every_ns, due_ns.max(now_ns).saturating_add(every_ns)));
            notify(&[NotifyState::Watchdog]);
        }
        if !self.is_there {
            return;
        }
        let counts = counts();
        self.changed = self.told != Some(counts);
        if self.changed && self.tell_at_ns <= now_ns {
            self.told = Some(counts);
            self.changed = false;
            self.tell_at_ns = now_ns + STATUS_PAUSE_MS * 1_000_000;
            notify(&[NotifyState::Status(&line(self.headline, counts))]);
        }
    }

    /// When there is something to be told.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        let status = self.changed.then_some(self.tell_at_ns);
        self.watchdog.map(|(_, due_ns)| due_ns).into_iter().chain(status).min()
    }
}

fn line(headline: &str, counts: Counts) -> String {
    let Counts { free, leased, scrubbing, quarantined, waiting, rebuilt } = counts;
    let mut line = format!("{headline}: {free} free, {leased} leased");
    let others = [(scrubbing, "being cleaned"), (quarantined, "quarantined"), (waiting, "waiting")];
    let others = others.map(|(count, what)| (u64::from(count), what));
    for (count, what) in others.into_iter().chain([(rebuilt, "made anew so far")]) {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_tells_what_there_is() {
        let counts = Counts { free: 3, leased: 1, scrubbing: 0, quarantined: 2, waiting: 0, rebuilt: 0 };
        assert_eq!(line("serving", counts), "serving: 3 free, 1 leased, 2 quarantined");
        let counts = Counts { rebuilt: 7, ..counts };
        assert_eq!(line("serving", counts), "serving: 3 free, 1 leased, 2 quarantined, 7 made anew so far");
    }
}
