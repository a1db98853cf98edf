//! The binary killed after each of its changes, refused by the kernel at each of its calls, and short of memory and room:
//! what the next run makes of it is what an undisturbed one makes.
//!
//! `FAULT=all` tries every place to be killed at; without it a sample, so that everybody can run it.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/frames.rs"]
mod frames;
#[path = "../daemon/known.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod known;
#[path = "../daemon/served.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod served;

mod daemon;
mod errors;
mod handover;
mod loops;
mod room;
mod state;
mod upgrade;
