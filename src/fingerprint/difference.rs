//! Two fingerprints held against each other: what is missing, what is there besides, and what is otherwise.

use std::cmp::Ordering;

use super::{Fact, Fingerprint, Path};

/// One thing in which a slot is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It should be there.
    Missing(Fact),
    /// Nobody made it.
    Added(Fact),
    /// It is there and otherwise.
    Changed {
        /// As it should be.
        expected: Fact,
        /// As it is.
        found: Fact,
        /// Where.
        paths: Vec<Path>,
    },
    /// Something of the rules, in the words of `rules`.
    Rules(String),
    /// Something that packets have added to a set of the rules, in the same words.
    Element(String),
    /// Counts and quotas of the rules, which packets have changed.
    Counts,
}

impl Difference {
    /// Whether traffic alone brings it about.
    #[must_use]
    pub fn is_trace(&self) -> bool {
        match self {
            Self::Added(fact) => fact.is_trace(),
            Self::Changed { expected, found, .. } => expected.is_trace() && found.is_trace(),
            Self::Element(_) | Self::Counts => true,
            Self::Missing(_) | Self::Rules(_) => false,
        }
    }
}

/// All differences, in the order of the facts.
#[must_use]
pub fn compare(expected: &Fingerprint, found: &Fingerprint) -> Vec<Difference> {
    let (mut expected, mut found) = (expected.facts(), found.facts());
    let mut differences = Vec::new();
    loop {
        let order = match (expected.first(), found.first()) {
            (None, None) => return differences,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(e), Some(f)) => e.class.cmp(&f.class).then_with(|| e.key().cmp(f.key())),
        };
        match order {
            Ordering::Less => differences.extend(take(&mut expected).map(|e| Difference::Missing(e.clone()))),
            Ordering::Greater => differences.extend(take(&mut found).map(|f| Difference::Added(f.clone()))),
            Ordering::Equal => {
                let pair = take(&mut expected).zip(take(&mut found));
                differences.extend(pair.filter(|(e, f)| e.fields != f.fields).map(|(e, f)| changed(e, f)));
            }
        }
    }
}

fn take<'a>(facts: &mut &'a [Fact]) -> Option<&'a Fact> {
    let (first, rest) = facts.split_first()?;
    *facts = rest;
    Some(first)
}

fn changed(expected: &Fact, found: &Fact) -> Difference {
    let of = |fact: &Fact, path| -> Vec<Vec<u8>> {
        fact.fields.iter().filter(|field| field.path == path).map(|field| field.value.clone()).collect()
    };
    let mut paths: Vec<Path> = expected.fields.iter().chain(&found.fields).map(|field| field.path).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.retain(|path| of(expected, *path) != of(found, *path));
    Difference::Changed { expected: expected.clone(), found: found.clone(), paths }
}
