//! What packets have done to rules: counts, quotas, elements of sets; told from what the rules are; pure.

use super::expression::find;
use super::object::attribute::*;
use super::object::{OBJECT_COUNTER, OBJECT_QUOTA, Object};
use crate::netlink::nft::message;
use crate::netlink::read::{Attributes as Read, text_of};

/// `NFT_SET_EVAL`: packets add to it.
const SET_IS_DYNAMIC: u32 = 0x20;
/// `NFTA_QUOTA_CONSUMED`, `NFTA_LAST_SET`, `NFTA_LIST_ELEM`.
const QUOTA_CONSUMED: u16 = 4;
const LAST_SET: u16 = 1;
const LIST_ELEM: u16 = 1;

/// Whether any count or quota in a dump is not at its beginning. What is left of a limit's burst is in no dump; it is
/// whole again within seconds.
pub fn is_used(dump: &[Object]) -> bool {
    dump.iter().any(|object| match object.kind {
        message::NEW_RULE => in_list(object.attribute(RULE_EXPRESSIONS)),
        message::NEW_CHAIN => counted(object.attribute(CHAIN_COUNTERS)),
        message::NEW_OBJECT => match object.number(OBJECT_TYPE) {
            Some(OBJECT_COUNTER) => counted(object.attribute(OBJECT_DATA)),
            Some(OBJECT_QUOTA) => find(object.attribute(OBJECT_DATA), QUOTA_CONSUMED).is_some_and(is_not_zero),
            _ => false,
        },
        message::NEW_ELEMENTS => Read(object.attribute(ELEMENTS))
            .any(|(_, element)| find(element, 7).is_some_and(in_expression) || find(element, 11).is_some_and(in_list)),
        _ => false,
    })
}

/// The objects without the elements of those sets that packets add to.
pub fn without_added(objects: &[Object]) -> Vec<&Object> {
    let is_dynamic = |set: &Object| set.number(SET_FLAGS).is_some_and(|flags| flags & SET_IS_DYNAMIC != 0);
    let dynamic: Vec<&Object> = objects.iter().filter(|o| o.kind == message::NEW_SET && is_dynamic(o)).collect();
    let same =
        |a: &Object, b: &Object| a.family == b.family && a.table() == b.table() && a.attribute(2) == b.attribute(2);
    let is_added = |o: &Object| o.kind == message::NEW_ELEMENTS && dynamic.iter().any(|set| same(set, o));
    objects.iter().filter(|object| !is_added(object)).collect()
}

fn in_list(expressions: &[u8]) -> bool {
    Read(expressions).any(|(kind, expression)| kind == LIST_ELEM && in_expression(expression))
}

fn in_expression(expression: &[u8]) -> bool {
    let data = find(expression, 2).unwrap_or_default(); // NFTA_EXPR_DATA
    match text_of(find(expression, 1).unwrap_or_default()).as_ref() {
        "counter" => counted(data),
        "quota" => find(data, QUOTA_CONSUMED).is_some_and(is_not_zero),
        "last" => find(data, LAST_SET).is_some_and(is_not_zero),
        _ => false,
    }
}

/// NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS.
fn counted(counter: &[u8]) -> bool {
    Read(counter).any(|(kind, value)| matches!(kind, 1 | 2) && is_not_zero(value))
}

fn is_not_zero(value: &[u8]) -> bool {
    value.iter().any(|byte| *byte != 0)
}
