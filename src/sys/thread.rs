//! A thread of its own for work that leaves its namespaces: such a thread never goes back to other work.

use std::io;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use nix::errno::Errno;
use nix::libc;

/// Runs the work on a new thread and waits for it.
///
/// # Errors
/// EAGAIN past RLIMIT_NPROC or the limit of the process's cgroup (`TasksMax=` in a unit), ENOMEM.
///
/// # Panics
/// Where the work does.
pub fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, Errno> {
    let done = std::thread::scope(|scope| Ok(beside(scope, work)?.join()));
    done.map(|done: std::thread::Result<R>| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Gives up what the calling thread has inherited of a priority above others' (a nice value below 0).
pub fn wait_its_turn() {
    // SAFETY: both take plain numbers, and mean the calling thread by 0 (setpriority(2)).
    unsafe {
        if libc::getpriority(libc::PRIO_PROCESS, 0) < 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
    }
}

/// Runs the work on a new thread of that scope.
///
/// # Errors
/// As [`apart`].
pub fn beside<'scope, 'env, R: Send + 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    work: impl FnOnce() -> R + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, R>, Errno> {
    let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
    Builder::new().spawn_scoped(scope, work).map_err(errno)
}
