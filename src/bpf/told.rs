//! What the programs that are pinned were told, and whether this version knows its layout; it changes nothing.

use std::path::Path;

use aya::maps::{Array, Map, MapData};
use netslot_abi::ConfigRecord;

use super::error::DatapathError;
use super::{layout, pins};

/// What the programs were told; `None` where none are pinned.
///
/// # Errors
/// [`DatapathError`]: EACCES or EPERM for other users than root, [`DatapathError::Layout`] for what a version wrote that this
/// one does not know.
pub fn read(dir: &Path) -> Result<Option<ConfigRecord>, DatapathError> {
    let Some(data) = pins::open(dir, &pins::CONFIG)? else { return Ok(None) };
    let failed = pins::CONFIG.failed(dir);
    let map: Array<MapData, [u8; size_of::<ConfigRecord>()]> = Array::try_from(Map::Array(data)).map_err(&failed)?;
    let record: ConfigRecord = zerocopy::transmute!(map.get(&0, 0).map_err(&failed)?);
    layout::check(&dir.join(pins::CONFIG.name), record.layout_version)?;
    Ok(Some(record))
}
