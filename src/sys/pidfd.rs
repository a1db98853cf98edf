//! Processes by descriptor: open, tell apart, and ask whether they have exited; a number is never trusted for that.

use std::io;
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

/// When the process that has that number now began, nanoseconds of `CLOCK_BOOTTIME` rounded down to 10 ms; a start of
/// another program in it is no beginning.
///
/// # Errors
/// ENOENT where there is no such process, those of open(2) and read(2), and `InvalidData` for what is no status.
pub fn began_ns(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    began_in(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The 22nd field of proc_pid_stat(5). The second is the program's name, with whatever characters it has.
fn began_in(status: &str) -> Option<u64> {
    /// A hundred a second, whatever the kernel's own ticks (`USER_HZ`, include/asm-generic/param.h).
    const NS_PER_TICK: u64 = 10_000_000;
    let (_, fields) = status.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse::<u64>().ok()?.checked_mul(NS_PER_TICK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn a_process_is_told_by_when_it_began() {
        std::thread::sleep(Duration::from_millis(20));
        let between = clock::boottime_ns();
        std::thread::sleep(Duration::from_millis(20));
        let mut child = Command::new("sleep").arg("1000").spawn().expect("started");
        let (me, other) = (began_ns(std::process::id()), began_ns(child.id()));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(me.expect("told") < between);
        assert!((between..clock::boottime_ns()).contains(&other.expect("told")));
        assert!(began_ns(child.id()).is_err());
        let status = "7 (a) b 1 (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000";
        assert_eq!(began_in(status), Some(47_110_000_000));
        assert_eq!(began_in("7 (a) S 1"), None);
    }

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
