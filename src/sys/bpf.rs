//! What bpf(2) can do and the loader's library does not offer.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::fault;

/// `BPF_MAP_FREEZE`, linux/bpf.h.
const MAP_FREEZE: libc::c_int = 22;

/// `BPF_OBJ_PIN`, linux/bpf.h.
const OBJ_PIN: libc::c_int = 6;

/// Pins a map or a program. The library's own calls want the object for themselves, which other threads are using.
///
/// # Errors
/// EEXIST where there is something of that name, EPERM on another file system than a bpffs.
pub fn pin(object: impl AsFd, path: &Path) -> Result<(), Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut attributes = [0; 16];
    // bpf_attr: u64 pathname, u32 bpf_fd, u32 file_flags.
    attributes[..8].copy_from_slice(&(path.as_ptr() as u64).to_ne_bytes());
    attributes[8..12].copy_from_slice(&object.as_fd().as_raw_fd().to_ne_bytes());
    // SAFETY: the command reads the attributes, whose length it is told, and the path, which lives until the end.
    let result = unsafe { libc::syscall(libc::SYS_bpf, OBJ_PIN, attributes.as_ptr(), attributes.len()) };
    Errno::result(result)?;
    fault::point();
    Ok(())
}

/// Forbids every later write to a map by a system call.
///
/// # Errors
/// EBUSY while a writable mapping of it exists, EPERM for a map that was opened without the right to write.
pub fn freeze(map: impl AsFd) -> Result<(), Errno> {
    let attributes = map.as_fd().as_raw_fd().to_ne_bytes();
    // SAFETY: the command reads one u32, the map's descriptor, and is told how long its argument is.
    let result = unsafe { libc::syscall(libc::SYS_bpf, MAP_FREEZE, attributes.as_ptr(), attributes.len()) };
    Errno::result(result)?;
    fault::point();
    Ok(())
}
