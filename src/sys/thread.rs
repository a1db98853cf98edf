//! A thread of its own for work that leaves its namespaces: such a thread never goes back to other work.

/// Runs the work on a new thread and waits for it.
///
/// # Panics
/// Where the work does.
pub fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
