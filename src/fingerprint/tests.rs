//! What is compared, what is not, and that one slot's fingerprint becomes exactly another's.

use std::os::fd::AsFd as _;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::netlink::Batch;
use crate::netlink::read::Messages;
use crate::netlink::route::{self, Device};
use crate::plan::{Blueprint, SlotSpec};
use crate::slot::SlotId;

fn spec(number: u32) -> SlotSpec {
    let config = Config { slots: 4_000, ..Config::default() };
    Blueprint::new(&config, 1_430).slot(SlotId::new(number).expect("in range"))
}

fn geneve(number: u32) -> (SlotSpec, Fingerprint) {
    let remote = [192, 0, 2, 1].into();
    let blueprint = Blueprint::new(&Config::default(), 1_430).with_tunnels(70_000, remote);
    let spec = blueprint.slot(SlotId::new(number).expect("in range"));
    let null = std::fs::File::open("/dev/null").expect("there");
    let tunnel = spec.tunnel.expect("the pool has them");
    // All but the namespace, which no dump tells.
    let mut facts = facts(Class::Link, |b| route::add_geneve(b, &tunnel, null.as_fd()));
    facts[0].fields.retain(|field| field.path[0] != nix::libc::IFLA_NET_NS_FD);
    (spec, Fingerprint::of(facts))
}

#[test]
fn a_tunnels_vni_is_the_slots_own() {
    let ((from, zero), (to, five)) = (geneve(0), geneve(5));
    assert_ne!(zero, five);
    assert_eq!(for_slot(&zero, &from, &to), five);
}

/// What is written as a request reads as what a dump tells.
fn facts(class: Class, write: impl FnOnce(&mut Batch)) -> Vec<Fact> {
    let mut batch = Batch::new();
    write(&mut batch);
    Messages(batch.as_bytes()).filter_map(|message| fact(class, &message.expect("well-formed"))).collect()
}

/// Something of each kind that is a slot's own.
fn slot(number: u32) -> Fingerprint {
    let spec = spec(number);
    let v4 = spec.v4.any();
    let mut all = facts(Class::Link, |b| {
        route::add_bridge(b, &spec.bridge);
        // A device's own message names its kind in the same way.
        route::add_bridge(b, &Device { ..spec.up });
        route::add_bridge(b, &Device { ..spec.tap });
    });
    all.extend(facts(Class::Address, |b| route::add_address(b, spec.up.index, v4.slot, 32)));
    all.extend(facts(Class::Route, |b| {
        route::add_default_route(b, v4.next_hop, spec.up.index, route::MAIN_TABLE);
        route::add_host_route(b, v4.slot, spec.tap.index);
    }));
    all.extend(facts(Class::Neighbour, |b| {
        route::add_neighbour(b, spec.up.index, v4.next_hop, spec.host_end.mac);
        route::add_neighbour(b, spec.bridge.index, v4.guest, spec.guest_mac);
    }));
    all.push(told(Class::Sysctl, "net/ipv4/ip_forward", "1"));
    Fingerprint::of(all)
}

fn lines(expected: &Fingerprint, found: &Fingerprint, number: u32) -> Vec<String> {
    let spec = spec(number);
    compare(expected, found)
        .iter()
        .flat_map(|difference| line(difference, &spec))
        .map(|line| line.to_string())
        .collect()
}

#[test]
fn a_slots_fingerprint_is_anothers_with_that_ones_values() {
    assert_eq!(for_slot(&slot(0), &spec(0), &spec(3_999)), slot(3_999));
    assert_ne!(slot(0), slot(3_999), "there is something to replace");
}

#[test]
fn another_slots_values_are_a_difference() {
    let found = lines(&slot(7), &slot(8), 7);
    assert!(found.contains(&"up0 MAC: expected 02:4e:53:00:00:07, found 02:4e:53:00:00:08".into()), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("tap0: expected")), "{found:#?}");
}

#[test]
fn what_differs_is_told_with_both_values() {
    let mut there = slot(3).facts().to_vec();
    let spec = spec(3);
    there.retain(|fact| fact.class != Class::Address);
    there.iter_mut().filter(|fact| fact.class == Class::Sysctl).for_each(|fact| fact.fields[1].value = b"0".into());
    there.extend(facts(Class::Neighbour, |b| {
        route::add_neighbour(b, spec.bridge.index, [172, 16, 0, 9].into(), spec.guest_mac)
    }));
    let lines = lines(&slot(3), &Fingerprint::of(there), 3);
    let expected = [
        "address address 100.64.0.5 own address 100.64.0.5 prefix 32 on up0: expected it, found none",
        "neighbour address 172.16.0.9 on br0: expected none, found MAC 06:00:ac:10:00:02, state 0x80",
        "sysctl net/ipv4/ip_forward: expected 1, found 0",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn traffic_leaves_traces_and_nothing_else_is_one() {
    let learned = |state: u16| {
        let mut learned = facts(Class::Neighbour, |b| {
            route::add_neighbour(b, spec(0).up.index, [10, 0, 0, 1].into(), spec(0).up.mac)
        });
        learned
            .iter_mut()
            .flat_map(|fact| &mut fact.fields)
            .filter(|f| f.path == [HEADER, 8, 0, 0])
            .for_each(|f| f.value = state.to_ne_bytes().into());
        Difference::Added(learned.remove(0))
    };
    assert!(learned(0).is_trace());
    assert!(!learned(0x80).is_trace(), "permanent: somebody taught it");
    assert!(Difference::Added(told(Class::Count, "sockets", "1")).is_trace());
    assert!(!Difference::Missing(told(Class::Count, "sockets", "1")).is_trace());
    assert!(!Difference::Added(told(Class::Program, "7 at tcx ingress", "runs")).is_trace());
}

#[test]
fn what_comes_by_itself_is_passed_over() {
    let qdisc = |handle: u32| {
        facts(Class::Qdisc, |b| {
            let mut header = [0; 20];
            header[8..12].copy_from_slice(&handle.to_ne_bytes());
            b.message(36, 0, &header, |a| {
                a.text(1, "pfifo");
            });
        })
    };
    assert_eq!((qdisc(0).len(), qdisc(0x1_0000).len()), (0, 1));
}

/// A device's message with that attribute besides.
fn with_attribute(id: u16, value: &[u8]) -> Fact {
    facts(Class::Link, |b| {
        b.message(16, 0, &[0; 16], |a| {
            a.text(3, "tap0").bytes(id, value);
        })
    })
    .remove(0)
}

#[test]
fn an_attribute_that_nobody_knows_is_compared() {
    let difference =
        compare(&Fingerprint::of(vec![with_attribute(999, &[1])]), &Fingerprint::of(vec![with_attribute(999, &[2])]));
    let text: Vec<String> = difference.iter().flat_map(|d| line(d, &spec(0))).map(|line| line.to_string()).collect();
    assert_eq!(text, ["device 0 attribute 999: expected 0x1, found 0x2"]);
}

#[test]
fn counters_and_carriers_are_not_compared() {
    for id in [6, 7, 16, 23, 33, 35, 37, 47, 48] {
        assert_eq!(with_attribute(id, &[1; 4]), with_attribute(id, &[2; 4]), "attribute {id}");
    }
}

proptest! {
    #[test]
    fn any_slots_fingerprint_becomes_any_others_and_back(a in 0_u32..4_000, b in 0_u32..4_000) {
        let there = for_slot(&slot(a), &spec(a), &spec(b));
        prop_assert_eq!(&there, &slot(b));
        prop_assert_eq!(for_slot(&there, &spec(b), &spec(a)), slot(a));
    }

    #[test]
    fn a_changed_value_is_found_where_it_was_changed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let pristine = slot(5);
        let mut changed = pristine.facts().to_vec();
        let fields: Vec<(usize, usize)> = changed.iter().enumerate()
            .flat_map(|(f, fact)| (0..fact.fields.len()).map(move |v| (f, v)))
            .filter(|(f, v)| !changed[*f].fields[*v].value.is_empty())
            .collect();
        let (fact, field) = fields[at.index(fields.len())];
        changed[fact].fields[field].value[0] ^= 1 << bit;
        let found = Fingerprint::of(changed);
        let differences = compare(&pristine, &found);
        prop_assert!(!differences.is_empty());
        let (back, text) = (compare(&found, &pristine), differences.iter().map(|d| line(d, &spec(5)).len()).sum::<usize>());
        prop_assert_eq!(back.len(), differences.len());
        prop_assert!(text > 0);
    }

    #[test]
    fn whatever_is_added_or_taken_away_is_found(drop_at in prop::collection::btree_set(0_usize..9, 0..9)) {
        let pristine = slot(1);
        let left = pristine.facts().iter().enumerate().filter(|(at, _)| !drop_at.contains(at)).map(|(_, f)| f.clone());
        let found = Fingerprint::of(left.collect());
        let gone = drop_at.iter().filter(|at| **at < pristine.facts().len()).count();
        prop_assert_eq!(compare(&pristine, &found).len(), gone);
        prop_assert!(compare(&found, &pristine).iter().all(|d| matches!(d, Difference::Added(_))));
    }

    #[test]
    fn any_bytes_are_read_and_told_to_an_end(class in 0_usize..10, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let classes = [Class::Link, Class::Address, Class::Route, Class::Exception, Class::Rule, Class::NextHop,
            Class::Neighbour, Class::Forwarding, Class::Qdisc, Class::Filter];
        let message = crate::netlink::read::Message { kind: 16, flags: 0, sequence: 0, body: &bytes };
        if let Some(fact) = fact(classes[class], &message) {
            let _ = line(&Difference::Added(fact), &spec(0));
        }
    }
}

#[test]
fn a_tunnels_fallback_device_is_left_out_until_somebody_raises_it() {
    let fallback = |name: &str, kind: &str, flags: u32| {
        let field = |path, value: &[u8], key| Field { path, value: value.to_vec(), key };
        let fields = vec![
            field([3, 0, 0, 0], format!("{name}\0").as_bytes(), false),
            field([18, 1, 0, 0], format!("{kind}\0").as_bytes(), false),
            field([HEADER, 4, 0, 0], &2_u32.to_ne_bytes(), true),
            field([HEADER, 8, 0, 0], &flags.to_ne_bytes(), false),
        ];
        Fingerprint::of(vec![Fact { class: Class::Link, fields }]).facts().len()
    };
    assert_eq!([fallback("tunl0", "ipip", 0x80), fallback("sit0", "sit", 0x80)], [0, 0]);
    assert_eq!(fallback("tunl0", "ipip", 0x81), 1, "raised");
    assert_eq!([fallback("tunl1", "ipip", 0x80), fallback("tunl0", "gre", 0x80)], [1, 1], "somebody's own");
}
