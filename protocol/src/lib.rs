//! netslot's wire protocol: messages, their bytes and their limits; knows no pool, no kernel object and no policy.
//!
//! `PROTOCOL.md` beside this crate describes the same bytes for other languages. The data flow is one way:
//! datagram → [`frame::split`] → [`request::Request`] on the daemon's side, message → [`frame`] → datagram on both.
//! Everything but the [`client`] is `no_std`, allocates nothing and keeps its text and lists in place.
#![no_std]

#[cfg(feature = "client")]
extern crate std;

pub mod bounded;
mod call;
#[cfg(feature = "client")]
pub mod client;
mod codec;
pub mod error;
pub mod event;
pub mod frame;
pub mod kind;
pub mod limits;
pub mod reply;
pub mod request;
pub mod snapshot;
pub mod types;

pub use bounded::{List, Text, TooLong};
pub use call::Call;
pub use codec::{Body, BodyError, decode, encode};
pub use error::ErrorCode;
pub use kind::Kind;
pub use request::Request;
pub use types::{Binding, Grant, Guest, Ip, LeaseId, Policy, State};

/// Oldest protocol version that this crate speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest protocol version that this crate speaks.
pub const VERSION_MAX: u16 = 1;

/// Where the daemon listens unless its configuration says otherwise.
pub const SOCKET_PATH: &str = "/run/netslot/netslot.sock";

/// The newest version in both ranges; `None` where they do not meet.
#[must_use]
pub const fn choose_version(min: u16, max: u16) -> Option<u16> {
    let newest = if max < VERSION_MAX { max } else { VERSION_MAX };
    if newest >= min && newest >= VERSION_MIN { Some(newest) } else { None }
}
