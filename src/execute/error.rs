//! Why a pass stopped, in words that name the call, the slot and the part, and what to do; no I/O.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::leases::Hidden;
use super::parallel::Halt;
use crate::bpf::DatapathError;
use crate::bpf::attach::AttachError;
use crate::limits::CARRIER_WAIT_S;
use crate::netlink::{Refusal, SocketError};
use crate::plan::Part;
use crate::plan::inspect::Foreign;
use crate::rules::{ReplayError, RulesError};
use crate::slot::SlotId;
use crate::sys::lock::LockError;
use crate::sys::tap::TapError;
use crate::sys::vault::VaultError;
use crate::underlay::UnderlayError;

/// Why a pass stopped. What it had made stays, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The kernel refused one message.
    #[error("slot {slot}: {part}: {refusal}{hint}", part = part.name(), hint = hint(refusal.errno))]
    Refused {
        /// The slot.
        slot: SlotId,
        /// What was to be made.
        part: Part,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The kernel refused a message that is no slot's.
    #[error("{what}: {refusal}{hint}", hint = hint(refusal.errno))]
    RefusedAll {
        /// What was to be done.
        what: &'static str,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The tap could not be made.
    #[error("slot {slot}: {error}{hint}", hint = tap_hint(error))]
    Tap {
        /// The slot.
        slot: SlotId,
        /// The call that failed.
        error: TapError,
    },
    /// A system call on a slot's behalf failed.
    #[error("slot {slot}: {call}: {errno}{hint}", hint = hint(*errno))]
    Slot {
        /// The slot.
        slot: SlotId,
        /// The call.
        call: &'static str,
        /// The kernel's word.
        errno: Errno,
    },
    /// A system call failed.
    #[error("{call}: {errno}{hint}", hint = hint(*errno))]
    Call {
        /// The call.
        call: &'static str,
        /// The kernel's word.
        errno: Errno,
    },
    /// A file could not be read or written.
    #[error("{call} {path}: {error}", path = path.display())]
    File {
        /// What was tried.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// An rtnetlink socket failed.
    #[error("{0}{hint}", hint = hint(.0.errno()))]
    Socket(#[from] SocketError),
    /// The vault failed.
    #[error("{0}{hint}", hint = hint(.0.errno()))]
    Vault(#[from] VaultError),
    /// A device that is not ours is in the way.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// Another pass is at work, or the daemon serves the pool.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// SIGINT or SIGTERM.
    #[error("stopped by a signal")]
    Stopped,
    /// A slot's pair is up and does not run.
    #[error(
        "slot {slot} (and {more} more) got no carrier within {CARRIER_WAIT_S} s: see `ip link`, and what holds the \
         kernel's network lock; then run netslot up again"
    )]
    NoCarrier {
        /// The first.
        slot: SlotId,
        /// How many besides.
        more: usize,
    },
    /// The rules cannot be had.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A slot's rules could not be made.
    #[error("slot {slot}: rules: {error}")]
    SlotRules {
        /// The slot.
        slot: SlotId,
        /// What was refused.
        error: ReplayError,
    },
    /// The host's own rules could not be made; those that it had stand.
    #[error("the host's rules: {0}")]
    RootRules(ReplayError),
    /// The packet programs cannot be had.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// They cannot be hung on devices.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The pool's leases are nowhere to be read.
    #[error(transparent)]
    Hidden(#[from] Hidden),
    /// No MTU could be told.
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
}

impl PassError {
    /// Whether the kernel refused for want of privilege.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let denied = |errno: Errno| matches!(errno, Errno::EPERM | Errno::EACCES);
        match self {
            Self::Refused { refusal, .. } | Self::RefusedAll { refusal, .. } => denied(refusal.errno),
            Self::Tap { error, .. } => denied(error.errno),
            Self::Slot { errno, .. } | Self::Call { errno, .. } => denied(*errno),
            Self::File { error, .. } | Self::Datapath(DatapathError::Call { error, .. }) => {
                error.kind() == io::ErrorKind::PermissionDenied
            }
            Self::Attach(AttachError::Refused { refusal, .. }) => denied(refusal.errno),
            Self::Rules(error) => error.is_permission(),
            Self::SlotRules { error, .. } | Self::RootRules(error) => match error {
                ReplayError::Refused { refusal, .. } => denied(refusal.errno),
                ReplayError::Socket(error) => denied(error.errno()),
                ReplayError::TooLarge(_) => false,
            },
            Self::Vault(error) => denied(error.errno()),
            Self::Socket(error) => denied(error.errno()),
            Self::Lock(LockError::File { error, .. }) => error.kind() == io::ErrorKind::PermissionDenied,
            Self::Foreign(_)
            | Self::Lock(LockError::Held { .. })
            | Self::Stopped
            | Self::NoCarrier { .. }
            | Self::Hidden(_)
            | Self::Datapath(_)
            | Self::Attach(_)
            | Self::Underlay(_) => false,
        }
    }
}

impl PassError {
    /// Whether the host lacks what a pool is made of.
    #[must_use]
    pub fn is_lacking(&self) -> bool {
        if let Self::Refused { refusal, .. } | Self::RefusedAll { refusal, .. } = self {
            return refusal.errno == Errno::EOPNOTSUPP;
        }
        matches!(self, Self::Tap { error, .. } if error.is_lacking())
    }
}

impl From<Halt<PassError>> for PassError {
    fn from(halt: Halt<Self>) -> Self {
        match halt {
            Halt::Failed(error) => error,
            Halt::NoThread(errno) => Self::Call { call: "start a thread", errno },
            Halt::Stopped => Self::Stopped,
        }
    }
}

fn tap_hint(error: &TapError) -> &'static str {
    if error.is_lacking() { ": this host has no taps; netslot check tells what mends it" } else { hint(error.errno) }
}

/// What to do about an error number that has one usual cause here.
fn hint(errno: Errno) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "most numbers have no single cause to name")]
    match errno {
        Errno::EPERM | Errno::EACCES => ": run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        Errno::ENOSPC => {
            ": a limit of this host is reached; see user.max_net_namespaces and fs.mount-max, or run netslot check"
        }
        Errno::EAGAIN => ": too many threads; raise RLIMIT_NPROC (ulimit -u), or TasksMax= in the unit",
        Errno::EMFILE => ": too few file descriptors; raise RLIMIT_NOFILE (ulimit -n)",
        Errno::ENOMEM | Errno::ENOBUFS => ": out of memory; netslot check tells what so many slots need",
        Errno::EOPNOTSUPP => ": this kernel lacks it; netslot check tells what is missing",
        Errno::EEXIST | Errno::EBUSY => {
            ": the name or index is taken; run netslot up again, which plans from what is there"
        }
        _ => "",
    }
}
