//! Dumps made up of what kernels say, against the requests that are to come of them.

use std::collections::BTreeSet;

use super::image::{Image, Purpose, Source};
use super::normal::Ruleset;
use super::object::Object;
use super::object::attribute::*;
use super::warn;
use crate::netlink::batch::Attributes as Write;
use crate::netlink::nft::message;
use crate::netlink::read::Attributes as Read;

const INET: u8 = 1;

fn object(kind: u8, fill: impl FnOnce(&mut Write<'_>)) -> Object {
    let mut attributes = Vec::new();
    fill(&mut Write::to(&mut attributes));
    Object { kind, family: INET, attributes }
}

fn table() -> Object {
    object(message::NEW_TABLE, |a| {
        a.text(1, "t").bytes(2, &[0; 4]).bytes(3, &[0, 0, 0, 9]).bytes(4, &[0, 0, 0, 0, 0, 0, 0, 77]);
    })
}

fn chain(name: &str, bound: bool) -> Object {
    object(message::NEW_CHAIN, |a| {
        a.text(1, "t").text(CHAIN_NAME, name).bytes(2, &[7; 8]).bytes(6, &[0, 0, 0, 3]);
        if bound {
            a.bytes(CHAIN_FLAGS, &4_u32.to_be_bytes());
        }
    })
}

/// A rule that jumps, as the kernel dumps it: with handle and position.
fn jump(chain: &str, to: &str) -> Object {
    object(message::NEW_RULE, |a| {
        a.text(1, "t").text(RULE_CHAIN, chain).bytes(3, &[9; 8]).bytes(6, &[8; 8]).nest(RULE_EXPRESSIONS, |list| {
            list.nest(1, |expression| {
                expression.text(1, "immediate").nest(2, |data| {
                    data.bytes(1, &[0; 4]).nest(2, |value| {
                        value.nest(2, |verdict| {
                            verdict.bytes(1, &(-3_i32).to_be_bytes()).text(2, to); // NFT_JUMP
                        });
                    });
                });
            });
        });
    })
}

fn counter(chain: &str) -> Object {
    object(message::NEW_RULE, |a| {
        a.text(1, "t").text(RULE_CHAIN, chain).nest(RULE_EXPRESSIONS, |list| {
            list.nest(1, |expression| {
                expression.text(1, "counter").nest(2, |data| {
                    data.bytes(1, &[1; 8]).bytes(2, &[2; 8]);
                });
            });
        });
    })
}

fn set(name: &str, flags: u32) -> Object {
    object(message::NEW_SET, |a| {
        a.text(1, "t").text(2, name).bytes(SET_FLAGS, &flags.to_be_bytes()).bytes(16, &[5; 8]).bytes(20, &[0, 0, 0, 2]);
    })
}

fn elements(set: &str, elements: &[(u8, u32)]) -> Object {
    object(message::NEW_ELEMENTS, |a| {
        a.text(1, "t").text(2, set).nest(ELEMENTS, |list| {
            for (key, flags) in elements {
                list.nest(1, |element| {
                    element.nest(1, |data| {
                        data.bytes(1, &[*key]);
                    });
                    if *flags != 0 {
                        element.bytes(ELEMENT_FLAGS, &flags.to_be_bytes());
                    }
                });
            }
        });
    })
}

fn keys(object: &Object) -> Vec<u8> {
    let key = |element| super::expression::find(element, 1).and_then(|data| super::expression::find(data, 1));
    Read(object.attribute(ELEMENTS)).filter_map(|(_, element)| key(element)?.first().copied()).collect()
}

fn normal(dump: &[Object]) -> Vec<Object> {
    Ruleset::of_dump(dump).expect("nothing odd in it").objects().to_vec()
}

#[test]
fn handles_positions_and_uses_are_left_out() {
    let objects = normal(&[table(), chain("c", false), jump("c", "d")]);
    for (object, kept) in objects.iter().zip([&[1, 2][..], &[1, CHAIN_NAME], &[1, RULE_CHAIN, RULE_EXPRESSIONS]]) {
        let kinds: Vec<u16> = Read(&object.attributes).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, kept, "{object}");
    }
}

#[test]
fn a_chain_inside_a_rule_goes_by_number_and_is_filled_before_that_rule() {
    let dump = [
        table(),
        chain("c", false),
        chain("__chain17", true),
        chain("__chain23", true),
        jump("c", "__chain17"),
        jump("__chain17", "__chain23"),
        counter("__chain23"),
    ];
    let objects = normal(&dump);
    let rules: Vec<String> = objects.iter().filter(|o| o.kind == message::NEW_RULE).map(ToString::to_string).collect();
    assert_eq!(
        rules,
        ["rule of chain inet t inside a rule", "rule of chain inet t inside a rule", "rule of chain inet t c"]
    );
    let number = |object: &Object| object.number(RULE_CHAIN_ID);
    let filled: Vec<Option<u32>> = objects.iter().filter(|o| o.kind == message::NEW_RULE).map(number).collect();
    assert_eq!(filled, [Some(2), Some(1), None]);
    assert!(objects.iter().all(|o| !o.attributes.windows(7).any(|bytes| bytes == b"__chain")));
}

#[test]
fn rules_come_after_all_that_they_refer_to() {
    let dump = [counter("c"), elements("s", &[(1, 0)]), set("s", 0), chain("c", false), table()];
    let kinds: Vec<u8> = normal(&dump).iter().map(|o| o.kind).collect();
    let expected = [message::NEW_TABLE, message::NEW_CHAIN, message::NEW_SET, message::NEW_ELEMENTS, message::NEW_RULE];
    assert_eq!(kinds, expected);
}

#[test]
fn elements_are_sorted_once_each_and_concatenated_intervals_as_they_came() {
    let dump = |flags| [table(), set("s", flags), elements("s", &[(9, 0), (2, 0)]), elements("s", &[(5, 0), (2, 0)])];
    let of = |flags| keys(&normal(&dump(flags))[2]);
    assert_eq!(of(0), [2, 5, 9]);
    assert_eq!(of(0x84), [9, 2, 5, 2]); // NFT_SET_CONCAT | NFT_SET_INTERVAL
}

#[test]
fn one_interval_ends_before_the_next_begins() {
    let objects = normal(&[table(), set("s", 4), elements("s", &[(20, 0), (30, 1), (10, 0), (20, 1)])]);
    let ends: Vec<bool> = Read(objects[2].attribute(ELEMENTS))
        .map(|(_, element)| super::expression::find(element, ELEMENT_FLAGS).is_some())
        .collect();
    assert_eq!((keys(&objects[2]), ends), (vec![10, 20, 20, 30], vec![false, true, false, true]));
}

#[test]
fn what_comes_of_a_dump_comes_of_it_again() {
    let dump = [table(), chain("c", false), set("s", 0), elements("s", &[(3, 0), (1, 0)]), counter("c")];
    let once = normal(&dump);
    assert_eq!(normal(&once), once);
}

#[test]
fn what_is_newer_than_this_program_is_refused_by_name() {
    let mut newer = chain("c", false);
    Write::to(&mut newer.attributes).bytes(99, &[1]);
    let refused = Ruleset::of_dump(&[table(), newer]).expect_err("who knows what it means");
    assert!(refused.to_string().starts_with("chain inet t c: its attribute 99 is newer"), "{refused}");
}

#[test]
fn counters_and_conntrack_are_told_with_what_they_cost() {
    let image = |rules: usize, features: &[&str]| {
        let mut dump = vec![table(), chain("c", false)];
        dump.extend((0..rules).map(|_| counter("c")));
        Image {
            purpose: Purpose::Slot,
            sources: vec![Source { name: "f".into(), text: String::new() }],
            features: features.iter().map(|f| (*f).to_owned()).collect::<BTreeSet<_>>(),
            rules: Ruleset::of_dump(&dump).expect("plain"),
        }
    };
    assert!(warn::warnings(&image(4, &["cmp"]), 4_000, 96).is_empty());
    let told = warn::warnings(&image(30, &["chain type nat", "cmp"]), 4_000, 96);
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("30 counters") && told[0].contains("(184 MB)"), "{}", told[0]);
    assert!(told[1].contains("conntrack (chain type nat)"), "{}", told[1]);
}
