//! A thread of its own for work that leaves its namespaces: such a thread never goes back to other work.

use std::io;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use nix::errno::Errno;

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
