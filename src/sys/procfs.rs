//! A proc file system of one's own, mounted nowhere: for sysctls of many namespaces, each looked at once.
//!
//! In one proc file system, the entries that all namespaces have under one name hang in one hash chain (proc_sys_compare,
//! fs/proc/proc_sysctl.c): each that was ever opened makes the next one dearer, by 60 to 125 ns, measured on 6.18. The
//! entries go with their file system.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;

/// A detached proc file system; it ends with this value.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl Procfs {
    /// Makes one, for the calling process's pid namespace.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        // uapi/linux/mount.h
        const FSOPEN_CLOEXEC: libc::c_uint = 1;
        const FSMOUNT_CLOEXEC: libc::c_uint = 1;
        const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
        const ATTRIBUTES: libc::c_uint = 2 | 4 | 8; // MOUNT_ATTR_NOSUID, _NODEV, _NOEXEC
        // SAFETY: a zero-terminated string that lives through the call.
        let context = unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC) };
        let context = owned(context)?;
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: an open descriptor; this command takes neither key nor value.
        let created =
            unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) };
        Errno::result(created)?;
        // SAFETY: an open descriptor and two numbers.
        let mounted = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, ATTRIBUTES) };
        Ok(Self(owned(mounted)?))
    }

    /// Reads a short file, as the calling thread's namespaces show it, in one call; what of it is past the buffer's end is
    /// left out.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn read<'a>(&self, path: &str, buffer: &'a mut [u8]) -> io::Result<&'a str> {
        let file = openat(self.0.as_fd(), path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let len = nix::unistd::read(file, buffer)?;
        std::str::from_utf8(&buffer[..len]).map_err(io::Error::other)
    }

    /// Writes a sysctl of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of open(2) and write(2).
    pub fn write(&self, path: &str, value: &str) -> io::Result<()> {
        let file = openat(self.0.as_fd(), path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        File::from(file).write_all(value.as_bytes())
    }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call returned a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
