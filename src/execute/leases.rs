//! What must be known of a pool's leases before anything of the pool is changed; it changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::error::PassError;
use crate::address;
use crate::bpf::Maps;
use crate::config::Config;
use crate::ledger::{Records, Store as _};
use crate::netlink::observed::Link;
use crate::netlink::{Socket, route};
use crate::slot::SlotId;
use crate::sys::vault::Vault;

/// Slots stand, and their leases are nowhere to be read: all of them may be leased. No pass and no destroy that was killed
/// leaves this: maps are pinned before the first slot is made, and their pins go after the last.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{slots} slots stand below {run_dir}, and no leases are pinned below {bpf_dir}: nobody can tell which of them are \
     leased, so nothing was changed. If another file system is mounted over the pins ('findmnt -R /sys/fs/bpf' shows \
     it), unmount it; if `bpf_dir` was changed, change it back. If the pins are gone, end the VMs, then 'netslot destroy \
     --force' and 'netslot up'",
    run_dir = run_dir.display(),
    bpf_dir = bpf_dir.display()
)]
pub struct Hidden {
    slots: usize,
    run_dir: PathBuf,
    bpf_dir: PathBuf,
}

/// Refuses where slots stand whose leases are not to be seen: taken for none, they would all be given out once more. Without
/// a single host end nothing of a pool is of use to anybody: it is what a first pass has left that did not get far.
///
/// # Errors
/// [`PassError::Hidden`].
pub fn must_be_known(config: &Config, vault: Option<&Vault>) -> Result<(), PassError> {
    let Some(vault) = vault else { return Ok(()) };
    if Maps::are_pinned(&config.bpf_dir)? {
        return Ok(());
    }
    let slots = vault.slots()?.len();
    if slots == 0 {
        return Ok(());
    }
    let links = Socket::open()?.dump(route::dump_links, Link::read)?;
    if !links.iter().any(|link| address::is_host_end_group(link.group)) {
        return Ok(());
    }
    Err(Hidden { slots, run_dir: config.run_dir.clone(), bpf_dir: config.bpf_dir.clone() }.into())
}

/// The slots that somebody leases, by the records: what a pass must not touch.
///
/// # Errors
/// [`PassError::Hidden`]; [`PassError::Datapath`] where there are records that cannot be read.
pub fn leased(config: &Config) -> Result<BTreeSet<SlotId>, PassError> {
    must_be_known(config, Vault::open(&config.run_dir)?.as_ref())?;
    let Some(maps) = Maps::open(&config.bpf_dir)? else { return Ok(BTreeSet::new()) };
    Ok(Records(maps.cells()?).leased())
}
