//! The bytes of a list: one header, then one record per slot, in a sealed memfd; who seals and maps it is not said here.
//!
//! ```text
//!    0                  32                 160                288
//!    | header (32)      | slot 0 (128)     | slot 1 (128)     | ...   header.records times
//! ```
//! All numbers are little-endian, so a program in any language can read the file as it lies.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bounded::Text;
use crate::limits::{RECORD_BYTES, SLOTS_MAX, SNAPSHOT_HEADER_BYTES, TAG_BYTES_MAX};
use crate::types::{Binding, Ip, Policy, State, Tag};

/// First bytes of every snapshot.
pub const MAGIC: [u8; 8] = *b"NSLTLIST";

/// Version of this layout. It changes with every change of a field's place, width or meaning.
pub const VERSION: u16 = 1;

/// A snapshot's first [`SNAPSHOT_HEADER_BYTES`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SnapshotHeader {
    magic: [u8; 8],
    version: U16,
    record_bytes: U16,
    records: U32,
    taken_at_ns: U64,
    reserved: [u8; 8],
}

const _: () = assert!(size_of::<SnapshotHeader>() == SNAPSHOT_HEADER_BYTES);
const _: () = assert!(size_of::<Record>() == RECORD_BYTES && RECORD_BYTES <= 0xffff);

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another file's bytes.
    #[error("the snapshot does not begin with its magic")]
    Magic,
    /// Written by another version.
    #[error("the snapshot has layout version {0}, this client reads {VERSION}: bring the older side up to date")]
    Version(u16),
    /// A header that contradicts itself or the file.
    #[error("the snapshot is {bytes} bytes long, which {records} records are not")]
    Length {
        /// In the file.
        bytes: u64,
        /// In the header.
        records: u32,
    },
    /// A record with a value outside its table.
    #[error("the record of slot {slot} has a {field} outside its table")]
    Record {
        /// The record's slot number.
        slot: u32,
        /// The field.
        field: &'static str,
    },
}

impl SnapshotHeader {
    /// The header of a snapshot of so many records, taken at that `CLOCK_BOOTTIME`, nanoseconds.
    #[must_use]
    pub fn new(records: u32, taken_at_ns: u64) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION.into(),
            record_bytes: u16::try_from(RECORD_BYTES).expect("asserted above").into(),
            records: records.into(),
            taken_at_ns: taken_at_ns.into(),
            reserved: [0; 8],
        }
    }

    /// Records in a file of so many bytes that begins with this header, and when they were taken (`CLOCK_BOOTTIME`,
    /// nanoseconds).
    ///
    /// # Errors
    /// [`SnapshotError`] when the file is not a snapshot of this version, whole.
    pub fn check(&self, bytes: u64) -> Result<(u32, u64), SnapshotError> {
        if self.magic != MAGIC {
            return Err(SnapshotError::Magic);
        }
        if self.version.get() != VERSION {
            return Err(SnapshotError::Version(self.version.get()));
        }
        let records = self.records.get();
        let whole = SNAPSHOT_HEADER_BYTES as u64 + u64::from(records) * RECORD_BYTES as u64;
        if records > SLOTS_MAX || usize::from(self.record_bytes.get()) != RECORD_BYTES || whole != bytes {
            return Err(SnapshotError::Length { bytes, records });
        }
        Ok((records, self.taken_at_ns.get()))
    }
}

/// One slot's bytes. Written by [`Slot::record`], read by [`Record::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    slot: U32,
    state: u8,
    /// 0 while the slot is not quarantined.
    reason: u8,
    /// With `tag_len`, `since_ns`, `owner_*` and `tag`: zero while the slot has no owner.
    policy: u8,
    tag_len: u8,
    generation: U64,
    since_ns: U64,
    owner_uid: U32,
    owner_gid: U32,
    owner_pid: U32,
    /// 0 = not bound; then the rest is zero.
    vni: U32,
    tag: [u8; TAG_BYTES_MAX],
    /// IPv6, or IPv4 in the first four bytes.
    remote: [u8; 16],
    tenant_v6: [u8; 16],
    tenant_v4: [u8; 4],
    /// 4 or 6; 0 = not bound.
    remote_family: u8,
    /// Bit 0: `tenant_v4` is there; bit 1: `tenant_v6` is.
    tenant_families: u8,
    reserved: [u8; 26],
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Number of the slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u64,
    /// Where it is in its life.
    pub state: State,
    /// Number of the reason for its quarantine; 0 while it is in none. The get reply has the words.
    pub reason: u8,
    /// Whose it is; exactly while its state is leased.
    pub owner: Option<Owner>,
    /// Its tenant network; only while its state is leased.
    pub binding: Option<Binding>,
}

/// Whose a leased slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id as the daemon sees it.
    pub pid: u32,
    /// Since when, nanoseconds of `CLOCK_BOOTTIME`.
    pub since_ns: u64,
    /// When the lease ends without a release.
    pub policy: Policy,
    /// The owner's word for the lease.
    pub tag: Tag,
}

const TENANT_V4: u8 = 1;
const TENANT_V6: u8 = 2;

impl Slot {
    /// The bytes that say this.
    #[must_use]
    pub fn record(&self) -> Record {
        let mut record = Record {
            slot: self.slot.into(),
            state: self.state.number(),
            reason: self.reason,
            generation: self.generation.into(),
            ..Record::new_zeroed()
        };
        if let Some(owner) = &self.owner {
            record.policy = owner.policy.number();
            record.since_ns = owner.since_ns.into();
            record.owner_uid = owner.uid.into();
            record.owner_gid = owner.gid.into();
            record.owner_pid = owner.pid.into();
            record.tag_len = u8::try_from(owner.tag.len()).expect("at most 24");
            record.tag[..owner.tag.len()].copy_from_slice(owner.tag.as_bytes());
        }
        if let Some(binding) = &self.binding {
            record.vni = binding.vni.into();
            match binding.remote {
                Ip::V4(addr) => {
                    record.remote_family = 4;
                    record.remote[..4].copy_from_slice(&addr);
                }
                Ip::V6(addr) => {
                    record.remote_family = 6;
                    record.remote = addr;
                }
            }
            if let Some(addr) = binding.tenant_v4 {
                record.tenant_families |= TENANT_V4;
                record.tenant_v4 = addr;
            }
            if let Some(addr) = binding.tenant_v6 {
                record.tenant_families |= TENANT_V6;
                record.tenant_v6 = addr;
            }
        }
        record
    }
}

impl Record {
    /// What the bytes say.
    ///
    /// # Errors
    /// [`SnapshotError::Record`] when a field is outside its table.
    pub fn read(&self) -> Result<Slot, SnapshotError> {
        let slot = self.slot.get();
        let bad = |field| SnapshotError::Record { slot, field };
        let state = State::from_number(self.state).ok_or_else(|| bad("state"))?;
        let owner = (state == State::Leased).then(|| self.owner(bad)).transpose()?;
        let binding = if self.remote_family == 0 { None } else { Some(self.binding(bad)?) };
        Ok(Slot { slot, generation: self.generation.get(), state, reason: self.reason, owner, binding })
    }

    fn owner(&self, bad: impl Fn(&'static str) -> SnapshotError) -> Result<Owner, SnapshotError> {
        let tag = self.tag.get(..usize::from(self.tag_len)).ok_or_else(|| bad("tag length"))?;
        let tag = core::str::from_utf8(tag).map_err(|_| bad("tag"))?;
        Ok(Owner {
            uid: self.owner_uid.get(),
            gid: self.owner_gid.get(),
            pid: self.owner_pid.get(),
            since_ns: self.since_ns.get(),
            policy: Policy::from_number(self.policy).ok_or_else(|| bad("policy"))?,
            tag: Text::cut(tag),
        })
    }

    fn binding(&self, bad: impl Fn(&'static str) -> SnapshotError) -> Result<Binding, SnapshotError> {
        let [a, b, c, d, ..] = self.remote;
        let remote = match self.remote_family {
            4 => Ip::V4([a, b, c, d]),
            6 => Ip::V6(self.remote),
            _ => return Err(bad("remote family")),
        };
        Ok(Binding {
            vni: self.vni.get(),
            remote,
            tenant_v4: (self.tenant_families & TENANT_V4 != 0).then_some(self.tenant_v4),
            tenant_v6: (self.tenant_families & TENANT_V6 != 0).then_some(self.tenant_v6),
        })
    }
}
