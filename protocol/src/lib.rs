//! netslot's wire protocol.
#![no_std]
