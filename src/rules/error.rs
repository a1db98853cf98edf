//! Why rules cannot be compiled, read or tried out, in words that name file and line; no I/O.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::image::ImageError;
use super::replay::ReplayError;
use crate::limits::{RULES_SOURCES_MAX, RULES_TEXT_BYTES_MAX};
use crate::netlink::SocketError;

/// Why there are no rules to make. Nothing but scratch namespaces was touched.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file cannot be read or written.
    #[error("{call} {path}: {error}", path = path.display())]
    File {
        /// What was tried.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A rules file is past its bound.
    #[error("{path}: more than {RULES_TEXT_BYTES_MAX} bytes of rules", path = .0.display())]
    TooLong(PathBuf),
    /// It is neither an image nor text.
    #[error("{path}:{line}: no UTF-8 from here on: neither rules in text nor an image", path = path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// More files for one image than there can be.
    #[error("{0} files, and {RULES_SOURCES_MAX} are the most for one image")]
    TooManySources(usize),
    /// The image cannot be used.
    #[error("{path}: {error}", path = path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: ImageError,
    },
    /// The image cannot be made.
    #[error(transparent)]
    Unwritable(#[from] ImageError),
    /// The image is for the other place.
    #[error(
        "{path}: these rules were compiled for the {found}, not for the {wanted}: indexes of devices differ; compile \
         them with{option} --root",
        path = path.display(),
        option = if *found == "root" { "out" } else { "" }
    )]
    Purpose {
        /// The file.
        path: PathBuf,
        /// What it is for.
        found: &'static str,
        /// What it is wanted for.
        wanted: &'static str,
    },
    /// The program that compiles is not there.
    #[error(
        "{tool} is not installed, and {path} is text: install {package}, or compile the file elsewhere with \
         netslot compile-rules and name the image in the configuration",
        path = path.display()
    )]
    NoTool {
        /// The program.
        tool: &'static str,
        /// The package that has it.
        package: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It cannot be run.
    #[error("run {tool}: {error}")]
    Run {
        /// The program.
        tool: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// It refused the file.
    #[error("{tool} refuses {path}:\n{words}{hint}", path = path.display())]
    Refused {
        /// The program.
        tool: &'static str,
        /// The file.
        path: PathBuf,
        /// Its own words.
        words: String,
        /// What it may mean here.
        hint: &'static str,
    },
    /// Something in the rules cannot be brought into slots.
    #[error("{place}: {words}")]
    Uncapturable {
        /// File and line, as near as it can be told.
        place: String,
        /// What, and why not.
        words: String,
    },
    /// The kernel refused what it had dumped itself, or what an image made elsewhere needs.
    #[error("{file}: tried in a scratch namespace, and this kernel refuses {error}")]
    Untakeable {
        /// The file.
        file: String,
        /// What was refused, and the kernel's words.
        error: ReplayError,
    },
    /// What was replayed is not what was compiled.
    #[error(
        "{file}: replayed into a second namespace, the rules are not the same; the first line that differs:\n- {was}\n\
         + {is}"
    )]
    Differs {
        /// The file.
        file: String,
        /// The line of the original.
        was: String,
        /// The line of the replay.
        is: String,
    },
    /// A netlink socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A scratch namespace could not be made.
    #[error("{call} for a scratch namespace: {errno}: this needs root")]
    Scratch {
        /// The call.
        call: &'static str,
        /// The kernel's word.
        errno: Errno,
    },
}

impl RulesError {
    /// Whether the kernel refused for want of privilege.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let denied = |errno: Errno| matches!(errno, Errno::EPERM | Errno::EACCES);
        match self {
            Self::Scratch { errno, .. } => denied(*errno),
            Self::Socket(error) => denied(error.errno()),
            Self::File { error, .. } => error.kind() == io::ErrorKind::PermissionDenied,
            Self::TooLong(_)
            | Self::NoText { .. }
            | Self::TooManySources(_)
            | Self::Image { .. }
            | Self::Unwritable(_)
            | Self::Purpose { .. }
            | Self::NoTool { .. }
            | Self::Run { .. }
            | Self::Refused { .. }
            | Self::Uncapturable { .. }
            | Self::Untakeable { .. }
            | Self::Differs { .. } => false,
        }
    }
}
