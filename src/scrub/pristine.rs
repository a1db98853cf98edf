//! What a slot looks like that is as it was made: learned from one that nobody ever leased, told as any other's.

use std::time::{Duration, Instant};

use super::ScrubError;
use super::observe::{Eyes, Inside};
use crate::config::Config;
use crate::execute::{PassError, Reference};
use crate::fingerprint::{Class, Fingerprint, for_slot};
use crate::plan::{Blueprint, SlotSpec};
use crate::sys::thread;

/// How long the slot to compare with may take until it is whole; it takes a few milliseconds, and longer than this only
/// where the kernel's workers are starved.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(2);

/// The fingerprint of a pool's slots.
#[derive(Debug)]
pub struct Pristine {
    fingerprint: Fingerprint,
    spec: SlotSpec,
}

/// Why it could not be learned.
#[derive(Debug, thiserror::Error)]
pub enum PristineError {
    /// The slot could not be made.
    #[error("a slot to compare with cannot be made: {0}")]
    Make(#[from] PassError),
    /// It could not be looked at.
    #[error("the slot to compare with: {0}")]
    Look(#[from] Box<ScrubError>),
    /// It never came to rest.
    #[error(
        "the slot to compare with goes on changing: something else works in every new network namespace of this host"
    )]
    Restless,
}

/// Looks until it is whole and stays the same: the kernel takes an IPv6 address into use by and by (addrconf_dad_work),
/// and adds its route then.
fn settle(inside: &mut Inside<'_>) -> Result<Option<Fingerprint>, ScrubError> {
    let began = Instant::now();
    let mut before = inside.look(None)?;
    while began.elapsed() < PATIENCE {
        std::thread::sleep(PAUSE);
        let now = inside.look(None)?;
        if now == before && is_whole(&now) {
            return Ok(Some(now));
        }
        before = now;
    }
    Ok(None)
}

/// Whether every address can be reached: the kernel has a route of its own to each.
fn is_whole(fingerprint: &Fingerprint) -> bool {
    let of = |class: Class| fingerprint.facts().iter().filter(move |fact| fact.class == class);
    let address = [1, 0, 0, 0];
    let has_route = |own: &[u8]| of(Class::Route).any(|route| route.value(address) == Some(own));
    of(Class::Address).all(|fact| fact.value(address).is_none_or(has_route))
}

impl PristineError {
    /// Whether it takes more rights than this process has.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Make(error) => error.is_permission(),
            Self::Look(error) => error.is_permission(),
            Self::Restless => false,
        }
    }
}

impl Pristine {
    /// Makes a slot, looks at it, and lets it go again.
    ///
    /// # Errors
    /// [`PristineError`].
    pub fn learn(config: &Config, blueprint: &Blueprint) -> Result<Self, PristineError> {
        let reference = Reference::make(config, blueprint)?;
        let spec = *reference.spec();
        let look = || {
            let mut eyes = Eyes::default();
            eyes.arrive(spec.slot, reference.netns())?;
            settle(&mut eyes.open(&spec)?)
        };
        let looked = thread::apart(look).map_err(|errno| PassError::Call { call: "start a thread", errno })?;
        let fingerprint = looked.map_err(Box::new)?.ok_or(PristineError::Restless)?;
        Ok(Self { fingerprint, spec })
    }

    /// The fingerprint that this slot should have.
    #[must_use]
    pub fn of(&self, spec: &SlotSpec) -> Fingerprint {
        for_slot(&self.fingerprint, &self.spec, spec)
    }
}
