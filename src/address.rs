//! The arithmetic of a slot: names, ifindexes, MACs and addresses as functions of its number and the config; no
//! allocator, no table, no I/O.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::limits::SLOTS_MAX;
use crate::slot::{IfIndex, LinkName, Mac, SlotId};

/// An address and the length of its network's prefix, as in `172.16.0.2/30`; `A` is an IPv4 or IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net<A> {
    /// The address as written, host bits kept.
    pub addr: A,
    /// 0 to 32, or 128.
    pub prefix: u8,
}

/// An IPv4 address with its prefix.
pub type Ipv4Net = Net<Ipv4Addr>;
/// An IPv6 address with its prefix.
pub type Ipv6Net = Net<Ipv6Addr>;

/// Text that is no address with a prefix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no address with a prefix length, as in {1}")]
pub struct NetError(String, &'static str);

impl Net<Ipv4Addr> {
    /// First address of the network (host bits zero).
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.addr.to_bits() & self.mask())
    }

    /// Last address of the network (host bits one).
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.addr.to_bits() | !self.mask())
    }

    /// Whether the network holds that address.
    #[must_use]
    pub fn contains(self, addr: Ipv4Addr) -> bool {
        addr.to_bits() & self.mask() == self.addr.to_bits() & self.mask()
    }

    /// Whether the two networks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl Net<Ipv6Addr> {
    /// First address of the network (host bits zero).
    #[must_use]
    pub fn network(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.addr.to_bits() & self.mask())
    }

    /// Last address of the network (host bits one).
    #[must_use]
    pub fn last(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.addr.to_bits() | !self.mask())
    }

    /// Whether the network holds that address.
    #[must_use]
    pub fn contains(self, addr: Ipv6Addr) -> bool {
        addr.to_bits() & self.mask() == self.addr.to_bits() & self.mask()
    }

    /// Whether the two networks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl<A: fmt::Display> fmt::Display for Net<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

fn parse_net<A: FromStr>(text: &str, prefix_max: u8, example: &'static str) -> Result<Net<A>, NetError> {
    let err = || NetError(text.into(), example);
    let (addr, prefix) = text.split_once('/').ok_or_else(err)?;
    let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|p| digits && *p <= prefix_max).ok_or_else(err)?;
    Ok(Net { addr: addr.parse().map_err(|_| err())?, prefix })
}

impl FromStr for Net<Ipv4Addr> {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        parse_net(text, 32, "172.16.0.2/30")
    }
}

impl FromStr for Net<Ipv6Addr> {
    type Err = NetError;
    fn from_str(text: &str) -> Result<Self, NetError> {
        parse_net(text, 128, "fd00:6e73::2/64")
    }
}

/// Addresses of a slot range that are no slot's: the network's own and the common next hop.
const RESERVED_LOW: u32 = 2;

/// Slots that an IPv4 range can number: all but the network's own address, the next hop, and the broadcast address.
#[must_use]
pub fn slots_in(range: Ipv4Net) -> u64 {
    (1_u64 << (32 - range.prefix)).saturating_sub(u64::from(RESERVED_LOW) + 1)
}

/// Slots that an IPv6 range can number: all but the subnet-router anycast address and the next hop.
#[must_use]
pub fn slots_in6(range: Ipv6Net) -> u128 {
    (u128::MAX >> range.prefix.min(127)).saturating_sub(u128::from(RESERVED_LOW) - 1)
}

/// Prefix of every host end's name. Not `ve-`, `vb-`, `vz-` or `vt-`: systemd's stock networkd files grab those.
pub const HOST_END_PREFIX: &str = "slot";

/// Device names inside a slot, the same in each.
pub mod inside {
    /// The bridge that holds the gateway's address.
    pub const BRIDGE: &str = "br0";
    /// The slot's end of the veth pair.
    pub const UP: &str = "up0";
    /// Index of the bridge. The first numbers after loopback's are taken where tunnels' modules are loaded: each makes a
    /// device in every new namespace, unless `fb_tunnels_only_for_init_net` is turned.
    pub const BRIDGE_INDEX: u32 = 102;
    /// Index of the slot's end. Far from every host end's index: a veth whose index equals its peer's is not urgent
    /// for linkwatch and may wait seconds for its carrier (net/core/link_watch.c).
    pub const UP_INDEX: u32 = 103;
    /// The tunnel device, with `tunnel = "geneve"`.
    pub const TUNNEL: &str = "gnv0";
    /// Its index.
    pub const TUNNEL_INDEX: u32 = 104;
    /// The table that a bound slot's packets are routed by, to the tunnel device.
    pub const TUNNEL_TABLE: u32 = netslot_abi::TUNNEL_MARK;
}

/// Name of the slot's host end in the root namespace, `slot42`.
#[must_use]
pub fn host_end(slot: SlotId) -> LinkName {
    format!("{HOST_END_PREFIX}{slot}").parse().expect("a prefix of 4 and at most 5 digits fit 15 bytes")
}

/// The slot whose host end bears that name; `None` for any other device.
#[must_use]
pub fn slot_of_host_end(name: &str) -> Option<SlotId> {
    let digits = name.strip_prefix(HOST_END_PREFIX)?;
    let canonical =
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| canonical).and_then(SlotId::new)
}

/// Name of the slot's namespace file in the vault, `slot-0042`: at least four digits, so that a listing sorts.
#[must_use]
pub fn vault_name(slot: SlotId) -> String {
    format!("slot-{:04}", slot.number())
}

/// The slot whose namespace file bears that name; `None` for any other file.
#[must_use]
pub fn slot_of_vault_name(name: &str) -> Option<SlotId> {
    let slot = name.strip_prefix("slot-")?.parse().ok().and_then(SlotId::new)?;
    (vault_name(slot) == name).then_some(slot)
}

/// Index of the slot's host end in root, and of `tap0` in the slot: a program knows its slot from either.
#[must_use]
pub fn slot_ifindex(ifindex_base: u32, slot: SlotId) -> IfIndex {
    IfIndex(ifindex_base + slot.number())
}

/// MAC of the slot's host end, in root. Locally administered; `4e:53` reads NS.
#[must_use]
pub fn host_end_mac(slot: SlotId) -> Mac {
    let [_, a, b, c] = slot.number().to_be_bytes();
    Mac([0x06, 0x4e, 0x53, a, b, c])
}

/// MAC of `up0` in the slot: what root's permanent neighbour entry for the slot's address points at.
#[must_use]
pub fn up_mac(slot: SlotId) -> Mac {
    let [_, a, b, c] = slot.number().to_be_bytes();
    Mac([0x02, 0x4e, 0x53, a, b, c])
}

/// Host ends that share a device group, and are raised, or deleted, by one message under one hold of RTNL.
///
/// Raising a pair gives linkwatch two urgent events. It works off 200 at a time and puts what is left behind the
/// non-urgent ones, of which 100 are done each second (MAX_DO_DEV_PER_LOOP, net/core/link_watch.c, 6.12 and 6.18): of
/// 2,000 pairs raised at once, 149 still had no carrier after 4 s (measured). Half the budget leaves room for the work
/// to miss a turn.
const GROUP_SLOTS: u32 = 50;

/// First of the host ends' device groups; the number spells NS.
const GROUP_BASE: u32 = 0x4e53_0000;

/// Device group of the slot's host end.
#[must_use]
pub fn host_end_group(slot: SlotId) -> u32 {
    GROUP_BASE + slot.number() / GROUP_SLOTS
}

/// Whether a device group is one of the host ends'.
#[must_use]
pub fn is_host_end_group(group: u32) -> bool {
    (GROUP_BASE..=GROUP_BASE + SLOTS_MAX / GROUP_SLOTS).contains(&group)
}

/// MAC of `tap0` as the slot's bridge sees it, the same in every slot: known, so that a change of it shows.
pub const TAP_MAC: Mac = Mac([0x02, 0x4e, 0x53, 0xff, 0xff, 0xff]);

/// The slot's own address in the slot range: unique on the host, what the network sees of an unbound slot.
#[must_use]
pub fn slot_ip(range: Ipv4Net, slot: SlotId) -> Ipv4Addr {
    Ipv4Addr::from_bits(range.network().to_bits() + RESERVED_LOW + slot.number())
}

/// The slot's own IPv6 address.
#[must_use]
pub fn slot_ip6(range: Ipv6Net, slot: SlotId) -> Ipv6Addr {
    Ipv6Addr::from_bits(range.network().to_bits() + u128::from(RESERVED_LOW + slot.number()))
}

/// The next hop of every slot's default route: on no device, reached by a permanent neighbour entry.
#[must_use]
pub fn next_hop(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(range.network().to_bits() + 1)
}

/// The IPv6 next hop of every slot's default route.
#[must_use]
pub fn next_hop6(range: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from_bits(range.network().to_bits() + 1)
}

/// The slot whose own address that is; `None` for an address that is no slot's. The inverse of [`slot_ip`] and
/// [`slot_ip6`].
#[must_use]
pub fn slot_of_ip(range: Ipv4Net, range6: Option<Ipv6Net>, addr: IpAddr) -> Option<SlotId> {
    let offset = match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()).checked_sub(u128::from(range.network().to_bits()))?,
        IpAddr::V6(a) => a.to_bits().checked_sub(range6?.network().to_bits())?,
    };
    u32::try_from(offset.checked_sub(u128::from(RESERVED_LOW))?).ok().and_then(SlotId::new)
}

/// The dummy VNI of the slot's tunnel device (geneve mode): unique on the host, never seen on the wire.
#[must_use]
pub fn dummy_vni(vni_base: u32, slot: SlotId) -> u32 {
    vni_base + slot.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(n: u32) -> SlotId {
        SlotId::new(n).expect("in range")
    }

    #[test]
    fn names_and_addresses_give_the_slot_back() {
        let range: Ipv4Net = "100.64.0.0/15".parse().expect("a network");
        let range6: Ipv6Net = "fd00:6e73::/96".parse().expect("a network");
        for s in [0, 1, 9, 10, 4_242, 65_535].map(slot) {
            assert_eq!(slot_of_host_end(host_end(s).as_str()), Some(s));
            assert_eq!(slot_of_vault_name(&vault_name(s)), Some(s));
            assert_eq!(slot_of_ip(range, None, slot_ip(range, s).into()), Some(s));
            assert_eq!(slot_of_ip(range, Some(range6), slot_ip6(range6, s).into()), Some(s));
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_no_slots() {
        for name in ["slot", "slot01", "slot+1", "slot65536", "eth0", "slot1x", "Slot1", "slot-1"] {
            assert_eq!(slot_of_host_end(name), None, "{name}");
        }
        for name in ["slot-1", "slot-00001", "slot-+001", "template", "slot-99999999"] {
            assert_eq!(slot_of_vault_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_range_numbers_what_is_left_after_network_next_hop_and_broadcast() {
        for (text, slots) in [
            ("10.0.0.0/32", 0),
            ("10.0.0.0/31", 0),
            ("10.0.0.0/30", 1),
            ("10.0.0.0/24", 253),
            ("0.0.0.0/0", 4_294_967_293),
        ] {
            assert_eq!(slots_in(text.parse().expect("a network")), slots, "{text}");
        }
        assert_eq!(slots_in6("fd00::/126".parse().expect("a network")), 2);
        let range: Ipv4Net = "10.0.0.0/24".parse().expect("a network");
        assert_eq!(slot_ip(range, slot(252)).octets(), [10, 0, 0, 254]);
        assert_eq!(next_hop(range).octets(), [10, 0, 0, 1]);
    }

    #[test]
    fn a_network_is_an_address_and_a_plain_prefix() {
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "fd00::/8"] {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad:?} was taken");
        }
        let all: Ipv4Net = "0.0.0.0/0".parse().expect("a network");
        assert!(all.contains(Ipv4Addr::BROADCAST) && all.last() == Ipv4Addr::BROADCAST);
    }
}
