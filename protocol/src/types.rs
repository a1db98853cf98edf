//! The values that several messages share: lease, slot, addresses, binding; no logic beyond conversions.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bounded::Text;
use crate::codec::{Decode, Encode, numbered};
use crate::limits::{LINK_NAME_BYTES_MAX, NETNS_NAME_BYTES_MAX, TAG_BYTES_MAX};

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Not made yet, or being made.
    Building = 0,
    /// Made, clean, nobody's.
    Free = 1,
    /// Somebody's.
    Leased = 2,
    /// Given back, being cleaned.
    Scrubbing = 3,
    /// Set aside: it could not be cleaned, or disagrees with its record.
    Quarantined = 4,
    /// Being taken down and made again.
    Rebuilding = 5,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Building, Self::Free, Self::Leased, Self::Scrubbing, Self::Quarantined, Self::Rebuilding];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The state of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The word that people and JSON see.
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

numbered!(State: u8);

/// When a lease ends without a release.
///
/// The ledger stores these numbers too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Policy {
    /// Never: only a release ends it.
    #[default]
    Explicit = 0,
    /// When the process that opened the connection has exited.
    OnExit = 1,
    /// When the client's end of the connection is closed, however that comes about; after a restart of the daemon, as
    /// [`Policy::OnExit`].
    OnDisconnect = 2,
}

impl Policy {
    /// All policies, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Explicit, Self::OnExit, Self::OnDisconnect];

    /// The number on the wire and in the ledger.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The policy of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.number() == number)
    }

    /// The word that people, flags and JSON see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::OnExit => "on-exit",
            Self::OnDisconnect => "on-disconnect",
        }
    }
}

numbered!(Policy: u8);

/// The owner's own word for a lease.
pub type Tag = Text<TAG_BYTES_MAX>;

/// Names one lease for good: the slot, and the fencing token that its next owner's will exceed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct LeaseId {
    /// Number of the slot.
    pub slot: u32,
    /// Generation of the slot, raised by every lease and every release; 56 bits.
    pub generation: u64,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} generation {}", self.slot, self.generation)
    }
}

/// An IPv4 or IPv6 address, network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Ip {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

impl From<IpAddr> for Ip {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::V4(addr.octets()),
            IpAddr::V6(addr) => Self::V6(addr.octets()),
        }
    }
}

impl From<Ip> for IpAddr {
    fn from(addr: Ip) -> Self {
        match addr {
            Ip::V4(addr) => Ipv4Addr::from(addr).into(),
            Ip::V6(addr) => Ipv6Addr::from(addr).into(),
        }
    }
}

/// An IPv4 address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Net4 {
    /// The address, host bits kept.
    pub addr: [u8; 4],
    /// 0 to 32.
    pub prefix: u8,
}

/// An IPv6 address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Net6 {
    /// The address, host bits kept.
    pub addr: [u8; 16],
    /// 0 to 128.
    pub prefix: u8,
}

/// What is the same inside every slot of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Guest {
    /// Name of the tap.
    pub tap: Text<LINK_NAME_BYTES_MAX>,
    /// The guest's MAC.
    pub mac: [u8; 6],
    /// The guest's address and its network.
    pub ip: Net4,
    /// The gateway's address in that network.
    pub gateway_ip: [u8; 4],
    /// The gateway's MAC.
    pub gateway_mac: [u8; 6],
    /// The guest's IPv6, where the pool has it.
    pub ip6: Option<Guest6>,
    /// The guest's MTU, bytes.
    pub mtu: u32,
}

/// The IPv6 side of a [`Guest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Guest6 {
    /// The guest's address and its network.
    pub ip: Net6,
    /// The gateway's address in that network; its MAC is the IPv4 gateway's.
    pub gateway_ip: [u8; 16],
}

/// One slot of a lease reply: what is this slot's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    /// Slot and fencing token: what bind and release take.
    pub lease: LeaseId,
    /// The namespace's name in the daemon's `netns_dir`, there while the slot is leased.
    pub netns: Text<NETNS_NAME_BYTES_MAX>,
    /// Index of the slot's host end in the root namespace.
    pub host_ifindex: u32,
    /// The slot's own address on the host.
    pub slot_ip: [u8; 4],
    /// The slot's own IPv6 address, where the pool has it.
    pub slot_ip6: Option<[u8; 16]>,
}

/// A leased slot's tenant network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Binding {
    /// Virtual network identifier, 1 to 16,777,215.
    pub vni: u32,
    /// The underlay address that the tunnel's packets go to and come from.
    pub remote: Ip,
    /// The guest's IPv4 address in the tenant's network.
    pub tenant_v4: Option<[u8; 4]>,
    /// The guest's IPv6 address in the tenant's network; at least one of the two is there.
    pub tenant_v6: Option<[u8; 16]>,
}
