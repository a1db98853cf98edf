//! Where a thing of a ruleset stands while it is rewritten, and how it is refused from there; no logic.

use std::collections::BTreeMap;

/// What cannot be brought into slots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {why}")]
pub struct Uncapturable {
    /// What it is part of.
    pub object: String,
    /// Why not, and what to do.
    pub why: String,
    /// Words of its line in the source, to find it by.
    pub words: Vec<String>,
}

/// Chains that stand inside rules. The kernel names them by a counter that all namespaces share
/// (nf_tables_addchain, net/netfilter/nf_tables_api.c), so they go by numbers of our own.
#[derive(Debug, Default)]
pub struct BoundChains(pub BTreeMap<(u8, Vec<u8>, Vec<u8>), u32>);

impl BoundChains {
    /// The number of the chain of that name, if it stands inside a rule.
    #[must_use]
    pub fn number(&self, family: u8, table: &[u8], name: &[u8]) -> Option<u32> {
        self.0.get(&(family, table.to_vec(), name.to_vec())).copied()
    }
}

/// Where expressions stand.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The family of their table.
    pub family: u8,
    /// Their table.
    pub table: &'a [u8],
    /// The chains that are written inside rules.
    pub chains: &'a BoundChains,
    /// What people call the object they are part of.
    pub object: &'a str,
}
