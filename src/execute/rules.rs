//! The rules that the configuration names, ready for slots and host, and what becomes of them there outside of a pass's
//! phases; how rules are compiled and sent is `rules`' to know.

use std::path::PathBuf;

use super::error::PassError;
use crate::config::Config;
use crate::netlink::{Protocol, Socket};
use crate::rules::{Image, Purpose, Replay, ReplayError, RulesError, compile, load, own_tables};

/// Both rulesets.
#[derive(Debug)]
pub struct Rules {
    slot: Ruleset,
    root: Ruleset,
}

/// One ruleset, or none.
#[derive(Debug)]
struct Ruleset {
    image: Option<(PathBuf, Image)>,
    replay: Replay,
}

impl Rules {
    /// Reads or compiles them.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn load(config: &Config) -> Result<Self, RulesError> {
        let load = |path: &Option<PathBuf>, purpose| -> Result<Ruleset, RulesError> {
            let Some(path) = path else { return Ok(Ruleset { image: None, replay: Replay::nothing() }) };
            let image = load(path, purpose, config.guest.tap, &config.run_dir)?;
            let untakeable = |error| RulesError::Untakeable { file: path.display().to_string(), error };
            let replay = Replay::new(&image).map_err(untakeable)?;
            Ok(Ruleset { image: Some((path.clone(), image)), replay })
        };
        Ok(Self { slot: load(&config.rules.slot, Purpose::Slot)?, root: load(&config.rules.root, Purpose::Root)? })
    }

    /// What every slot gets.
    pub fn slot(&self) -> &Replay {
        &self.slot.replay
    }

    /// Has the kernel make both in scratch namespaces: what it lacks shows before a slot is touched.
    ///
    /// # Errors
    /// [`RulesError::Untakeable`].
    pub fn try_out(&self, config: &Config) -> Result<(), RulesError> {
        for ruleset in [&self.slot, &self.root] {
            if let Some((path, image)) = &ruleset.image {
                compile::try_out(&ruleset.replay, image, path, config.guest.tap)?;
            }
        }
        Ok(())
    }

    /// Whether the calling thread's namespace, the host's, has other rules of netslot's than it should.
    ///
    /// # Errors
    /// [`PassError::Socket`].
    pub fn differ_in_root(&self) -> Result<bool, PassError> {
        let wanted = self.root.replay.tables();
        match Socket::open_to(Protocol::Netfilter).and_then(|mut socket| own_tables(&mut socket)) {
            Ok(tables) => Ok(tables != wanted),
            Err(_) if wanted.is_empty() => Ok(false), // a kernel without nf_tables has no rules
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the host's rules in place of those of netslot's that it has.
    ///
    /// # Errors
    /// [`PassError::RootRules`].
    pub fn replace_in_root(&self) -> Result<(), PassError> {
        replace(&self.root.replay)
    }
}

/// Takes netslot's rules out of the calling thread's namespace.
///
/// # Errors
/// [`PassError::RootRules`].
pub fn remove_from_root() -> Result<(), PassError> {
    replace(&Replay::nothing())
}

fn replace(replay: &Replay) -> Result<(), PassError> {
    let socket = Socket::open_to(Protocol::Netfilter).map_err(ReplayError::from);
    match socket.and_then(|mut socket| replay.replace(&mut socket)) {
        Err(ReplayError::Socket(_)) if replay.tables().is_empty() => Ok(()), // a kernel without nf_tables has no rules
        done => done.map_err(PassError::RootRules),
    }
}
