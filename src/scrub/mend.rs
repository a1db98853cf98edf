//! Which request sets back which difference; pure. What is not here costs the slot: it is made anew, which takes away
//! everything at once. A request that would wait for a grace period under RTNL (a device, a name, a queueing discipline
//! or a filter taken away) is not here, nor is what no guest and no VMM without privilege can do.

use nix::libc;

use crate::fingerprint::{Class, Difference, Fact, Field, Fingerprint, HEADER, Path, UNLIKE};
use crate::limits::WAITING_MAX;
use crate::netlink::Batch;
use crate::netlink::batch::{CREATE, REPLACE};
use crate::netlink::route::{self, ROUTE_PROTOCOL};
use crate::plan::SlotSpec;

/// What [`Class::Count`] counts: connections that are tracked.
pub const TRACKED: &str = "tracked connections";
/// TCP connections that were closed and wait for late packets: they show their peers for a minute.
pub const WAITING: &str = "closed TCP connections";
/// Packets of which fragments are missing: what a tenant has sent would be put together with what the next one sends, as the
/// guests' addresses are the same. No request drops them, and they wait for 30 s, IPv6's for 60.
pub const FRAGMENTED: &str = "packets that wait for fragments";
/// The same of IPv6.
pub const FRAGMENTED6: &str = "IPv6 packets that wait for fragments";

/// What sets a difference back besides messages of rtnetlink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// The messages in the batch.
    Messages,
    /// This value of this sysctl, named from /proc/sys.
    Sysctl(String, String),
    /// All tracked connections forgotten.
    Connections,
    /// All closed TCP connections ended.
    Waiting,
    /// The rules made again.
    Rules,
    /// Their counts and quotas set back.
    Counts,
    /// Nothing.
    Nothing,
}

/// The last number that a single setting of a device can have.
const LAST_SETTING: u16 = UNLIKE - 1;

const INDEX: Path = [HEADER, 4, 0, 0];
const MAC: Path = [1, 0, 0, 0];
const FLAGS: Path = [HEADER, 8, 0, 0];
const PROTOCOL: Path = [HEADER, 5, 0, 0];
const STATE: Path = [HEADER, 8, 0, 0];

/// Appends the messages that set the difference back, or says what else does.
pub fn mend(batch: &mut Batch, difference: &Difference, expected: &Fingerprint, spec: &SlotSpec) -> Mend {
    use Difference as D;
    match difference {
        D::Rules(_) | D::Element(_) => Mend::Rules,
        D::Counts => Mend::Counts,
        D::Changed { expected, paths, .. } if expected.class == Class::Link => link(batch, expected, paths, spec),
        D::Changed { expected, .. } if expected.class == Class::Sysctl => sysctl(expected),
        D::Added(fact) if fact.class == Class::Count => count(fact),
        D::Added(fact) if fact.class == Class::Exception => make_routes_again(batch, fact, expected),
        D::Added(fact) if fact.class == Class::Forwarding && fact.number(STATE) == Some(0) => {
            route::flush_fdb(batch, spec.bridge.index);
            Mend::Messages
        }
        D::Added(fact) => take_away(batch, fact),
        // What a device listens to comes back with the device.
        D::Missing(fact) if is_listened_to(fact) => Mend::Messages,
        D::Missing(fact) => put_back(batch, fact),
        D::Changed { expected, found, .. } if has_verbs(expected.class) => {
            take_away(batch, found);
            put_back(batch, expected)
        }
        D::Changed { .. } => Mend::Nothing,
    }
}

/// The request that makes such a thing, and the one that takes it away.
const fn verbs(class: Class) -> Option<(u16, u16)> {
    match class {
        Class::Address => Some((libc::RTM_NEWADDR, libc::RTM_DELADDR)),
        Class::Route => Some((libc::RTM_NEWROUTE, libc::RTM_DELROUTE)),
        Class::Rule => Some((libc::RTM_NEWRULE, libc::RTM_DELRULE)),
        Class::Neighbour | Class::Forwarding => Some((libc::RTM_NEWNEIGH, libc::RTM_DELNEIGH)),
        Class::Link
        | Class::Exception
        | Class::NextHop
        | Class::Qdisc
        | Class::Filter
        | Class::Program
        | Class::Sysctl
        | Class::Tables
        | Class::Count => None,
    }
}

const fn has_verbs(class: Class) -> bool {
    verbs(class).is_some()
}

/// Whether it is an address of a group that a device listens to.
fn is_listened_to(fact: &Fact) -> bool {
    let is_group = |mac: &[u8]| mac.first().is_some_and(|first| first & 1 == 1);
    fact.class == Class::Forwarding && fact.value([2, 0, 0, 0]).is_some_and(is_group)
}

fn take_away(batch: &mut Batch, fact: &Fact) -> Mend {
    let Some((_, delete)) = verbs(fact.class) else { return Mend::Nothing };
    append(batch, delete, 0, fact);
    Mend::Messages
}

fn put_back(batch: &mut Batch, fact: &Fact) -> Mend {
    let Some((make, _)) = verbs(fact.class) else { return Mend::Nothing };
    append(batch, make, CREATE | REPLACE, fact);
    Mend::Messages
}

/// The thing as a request: what a dump tells of it is what a request says of it, but for the times.
fn append(batch: &mut Batch, kind: u16, flags: u16, fact: &Fact) {
    let mut header = [0; 20];
    let header = &mut header[..fact.class.schema().header];
    for (at, value) in fact.fields.iter().filter(|f| f.path[0] == HEADER).map(|f| (usize::from(f.path[1]), &f.value)) {
        header[at..at + value.len()].copy_from_slice(value);
    }
    if fact.class == Class::Forwarding {
        header[0] = u8::try_from(libc::AF_BRIDGE).expect("address families are small");
    }
    let is_told = |field: &&Field| match (fact.class, field.path) {
        (_, [HEADER, ..]) => false,
        (Class::Address, [6, ..]) => false, // the lifetimes are for ever, which is what is meant without
        (Class::Forwarding, [9, ..]) => false, // the bridge is found from the port
        _ => true,
    };
    batch.message(kind, flags, header, |a| {
        for field in fact.fields.iter().filter(is_told) {
            a.bytes(field.path[0], &field.value);
        }
    });
}

/// The requests that take away all neighbours of all devices, and make anew those that there should be; and these. A
/// device that is given its own MAC forgets its neighbours of both families, permanent ones too (dev_set_mac_address tells
/// of a change; neigh_changeaddr, net/core/neighbour.c). Not so the tunnels' fallback devices, which are down and stand in
/// no fingerprint: what an admin notes there does nothing, and `verify` tells of it.
pub fn renew_neighbours(batch: &mut Batch, expected: &Fingerprint, spec: &SlotSpec) -> Vec<Fact> {
    let of = |class: Class| expected.facts().iter().filter(move |fact| fact.class == class);
    for device in of(Class::Link).filter(|device| device.value(MAC).is_some()) {
        link(batch, device, &[MAC], spec);
    }
    let neighbours: Vec<Fact> = of(Class::Neighbour).cloned().collect();
    for neighbour in &neighbours {
        put_back(batch, neighbour);
    }
    neighbours
}

fn sysctl(expected: &Fact) -> Mend {
    told(expected).map_or(Mend::Nothing, |(name, value)| Mend::Sysctl(name, value))
}

fn count(found: &Fact) -> Mend {
    match told(found) {
        Some((name, _)) if name == TRACKED => Mend::Connections,
        Some((name, count)) if name == WAITING && count.parse().is_ok_and(|n: u32| n <= WAITING_MAX) => Mend::Waiting,
        _ => Mend::Nothing,
    }
}

/// Name and value of what is told of by them.
fn told(fact: &Fact) -> Option<(String, String)> {
    let text = |id| fact.value([id, 0, 0, 0]).map(|value| String::from_utf8_lossy(value).into_owned());
    text(1).zip(text(2))
}

/// What a device's own message can set, in one; a sysctl of the device by itself.
fn link(batch: &mut Batch, expected: &Fact, paths: &[Path], spec: &SlotSpec) -> Mend {
    // Promiscuity follows from the flags.
    let of_message = |path: &Path| {
        matches!(
            path,
            [HEADER, 8, ..] | [1 | 4 | 13 | 20 | 27 | 30 | 61, 0, ..] | [26, 2, 1, 0..=LAST_SETTING] | [26, 10, 8, _]
        )
    };
    let Some(index) = expected.value(INDEX) else { return Mend::Nothing };
    if let [[26, 10, 2, which]] = *paths
        && let Some(value) = expected.number(paths[0])
    {
        return device_sysctl(index, which, value, spec);
    }
    if !paths.iter().all(of_message) {
        return Mend::Nothing;
    }
    let mut header = [0; 16];
    header[4..8].copy_from_slice(index);
    if let Some(flags) = expected.value(FLAGS).filter(|_| paths.contains(&FLAGS)) {
        // IFF_UP, IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST: what can be asked for.
        let changed = 0x1 | 0x80 | 0x100 | 0x200 | 0x1000_u32;
        header[8..12].copy_from_slice(flags);
        header[12..16].copy_from_slice(&changed.to_ne_bytes());
    }
    batch.message(libc::RTM_NEWLINK, 0, &header, |a| {
        for path in paths {
            let value = expected.value(*path).unwrap_or_default();
            match *path {
                [HEADER, ..] | [30 | 61, ..] => {}
                [26, 2, 1, which] => {
                    a.nest(26, |families| {
                        families.nest(2, |ipv4| {
                            ipv4.nest(1, |conf| {
                                conf.bytes(which + 1, value); // an attribute is numbered from 1, the array from 0
                            });
                        });
                    });
                }
                [26, family, id, _] => {
                    a.nest(26, |families| {
                        families.nest(family, |one| {
                            one.bytes(id, value);
                        });
                    });
                }
                [id, ..] => {
                    a.bytes(id, value);
                }
            }
        }
    });
    Mend::Messages
}

/// IPv6's settings of a device have no message.
fn device_sysctl(index: &[u8], which: u16, value: u32, spec: &SlotSpec) -> Mend {
    let devices = [&spec.bridge, &spec.up, &spec.tap];
    let device = devices.into_iter().find(|device| device.index.0.to_ne_bytes() == index);
    let name = match which {
        3 => "accept_ra",
        4 => "accept_redirects",
        6 => "dad_transmits",
        7 => "router_solicitations",
        0 => "forwarding",
        22 => "proxy_ndp",
        26 => "disable_ipv6",
        _ => return Mend::Nothing,
    };
    device.map_or(Mend::Nothing, |device| {
        Mend::Sysctl(format!("net/ipv6/conf/{}/{name}", device.name), value.cast_signed().to_string())
    })
}

/// What was learned about destinations goes with the routes that lead there (free_fib_info_rcu, fib6_nh_release).
fn make_routes_again(batch: &mut Batch, exception: &Fact, expected: &Fingerprint) -> Mend {
    let family = [HEADER, 0, 0, 0];
    let ours = |fact: &&Fact| {
        fact.class == Class::Route
            && fact.number(PROTOCOL) == Some(ROUTE_PROTOCOL.into())
            && fact.value(family) == exception.value(family)
    };
    for route in expected.facts().iter().filter(ours) {
        take_away(batch, route);
        put_back(batch, route);
    }
    Mend::Messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::fingerprint::{compare, fact, told};
    use crate::netlink::read::Messages;
    use crate::plan::Blueprint;
    use crate::slot::SlotId;

    fn spec() -> SlotSpec {
        Blueprint::new(&Config::default(), 1_430).slot(SlotId::new(3).expect("in range"))
    }

    fn facts(class: Class, write: impl FnOnce(&mut Batch)) -> Vec<Fact> {
        let mut batch = Batch::new();
        write(&mut batch);
        Messages(batch.as_bytes()).filter_map(|message| fact(class, &message.expect("well-formed"))).collect()
    }

    /// Kinds of the messages that set a difference back, and what each is about.
    fn mended(difference: &Difference, class: Class) -> (Mend, Vec<(u16, Option<Fact>)>) {
        let mut batch = Batch::new();
        let mend = mend(&mut batch, difference, &Fingerprint::default(), &spec());
        let read = |message: Result<_, _>| {
            let message: crate::netlink::read::Message<'_> = message.expect("well-formed");
            (message.kind, fact(class, &message))
        };
        let messages = Messages(batch.as_bytes()).map(|m| read(m.map_err(|e| e.to_string()))).collect();
        (mend, messages)
    }

    #[test]
    fn what_is_there_besides_is_taken_away_as_it_is_and_what_is_missing_put_back() {
        let (spec, v4) = (spec(), spec().v4.any());
        for (class, make, delete, write) in [
            (
                Class::Address,
                libc::RTM_NEWADDR,
                libc::RTM_DELADDR,
                facts(Class::Address, |b| route::add_address(b, spec.up.index, v4.slot, 32)),
            ),
            (
                Class::Route,
                libc::RTM_NEWROUTE,
                libc::RTM_DELROUTE,
                facts(Class::Route, |b| route::add_host_route(b, v4.slot, spec.tap.index)),
            ),
            (
                Class::Neighbour,
                libc::RTM_NEWNEIGH,
                libc::RTM_DELNEIGH,
                facts(Class::Neighbour, |b| route::add_neighbour(b, spec.up.index, v4.next_hop, spec.host_end.mac)),
            ),
        ] {
            let thing = write[0].clone();
            let gone = mended(&Difference::Missing(thing.clone()), class);
            assert_eq!(gone, (Mend::Messages, vec![(make, Some(thing.clone()))]));
            let added = mended(&Difference::Added(thing.clone()), class);
            assert_eq!(added, (Mend::Messages, vec![(delete, Some(thing))]));
        }
    }

    #[test]
    fn a_device_is_set_back_in_one_message_and_what_no_message_sets_costs_the_slot() {
        let spec = spec();
        let link = |id: u16, value: &[u8]| {
            facts(Class::Link, |b| {
                let mut header = [0; 16];
                header[4..8].copy_from_slice(&spec.up.index.0.to_ne_bytes());
                b.message(libc::RTM_NEWLINK, 0, &header, |a| {
                    a.text(3, "up0").bytes(id, value);
                });
            })
        };
        let differs = |id, expected: &[u8], found: &[u8]| {
            let [expected, found] = [expected, found].map(|value| Fingerprint::of(link(id, value)));
            mended(&compare(&expected, &found)[0], Class::Link)
        };
        let (mend, messages) = differs(4, &1_430_u32.to_ne_bytes(), &900_u32.to_ne_bytes());
        assert_eq!((mend, messages.len()), (Mend::Messages, 1));
        let told = messages[0].1.as_ref().and_then(|fact| fact.number([4, 0, 0, 0]));
        assert_eq!(told, Some(1_430), "the MTU that it was made with");
        for id in [3, 10, 31, 52, 999] {
            assert_eq!(differs(id, &[1; 4], &[2; 4]).0, Mend::Nothing, "attribute {id}");
        }
    }

    #[test]
    fn neighbours_are_forgotten_on_every_device_before_they_are_made_anew() {
        let (spec, v4) = (spec(), spec().v4.any());
        let mut expected = Vec::new();
        for device in [&spec.bridge, &spec.up] {
            expected.extend(facts(Class::Link, |b| {
                let mut header = [0; 16];
                header[4..8].copy_from_slice(&device.index.0.to_ne_bytes());
                b.message(libc::RTM_NEWLINK, 0, &header, |a| {
                    a.bytes(libc::IFLA_ADDRESS, &device.mac.0);
                });
            }));
        }
        let neighbour = |b: &mut Batch| route::add_neighbour(b, spec.up.index, v4.next_hop, spec.host_end.mac);
        expected.extend(facts(Class::Neighbour, neighbour));
        let mut batch = Batch::new();
        let renewed = renew_neighbours(&mut batch, &Fingerprint::of(expected.clone()), &spec);
        assert_eq!(renewed, expected[2..]);
        let sent = |class| facts(class, |b| drop(renew_neighbours(b, &Fingerprint::of(expected.clone()), &spec)));
        let addresses: Vec<_> =
            sent(Class::Link)[..2].iter().map(|f| (f.number(INDEX), f.value(MAC).map(<[u8]>::to_vec))).collect();
        let own = [&spec.bridge, &spec.up].map(|device| (Some(device.index.0), Some(device.mac.0.to_vec())));
        assert_eq!(addresses, own);
        let kinds: Vec<u16> = Messages(batch.as_bytes()).map(|message| message.expect("well-formed").kind).collect();
        assert_eq!(kinds, [libc::RTM_NEWLINK, libc::RTM_NEWLINK, libc::RTM_NEWNEIGH]);
    }

    #[test]
    fn what_only_a_grace_period_takes_away_is_not_taken_away() {
        let told = |class| Difference::Added(told(class, "x", "y"));
        for class in [Class::Program, Class::Tables, Class::Qdisc, Class::Filter, Class::Link, Class::NextHop] {
            assert_eq!(mended(&told(class), class), (Mend::Nothing, vec![]), "{class:?}");
        }
    }

    #[test]
    fn what_is_counted_is_forgotten_ended_or_costs_the_slot() {
        let counted = |name, count| mended(&Difference::Added(told(Class::Count, name, count)), Class::Count).0;
        assert_eq!(counted(TRACKED, "100000"), Mend::Connections);
        assert_eq!((counted(WAITING, "1000"), counted(WAITING, "1001")), (Mend::Waiting, Mend::Nothing));
        assert_eq!((counted(FRAGMENTED, "1"), counted(FRAGMENTED6, "1")), (Mend::Nothing, Mend::Nothing));
    }

    #[test]
    fn a_sysctl_is_written_with_the_value_that_it_had() {
        let fact = |value| Fingerprint::of(vec![told(Class::Sysctl, "net/ipv4/ip_forward", value)]);
        let difference = compare(&fact("1"), &fact("0")).remove(0);
        assert_eq!(mended(&difference, Class::Sysctl).0, Mend::Sysctl("net/ipv4/ip_forward".into(), "1".into()));
    }
}
