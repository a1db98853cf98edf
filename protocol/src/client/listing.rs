//! Reads a snapshot out of the daemon's memfd, after making sure that nobody can change it meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::vec;
use std::vec::Vec;

use rustix::fs::{SealFlags, fcntl_get_seals};
use zerocopy::{FromZeros, IntoBytes};

use super::ClientError;
use crate::limits::SNAPSHOT_HEADER_BYTES;
use crate::snapshot::{Record, Slot, SnapshotHeader};

/// The whole pool at one moment.
#[derive(Clone, Debug)]
pub struct Listing {
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub taken_at_ns: u64,
    /// All slots, in the order of their numbers.
    pub slots: Vec<Slot>,
}

impl Listing {
    pub(super) fn read(file: OwnedFd, bytes: u64) -> Result<Self, ClientError> {
        let every_change = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        let seals = fcntl_get_seals(&file).map_err(|errno| ClientError::SnapshotRead(io::Error::from(errno)))?;
        let file = File::from(file);
        let length = file.metadata().map_err(ClientError::SnapshotRead)?.len();
        if !seals.contains(every_change) || length != bytes {
            return Err(ClientError::SnapshotFile(bytes));
        }
        let mut header = SnapshotHeader::new_zeroed();
        file.read_exact_at(header.as_mut_bytes(), 0).map_err(ClientError::SnapshotRead)?;
        // Bounds the number of records, hence what is allocated.
        let (count, taken_at_ns) = header.check(bytes)?;
        let mut records = vec![Record::new_zeroed(); usize::try_from(count).expect("at most 65,536")];
        file.read_exact_at(records.as_mut_bytes(), SNAPSHOT_HEADER_BYTES as u64).map_err(ClientError::SnapshotRead)?;
        let slots = records.iter().map(Record::read).collect::<Result<_, _>>()?;
        Ok(Self { taken_at_ns, slots })
    }
}
