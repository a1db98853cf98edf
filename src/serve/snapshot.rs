//! All slots' records in a sealed file, as a list reply carries it. Reads the records as another process would, so that
//! the loop need not stand still for it: each slot is whole, two slots may be a moment apart.

use std::fs::File;
use std::io::{self, Write as _};

use memfd::{FileSeal, MemfdOptions};
use netslot_abi::SlotState;
use netslot_protocol::limits::{RECORD_BYTES, SNAPSHOT_HEADER_BYTES};
use netslot_protocol::snapshot::SnapshotHeader;
use zerocopy::IntoBytes as _;

use super::answer;
use crate::ledger::{Cells, Records, Store as _};
use crate::slot::SlotId;
use crate::sys::clock;

/// Writes the first `slots` records, and those behind them up to the last that is in use.
///
/// # Errors
/// Those of memfd_create(2), write(2) and fcntl(2).
pub fn write<C: Cells>(cells: &C, slots: u32) -> io::Result<(File, u64)> {
    let records = Records(cells);
    let in_use = |slot: &SlotId| records.ledger(*slot).state() != Some(SlotState::Building);
    let last = SlotId::first(records.slots()).rev().find(in_use).map_or(0, |slot| slot.number() + 1);
    let count = last.max(slots.min(records.slots()));
    let mut bytes = Vec::with_capacity(SNAPSHOT_HEADER_BYTES + count as usize * RECORD_BYTES);
    bytes.extend_from_slice(SnapshotHeader::new(count, clock::boottime_ns()).as_bytes());
    for slot in SlotId::first(count) {
        let (record, binding) = (records.ledger(slot), records.binding(slot));
        bytes.extend_from_slice(answer::record(slot, &record, Some(&binding)).as_bytes());
    }
    Ok((seal("netslot-list", &bytes)?, bytes.len() as u64))
}

/// A file in memory that holds those bytes, and that nobody can change.
///
/// # Errors
/// Those of memfd_create(2), write(2) and fcntl(2).
pub fn seal(name: &str, bytes: &[u8]) -> io::Result<File> {
    let file = MemfdOptions::new().allow_sealing(true).create(name).map_err(failed("memfd_create"))?;
    file.as_file().write_all(bytes).map_err(|error| told("write to a memfd", &error))?;
    let seals = [FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealWrite, FileSeal::SealSeal];
    file.add_seals(&seals).map_err(failed("fcntl(F_ADD_SEALS)"))?;
    Ok(file.into_file())
}

/// The kernel's words, which the library keeps to itself, behind the call's name.
fn failed(call: &'static str) -> impl Fn(memfd::Error) -> io::Error {
    move |(memfd::Error::Create(error) | memfd::Error::AddSeals(error) | memfd::Error::GetSeals(error))| {
        told(call, &error)
    }
}

fn told(call: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Memory;
    use netslot_abi::LedgerRecord;
    use netslot_protocol::snapshot::Record;
    use std::os::unix::fs::FileExt as _;
    use zerocopy::FromBytes as _;

    #[test]
    fn the_file_holds_every_slot_in_use_and_cannot_be_changed() {
        let memory = Memory::new(9);
        let mut records = Records(memory);
        let slot = SlotId::new(6).expect("in range");
        let leased = LedgerRecord { commit: LedgerRecord::pack(3, SlotState::Leased), ..LedgerRecord::default() };
        records.store_ledger(slot, &leased);
        for (slots, count) in [(2, 7), (8, 8), (20, 9)] {
            let (file, bytes) = write(&records.0, slots).expect("written");
            let mut all = vec![0; usize::try_from(bytes).expect("short")];
            file.read_exact_at(&mut all, 0).expect("read");
            let (header, rest) = SnapshotHeader::read_from_prefix(&all).expect("a header");
            assert_eq!(header.check(bytes).map(|(records, _)| records), Ok(count));
            let (record, _) = Record::read_from_prefix(&rest[6 * RECORD_BYTES..]).expect("a record");
            let shown = record.read().expect("readable");
            assert_eq!((shown.slot, shown.generation), (6, 3));
            assert!(file.write_at(b"x", 0).is_err() && file.set_len(0).is_err());
        }
    }
}
