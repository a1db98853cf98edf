//! Why the daemon does not start, or stops by itself, in words that say what to do; no I/O.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::succession::SuccessionError;
use crate::bpf::DatapathError;
use crate::execute::{Broken, PassError};
use crate::netlink::SocketError;
use crate::sys::lock::LockError;
use crate::sys::outbox::OutboxError;
use crate::sys::vault::VaultError;

/// Why the daemon does not start, or stops by itself. Leases stay in every case.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another daemon, or a pass, has the pool.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is nothing to serve.
    #[error("there is no pool below {}: run 'netslot up' first, or 'netslot serve --up'", .0.display())]
    NoPool(PathBuf),
    /// A pass was killed before the programs hung everywhere, or they are an older version's.
    #[error(
        "the pool's last pass did not end, or was an older version's: run 'netslot up' (it keeps leases), or 'netslot \
         serve --up'"
    )]
    Unfinished,
    /// The pool's host ends are elsewhere.
    #[error(
        "none of the {0} slots' host ends is in this network namespace: the daemon must run where 'netslot up' ran, \
         with the same ifindex_base"
    )]
    Elsewhere(usize),
    /// The lease records cannot be used.
    #[error(transparent)]
    Maps(#[from] DatapathError),
    /// What the slots should be cannot be told.
    #[error(transparent)]
    Blueprint(PassError),
    /// The note of the last reply cannot be used.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The vault cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Root's devices cannot be looked at.
    #[error(transparent)]
    Netlink(#[from] SocketError),
    /// Nobody can tell which slots are leased.
    #[error(transparent)]
    Leases(PassError),
    /// The pool could not be made.
    #[error(transparent)]
    Pass(Box<Broken>),
    /// The socket's path is taken by something that is no socket of ours.
    #[error("{} is not a socket: choose another 'socket', or move it away", .0.display())]
    NotASocket(PathBuf),
    /// There was no succession.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// What the service manager handed over is of no use.
    #[error("what the service manager passed ($LISTEN_FDS, $LISTEN_FDNAMES) cannot be used: {0}")]
    Activation(io::Error),
    /// Too few descriptors for the pool.
    #[error(
        "{needed} file descriptors are needed for {slots} slots, and this process may open {limit}: raise the hard limit \
         (LimitNOFILE= in the unit, or ulimit -Hn)"
    )]
    TooFewFds {
        /// For the slots alone.
        needed: u64,
        /// Slots.
        slots: u32,
        /// RLIMIT_NOFILE's hard limit.
        limit: u64,
    },
    /// A file or directory failed.
    #[error("{call} {path}: {error}", path = path.display())]
    File {
        /// What was tried.
        call: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's words.
        error: io::Error,
    },
    /// A call failed that is no file's.
    #[error("{call}: {error}")]
    Call {
        /// The call.
        call: &'static str,
        /// The kernel's words.
        error: io::Error,
    },
    /// Stopped by a signal before it served.
    #[error("stopped by a signal before the pool was made; run it again to go on")]
    Stopped,
}

impl ServeError {
    pub(super) fn call(call: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Call { call, error }
    }

    pub(super) fn errno(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Call { call, error: errno.into() }
    }

    pub(super) fn file(call: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { call, path, error }
    }
}
