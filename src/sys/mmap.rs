//! A file mapped into memory and shared with other processes, seen as words that only atomic operations touch.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping of a file's first bytes.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u64>,
    words: usize,
}

// SAFETY: the mapping is owned, nothing in it belongs to a thread, and all access goes through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the file's first `words` 8-byte words, to read and write.
    ///
    /// The file must have its blocks already (`fallocate`) and must never be made shorter: touching a page that is not
    /// there raises SIGBUS. Only files below a directory that nobody but root can write are mapped here.
    ///
    /// # Errors
    /// Those of mmap(2); EINVAL for no words.
    pub fn new(file: impl AsFd, words: usize) -> Result<Self, Errno> {
        let bytes = words.checked_mul(8).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases no memory of this program.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), words })
    }

    /// The mapped words. Others may write them at any time, which atomics allow for.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `words` words are mapped, readable and writable, at a page's start, hence aligned, for as long as
        // `self` lives; this process has no other reference into them than shared ones to atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<AtomicU64>(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the very mapping that `new` made; no reference into it outlives `self`.
        // Its failure would mean that the arguments are wrong, which they are not.
        let _ = unsafe { munmap(self.start.cast(), self.words * 8) };
    }
}
