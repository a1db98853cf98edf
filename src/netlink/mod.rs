//! Netlink: messages written and read as bytes (pure), then the socket that carries them; no planning, no policy.
//!
//! The writer is ours and small: every message here is known down to the attribute, a batch is one contiguous buffer
//! that is reused, and parsing with the general crate alone adds 1.2 MB to the binary. The general crate
//! (netlink-packet-route) reads all of it back in the tests.

pub mod batch;
pub mod conntrack;
pub mod diag;
pub mod forward;
pub mod listener;
pub mod nft;
pub mod observed;
pub mod read;
pub mod route;
pub mod socket;
pub mod tc;

pub use batch::Batch;
pub use listener::Listener;
pub use socket::{Protocol, Refusal, Socket, SocketError};
