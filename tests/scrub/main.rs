//! Slots that tenants left dirty, against the real kernel: everything that they can leave is gone with the release, or
//! the slot is; and `verify` sees it before.
#![allow(unsafe_code, reason = "a hostile holder of a tap does its work by ioctls that no library wraps")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/frames.rs"]
mod frames;
#[path = "../common/random.rs"]
mod random;
#[path = "../daemon/served.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod served;
#[path = "../common/tap_ioctls.rs"]
mod tap_ioctls;

mod dirt;
mod flood;
mod reuse;
mod tap;
mod verify;
