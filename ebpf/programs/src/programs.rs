//! The entry of each program; the work is `slot`'s and the uplink's two files'.
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use netslot_abi::ConfigRecord;

use crate::skb::Skb;
use crate::{maps, slot, uplink_in, uplink_out};

/// Runs a program.
#[inline(always)]
fn run(context: *mut __sk_buff, program: impl FnOnce(&mut Skb, &'static ConfigRecord) -> i32) -> i32 {
    let Some(config) = maps::config() else { return TC_ACT_SHOT };
    // SAFETY: the context the kernel gave.
    let mut skb = unsafe { Skb::new(context) };
    program(&mut skb, config)
}

/// tap0 ingress, in the slot: what the guest sends.
#[classifier]
pub fn guest_in(context: TcContext) -> i32 {
    run(context.skb.skb, slot::guest_in)
}

/// Host end ingress: what leaves the slot.
#[classifier]
pub fn slot_out(context: TcContext) -> i32 {
    run(context.skb.skb, slot::slot_out)
}

/// Host end egress: what enters the slot.
#[classifier]
pub fn slot_in(context: TcContext) -> i32 {
    run(context.skb.skb, slot::slot_in)
}

/// Uplink egress: what leaves the machine.
#[classifier]
pub fn uplink_out(context: TcContext) -> i32 {
    run(context.skb.skb, uplink_out::uplink_out)
}

/// Uplink ingress: what reaches the machine.
#[classifier]
pub fn uplink_in(context: TcContext) -> i32 {
    run(context.skb.skb, uplink_in::uplink_in)
}

/// Helpers that are for GPL-compatible programs only are not used; the license is declared all the same, since the
/// kernel asks for one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
