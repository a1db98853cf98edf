//! The rules of a slot held against the configured ones, and made again where they differ. Which rules those are is
//! read anew when a slot has others: `netslot rules apply` changes them under a running daemon.

use std::path::Path;
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
    /// Whether nf_tables has answered, which it then does for good; `None` = nobody has asked yet.
    answers: Mutex<Option<bool>>,
}

impl SlotRules {
    /// Those of the configuration; read when first asked for.
    #[must_use]
    pub const fn new(config: Arc<Config>) -> Self {
        Self { config, known: Mutex::new(None), answers: Mutex::new(None) }
    }

    /// What of the rules in the calling thread's namespace is otherwise.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn difference(&self, slot: SlotId) -> Result<Option<String>, ScrubError> {
        if self.config.rules.slot.is_none() && !self.may_answer() {
            return Ok(None);
        }
        let rules = self.known(slot)?;
        let mut socket =
            Socket::open_to(Protocol::Netfilter).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        let mut ask = |rules: &Rules| {
            rules.slot().difference(&mut socket).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))
        };
        let asked = ask(&rules);
        *self.answers.lock().expect("no holder panics") = Some(asked.is_ok());
        let difference = match asked {
            Err(_) if rules.slot().tables().is_empty() => return Ok(None), // a kernel without nf_tables has no rules
            asked => asked?,
        };
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

    /// Asked each time, a kernel without nf_tables would look for the module each time: once it had none, its coming is
    /// seen otherwise.
    fn may_answer(&self) -> bool {
        let answers = *self.answers.lock().expect("no holder panics");
        answers.unwrap_or(true) || Path::new("/sys/module/nf_tables").exists()
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
