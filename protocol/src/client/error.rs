//! What can go wrong between a client and its daemon; each text says what to do where the client can tell.

use std::boxed::Box;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::bounded::TooLong;
use crate::codec::BodyError;
use crate::error::{ErrorCode, Refusal};
use crate::frame::FrameError;
use crate::snapshot::SnapshotError;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket cannot be reached.
    #[error("connect to {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// The daemon refused the request and did nothing.
    #[error("{call} refused ({}): {}", refusal.code.name(), refusal.detail)]
    Refused {
        /// The request.
        call: &'static str,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// An argument that no frame can carry.
    #[error("{what} is too long: {error}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// How much too long.
        error: TooLong,
    },
    /// The reply's fds did not all arrive.
    #[error(
        "the kernel cut off fds that came with the reply: this process may open no more files (see `ulimit -n`), or a \
         security module keeps them from it; the leases of that reply have been given back"
    )]
    FdsCut,
    /// The reply came with another number of fds than its request's kind has.
    #[error("the daemon sent {got} fds with a reply that has {want}")]
    FdCount {
        /// By the protocol.
        want: usize,
        /// With the reply.
        got: usize,
    },
    /// The daemon leased another number of slots than it was asked for.
    #[error("the daemon leased {got} slots where {want} were asked for")]
    LeaseCount {
        /// Asked for.
        want: u32,
        /// Leased.
        got: usize,
    },
    /// No answer in time.
    #[error(
        "no answer from the daemon within {0:?}: the connection is closed, which gives back what it may have leased"
    )]
    TimedOut(Duration),
    /// The daemon closed the connection.
    #[error("the daemon closed the connection")]
    Closed,
    /// An earlier error closed the connection.
    #[error("the connection was closed by an earlier error: connect again")]
    Broken,
    /// A socket call failed.
    #[error("{call}: {source}")]
    Socket {
        /// The call.
        call: &'static str,
        /// The kernel's words.
        source: io::Error,
    },
    /// The daemon chose a version that was not offered.
    #[error("the daemon chose protocol version {0}, which was not offered")]
    Version(u16),
    /// What came is no frame.
    #[error("the daemon's answer is no frame: {0}")]
    Frame(#[from] FrameError),
    /// The frame is longer than any.
    #[error("the daemon's answer is longer than any frame")]
    TooLarge,
    /// The frame's body is not what its kind says.
    #[error("the daemon's answer to {call} cannot be read: {error}")]
    Body {
        /// The request.
        call: &'static str,
        /// Why.
        error: BodyError,
    },
    /// An answer to another request.
    #[error("the daemon answered request {got}, not request {want}")]
    Id {
        /// Sent.
        want: u32,
        /// Received.
        got: u32,
    },
    /// An answer of another kind.
    #[error("the daemon answered {call} with kind {got:#06x}")]
    Kind {
        /// The request.
        call: &'static str,
        /// Received.
        got: u16,
    },
    /// The snapshot's bytes are wrong.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot could still change, or is not of the announced length.
    #[error("the snapshot's file is not sealed, or not {0} bytes long")]
    SnapshotFile(u64),
    /// Reading the snapshot failed.
    #[error("read the snapshot: {0}")]
    SnapshotRead(io::Error),
}

impl ClientError {
    /// The daemon's refusal code, if it is one.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        if let Self::Refused { refusal, .. } = self { Some(refusal.code) } else { None }
    }

    /// Whether the connection is out of step with the daemon after it, and was closed.
    #[must_use]
    pub const fn breaks(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.code.closes(),
            Self::Argument { .. }
            | Self::FdsCut
            | Self::FdCount { .. }
            | Self::LeaseCount { .. }
            | Self::Snapshot(_)
            | Self::SnapshotFile(_)
            | Self::SnapshotRead(_) => false,
            Self::Connect { .. }
            | Self::TimedOut(_)
            | Self::Closed
            | Self::Broken
            | Self::Socket { .. }
            | Self::Version(_)
            | Self::Frame(_)
            | Self::TooLarge
            | Self::Body { .. }
            | Self::Id { .. }
            | Self::Kind { .. } => true,
        }
    }
}
