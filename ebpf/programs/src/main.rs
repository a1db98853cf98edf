//! The five programs: from packet and maps to a verdict. What is done to the bytes is `netslot-packet`'s; what is in
//! the maps is user space's.
//!
//! A program answers `TC_ACT_OK` or `TC_ACT_SHOT` on the slots' own devices, where no other program has a place, and
//! `TC_ACT_UNSPEC` ("whoever comes next") on the uplink for everything that is not a slot's.
//!
//! On any machine but the kernel's this is an empty program: stable Rust builds the workspace, and the object is built
//! by `ebpf/build.sh`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod outer;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod skb;
#[cfg(target_arch = "bpf")]
mod slot;
#[cfg(target_arch = "bpf")]
mod tunnel;
#[cfg(target_arch = "bpf")]
mod uplink_in;
#[cfg(target_arch = "bpf")]
mod uplink_out;
#[cfg(target_arch = "bpf")]
mod verdict;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
