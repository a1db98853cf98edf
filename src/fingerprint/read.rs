//! A message of a dump → a fact; trusts no length in it.

use super::schema::{Attribute, Class, How};
use super::{Fact, Field, HEADER, Path, UNLIKE, number};
use crate::netlink::read::{Attributes, Message};

/// The thing that a message of its class's dump tells of; `None` where it is cut short, or comes and goes by itself.
#[must_use]
pub fn fact(class: Class, message: &Message<'_>) -> Option<Fact> {
    let schema = class.schema();
    let (header, attributes) = message.body.split_at_checked(schema.header)?;
    let mut fields = Vec::with_capacity(16);
    for (attribute, len) in schema.fields {
        let at = usize::from(attribute.id);
        keep(&mut fields, [HEADER, attribute.id, 0, 0], attribute.how, &header[at..at + len]);
    }
    if comes_by_itself(class, header) {
        return None;
    }
    walk(&mut fields, [0; 4], 0, schema.attributes, attributes);
    // Multicast routes and the like may carry one attribute twice: the order is the kernel's.
    fields.sort_by_key(|field| field.path);
    if schema.whole {
        fields.iter_mut().for_each(|field| field.key = true);
    }
    let fact = Fact { class, fields };
    (!is_own_multicast(&fact)).then_some(fact)
}

/// The kernel's own knowledge of how to send to a group on the link, which it takes down when it speaks IGMP or MLD there:
/// what it would be for anybody.
fn is_own_multicast(fact: &Fact) -> bool {
    const NOARP: u32 = 0x40;
    let Some((addr, mac)) = fact.value([1, 0, 0, 0]).zip(fact.value([2, 0, 0, 0])) else { return false };
    let expected = match *addr {
        [224, 0, 0, d] => [1, 0, 0x5e, 0, 0, d],
        [0xff, 2, .., a, b, c, d] if addr.len() == 16 => [0x33, 0x33, a, b, c, d],
        _ => return false,
    };
    fact.class == Class::Neighbour && fact.number([HEADER, 8, 0, 0]) == Some(NOARP) && mac == expected
}

/// The kernel's own queueing discipline, with handle 0: nobody can change it (tc_modify_qdisc and tc_get_qdisc,
/// net/sched/sch_api.c, pass over it), and its kind is `net.core.default_qdisc` of the day it was made. The kernel's own
/// route for IPv6 multicast on a device, which it adds once the device has a carrier (addrconf_add_mroute).
fn comes_by_itself(class: Class, header: &[u8]) -> bool {
    // struct rtmsg: family, prefix, source prefix, tos, table, protocol, scope, type
    const MULTICAST: [u8; 8] = [10, 8, 0, 0, 255, 2, 0, 5];
    match class {
        Class::Qdisc => header[8..12] == [0; 4],
        Class::Route => header[..8] == MULTICAST,
        Class::Link
        | Class::Address
        | Class::Exception
        | Class::Rule
        | Class::NextHop
        | Class::Neighbour
        | Class::Forwarding
        | Class::Filter
        | Class::Program
        | Class::Sysctl
        | Class::Tables
        | Class::Count => false,
    }
}

/// A thing that is told of by a name and a value.
#[must_use]
pub fn told(class: Class, name: &str, value: &str) -> Fact {
    let field = |id, value: &str, key| Field { path: [id, 0, 0, 0], value: value.into(), key };
    Fact { class, fields: vec![field(1, name, true), field(2, value, false)] }
}

fn walk(fields: &mut Vec<Field>, path: Path, depth: usize, known: &'static [Attribute], attributes: &[u8]) {
    for (id, value) in Attributes(attributes) {
        let mut path = path;
        path[depth] = id;
        let how = known.iter().find(|k| k.id == id).map_or(How::Same(super::schema::Format::Hex), |k| k.how);
        match how {
            How::In(known) => walk(fields, path, depth + 1, known, value),
            How::Picked(known) => {
                let mut rest = value.to_vec();
                for picked in known.iter().filter(|picked| picked.id != UNLIKE) {
                    let at = usize::from(picked.id) * 4;
                    path[depth + 1] = picked.id;
                    if let Some(value) = rest.get_mut(at..at + 4) {
                        keep(fields, path, picked.how, value);
                        value.fill(0);
                    }
                }
                path[depth + 1] = UNLIKE;
                fields.push(Field { path, value: rest, key: false });
            }
            how @ (How::Key(_) | How::Same(_) | How::First(..) | How::Bits(_) | How::LeftOut) => {
                keep(fields, path, how, value)
            }
        }
    }
}

fn keep(fields: &mut Vec<Field>, path: Path, how: How, value: &[u8]) {
    let (value, key) = match how {
        How::LeftOut | How::In(_) | How::Picked(_) => return,
        How::Key(_) => (value.to_vec(), true),
        How::Same(_) => (value.to_vec(), false),
        How::First(bytes, _) => (value[..value.len().min(bytes)].to_vec(), false),
        How::Bits(mask) => {
            let masked = number(value).map_or_else(|| value.to_vec(), |number| (number & mask).to_ne_bytes().into());
            (masked, false)
        }
    };
    fields.push(Field { path, value, key });
}
