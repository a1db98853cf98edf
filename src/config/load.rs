//! Reading the configuration: files → text → values, each refusal with its file, line and key; it decides nothing else.

use std::path::{Path, PathBuf};

use super::Config;

/// Where the configuration is read when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/netslot/netslot.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file that was named is not there.
    #[error("{}: no such file", .0.display())]
    Missing(PathBuf),
    /// Reading files has not landed.
    #[error("{}: reading a configuration file is not built into this binary yet", .0.display())]
    NotBuilt(PathBuf),
}

/// Reads the effective configuration: `path`, or the default file, or the defaults where that is missing.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: Option<&Path>) -> Result<Config, LoadError> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    match (file.exists(), path) {
        (true, _) => Err(LoadError::NotBuilt(file.into())),
        (false, Some(_)) => Err(LoadError::Missing(file.into())),
        (false, None) => Ok(Config::default()),
    }
}
