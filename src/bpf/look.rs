//! What is pinned below `bpf_dir`, for whoever only looks: what the programs were told, and one slot's records and counters.
//! It makes, loads and changes nothing, and needs no daemon.

use std::path::Path;

use netslot_abi::{BindingRecord, ConfigRecord, CounterRecord, LedgerRecord};

use super::error::DatapathError;
use super::views::{Counters, MapCells};
use super::{Maps, told};
use crate::ledger::{Records, Store as _};
use crate::slot::SlotId;

/// The pinned maps, open.
#[derive(Debug)]
pub struct Look {
    record: Option<ConfigRecord>,
    records: Records<MapCells>,
    counters: Counters,
}

/// One slot as the maps have it.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// Its lease record.
    pub ledger: LedgerRecord,
    /// Its binding; `None` where it is not bound, or the binding is an older lease's.
    pub binding: Option<BindingRecord>,
    /// What the programs counted for it; see [`Counters::of`].
    pub counters: CounterRecord,
}

impl Look {
    /// Opens what is pinned below `dir`; `None` where nothing is.
    ///
    /// # Errors
    /// [`DatapathError`]: EACCES or EPERM for other users than root, [`DatapathError::Layout`] for what another version
    /// wrote.
    pub fn open(dir: &Path) -> Result<Option<Self>, DatapathError> {
        let record = told::read(dir)?;
        let Some(maps) = Maps::open_known(dir)? else { return Ok(None) };
        Ok(Some(Self { record, records: Records(maps.cells()?), counters: maps.counters()? }))
    }

    /// What the programs were told; `None` where none has ever been attached.
    #[must_use]
    pub const fn record(&self) -> Option<&ConfigRecord> {
        self.record.as_ref()
    }

    /// The slot as it is now; `None` where the maps have no such slot.
    #[must_use]
    pub fn slot(&self, slot: SlotId) -> Option<Looked> {
        if slot.number() >= self.records.slots() {
            return None;
        }
        let (ledger, binding) = (self.records.ledger(slot), self.records.binding(slot));
        let living = binding.generation != 0 && binding.generation == ledger.generation();
        let counters = self.counters.of(slot.number()).ok()?;
        Some(Looked { ledger, binding: living.then_some(binding), counters })
    }
}
