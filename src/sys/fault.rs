//! Kills this process after its n-th change to anything that outlives it, so that tests can see what the next start makes
//! of every half-done thing. Asleep unless `NETSLOT_FAULT=n` is in the environment of the command; decides nothing else.
//!
//! Whatever changes kernel objects, files or records calls [`point`] right after the change: netlink requests, mounts,
//! namespaces, tap ioctls, sysctls, pins, words of the records, replies. In the tests' binary as in the users', since a
//! binary that cannot be killed like this is another one than was tested. Asleep it costs one load of a word that nobody
//! writes. Nobody sets it by accident: the name is in no unit and no script, what is not a number from 1 up is refused,
//! and what is gets a warning.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pause};

/// The variable.
pub const VARIABLE: &str = "NETSLOT_FAULT";

const ASLEEP: u64 = u64::MAX;

/// Changes that are still to be made, the last of them deadly.
static LEFT: AtomicU64 = AtomicU64::new(ASLEEP);

/// A value of `NETSLOT_FAULT` that is no number from 1 up.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{VARIABLE}={0}: it kills netslot after that many changes, for tests: a number from 1 up, or unset it")]
pub struct NoNumber(String);

/// Arms it as the environment says, once, before the command begins; gives the number.
///
/// # Errors
/// [`NoNumber`].
pub fn arm() -> Result<Option<u64>, NoNumber> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let number = parse(&value)?;
    LEFT.store(number, Ordering::Relaxed);
    Ok(Some(number))
}

fn parse(value: &OsStr) -> Result<u64, NoNumber> {
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(|number| (1..ASLEEP).contains(number));
    number.ok_or_else(|| NoNumber(value.to_string_lossy().into_owned()))
}

/// Changes that could still be made without harm; `None` where it is asleep.
#[must_use]
pub fn left() -> Option<u64> {
    Some(LEFT.load(Ordering::Relaxed)).filter(|left| *left != ASLEEP)
}

/// A change has been made.
#[inline]
pub fn point() {
    if LEFT.load(Ordering::Relaxed) != ASLEEP {
        count();
    }
}

#[cold]
fn count() {
    // One step below zero it is asleep: what other threads do while they are being stopped is not counted.
    if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        die();
    }
}

/// As the kernel or an operator would: no handler runs, nothing unwinds, and other threads stop wherever they are.
fn die() -> ! {
    // To itself it is delivered before the call returns.
    let _ = kill(Pid::this(), Signal::SIGKILL);
    loop {
        pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_from_1_up_arms_it() {
        assert_eq!(parse(OsStr::new("17")), Ok(17));
        for text in ["", "0", "-1", "yes", "1.5", "18446744073709551615", "18446744073709551616"] {
            assert_eq!(parse(OsStr::new(text)), Err(NoNumber(text.into())));
        }
    }

    #[test]
    fn asleep_it_does_nothing() {
        (0..1_000).for_each(|_| point());
        assert_eq!(left(), None);
    }
}
