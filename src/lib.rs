//! netslot: all network slots of a microVM worker made at boot, then leased in microseconds.
//!
//! What stands first in this list knows nothing of what stands after it.

pub mod limits;

pub mod slot;

pub mod address;

pub mod config;

pub mod ledger;

pub mod sys;

pub mod netlink;

pub mod bpf;

pub mod underlay;

pub mod trace;

pub mod plan;

pub mod fingerprint;

pub mod rules;

pub mod execute;

pub mod check;

pub mod scrub;

pub mod serve;

pub mod logger;

pub mod cli;

pub mod commands;
