//! What stands on the network of the host against what the pool will put there: uplink, names, indexes, addresses; pure.

use std::net::IpAddr;

use super::{Finding, Level};
use crate::address::{self, Ipv4Net, Ipv6Net, Net};
use crate::config::Config;
use crate::netlink::observed::{Address, Link, Route};
use crate::slot::SlotId;
use crate::underlay::{self, UnderlayError};

/// What rtnetlink shows.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

/// Judges all of it, in a fixed order.
pub(super) fn judge(config: &Config, network: &Network) -> [Finding; 5] {
    [
        uplink(config, network),
        device_names(config, network),
        device_indexes(config, network),
        slot_addresses(config, network),
        guest_addresses(config, network),
    ]
}

fn uplink(config: &Config, network: &Network) -> Finding {
    let why = "unbound slots and tunnels leave the host by it, and its MTU decides the guests'";
    match underlay::resolve(config, &network.links, &network.routes) {
        Ok(found) => {
            Finding::fine("uplink", format!("{}, MTU {} inside the slots", found.uplink, found.mtu), "one", why)
        }
        Err(error) => {
            // With a configured MTU a pool can be made before there is a network, as in an initramfs.
            let early = config.mtu.is_some() && matches!(error, UnderlayError::NoDefaultRoute(_));
            let level = if early { Level::Note } else { Level::Lack };
            let mend = "set `uplink`, or bring the network up first";
            Finding::fine("uplink", error.to_string(), "one", why).unless(false, level, mend)
        }
    }
}

fn device_names(config: &Config, network: &Network) -> Finding {
    let clashes = |link: &&Link| {
        let slot = address::slot_of_host_end(&link.name);
        slot.is_some_and(|slot| slot.number() < config.slots_max) && !is_ours(link)
    };
    let names: Vec<&str> = network.links.iter().filter(clashes).map(|link| &*link.name).collect();
    let last = SlotId::new(config.slots_max - 1).map_or_else(String::new, |s| address::host_end(s).to_string());
    let mend = format!("ip link set {} name other0, or 'ip link del'", names.first().unwrap_or(&"slot0"));
    Finding::fine(
        "device names",
        some(&names, "no clash"),
        format!("slot0 to {last} are not another's"),
        "the host ends bear these names",
    )
    .unless(names.is_empty(), Level::Lack, mend)
}

fn device_indexes(config: &Config, network: &Network) -> Finding {
    let base = config.ifindex_base;
    let clashes = |link: &&Link| link.index.checked_sub(base).is_some_and(|n| n < config.slots_max) && !is_ours(link);
    let links: Vec<String> =
        network.links.iter().filter(clashes).map(|l| format!("{} (index {})", l.name, l.index)).collect();
    let free = network.links.iter().map(|link| link.index).max().unwrap_or(0).saturating_add(100_000);
    Finding::fine(
        "device indexes",
        some(&links, "no clash"),
        format!("{base} to {} are not another's", base + (config.slots_max - 1)),
        "a program knows its slot from the index of the host end",
    )
    .unless(links.is_empty(), Level::Lack, format!("ifindex_base = {free} in the configuration"))
}

fn slot_addresses(config: &Config, network: &Network) -> Finding {
    let range = config.slot_cidr;
    let range6 = config.slot_cidr6;
    let inside = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => range.contains(addr),
        IpAddr::V6(addr) => range6.is_some_and(|range| range.contains(addr)),
    };
    let name_of = |index: u32| link_name(network, index);
    let ours = |index: u32| network.links.iter().any(|link| link.index == index && is_ours(link));
    let mut clashes: Vec<String> = network
        .addresses
        .iter()
        .filter(|address| inside(address.addr) && !ours(address.index))
        .map(|address| format!("{} on {}", address.addr, name_of(address.index)))
        .collect();
    let mut wider = Vec::new();
    for route in network.routes.iter().filter(|route| route.prefix > 0 && !ours(route.index)) {
        let told = || format!("a route to {} by {}", net_text(route), name_of(route.index));
        match overlap(route, range, range6) {
            Some(Overlap::Within) => clashes.push(told()),
            Some(Overlap::Around) => wider.push(told()),
            None => {}
        }
    }
    let need = match range6 {
        Some(range6) => format!("{range} and {range6} are not another's"),
        None => format!("{range} is not another's"),
    };
    let why = "each slot has an address of this range, and the host a route to it";
    let level = if clashes.is_empty() { Level::Note } else { Level::Lack };
    let fits = clashes.is_empty() && wider.is_empty();
    clashes.extend(wider);
    let mend = "choose another slot_cidr, unless this part of that network was set aside for the slots";
    Finding::fine("slot addresses", some(&clashes, "no clash"), need, why).unless(fits, level, mend)
}

fn guest_addresses(config: &Config, network: &Network) -> Finding {
    let guest = config.guest.ip;
    let guest6 = config.guest.ip6;
    let inside = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => guest.contains(addr),
        IpAddr::V6(addr) => guest6.is_some_and(|guest| guest.contains(addr)),
    };
    let mut clashes: Vec<String> = network
        .addresses
        .iter()
        .filter(|address| inside(address.addr))
        .map(|address| format!("{} on {}", address.addr, link_name(network, address.index)))
        .collect();
    let within = |route: &&Route| route.prefix > 0 && matches!(overlap(route, guest, guest6), Some(Overlap::Within));
    let routes = network.routes.iter().filter(within);
    clashes.extend(routes.map(|r| format!("a route to {} by {}", net_text(r), link_name(network, r.index))));
    let network_text = Net { addr: guest.network(), ..guest };
    Finding::fine(
        "guest addresses",
        some(&clashes, "no clash"),
        format!("{network_text} is in use nowhere but inside the slots"),
        "a guest takes these addresses for its own link, and reaches nobody else who has them",
    )
    .unless(clashes.is_empty(), Level::Note, "choose another guest.ip, unless no guest needs to reach those")
}

/// A host end that netslot made.
pub(super) fn is_ours(link: &Link) -> bool {
    link.kind == "veth" && address::is_host_end_group(link.group)
}

fn link_name(network: &Network, index: u32) -> &str {
    network.links.iter().find(|link| link.index == index).map_or("several devices", |link| &*link.name)
}

/// How a route's network lies to a range.
enum Overlap {
    /// It is the range or a part of it.
    Within,
    /// It holds the range and more.
    Around,
}

fn overlap(route: &Route, range: Ipv4Net, range6: Option<Ipv6Net>) -> Option<Overlap> {
    let (overlaps, prefix) = match route.to? {
        IpAddr::V4(addr) => (range.overlaps(Net { addr, prefix: route.prefix }), range.prefix),
        IpAddr::V6(addr) => {
            let range6 = range6?;
            (range6.overlaps(Net { addr, prefix: route.prefix }), range6.prefix)
        }
    };
    overlaps.then_some(if route.prefix >= prefix { Overlap::Within } else { Overlap::Around })
}

fn net_text(route: &Route) -> String {
    route.to.map_or_else(|| "anywhere".into(), |to| format!("{to}/{}", route.prefix))
}

/// The first of many, or that there is none.
pub(super) fn some(things: &[impl AsRef<str>], none: &str) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = things.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match things.len() {
        0 => none.into(),
        n if n > SHOWN => format!("{} and {} more", shown.join(", "), n - SHOWN),
        _ => shown.join(", "),
    }
}
