//! What a host lacks before a pool can be made on it: facts are gathered, then judged; nothing on the host is changed.

mod facts;
mod judge;
mod network;
mod path;
#[cfg(test)]
mod tests;
mod text;

pub use facts::cpus_possible;
use serde::Serialize;

use crate::config::Config;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Without it no pool can be made, or it would do damage.
    Lack,
    /// A pool can be made, at a price or with a limit that the operator should know.
    Note,
    /// As it should be.
    Ok,
}

impl Level {
    /// The word that people and JSON see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lack => "lack",
            Self::Note => "note",
            Self::Ok => "ok",
        }
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What it is.
    pub value: String,
    /// What is needed.
    pub need: String,
    /// Why.
    pub why: &'static str,
    /// What mends it, a command where there is one; nothing where nothing is to be mended.
    pub mend: Option<String>,
}

/// Looks at the host as the calling thread sees it, for the pool of that configuration.
#[must_use]
pub fn check(config: &Config) -> Vec<Finding> {
    judge::judge(config, &facts::gather(config))
}

impl Finding {
    /// Something that is as it should be.
    fn fine(name: &'static str, value: impl Into<String>, need: impl Into<String>, why: &'static str) -> Self {
        Self { name, level: Level::Ok, value: value.into(), need: need.into(), why, mend: None }
    }

    /// The same where it fits; else at that level, with what mends it.
    fn unless(self, fits: bool, level: Level, mend: impl Into<String>) -> Self {
        if fits { self } else { Self { level, mend: Some(mend.into()), ..self } }
    }
}
