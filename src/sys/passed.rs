//! Descriptors that the service manager passed at start (sd_listen_fds(3)); takes them, and does not ask what they are.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The descriptors with their names, close-on-exec. Whoever calls first has them; after that there are none.
/// To be called before anything is opened: a number past what was passed is then open to nobody, and an error.
///
/// # Errors
/// Where `$LISTEN_FDS` or `$LISTEN_FDNAMES` contradict each other or what is open.
pub fn take() -> io::Result<Vec<(OwnedFd, String)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // SAFETY: by the manager's protocol these are open and this process's own (each was just given FD_CLOEXEC, which fails
    // where it is not open), nothing else here knows their numbers, and the flag above lets nobody take them twice.
    let own = |(fd, name)| (unsafe { OwnedFd::from_raw_fd(fd) }, name);
    Ok(sd_notify::listen_fds_with_names()?.map(own).collect())
}
