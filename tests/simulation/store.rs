//! A store that dies on demand: at any single word of any record, leaving memory as a killed process would.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use netslot::ledger::{Cells, Memory, Records, Store, StoreError, WORDS};
use netslot::slot::SlotId;
use netslot_abi::{BindingRecord, LedgerRecord};

/// The payload of an injected crash, to tell it from a failed assertion.
pub struct Crash;

/// Memory that outlives the ledgers opened over it.
#[derive(Debug)]
pub struct Machine {
    memory: Memory,
    /// Word stores until the crash; `None` = none is planned.
    fuse: Cell<Option<u32>>,
    /// `errno` for the next binding stored.
    refuse_binding: Cell<Option<i32>>,
}

impl Machine {
    pub fn new(slots: u32) -> Rc<Self> {
        Rc::new(Self { memory: Memory::new(slots), fuse: Cell::new(None), refuse_binding: Cell::new(None) })
    }

    pub fn crash_after(&self, words: Option<u32>) {
        self.fuse.set(words);
    }

    pub fn refuse_next_binding(&self, errno: Option<i32>) {
        self.refuse_binding.set(errno);
    }

    pub fn store(self: &Rc<Self>) -> FragileStore {
        FragileStore(Records(Fragile(Rc::clone(self))))
    }
}

#[derive(Debug)]
struct Fragile(Rc<Machine>);

impl Cells for Fragile {
    fn slots(&self) -> u32 {
        self.0.memory.slots()
    }

    fn ledger(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        self.0.memory.ledger(slot)
    }

    fn binding(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        self.0.memory.binding(slot)
    }

    fn put(&self, cell: &AtomicU64, word: u64, order: Ordering) {
        match self.0.fuse.get() {
            // No panic message: this is the plan, not a failure.
            Some(0) => resume_unwind(Box::new(Crash)),
            Some(left) => self.0.fuse.set(Some(left - 1)),
            None => {}
        }
        cell.store(word, order);
    }
}

/// The store of the ledger under test.
#[derive(Debug)]
pub struct FragileStore(Records<Fragile>);

impl Store for FragileStore {
    fn slots(&self) -> u32 {
        self.0.slots()
    }

    fn ledger(&self, slot: SlotId) -> LedgerRecord {
        self.0.ledger(slot)
    }

    fn binding(&self, slot: SlotId) -> BindingRecord {
        self.0.binding(slot)
    }

    fn store_ledger(&mut self, slot: SlotId, record: &LedgerRecord) {
        self.0.store_ledger(slot, record);
    }

    fn store_binding(&mut self, slot: SlotId, record: &BindingRecord) -> Result<(), StoreError> {
        match (self.0.0).0.refuse_binding.take() {
            Some(errno) => Err(StoreError(errno)),
            None => self.0.store_binding(slot, record),
        }
    }

    fn clear_binding(&mut self, slot: SlotId) {
        self.0.clear_binding(slot);
    }
}
