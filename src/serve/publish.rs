//! Shows leased slots by name: `<netns_dir>/slot-0042` → `/proc/<daemon>/fd/<n>`, for people and for programs that take a
//! path. Knows which names should be there and which are; when to bring the two together is the loop's affair.
//!
//! symlinkat and unlinkat take 4 µs each (measured on tmpfs), a third of a whole lease. So a client that is sent the
//! namespace's fd does not wait for the name: it appears a moment later, and a lease that ends before that moment never
//! had one. A client that asked for no fd has nothing but the name: there it comes before the reply.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use netslot_protocol::Text;
use netslot_protocol::limits::NETNS_NAME_BYTES_MAX;
use nix::errno::Errno;
use nix::fcntl::{readlinkat, renameat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::error::ServeError;
use crate::address;
use crate::limits::{NAME_DELAY_MS, NAME_RETRY_MS};
use crate::slot::SlotId;
use crate::sys::fault;

/// A name on its way to the place of an earlier daemon's.
const NEXT: &str = ".netslot-next";

/// Name of a slot's namespace, as in the vault.
pub type Name = Text<NETNS_NAME_BYTES_MAX>;

/// The slot's name, made in place: the same as [`address::vault_name`].
#[must_use]
pub fn name(slot: SlotId) -> Name {
    let mut name = Name::default();
    write!(name, "slot-{:04}", slot.number()).expect("a text takes what fits");
    name
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    wanted: bool,
    shown: bool,
    queued: bool,
    /// An earlier daemon has left a name that leads to itself.
    stale: bool,
    /// That it could not be shown is in the log.
    told: bool,
}

/// The names that are shown, and those that should be.
#[derive(Debug)]
pub struct Publisher {
    dir: OwnedFd,
    path: PathBuf,
    /// This process: asked for once, as it is a system call.
    pid: u32,
    entries: Box<[Entry]>,
    /// Slots to be shown or taken away, and when: in order of both.
    queue: VecDeque<(u64, SlotId)>,
    /// Those that could not be shown, and when to try again: in order of both too.
    again: VecDeque<(u64, SlotId)>,
    /// How many names lead to an earlier daemon.
    stale: usize,
}

impl Publisher {
    /// Opens the directory. Names that an earlier daemon left are taken away, or led to this one, as soon as the loop has
    /// time: with thousands of leases that is longer than all else between a kill and the first answer.
    ///
    /// # Errors
    /// Those of making and reading the directory.
    pub fn open(path: &Path, slots: u32) -> Result<Self, ServeError> {
        fs::create_dir_all(path).map_err(ServeError::file("create", path))?;
        let dir: OwnedFd = File::open(path).map_err(ServeError::file("open", path))?.into();
        // Of a daemon that was killed in between.
        let _ = unlinkat(&dir, NEXT, UnlinkatFlags::NoRemoveDir);
        let entries = vec![Entry::default(); slots as usize].into_boxed_slice();
        let queue = || VecDeque::with_capacity(slots as usize);
        let (pid, path_kept) = (std::process::id(), path.into());
        let mut publisher = Self { dir, path: path_kept, pid, entries, queue: queue(), again: queue(), stale: 0 };
        for entry in fs::read_dir(path).map_err(ServeError::file("read", path))? {
            let entry = entry.map_err(ServeError::file("read", path))?;
            if let Some(slot) = entry.file_name().to_str().and_then(address::slot_of_vault_name) {
                publisher.found(slot);
            }
        }
        Ok(publisher)
    }

    /// A name that was there before this process.
    fn found(&mut self, slot: SlotId) {
        match self.entries.get_mut(slot.index()) {
            Some(entry) => {
                (entry.stale, entry.queued) = (true, true);
                self.stale += 1;
                self.queue.push_back((0, slot));
            }
            // Of a pool that was larger.
            None => self.clear(slot),
        }
    }

    /// Whether there are names that lead to an earlier daemon.
    #[must_use]
    pub const fn leads_elsewhere(&self) -> bool {
        self.stale > 0
    }

    /// Whether a name of this process leads to the slot.
    #[must_use]
    pub fn is_shown(&self, slot: SlotId) -> bool {
        self.entries[slot.index()].shown
    }

    /// Says whether the slot should be shown; it will be, in a moment.
    pub fn want(&mut self, slot: SlotId, wanted: bool, now_ns: u64) {
        let entry = &mut self.entries[slot.index()];
        entry.wanted = wanted;
        if entry.wanted != entry.shown && !entry.queued {
            entry.queued = true;
            // As much room as slots, each of which is in it once at most.
            self.queue.push_back((now_ns + NAME_DELAY_MS * 1_000_000, slot));
        }
    }

    /// Shows the slot at once.
    ///
    /// # Errors
    /// Those of symlinkat(2): EEXIST where somebody else has the name.
    pub fn show(&mut self, slot: SlotId, netns: RawFd) -> Result<(), Errno> {
        self.entries[slot.index()].wanted = true;
        self.bring_about(slot, Some(netns))
    }

    /// Where the slot is shown.
    #[must_use]
    pub fn path(&self, slot: SlotId) -> PathBuf {
        self.path.join(name(slot).as_str())
    }

    /// Takes the slot's name away at once: what it leads to is about to be closed.
    pub fn hide(&mut self, slot: SlotId) {
        if std::mem::take(&mut self.entries[slot.index()].shown) {
            self.unlink(slot);
        }
    }

    /// When there is something to be shown or taken away.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        [&self.queue, &self.again].into_iter().filter_map(VecDeque::front).map(|(due_ns, _)| *due_ns).min()
    }

    /// Shows or takes away what is due, up to `most` names. What cannot be shown is tried again: nobody waits for it, and what
    /// it lacks may come.
    pub fn catch_up(&mut self, now_ns: u64, most: usize, netns: impl Fn(SlotId) -> Option<RawFd>) {
        for _ in 0..most {
            let is_due =
                |queue: &&mut VecDeque<(u64, SlotId)>| queue.front().is_some_and(|(due_ns, _)| *due_ns <= now_ns);
            let due = [&mut self.queue, &mut self.again].into_iter().find(is_due);
            let Some((_, slot)) = due.and_then(VecDeque::pop_front) else { return };
            self.entries[slot.index()].queued = false;
            if let Err(errno) = self.bring_about(slot, netns(slot)) {
                self.try_again(slot, errno, now_ns);
            }
        }
    }

    fn try_again(&mut self, slot: SlotId, errno: Errno, now_ns: u64) {
        let entry = &mut self.entries[slot.index()];
        entry.queued = true;
        self.again.push_back((now_ns + NAME_RETRY_MS * 1_000_000, slot));
        if !std::mem::replace(&mut entry.told, true) {
            let path = self.path(slot);
            log::warn!(
                "slot {slot} is not shown as {}: symlink: {errno}; it is tried again every {NAME_RETRY_MS} ms",
                path.display()
            );
        }
    }

    /// Takes all names away: the links lead nowhere once this process is gone.
    pub fn close(mut self) {
        for slot in SlotId::first(u32::try_from(self.entries.len()).unwrap_or(u32::MAX)) {
            self.entries[slot.index()].wanted = false;
            // Nothing is made, so nothing fails.
            let _ = self.bring_about(slot, None);
        }
    }

    fn bring_about(&mut self, slot: SlotId, netns: Option<RawFd>) -> Result<(), Errno> {
        let Entry { wanted, shown, .. } = self.entries[slot.index()];
        if std::mem::take(&mut self.entries[slot.index()].stale) {
            self.stale -= 1;
            if !wanted || netns.is_none() {
                self.clear(slot);
            }
        }
        match (wanted, shown, netns) {
            (true, false, Some(netns)) => {
                self.link(slot, netns)?;
                let entry = &mut self.entries[slot.index()];
                (entry.shown, entry.told) = (true, false);
            }
            (false, true, _) => {
                self.unlink(slot);
                self.entries[slot.index()].shown = false;
            }
            (true, true, _) | (false, false, _) | (true, false, None) => {}
        }
        Ok(())
    }

    fn link(&self, slot: SlotId, netns: RawFd) -> Result<(), Errno> {
        let mut target = Text::<40>::default();
        write!(target, "/proc/{}/fd/{netns}", self.pid).expect("a text takes what fits");
        let name = name(slot);
        let make = || symlinkat(target.as_str(), &self.dir, name.as_str());
        let made = match make() {
            // Where there is no room for two, one after the other.
            Err(Errno::EEXIST) if self.is_ours(slot) => self.replace(name, target.as_str()).or_else(|_| {
                self.unlink(slot);
                make()
            }),
            made => made,
        };
        fault::point();
        made
    }

    /// Puts a name in the place of an earlier daemon's: whoever follows it finds the one or the other.
    fn replace(&self, name: Name, target: &str) -> Result<(), Errno> {
        symlinkat(target, &self.dir, NEXT)?;
        fault::point();
        let moved = renameat(&self.dir, NEXT, &self.dir, name.as_str());
        if moved.is_err() {
            let _ = unlinkat(&self.dir, NEXT, UnlinkatFlags::NoRemoveDir);
        }
        moved
    }

    /// Takes an earlier daemon's name away.
    fn clear(&self, slot: SlotId) {
        if self.is_ours(slot) {
            self.unlink(slot);
        }
    }

    fn unlink(&self, slot: SlotId) {
        let name = name(slot);
        match unlinkat(&self.dir, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => fault::point(),
            Err(errno) => log::warn!("unlink {}: {errno}", self.path.join(name.as_str()).display()),
        }
    }

    /// Whether what bears the slot's name is a link as daemons make them, and not somebody's own namespace.
    fn is_ours(&self, slot: SlotId) -> bool {
        readlinkat(&self.dir, name(slot).as_str()).is_ok_and(|target| target.to_str().is_some_and(is_proc_fd))
    }
}

fn is_proc_fd(target: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = target.strip_prefix("/proc/").and_then(|rest| rest.split_once("/fd/"));
    parts.is_some_and(|(pid, fd)| number(pid) && number(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(n: u32) -> SlotId {
        SlotId::new(n).expect("in range")
    }

    #[test]
    fn a_name_is_the_vaults() {
        for s in [0, 7, 42, 9_999, 10_000, crate::limits::SLOTS_MAX - 1].map(slot) {
            assert_eq!(name(s).as_str(), address::vault_name(s));
        }
    }

    #[test]
    fn names_follow_what_is_wanted_and_nobody_elses_are_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |n| dir.path().join(address::vault_name(slot(n)));
        let target = |n| fs::read_link(path(n)).ok().map(|t| t.display().to_string());
        std::os::unix::fs::symlink("/proc/1/fd/3", path(0)).expect("a dead daemon's");
        fs::write(path(1), "").expect("somebody's bind mount");
        std::os::unix::fs::symlink("/somewhere", path(2)).expect("somebody's link");
        std::os::unix::fs::symlink("/proc/1/fd/3", path(6)).expect("a dead daemon's, of a lease that goes on");
        std::os::unix::fs::symlink("/proc/1/fd/3", path(9)).expect("a dead daemon's, of a larger pool");
        let mut publisher = Publisher::open(dir.path(), 8).expect("opened");
        publisher.want(slot(6), true, 0);
        assert!(publisher.due_ns() == Some(0) && publisher.leads_elsewhere());
        publisher.catch_up(0, 8, |s| i32::try_from(s.number() * 10).ok());
        assert!(target(0).is_none() && path(1).exists() && target(2).is_some() && target(9).is_none());
        assert_eq!(target(6), Some(format!("/proc/{}/fd/60", std::process::id())));
        let ours = |fd: i32| Some(format!("/proc/{}/fd/{fd}", std::process::id()));
        assert!(!publisher.leads_elsewhere() && publisher.is_shown(slot(6)) && !publisher.is_shown(slot(0)));
        let soon = NAME_DELAY_MS * 1_000_000;
        publisher.want(slot(3), true, 0);
        publisher.want(slot(4), true, 0);
        publisher.want(slot(4), false, 0);
        publisher.show(slot(5), 50).expect("shown");
        publisher.want(slot(1), true, 0);
        publisher.catch_up(soon - 1, 8, |_| Some(9));
        assert_eq!((target(3), target(5)), (None, ours(50)), "only what cannot wait is there at once");
        assert_eq!(publisher.due_ns(), Some(soon));
        publisher.catch_up(soon, 8, |s| i32::try_from(s.number() * 10).ok());
        let later = soon + NAME_RETRY_MS * 1_000_000;
        assert_eq!((target(3), target(4), publisher.due_ns()), (ours(30), None, Some(later)));
        assert_eq!(fs::metadata(path(1)).expect("still there").len(), 0);
        assert_eq!(publisher.show(slot(1), 10), Err(Errno::EEXIST));
        // What could not be shown is tried again, and what comes meanwhile does not wait for it.
        publisher.want(slot(7), true, soon);
        publisher.catch_up(2 * soon, 8, |_| Some(70));
        assert_eq!((target(7), publisher.due_ns()), (ours(70), Some(later)));
        fs::remove_file(path(1)).expect("somebody takes it away");
        publisher.catch_up(later, 8, |_| Some(10));
        assert_eq!((target(1), publisher.due_ns()), (ours(10), None));
        publisher.hide(slot(1));
        fs::write(path(1), "").expect("and makes it again");
        publisher.want(slot(5), false, soon);
        publisher.catch_up(2 * soon, 8, |_| None);
        assert_eq!(target(5), None);
        publisher.show(slot(5), 50).expect("shown");
        publisher.hide(slot(5));
        assert_eq!(target(5), None, "not a moment later");
        publisher.show(slot(5), 51).expect("shown");
        assert_eq!(target(5), ours(51));
        publisher.close();
        assert!(target(3).is_none() && path(1).exists() && target(2).is_some());
    }
}
