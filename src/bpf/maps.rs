//! The maps that hold a pool's state, as they are pinned: opened without any program, so that leases are known also to
//! who loads none. It makes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};

use super::DatapathError;
use super::pins::{self, MapKind};
use super::views::{Counters, MapCells, MapStore};

/// The pool's state.
#[derive(Debug)]
pub struct Maps {
    dir: PathBuf,
    slots: u32,
    ledger: MapData,
    bindings: MapData,
    tenants: MapData,
    counters: MapData,
}

impl Maps {
    /// Opens what is pinned below `dir`; `None` where nothing is.
    ///
    /// # Errors
    /// [`DatapathError`]; [`DatapathError::Missing`] where some are there and others are not.
    pub fn open(dir: &Path) -> Result<Option<Self>, DatapathError> {
        let mut found = Vec::with_capacity(pins::STATE.len());
        let mut missing = None;
        for kind in &pins::STATE {
            match pins::open(dir, kind, 0)? {
                Some(data) => found.push(data),
                None => missing = Some(kind.name),
            }
        }
        match (<[MapData; 4]>::try_from(found), missing) {
            (Ok(all), _) => Self::of(dir, all).map(Some),
            (Err(some), Some(name)) if !some.is_empty() => Err(DatapathError::Missing(dir.join(name))),
            _ => Ok(None),
        }
    }

    /// In the order of [`pins::STATE`].
    pub(super) fn of(dir: &Path, maps: [MapData; 4]) -> Result<Self, DatapathError> {
        let slots = maps[0].info().map_err(failed(dir, &pins::LEDGER))?.max_entries();
        let [ledger, bindings, tenants, counters] = maps;
        Ok(Self { dir: dir.into(), slots, ledger, bindings, tenants, counters })
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
        let failed = failed(&self.dir, &pins::TENANTS);
        let tenants = reopened(&self.tenants).map_err(&failed)?;
        Ok(MapStore::new(cells, HashMap::try_from(Map::HashMap(tenants)).map_err(failed)?))
    }

    /// The slots' counters.
    ///
    /// # Errors
    /// [`DatapathError`].
    pub fn counters(&self) -> Result<Counters, DatapathError> {
        let failed = failed(&self.dir, &pins::COUNTERS);
        let data = reopened(&self.counters).map_err(&failed)?;
        Ok(Counters::new(PerCpuArray::try_from(Map::PerCpuArray(data)).map_err(failed)?))
    }
}

/// A second descriptor of the same map.
fn reopened(map: &MapData) -> Result<MapData, MapError> {
    MapData::from_id(map.info()?.id())
}

pub(super) fn failed(dir: &Path, kind: &MapKind) -> impl Fn(MapError) -> DatapathError {
    let path = dir.join(kind.name);
    move |error| DatapathError::Map { path: path.clone(), error: Box::new(error) }
}
