//! The rules of a slot held against the configured ones, and made again where they differ. Which rules those are is
//! read anew when a slot has others: `netslot rules apply` changes them under a running daemon.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::ScrubError;
use crate::config::Config;
use crate::execute::Rules;
use crate::netlink::{Protocol, Socket};
use crate::slot::SlotId;

/// The rules that slots should have.
#[derive(Debug)]
pub struct SlotRules {
    config: Arc<Config>,
    known: Mutex<Option<Arc<Rules>>>,
    /// Whether nf_tables has answered once: then it is there for good.
    answered: AtomicBool,
}

impl SlotRules {
    /// Those of the configuration; read when first asked for.
    #[must_use]
    pub const fn new(config: Arc<Config>) -> Self {
        Self { config, known: Mutex::new(None), answered: AtomicBool::new(false) }
    }

    /// What of the rules in the calling thread's namespace is otherwise.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn difference(&self, slot: SlotId) -> Result<Option<String>, ScrubError> {
        // To ask a kernel without nf_tables would have it look for the module each time.
        if self.config.rules.slot.is_none() && !self.has_nf_tables() {
            return Ok(None);
        }
        let rules = self.known(slot)?;
        let mut socket =
            Socket::open_to(Protocol::Netfilter).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        let mut ask = |rules: &Rules| {
            rules.slot().difference(&mut socket).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))
        };
        let difference = match ask(&rules) {
            Err(_) if rules.slot().tables().is_empty() => return Ok(None), // no nf_tables after all
            asked => asked?,
        };
        self.answered.store(true, Ordering::Relaxed);
        if difference.is_none() {
            return Ok(None);
        }
        let fresh = self.read(slot)?;
        if fresh.slot().tables() == rules.slot().tables() { Ok(difference) } else { ask(&fresh) }
    }

    /// Makes the rules in place of all that are there. The socket is to be closed where nobody waits: that takes a
    /// grace period.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn make_again(&self, slot: SlotId) -> Result<Socket, ScrubError> {
        let rules = self.known(slot)?;
        let mut socket =
            Socket::open_to(Protocol::Netfilter).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        rules.slot().replace_all(&mut socket).map_err(|error| ScrubError::Rules(slot, error.to_string()))?;
        Ok(socket)
    }

    fn has_nf_tables(&self) -> bool {
        self.answered.load(Ordering::Relaxed) || Path::new("/sys/module/nf_tables").exists()
    }

    fn known(&self, slot: SlotId) -> Result<Arc<Rules>, ScrubError> {
        if let Some(rules) = &*self.known.lock().expect("no holder panics") {
            return Ok(Arc::clone(rules));
        }
        self.read(slot)
    }

    fn read(&self, slot: SlotId) -> Result<Arc<Rules>, ScrubError> {
        let rules = Rules::load(&self.config).map_err(|error| ScrubError::Rules(slot, error.to_string()))?;
        let rules = Arc::new(rules);
        *self.known.lock().expect("no holder panics") = Some(Arc::clone(&rules));
        Ok(rules)
    }
}
