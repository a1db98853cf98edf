//! Reads the configuration's files, in their order; what is in them is judged by `parse`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::parse::{self, Loaded, Overrides, Source};
use super::refusal::{Origin, Refusal};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_FILES_MAX};

/// Where the configuration is read when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/netslot/netslot.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory that is there, or was named, cannot be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is past [`CONFIG_BYTES_MAX`].
    #[error("{}: more than {CONFIG_BYTES_MAX} bytes: this is no configuration of netslot", .0.display())]
    TooLarge(PathBuf),
    /// A directory holds more than [`CONFIG_FILES_MAX`].
    #[error("{}: more than {CONFIG_FILES_MAX} files", .0.display())]
    TooMany(PathBuf),
    /// What is in the files is wrong: every refusal, in the order of files and lines.
    #[error("{}", list(.0))]
    Refused(Vec<Refusal>),
}

fn list(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        all => format!("{} things are wrong with the configuration\n{}", all.len(), all.join("\n")),
    }
}

/// Reads the effective configuration: the file, then `FILE.d/*.toml` in the order of their names, then the overrides.
///
/// With `path`, that file, which must be there; without, [`DEFAULT_PATH`], which need not.
///
/// # Errors
/// [`LoadError`].
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Loaded, LoadError> {
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    let mut sources = Vec::new();
    match read(file) {
        Ok(source) => sources.push(source),
        Err(LoadError::Read(_, error)) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for drop_in in drop_ins(file)? {
        sources.push(read(&drop_in)?);
    }
    parse::parse(&sources, overrides).map_err(LoadError::Refused)
}

/// `FILE.d/*.toml`, sorted by name; no directory, no files.
fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut dir = file.as_os_str().to_owned();
    dir.push(".d");
    let dir = PathBuf::from(dir);
    let wrong = |error| LoadError::Read(dir.clone(), error);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(wrong)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if files.len() == CONFIG_FILES_MAX {
            return Err(LoadError::TooMany(dir));
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Source, LoadError> {
    let wrong = |error| LoadError::Read(path.into(), error);
    let mut bytes = Vec::new();
    let limit = u64::try_from(CONFIG_BYTES_MAX).expect("a megabyte") + 1;
    File::open(path).map_err(wrong)?.take(limit).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(LoadError::TooLarge(path.into()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let whole = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..whole].iter().filter(|b| **b == b'\n').count();
        let problem = "no UTF-8 from here on: is this a text file?".into();
        LoadError::Refused(vec![Refusal { origin: Origin::File(path.into(), line), key: None, problem }])
    })?;
    Ok(Source { path: path.into(), text })
}
