//! The ledger's records in a file of `run_dir`, mapped; knows their place in the file, not their meaning.
//!
//! ```text
//!    0               4096                  4096 + 128 * n
//!    | header page   | lease n | binding n | ...            n = 0 .. slots − 1, 64 bytes each
//! ```
//! Lease and binding of a slot lie side by side, so that a file made for fewer slots grows at its end.
//! The header: magic, layout version, bytes per slot, slots; native byte order, since the file never leaves its host.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate};
use nix::unistd::linkat;

use super::fault;
use super::mmap::Mapping;
use crate::ledger::{Cells, WORDS};
use crate::limits::SLOTS_MAX;
use crate::slot::SlotId;

/// Name of the file in `run_dir`.
pub const FILE: &str = "ledger";

/// First bytes of the file.
const MAGIC: u64 = u64::from_ne_bytes(*b"NSLedger");

const HEADER_WORDS: usize = 4096 / 8;
const SLOT_WORDS: usize = 2 * WORDS;

/// Words of the header.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const LAYOUT: usize = 1;
    pub(super) const SLOT_BYTES: usize = 2;
    pub(super) const SLOTS: usize = 3;
}

/// Why the records cannot be used. Nothing in the file has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A call failed.
    #[error("{call} {path}: {error}", path = path.display())]
    Call {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// Something else's file.
    #[error("{} is no netslot ledger: move it away", .0.display())]
    Foreign(PathBuf),
    /// Written by another version.
    #[error(
        "{path} has layout {found}, this netslot knows {known}: start the version that wrote it, or take the pool down \
         with it first",
        path = path.display(), known = netslot_abi::LAYOUT_VERSION
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// A header that the file's length contradicts.
    #[error("{path} is {bytes} bytes long, too short for the {slots} slots in its header", path = path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Slots by its header.
        slots: u64,
    },
}

/// The mapped file.
#[derive(Debug)]
pub struct RecordsFile {
    mapping: Mapping,
    slots: u32,
}

impl RecordsFile {
    /// Opens `<run_dir>/ledger`; `None` where there is none.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn open(run_dir: &Path) -> Result<Option<Self>, RecordsError> {
        let path = run_dir.join(FILE);
        let flags = (OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).bits();
        let file = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        Self::map(&file, &path).map(Some)
    }

    /// Opens `<run_dir>/ledger`, makes it where there is none, and enlarges one made for fewer slots.
    ///
    /// The caller holds the daemon's lock: two of them enlarging at once would not agree on the length.
    ///
    /// # Errors
    /// [`RecordsError`]: ENOSPC where `run_dir` has no room for 128 bytes per slot.
    pub fn open_or_make(run_dir: &Path, slots: u32) -> Result<Self, RecordsError> {
        match Self::open(run_dir)? {
            Some(records) if records.slots >= slots => Ok(records),
            Some(records) => records.enlarge(&run_dir.join(FILE), slots),
            None => Self::make(run_dir, slots),
        }
    }

    /// Deletes `<run_dir>/ledger`, with every lease in it; none there is no error.
    ///
    /// # Errors
    /// [`RecordsError::Call`].
    pub fn delete(run_dir: &Path) -> Result<(), RecordsError> {
        let path = run_dir.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("unlink", &path)(error)),
            Ok(()) | Err(_) => {
                fault::point();
                Ok(())
            }
        }
    }

    /// Makes the file without a name and gives it its name when it is whole: nobody ever sees half of one.
    fn make(run_dir: &Path, slots: u32) -> Result<Self, RecordsError> {
        let path = run_dir.join(FILE);
        let flags = (OFlag::O_CLOEXEC | OFlag::O_TMPFILE).bits();
        let file = OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(run_dir);
        let file = file.map_err(failed("make", &path))?;
        reserve(&file, slots).map_err(|errno| failed("fallocate", &path)(errno.into()))?;
        let mapping = map(&file, slots).map_err(|errno| failed("mmap", &path)(errno.into()))?;
        let header = mapping.words();
        header[at::LAYOUT].store(netslot_abi::LAYOUT_VERSION.into(), Ordering::Relaxed);
        header[at::SLOT_BYTES].store(SLOT_BYTES, Ordering::Relaxed);
        header[at::SLOTS].store(slots.into(), Ordering::Relaxed);
        header[at::MAGIC].store(MAGIC, Ordering::Release);
        // Through the descriptor itself: no name in /proc is needed.
        linkat(&file, "", AT_FDCWD, &path, AtFlags::AT_EMPTY_PATH)
            .map_err(|errno| failed("link", &path)(errno.into()))?;
        fault::point();
        Ok(Self { mapping, slots })
    }

    fn map(file: &File, path: &Path) -> Result<Self, RecordsError> {
        let bytes = file.metadata().map_err(failed("stat", path))?.len();
        if bytes < FILE_BYTES_MIN {
            return Err(RecordsError::Foreign(path.into()));
        }
        let header = map(file, 0).map_err(|errno| failed("mmap", path)(errno.into()))?;
        let word = |at: usize| header.words()[at].load(Ordering::Acquire);
        if word(at::MAGIC) != MAGIC {
            return Err(RecordsError::Foreign(path.into()));
        }
        let (layout, slots) = (word(at::LAYOUT), word(at::SLOTS));
        if layout != u64::from(netslot_abi::LAYOUT_VERSION) || word(at::SLOT_BYTES) != SLOT_BYTES {
            return Err(RecordsError::Layout { path: path.into(), found: layout });
        }
        let short = || RecordsError::Short { path: path.into(), bytes, slots };
        let slots = u32::try_from(slots).ok().filter(|slots| *slots <= SLOTS_MAX).ok_or_else(short)?;
        if bytes < file_bytes(slots) {
            return Err(short());
        }
        let mapping = map(file, slots).map_err(|errno| failed("mmap", path)(errno.into()))?;
        Ok(Self { mapping, slots })
    }

    /// Room first, then the number in the header: whoever is killed between leaves a longer file that reads as before.
    fn enlarge(self, path: &Path, slots: u32) -> Result<Self, RecordsError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed("open", path))?;
        reserve(&file, slots).map_err(|errno| failed("fallocate", path)(errno.into()))?;
        let mapping = map(&file, slots).map_err(|errno| failed("mmap", path)(errno.into()))?;
        fault::point();
        mapping.words()[at::SLOTS].store(slots.into(), Ordering::Release);
        fault::point();
        Ok(Self { mapping, slots })
    }

    fn record(&self, slot: SlotId, which: usize) -> &[AtomicU64; WORDS] {
        let from = HEADER_WORDS + slot.index() * SLOT_WORDS + which * WORDS;
        self.mapping.words()[from..].first_chunk().expect("the mapping holds every slot's records")
    }
}

impl Cells for RecordsFile {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn ledger(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        self.record(slot, 0)
    }

    fn binding(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        self.record(slot, 1)
    }

    fn put(&self, cell: &AtomicU64, word: u64, order: Ordering) {
        cell.store(word, order);
        fault::point();
    }
}

const SLOT_BYTES: u64 = (SLOT_WORDS * 8) as u64;
const FILE_BYTES_MIN: u64 = (HEADER_WORDS * 8) as u64;

const fn file_bytes(slots: u32) -> u64 {
    FILE_BYTES_MIN + slots as u64 * SLOT_BYTES
}

/// Gives the file all its blocks now: on a full `/run` that fails here, and not by a SIGBUS at some lease.
fn reserve(file: &File, slots: u32) -> Result<(), Errno> {
    let bytes = i64::try_from(file_bytes(slots)).map_err(|_| Errno::EFBIG)?;
    fallocate(file, FallocateFlags::empty(), 0, bytes)
}

fn map(file: &File, slots: u32) -> Result<Mapping, Errno> {
    Mapping::new(file.as_fd(), HEADER_WORDS + slots as usize * SLOT_WORDS)
}

fn failed(call: &'static str, path: &Path) -> impl Fn(io::Error) -> RecordsError {
    move |error| RecordsError::Call { call, path: path.into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Records, Store as _};
    use netslot_abi::{LedgerRecord, SlotState};

    fn slot(n: u32) -> SlotId {
        SlotId::new(n).expect("in range")
    }

    fn stored(generation: u64) -> LedgerRecord {
        LedgerRecord { commit: LedgerRecord::pack(generation, SlotState::Leased), owner_uid: 7, ..Default::default() }
    }

    #[test]
    fn records_outlive_the_mapping_and_an_enlargement() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(RecordsFile::open(dir.path()).expect("no file is no error").is_none());
        let mut store = Records(RecordsFile::open_or_make(dir.path(), 3).expect("made"));
        store.store_ledger(slot(2), &stored(9));
        drop(store);
        let mut store = Records(RecordsFile::open_or_make(dir.path(), 40).expect("enlarged"));
        assert_eq!((store.slots(), store.ledger(slot(2)), store.ledger(slot(39))), (40, stored(9), Default::default()));
        store.store_ledger(slot(39), &stored(1));
        let store = Records(RecordsFile::open_or_make(dir.path(), 3).expect("opened"));
        assert_eq!((store.slots(), store.ledger(slot(39))), (40, stored(1)), "a smaller pool keeps every record");
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["ledger"], "nothing else is left behind");
    }

    #[test]
    fn a_file_that_is_not_ours_or_not_whole_is_refused_untouched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            let error = RecordsFile::open_or_make(dir.path(), 4).expect_err("refused");
            assert_eq!(std::fs::read(&path).expect("read"), bytes, "left as it was");
            error
        };
        assert!(matches!(refused(b""), RecordsError::Foreign(_)));
        assert!(matches!(refused(&[0; 4096]), RecordsError::Foreign(_)));
        std::fs::remove_file(&path).expect("removed");
        drop(RecordsFile::open_or_make(dir.path(), 4).expect("made"));
        let good = std::fs::read(&path).expect("read");
        assert!(matches!(refused(&good[..good.len() - 1]), RecordsError::Short { slots: 4, .. }));
        let mut newer = good.clone();
        newer[at::LAYOUT * 8] = 2;
        assert!(matches!(refused(&newer), RecordsError::Layout { found: 2, .. }));
        let mut endless = good;
        endless[at::SLOTS * 8 + 4] = 1;
        assert!(matches!(refused(&endless), RecordsError::Short { .. }));
    }

    #[test]
    fn a_full_file_system_is_an_error_and_leaves_nothing() {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "needs root, for a small file system of its own");
            return eprintln!("SKIPPED: needs root, for a small file system of its own");
        }
        let dir = tempfile::tempdir().expect("a directory");
        // The mount is the thread's own, and goes with it.
        let outcome = std::thread::scope(|scope| {
            let test = || {
                unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("a mount namespace");
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                    .expect("private");
                mount(Some("t"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k")).expect("64 KiB");
                assert!(RecordsFile::make(dir.path(), 100).is_ok(), "16 KiB fit");
                let enlarged = RecordsFile::open_or_make(dir.path(), 1_000).map(|_| ());
                let again = RecordsFile::open_or_make(dir.path(), 100).map(|records| records.slots);
                std::fs::remove_file(dir.path().join(FILE)).expect("removed");
                let made = RecordsFile::open_or_make(dir.path(), 1_000).map(|_| ());
                (enlarged, again, made, std::fs::read_dir(dir.path()).expect("listed").count())
            };
            scope.spawn(test).join().expect("no panic")
        });
        let full = |result: &Result<(), RecordsError>| matches!(result, Err(RecordsError::Call { call: "fallocate", error, .. }) if error.raw_os_error() == Some(28));
        assert!(full(&outcome.0) && full(&outcome.2) && outcome.3 == 0, "{outcome:?}");
        assert_eq!(outcome.1.ok(), Some(100), "what was there goes on");
    }
}
