//! What this version does with records that another one wrote: one table and its steps, no I/O.

use std::path::Path;

use netslot_abi::{BindingRecord, LAYOUT_VERSION, LedgerRecord, SlotState, ledger_flag};

use super::error::DatapathError;

/// Makes a slot's lease record what this version would have written, from what the older one wrote of the slot. It may be
/// done twice: a pass that is killed begins anew. Until the new programs hang everywhere, the older ones go on reading what
/// it has made, so it takes away nothing that they need.
pub type Step = fn(LedgerRecord, &BindingRecord) -> LedgerRecord;

/// What becomes of records.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// They are read and written as they are.
    Reuse,
    /// A pass takes this step for each slot before it replaces the programs; nobody serves them before.
    Migrate(Step),
    /// They are left as they are, and whoever asks is told to start the version that wrote them. Also of every version
    /// that is not in the table.
    Refuse,
}

/// Each layout that there has been. A change of layout adds a line, and the line before it says what becomes of pools that
/// have the old one.
pub const KNOWN: [(u32, Fate); 2] = [(1, Fate::Migrate(without_guest)), (2, Fate::Reuse)];

const _: () = assert!(KNOWN[KNOWN.len() - 1].0 == LAYOUT_VERSION, "the newest layout has no line in the table");

/// What becomes of records with that layout.
#[must_use]
pub fn fate(found: u32) -> Fate {
    KNOWN.iter().find(|(version, _)| *version == found).map_or(Fate::Refuse, |(_, fate)| *fate)
}

/// Whether records of the pool whose configuration is pinned there can be used, as they are or by a pass's step.
///
/// # Errors
/// [`DatapathError::Layout`].
pub fn check(path: &Path, found: u32) -> Result<(), DatapathError> {
    match fate(found) {
        Fate::Reuse | Fate::Migrate(_) => Ok(()),
        Fate::Refuse => Err(DatapathError::Layout { path: path.into(), found }),
    }
}

/// From layout 1, in which a slot's use without a guest stood in its binding, in what is now the first reserved byte.
fn without_guest(lease: LedgerRecord, binding: &BindingRecord) -> LedgerRecord {
    const WITHOUT_GUEST: u8 = 1;
    let is_its = lease.state() == Some(SlotState::Leased) && binding.generation == lease.generation();
    if is_its && binding.reserved[0] & WITHOUT_GUEST != 0 {
        LedgerRecord { flags: lease.flags | ledger_flag::OWN_STACK, ..lease }
    } else {
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_are_used_older_ones_migrated_and_what_is_not_known_is_refused() {
        assert!(matches!(fate(LAYOUT_VERSION), Fate::Reuse));
        assert!((1..LAYOUT_VERSION).all(|older| matches!(fate(older), Fate::Migrate(_))));
        for unknown in [0, LAYOUT_VERSION + 1, u32::MAX] {
            assert!(matches!(fate(unknown), Fate::Refuse));
        }
    }

    #[test]
    fn the_use_without_a_guest_moves_from_a_living_binding_to_its_lease_and_nothing_else_changes() {
        let lease = |state, flags| LedgerRecord { commit: LedgerRecord::pack(7, state), flags, ..Default::default() };
        let binding = |generation, flag| BindingRecord { generation, reserved: [flag, 0], ..Default::default() };
        let leased = lease(SlotState::Leased, ledger_flag::UNSENT);
        let marked = LedgerRecord { flags: ledger_flag::UNSENT | ledger_flag::OWN_STACK, ..leased };
        assert_eq!(without_guest(leased, &binding(7, 1)), marked);
        assert_eq!(without_guest(marked, &binding(7, 1)), marked, "a second time");
        assert_eq!(without_guest(leased, &binding(7, 0)), leased);
        assert_eq!(without_guest(leased, &binding(6, 1)), leased, "an older lease's binding");
        let free = lease(SlotState::Free, 0);
        assert_eq!(without_guest(free, &binding(7, 1)), free);
    }
}
