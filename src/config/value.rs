//! One TOML value → one field of the configuration, or the reason why not; it knows no key, no file, no other value.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Component, PathBuf};
use std::str::FromStr;

use toml::de::DeValue;

use crate::address::{self, Ipv4Net, Ipv6Net, Net, NetError};
use crate::limits::{PATH_BYTES_MAX, SOCKET_PATH_BYTES_MAX};
use crate::slot::{LinkName, LinkNameError, Mac, MacError, SlotId};

/// Why a value does not fit its key, and what would.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    #[error("{found} where {wanted} is due")]
    Type { found: &'static str, wanted: String },
    #[error("{value} is out of range: {wanted} is due")]
    Range { value: String, wanted: String },
    #[error("'{value}' is none of {words}{}", DidYouMean(*.near))]
    Word { value: String, words: String, near: Option<&'static str> },
    #[error(transparent)]
    Mac(#[from] MacError),
    #[error(
        "{0} is a multicast address or zero; a device's own address is unicast: an even first byte, as in \
         06:00:ac:10:00:02"
    )]
    MacNotUnicast(Mac),
    #[error("{0} is a slot's own: 02:4e:53:… and 06:4e:53:… are the ends of the veth pairs; take another prefix")]
    MacOfSlots(Mac),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("'{0}' is no {1}")]
    Address(String, &'static str),
    #[error("{net} has host bits set: {network} is the range that it lies in")]
    HostBits { net: String, network: String },
    #[error("{net} shares addresses with {other}, {what}: take a range that is yours, such as {example}")]
    Reserved { net: String, other: &'static str, what: &'static str, example: &'static str },
    #[error("{net}: a prefix of {min} to {max} is due, so that the network holds the guest and its gateway")]
    GuestPrefix { net: String, min: u8, max: u8 },
    #[error("{addr} is {what}, {which} address of {network}: no guest can have it")]
    GuestEdge { addr: IpAddr, what: &'static str, which: &'static str, network: String },
    #[error(transparent)]
    Link(#[from] LinkNameError),
    #[error("'{name}' starts with '{prefix}': systemd's stock networkd files take such devices over; as in {example}")]
    LinkPrefix { name: LinkName, prefix: &'static str, example: &'static str },
    #[error("'{0}' is taken: every slot has a device of that name")]
    LinkTaken(LinkName),
    #[error("'{0}' is the name of a slot's host end: the uplink is the host's own device towards the network")]
    LinkOfSlot(LinkName),
    #[error("'lo' reaches no network: the uplink is the host's own device towards it")]
    Loopback,
    #[error("'{0}' is not absolute: it starts with '/'")]
    PathRelative(String),
    #[error("'{0}' is no plain path: no '..', and more than '/' alone")]
    PathUnclean(String),
    #[error("the path is {bytes} bytes long, and {max} are the most{}", .why)]
    PathLong { bytes: usize, max: usize, why: &'static str },
    #[error("{0} entries, and {1} are the most")]
    TooMany(usize, usize),
    #[error("{0} (or \"{1}\")")]
    Or(Box<ValueError>, &'static str),
}

/// `: did you mean 'x'?`, or nothing.
#[derive(Debug)]
pub(super) struct DidYouMean(pub Option<&'static str>);

impl fmt::Display for DidYouMean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |word| write!(f, ": did you mean '{word}'?"))
    }
}

/// The word that was probably meant: the nearest, if one letter is wrong, and one more for each four that it has.
pub(super) fn nearest(typed: &str, words: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    let near = words.into_iter().map(|word| (distance(typed, word), word)).min()?;
    (near.0 <= 1 + near.1.len() / 4).then_some(near.1)
}

/// Insertions, deletions and replacements between two words (Levenshtein), of the first 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

fn string<'a>(value: &'a DeValue<'_>, wanted: &str) -> Result<&'a str, ValueError> {
    if let DeValue::String(text) = value {
        return Ok(text);
    }
    Err(ValueError::Type { found: type_name(value), wanted: wanted.into() })
}

/// A whole number within bounds.
pub(super) fn integer(value: &DeValue<'_>, min: u32, max: u32) -> Result<u32, ValueError> {
    integer_named(value, min, max, &format!("a whole number from {min} to {max}"))
}

fn integer_named(value: &DeValue<'_>, min: u32, max: u32, wanted: &str) -> Result<u32, ValueError> {
    let DeValue::Integer(number) = value else {
        return Err(ValueError::Type { found: type_name(value), wanted: wanted.into() });
    };
    // 128 bits, so that what does not fit is out of range and not unreadable.
    i128::from_str_radix(number.as_str(), number.radix())
        .ok()
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| ValueError::Range { value: number.to_string(), wanted: wanted.into() })
}

/// A user or group id. The largest is not one: the kernel's "no change" (-1).
pub(super) fn id(value: &DeValue<'_>) -> Result<u32, ValueError> {
    integer_named(value, 0, u32::MAX - 1, "a user or group id, a number as 'id -u NAME' or 'id -g NAME' prints it,")
}

/// A list of user ids.
pub(super) fn ids(value: &DeValue<'_>, max: usize) -> Result<Vec<u32>, ValueError> {
    list(value, max, "a list of user ids, as in [0, 1000],", id)
}

/// A list of name servers.
pub(super) fn name_servers(value: &DeValue<'_>, max: usize) -> Result<Vec<Ipv4Addr>, ValueError> {
    list(value, max, "a list of name servers, as in [\"192.0.2.53\"],", |each| {
        let server: Ipv4Addr = addr(each, "IPv4 address, as in \"192.0.2.53\"")?;
        let is_host = !(server.is_unspecified() || server.is_multicast() || server.is_broadcast());
        is_host.then_some(server).ok_or_else(|| ValueError::Address(server.to_string(), "host's IPv4 address"))
    })
}

/// A list of networks.
pub(super) fn routes(value: &DeValue<'_>, max: usize) -> Result<Vec<Ipv4Net>, ValueError> {
    list(value, max, "a list of networks, as in [\"10.0.0.0/8\"],", |each| {
        let net: Ipv4Net = net(each, "an IPv4 network, as in \"10.0.0.0/8\"")?;
        if net.addr != net.network() {
            let network = Net { addr: net.network(), ..net };
            return Err(ValueError::HostBits { net: net.to_string(), network: network.to_string() });
        }
        Ok(net)
    })
}

fn list<T>(
    value: &DeValue<'_>,
    max: usize,
    wanted: &str,
    read: impl Fn(&DeValue<'_>) -> Result<T, ValueError>,
) -> Result<Vec<T>, ValueError> {
    let DeValue::Array(list) = value else {
        return Err(ValueError::Type { found: type_name(value), wanted: wanted.into() });
    };
    if list.len() > max {
        return Err(ValueError::TooMany(list.len(), max));
    }
    list.iter().map(|each| read(each.get_ref())).collect()
}

/// `None` for that word, else what `read` makes of the value.
pub(super) fn unless<T>(
    value: &DeValue<'_>,
    word: &'static str,
    read: impl FnOnce(&DeValue<'_>) -> Result<T, ValueError>,
) -> Result<Option<T>, ValueError> {
    if matches!(value, DeValue::String(text) if text == word) {
        return Ok(None);
    }
    read(value).map(Some).map_err(|error| ValueError::Or(Box::new(error), word))
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, choices: &[T], name: fn(T) -> &'static str) -> Result<T, ValueError> {
    let words = || choices.iter().map(|choice| name(*choice));
    let list = || words().collect::<Vec<_>>().join(", ");
    let text = string(value, &format!("one of {}", list()))?;
    choices.iter().copied().find(|choice| name(*choice) == text).ok_or_else(|| ValueError::Word {
        value: text.into(),
        words: list(),
        near: nearest(text, words()),
    })
}

/// A device's own MAC, and none of those that slots are given.
pub(super) fn mac(value: &DeValue<'_>) -> Result<Mac, ValueError> {
    let mac: Mac = string(value, "a MAC address, as in \"06:00:ac:10:00:02\",")?.parse()?;
    if !mac.is_unicast() {
        return Err(ValueError::MacNotUnicast(mac));
    }
    let first = SlotId::new(0).expect("the first slot is one");
    let of_slots = [address::host_end_mac(first), address::up_mac(first)];
    if of_slots.iter().any(|own| own.0[..3] == mac.0[..3]) {
        return Err(ValueError::MacOfSlots(mac));
    }
    Ok(mac)
}

/// An address without a prefix.
pub(super) fn addr<A: FromStr>(value: &DeValue<'_>, what: &'static str) -> Result<A, ValueError> {
    let text = string(value, what)?;
    text.parse().map_err(|_| ValueError::Address(text.into(), what))
}

fn net<A>(value: &DeValue<'_>, wanted: &str) -> Result<Net<A>, ValueError>
where
    Net<A>: FromStr<Err = NetError>,
{
    Ok(string(value, wanted)?.parse()?)
}

type Reserved<A> = (&'static str, Net<A>, &'static str);

const fn v4(text: &'static str, addr: [u8; 4], prefix: u8, what: &'static str) -> Reserved<Ipv4Addr> {
    (text, Net { addr: Ipv4Addr::new(addr[0], addr[1], addr[2], addr[3]), prefix }, what)
}

/// Ranges whose addresses no packet on a network carries as a host's (RFC 6890).
const RESERVED_V4: [Reserved<Ipv4Addr>; 4] = [
    v4("0.0.0.0/8", [0, 0, 0, 0], 8, "\"this network\""),
    v4("127.0.0.0/8", [127, 0, 0, 0], 8, "loopback"),
    v4("224.0.0.0/4", [224, 0, 0, 0], 4, "multicast"),
    v4("240.0.0.0/4", [240, 0, 0, 0], 4, "reserved"),
];

/// Not for slots, whose addresses are routed; but guests do have such (each alone on its link, as several users of
/// Firecracker number theirs).
const LINK_LOCAL_V4: Reserved<Ipv4Addr> = v4("169.254.0.0/16", [169, 254, 0, 0], 16, "link-local");

const RESERVED_V6: [Reserved<Ipv6Addr>; 3] = [
    ("::/8", Net { addr: Ipv6Addr::UNSPECIFIED, prefix: 8 }, "loopback and mapped IPv4"),
    ("fe80::/10", Net { addr: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), prefix: 10 }, "link-local"),
    ("ff00::/8", Net { addr: Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), prefix: 8 }, "multicast"),
];

fn reserved<A: Copy>(
    net: Net<A>,
    ranges: &[Reserved<A>],
    overlaps: fn(Net<A>, Net<A>) -> bool,
    example: &'static str,
) -> Result<(), ValueError>
where
    Net<A>: fmt::Display,
{
    match ranges.iter().find(|(_, range, _)| overlaps(net, *range)) {
        Some((other, _, what)) => Err(ValueError::Reserved { net: net.to_string(), other, what, example }),
        None => Ok(()),
    }
}

/// The range of the slots' own addresses.
pub(super) fn slot_cidr(value: &DeValue<'_>) -> Result<Ipv4Net, ValueError> {
    let net: Ipv4Net = net(value, "an IPv4 range, as in \"100.64.0.0/15\",")?;
    if net.addr != net.network() {
        let network = Net { addr: net.network(), ..net };
        return Err(ValueError::HostBits { net: net.to_string(), network: network.to_string() });
    }
    reserved(net, &RESERVED_V4, Ipv4Net::overlaps, "100.64.0.0/15")?;
    reserved(net, &[LINK_LOCAL_V4], Ipv4Net::overlaps, "100.64.0.0/15")?;
    Ok(net)
}

/// The range of the slots' own IPv6 addresses.
pub(super) fn slot_cidr6(value: &DeValue<'_>) -> Result<Ipv6Net, ValueError> {
    let net: Ipv6Net = net(value, "an IPv6 range, as in \"fd00:6e73::/96\",")?;
    if net.addr != net.network() {
        let network = Net { addr: net.network(), ..net };
        return Err(ValueError::HostBits { net: net.to_string(), network: network.to_string() });
    }
    reserved(net, &RESERVED_V6, Ipv6Net::overlaps, "fd00:6e73::/96")?;
    Ok(net)
}

/// The guest's address and network.
pub(super) fn guest_ip(value: &DeValue<'_>) -> Result<Ipv4Net, ValueError> {
    let net: Ipv4Net = net(value, "an address with its prefix, as in \"172.16.0.2/30\",")?;
    // A /31 or /32 has no room for a gateway that DHCP clients take; shorter than /8 would hold reserved ranges.
    if !(8..=30).contains(&net.prefix) {
        return Err(ValueError::GuestPrefix { net: net.to_string(), min: 8, max: 30 });
    }
    reserved(net, &RESERVED_V4, Ipv4Net::overlaps, "172.16.0.2/30")?;
    guest_edge(net.addr, net)?;
    Ok(net)
}

/// Refuses the first and last address of the guest's network.
pub(super) fn guest_edge(addr: Ipv4Addr, net: Ipv4Net) -> Result<(), ValueError> {
    let network = Net { addr: net.network(), ..net }.to_string();
    if addr == net.network() {
        return Err(ValueError::GuestEdge {
            addr: addr.into(),
            what: "the network's own",
            which: "the first",
            network,
        });
    }
    if addr == net.last() {
        return Err(ValueError::GuestEdge { addr: addr.into(), what: "broadcast", which: "the last", network });
    }
    Ok(())
}

/// The guest's IPv6 address and network.
pub(super) fn guest_ip6(value: &DeValue<'_>) -> Result<Ipv6Net, ValueError> {
    let net: Ipv6Net = net(value, "an address with its prefix, as in \"fd00:6e73:1::2/64\",")?;
    if !(16..=126).contains(&net.prefix) {
        return Err(ValueError::GuestPrefix { net: net.to_string(), min: 16, max: 126 });
    }
    reserved(net, &RESERVED_V6, Ipv6Net::overlaps, "fd00:6e73:1::2/64")?;
    guest_edge6(net.addr, net)?;
    Ok(net)
}

/// Refuses the subnet-router anycast address (RFC 4291, 2.6.1).
pub(super) fn guest_edge6(addr: Ipv6Addr, net: Ipv6Net) -> Result<(), ValueError> {
    if addr == net.network() {
        let network = Net { addr: net.network(), ..net }.to_string();
        return Err(ValueError::GuestEdge {
            addr: addr.into(),
            what: "the routers' anycast",
            which: "the first",
            network,
        });
    }
    Ok(())
}

/// Name of the tap: what the kernel takes, and neither systemd nor the slot itself claims.
pub(super) fn tap(value: &DeValue<'_>) -> Result<LinkName, ValueError> {
    let name: LinkName = string(value, "a device name, as in \"tap0\",")?.parse()?;
    if let Some(prefix) = ["ve-", "vb-", "vz-", "vt-"].into_iter().find(|prefix| name.as_str().starts_with(prefix)) {
        return Err(ValueError::LinkPrefix { name, prefix, example: "tap0" });
    }
    if ["lo", address::inside::BRIDGE, address::inside::UP, address::inside::TUNNEL].contains(&name.as_str()) {
        return Err(ValueError::LinkTaken(name));
    }
    Ok(name)
}

/// Name of the uplink.
pub(super) fn uplink(value: &DeValue<'_>) -> Result<LinkName, ValueError> {
    let name: LinkName = string(value, "a device name, as in \"eth0\",")?.parse()?;
    if address::slot_of_host_end(name.as_str()).is_some() {
        return Err(ValueError::LinkOfSlot(name));
    }
    if name.as_str() == "lo" { Err(ValueError::Loopback) } else { Ok(name) }
}

/// Path of a directory, or of a file.
pub(super) fn dir(value: &DeValue<'_>) -> Result<PathBuf, ValueError> {
    path(value, PATH_BYTES_MAX, "")
}

/// The socket's path.
pub(super) fn socket(value: &DeValue<'_>) -> Result<PathBuf, ValueError> {
    path(value, SOCKET_PATH_BYTES_MAX, ": a Unix socket's address has no room for more")
}

fn path(value: &DeValue<'_>, max: usize, why: &'static str) -> Result<PathBuf, ValueError> {
    let text = string(value, "a path that starts with '/'")?;
    if !text.starts_with('/') {
        return Err(ValueError::PathRelative(text.into()));
    }
    if text.len() > max {
        return Err(ValueError::PathLong { bytes: text.len(), max, why });
    }
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if climbs || text.contains(char::is_control) || path.file_name().is_none() {
        return Err(ValueError::PathUnclean(text.into()));
    }
    // Collecting the components drops '//' and a '/' at the end: equal paths then compare equal.
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word_and_nonsense_finds_none() {
        for (typed, word) in [("slot", "slots"), ("solts", "slots"), ("run-dir", "run_dir"), ("tunel", "tunnel")] {
            assert_eq!(nearest(typed, ["slots", "run_dir", "tunnel"]), Some(word), "{typed}");
        }
        for typed in ["", "x", "colour", "address"] {
            assert_eq!(nearest(typed, ["slots", "run_dir", "tunnel"]), None, "{typed}");
        }
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("kitten", "sitting")), (3, 3, 3));
    }
}
