//! The clock that leases are dated by.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot, sleep included (`CLOCK_BOOTTIME`): the same for every process on the host, and never set
/// back.
///
/// # Panics
/// On a kernel older than 2.6.39, which has no such clock.
#[must_use]
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every kernel since 2.6.39 has this clock");
    let part = |n: i64| u64::try_from(n).expect("a time since boot is not negative");
    part(now.tv_sec()) * 1_000_000_000 + part(now.tv_nsec())
}
