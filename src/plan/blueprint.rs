//! What every slot should be: the config turned into the devices, addresses and parts of slot *i*; arithmetic only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::part::{Part, Parts};
use crate::address::{self, Net, inside};
use crate::bpf::record::{GENEVE_MAC, GENEVE_PORT};
use crate::config::{Config, Forward, Guest};
use crate::netlink::nft::Table;
use crate::netlink::route::{Device, Geneve};
use crate::slot::{IfIndex, LinkName, SlotId};

/// The config and the resolved MTU, as far as the slots follow from them.
#[derive(Clone, Debug)]
pub struct Blueprint {
    slots: u32,
    ifindex_base: u32,
    guest: Guest,
    slot_cidr: address::Ipv4Net,
    slot_cidr6: Option<address::Ipv6Net>,
    mtu: u32,
    /// The tables of the slots' rules; `None` = nothing is known of rules, and none are looked at.
    rules: Option<Vec<Table>>,
    /// The program on every tap, by its number in the kernel; `None` = it is not loaded yet, and no tap has it.
    tap_program: Option<u32>,
    forward: Forward,
    /// Dummy VNI of slot 0 and dummy remote of all, where the pool has tunnel devices.
    tunnel: Option<(u32, IpAddr)>,
    /// What a whole slot consists of.
    whole: Parts,
}

/// One slot, spelt out.
#[derive(Clone, Copy, Debug)]
pub struct SlotSpec {
    /// Which.
    pub slot: SlotId,
    /// The veth end in root.
    pub host_end: Device,
    /// Whether it hands what it receives to root's routing.
    pub forwards: bool,
    /// The veth end in the slot.
    pub up: Device,
    /// The bridge.
    pub bridge: Device,
    /// The tap.
    pub tap: Device,
    /// The tunnel device, where the pool has them.
    pub tunnel: Option<Geneve>,
    /// User and group that may open the tap.
    pub tap_owner: (Option<u32>, Option<u32>),
    /// The guest's addresses and MAC, the gateway's, the slot's own, the next hop's: IPv4.
    pub v4: Addresses<Ipv4Addr>,
    /// The same for IPv6, where the pool has it.
    pub v6: Option<Addresses<Ipv6Addr>>,
    /// The guest's MAC.
    pub guest_mac: crate::slot::Mac,
}

/// The addresses of one family in and around a slot.
#[derive(Clone, Copy, Debug)]
pub struct Addresses<A> {
    /// The guest.
    pub guest: A,
    /// The bridge, with the prefix of the guest's network.
    pub gateway: Net<A>,
    /// The slot's own.
    pub slot: A,
    /// The next hop of the slot's default route.
    pub next_hop: A,
}

impl<A: Into<IpAddr> + Copy> Addresses<A> {
    /// The same with addresses of either family.
    #[must_use]
    pub fn any(&self) -> Addresses<IpAddr> {
        Addresses {
            guest: self.guest.into(),
            gateway: Net { addr: self.gateway.addr.into(), prefix: self.gateway.prefix },
            slot: self.slot.into(),
            next_hop: self.next_hop.into(),
        }
    }
}

impl Blueprint {
    /// The blueprint of a pool whose devices have that MTU.
    #[must_use]
    pub fn new(config: &Config, mtu: u32) -> Self {
        let mut whole = Parts::NONE;
        let v6 = config.guest.ip6.is_some() && config.slot_cidr6.is_some();
        for part in Part::ALL {
            whole.set(part, is_wanted(part, v6));
        }
        Self {
            slots: config.slots,
            ifindex_base: config.ifindex_base,
            guest: config.guest.clone(),
            slot_cidr: config.slot_cidr,
            slot_cidr6: config.slot_cidr6,
            mtu,
            rules: None,
            tap_program: None,
            forward: config.forward,
            tunnel: None,
            whole,
        }
    }

    /// The same with rules of which a slot has these tables, sorted; none, where a slot shall have no rules.
    #[must_use]
    pub fn with_rules(mut self, tables: Vec<Table>) -> Self {
        self.whole.set(Part::Rules, !tables.is_empty());
        self.rules = Some(tables);
        self
    }

    /// The same with a loaded program for the taps.
    #[must_use]
    pub const fn with_tap_program(mut self, id: Option<u32>) -> Self {
        self.tap_program = id;
        self
    }

    /// The same with a tunnel device in each slot, which believes to send to `remote`.
    #[must_use]
    pub fn with_tunnels(mut self, vni_base: u32, remote: IpAddr) -> Self {
        let v6 = self.whole.has(Part::SlotAddress6);
        for part in [Part::Tunnel, Part::TunnelRule, Part::TunnelUp, Part::TunnelRoute, Part::TunnelNextHop] {
            self.whole.set(part, true);
        }
        for part in [Part::TunnelRule6, Part::TunnelRoute6, Part::TunnelNextHop6] {
            self.whole.set(part, v6);
        }
        self.tunnel = Some((vni_base, remote));
        self
    }

    /// Whether each slot has a tunnel device.
    #[must_use]
    pub const fn has_tunnels(&self) -> bool {
        self.tunnel.is_some()
    }

    /// The program on every tap.
    #[must_use]
    pub const fn tap_program(&self) -> Option<u32> {
        self.tap_program
    }

    /// Whether the host ends hand what they receive to root's routing.
    #[must_use]
    pub fn host_ends_forward(&self) -> bool {
        self.forward == Forward::Stack
    }

    /// The tables of the slots' rules; `None` = nothing is known of rules.
    #[must_use]
    pub fn rules(&self) -> Option<&[Table]> {
        self.rules.as_deref()
    }

    /// The slots that should be.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = SlotId> + use<> {
        SlotId::first(self.slots)
    }

    /// Whether the slot should be.
    #[must_use]
    pub fn has(&self, slot: SlotId) -> bool {
        slot.number() < self.slots
    }

    /// The slot whose host end should have that index.
    #[must_use]
    pub fn slot_at(&self, index: u32) -> Option<SlotId> {
        index.checked_sub(self.ifindex_base).filter(|n| *n < self.slots).and_then(SlotId::new)
    }

    /// What a whole slot consists of.
    #[must_use]
    pub fn whole(&self) -> Parts {
        self.whole
    }

    /// The slot spelt out.
    #[must_use]
    pub fn slot(&self, slot: SlotId) -> SlotSpec {
        let index = address::slot_ifindex(self.ifindex_base, slot);
        let guest = &self.guest;
        let device = |name: LinkName, index, mac| Device { name, index, mac, mtu: self.mtu };
        SlotSpec {
            slot,
            forwards: self.host_ends_forward(),
            host_end: device(address::host_end(slot), index, address::host_end_mac(slot)),
            up: device(fixed(inside::UP), IfIndex(inside::UP_INDEX), address::up_mac(slot)),
            bridge: device(fixed(inside::BRIDGE), IfIndex(inside::BRIDGE_INDEX), guest.gateway_mac),
            tap: device(guest.tap, index, address::TAP_MAC),
            tunnel: self.tunnel.map(|(vni_base, remote)| Geneve {
                device: device(fixed(inside::TUNNEL), IfIndex(inside::TUNNEL_INDEX), GENEVE_MAC),
                vni: address::dummy_vni(vni_base, slot),
                remote,
                port: GENEVE_PORT,
            }),
            tap_owner: (guest.owner, guest.group),
            v4: Addresses {
                guest: guest.ip.addr,
                gateway: Net { addr: guest.gateway_ip, prefix: guest.ip.prefix },
                slot: address::slot_ip(self.slot_cidr, slot),
                next_hop: address::next_hop(self.slot_cidr),
            },
            v6: guest.ip6.zip(guest.gateway_ip6).zip(self.slot_cidr6).map(|((ip, gateway), range)| Addresses {
                guest: ip.addr,
                gateway: Net { addr: gateway, prefix: ip.prefix },
                slot: address::slot_ip6(range, slot),
                next_hop: address::next_hop6(range),
            }),
            guest_mac: guest.mac,
        }
    }
}

fn fixed(name: &str) -> LinkName {
    name.parse().expect("a constant name that fits")
}

fn is_wanted(part: Part, v6: bool) -> bool {
    match part {
        Part::GatewayAddress6
        | Part::SlotAddress6
        | Part::DefaultRoute6
        | Part::NextHop6
        | Part::GuestNeighbour6
        | Part::HostRoute6
        | Part::HostNeighbour6 => v6,
        Part::HostEndQuiet => !v6,
        Part::Rules
        | Part::Tunnel
        | Part::TunnelRule
        | Part::TunnelRule6
        | Part::TunnelUp
        | Part::TunnelRoute
        | Part::TunnelRoute6
        | Part::TunnelNextHop
        | Part::TunnelNextHop6 => false, // until they are known
        Part::Namespace
        | Part::Bridge
        | Part::VethPair
        | Part::Tap
        | Part::TapOnBridge
        | Part::TapProgram
        | Part::GatewayAddress
        | Part::SlotAddress
        | Part::LoopbackUp
        | Part::BridgeUp
        | Part::TapUp
        | Part::UplinkUp
        | Part::DefaultRoute
        | Part::NextHop
        | Part::GuestNeighbour
        | Part::HostEndBlocks
        | Part::HostEndUp
        | Part::HostRoute
        | Part::HostNeighbour => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_slots_share_a_name_index_mac_or_address() {
        let mut config = Config { slots: crate::limits::SLOTS_MAX, ..Config::default() };
        config.slot_cidr6 = "fd00:6e73::/64".parse().ok();
        config.guest.ip6 = "fd00:6775::2/64".parse().ok();
        config.guest.gateway_ip6 = "fd00:6775::1".parse().ok();
        let blueprint = Blueprint::new(&config, 1450);
        let mut seen = HashSet::new();
        for slot in blueprint.slots() {
            let spec = blueprint.slot(slot);
            let v6 = spec.v6.expect("configured");
            let unique = [
                spec.host_end.name.to_string(),
                format!("index {}", spec.host_end.index),
                spec.host_end.mac.to_string(),
                spec.up.mac.to_string(),
                spec.v4.slot.to_string(),
                v6.slot.to_string(),
                address::vault_name(slot),
                format!("vni {}", address::dummy_vni(config.vni_base, slot)),
            ];
            for value in unique {
                assert!(seen.insert(value.clone()), "slot {slot} shares {value}");
            }
            for shared in [spec.v4.next_hop.to_string(), v6.next_hop.to_string(), spec.bridge.mac.to_string()] {
                assert!(!seen.contains(&shared), "slot {slot}'s next hop or gateway is some slot's own {shared}");
            }
        }
    }
}
