//! What the programs do to a packet: parse, judge, translate, encapsulate, answer; functions of the bytes and the
//! config, free of maps, helpers and `unsafe`, so that the code the verifier sees is the code the host's tests run.
//!
//! Everything is `inline(always)`: the verifier follows one straight program, and nothing is passed by memory that
//! could stay in registers. Comparisons of addresses go through integers, since a comparison of byte arrays would be a
//! call to `memcmp`, which an eBPF program has not got.
#![no_std]

pub mod checksum;
pub mod dhcp;
pub mod frame;
pub mod geneve;
pub mod guest;
pub mod headers;
pub mod mss;
pub mod nat;

pub use frame::{Frame, Share, Sum};
pub use netslot_abi::DropReason;
