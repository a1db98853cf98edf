//! Processes by descriptor: open, tell apart, and ask whether they have exited; a number is never trusted for that.

use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};

/// `PID_FS_MAGIC`, linux/magic.h, since 6.9. Before, all pidfds are one anonymous inode and tell nothing.
const PIDFS: FsType = FsType(0x5049_4446);

/// The process that has that number now.
///
/// # Errors
/// ESRCH where there is none.
pub fn open(pid: u32) -> Result<OwnedFd, Errno> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: takes plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call returned a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of a descriptor of that process; what it holds is held by the copy too.
///
/// # Errors
/// EPERM without the right to trace the process, EBADF where it has no such descriptor.
pub fn copy_fd(process: &impl AsFd, fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: an open descriptor and plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), fd, 0) };
    let fd = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call returned a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What identifies the process for the life of the boot, whatever becomes of its number; 0 where the kernel has nothing
/// (before 6.9).
#[must_use]
pub fn inode(process: &impl AsFd) -> u64 {
    let in_pidfs = fstatfs(process).is_ok_and(|fs| fs.filesystem_type() == PIDFS);
    if in_pidfs { fstat(process).map_or(0, |stat| stat.st_ino) } else { 0 }
}

/// Whether the process has exited, reaped or not.
#[must_use]
pub fn has_exited(process: &impl AsFd) -> bool {
    let mut poll_fd = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    // A pidfd that cannot be asked is one of a process that is gone: 6.18 makes such for a peer reaped before.
    match poll(&mut poll_fd, PollTimeout::ZERO) {
        Ok(0) => false,
        Ok(_) => true,
        Err(errno) => {
            log::debug!("poll on pidfd {}: {errno}", process.as_fd().as_raw_fd());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_told_from_another_and_its_end_is_seen() {
        let me = open(std::process::id()).expect("I am here");
        let mut child = Command::new("sleep").arg("1000").spawn().expect("started");
        let other = open(child.id()).expect("it is here");
        assert!(!has_exited(&me) && !has_exited(&other));
        if inode(&me) != 0 {
            assert_ne!(inode(&me), inode(&other));
            assert_eq!(inode(&me), inode(&open(std::process::id()).expect("I am here")));
        }
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(has_exited(&other));
        assert_eq!(open(child.id()).map(drop), Err(Errno::ESRCH));
    }
}
