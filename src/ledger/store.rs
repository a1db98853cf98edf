//! Where the ledger's records live, and in which order their words are written; no state, no decision.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use netslot_abi::{BindingRecord, LedgerRecord, SlotState};

use crate::slot::SlotId;

/// 8-byte words in a record of either kind.
pub const WORDS: usize = size_of::<LedgerRecord>() / 8;

/// One record as the words it is stored in.
pub type Words = [u64; WORDS];

/// What a store could not take; the number is the kernel's `errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", std::io::Error::from_raw_os_error(*.0))]
pub struct StoreError(pub i32);

/// The records of a pool, which outlive the process.
///
/// Each call has reached the store when it returns; whoever is killed within one leaves the old record or the new, never
/// a mixture that its commit word calls valid.
pub trait Store {
    /// Records of each kind.
    fn slots(&self) -> u32;

    /// The slot's lease record.
    fn ledger(&self, slot: SlotId) -> LedgerRecord;

    /// The slot's binding record.
    fn binding(&self, slot: SlotId) -> BindingRecord;

    /// The slots that somebody leases, by the records.
    fn leased(&self) -> BTreeSet<SlotId> {
        let is_leased = |slot: &SlotId| self.ledger(*slot).state() == Some(SlotState::Leased);
        SlotId::first(self.slots()).filter(is_leased).collect()
    }

    /// Replaces the slot's lease record, the commit word last.
    fn store_ledger(&mut self, slot: SlotId, record: &LedgerRecord);

    /// Replaces the slot's binding record, the generation last.
    ///
    /// # Errors
    /// Where the store has no room or the kernel refuses; whatever was bound before, nothing need be bound then, and
    /// the caller calls [`Store::clear_binding`].
    fn store_binding(&mut self, slot: SlotId, record: &BindingRecord) -> Result<(), StoreError>;

    /// Makes the slot's binding record say: not bound. It never fails: the lease record's generation has made the
    /// binding dead already, and this only tidies up.
    fn clear_binding(&mut self, slot: SlotId);
}

/// Memory that holds the two records of each slot, seen as words that only atomic loads and stores touch: other
/// processes and eBPF programs read the same memory.
pub trait Cells {
    /// Records of each kind.
    fn slots(&self) -> u32;

    /// The words of the slot's lease record.
    fn ledger(&self, slot: SlotId) -> &[AtomicU64; WORDS];

    /// The words of the slot's binding record.
    fn binding(&self, slot: SlotId) -> &[AtomicU64; WORDS];

    /// Stores one word: the seam at which a simulation dies.
    fn put(&self, cell: &AtomicU64, word: u64, order: Ordering) {
        cell.store(word, order);
    }
}

impl<C: Cells> Cells for &C {
    fn slots(&self) -> u32 {
        (**self).slots()
    }

    fn ledger(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        (**self).ledger(slot)
    }

    fn binding(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        (**self).binding(slot)
    }

    fn put(&self, cell: &AtomicU64, word: u64, order: Ordering) {
        (**self).put(cell, word, order);
    }
}

impl<C: Cells> Cells for std::sync::Arc<C> {
    fn slots(&self) -> u32 {
        (**self).slots()
    }

    fn ledger(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        (**self).ledger(slot)
    }

    fn binding(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        (**self).binding(slot)
    }

    fn put(&self, cell: &AtomicU64, word: u64, order: Ordering) {
        (**self).put(cell, word, order);
    }
}

/// The [`Store`] over plain memory, mapped from a file or not.
#[derive(Debug)]
pub struct Records<C>(pub C);

/// Index of the word that decides: `commit` of a lease, `generation` of a binding. Both records begin with it.
const DECIDING: usize = 0;

/// A record that others may be writing meanwhile: read until two looks in a row agree.
fn load(cells: &[AtomicU64; WORDS]) -> Words {
    let mut before = look(cells);
    loop {
        let after = look(cells);
        if after == before {
            return after;
        }
        before = after;
    }
}

fn look(cells: &[AtomicU64; WORDS]) -> Words {
    let mut words = [0; WORDS];
    // Acquire: the body read below is at least as new as the word that calls it valid.
    words[DECIDING] = cells[DECIDING].load(Ordering::Acquire);
    for (word, cell) in words.iter_mut().zip(cells).skip(DECIDING + 1) {
        *word = cell.load(Ordering::Relaxed);
    }
    // And the next look comes after this one.
    fence(Ordering::Acquire);
    words
}

fn store<C: Cells>(memory: &C, cells: &[AtomicU64; WORDS], words: &Words) {
    // No store below may be seen before an earlier deciding word (the first half of a seqlock's writer): a compiler or
    // a weakly ordered CPU could otherwise move a new body above the word that made the old one void.
    fence(Ordering::Release);
    for (cell, word) in cells.iter().zip(words).skip(DECIDING + 1) {
        memory.put(cell, *word, Ordering::Relaxed);
    }
    memory.put(&cells[DECIDING], words[DECIDING], Ordering::Release);
}

impl<C: Cells> Store for Records<C> {
    fn slots(&self) -> u32 {
        self.0.slots()
    }

    fn ledger(&self, slot: SlotId) -> LedgerRecord {
        zerocopy::transmute!(load(self.0.ledger(slot)))
    }

    fn binding(&self, slot: SlotId) -> BindingRecord {
        zerocopy::transmute!(load(self.0.binding(slot)))
    }

    fn store_ledger(&mut self, slot: SlotId, record: &LedgerRecord) {
        store(&self.0, self.0.ledger(slot), &zerocopy::transmute!(*record));
    }

    fn store_binding(&mut self, slot: SlotId, record: &BindingRecord) -> Result<(), StoreError> {
        let cells = self.0.binding(slot);
        self.0.put(&cells[DECIDING], 0, Ordering::Release);
        store(&self.0, cells, &zerocopy::transmute!(*record));
        Ok(())
    }

    fn clear_binding(&mut self, slot: SlotId) {
        let cells = self.0.binding(slot);
        self.0.put(&cells[DECIDING], 0, Ordering::Release);
        store(&self.0, cells, &[0; WORDS]);
    }
}

/// Records in this process's own memory, gone with it: for tests and simulations.
#[derive(Debug)]
pub struct Memory {
    ledger: Box<[[AtomicU64; WORDS]]>,
    bindings: Box<[[AtomicU64; WORDS]]>,
}

impl Memory {
    /// Zeroed records for so many slots.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        let zeroed = || (0..slots).map(|_| Default::default()).collect();
        Self { ledger: zeroed(), bindings: zeroed() }
    }
}

impl Cells for Memory {
    fn slots(&self) -> u32 {
        u32::try_from(self.ledger.len()).expect("made from a u32")
    }

    fn ledger(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        &self.ledger[slot.index()]
    }

    fn binding(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        &self.bindings[slot.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netslot_abi::SlotState;

    #[test]
    fn records_come_back_as_they_were_stored() {
        let mut store = Records(Memory::new(2));
        let slot = SlotId::new(1).expect("in range");
        let mut tag = [0; netslot_abi::TAG_BYTES];
        tag[..3].copy_from_slice(b"abc");
        let lease = LedgerRecord {
            commit: LedgerRecord::pack(7, SlotState::Leased),
            since_ns: 1 << 40,
            owner_inode: 5,
            owner_uid: 1_000,
            owner_gid: 100,
            owner_pid: 42,
            policy: 1,
            tag_len: 3,
            tag,
            ..LedgerRecord::default()
        };
        let binding = BindingRecord { generation: 7, vni: 0x12_3456, remote_family: 4, ..BindingRecord::default() };
        store.store_ledger(slot, &lease);
        assert_eq!(store.store_binding(slot, &binding), Ok(()));
        assert_eq!((store.ledger(slot), store.binding(slot)), (lease, binding));
        store.clear_binding(slot);
        assert_eq!(store.binding(slot), BindingRecord::default());
        assert_eq!(store.ledger(SlotId::new(0).expect("in range")), LedgerRecord::default());
    }
}
