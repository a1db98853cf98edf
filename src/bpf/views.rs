//! The pinned maps as the rest of netslot sees them: the ledger's store, and counters that add up over processors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{HashMap, MapData, MapError, PerCpuArray};
use netslot_abi::{BindingRecord, CounterRecord, LedgerRecord, TenantKey, bind_mode};
use nix::errno::Errno;

use crate::ledger::{Cells, Records, Store, StoreError, WORDS};
use crate::slot::SlotId;
use crate::sys::fault;
use crate::sys::mmap::Mapping;

/// The `ledger` and `bindings` maps as the words they are made of.
#[derive(Debug)]
pub struct MapCells {
    ledger: Mapping,
    bindings: Mapping,
    slots: u32,
}

impl MapCells {
    /// Both mappings hold `slots` records.
    pub(super) const fn new(ledger: Mapping, bindings: Mapping, slots: u32) -> Self {
        Self { ledger, bindings, slots }
    }

    fn record(mapping: &Mapping, slot: SlotId) -> &[AtomicU64; WORDS] {
        mapping.words()[slot.index() * WORDS..].first_chunk().expect("the mapping holds every slot's record")
    }
}

impl Cells for MapCells {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn ledger(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        Self::record(&self.ledger, slot)
    }

    fn binding(&self, slot: SlotId) -> &[AtomicU64; WORDS] {
        Self::record(&self.bindings, slot)
    }

    fn put(&self, cell: &AtomicU64, word: u64, order: Ordering) {
        cell.store(word, order);
        fault::point();
    }
}

/// Which slot a tenant's address leads to.
#[derive(Debug)]
pub(super) struct Tenants(pub HashMap<MapData, [u8; size_of::<TenantKey>()], [u8; 4]>);

impl Tenants {
    pub(super) fn take_over(&mut self, old: &Self) -> Result<(), MapError> {
        for key in old.0.keys() {
            let key = key?;
            self.0.insert(key, old.0.get(&key, 0)?, 0)?;
            fault::point();
        }
        Ok(())
    }
}

/// The ledger's store in the pinned maps: what it says, the programs do from the next packet on.
///
/// A binding's tenant addresses are also keys of the `tenants` map. The keys are a way in, the binding is what counts:
/// a program that finds a slot by a key checks the slot's lease and binding. So keys are written before the binding
/// that they lead to, a key whose binding is gone leads nowhere, and whoever is killed in between leaves nothing open.
/// What such a kill does leave is a key that takes up room: whoever opens the store for a daemon calls [`MapStore::sweep`].
#[derive(Debug)]
pub struct MapStore {
    records: Records<Arc<MapCells>>,
    tenants: Tenants,
}

impl MapStore {
    pub(super) const fn new(cells: Arc<MapCells>, tenants: Tenants) -> Self {
        Self { records: Records(cells), tenants }
    }

    /// The slot that a tenant's address leads to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn tenant(&self, key: &TenantKey) -> Result<Option<SlotId>, StoreError> {
        match self.tenants.0.get(&zerocopy::transmute!(*key), 0) {
            Ok(slot) => Ok(SlotId::new(u32::from_ne_bytes(slot))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(refused(&error)),
        }
    }

    /// All keys, and the slots that they lead to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn tenants(&self) -> Result<Vec<(TenantKey, Option<SlotId>)>, StoreError> {
        // Collected first: a walk that meets a key that was taken away meanwhile begins again (htab_map_get_next_key,
        // kernel/bpf/hashtab.c).
        let keys: Result<Vec<_>, _> = self.tenants.0.keys().collect();
        let keys = keys.map_err(|error| refused(&error))?;
        keys.into_iter()
            .map(|key| {
                let key: TenantKey = zerocopy::transmute!(key);
                Ok((key, self.tenant(&key)?))
            })
            .collect()
    }

    /// Takes away the keys that lead to no living binding, and says how many they were: a process that was killed between
    /// a key and its binding has left them. The map holds two keys for each slot, so that they would have to be met again
    /// by chance, or the map be full of them in the end and refuse every binding. Nobody may be binding meanwhile.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sweep(&mut self) -> Result<usize, StoreError> {
        let mut swept = 0;
        for (key, slot) in self.tenants()? {
            if !slot.is_some_and(|slot| self.is_bound(slot, &key)) {
                self.remove(&key)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Takes a key away if it still leads to that slot.
    fn forget(&mut self, slot: SlotId, key: &TenantKey) -> Result<(), StoreError> {
        if self.tenant(key)? != Some(slot) {
            return Ok(());
        }
        self.remove(key)
    }

    fn remove(&mut self, key: &TenantKey) -> Result<(), StoreError> {
        match self.tenants.0.remove(&zerocopy::transmute!(*key)) {
            Ok(()) | Err(MapError::KeyNotFound) => {
                fault::point();
                Ok(())
            }
            Err(error) => Err(refused(&error)),
        }
    }
}

/// The keys of a binding: none unless its packets travel through the tunnel.
fn keys(binding: &BindingRecord) -> impl Iterator<Item = TenantKey> {
    let v4 = (binding.tenant_v4 != [0; 4]).then(|| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&binding.tenant_v4);
        TenantKey { vni: binding.vni, family: 4, address }
    });
    let v6 =
        (binding.tenant_v6 != [0; 16]).then_some(TenantKey { vni: binding.vni, family: 6, address: binding.tenant_v6 });
    let tunnelled = binding.generation != 0 && binding.mode == bind_mode::TUNNEL;
    v4.into_iter().chain(v6).filter(move |_| tunnelled)
}

impl Store for MapStore {
    fn slots(&self) -> u32 {
        self.records.slots()
    }

    fn ledger(&self, slot: SlotId) -> LedgerRecord {
        self.records.ledger(slot)
    }

    fn binding(&self, slot: SlotId) -> BindingRecord {
        self.records.binding(slot)
    }

    fn store_ledger(&mut self, slot: SlotId, record: &LedgerRecord) {
        self.records.store_ledger(slot, record);
    }

    fn store_binding(&mut self, slot: SlotId, record: &BindingRecord) -> Result<(), StoreError> {
        let old = self.records.binding(slot);
        for key in keys(record) {
            match self.tenant(&key)? {
                // A key of a binding that died with its lease leads nowhere; of a living one, it is taken.
                Some(other) if other != slot && self.is_bound(other, &key) => {
                    return Err(StoreError(Errno::EEXIST as i32));
                }
                _ => {}
            }
        }
        for key in keys(record) {
            let value = slot.number().to_ne_bytes();
            let key: [u8; size_of::<TenantKey>()] = zerocopy::transmute!(key);
            self.tenants.0.insert(key, value, 0).map_err(|error| refused(&error))?;
            fault::point();
        }
        self.records.store_binding(slot, record)?;
        for key in keys(&old).filter(|key| keys(record).all(|kept| kept != *key)) {
            self.forget(slot, &key)?;
        }
        Ok(())
    }

    fn clear_binding(&mut self, slot: SlotId) {
        let old = self.records.binding(slot);
        self.records.clear_binding(slot);
        for key in keys(&old) {
            // A key that stays is dead, as its binding is: it gives way to the next binding of the address, or to a sweep.
            let _ = self.forget(slot, &key);
        }
    }
}

impl MapStore {
    /// Whether the slot's living binding has that key.
    fn is_bound(&self, slot: SlotId, key: &TenantKey) -> bool {
        if slot.number() >= self.slots() {
            return false;
        }
        let binding = self.binding(slot);
        binding.generation == self.ledger(slot).generation() && keys(&binding).any(|held| held == *key)
    }
}

fn refused(error: &MapError) -> StoreError {
    let number = if let MapError::SyscallError(call) = error { call.io_error.raw_os_error() } else { None };
    StoreError(number.unwrap_or(Errno::EIO as i32))
}

/// What the programs counted.
pub struct Counters(PerCpuArray<MapData, [u8; size_of::<CounterRecord>()]>);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("slots", &self.0.len()).finish()
    }
}

impl Counters {
    pub(super) const fn new(map: PerCpuArray<MapData, [u8; size_of::<CounterRecord>()]>) -> Self {
        Self(map)
    }

    pub(super) fn take_over(&mut self, old: &Self) -> Result<(), MapError> {
        // The last element counts the packets of no slot, whatever the size.
        let (last, old_last) = (self.0.len() - 1, old.0.len() - 1);
        for slot in 0..=old_last {
            self.0.set(if slot == old_last { last } else { slot }, old.0.get(&slot, 0)?, 0)?;
        }
        Ok(())
    }

    /// A slot's counters, added up over the processors. They only ever grow, also from one lease to the next: a lease's
    /// own are a difference. The number of slots stands for the packets of no slot.
    ///
    /// # Errors
    /// [`MapError`]: no such slot.
    pub fn of(&self, slot: u32) -> Result<CounterRecord, MapError> {
        let mut sum = CounterRecord::default();
        for bytes in self.0.get(&slot, 0)?.iter() {
            let part: CounterRecord = zerocopy::transmute!(*bytes);
            sum.out_packets += part.out_packets;
            sum.out_bytes += part.out_bytes;
            sum.in_packets += part.in_packets;
            sum.in_bytes += part.in_bytes;
            sum.dhcp_replies += part.dhcp_replies;
            for (sum, part) in sum.drops.iter_mut().zip(part.drops) {
                *sum += part;
            }
        }
        Ok(sum)
    }
}
