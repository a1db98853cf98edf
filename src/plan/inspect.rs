//! Holds what the kernel's dumps say of a slot against its blueprint: which parts are there, or what is wrong beyond
//! adding to; pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::blueprint::{Addresses, Blueprint, SlotSpec};
use super::part::{Part, Parts};
use crate::address;
use crate::netlink::observed::{Address, Link, Neighbour, Route};
use crate::netlink::route::Device;
use crate::slot::SlotId;

/// What there is of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These parts, each as it should be.
    Parts(Parts),
    /// Something that cannot be mended by adding to it.
    Wrong {
        /// What, for people.
        why: String,
    },
}

/// All that was seen of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every slot of which anything exists.
    pub slots: BTreeMap<SlotId, Found>,
}

/// The dumps of one slot's namespace.
#[derive(Clone, Debug, Default)]
pub struct InsideDump {
    /// Devices.
    pub links: Vec<Link>,
    /// Addresses of both families.
    pub addresses: Vec<Address>,
    /// Routes of both families.
    pub routes: Vec<Route>,
    /// Neighbours of both families.
    pub neighbours: Vec<Neighbour>,
}

/// What root shows of the pool's host ends, sorted by slot.
#[derive(Clone, Debug, Default)]
pub struct HostDump {
    ends: HashMap<SlotId, HostEnd>,
}

#[derive(Clone, Debug)]
struct HostEnd {
    link: Link,
    routes: Vec<IpAddr>,
    neighbours: Vec<Neighbour>,
}

/// A device in root that bears a host end's name or index and is not ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "device {name} (index {index}) in this namespace stands where slot {slot}'s host end belongs, and was not made by \
     netslot: rename or delete it, or choose another ifindex_base"
)]
pub struct Foreign {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The slot whose place it takes.
    pub slot: SlotId,
}

impl HostDump {
    /// Sorts root's dumps by slot.
    ///
    /// # Errors
    /// [`Foreign`] where a device that is not ours takes a host end's name or index.
    pub fn new(
        blueprint: &Blueprint,
        links: Vec<Link>,
        routes: &[Route],
        neighbours: &[Neighbour],
    ) -> Result<Self, Foreign> {
        let mut dump = Self::default();
        let mut slot_of_index = HashMap::new();
        for link in links {
            let ours = address::is_host_end_group(link.group) && link.kind == "veth";
            let by_name = address::slot_of_host_end(&link.name);
            let by_index = blueprint.slot_at(link.index);
            match (ours, by_name, by_index) {
                (true, Some(slot), _) => {
                    slot_of_index.insert(link.index, slot);
                    dump.ends.insert(slot, HostEnd { link, routes: Vec::new(), neighbours: Vec::new() });
                }
                (_, None, Some(slot)) | (false, Some(slot), _) => {
                    return Err(Foreign { name: link.name, index: link.index, slot });
                }
                (_, None, None) => {}
            }
        }
        for route in routes {
            if let Some(end) = slot_of_index.get(&route.index).and_then(|slot| dump.ends.get_mut(slot)) {
                end.routes.extend(route.to);
            }
        }
        for neighbour in neighbours {
            if let Some(end) = slot_of_index.get(&neighbour.index).and_then(|slot| dump.ends.get_mut(slot)) {
                end.neighbours.push(*neighbour);
            }
        }
        Ok(dump)
    }

    /// The slots that have a host end.
    pub fn slots(&self) -> impl Iterator<Item = SlotId> {
        self.ends.keys().copied()
    }
}

/// Judges one slot: `inside` is `None` where the vault holds no namespace for it.
#[must_use]
pub fn inspect(spec: &SlotSpec, inside: Option<&InsideDump>, host: &HostDump) -> Found {
    let end = host.ends.get(&spec.slot);
    let Some(inside) = inside else {
        return match end {
            Some(_) => Found::Wrong { why: "a host end without a namespace in the vault".into() },
            None => Found::Parts(Parts::NONE),
        };
    };
    let mut parts = Parts::of(&[Part::Namespace]);
    match look_inside(spec, inside, &mut parts).and_then(|()| look_at_host_end(spec, end, &mut parts)) {
        Ok(()) => Found::Parts(parts),
        Err(why) => Found::Wrong { why },
    }
}

fn look_inside(spec: &SlotSpec, inside: &InsideDump, parts: &mut Parts) -> Result<(), String> {
    let link = |device: &Device| inside.links.iter().find(|l| l.name == device.name.as_str());
    for l in &inside.links {
        let known = l.loopback || [&spec.bridge, &spec.up, &spec.tap].iter().any(|d| l.name == d.name.as_str());
        // A module's fallback tunnel (sit0, …) comes with every namespace; it is nobody's doing.
        if !known && matches!(l.kind.as_str(), "veth" | "bridge" | "tun" | "vxlan" | "geneve") {
            return Err(format!("a device that is not the slot's: {}", l.name));
        }
    }
    parts.set(Part::LoopbackUp, inside.links.iter().any(|l| l.loopback && l.up));
    if let Some(bridge) = link(&spec.bridge) {
        matches_device(bridge, &spec.bridge, "bridge")?;
        parts.set(Part::Bridge, true);
        parts.set(Part::BridgeUp, bridge.up);
    }
    if let Some(up) = link(&spec.up) {
        matches_device(up, &spec.up, "veth")?;
        matches_mtu(up, &spec.up)?;
        parts.set(Part::VethPair, true);
        parts.set(Part::UplinkUp, up.up);
    }
    if let Some(tap) = link(&spec.tap) {
        matches_tap(tap, spec)?;
        let on_bridge = tap.master == spec.bridge.index.0;
        if on_bridge {
            matches_device(tap, &spec.tap, "tun")?;
            matches_mtu(tap, &spec.tap)?;
            // Without a port the bridge's MTU is its default: it follows the ports' (br_mtu_auto_adjust).
            link(&spec.bridge).map_or(Ok(()), |bridge| matches_mtu(bridge, &spec.bridge))?;
        }
        parts.set(Part::Tap, true);
        parts.set(Part::TapOnBridge, on_bridge);
        parts.set(Part::TapUp, tap.up);
    }
    look_at_family(spec, &spec.v4.any(), inside, parts)?;
    if let Some(v6) = &spec.v6 {
        look_at_family(spec, &v6.any(), inside, parts)?;
    }
    Ok(())
}

fn look_at_family(
    spec: &SlotSpec,
    expected: &Addresses<IpAddr>,
    inside: &InsideDump,
    parts: &mut Parts,
) -> Result<(), String> {
    use Part as P;
    let v6 = expected.slot.is_ipv6();
    let either = |v4: Part, six: Part| if v6 { six } else { v4 };
    let (bridge, up) = (spec.bridge.index.0, spec.up.index.0);
    for a in &inside.addresses {
        if a.addr.is_ipv6() != v6 || is_link_local(a.addr) {
            continue;
        }
        let part = match (a.index, a.addr) {
            (i, addr) if i == bridge && addr == expected.gateway.addr && a.prefix == expected.gateway.prefix => {
                either(P::GatewayAddress, P::GatewayAddress6)
            }
            (i, addr) if i == up && addr == expected.slot => either(P::SlotAddress, P::SlotAddress6),
            (i, addr) if i == bridge || i == up => return Err(format!("an address that is not the slot's: {addr}")),
            _ => continue, // loopback's own
        };
        parts.set(part, true);
    }
    let default = |r: &&Route| r.ipv6 == v6 && r.prefix == 0 && r.index == up && r.via == Some(expected.next_hop);
    parts.set(either(P::DefaultRoute, P::DefaultRoute6), inside.routes.iter().any(|r| default(&r)));
    let knows = |index, addr, mac| {
        inside.neighbours.iter().any(|n| n.index == index && n.addr == addr && n.mac == Some(mac) && n.permanent)
    };
    parts.set(either(P::NextHop, P::NextHop6), knows(up, expected.next_hop, spec.host_end.mac));
    parts.set(either(P::GuestNeighbour, P::GuestNeighbour6), knows(bridge, expected.guest, spec.guest_mac));
    Ok(())
}

fn look_at_host_end(spec: &SlotSpec, end: Option<&HostEnd>, parts: &mut Parts) -> Result<(), String> {
    let end = match (end, parts.has(Part::VethPair)) {
        (Some(end), true) => end,
        (None, false) => return Ok(()),
        (Some(_), false) => return Err("a host end whose other end is not in the slot".into()),
        (None, true) => return Err(format!("up0 without its host end {} in this namespace", spec.host_end.name)),
    };
    matches_device(&end.link, &spec.host_end, "veth")?;
    matches_mtu(&end.link, &spec.host_end)?;
    parts.set(Part::HostEndQuiet, !end.link.ipv6);
    parts.set(Part::HostEndUp, end.link.up);
    let knows =
        |addr: IpAddr| end.neighbours.iter().any(|n| n.addr == addr && n.mac == Some(spec.up.mac) && n.permanent);
    parts.set(Part::HostRoute, end.routes.contains(&spec.v4.slot.into()));
    parts.set(Part::HostNeighbour, knows(spec.v4.slot.into()));
    if let Some(v6) = &spec.v6 {
        parts.set(Part::HostRoute6, end.routes.contains(&v6.slot.into()));
        parts.set(Part::HostNeighbour6, knows(v6.slot.into()));
    }
    Ok(())
}

fn matches_device(link: &Link, expected: &Device, kind: &str) -> Result<(), String> {
    let name = expected.name;
    if link.kind != kind {
        return Err(format!("{name} is a {} device, not {kind}", link.kind));
    }
    if link.index != expected.index.0 {
        return Err(format!("{name} has index {}, not {}", link.index, expected.index));
    }
    if link.mac != Some(expected.mac) {
        let mac = link.mac.map_or("none".into(), |m| m.to_string());
        return Err(format!("{name} has MAC {mac}, not {}", expected.mac));
    }
    Ok(())
}

fn matches_mtu(link: &Link, expected: &Device) -> Result<(), String> {
    if link.mtu != expected.mtu {
        return Err(format!("{} has MTU {}, not {}", expected.name, link.mtu, expected.mtu));
    }
    Ok(())
}

fn matches_tap(link: &Link, spec: &SlotSpec) -> Result<(), String> {
    let name = spec.tap.name;
    let tap = link.tap.filter(|t| t.ethernet).ok_or_else(|| format!("{name} is no tap"))?;
    if link.index != spec.tap.index.0 {
        return Err(format!("{name} has index {}, not {}", link.index, spec.tap.index));
    }
    if (tap.owner, tap.group) != spec.tap_owner {
        return Err(format!("{name} belongs to user {:?}, group {:?}", tap.owner, tap.group));
    }
    if !tap.persist || !tap.vnet_hdr || tap.multi_queue {
        return Err(format!("{name} is not persistent, has no virtio-net header, or several queues"));
    }
    Ok(())
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
