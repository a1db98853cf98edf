//! Brings the configuration's rules into all slots of a pool that is in use, leased ones too; touches nothing but rules.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::PassError;
use super::parallel;
use super::progress::Progress;
use super::rules::Rules;
use crate::config::Config;
use crate::netlink::{Protocol, Socket};
use crate::slot::SlotId;
use crate::sys::lock::Lock;
use crate::sys::netns;
use crate::sys::vault::Vault;

/// Sockets that a thread keeps until it closes all of them: closing one waits until what its namespace has deleted is
/// freed (nft_rcv_nl_event, net/netfilter/nf_tables_api.c), a grace period, 15 ms measured on 6.18. The grace period of
/// the first is that of the others too, and so many on four threads are few beside the usual 1,024 open files.
const SOCKETS_KEPT: usize = 64;

/// What came of it.
#[derive(Debug)]
pub struct Applied {
    /// Slots that have the rules now.
    pub slots: usize,
    /// Slots that have the rules that they had, and why.
    pub failed: Vec<(SlotId, PassError)>,
    /// Whether it was stopped before all slots were tried.
    pub stopped: bool,
    /// Objects of the slots' rules.
    pub objects: usize,
    /// How long each slot took, microseconds.
    pub slot_us: Vec<u32>,
    /// How long all took.
    pub took: Duration,
}

/// Replaces the rules of the host and of every slot, each in one transaction: no packet meets a part of them. A slot that
/// refuses them keeps its old ones and does not stop the others. Connections go on as far as the new rules let them;
/// counters, quotas and what packets have added to sets begin anew.
///
/// # Errors
/// [`PassError`] before a slot is touched: rules that cannot be had, or that this kernel does not take.
pub fn apply(config: &Config, stop: &AtomicBool, progress: &Progress) -> Result<Applied, PassError> {
    let began = Instant::now();
    let rules = Rules::load(config)?;
    rules.try_out(config)?;
    let Some(vault) = Vault::open(&config.run_dir)? else {
        return Err(PassError::Call {
            call: "open the vault: there is no pool; netslot up makes one",
            errno: Errno::ENOENT,
        });
    };
    let _alone = Lock::take(&config.run_dir.join("pass.lock"))?;
    rules.replace_in_root()?;
    let slots = vault.slots()?;
    let failed = Mutex::new(Vec::new());
    let times = Mutex::new(Vec::with_capacity(slots.len()));
    let work = |used: &mut Vec<Socket>, slot: &SlotId| {
        if used.len() >= SOCKETS_KEPT {
            used.clear();
        }
        let began = Instant::now();
        match apply_to(*slot, &vault, &rules) {
            Ok(socket) => {
                used.extend(socket);
                let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
                times.lock().expect("no holder panics").push(took);
            }
            Err(error) => failed.lock().expect("no holder panics").push((*slot, error)),
        }
        progress.advance(1);
        Ok(())
    };
    let done: Result<(), parallel::Halt<PassError>> = progress
        .phase("rules", slots.len(), || parallel::for_each(config.threads, &slots, stop, || Ok(Vec::new()), work));
    let slot_us = times.into_inner().expect("no holder panics");
    let mut failed = failed.into_inner().expect("no holder panics");
    failed.sort_by_key(|(slot, _)| *slot);
    Ok(Applied {
        slots: slot_us.len(),
        failed,
        stopped: done.is_err(),
        objects: rules.slot().objects(),
        slot_us,
        took: began.elapsed(),
    })
}

/// Gives the socket back, to be closed later.
fn apply_to(slot: SlotId, vault: &Vault, rules: &Rules) -> Result<Option<Socket>, PassError> {
    // A slot that the daemon takes away meanwhile is made anew with these rules.
    let Some(namespace) = vault.netns(slot)? else { return Ok(None) };
    netns::enter(namespace).map_err(|errno| PassError::Slot { slot, call: "setns to its namespace", errno })?;
    let mut socket = Socket::open_to(Protocol::Netfilter)?;
    rules.slot().replace(&mut socket).map_err(|error| PassError::SlotRules { slot, error })?;
    Ok(Some(socket))
}
