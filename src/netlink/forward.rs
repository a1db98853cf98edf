//! What a dump of nf_tables says of forwarding: which chains drop what they do not accept, and whether the slots' devices
//! are let through; pure, knows no more of rules than that.

use nix::libc;

use super::nft::{self, message};
use super::read::{Attributes, Message, text_of};

/// `NF_INET_FORWARD`, linux/netfilter.h.
const HOOK_FORWARD: u32 = 2;

// linux/netfilter/nf_tables.h.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const META_KEY: u16 = 2;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const CMP_DATA: u16 = 3;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Where a chain is: family, table and name, as the kernel tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `NFPROTO_*`.
    pub family: u8,
    /// With its terminating zero.
    pub table: Vec<u8>,
    /// With its terminating zero.
    pub chain: Vec<u8>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", nft::family_name(self.family), text_of(&self.table), text_of(&self.chain))
    }
}

/// A chain that forwarded IPv4 or IPv6 packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Which.
    pub place: Place,
    /// Whether what none of its rules decides is dropped.
    pub drops: bool,
}

impl Chain {
    /// Reads a message of a dump of chains; `None` for any other chain.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let (kind, family, attributes) = nft::parts(message)?;
        let inet = [libc::NFPROTO_INET, libc::NFPROTO_IPV4, libc::NFPROTO_IPV6].contains(&i32::from(family));
        if kind != message::NEW_CHAIN || !inet {
            return None;
        }
        let hook = number(find(find(attributes, CHAIN_HOOK)?, HOOK_NUMBER)?)?;
        let place = Place {
            family,
            table: find(attributes, CHAIN_TABLE)?.to_vec(),
            chain: find(attributes, CHAIN_NAME)?.to_vec(),
        };
        let drops = find(attributes, CHAIN_POLICY).and_then(number) == Some(DROP);
        (hook == HOOK_FORWARD).then_some(Self { place, drops })
    }
}

/// A rule, as far as it decides about slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its chain.
    pub place: Place,
    /// Whether it drops or rejects whatever comes to it.
    pub drops_all: bool,
    /// Whether it accepts what comes in by devices whose name begins so.
    pub accepts_from: bool,
    /// Whether it accepts what leaves by such devices.
    pub accepts_to: bool,
}

impl Rule {
    /// Reads a message of a dump of rules; `prefix` is what the devices' names begin with.
    #[must_use]
    pub fn read(message: &Message<'_>, prefix: &str) -> Option<Self> {
        let (kind, family, attributes) = nft::parts(message)?;
        if kind != message::NEW_RULE {
            return None;
        }
        let place = Place {
            family,
            table: find(attributes, RULE_TABLE)?.to_vec(),
            chain: find(attributes, RULE_CHAIN)?.to_vec(),
        };
        let (mut conditions, mut drops, mut accepts) = (false, false, false);
        let (mut loaded, mut from, mut to) = (None, false, false);
        for (_, expression) in Attributes(find(attributes, RULE_EXPRESSIONS).unwrap_or_default()) {
            let data = find(expression, EXPRESSION_DATA).unwrap_or_default();
            match &*text_of(find(expression, EXPRESSION_NAME).unwrap_or_default()) {
                "counter" | "log" | "limit" | "comment" => {}
                "reject" => drops = true,
                "immediate" => {
                    let verdict = find(data, IMMEDIATE_DATA).and_then(|data| find(data, DATA_VERDICT));
                    match verdict.and_then(|verdict| find(verdict, VERDICT_CODE)).and_then(number) {
                        Some(DROP) => drops = true,
                        Some(ACCEPT) => accepts = true,
                        Some(_) | None => conditions = true,
                    }
                }
                "meta" => {
                    loaded = find(data, META_KEY).and_then(number);
                    conditions = true;
                }
                "cmp" => {
                    let value = find(data, CMP_DATA).and_then(|data| find(data, DATA_VALUE)).unwrap_or_default();
                    let named = value.starts_with(prefix.as_bytes());
                    from |= named && loaded == Some(META_IIFNAME);
                    to |= named && loaded == Some(META_OIFNAME);
                    conditions = true;
                }
                _ => conditions = true,
            }
        }
        Some(Self { place, drops_all: drops && !conditions, accepts_from: accepts && from, accepts_to: accepts && to })
    }
}

/// A chain that blocks slots' packets, and why it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wall {
    /// The chain.
    pub place: Place,
    /// By its policy; else by its last rule.
    pub by_policy: bool,
}

/// The chains that drop what they do not accept and do not accept what slots send and get. A rule that accepts less than
/// everything of the slots' devices is taken for what its author wants.
#[must_use]
pub fn walls(chains: Vec<Chain>, rules: &[Rule]) -> Vec<Wall> {
    let blocks = |chain: Chain| {
        let own = || rules.iter().filter(|rule| rule.place == chain.place);
        let by_rule = own().next_back().is_some_and(|rule| rule.drops_all);
        let lets = own().any(|rule| rule.accepts_from) && own().any(|rule| rule.accepts_to);
        ((chain.drops || by_rule) && !lets).then_some(Wall { by_policy: chain.drops, place: chain.place })
    };
    chains.into_iter().filter_map(blocks).collect()
}

fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A number in network byte order, as nf_tables has them.
fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(table: &str) -> Place {
        Place { family: 1, table: table.into(), chain: b"forward\0".to_vec() }
    }

    fn rule(table: &str) -> Rule {
        Rule { place: place(table), drops_all: false, accepts_from: false, accepts_to: false }
    }

    #[test]
    fn a_chain_is_a_wall_by_its_policy_or_its_last_rule_unless_it_lets_slots_through() {
        let chain = |table: &str, drops| Chain { place: place(table), drops };
        let chains = || vec![chain("open", false), chain("policy", true), chain("rule", false), chain("early", false)];
        let ends = |table: &str| Rule { drops_all: true, ..rule(table) };
        let rules = [rule("policy"), rule("rule"), ends("rule"), ends("early"), rule("early")];
        let found = |rules: &[Rule]| -> Vec<(String, bool)> {
            let walls = walls(chains(), rules).into_iter();
            walls.map(|wall| (text_of(&wall.place.table).into_owned(), wall.by_policy)).collect()
        };
        let both = [("policy".to_owned(), true), ("rule".to_owned(), false)];
        assert_eq!(found(&rules), both, "a drop that something follows is not the last word");
        let from = Rule { accepts_from: true, ..rule("policy") };
        let to = Rule { accepts_to: true, ..rule("policy") };
        assert_eq!(found(&[&rules[..], std::slice::from_ref(&from)].concat()), both, "one way is none");
        assert_eq!(found(&[&rules[..], &[from, to]].concat()), both[1..]);
    }
}
