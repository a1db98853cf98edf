//! The records that user space and the eBPF programs both read: fixed layout, no logic beyond packing, no kernel calls.
//!
//! A record here is a stored format: it outlives the process that wrote it, and a newer binary meets records of an
//! older one. Raise [`LAYOUT_VERSION`] with every change of a field's place, width or meaning.
#![no_std]

mod config;
mod counters;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use config::{ConfigRecord, DHCP_OPTIONS_BYTES, TUNNEL_MARK, forward, nth_v4, nth_v6, tunnel};
pub use counters::{CounterRecord, DROP_REASONS, DropReason};

/// Version of every layout in this crate; written once into the pool's header, compared at each start.
pub const LAYOUT_VERSION: u32 = 2;

/// Bytes of a lease's tag; longer tags are refused at the protocol.
pub const TAG_BYTES: usize = 24;

/// State of a slot as stored in the low byte of [`LedgerRecord::commit`].
///
/// The numbers are part of the stored format; 0 is what fresh memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SlotState {
    /// Not made yet, or being made.
    Building = 0,
    /// Made, clean, nobody's.
    Free = 1,
    /// Somebody's; the record's owner fields are valid.
    Leased = 2,
    /// Given back, being cleaned.
    Scrubbing = 3,
    /// Disagrees with its record or could not be cleaned; `reason` says why.
    Quarantined = 4,
    /// Being taken down and made again.
    Rebuilding = 5,
}

impl SlotState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Building, Self::Free, Self::Leased, Self::Scrubbing, Self::Quarantined, Self::Rebuilding];

    /// The state of a stored byte; `None` for a byte that no version of this layout writes.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Building),
            1 => Some(Self::Free),
            2 => Some(Self::Leased),
            3 => Some(Self::Scrubbing),
            4 => Some(Self::Quarantined),
            5 => Some(Self::Rebuilding),
            _ => None,
        }
    }

    /// The lower-case word that people and JSON see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Free => "free",
            Self::Leased => "leased",
            Self::Scrubbing => "scrubbing",
            Self::Quarantined => "quarantined",
            Self::Rebuilding => "rebuilding",
        }
    }
}

/// Bits of [`LedgerRecord::flags`].
pub mod ledger_flag {
    /// Granted, and the reply not yet handed to the kernel. Whoever finds it after a crash knows that no client ever
    /// learnt of the lease, and gives it back.
    pub const UNSENT: u8 = 1;
    /// The slot is used without a guest: what comes for the slot's address goes to the slot's own stack (a program run
    /// in the namespace). Without it, the guest gets everything.
    pub const OWN_STACK: u8 = 2;
}

/// Largest generation: the commit word keeps 56 bits for it. At a million leases and releases per second, 2,284 years.
pub const GENERATION_MAX: u64 = (1 << 56) - 1;

/// One slot's lease state, 64 bytes, one cache line.
///
/// Only `commit` decides. A writer fills the other fields while the committed state gives them no meaning (the owner's
/// while the slot is not leased, the reason while it is not quarantined) and stores `commit` last, in one aligned
/// 8-byte store; so a writer killed between two stores leaves the old state, never a mixture. `flags` alone changes
/// while the slot is leased; it shares one aligned word with fields that stay as they are, so that store is whole too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LedgerRecord {
    /// `generation << 8 | state`. Written last.
    pub commit: u64,
    /// When the slot came to this owner, nanoseconds of `CLOCK_BOOTTIME`.
    pub since_ns: u64,
    /// Owner's inode number in pidfs (unique for the life of the boot, kernel 6.9 and later); 0 where unknown.
    pub owner_inode: u64,
    /// Owner's user id, from `SO_PEERCRED`.
    pub owner_uid: u32,
    /// Owner's group id, from `SO_PEERCRED`.
    pub owner_gid: u32,
    /// Owner's process id as the daemon sees it: for people; liveness is judged by pidfd.
    pub owner_pid: u32,
    /// When the lease ends without a release: see the protocol's release policy.
    pub policy: u8,
    /// Why the slot is quarantined; see the ledger's reasons.
    pub reason: u8,
    /// Bytes of `tag` in use.
    pub tag_len: u8,
    /// See [`ledger_flag`].
    pub flags: u8,
    /// The owner's own word for the lease, UTF-8.
    pub tag: [u8; TAG_BYTES],
}

impl LedgerRecord {
    /// Packs a generation and a state into a commit word; the generation is cut to [`GENERATION_MAX`].
    #[must_use]
    pub const fn pack(generation: u64, state: SlotState) -> u64 {
        (generation & GENERATION_MAX) << 8 | state as u64
    }

    /// The generation in the commit word.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.commit >> 8
    }

    /// The state in the commit word; `None` where no version of this layout wrote it.
    #[must_use]
    pub const fn state(&self) -> Option<SlotState> {
        SlotState::from_byte(self.commit.to_le_bytes()[0])
    }
}

/// How a bound slot's packets travel, in [`BindingRecord::mode`].
pub mod bind_mode {
    /// No VNI bound: stateless NAT to the uplink.
    pub const NAT: u8 = 0;
    /// Encapsulated in Geneve towards `remote`.
    pub const TUNNEL: u8 = 1;
}

/// One slot's tenant network, 64 bytes.
///
/// Valid only while `generation` equals the ledger's for the slot. A writer stores `generation = 0` first, then the
/// fields, then the generation: a reader in between sees an unbound slot, never half a binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindingRecord {
    /// Lease generation this binding belongs to; 0 = not bound. Written last.
    pub generation: u64,
    /// Virtual network identifier, 24 bits.
    pub vni: u32,
    /// Tenant's IPv4 address of the guest, network byte order; zero = none.
    pub tenant_v4: [u8; 4],
    /// Tenant's IPv6 address of the guest; zero = none.
    pub tenant_v6: [u8; 16],
    /// Outer destination: IPv6, or IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// 4 or 6: family of `remote`.
    pub remote_family: u8,
    /// See [`bind_mode`].
    pub mode: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Destination MAC of the frames inside the tunnel; zero = the gateway's MAC in the slot.
    pub peer_mac: [u8; 6],
    /// Zero.
    pub reserved_end: [u8; 6],
}

/// Key of the map from a tenant's address to its slot: whose packet it is that comes out of the tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TenantKey {
    /// Virtual network identifier, 24 bits.
    pub vni: u32,
    /// 4 or 6.
    pub family: u32,
    /// IPv6, or IPv4 in the first four bytes and zero after.
    pub address: [u8; 16],
}

const _: () = assert!(size_of::<LedgerRecord>() == 64 && align_of::<LedgerRecord>() == 8);
const _: () = assert!(size_of::<BindingRecord>() == 64 && align_of::<BindingRecord>() == 8);
const _: () = assert!(size_of::<TenantKey>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_word_gives_back_what_was_packed() {
        for state in SlotState::ALL {
            for generation in [0, 1, 255, 256, GENERATION_MAX] {
                let record = LedgerRecord { commit: LedgerRecord::pack(generation, state), ..Default::default() };
                assert_eq!((record.generation(), record.state()), (generation, Some(state)));
            }
        }
    }

    #[test]
    fn a_state_byte_of_no_version_is_not_a_state() {
        assert_eq!(LedgerRecord { commit: 6, ..Default::default() }.state(), None);
        assert_eq!(LedgerRecord { commit: 0xff, ..Default::default() }.state(), None);
    }
}
