//! What is pinned below `bpf_dir`: names, and whether a pinned map fits; it makes and loads nothing.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError, MapInfo, MapType};
use netslot_abi::{BindingRecord, ConfigRecord, CounterRecord, LedgerRecord, TenantKey};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::DatapathError;
use crate::sys::{bpf, fault};

/// Elements of the map that holds what the programs are told.
const ONE: u32 = 1;

/// A map that outlives the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapKind {
    pub name: &'static str,
    pub kind: MapType,
    pub key_bytes: u32,
    pub value_bytes: u32,
}

impl MapKind {
    /// Tells of a failure with the one that is pinned below `dir`.
    pub fn failed(&self, dir: &Path) -> impl Fn(MapError) -> DatapathError {
        let path = dir.join(self.name);
        move |error| DatapathError::Map { path: path.clone(), error: Box::new(error) }
    }
}

const fn bytes_of<T>() -> u32 {
    let bytes = size_of::<T>();
    assert!(bytes <= 4_096, "records are small");
    #[allow(clippy::cast_possible_truncation, reason = "asserted")]
    return bytes as u32;
}

pub(super) const CONFIG: MapKind =
    MapKind { name: "config", kind: MapType::Array, key_bytes: 4, value_bytes: bytes_of::<ConfigRecord>() };
pub(super) const LEDGER: MapKind =
    MapKind { name: "ledger", kind: MapType::Array, key_bytes: 4, value_bytes: bytes_of::<LedgerRecord>() };
pub(super) const BINDINGS: MapKind =
    MapKind { name: "bindings", kind: MapType::Array, key_bytes: 4, value_bytes: bytes_of::<BindingRecord>() };
pub(super) const TENANTS: MapKind =
    MapKind { name: "tenants", kind: MapType::Hash, key_bytes: bytes_of::<TenantKey>(), value_bytes: 4 };
pub(super) const COUNTERS: MapKind =
    MapKind { name: "counters", kind: MapType::PerCpuArray, key_bytes: 4, value_bytes: bytes_of::<CounterRecord>() };

/// The maps that hold state: kept over every change of programs and configuration.
pub(super) const STATE: [MapKind; 4] = [LEDGER, BINDINGS, TENANTS, COUNTERS];

/// Elements that a pool of that many slots needs.
pub(super) fn elements(map: &MapKind, slots: u32) -> u32 {
    match map.name {
        "config" => ONE,
        // An IPv4 and an IPv6 address per slot.
        "tenants" => slots.saturating_mul(2),
        // One more, for the packets of no slot.
        "counters" => slots.saturating_add(1),
        _ => slots,
    }
}

/// Makes the directory and sees that a bpffs is there. Without one mounted the place is sysfs, which lets nobody make a
/// directory: what is there tells more than the refusal.
pub(super) fn prepare(dir: &Path) -> Result<(), DatapathError> {
    let call = |call, path: &Path, error| DatapathError::Call { call, path: path.into(), error };
    let made = DirBuilder::new().mode(0o700).recursive(true).create(dir);
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    let found = statfs(there).map(|found| found.filesystem_type()).map_err(|e| call("statfs", there, e.into()))?;
    if found != BPF_FS_MAGIC {
        if made.is_ok() {
            // What was made in an ordinary directory would only hide the fault from the next start.
            let _ = fs::remove_dir(dir);
        }
        return Err(DatapathError::NoBpffs(dir.into()));
    }
    made.map_err(|error| call("mkdir", dir, error))?;
    fault::point();
    Ok(())
}

/// Opens a pinned map; `None` where there is none.
pub(super) fn open(dir: &Path, map: &MapKind) -> Result<Option<MapData>, DatapathError> {
    let path = dir.join(map.name);
    if !exists(&path)? {
        return Ok(None);
    }
    let failed = |error| DatapathError::Map { path: path.clone(), error: Box::new(error) };
    let data = MapData::from_pin(&path).map_err(failed)?;
    let info = data.info().map_err(failed)?;
    check(&path, map, &info)?;
    Ok(Some(data))
}

fn check(path: &Path, map: &MapKind, info: &MapInfo) -> Result<(), DatapathError> {
    let kind = info.map_type().ok();
    if kind != Some(map.kind) || info.key_size() != map.key_bytes || info.value_size() != map.value_bytes {
        return Err(DatapathError::Foreign {
            path: path.into(),
            found: format!("{kind:?}, {} byte keys, {} byte values", info.key_size(), info.value_size()),
            expected: format!("{:?}, {} byte keys, {} byte values", map.kind, map.key_bytes, map.value_bytes),
        });
    }
    Ok(())
}

/// Takes everything that netslot pins below `dir` away, and the directory if nothing else is there.
pub(super) fn remove(dir: &Path) -> Result<(), DatapathError> {
    // The settled mark first, then the ledger: see `Maps::open`.
    let maps = [CONFIG.name].into_iter().chain(STATE.iter().map(|kind| kind.name));
    for name in maps.chain(super::Program::ALL.into_iter().map(super::Program::name)) {
        for path in [dir.join(name), next_to(&dir.join(name))] {
            unlink(&path)?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(DatapathError::Call { call: "rmdir", path: dir.into(), error })
        }
        _ => {
            fault::point();
            Ok(())
        }
    }
}

pub(super) fn unlink(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::Call { call: "unlink", path: path.into(), error })
        }
        Ok(()) => {
            fault::point();
            Ok(())
        }
        Err(_) => Ok(()),
    }
}

/// Where a pin stands before it takes its predecessor's place.
fn next_to(path: &Path) -> PathBuf {
    let mut next = path.as_os_str().to_owned();
    // No dot: bpffs keeps such names to itself (bpf_lookup, kernel/bpf/inode.c).
    next.push("_next");
    next.into()
}

pub(super) fn exists(path: &Path) -> Result<bool, DatapathError> {
    path.try_exists().map_err(|error| DatapathError::Call { call: "stat", path: path.into(), error })
}

/// Pins under another name first and moves it over the old pin: at no moment is there none.
pub(super) fn replace(path: &Path, object: impl AsFd) -> Result<(), DatapathError> {
    let next = next_to(path);
    // Left by a start that was killed between pin and move.
    unlink(&next)?;
    bpf::pin(object, &next).map_err(|error| DatapathError::Pin { path: next.clone(), error })?;
    fs::rename(&next, path).map_err(|error| DatapathError::Call { call: "rename", path: next, error })?;
    fault::point();
    Ok(())
}
