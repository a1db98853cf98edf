//! What a rule or a set does with each packet, as the kernel tells it, made into what the kernel takes: state left out,
//! chains inside rules by number, what iptables' extensions need added; pure.
//!
//! Numbers are those of linux/netfilter/nf_tables.h and nf_tables_compat.h. A dump is nearly a request: nft_*_dump and
//! nft_*_init use the same attributes, but for those that are read here.

use std::collections::BTreeSet;

use super::place::{Place, Uncapturable};
use crate::netlink::batch::Attributes as Write;
use crate::netlink::read::{Attributes as Read, text_of};

/// `NFTA_LIST_ELEM`.
const LIST_ELEM: u16 = 1;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
/// `NFTA_IMMEDIATE_DATA`.
const IMMEDIATE_DATA: u16 = 2;
/// `NFTA_DATA_VERDICT`.
const DATA_VERDICT: u16 = 2;
/// `NFTA_VERDICT_CHAIN`, `NFTA_VERDICT_CHAIN_ID`.
const VERDICT_CHAIN: u16 = 2;
const VERDICT_CHAIN_ID: u16 = 3;
/// `NFTA_DYNSET_EXPR`, `NFTA_DYNSET_EXPRESSIONS`.
const DYNSET_EXPR: u16 = 7;
const DYNSET_EXPRESSIONS: u16 = 10;
/// `NFTA_QUOTA_BYTES`, `NFTA_QUOTA_FLAGS`; `NFT_QUOTA_F_INV`, the one flag that may be set from outside.
const QUOTA_BYTES: u16 = 1;
const QUOTA_FLAGS: u16 = 2;
const QUOTA_INVERTED: u32 = 1;
/// `NFTA_MATCH_NAME`, the same number for targets.
const EXTENSION_NAME: u16 = 1;

/// What was seen on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Chains inside the rule, by number.
    pub chains: Vec<u32>,
    /// The transport protocol that the rule asks for, and whether it asks for any other.
    protocol: Option<(u8, bool)>,
    /// Whether an extension of iptables is used.
    extension: bool,
    /// The register that holds the packet's transport protocol.
    register: Option<u32>,
}

impl Seen {
    /// What iptables' extensions must know of the rule and a dump leaves out (`NFTA_RULE_COMPAT`): many check at
    /// insertion that the rule asks for their protocol (xt_check_match, net/netfilter/x_tables.c).
    pub fn protocol_for_extensions(&self) -> Option<(u8, bool)> {
        self.protocol.filter(|_| self.extension)
    }
}

/// A list of expressions, rewritten.
pub fn list(expressions: &[u8], place: Place<'_>, seen: &mut Seen) -> Result<Vec<u8>, Uncapturable> {
    let mut out = Vec::with_capacity(expressions.len());
    for (kind, value) in Read(expressions) {
        if kind == LIST_ELEM {
            let inner = one(value, place, seen)?;
            Write::to(&mut out).bytes(LIST_ELEM, &inner);
        }
    }
    Ok(out)
}

/// One expression, rewritten.
pub fn one(expression: &[u8], place: Place<'_>, seen: &mut Seen) -> Result<Vec<u8>, Uncapturable> {
    let name = find(expression, EXPR_NAME).unwrap_or_default();
    let data = find(expression, EXPR_DATA).unwrap_or_default();
    let data = match text_of(name).as_ref() {
        "counter" | "last" => Vec::new(), // all they say is state
        "quota" => quota(data),
        "immediate" => map(data, |kind, value| match kind {
            IMMEDIATE_DATA => Ok(self::data(value, place, seen)),
            _ => Ok(value.to_vec()),
        })?,
        "dynset" => map(&dynset_as_asked(data), |kind, value| match kind {
            DYNSET_EXPR => one(value, place, seen),
            DYNSET_EXPRESSIONS => list(value, place, seen),
            _ => Ok(value.to_vec()),
        })?,
        "exthdr" => exthdr_as_asked(data),
        "match" | "target" => {
            seen.extension = true;
            extension(data, place)?
        }
        other => {
            watch_protocol(other, data, seen);
            data.to_vec()
        }
    };
    let mut out = Vec::with_capacity(expression.len());
    Write::to(&mut out).bytes(EXPR_NAME, name).bytes(EXPR_DATA, &data);
    Ok(out)
}

/// A timeout of 0 is dumped where there is none, and refused in a set without timeouts (nft_dynset_init,
/// net/netfilter/nft_dynset.c; seen on 6.18).
fn dynset_as_asked(data: &[u8]) -> Vec<u8> {
    /// `NFTA_DYNSET_TIMEOUT`.
    const TIMEOUT: u16 = 6;
    filtered(data, |kind, value| kind != TIMEOUT || value.iter().any(|byte| *byte != 0))
}

/// All fields are dumped whatever is done with the option; to write one takes no flags, to strip one takes its type alone
/// (nft_exthdr_tcp_set_init, nft_exthdr_tcp_strip_init, net/netfilter/nft_exthdr.c).
fn exthdr_as_asked(data: &[u8]) -> Vec<u8> {
    /// `NFTA_EXTHDR_DREG`, `_TYPE`, `_FLAGS`, `_OP`, `_SREG`.
    const READ_TO: u16 = 1;
    const TYPE: u16 = 2;
    const FLAGS: u16 = 5;
    const OP: u16 = 6;
    const WRITE_FROM: u16 = 7;
    match (find(data, READ_TO), find(data, WRITE_FROM)) {
        (Some(_), _) => data.to_vec(),
        (None, Some(_)) => filtered(data, |kind, _| kind != FLAGS),
        (None, None) => filtered(data, |kind, _| matches!(kind, TYPE | OP)),
    }
}

/// The attributes that are wanted.
fn filtered(attributes: &[u8], wanted: impl Fn(u16, &[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(attributes.len());
    for (kind, value) in Read(attributes).filter(|(kind, value)| wanted(*kind, value)) {
        Write::to(&mut out).bytes(kind, value);
    }
    out
}

/// A value, or a verdict whose chain stands inside a rule and has a number instead of its name.
pub fn data(data: &[u8], place: Place<'_>, seen: &mut Seen) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for (kind, value) in Read(data) {
        if kind != DATA_VERDICT {
            Write::to(&mut out).bytes(kind, value);
            continue;
        }
        Write::to(&mut out).nest(DATA_VERDICT, |verdict| {
            for (kind, value) in Read(value) {
                match place.chains.number(place.family, place.table, value).filter(|_| kind == VERDICT_CHAIN) {
                    Some(number) => {
                        seen.chains.push(number);
                        verdict.bytes(VERDICT_CHAIN_ID, &number.to_be_bytes());
                    }
                    None => {
                        verdict.bytes(kind, value);
                    }
                }
            }
        });
    }
    out
}

/// A quota without what was used of it.
pub fn quota(quota: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(quota.len());
    for (kind, value) in Read(quota) {
        match (kind, be32(value)) {
            (QUOTA_BYTES, _) => {
                Write::to(&mut out).bytes(kind, value);
            }
            (QUOTA_FLAGS, Some(flags)) => {
                Write::to(&mut out).bytes(kind, &(flags & QUOTA_INVERTED).to_be_bytes());
            }
            _ => {}
        }
    }
    out
}

/// An extension of iptables. Its data is the C structure that iptables handed over, the kernel's own part zeroed
/// (nft_extension_dump_info, net/netfilter/nft_compat.c).
fn extension(data: &[u8], place: Place<'_>) -> Result<Vec<u8>, Uncapturable> {
    let name = find(data, EXTENSION_NAME).map(text_of).unwrap_or_default();
    if name.eq_ignore_ascii_case("set") {
        return Err(Uncapturable {
            object: place.object.into(),
            why: "it looks into an ipset, which stands outside of nf_tables and would have to be made in every slot; \
                  write the set in nft's own syntax"
                .into(),
            words: vec!["set".into()],
        });
    }
    Ok(data.to_vec())
}

/// Follows how a rule asks for a transport protocol: load it, compare it.
fn watch_protocol(name: &str, data: &[u8], seen: &mut Seen) {
    /// `NFT_META_L4PROTO`.
    const META_L4PROTO: u32 = 16;
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    const NETWORK_HEADER: u32 = 1;
    let number = |kind| find(data, kind).and_then(be32);
    match name {
        "meta" if number(2) == Some(META_L4PROTO) => seen.register = number(1),
        // One byte of the network header: protocol of IPv4, next header of IPv6.
        "payload" if number(2) == Some(NETWORK_HEADER) && matches!(number(3), Some(6 | 9)) && number(4) == Some(1) => {
            seen.register = number(1);
        }
        "cmp" if seen.register.is_some() && number(1) == seen.register => {
            let value = find(data, 3).and_then(|d| find(d, 1)); // NFTA_CMP_DATA, NFTA_DATA_VALUE
            if let Some([protocol]) = value {
                seen.protocol = Some((*protocol, number(2) == Some(1))); // NFT_CMP_NEQ
            }
            seen.register = None;
        }
        _ => {}
    }
}

/// Names of the expressions in a list, and of iptables' extensions.
pub fn names(expressions: &[u8], into: &mut BTreeSet<String>) {
    for (_, expression) in Read(expressions).filter(|(kind, _)| *kind == LIST_ELEM) {
        name(expression, into);
    }
}

/// The name of one expression, and of those inside it.
pub fn name(expression: &[u8], into: &mut BTreeSet<String>) {
    let name = find(expression, EXPR_NAME).map(text_of).unwrap_or_default();
    let data = find(expression, EXPR_DATA).unwrap_or_default();
    match name.as_ref() {
        "match" | "target" => {
            let extension = find(data, EXTENSION_NAME).map(text_of).unwrap_or_default();
            into.insert(format!("iptables {name} {extension}"));
        }
        "dynset" => {
            Read(data).filter(|(kind, _)| *kind == DYNSET_EXPR).for_each(|(_, inner)| self::name(inner, into));
            find(data, DYNSET_EXPRESSIONS).into_iter().for_each(|inner| names(inner, into));
        }
        _ => {}
    }
    into.insert(name.into_owned());
}

/// Whether that is the expression's name.
pub fn is(expression: &[u8], name: &str) -> bool {
    find(expression, EXPR_NAME).is_some_and(|found| text_of(found) == name)
}

/// Expressions of that name in a list.
pub fn count(expressions: &[u8], name: &str) -> u64 {
    Read(expressions).filter(|(kind, expression)| *kind == LIST_ELEM && is(expression, name)).map(|_| 1).sum()
}

/// The value of the first attribute of that kind.
pub fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Read(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Four bytes in network order, as nf_tables has all its numbers.
pub fn be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Each attribute with the value that `f` gives it.
fn map(
    attributes: &[u8],
    mut f: impl FnMut(u16, &[u8]) -> Result<Vec<u8>, Uncapturable>,
) -> Result<Vec<u8>, Uncapturable> {
    let mut out = Vec::with_capacity(attributes.len());
    for (kind, value) in Read(attributes) {
        let value = f(kind, value)?;
        Write::to(&mut out).bytes(kind, &value);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::place::BoundChains;
    use super::*;

    fn expression(name: &str, fill: impl FnOnce(&mut Write<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        Write::to(&mut bytes).text(EXPR_NAME, name).nest(EXPR_DATA, fill);
        bytes
    }

    fn place(chains: &BoundChains) -> Place<'_> {
        Place { family: 1, table: b"t\0", chains, object: "rule 1" }
    }

    #[test]
    fn state_is_left_out_wherever_it_stands() {
        let chains = BoundChains::default();
        let counted = expression("counter", |a| {
            a.bytes(1, &7_u64.to_be_bytes()).bytes(2, &9_u64.to_be_bytes());
        });
        let fresh = expression("counter", |_| ());
        assert_eq!(one(&counted, place(&chains), &mut Seen::default()), Ok(fresh.clone()));
        let dynset = |inner: &[u8]| {
            expression("dynset", |a| {
                a.text(1, "meter").bytes(DYNSET_EXPR, inner);
            })
        };
        assert_eq!(one(&dynset(&counted), place(&chains), &mut Seen::default()), Ok(dynset(&fresh)));
    }

    #[test]
    fn a_quota_starts_unused_and_not_depleted() {
        let mut used = Vec::new();
        Write::to(&mut used).bytes(1, &[0, 0, 0, 0, 0, 0, 4, 0]).bytes(2, &[0, 0, 0, 3]).bytes(4, &[0; 8]);
        let mut fresh = Vec::new();
        Write::to(&mut fresh).bytes(1, &[0, 0, 0, 0, 0, 0, 4, 0]).bytes(2, &[0, 0, 0, 1]);
        assert_eq!(quota(&used), fresh);
    }

    #[test]
    fn an_extension_learns_the_protocol_that_the_rule_asks_for() {
        let chains = BoundChains::default();
        let load = expression("meta", |a| {
            a.bytes(1, &8_u32.to_be_bytes()).bytes(2, &16_u32.to_be_bytes());
        });
        let compare = expression("cmp", |a| {
            a.bytes(1, &8_u32.to_be_bytes()).bytes(2, &0_u32.to_be_bytes()).nest(3, |d| {
                d.u8(1, 6);
            });
        });
        let multiport = expression("match", |a| {
            a.text(1, "multiport");
        });
        let mut rule = Vec::new();
        for each in [&load, &compare, &multiport] {
            Write::to(&mut rule).bytes(LIST_ELEM, each);
        }
        let mut seen = Seen::default();
        assert_eq!(list(&rule, place(&chains), &mut seen), Ok(rule));
        assert_eq!(seen.protocol_for_extensions(), Some((6, false)));
    }

    #[test]
    fn an_ipset_is_refused_with_the_reason() {
        let chains = BoundChains::default();
        let set = expression("match", |a| {
            a.text(1, "set");
        });
        let refused = one(&set, place(&chains), &mut Seen::default()).expect_err("an ipset");
        assert!(refused.to_string().starts_with("rule 1: it looks into an ipset"), "{refused}");
    }
}
