//! What this version does with records that another one wrote: one table, no I/O.

use std::path::Path;

use netslot_abi::LAYOUT_VERSION;

use super::error::DatapathError;

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are read and written as they are.
    Reuse,
    /// They are left as they are, and whoever asks is told to start the version that wrote them. Also of every version
    /// that is not in the table.
    Refuse,
}

/// Each layout that there has been. Layout 1 is the first: there is none to migrate from yet. A change of layout adds a
/// line, and here is where it says what becomes of pools that have the old one.
pub const KNOWN: [(u32, Fate); 1] = [(1, Fate::Reuse)];

const _: () = assert!(KNOWN[KNOWN.len() - 1].0 == LAYOUT_VERSION, "the newest layout has no line in the table");

/// What becomes of records with that layout.
#[must_use]
pub fn fate(found: u32) -> Fate {
    KNOWN.iter().find(|(version, _)| *version == found).map_or(Fate::Refuse, |(_, fate)| *fate)
}

/// Whether records of the pool whose configuration is pinned there can be used.
///
/// # Errors
/// [`DatapathError::Layout`].
pub fn check(path: &Path, found: u32) -> Result<(), DatapathError> {
    match fate(found) {
        Fate::Reuse => Ok(()),
        Fate::Refuse => Err(DatapathError::Layout { path: path.into(), found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_are_used_and_what_is_not_known_is_refused() {
        assert_eq!(fate(LAYOUT_VERSION), Fate::Reuse);
        for unknown in [0, LAYOUT_VERSION + 1, u32::MAX] {
            assert_eq!(fate(unknown), Fate::Refuse);
        }
    }
}
