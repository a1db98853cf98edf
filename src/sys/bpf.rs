//! What bpf(2) can do and the loader's library does not offer.

use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::libc;

/// `BPF_MAP_FREEZE`, linux/bpf.h.
const MAP_FREEZE: libc::c_int = 22;

/// Forbids every later write to a map by a system call.
///
/// # Errors
/// EBUSY while a writable mapping of it exists, EPERM for a map that was opened without the right to write.
pub fn freeze(map: impl AsFd) -> Result<(), Errno> {
    let attributes = map.as_fd().as_raw_fd().to_ne_bytes();
    // SAFETY: the command reads one u32, the map's descriptor, and is told how long its argument is.
    let result = unsafe { libc::syscall(libc::SYS_bpf, MAP_FREEZE, attributes.as_ptr(), attributes.len()) };
    Errno::result(result).map(drop)
}
