//! What there is of the pool when the daemon starts: each slot's namespace, and whether its host end is in root. A look
//! at every slot's inside would take a second for thousands; `netslot up` does that, and each scrub.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::libc::rlim_t;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::error::ServeError;
use crate::address;
use crate::bpf::told;
use crate::config::Config;
use crate::ledger::{Observed, Tunnels};
use crate::limits::FDS_SPARE;
use crate::slot::SlotId;
use crate::sys::device::{Device, Devices};
use crate::sys::vault::Vault;

/// The pool as it was seen.
#[derive(Debug)]
pub struct Seen {
    /// Each slot's namespace, where the slot is whole.
    pub netns: Box<[Option<OwnedFd>]>,
    /// The MTU of the host ends, and so of all devices of the slots.
    pub mtu: Option<u32>,
}

impl Seen {
    /// Looks at the slots below `slots`.
    ///
    /// # Errors
    /// [`ServeError::NoPool`] and [`ServeError::Elsewhere`], or what a call failed with.
    pub fn look(config: &Config, slots: u32) -> Result<Self, ServeError> {
        let vault = Vault::open(&config.run_dir)?.ok_or_else(|| ServeError::NoPool(config.run_dir.clone()))?;
        let devices = Devices::open().map_err(ServeError::errno("socket"))?;
        let mut seen = Self { netns: (0..slots).map(|_| None).collect(), mtu: None };
        let kept = vault.slots()?;
        for slot in kept.iter().filter(|slot| slot.number() < slots) {
            let index = address::slot_ifindex(config.ifindex_base, *slot);
            let found = devices.find(index).map_err(ServeError::errno("ioctl on a host end"))?;
            if let Some(end) = found.filter(|end| is_host_end(end, *slot)) {
                seen.netns[slot.index()] = vault.netns(*slot)?;
                seen.mtu.get_or_insert(end.mtu);
            }
        }
        // Started in a container, or under another configuration: to take that for the truth would end every lease.
        if !kept.is_empty() && seen.netns.iter().all(Option::is_none) {
            return Err(ServeError::Elsewhere(kept.len()));
        }
        Ok(seen)
    }

    /// What the ledger is to take the slot for.
    #[must_use]
    pub fn observed(&self, slot: SlotId) -> Observed {
        if self.netns[slot.index()].is_some() { Observed::Whole } else { Observed::Absent }
    }
}

/// Whether the device that has the index of a slot's host end is that: of its name, and up, which is the last thing that
/// making a slot does with its devices. Its kind and group only a link's message tells, and a dump of those would take more
/// time than all else that a start does: for each, all namespaces are searched (`rtnl_fill_link_netnsid`,
/// net/core/rtnetlink.c, 6.18; 0.1 s and more at 4,000 slots). A pass and `check` look at them.
fn is_host_end(device: &Device, slot: SlotId) -> bool {
    device.up && device.name == address::host_end(slot)
}

/// What bindings are held to: what the pinned programs were told; before any are, what the configuration says.
///
/// # Errors
/// [`ServeError::Datapath`].
pub fn tunnels(config: &Config) -> Result<Tunnels, ServeError> {
    let told = told::read(&config.bpf_dir)?;
    Ok(told.map_or_else(|| Tunnels::of(config), |record| Tunnels::told(&record)))
}

/// A slot's namespace, once it has been made.
///
/// # Errors
/// What a call failed with; [`ServeError::NoPool`] where the vault has none.
pub fn netns(run_dir: &Path, slot: SlotId) -> Result<OwnedFd, ServeError> {
    let gone = || ServeError::NoPool(run_dir.into());
    Vault::open(run_dir)?.ok_or_else(gone)?.netns(slot)?.ok_or_else(gone)
}

/// Lets this process open as many files as it may, and says where that is too few.
///
/// # Errors
/// [`ServeError::TooFewFds`] where not even the slots have one each.
pub fn raise_fd_limit(config: &Config, slots: u32) -> Result<(), ServeError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(ServeError::errno("getrlimit(RLIMIT_NOFILE)"))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(ServeError::errno("setrlimit(RLIMIT_NOFILE)"))?;
    }
    check_fd_limit(config, slots, hard)
}

fn check_fd_limit(config: &Config, slots: u32, limit: rlim_t) -> Result<(), ServeError> {
    let needed = u64::from(slots) + FDS_SPARE;
    if limit < needed {
        return Err(ServeError::TooFewFds { needed, slots, limit });
    }
    let wished = 2 * u64::from(slots) + 2 * u64::from(config.quotas.connections) + FDS_SPARE;
    if limit < wished {
        log::warn!(
            "this process may open {limit} files; {wished} would serve {slots} leases that end with as many processes, \
             and {} connections (LimitNOFILE= in the unit, or ulimit -Hn)",
            config.quotas.connections
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_end_is_a_slots_by_name_and_state() {
        let slot = SlotId::new(3).expect("in range");
        let device = Device { name: address::host_end(slot), up: true, mtu: 1_430 };
        assert!(is_host_end(&device, slot));
        assert!(!is_host_end(&Device { up: false, ..device }, slot));
        assert!(!is_host_end(&Device { name: "slot4".parse().expect("a name"), ..device }, slot));
    }

    #[test]
    fn too_few_fds_are_told_with_what_is_needed() {
        let config = Config::default();
        assert!(check_fd_limit(&config, 1_000, 1_100).is_ok());
        let error = check_fd_limit(&config, 1_000, 1_024).expect_err("too few").to_string();
        assert!(error.starts_with("1064 file descriptors are needed for 1000 slots"), "{error}");
    }
}
