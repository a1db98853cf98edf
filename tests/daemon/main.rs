//! The daemon against the real kernel, through the real protocol: leases and their ends, restarts, limits, and clients
//! and admins who do what they should not.
#![allow(unsafe_code, reason = "a hostile holder of a tap does its work by ioctls that no library wraps")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/tap_ioctls.rs"]
mod tap_ioctls;

mod handover;
mod hostile;
mod kills;
#[allow(dead_code, reason = "each test binary uses its part")]
mod known;
mod leases;
mod manager;
mod pool;
mod records;
mod restart;
mod served;
mod service;
