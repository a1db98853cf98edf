//! What a program answers, and how a drop is counted; it decides about no packet.

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC};
use netslot_abi::DropReason;

use crate::maps;

/// The packet goes on, and no other program is asked.
pub const PASS: i32 = TC_ACT_OK;

/// The packet is none of ours.
pub const NOT_OURS: i32 = TC_ACT_UNSPEC;

/// Counts a drop for a slot (the number of slots = for none) and gives the verdict.
///
/// A function to the verifier too: every program has many ways to come here.
#[inline(never)]
pub fn dropped(slot: u32, reason: DropReason) -> i32 {
    maps::count_drop(slot, reason);
    TC_ACT_SHOT
}
