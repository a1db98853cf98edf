//! Why the programs or maps cannot be used, in words that say what to do; it finds nothing out.

use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use netslot_abi::LAYOUT_VERSION;

/// Why the programs or maps cannot be used. What was pinned before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A call on a path failed.
    #[error("{call} {path}: {error}", path = path.display())]
    Call {
        /// The call.
        call: &'static str,
        /// Its path.
        path: PathBuf,
        /// The kernel's words.
        error: std::io::Error,
    },
    /// `bpf_dir` is on another kind of file system, where nothing can be pinned.
    #[error("{} is on no bpf file system: 'mount -t bpf bpf /sys/fs/bpf', or set `bpf_dir` below one", .0.display())]
    NoBpffs(PathBuf),
    /// A pinned map could not be opened, or a map not be used.
    #[error("map {path}: {error}", path = path.display())]
    Map {
        /// Its pin.
        path: PathBuf,
        /// What the kernel or the library said.
        error: Box<MapError>,
    },
    /// A pin that is not ours.
    #[error("{path} is another's map ({found}; ours is {expected}): move it away, or set another `bpf_dir`", path = path.display())]
    Foreign {
        /// Its pin.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What ours is.
        expected: String,
    },
    /// Some of the pool's maps are pinned, and this one is not.
    #[error(
        "{} is missing, though others of the pool's maps are there: what it held is lost. Take the pool down with \
         'netslot destroy', and up again", .0.display()
    )]
    Missing(PathBuf),
    /// Written by another version.
    #[error(
        "{path} has layout {found}, this netslot knows {LAYOUT_VERSION}: start the version that wrote it, or take the \
         pool down with it first",
        path = path.display()
    )]
    Layout {
        /// The config map's pin.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The kernel or the loader refused the object.
    #[error("the eBPF object cannot be loaded: {0}")]
    Object(#[source] Box<EbpfError>),
    /// The verifier refused a program, or a pinned one is not to be opened.
    #[error("eBPF program {name}: {error}")]
    Program {
        /// Which.
        name: &'static str,
        /// The verifier's or the kernel's words.
        error: Box<ProgramError>,
    },
    /// A pin could not be made.
    #[error("pin {path}: {error}", path = path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        error: nix::errno::Errno,
    },
    /// The object lacks something that this binary was built with.
    #[error("the eBPF object has no {0}: this netslot was built with another object")]
    Incomplete(&'static str),
    /// A map's memory could not be mapped.
    #[error("mmap of map {0}: {1}")]
    Mmap(&'static str, nix::errno::Errno),
    /// No thread to load them on.
    #[error("starting a thread that loads an eBPF program: {0}")]
    Thread(nix::errno::Errno),
    /// A map could not be frozen.
    #[error("freezing the config map: {0}")]
    Freeze(nix::errno::Errno),
}
