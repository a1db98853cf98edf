//! Cleans a slot that was given back, and proves it: nobody is in it any more, its tap is as it was made, and all that the
//! kernel shows of it is what it shows of a slot that nobody ever leased. Works in the kernel, on a thread of its own;
//! who is to be scrubbed, and what follows, is the caller's.
//!
//! The slot's packets stopped before: its lease ended with the commit that raised its generation.

mod holders;
mod mend;
mod observe;
mod pristine;
mod rules;
mod site;

pub use holders::{Census, take as census};
pub use observe::Eyes;
pub use pristine::{Pristine, PristineError};
pub use site::{Held, Site, Verdict};

use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use crate::ledger::Reason;
use crate::netlink::{Refusal, SocketError};
use crate::slot::SlotId;
use crate::sys::tap::TapError;

/// Why a slot is not clean, and will not be by another attempt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScrubError {
    /// Its namespace cannot be entered.
    #[error("setns to the namespace of slot {0}: {1}")]
    Enter(SlotId, Errno),
    /// Its devices cannot be asked.
    #[error("slot {0}: {1}")]
    Socket(SlotId, Arc<SocketError>),
    /// A file of /proc cannot be read or written.
    #[error("slot {0}: {1}: {2}")]
    Proc(SlotId, String, Arc<io::Error>),
    /// Nothing can be learned of its programs.
    #[error("slot {0}: bpf(BPF_PROG_QUERY): {1}")]
    Programs(SlotId, Errno),
    /// The tap was not to be had, or not to be set back.
    #[error("slot {0}: {1}")]
    Tap(SlotId, TapError),
    /// The kernel refused to forget or to restore something.
    #[error("slot {0}: {1}: {2}")]
    Refused(SlotId, String, Refusal),
    /// The tap is not there any more.
    #[error("slot {0}: its tap is gone")]
    NoTap(SlotId),
    /// Something that this scrub cannot set back.
    #[error("slot {0}: {1}")]
    Differs(SlotId, String),
    /// The rules could not be had or made.
    #[error("slot {0}: its rules: {1}")]
    Rules(SlotId, String),
    /// Nothing is known of what it should be.
    #[error("slot {0}: {1}")]
    Pristine(SlotId, Arc<PristineError>),
}

impl ScrubError {
    /// Whether it takes more rights than this process has.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let errno = match self {
            Self::Enter(_, errno) | Self::Programs(_, errno) => *errno,
            Self::Socket(_, error) => error.errno(),
            Self::Proc(_, _, error) => error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
            Self::Tap(_, error) => error.errno,
            Self::Pristine(_, error) => return error.is_permission(),
            Self::Refused(_, _, refusal) => refusal.errno,
            Self::NoTap(_) | Self::Differs(..) | Self::Rules(..) => return false,
        };
        matches!(errno, Errno::EPERM | Errno::EACCES)
    }

    /// What the ledger keeps of it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoTap(_) | Self::Enter(..) => Reason::Lost,
            Self::Differs(..) => Reason::Differs,
            Self::Socket(..)
            | Self::Proc(..)
            | Self::Programs(..)
            | Self::Tap(..)
            | Self::Refused(..)
            | Self::Rules(..)
            | Self::Pristine(..) => Reason::ScrubFailed,
        }
    }
}
