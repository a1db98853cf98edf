//! Dumps of nf_tables → the one list of requests that makes the same rules in an empty namespace: in the order the kernel
//! needs, without handles, counts and state, the same bytes for the same rules; pure.

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;

use super::expression::{self, Seen, be32, find};
use super::object::attribute::*;
use super::object::{OBJECT_COUNTER, OBJECT_QUOTA, Object};
use super::place::{BoundChains, Place, Uncapturable};
use crate::limits::{RULES_DEPTH_MAX, RULES_ELEMENTS_BYTES_MAX};
use crate::netlink::batch::Attributes as Write;
use crate::netlink::nft::{self, Mark, TABLE_USERDATA, message};
use crate::netlink::read::Attributes as Read;

/// Rules as a list of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    objects: Vec<Object>,
}

/// What becomes of the attributes of one kind of message. One that is in neither list is newer than this program, and
/// leaving it out could change what the rules do.
struct Fate {
    keep: &'static [u16],
    drop: &'static [u16],
}

const TABLE: Fate = Fate { keep: &[1, 2, TABLE_USERDATA], drop: &[3, 4, 5] };
const CHAIN: Fate =
    Fate { keep: &[1, CHAIN_NAME, 4, 5, CHAIN_TYPE, CHAIN_COUNTERS, CHAIN_FLAGS, 12], drop: &[2, 6, 9, CHAIN_ID] };
// Type and count of elements (19, 20) are dumped since 6.17.
const SET: Fate = Fate {
    keep: &[1, 2, SET_FLAGS, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, SET_EXPR, SET_EXPRESSIONS],
    drop: &[SET_ID, 14, 16, 19, 20],
};
const ELEMENT: Fate = Fate { keep: &[1, 2, ELEMENT_FLAGS, 4, 6, 7, 9, 10, 11], drop: &[5, 8] };
const OBJECT: Fate = Fate { keep: &[1, 2, OBJECT_TYPE, OBJECT_DATA, 8], drop: &[5, 6, 7] };
const FLOWTABLE: Fate = Fate { keep: &[1, 2, 3, 7], drop: &[4, 5, 6] };
const RULE: Fate = Fate { keep: &[1, RULE_CHAIN, RULE_EXPRESSIONS, 7], drop: &[3, 6, 8, 9] };

impl Fate {
    /// The attributes that are kept.
    fn of<'a>(&self, attributes: &'a [u8], object: &str) -> Result<Vec<(u16, &'a [u8])>, Uncapturable> {
        let mut kept = Vec::new();
        for (kind, value) in Read(attributes) {
            if self.keep.contains(&kind) {
                kept.push((kind, value));
            } else if !self.drop.contains(&kind) {
                let why = format!("its attribute {kind} is newer than this netslot, which cannot tell what it means");
                return Err(Uncapturable { object: object.into(), why, words: Vec::new() });
            }
        }
        Ok(kept)
    }
}

impl Ruleset {
    /// What makes, in an empty namespace, what was dumped.
    ///
    /// # Errors
    /// [`Uncapturable`], the first.
    pub fn of_dump(dump: &[Object]) -> Result<Self, Uncapturable> {
        let of_kind = |kind| dump.iter().filter(move |o| o.kind == kind);
        let mut chains = BoundChains::default();
        for (number, chain) in (1..).zip(of_kind(message::NEW_CHAIN).filter(|c| c.is_bound_chain())) {
            chains.0.insert((chain.family, chain.table().to_vec(), chain.attribute(CHAIN_NAME).to_vec()), number);
        }
        let mut objects = Vec::with_capacity(dump.len());
        for table in of_kind(message::NEW_TABLE) {
            objects.push(self::table(table)?);
        }
        for chain in of_kind(message::NEW_CHAIN) {
            objects.push(self::chain(chain, &chains)?);
        }
        for (id, set) in (1..).zip(of_kind(message::NEW_SET)) {
            objects.push(self::set(set, id, &chains)?);
        }
        for object in of_kind(message::NEW_OBJECT) {
            objects.push(self::object(object)?);
        }
        for flowtable in of_kind(message::NEW_FLOWTABLE) {
            objects.push(rewritten(flowtable, &FLOWTABLE, |kind, value| Ok((kind, value.to_vec())))?);
        }
        for set in of_kind(message::NEW_SET) {
            let is_of =
                |o: &&Object| o.family == set.family && o.table() == set.table() && o.attribute(2) == set.attribute(2);
            objects.extend(elements(set, of_kind(message::NEW_ELEMENTS).filter(is_of), &chains)?);
        }
        objects.extend(rules(of_kind(message::NEW_RULE), &chains)?);
        Ok(Self { objects })
    }

    /// From objects that [`Ruleset::of_dump`] once gave.
    #[must_use]
    pub fn of_objects(objects: Vec<Object>) -> Self {
        Self { objects }
    }

    /// The requests, in their order.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Its tables, with that mark.
    #[must_use]
    pub fn tables(&self, mark: Mark) -> Vec<nft::Table> {
        let tables = self.objects.iter().filter(|o| o.kind == message::NEW_TABLE);
        let mut tables: Vec<_> =
            tables.map(|o| nft::Table { family: o.family, name: o.table().to_vec(), mark: Some(mark) }).collect();
        tables.sort();
        tables
    }

    /// What of the kernel it needs.
    #[must_use]
    pub fn features(&self) -> BTreeSet<String> {
        self.objects.iter().flat_map(Object::features).collect()
    }

    /// What people call one of its objects; rules by their place in their chain.
    #[must_use]
    pub fn name(&self, index: usize) -> String {
        let Some(object) = self.objects.get(index) else { return "the transaction".into() };
        if object.kind != message::NEW_RULE {
            return object.to_string();
        }
        let chain =
            |o: &Object| (o.family, o.table().to_vec(), o.attribute(RULE_CHAIN).to_vec(), o.number(RULE_CHAIN_ID));
        let same = |o: &&Object| o.kind == message::NEW_RULE && chain(o) == chain(object);
        let place = self.objects[..=index].iter().filter(same).count();
        let uses: Vec<String> = object.features().into_iter().collect();
        format!("{object}, number {place} ({})", uses.join(", "))
    }
}

/// The message with the attributes that are kept, each as `f` gives it.
fn rewritten(
    object: &Object,
    fate: &Fate,
    mut f: impl FnMut(u16, &[u8]) -> Result<(u16, Vec<u8>), Uncapturable>,
) -> Result<Object, Uncapturable> {
    let mut attributes = Vec::with_capacity(object.attributes.len());
    for (kind, value) in fate.of(&object.attributes, &object.to_string())? {
        let (kind, value) = f(kind, value)?;
        Write::to(&mut attributes).bytes(kind, &value);
    }
    Ok(Object { attributes, ..*object })
}

fn table(table: &Object) -> Result<Object, Uncapturable> {
    let mut fresh = rewritten(table, &TABLE, |kind, value| {
        let value = if kind == TABLE_USERDATA { nft::with_mark(value, None) } else { value.to_vec() };
        Ok((kind, value))
    })?;
    // A table that had a mark and nothing else is as one that has no user data.
    if find(&fresh.attributes, TABLE_USERDATA).is_some_and(<[u8]>::is_empty) {
        let kept: Vec<(u16, Vec<u8>)> = Read(&fresh.attributes)
            .filter(|(kind, _)| *kind != TABLE_USERDATA)
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect();
        fresh.attributes.clear();
        for (kind, value) in kept {
            Write::to(&mut fresh.attributes).bytes(kind, &value);
        }
    }
    Ok(fresh)
}

fn chain(chain: &Object, chains: &BoundChains) -> Result<Object, Uncapturable> {
    let number = chains.number(chain.family, chain.table(), chain.attribute(CHAIN_NAME));
    rewritten(chain, &CHAIN, |kind, value| {
        Ok(match (kind, number) {
            (CHAIN_NAME, Some(number)) => (CHAIN_ID, number.to_be_bytes().to_vec()),
            (CHAIN_COUNTERS, _) => {
                let mut zero = Vec::new();
                Write::to(&mut zero).bytes(1, &[0; 8]).bytes(2, &[0; 8]); // NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS
                (kind, zero)
            }
            _ => (kind, value.to_vec()),
        })
    })
}

fn set(set: &Object, id: u32, chains: &BoundChains) -> Result<Object, Uncapturable> {
    let object = set.to_string();
    let place = Place { family: set.family, table: set.table(), chains, object: &object };
    let mut fresh = rewritten(set, &SET, |kind, value| {
        Ok(match kind {
            SET_EXPR => (kind, expression::one(value, place, &mut Seen::default())?),
            SET_EXPRESSIONS => (kind, expression::list(value, place, &mut Seen::default())?),
            _ => (kind, value.to_vec()),
        })
    })?;
    Write::to(&mut fresh.attributes).bytes(SET_ID, &id.to_be_bytes());
    Ok(fresh)
}

fn object(object: &Object) -> Result<Object, Uncapturable> {
    rewritten(object, &OBJECT, |kind, value| {
        Ok(match (kind, object.number(OBJECT_TYPE)) {
            (OBJECT_DATA, Some(OBJECT_COUNTER)) => (kind, Vec::new()),
            (OBJECT_DATA, Some(OBJECT_QUOTA)) => (kind, expression::quota(value)),
            _ => (kind, value.to_vec()),
        })
    })
}

/// The elements of a set in as few messages as hold them. Sorted: a hash gives them in another order in each namespace.
/// By key, and the end of one interval before the beginning of the next, as nft writes them. Concatenated intervals alone
/// keep their order: the kernel gives them as they came, and nft lists them so.
fn elements<'a>(
    set: &Object,
    dumped: impl Iterator<Item = &'a Object>,
    chains: &BoundChains,
) -> Result<Vec<Object>, Uncapturable> {
    /// `NFT_SET_ELEM_INTERVAL_END`, `NFT_SET_ELEM_CATCHALL`.
    const INTERVAL_END: u32 = 1;
    const CATCH_ALL: u32 = 2;
    /// `NFT_SET_CONCAT`, `NFT_SET_INTERVAL`.
    const CONCATENATED_INTERVALS: u32 = 0x80 | 0x4;
    let object = format!("elements of {set}");
    let place = Place { family: set.family, table: set.table(), chains, object: &object };
    let mut all = Vec::new();
    for message in dumped {
        for (_, element) in Read(message.attribute(ELEMENTS)) {
            let flags = find(element, ELEMENT_FLAGS).and_then(be32).unwrap_or_default();
            let order = (flags & CATCH_ALL != 0, find(element, 1).map(<[u8]>::to_vec), flags & INTERVAL_END == 0);
            let mut fresh = Vec::with_capacity(element.len());
            for (kind, value) in ELEMENT.of(element, &object)? {
                let value = match kind {
                    2 => expression::data(value, place, &mut Seen::default()),
                    7 => expression::one(value, place, &mut Seen::default())?,
                    11 => expression::list(value, place, &mut Seen::default())?,
                    _ => value.to_vec(),
                };
                Write::to(&mut fresh).bytes(kind, &value);
            }
            all.push((order, fresh));
        }
    }
    let flags = set.number(SET_FLAGS).unwrap_or_default();
    if flags & CONCATENATED_INTERVALS != CONCATENATED_INTERVALS {
        all.sort();
        // A hash that grows while it is dumped gives some elements twice (rhashtable_walk_next, lib/rhashtable.c; seen
        // with 60,000 on 6.18).
        all.dedup();
    }
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for (_, element) in &all {
        if messages.last().is_none_or(|list| list.len() + element.len() + 4 > RULES_ELEMENTS_BYTES_MAX) {
            messages.push(Vec::new());
        }
        let list = messages.last_mut().expect("one was pushed");
        Write::to(list).bytes(1, element); // NFTA_LIST_ELEM
    }
    let request = |list: Vec<u8>| {
        let mut attributes = Vec::with_capacity(list.len() + 64);
        Write::to(&mut attributes).bytes(1, set.table()).bytes(2, set.attribute(2)).bytes(ELEMENTS, &list);
        Object { kind: message::NEW_ELEMENTS, family: set.family, attributes }
    };
    Ok(messages.into_iter().map(request).collect())
}

/// The rules in their order, but what stands in a chain inside a rule before that rule: a bound chain takes no more
/// (nft_chain_is_bound in nf_tables_newrule).
fn rules<'a>(dumped: impl Iterator<Item = &'a Object>, chains: &BoundChains) -> Result<Vec<Object>, Uncapturable> {
    let mut inside: BTreeMap<u32, Vec<(Object, Seen)>> = BTreeMap::new();
    let mut outside = Vec::new();
    for rule in dumped {
        let within = chains.number(rule.family, rule.table(), rule.attribute(RULE_CHAIN));
        let fresh = self::rule(rule, within, chains)?;
        match within {
            Some(number) => inside.entry(number).or_default().push(fresh),
            None => outside.push(fresh),
        }
    }
    let mut ordered = Vec::new();
    place_rules(outside, &mut inside, &mut ordered, 0)?;
    Ok(ordered)
}

fn place_rules(
    rules: Vec<(Object, Seen)>,
    inside: &mut BTreeMap<u32, Vec<(Object, Seen)>>,
    ordered: &mut Vec<Object>,
    depth: usize,
) -> Result<(), Uncapturable> {
    for (rule, seen) in rules {
        if depth > RULES_DEPTH_MAX {
            let why = format!("chains inside rules are nested more than {RULES_DEPTH_MAX} deep");
            return Err(Uncapturable { object: rule.to_string(), why, words: Vec::new() });
        }
        for number in &seen.chains {
            let held = inside.remove(number).unwrap_or_default();
            place_rules(held, inside, ordered, depth + 1)?;
        }
        ordered.push(rule);
    }
    Ok(())
}

fn rule(rule: &Object, within: Option<u32>, chains: &BoundChains) -> Result<(Object, Seen), Uncapturable> {
    let object = rule.to_string();
    let place = Place { family: rule.family, table: rule.table(), chains, object: &object };
    let mut seen = Seen::default();
    let mut fresh = rewritten(rule, &RULE, |kind, value| {
        Ok(match (kind, within) {
            (RULE_CHAIN, Some(number)) => (RULE_CHAIN_ID, number.to_be_bytes().to_vec()),
            (RULE_EXPRESSIONS, _) => (kind, expression::list(value, place, &mut seen)?),
            _ => (kind, value.to_vec()),
        })
    })?;
    let is_ip = matches!(i32::from(rule.family), libc::NFPROTO_IPV4 | libc::NFPROTO_IPV6 | libc::NFPROTO_INET);
    if let Some((protocol, inverted)) = seen.protocol_for_extensions().filter(|_| is_ip) {
        // NFTA_RULE_COMPAT_PROTO, NFTA_RULE_COMPAT_FLAGS with NFT_RULE_COMPAT_F_INV
        let (protocol, flags) = (u32::from(protocol), if inverted { 2_u32 } else { 0 });
        Write::to(&mut fresh.attributes).nest(RULE_COMPAT, |compat| {
            compat.bytes(1, &protocol.to_be_bytes()).bytes(2, &flags.to_be_bytes());
        });
    }
    Ok((fresh, seen))
}
