//! A rules file of the configuration → an image: read if it is one, else compiled, and the result kept beside the pool so
//! that nft runs once for each change of the text.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::compile::{Order, compile};
use super::error::RulesError;
use super::image::{Image, Purpose, Source, is_image};
use super::source;
use crate::limits::{RULES_IMAGE_BYTES_MAX, RULES_TEXT_BYTES_MAX};
use crate::slot::LinkName;
use crate::sys::fault;

/// A rules file: one of both.
#[derive(Debug)]
pub enum RulesFile {
    /// Compiled.
    Image(Image),
    /// In text.
    Text(Source),
}

/// Reads a rules file.
///
/// # Errors
/// [`RulesError`].
pub fn read(path: &Path) -> Result<RulesFile, RulesError> {
    let wrong = |error| RulesError::File { call: "read", path: path.into(), error };
    let mut bytes = Vec::new();
    let limit = u64::try_from(RULES_IMAGE_BYTES_MAX).expect("some megabytes") + 1;
    File::open(path).map_err(wrong)?.take(limit).read_to_end(&mut bytes).map_err(wrong)?;
    if is_image(&bytes) {
        let image = Image::from_bytes(&bytes).map_err(|error| RulesError::Image { path: path.into(), error })?;
        return Ok(RulesFile::Image(image));
    }
    if bytes.len() > RULES_TEXT_BYTES_MAX {
        return Err(RulesError::TooLong(path.into()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(RulesFile::Text(Source { name: path.display().to_string(), text })),
        Err(error) => {
            let whole = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + whole.iter().filter(|byte| **byte == b'\n').count();
            Err(RulesError::NoText { path: path.into(), line })
        }
    }
}

/// The image that a rules file is, or is compiled to.
///
/// # Errors
/// [`RulesError`].
pub fn load(path: &Path, purpose: Purpose, tap: LinkName, run_dir: &Path) -> Result<Image, RulesError> {
    let source = match read(path)? {
        RulesFile::Image(image) if image.purpose == purpose => return Ok(image),
        RulesFile::Image(image) => {
            let (found, wanted) = (image.purpose.name(), purpose.name());
            return Err(RulesError::Purpose { path: path.into(), found, wanted });
        }
        RulesFile::Text(source) => source,
    };
    let kept = run_dir.join(format!("rules-{}.image", purpose.name()));
    let same = |image: &Image| image.purpose == purpose && image.sources == [source.clone()];
    if let Ok(RulesFile::Image(image)) = read(&kept)
        && same(&image)
        && !source::includes(&source)
    {
        return Ok(image);
    }
    let order = Order { sources: &[(path.into(), source)], syntax: None, purpose, tap };
    let image = compile(&order)?;
    if let Err(error) = keep(&kept, &image) {
        log::debug!("{error}: the rules will be compiled again next time");
    }
    Ok(image)
}

/// Writes an image, whole or not at all.
///
/// # Errors
/// [`RulesError`].
pub fn keep(path: &Path, image: &Image) -> Result<(), RulesError> {
    let bytes = image.to_bytes()?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    fault::point();
    written.map_err(|error: io::Error| RulesError::File { call: "write", path: path.into(), error })
}
