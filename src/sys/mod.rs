//! System calls that the libraries do not wrap, and everything unsafe: namespaces, taps, mounts. Each function is one
//! kernel act with its error; none decides anything.
#![allow(unsafe_code, reason = "the one place for it; each block says why it is sound")]

pub mod bpf;
pub mod clock;
pub mod confine;
pub mod device;
pub mod fault;
pub mod kernel;
pub mod lock;
pub mod mmap;
pub mod netns;
pub mod outbox;
pub mod packet;
pub mod passed;
pub mod pidfd;
pub mod procfs;
pub mod seqpacket;
pub mod socket_filter;
pub mod sysfs;
pub mod tap;
pub mod tap_reset;
pub mod thread;
pub mod vault;
