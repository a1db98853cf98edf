//! Network namespaces of the calling thread: make, enter, name by fd. A thread that left its namespace must not go
//! back to general work: it ends.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::{fault, thread};

mod ioctl {
    // linux/sockios.h: SIOCGSKNS, the namespace of a socket as an fd.
    nix::ioctl_none_bad!(namespace_of_socket, 0x894c);
}

/// Puts the calling thread into a new, empty namespace.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOSPC past `user.max_net_namespaces`.
pub fn make() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    fault::point();
    Ok(())
}

/// Puts the calling thread into that namespace.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, EINVAL for an fd that is no network namespace.
pub fn enter(netns: impl AsFd) -> Result<(), Errno> {
    setns(netns, CloneFlags::CLONE_NEWNET)
}

/// The calling thread's namespace.
///
/// # Errors
/// Those of open(2); /proc must be mounted.
pub fn current() -> std::io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// The namespace in which a socket was opened. Needs no /proc, unlike [`current`].
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in it.
pub fn of_socket(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: the request takes no argument, and the socket is open for the length of the borrow.
    let fd = unsafe { ioctl::namespace_of_socket(socket.as_raw_fd()) }?;
    // SAFETY: the call returned a new descriptor that nobody else knows (open_related_ns, fs/nsfs.c).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs `work` on a thread of its own inside that namespace, so that no thread of ours is ever left in a wrong one.
///
/// # Errors
/// Those of [`enter`] and of [`thread::apart`].
///
/// # Panics
/// Where `work` does.
pub fn within<R: Send>(netns: impl AsFd + Send, work: impl FnOnce() -> R + Send) -> Result<R, Errno> {
    thread::apart(|| enter(netns).map(|()| work()))?
}
