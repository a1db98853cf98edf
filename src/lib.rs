//! netslot: all network slots of a microVM worker made at boot, then leased in microseconds.
//!
//! Imports point down this list's reverse: what stands first knows nothing of what stands after it.

pub mod address;
pub mod config;
pub mod limits;
pub mod slot;
