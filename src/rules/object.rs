//! One message of nf_tables: what it is about, what people call it, and what it needs and costs; pure.

use std::collections::BTreeSet;
use std::fmt;

use super::expression::{self, be32, find};
use crate::netlink::batch::{APPEND, CREATE};
use crate::netlink::nft::{family_name, message};
use crate::netlink::read::{Attributes as Read, text_of};

/// `NFTA_*` of linux/netfilter/nf_tables.h, as far as more than one place here knows them.
pub mod attribute {
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_TYPE: u16 = 7;
    pub const CHAIN_COUNTERS: u16 = 8;
    pub const CHAIN_FLAGS: u16 = 10;
    pub const CHAIN_ID: u16 = 11;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const RULE_COMPAT: u16 = 5;
    pub const RULE_CHAIN_ID: u16 = 11;
    pub const SET_FLAGS: u16 = 3;
    pub const SET_ID: u16 = 10;
    pub const SET_EXPR: u16 = 17;
    pub const SET_EXPRESSIONS: u16 = 18;
    pub const ELEMENTS: u16 = 3;
    pub const ELEMENT_FLAGS: u16 = 3;
    pub const OBJECT_TYPE: u16 = 3;
    pub const OBJECT_DATA: u16 = 4;
}
use attribute::*;

/// `NFT_CHAIN_BINDING`: the chain stands inside a rule, as in `jump { … }`.
const CHAIN_IS_BOUND: u32 = 4;
/// `NFT_OBJECT_COUNTER`, `NFT_OBJECT_QUOTA`.
pub const OBJECT_COUNTER: u32 = 1;
pub const OBJECT_QUOTA: u32 = 2;

/// One message of nf_tables, of a dump or as a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// `NFT_MSG_NEW…`.
    pub kind: u8,
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its attributes.
    pub attributes: Vec<u8>,
}

impl Object {
    /// The value of its first attribute of that kind; nothing where it has none.
    #[must_use]
    pub fn attribute(&self, kind: u16) -> &[u8] {
        find(&self.attributes, kind).unwrap_or_default()
    }

    /// The number that its first attribute of that kind is.
    #[must_use]
    pub fn number(&self, kind: u16) -> Option<u32> {
        be32(self.attribute(kind))
    }

    /// The table it is in, or is.
    #[must_use]
    pub fn table(&self) -> &[u8] {
        self.attribute(1)
    }

    /// Whether it is a chain that stands inside a rule.
    #[must_use]
    pub fn is_bound_chain(&self) -> bool {
        self.kind == message::NEW_CHAIN && self.number(CHAIN_FLAGS).is_some_and(|f| f & CHAIN_IS_BOUND != 0)
    }

    /// The flags that it is requested with.
    #[must_use]
    pub fn flags(&self) -> u16 {
        if self.kind == message::NEW_RULE { CREATE | APPEND } else { CREATE }
    }

    /// Devices that it hangs on, by name: those of a chain of the netdev family, of an ingress chain, of a flowtable.
    #[must_use]
    pub fn devices(&self) -> Vec<String> {
        let (one, all) = match self.kind {
            message::NEW_CHAIN => (find(self.attribute(4), 3), find(self.attribute(4), 4)), // NFTA_HOOK_DEV, _DEVS
            message::NEW_FLOWTABLE => (None, find(self.attribute(3), 3)),                   // NFTA_FLOWTABLE_HOOK_DEVS
            _ => (None, None),
        };
        let all = Read(all.unwrap_or_default()).filter(|(kind, _)| *kind == 1).map(|(_, name)| name); // NFTA_DEVICE_NAME
        one.into_iter().chain(all).map(|name| text_of(name).into_owned()).collect()
    }

    /// Counters in it: each is memory of its own on every CPU.
    #[must_use]
    pub fn counters(&self) -> u64 {
        let counted = |list: &[u8]| expression::count(list, "counter");
        match self.kind {
            message::NEW_RULE => counted(self.attribute(RULE_EXPRESSIONS)),
            message::NEW_CHAIN => u64::from(!self.attribute(CHAIN_COUNTERS).is_empty()),
            message::NEW_OBJECT => u64::from(self.number(OBJECT_TYPE) == Some(OBJECT_COUNTER)),
            message::NEW_ELEMENTS => {
                let counter =
                    |element: &[u8]| u64::from(find(element, 7).is_some_and(|e| expression::is(e, "counter")));
                Read(self.attribute(ELEMENTS)).map(|(_, e)| counter(e) + find(e, 11).map_or(0, counted)).sum()
            }
            _ => 0,
        }
    }

    /// What of the kernel it needs, in nft's words.
    #[must_use]
    pub fn features(&self) -> BTreeSet<String> {
        let mut features = BTreeSet::new();
        match self.kind {
            message::NEW_TABLE => {
                features.insert(format!("family {}", family_name(self.family)));
            }
            message::NEW_CHAIN if !self.attribute(CHAIN_TYPE).is_empty() => {
                features.insert(format!("chain type {}", text_of(self.attribute(CHAIN_TYPE))));
            }
            message::NEW_RULE => expression::names(self.attribute(RULE_EXPRESSIONS), &mut features),
            message::NEW_SET => {
                expression::names(self.attribute(SET_EXPRESSIONS), &mut features);
                if let Some(inner) = find(&self.attributes, SET_EXPR) {
                    expression::name(inner, &mut features);
                }
            }
            message::NEW_OBJECT => {
                let number = self.number(OBJECT_TYPE).unwrap_or_default();
                let name = usize::try_from(number).ok().and_then(|n| OBJECT_NAMES.get(n));
                features.insert(name.map_or_else(|| format!("object type {number}"), |name| (*name).into()));
            }
            message::NEW_FLOWTABLE => {
                features.insert("flowtable".into());
            }
            _ => {}
        }
        features
    }
}

/// `NFT_OBJECT_*` in nft's words.
const OBJECT_NAMES: [&str; 11] = [
    "object",
    "counter",
    "quota",
    "ct helper",
    "limit",
    "connlimit",
    "tunnel",
    "ct timeout",
    "secmark",
    "ct expectation",
    "synproxy",
];

/// What people call it: `chain inet filter input`.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = match self.kind {
            message::NEW_TABLE => ("table", None),
            message::NEW_CHAIN => ("chain", Some(self.attribute(CHAIN_NAME))),
            message::NEW_SET => ("set", Some(self.attribute(2))),
            message::NEW_ELEMENTS => ("elements of set", Some(self.attribute(2))),
            message::NEW_OBJECT => ("object", Some(self.attribute(2))),
            message::NEW_FLOWTABLE => ("flowtable", Some(self.attribute(2))),
            message::NEW_RULE => ("rule of chain", Some(self.attribute(RULE_CHAIN))),
            _ => ("message of nf_tables", None),
        };
        write!(f, "{what} {} {}", family_name(self.family), text_of(self.table()))?;
        match name.map(text_of) {
            None => Ok(()),
            Some(name) if name.is_empty() => f.write_str(" inside a rule"),
            Some(name) => write!(f, " {name}"),
        }
    }
}
