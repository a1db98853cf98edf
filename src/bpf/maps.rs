//! The maps that hold a pool's state, as they are pinned: opened without any program, so that leases are known also to
//! who loads none. It makes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use netslot_abi::LAYOUT_VERSION;

use super::error::DatapathError;
use super::layout::Step;
use super::pins::{self, MapKind};
use super::told;
use super::views::{Counters, MapCells, MapStore, Tenants};
use crate::ledger::{Records, Store as _};
use crate::slot::SlotId;

/// The pool's state.
#[derive(Debug)]
pub struct Maps {
    dir: PathBuf,
    slots: u32,
    even: bool,
    ledger: MapData,
    bindings: MapData,
    tenants: MapData,
    counters: MapData,
}

impl Maps {
    /// Opens what is pinned below `dir`; `None` where nothing is, and where there is only what was left by a first pass
    /// that was killed before its maps were complete, or by a destroy that was killed: the ledger is pinned after the
    /// others and taken away before them, and what says that a pass has settled is pinned after the ledger and taken
    /// away before it.
    ///
    /// # Errors
    /// [`DatapathError::Layout`] for another version's that this one does not know; [`DatapathError::Missing`] where somebody else has taken one away.
    pub fn open(dir: &Path) -> Result<Option<Self>, DatapathError> {
        // Before anything is made of what they hold.
        told::read(dir)?;
        Self::open_known(dir)
    }

    /// Whether anything of a pool's state is pinned below `dir`.
    ///
    /// # Errors
    /// [`DatapathError::Call`].
    pub fn are_pinned(dir: &Path) -> Result<bool, DatapathError> {
        let has = |kind: &MapKind| pins::exists(&dir.join(kind.name));
        Ok(has(&pins::LEDGER)? || has(&pins::CONFIG)?)
    }

    /// The same for a caller who has read what the programs were told, and so knows the layout.
    pub(super) fn open_known(dir: &Path) -> Result<Option<Self>, DatapathError> {
        if !Self::are_pinned(dir)? {
            return Ok(None);
        }
        let mut found = Vec::with_capacity(pins::STATE.len());
        let mut missing = None;
        for kind in &pins::STATE {
            match pins::open(dir, kind)? {
                Some(data) => found.push(data),
                None => missing = Some(kind.name),
            }
        }
        match (<[MapData; 4]>::try_from(found), missing) {
            (Ok(all), _) => Self::of(dir, all).map(Some),
            (Err(_), Some(name)) => Err(DatapathError::Missing(dir.join(name))),
            (Err(_), None) => Ok(None),
        }
    }

    /// Whether the programs that run are pinned beside them, and are of this layout: not so where a pass was killed before
    /// it had hung them everywhere, and they may still work on maps that these have replaced; and where an older version's
    /// pass was the last.
    ///
    /// # Errors
    /// [`DatapathError`].
    pub fn are_settled(&self) -> Result<bool, DatapathError> {
        Ok(told::read(&self.dir)?.is_some_and(|record| record.layout_version == LAYOUT_VERSION))
    }

    /// Takes a step of [`layout`](super::layout) for every slot. Nobody may be leasing meanwhile; packets may be passing.
    ///
    /// # Errors
    /// [`DatapathError::Mmap`].
    pub(super) fn migrate(&self, step: Step) -> Result<(), DatapathError> {
        let mut records = Records(self.cells()?);
        for slot in SlotId::first(self.slots) {
            let older = records.ledger(slot);
            let record = step(older, &records.binding(slot));
            if record != older {
                records.store_ledger(slot, &record);
            }
        }
        Ok(())
    }

    /// In the order of [`pins::STATE`].
    pub(super) fn of(dir: &Path, maps: [MapData; 4]) -> Result<Self, DatapathError> {
        let mut entries = [0; 4];
        for ((entries, map), kind) in entries.iter_mut().zip(&maps).zip(&pins::STATE) {
            *entries = map.info().map_err(kind.failed(dir))?.max_entries();
        }
        let slots = entries[0].min(entries[1]);
        let even = pins::STATE.iter().zip(entries).all(|(kind, entries)| pins::elements(kind, slots) == entries);
        let [ledger, bindings, tenants, counters] = maps;
        Ok(Self { dir: dir.into(), slots, even, ledger, bindings, tenants, counters })
    }

    /// Whether all of them have room for the same slots. They have not where a pass was killed while it put larger ones
    /// in their place.
    pub(super) const fn is_even(&self) -> bool {
        self.even
    }

    /// Takes over what smaller maps hold. Nobody may be leasing meanwhile; packets may be passing, and what they add to
    /// the old counters until the programs are replaced is not counted.
    pub(super) fn take_over(&self, old: &Self) -> Result<(), DatapathError> {
        let (from, mut to) = (Records(old.cells()?), Records(self.cells()?));
        for slot in SlotId::first(old.slots) {
            to.store_ledger(slot, &from.ledger(slot));
            to.store_binding(slot, &from.binding(slot)).expect("memory takes all");
        }
        self.tenants()?.take_over(&old.tenants()?).map_err(pins::TENANTS.failed(&self.dir))?;
        self.counters()?.take_over(&old.counters()?).map_err(pins::COUNTERS.failed(&self.dir))
    }

    /// Pins them in the place of those that are pinned.
    pub(super) fn pin(&self) -> Result<(), DatapathError> {
        let maps = [&self.ledger, &self.bindings, &self.tenants, &self.counters];
        // The ledger last: see `open`.
        for (kind, map) in pins::STATE.iter().zip(maps).rev() {
            pins::replace(&self.dir.join(kind.name), map.fd())?;
        }
        Ok(())
    }

    /// Slots that there are records for.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Ledger and bindings as memory.
    ///
    /// # Errors
    /// [`DatapathError::Mmap`].
    pub fn cells(&self) -> Result<MapCells, DatapathError> {
        let words = self.slots as usize * crate::ledger::WORDS;
        let map = |name, data: &MapData| {
            crate::sys::mmap::Mapping::new(data.fd(), words).map_err(|errno| DatapathError::Mmap(name, errno))
        };
        Ok(MapCells::new(map("ledger", &self.ledger)?, map("bindings", &self.bindings)?, self.slots))
    }

    /// The same memory, and the tenants' map kept in step with it: the ledger's store.
    ///
    /// # Errors
    /// [`DatapathError`].
    pub fn store(&self, cells: Arc<MapCells>) -> Result<MapStore, DatapathError> {
        Ok(MapStore::new(cells, self.tenants()?))
    }

    fn tenants(&self) -> Result<Tenants, DatapathError> {
        let failed = pins::TENANTS.failed(&self.dir);
        let data = reopened(&self.tenants).map_err(&failed)?;
        Ok(Tenants(HashMap::try_from(Map::HashMap(data)).map_err(failed)?))
    }

    /// The slots' counters.
    ///
    /// # Errors
    /// [`DatapathError`].
    pub fn counters(&self) -> Result<Counters, DatapathError> {
        let failed = pins::COUNTERS.failed(&self.dir);
        let data = reopened(&self.counters).map_err(&failed)?;
        Ok(Counters::new(PerCpuArray::try_from(Map::PerCpuArray(data)).map_err(failed)?))
    }
}

/// A second descriptor of the same map.
fn reopened(map: &MapData) -> Result<MapData, MapError> {
    MapData::from_id(map.info()?.id())
}
