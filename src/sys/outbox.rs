//! The reply that is under way, in memory that outlives the process: which leases it carries, and whether the kernel has
//! taken it. Sends and remembers; what follows from it is the ledger's to decide.
//!
//! No process can send a message and write down that it did in one step; a kill in between leaves a lease of which nobody
//! knows whether its client was told. The kernel can: sendmmsg(2) stores the length of each message that it has sent into
//! the caller's memory, within the same call (`__sys_sendmmsg`, net/socket.c, 3.0 to 6.18), and a call that does not sleep
//! is not interrupted by any signal. Here that memory is a page of a file in `run_dir`.
//!
//! ```text
//!    0        8        64                        120         128     136
//!    | magic  | layout | mmsghdr: what to send … | its length | count | slot, generation | … up to 64 leases
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;

use super::fault;
use super::mmap::Mapping;
use super::seqpacket;
use crate::ledger::Lease;
use crate::limits::LEASE_SLOTS_MAX;
use crate::slot::{Generation, SlotId};

/// Name of the file in `run_dir`.
pub const FILE: &str = "outbox";

const MAGIC: u64 = u64::from_ne_bytes(*b"NSOutbox");
const LAYOUT: u64 = 1;

/// Words of the page.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const LAYOUT: usize = 1;
    pub(super) const MESSAGE: usize = 8;
    pub(super) const SENT: usize = MESSAGE + super::MESSAGE_WORDS - 1;
    pub(super) const COUNT: usize = 16;
    pub(super) const LEASES: usize = 17;
}

/// What sendmsg(2) takes, and the length behind it, in a word of its own with its padding.
const MESSAGE_WORDS: usize = seqpacket::NOTE_WORDS;

const WORDS: usize = at::LEASES + 2 * LEASE_SLOTS_MAX as usize;

const _: () = assert!(at::MESSAGE + MESSAGE_WORDS <= at::COUNT);
const _: () = assert!(offset_of!(libc::mmsghdr, msg_len) / 8 == MESSAGE_WORDS - 1);
const _: () = assert!(offset_of!(libc::mmsghdr, msg_len).is_multiple_of(8) && WORDS * 8 <= 4096);

/// Why the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
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
    /// Something else's file, or another version's.
    #[error("{} is no outbox that this netslot knows: start the version that wrote it, or move it away", .0.display())]
    Foreign(PathBuf),
}

/// The mapped page.
#[derive(Debug)]
pub struct Outbox(Mapping);

impl Outbox {
    /// Opens `<run_dir>/outbox`, makes it where there is none. The caller holds the daemon's lock.
    ///
    /// # Errors
    /// [`OutboxError`]: ENOSPC where `run_dir` has no room for a page.
    pub fn open_or_make(run_dir: &Path) -> Result<Self, OutboxError> {
        let path = run_dir.join(FILE);
        let failed = |call| {
            let path = path.clone();
            move |error: io::Error| OutboxError::Call { call, path, error }
        };
        let flags = (OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).bits();
        let mut options = OpenOptions::new();
        // Only root's: it holds addresses of this process.
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = options.open(&path).map_err(failed("open"))?;
        let mapping = map(&file).map_err(|errno| failed("mmap")(errno.into()))?;
        let [magic, layout] = [at::MAGIC, at::LAYOUT].map(|at| mapping.words()[at].load(Ordering::Acquire));
        match (magic, layout) {
            (MAGIC, LAYOUT) => {}
            // New, or of a start that was killed before it wrote the second of the two.
            (0, 0 | LAYOUT) => {
                mapping.words()[at::LAYOUT].store(LAYOUT, Ordering::Release);
                mapping.words()[at::MAGIC].store(MAGIC, Ordering::Release);
                fault::point();
            }
            _ => return Err(OutboxError::Foreign(path)),
        }
        Ok(Self(mapping))
    }

    /// Deletes `<run_dir>/outbox`; none there is no error.
    ///
    /// # Errors
    /// [`OutboxError::Call`].
    pub fn delete(run_dir: &Path) -> Result<(), OutboxError> {
        let path = run_dir.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OutboxError::Call { call: "unlink", path, error })
            }
            Ok(()) | Err(_) => {
                fault::point();
                Ok(())
            }
        }
    }

    /// The leases of the last reply, if the kernel has taken it.
    #[must_use]
    pub fn sent(&self) -> Vec<Lease> {
        let word = |at: usize| self.0.words()[at].load(Ordering::Acquire);
        if word(at::SENT) == 0 {
            return Vec::new();
        }
        let count = usize::try_from(word(at::COUNT)).unwrap_or(usize::MAX).min(LEASE_SLOTS_MAX as usize);
        let lease = |index: usize| {
            let at = at::LEASES + 2 * index;
            let slot = u32::try_from(word(at)).ok().and_then(SlotId::new)?;
            Some(Lease { slot, generation: Generation(word(at + 1)) })
        };
        (0..count).filter_map(lease).collect()
    }

    /// Forgets the last reply.
    pub fn clear(&self) {
        self.0.words()[at::SENT].store(0, Ordering::Release);
        fault::point();
    }

    /// Sends a reply that carries those leases, at most [`LEASE_SLOTS_MAX`], as [`seqpacket::send`] does. Once it has left,
    /// [`Self::sent`] says so, to this process and to whoever comes after it.
    ///
    /// # Errors
    /// As [`seqpacket::send`]; the reply has not left then.
    pub fn send<'a>(
        &self,
        socket: &impl AsFd,
        bytes: &[u8],
        fds: impl ExactSizeIterator<Item = BorrowedFd<'a>>,
        leases: &[Lease],
    ) -> Result<(), Errno> {
        let words = self.0.words();
        // First: what stood here before was sent, and what comes now was not.
        words[at::SENT].store(0, Ordering::Release);
        words[at::COUNT].store(leases.len() as u64, Ordering::Release);
        for (pair, lease) in words[at::LEASES..].chunks_exact(2).zip(leases) {
            pair[0].store(lease.slot.number().into(), Ordering::Release);
            pair[1].store(lease.generation.0, Ordering::Release);
        }
        fault::point();
        let message = words[at::MESSAGE..].first_chunk().expect("the page is longer");
        seqpacket::send_noted(socket, bytes, fds, message)
    }
}

fn map(file: &File) -> Result<Mapping, Errno> {
    // Its blocks now: on a full `/run` that fails here, and not by a SIGBUS at some lease.
    let bytes = i64::try_from(WORDS * 8).map_err(|_| Errno::EFBIG)?;
    nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, bytes)?;
    Mapping::new(file, WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

    fn leases(count: u32, generation: u64) -> Vec<Lease> {
        SlotId::first(count).map(|slot| Lease { slot, generation: Generation(generation) }).collect()
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).expect("a pair")
    }

    #[test]
    fn the_kernel_notes_what_it_has_sent_and_the_next_opener_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, theirs) = pair();
        let outbox = Outbox::open_or_make(dir.path()).expect("made");
        assert_eq!(outbox.sent(), []);
        let file = File::open("/dev/null").expect("there");
        outbox.send(&ours, b"hello", [file.as_fd()].into_iter(), &leases(LEASE_SLOTS_MAX, 7)).expect("sent");
        let mut room = [0; 16];
        assert_eq!(recv(theirs.as_raw_fd(), &mut room, MsgFlags::empty()), Ok(5));
        assert_eq!(&room[..5], b"hello");
        drop(outbox);
        let outbox = Outbox::open_or_make(dir.path()).expect("opened");
        assert_eq!(outbox.sent(), leases(LEASE_SLOTS_MAX, 7));
        // One that does not leave takes the place of the one that did.
        drop(theirs);
        assert_eq!(outbox.send(&ours, b"again", std::iter::empty(), &leases(2, 9)), Err(Errno::EPIPE));
        assert_eq!(outbox.sent(), []);
    }

    #[test]
    fn another_versions_file_is_refused_untouched_and_a_half_made_one_is_finished() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        let newer: Vec<u8> = [MAGIC, 2].iter().flat_map(|word| word.to_ne_bytes()).chain([0; 4080]).collect();
        std::fs::write(&path, &newer).expect("written");
        assert!(matches!(Outbox::open_or_make(dir.path()), Err(OutboxError::Foreign(_))));
        assert_eq!(std::fs::read(&path).expect("read"), newer);
        std::fs::write(&path, [0, LAYOUT].map(u64::to_ne_bytes).concat()).expect("written");
        assert_eq!(Outbox::open_or_make(dir.path()).expect("finished").sent(), []);
        Outbox::delete(dir.path()).expect("deleted");
        Outbox::delete(dir.path()).expect("none is no error");
        assert!(!path.exists());
    }
}
