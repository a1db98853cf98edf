//! Holds what the kernel's dumps say of a slot against its blueprint: which parts are there, or what is wrong beyond
//! adding to; pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use netslot_abi::TUNNEL_MARK;

use super::blueprint::{Addresses, Blueprint, SlotSpec};
use super::part::{Part, Parts};
use crate::address;
use crate::address::inside::TUNNEL_TABLE;
use crate::bpf::attach::{self, BLOCKS};
use crate::netlink::nft::Table;
use crate::netlink::observed::{Address, Link, MarkRule, Neighbour, Route};
use crate::netlink::route::{Device, MAIN_TABLE};
use crate::netlink::tc::{Qdisc, Shown};
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
    /// Routing rules that look at marks; read where the pool has tunnel devices.
    pub rules: Vec<MarkRule>,
    /// netslot's own tables of nf_tables, sorted.
    pub tables: Vec<Table>,
    /// The programs on what the tap receives, in their order.
    pub tap_programs: Vec<Shown>,
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
    blocks: Option<(u32, u32)>,
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
        qdiscs: &[Qdisc],
    ) -> Result<Self, Foreign> {
        let mut dump = Self::default();
        let mut slot_of_index = HashMap::new();
        for link in links {
            let ours = address::is_host_end_group(link.group) && link.kind == "veth";
            // A device named for a slot that the pool has not is nobody's business.
            let by_name = address::slot_of_host_end(&link.name).filter(|s| ours || blueprint.has(*s));
            let by_index = blueprint.slot_at(link.index);
            match (ours, by_name, by_index) {
                (true, Some(slot), _) => {
                    slot_of_index.insert(link.index, slot);
                    dump.ends.insert(slot, HostEnd { link, routes: Vec::new(), neighbours: Vec::new(), blocks: None });
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
        for qdisc in qdiscs.iter().filter(|q| q.clsact) {
            if let Some(end) = slot_of_index.get(&qdisc.index).and_then(|slot| dump.ends.get_mut(slot)) {
                end.blocks = Some(qdisc.blocks);
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
pub fn inspect(blueprint: &Blueprint, slot: SlotId, inside: Option<&InsideDump>, host: &HostDump) -> Found {
    let spec = &blueprint.slot(slot);
    let end = host.ends.get(&spec.slot);
    let Some(inside) = inside else {
        return match end {
            Some(_) => Found::Wrong { why: "a host end without a namespace in the vault".into() },
            None => Found::Parts(Parts::NONE),
        };
    };
    let mut parts = Parts::of(&[Part::Namespace]);
    let looked = look_inside(spec, inside, &mut parts)
        .and_then(|()| look_at_rules(blueprint.rules(), inside, &mut parts))
        .and_then(|()| look_at_tap_program(blueprint.tap_program(), inside, &mut parts))
        .and_then(|()| look_at_host_end(spec, end, &mut parts));
    match looked {
        Ok(()) => Found::Parts(parts),
        Err(why) => Found::Wrong { why },
    }
}

fn look_inside(spec: &SlotSpec, inside: &InsideDump, parts: &mut Parts) -> Result<(), String> {
    let link = |device: &Device| inside.links.iter().find(|l| l.name == device.name.as_str());
    let devices = || [&spec.bridge, &spec.up, &spec.tap].into_iter().chain(spec.tunnel.as_ref().map(|t| &t.device));
    for l in &inside.links {
        let known = l.loopback || devices().any(|d| l.name == d.name.as_str());
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
    if let Some(tunnel) = &spec.tunnel
        && let Some(found) = link(&tunnel.device)
    {
        matches_device(found, &tunnel.device, "geneve")?;
        matches_mtu(found, &tunnel.device)?;
        if found.vni != Some(tunnel.vni) {
            return Err(format!("{} has VNI {:?}, not the dummy {}", found.name, found.vni, tunnel.vni));
        }
        parts.set(Part::Tunnel, true);
        parts.set(Part::TunnelUp, found.up);
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
    let default = |index, table| {
        let by =
            |r: &Route| (r.ipv6, r.prefix, r.index, r.via, r.table) == (v6, 0, index, Some(expected.next_hop), table);
        inside.routes.iter().any(by)
    };
    parts.set(either(P::DefaultRoute, P::DefaultRoute6), default(up, MAIN_TABLE));
    let knows = |index, addr, mac| {
        inside.neighbours.iter().any(|n| n.index == index && n.addr == addr && n.mac == Some(mac) && n.permanent)
    };
    parts.set(either(P::NextHop, P::NextHop6), knows(up, expected.next_hop, spec.host_end.mac));
    parts.set(either(P::GuestNeighbour, P::GuestNeighbour6), knows(bridge, expected.guest, spec.guest_mac));
    if let Some(tunnel) = &spec.tunnel {
        let (index, marked) = (tunnel.device.index.0, MarkRule { ipv6: v6, mark: TUNNEL_MARK, table: TUNNEL_TABLE });
        parts.set(either(P::TunnelRule, P::TunnelRule6), inside.rules.contains(&marked));
        parts.set(either(P::TunnelRoute, P::TunnelRoute6), default(index, TUNNEL_TABLE));
        let next_hop = knows(index, expected.next_hop, spec.host_end.mac);
        parts.set(either(P::TunnelNextHop, P::TunnelNextHop6), next_hop);
    }
    Ok(())
}

/// A slot has its rules if it has their tables, each with their mark: what is in the tables came with them in one
/// transaction. Whether somebody has changed it since is for the scrub's fingerprint to see.
fn look_at_rules(rules: Option<&[Table]>, inside: &InsideDump, parts: &mut Parts) -> Result<(), String> {
    match rules {
        None => Ok(()),
        Some([]) if inside.tables.is_empty() => Ok(()),
        Some([]) => Err("it has rules, and the configuration has none".into()),
        Some(wanted) => {
            let there = inside.tables == wanted && parts.has_all(Part::Rules.needs());
            parts.set(Part::Rules, there);
            Ok(())
        }
    }
}

/// Our filter with another program is one to be replaced; another's filter has come with a tenant, or with an admin.
fn look_at_tap_program(id: Option<u32>, inside: &InsideDump, parts: &mut Parts) -> Result<(), String> {
    if let Some(other) = inside.tap_programs.iter().find(|shown| !attach::is_ours(shown)) {
        return Err(format!("a program that is not the slot's on its tap: {}", other.name));
    }
    let there = id.is_some_and(|id| inside.tap_programs.iter().any(|shown| shown.program == id));
    parts.set(Part::TapProgram, there && parts.has(Part::Tap));
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
    match end.blocks {
        None => {}
        Some(BLOCKS) => parts.set(Part::HostEndBlocks, true),
        Some(_) => return Err(format!("{} has a clsact qdisc outside of netslot's blocks", spec.host_end.name)),
    }
    parts.set(Part::HostEndUp, end.link.up && (end.link.forwards || !spec.forwards) && parts.has(Part::HostEndBlocks));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::netlink::observed::Tap;
    use crate::slot::Mac;

    /// A slot as the kernel shows it when all of it is there.
    struct Slot {
        blueprint: Blueprint,
        spec: SlotSpec,
        inside: InsideDump,
        links: Vec<Link>,
        routes: Vec<Route>,
        neighbours: Vec<Neighbour>,
        qdiscs: Vec<Qdisc>,
    }

    fn shown(program: u32) -> Shown {
        Shown { priority: 1, name: "guest_in".into(), program }
    }

    fn link(device: &Device, kind: &str) -> Link {
        let (index, name, mac) = (device.index.0, device.name.to_string(), Some(device.mac));
        Link { index, name, kind: kind.into(), mac, mtu: device.mtu, up: true, ..Link::default() }
    }

    fn neighbour(index: u32, addr: IpAddr, mac: Mac) -> Neighbour {
        Neighbour { index, addr, mac: Some(mac), permanent: true }
    }

    impl Slot {
        fn whole() -> Self {
            let blueprint = Blueprint::new(&Config { slots: 4, ..Config::default() }, 1430).with_tap_program(Some(7));
            let spec = blueprint.slot(SlotId::new(3).expect("in range"));
            let (bridge, up) = (spec.bridge.index.0, spec.up.index.0);
            let v4 = spec.v4.any();
            let tap = Tap { ethernet: true, vnet_hdr: true, persist: true, ..Tap::default() };
            let route = |to, prefix, via, index| Route { table: 254, ipv6: false, to, prefix, via, index, metric: 0 };
            let loopback = Link { index: 1, name: "lo".into(), loopback: true, up: true, ..Link::default() };
            let inside = InsideDump {
                links: vec![
                    loopback,
                    link(&spec.bridge, "bridge"),
                    link(&spec.up, "veth"),
                    Link { master: bridge, tap: Some(tap), ..link(&spec.tap, "tun") },
                ],
                addresses: vec![
                    Address { index: 1, addr: [127, 0, 0, 1].into(), prefix: 8, flags: 0 },
                    Address { index: bridge, addr: v4.gateway.addr, prefix: v4.gateway.prefix, flags: 0 },
                    Address { index: up, addr: v4.slot, prefix: 32, flags: 0 },
                ],
                routes: vec![route(None, 0, Some(v4.next_hop), up)],
                neighbours: vec![
                    neighbour(up, v4.next_hop, spec.host_end.mac),
                    neighbour(bridge, v4.guest, spec.guest_mac),
                ],
                rules: Vec::new(),
                tables: Vec::new(),
                tap_programs: vec![shown(7)],
            };
            let host = spec.host_end.index.0;
            let group = address::host_end_group(spec.slot);
            Self {
                inside,
                links: vec![Link { group, forwards: true, ..link(&spec.host_end, "veth") }],
                qdiscs: vec![Qdisc { index: host, clsact: true, blocks: BLOCKS }],
                routes: vec![route(Some(v4.slot), 32, None, host)],
                neighbours: vec![neighbour(host, v4.slot, spec.up.mac)],
                spec,
                blueprint,
            }
        }

        fn judge(self) -> Found {
            let (routes, neighbours) = (&self.routes, &self.neighbours);
            let host = HostDump::new(&self.blueprint, self.links, routes, neighbours, &self.qdiscs).expect("ours");
            inspect(&self.blueprint, self.spec.slot, Some(&self.inside), &host)
        }
    }

    #[test]
    fn a_slot_that_has_everything_is_whole() {
        let slot = Slot::whole();
        let whole = slot.blueprint.whole();
        assert_eq!(slot.judge(), Found::Parts(whole));
    }

    #[test]
    fn what_is_missing_is_missing_and_nothing_else() {
        let lacks = |change: fn(&mut Slot), parts: &[Part]| {
            let mut slot = Slot::whole();
            let whole = slot.blueprint.whole();
            change(&mut slot);
            assert_eq!(slot.judge(), Found::Parts(whole.without(Parts::of(parts))), "{parts:?}");
        };
        lacks(|s| s.inside.links[0].up = false, &[Part::LoopbackUp]);
        lacks(|s| s.inside.links[3].up = false, &[Part::TapUp]);
        lacks(|s| s.inside.links[3].master = 0, &[Part::TapOnBridge]);
        lacks(|s| s.inside.addresses.truncate(2), &[Part::SlotAddress]);
        lacks(|s| s.inside.routes.clear(), &[Part::DefaultRoute]);
        lacks(|s| s.inside.routes[0].via = Some([100, 64, 0, 9].into()), &[Part::DefaultRoute]);
        lacks(|s| s.inside.neighbours[0].permanent = false, &[Part::NextHop]);
        lacks(|s| s.inside.neighbours[1].mac = None, &[Part::GuestNeighbour]);
        lacks(|s| s.links[0].up = false, &[Part::HostEndUp]);
        lacks(|s| s.links[0].forwards = false, &[Part::HostEndUp]);
        lacks(|s| s.qdiscs.clear(), &[Part::HostEndBlocks, Part::HostEndUp]);
        lacks(|s| s.inside.tap_programs.clear(), &[Part::TapProgram]);
        lacks(|s| s.inside.tap_programs[0].program = 6, &[Part::TapProgram]);
        lacks(|s| s.links[0].ipv6 = true, &[Part::HostEndQuiet]);
        lacks(|s| s.routes.clear(), &[Part::HostRoute]);
        lacks(|s| s.neighbours.clear(), &[Part::HostNeighbour]);
    }

    #[test]
    fn what_cannot_be_added_to_is_wrong_and_says_in_what() {
        let wrong = |change: fn(&mut Slot), words: &str| {
            let mut slot = Slot::whole();
            change(&mut slot);
            let found = slot.judge();
            assert!(matches!(&found, Found::Wrong { why } if why.contains(words)), "{words}: {found:?}");
        };
        wrong(|s| s.inside.links[1].kind = "dummy".into(), "br0 is a dummy device, not bridge");
        wrong(|s| s.inside.links[1].mac = Some(Mac([2, 0, 0, 0, 0, 9])), "br0 has MAC 02:00:00:00:00:09");
        wrong(|s| s.inside.links[2].mtu = 1500, "up0 has MTU 1500, not 1430");
        wrong(|s| s.inside.links[3].index = 9, "tap0 has index 9");
        wrong(|s| s.inside.links[3].tap = None, "tap0 is no tap");
        wrong(|s| s.inside.links[3].tap.as_mut().expect("a tap").owner = Some(7), "belongs to user Some(7)");
        wrong(|s| s.inside.links[3].tap.as_mut().expect("a tap").multi_queue = true, "several queues");
        wrong(|s| s.inside.addresses[1].prefix = 24, "an address that is not the slot's: 172.16.0.1");
        wrong(|s| s.inside.links.push(link(&s.spec.host_end, "veth")), "a device that is not the slot's");
        wrong(|s| s.inside.tap_programs.push(Shown { priority: 2, ..shown(9) }), "a program that is not the slot's");
        wrong(|s| s.qdiscs[0].blocks = (0, 0), "slot3 has a clsact qdisc outside");
        wrong(|s| s.links.clear(), "up0 without its host end slot3");
        wrong(|s| drop(s.inside.links.remove(2)), "a host end whose other end is not in the slot");
    }

    #[test]
    fn a_host_end_alone_is_wrong_and_nothing_is_nothing() {
        let slot = Slot::whole();
        let host = HostDump::new(&slot.blueprint, slot.links, &[], &[], &[]).expect("ours");
        let id = slot.spec.slot;
        assert!(matches!(inspect(&slot.blueprint, id, None, &host), Found::Wrong { .. }));
        assert_eq!(inspect(&slot.blueprint, id, None, &HostDump::default()), Found::Parts(Parts::NONE));
    }

    #[test]
    fn rules_are_there_with_their_mark_and_the_devices_that_they_may_hang_on() {
        let with = |there: &[Table], tap: bool| {
            let mut slot = Slot::whole();
            slot.blueprint = slot.blueprint.with_rules(vec![table(1)]);
            slot.inside.tables = there.to_vec();
            let index = slot.spec.tap.index.0;
            slot.inside.links.retain(|link| tap || link.index != index);
            let whole = slot.blueprint.whole();
            assert!(whole.has(Part::Rules));
            match slot.judge() {
                Found::Parts(parts) => parts.has(Part::Rules),
                Found::Wrong { why } => panic!("{why}"),
            }
        };
        assert!(with(&[table(1)], true));
        assert!(!with(&[table(1)], false), "chains may have gone with the tap");
        assert!(!with(&[table(2)], true), "another ruleset's");
        assert!(!with(&[], true));
        assert!(!with(&[table(1), table(2)], true));
    }

    #[test]
    fn rules_that_nobody_wants_are_wrong() {
        let mut slot = Slot::whole();
        slot.inside.tables = vec![table(1)];
        slot.blueprint = slot.blueprint.with_rules(Vec::new());
        assert!(matches!(slot.judge(), Found::Wrong { .. }));
    }

    fn table(mark: u8) -> Table {
        Table { family: 1, name: b"filter\0".to_vec(), mark: Some(crate::netlink::nft::Mark([mark; 16])) }
    }
}
