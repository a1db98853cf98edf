//! What the commands that change a pool ask first: who serves it, and which of its slots are leased.

use std::collections::BTreeMap;

use netslot_abi::SlotState;

use super::{Exit, Failure};
use crate::bpf::{DatapathError, Maps};
use crate::config::Config;
use crate::execute::PassError;
use crate::ledger::{Records, Store as _};
use crate::slot::SlotId;
use crate::sys::lock::{Lock, LockError};
use crate::sys::outbox::OutboxError;

impl From<PassError> for Failure {
    fn from(error: PassError) -> Self {
        let exit = match &error {
            PassError::Stopped => Exit::Interrupted,
            PassError::Lock(LockError::Held { .. }) | PassError::Foreign(_) | PassError::Hidden(_) => Exit::Refused,
            PassError::Rules(error) => super::compile_rules::exit(error),
            // What the configuration says of the uplink does not fit the host as it is now: a unit tries again.
            PassError::Underlay(_) | PassError::Datapath(DatapathError::NoBpffs(_)) => Exit::Host,
            other if other.is_permission() => Exit::Unreachable,
            other if other.is_lacking() => Exit::Host,
            PassError::Refused { .. }
            | PassError::RefusedAll { .. }
            | PassError::Tap { .. }
            | PassError::Slot { .. }
            | PassError::Call { .. }
            | PassError::File { .. }
            | PassError::Socket(_)
            | PassError::SlotRules { .. }
            | PassError::RootRules(_)
            | PassError::Vault(_)
            | PassError::Attach(_)
            | PassError::Datapath(_)
            | PassError::Lock(LockError::File { .. })
            | PassError::NoCarrier { .. } => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// Takes the place of the daemon, so that none starts and none leases while slots are made or taken away.
///
/// # Errors
/// [`LockError::Held`] while a daemon serves the pool.
pub fn lock_serving(config: &Config) -> Result<Lock, LockError> {
    Lock::take(&config.run_dir.join("serve.lock"))
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<DatapathError> for Failure {
    fn from(error: DatapathError) -> Self {
        Self::from(PassError::from(error))
    }
}

/// The state of every slot that has a record; none where there are no records, as before the first daemon.
///
/// # Errors
/// Where there are records that cannot be read.
pub fn states(config: &Config) -> Result<BTreeMap<SlotId, Option<SlotState>>, Failure> {
    let Some(maps) = Maps::open(&config.bpf_dir)? else { return Ok(BTreeMap::new()) };
    let records = Records(maps.cells()?);
    Ok(SlotId::first(records.slots()).map(|slot| (slot, records.ledger(slot).state())).collect())
}
