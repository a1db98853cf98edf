//! The ledger's own words: owners, requests, outcomes, refusals, effects; plain values, no state.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netslot_abi::{ConfigRecord, LedgerRecord, SlotState, TAG_BYTES, tunnel};

use super::store::StoreError;
use crate::config::{Config, Empty, Quotas, Tunnel};
use crate::limits::{LEASE_SLOTS_MAX, SLOTS_MAX, VNI_MAX};
use crate::slot::{Generation, SlotId};

/// What the ledger takes from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Slots that the boot pass makes.
    pub slots: u32,
    /// Slots that growth may reach.
    pub slots_max: u32,
    /// What a lease of an empty pool gets.
    pub empty: Empty,
    /// Limits per user id; `reserve_uids` sorted.
    pub quotas: Quotas,
    /// What a binding is held to.
    pub tunnels: Tunnels,
}

/// What the packet programs can do with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnels {
    /// Whether there are any.
    pub on: bool,
    /// VNIs that the slots' own devices have, as first and last.
    pub dummies: Option<(u32, u32)>,
    /// This host's ends of them; `None` = not known yet.
    pub underlay: Option<Underlay>,
}

/// This host's addresses on the uplink, from which tunnels go out; a family without one carries none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Tunnels {
    /// What the configuration alone tells.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let last = config.vni_base + (config.slots_max.min(SLOTS_MAX) - 1);
        let dummies = (config.tunnel == Tunnel::Geneve).then_some((config.vni_base, last));
        Self { on: config.tunnel != Tunnel::Off, dummies, underlay: None }
    }

    /// What the programs were told.
    #[must_use]
    pub fn told(record: &ConfigRecord) -> Self {
        let last = record.vni_base + record.slots.saturating_sub(1);
        let v4 = Ipv4Addr::from(record.underlay_v4);
        let v6 = Ipv6Addr::from(record.underlay_v6);
        Self {
            on: record.tunnel != tunnel::OFF,
            dummies: (record.tunnel == tunnel::GENEVE).then_some((record.vni_base, last)),
            underlay: Some(Underlay {
                v4: Some(v4).filter(|a| !a.is_unspecified()),
                v6: Some(v6).filter(|a| !a.is_unspecified()),
            }),
        }
    }
}

impl Settings {
    /// The settings of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut quotas = config.quotas.clone();
        quotas.reserve_uids.sort_unstable();
        Self {
            slots: config.slots,
            slots_max: config.slots_max.min(SLOTS_MAX),
            empty: config.empty,
            quotas,
            tunnels: Tunnels::of(config),
        }
    }

    /// Whether the user may take the reserve and is above the limits per uid.
    #[must_use]
    pub fn is_reserved(&self, uid: u32) -> bool {
        self.quotas.reserve_uids.binary_search(&uid).is_ok()
    }
}

/// Who holds leases: a process, as the kernel named it when it connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, as the daemon sees it.
    pub pid: u32,
    /// Inode of the process in pidfs, unique for the life of the boot; 0 where the kernel has none (before 6.9).
    pub inode: u64,
}

/// One connection, and after it what it leaves: leases that end with its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub(super) u32);

impl HolderId {
    /// The holder of that number, if there is one.
    #[must_use]
    pub const fn at(number: u32) -> Self {
        Self(number)
    }

    /// Number below [`super::Ledger::holders_max`], used again once [`Effect::HolderGone`] has named it.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// When a lease ends without a release. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Policy {
    /// Never.
    Explicit = 0,
    /// With the process that asked for it.
    OnExit = 1,
    /// With the connection that asked for it; after a restart of the daemon, which broke that connection and not the
    /// owner, with the process.
    OnDisconnect = 2,
}

impl Policy {
    /// The policy of a stored byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Explicit),
            1 => Some(Self::OnExit),
            2 => Some(Self::OnDisconnect),
            _ => None,
        }
    }
}

/// Why a slot is quarantined. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Reason {
    /// A state byte that no version of the layout writes.
    #[error("its record holds an unknown state")]
    UnknownState = 1,
    /// A record whose fields contradict its state.
    #[error("its record makes no sense")]
    BadRecord = 2,
    /// Namespace or a device gone, or not as built.
    #[error("its namespace or a device of it is gone")]
    Lost = 3,
    /// The tap stayed open past the scrub's patience.
    #[error("its tap is still held open")]
    TapHeld = 4,
    /// A step of the scrub failed.
    #[error("it could not be cleaned")]
    ScrubFailed = 5,
    /// It could not be made again.
    #[error("it could not be rebuilt")]
    RebuildFailed = 6,
    /// A restart found it half rebuilt.
    #[error("a rebuild was interrupted")]
    RebuildCut = 7,
    /// Two slots were bound to one tenant address.
    #[error("its tenant address is also another slot's")]
    TenantTwice = 8,
    /// A process or a socket of its tenant stayed past the scrub's patience.
    #[error("a process or a socket of its tenant is still in it")]
    InUse = 9,
    /// It is not as it was made, and cannot be set back in place.
    #[error("it is not as it was made")]
    Differs = 10,
}

impl Reason {
    /// The reason of a stored byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::UnknownState),
            2 => Some(Self::BadRecord),
            3 => Some(Self::Lost),
            4 => Some(Self::TapHeld),
            5 => Some(Self::ScrubFailed),
            6 => Some(Self::RebuildFailed),
            7 => Some(Self::RebuildCut),
            8 => Some(Self::TenantTwice),
            9 => Some(Self::InUse),
            10 => Some(Self::Differs),
            _ => None,
        }
    }
}

/// The owner's own word for a lease: at most [`TAG_BYTES`] bytes of UTF-8.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tag {
    bytes: [u8; TAG_BYTES],
    len: u8,
}

impl Tag {
    /// The tag of a text; `None` where it is longer than [`TAG_BYTES`].
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; TAG_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, len: u8::try_from(text.len()).ok()? })
    }

    /// The tag in a record; `None` where its length or its bytes are no tag's.
    #[must_use]
    pub fn of(record: &LedgerRecord) -> Option<Self> {
        Self::new(std::str::from_utf8(record.tag.get(..usize::from(record.tag_len))?).ok()?)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("built from a str, whole")
    }

    pub(super) const fn parts(self) -> ([u8; TAG_BYTES], u8) {
        (self.bytes, self.len)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A request for slots.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Who asks.
    pub holder: HolderId,
    /// The caller's mark, given back with the answer when the request had to wait.
    pub ticket: u64,
    /// Slots asked for, 1 to [`LEASE_SLOTS_MAX`]; all or none.
    pub count: u32,
    /// Word to remember.
    pub tag: Tag,
    /// When the leases end by themselves.
    pub policy: Policy,
    /// The slot is used without a guest.
    pub own_stack: bool,
    /// Longest wait, nanoseconds; 0 = none. Cut to `quotas.wait_ms_max`.
    pub wait_ns: u64,
}

/// One slot granted, and the token that fences it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The slot.
    pub slot: SlotId,
    /// Its generation as of the grant.
    pub generation: Generation,
}

/// The leases of one request: a range in [`Effects::leases`], valid until the effects are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// What a lease request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored; call [`super::Ledger::reply_left`] when the reply is sent.
    Granted(Grant),
    /// Queued: an [`Effect::Granted`] or [`Effect::Refused`] with its ticket will follow.
    Waiting,
}

/// A tenant network for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Virtual network identifier, 1 to [`VNI_MAX`].
    pub vni: u32,
    /// Outer destination.
    pub remote: IpAddr,
    /// The guest's IPv4 address in the tenant's network.
    pub tenant_v4: Option<Ipv4Addr>,
    /// The guest's IPv6 address in the tenant's network.
    pub tenant_v6: Option<Ipv6Addr>,
}

/// How a scrub ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// Equal to a fresh slot.
    Clean,
    /// Not to be used.
    Quarantine(Reason),
}

/// What recovery finds of a slot's kernel objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing, or not all of it.
    Absent,
    /// Namespace and devices are there.
    Whole,
}

/// Why a command was refused; nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No slot free, and no waiting asked for or allowed.
    #[error("no slot is free: ask again with a wait, or raise 'slots' in the configuration")]
    PoolEmpty,
    /// The queue of waiting requests is full.
    #[error("too many requests wait for a slot already")]
    QueueFull,
    /// No slot came free in time.
    #[error("no slot came free within the time asked for")]
    WaitExpired,
    /// Past `quotas.leases_per_uid`.
    #[error("this user's quota of leases is used up (quotas.leases_per_uid)")]
    LeaseQuota,
    /// Past `quotas.waiters_per_uid`.
    #[error("too many requests of this user wait for a slot already (quotas.waiters_per_uid)")]
    WaiterQuota,
    /// Past `quotas.connections_per_uid`.
    #[error("this user has too many connections open (quotas.connections_per_uid)")]
    ConnectionQuota,
    /// Past `quotas.connections`.
    #[error("too many connections are open (quotas.connections)")]
    ConnectionsFull,
    /// 0 slots, or more than one lease takes.
    #[error("a lease is for 1 to {LEASE_SLOTS_MAX} slots")]
    CountRange,
    /// More slots than this user could ever be given.
    #[error("the pool can never give this user so many slots at once")]
    CountBeyondPool,
    /// The owner's process is gone, and the lease would end with it.
    #[error("the process that would own the lease has exited")]
    OwnerGone,
    /// Past the pool.
    #[error("the pool has no slot of that number")]
    NoSuchSlot,
    /// Not leased under that generation: released, or somebody else's by now.
    #[error("that lease is over: the slot is {} in generation {generation}", state.name())]
    Stale {
        /// The slot's generation now.
        generation: Generation,
        /// Its state now.
        state: SlotState,
    },
    /// Leased to another user.
    #[error("the lease belongs to another user")]
    NotOwner,
    /// The tenant address is another slot's in that VNI.
    #[error("that tenant address is bound to slot {0} in this VNI")]
    AddressInUse(SlotId),
    /// 0, or past 24 bits.
    #[error("a VNI is 1 to {VNI_MAX}")]
    VniRange,
    /// One of those that the slots' tunnel devices have.
    #[error(
        "VNIs {0} to {1} are the slots' own (vni_base): a tenant's network needs another, or the pool another vni_base"
    )]
    VniOfSlots(u32, u32),
    /// No tunnel leaves this host.
    #[error("this pool has no tunnels (tunnel = \"off\"): set it to \"ebpf\" and run 'netslot up'")]
    NoTunnels,
    /// An address no tunnel can end at.
    #[error("the remote must be a unicast address of another host")]
    RemoteAddress,
    /// Of a family that this host does not have.
    #[error(
        "this host had no IPv{0} address on its uplink when the pool was made: give it one and run 'netslot up', or name \
             a remote of the other family"
    )]
    RemoteFamily(u8),
    /// No tenant address, or one no guest can have.
    #[error("a binding needs a tenant address, and each must be unicast")]
    TenantAddress,
    /// The store refused the binding; the slot is unbound now.
    #[error("the binding could not be stored, and the slot is unbound now: {0}")]
    Store(StoreError),
    /// The slot's state does not allow it.
    #[error("the slot is {}", .0.name())]
    WrongState(SlotState),
}

/// What the caller has to do after a command; each is done by the ledger's own account already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The slot changed its state. From `Leased`: its name is to be taken away; to `Leased`: to be shown.
    Changed {
        /// The slot.
        slot: SlotId,
        /// Its generation now.
        generation: Generation,
        /// State before.
        from: SlotState,
        /// State now.
        to: SlotState,
    },
    /// Clean the slot and report by [`super::Ledger::scrubbed`].
    Scrub(Lease),
    /// The slot is quarantined: tell someone, and rebuild it when there is time.
    Quarantined {
        /// The slot.
        slot: SlotId,
        /// Why.
        reason: Reason,
    },
    /// Make the slot and report by [`super::Ledger::built`] or [`super::Ledger::build_failed`].
    Create(SlotId),
    /// A waiting request got its slots.
    Granted {
        /// Who asked.
        holder: HolderId,
        /// The request's mark.
        ticket: u64,
        /// The leases; as with [`Outcome::Granted`].
        grant: Grant,
    },
    /// A waiting request gets nothing.
    Refused {
        /// Who asked.
        holder: HolderId,
        /// The request's mark.
        ticket: u64,
        /// Why.
        why: Refusal,
    },
    /// Found at recovery: leases end with that process; watch it, and report its death by
    /// [`super::Ledger::owner_died`].
    Adopted(HolderId),
    /// Nothing of the holder is left; its number may be used again.
    HolderGone(HolderId),
}

/// A command's effects, in the order they happened; made once and used again.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    leases: Vec<Lease>,
}

impl Effects {
    /// Room for what one command can cause in a pool of so many slots and with so many waiters: each slot is released,
    /// scrubbed, granted again and its holder gone, and each waiter answered.
    #[must_use]
    pub fn with_capacity(slots: u32, waiters: u32) -> Self {
        let (slots, waiters) = (slots as usize, waiters as usize);
        Self { list: Vec::with_capacity(slots * 4 + waiters), leases: Vec::with_capacity(slots) }
    }

    /// The effects.
    #[must_use]
    pub fn list(&self) -> &[Effect] {
        &self.list
    }

    /// The leases of a grant.
    #[must_use]
    pub fn leases(&self, grant: Grant) -> &[Lease] {
        &self.leases[grant.first as usize..][..grant.count as usize]
    }

    /// Forgets all, and keeps the room.
    pub fn clear(&mut self) {
        self.list.clear();
        self.leases.clear();
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub(super) fn push_lease(&mut self, lease: Lease) {
        self.leases.push(lease);
    }

    pub(super) fn grant_since(&self, first: usize) -> Grant {
        let cut = |n: usize| u32::try_from(n).expect("at most one lease per slot of the pool");
        Grant { first: cut(first), count: cut(self.leases.len() - first) }
    }

    pub(super) fn leases_so_far(&self) -> usize {
        self.leases.len()
    }
}
