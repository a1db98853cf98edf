//! The rules of a slot held against the configured ones, and made again where they differ. Which rules those are is
//! read anew when a slot has others: `netslot rules apply` changes them under a running daemon.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};

use super::ScrubError;
use crate::config::Config;
use crate::execute::Rules;
use crate::fingerprint::Difference;
use crate::limits::SOCKETS_CLOSING;
use crate::netlink::{Protocol, Socket, SocketError};
use crate::rules::{Standing, reset};
use crate::slot::SlotId;

/// The rules that slots should have.
#[derive(Debug)]
pub struct SlotRules {
    config: Arc<Config>,
    known: Mutex<Option<Arc<Rules>>>,
    /// Whether nf_tables has answered, which it then does for good; `None` = nobody has asked yet.
    answers: Mutex<Option<bool>>,
    closer: SyncSender<Socket>,
}

impl SlotRules {
    /// Those of the configuration; read when first asked for. To be called in a thread that stands in no slot.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn new(config: Arc<Config>) -> io::Result<Self> {
        // A socket that has deleted something closes when what it deleted is freed, a grace period later
        // (nft_rcv_nl_event, net/netfilter/nf_tables_api.c). A thread of its own waits for that; it ends with the sender.
        let (closer, sockets) = mpsc::sync_channel::<Socket>(SOCKETS_CLOSING);
        let close = move || sockets.iter().for_each(drop);
        std::thread::Builder::new().name("closer".into()).spawn(close)?;
        Ok(Self { config, known: Mutex::new(None), answers: Mutex::new(None), closer })
    }

    /// What of the rules in the calling thread's namespace is otherwise.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn difference(&self, slot: SlotId) -> Result<Option<Difference>, ScrubError> {
        if self.config.rules.slot.is_none() && !self.may_answer() {
            return Ok(None);
        }
        let rules = self.known(slot)?;
        let mut socket =
            Socket::open_to(Protocol::Netfilter).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        let mut ask = |rules: &Rules| {
            rules.slot().compare(&mut socket).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))
        };
        let asked = ask(&rules);
        *self.answers.lock().expect("no holder panics") = Some(asked.is_ok());
        let standing = match asked {
            Err(_) if rules.slot().tables().is_empty() => return Ok(None), // a kernel without nf_tables has no rules
            asked => asked?,
        };
        if standing == Standing::Same {
            return Ok(None);
        }
        let fresh = self.read(slot)?;
        let standing = if fresh.slot().tables() == rules.slot().tables() { standing } else { ask(&fresh)? };
        Ok(match standing {
            Standing::Same => None,
            Standing::Counted => Some(Difference::Counts),
            Standing::Added(what) => Some(Difference::Element(what)),
            Standing::Differ(what) => Some(Difference::Rules(what)),
        })
    }

    /// Sets counts and quotas back where the kernel can by itself; else makes the rules again.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn reset_counts(&self, slot: SlotId) -> Result<(), ScrubError> {
        let mut socket =
            Socket::open_to(Protocol::Netfilter).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        match reset(&mut socket) {
            Ok(()) if !self.is_counted(slot)? => Ok(()),
            Ok(()) => self.make_again(slot), // the counts of a chain's policy
            Err(SocketError::Refused(..)) => self.make_again(slot),
            Err(error) => Err(ScrubError::Socket(slot, Arc::new(error))),
        }
    }

    fn is_counted(&self, slot: SlotId) -> Result<bool, ScrubError> {
        Ok(self.difference(slot)?.is_some_and(|difference| difference == Difference::Counts))
    }

    /// Makes the rules in place of all that are there.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn make_again(&self, slot: SlotId) -> Result<(), ScrubError> {
        let rules = self.known(slot)?;
        let mut socket =
            Socket::open_to(Protocol::Netfilter).map_err(|error| ScrubError::Socket(slot, Arc::new(error)))?;
        rules.slot().replace_all(&mut socket).map_err(|error| ScrubError::Rules(slot, error.to_string()))?;
        // Where too many wait, it is closed here.
        drop(self.closer.try_send(socket));
        Ok(())
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
