//! One slot's fingerprint as another's: everything about a slot follows from its number, so what is slot-specific in a
//! fact is known beforehand, and where it may stand too.

use std::net::{IpAddr, Ipv6Addr};

use super::schema::{Attribute, Class, Format, How};
use super::{Fact, Fingerprint, HEADER, Path};
use crate::netlink::read::text_of;
use crate::plan::SlotSpec;

/// The fingerprint that slot `to` has if `from` has this one.
///
/// A value is another slot's where it is one of `from`'s own, in a place for values of that kind. No other value can be
/// mistaken for one: the indexes inside a slot are small, the MACs have a prefix of their own, and the addresses lie in
/// a range that the configuration keeps from overlapping with the guest's.
#[must_use]
pub fn for_slot(fingerprint: &Fingerprint, from: &SlotSpec, to: &SlotSpec) -> Fingerprint {
    let mut facts = fingerprint.facts().to_vec();
    for fact in &mut facts {
        translate(fact, from, to);
    }
    Fingerprint::of(facts)
}

fn translate(fact: &mut Fact, from: &SlotSpec, to: &SlotSpec) {
    if let Some((from, to)) = from.tunnel.zip(to.tunnel).filter(|_| is_geneve(fact)) {
        let vni = fact.fields.iter_mut().find(|field| field.path == VNI && field.value == from.vni.to_ne_bytes());
        vni.into_iter().for_each(|field| field.value = to.vni.to_ne_bytes().into());
    }
    for field in &mut fact.fields {
        match format(fact.class, field.path) {
            Some(Format::Device) if field.value == from.tap.index.0.to_ne_bytes() => {
                field.value = to.tap.index.0.to_ne_bytes().into();
            }
            Some(Format::Mac) if field.value == from.up.mac.0 => field.value = to.up.mac.0.into(),
            Some(Format::Mac) if field.value == from.host_end.mac.0 => field.value = to.host_end.mac.0.into(),
            Some(Format::Mac) => {
                let groups = from.v6.zip(to.v6).map(|(f, t)| (group_mac(f.slot), group_mac(t.slot)));
                if let Some((_, to)) = groups.filter(|(from, _)| field.value == from) {
                    field.value = to.into();
                }
            }
            Some(Format::Ip) => {
                let same = |(f, t): &(IpAddr, IpAddr)| same_bytes(&field.value, *f).then_some(*t);
                if let Some(to) = addresses(from).zip(addresses(to)).find_map(|pair| same(&pair)) {
                    field.value = bytes(to);
                }
            }
            _ => {}
        }
    }
}

/// `IFLA_GENEVE_ID` of a device of that kind.
const VNI: Path = [18, 2, 1, 0];

fn is_geneve(fact: &Fact) -> bool {
    fact.class == Class::Link && fact.value([18, 1, 0, 0]).is_some_and(|kind| text_of(kind) == "geneve")
}

/// The addresses that are a slot's own.
fn addresses(spec: &SlotSpec) -> impl Iterator<Item = IpAddr> {
    [IpAddr::from(spec.v4.slot)].into_iter().chain(spec.v6.map(|v6| v6.slot.into()))
}

/// Where those listen who have an address with these last three bytes: its solicited-node group (RFC 4291), as Ethernet has
/// it (RFC 2464).
fn group_mac(addr: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c] = addr.octets();
    [0x33, 0x33, 0xff, a, b, c]
}

fn same_bytes(value: &[u8], ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => value == ip.octets(),
        IpAddr::V6(ip) => value == ip.octets(),
    }
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// How the value at that place is to be read; `None` where nothing is known of it.
#[must_use]
pub fn format(class: Class, path: Path) -> Option<Format> {
    attribute(class, path).and_then(|attribute| match attribute.how {
        How::Key(format) | How::Same(format) | How::First(_, format) => Some(format),
        How::Bits(_) => Some(Format::Hex),
        How::LeftOut | How::In(_) | How::Picked(_) => None,
    })
}

/// What is known of the attribute at that place.
#[must_use]
pub fn attribute(class: Class, path: Path) -> Option<&'static Attribute> {
    let schema = class.schema();
    if path[0] == HEADER {
        return schema.fields.iter().map(|(attribute, _)| attribute).find(|attribute| attribute.id == path[1]);
    }
    let (mut known, mut found) = (schema.attributes, None);
    let mut picked = false;
    for (depth, id) in path.into_iter().enumerate() {
        // Numbers of attributes begin at 1; those of an array at 0.
        if depth > 0 && id == 0 && !picked {
            break;
        }
        let Some(attribute) = known.iter().find(|attribute| attribute.id == id) else {
            return if picked { found } else { None };
        };
        found = Some(attribute);
        picked = matches!(attribute.how, How::Picked(_));
        match attribute.how {
            How::In(inner) | How::Picked(inner) => known = inner,
            How::Key(_) | How::Same(_) | How::First(..) | How::Bits(_) | How::LeftOut => break,
        }
    }
    found
}
