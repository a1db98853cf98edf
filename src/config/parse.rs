//! Texts of configuration files → one checked configuration that knows where each value was said; it opens no file.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::refusal::{Origin, Origins, Refusal};
use super::value::{DidYouMean, nearest};
use super::{Config, keys, validate};

/// One file's path and text.
#[derive(Clone, Debug)]
pub struct Source {
    /// As it is told to people.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// What the command line says in place of the files.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--slots`.
    pub slots: Option<u32>,
    /// `--socket`, absolute.
    pub socket: Option<PathBuf>,
}

/// A configuration that has been checked, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Their origins.
    pub origins: Origins,
}

/// Reads the sources in their order, a later one overriding keys of an earlier, then the overrides; checks the whole.
///
/// # Errors
/// Everything that is wrong: first with single keys of all files; where there is none, with keys that do not go
/// together.
pub fn parse(sources: &[Source], overrides: &Overrides) -> Result<Loaded, Vec<Refusal>> {
    let mut reader = Reader { config: Config::default(), origins: Origins::default(), refusals: Vec::new() };
    for source in sources {
        reader.source(source);
    }
    if let Some(slots) = overrides.slots {
        reader.config.slots = slots;
        reader.origins.said("slots", Origin::Option("--slots"));
    }
    if let Some(socket) = &overrides.socket {
        reader.set("socket", &DeValue::String(socket.to_string_lossy()), Origin::Option("--socket"));
    }
    let Reader { mut config, origins, mut refusals } = reader;
    if *origins.of("slots_max") == Origin::Default {
        config.slots_max = config.slots;
    }
    if refusals.is_empty() {
        refusals = validate::validate(&config, &origins);
    }
    if refusals.is_empty() { Ok(Loaded { config, origins }) } else { Err(refusals) }
}

struct Reader {
    config: Config,
    origins: Origins,
    refusals: Vec<Refusal>,
}

impl Reader {
    fn source(&mut self, source: &Source) {
        let before = self.refusals.len();
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            let origin = Origin::File(source.path.clone(), line(&source.text, at));
            let problem = format!("no TOML: {}", error.message());
            self.refusals.push(Refusal { origin, key: None, problem });
        }
        // What the parser makes of a broken text may lack half of it: its keys are not judged.
        if errors.is_empty() {
            self.table(source, "", table.get_ref());
        }
        self.refusals[before..].sort_by(|a, b| a.origin.cmp(&b.origin));
    }

    fn table(&mut self, source: &Source, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{section}{}", key.get_ref());
            let origin = Origin::File(source.path.clone(), line(&source.text, key.span().start));
            if let DeValue::Table(inner) = value.get_ref()
                && keys::is_section(&name)
            {
                self.table(source, &format!("{name}."), inner);
            } else {
                self.set(&name, value.get_ref(), origin);
            }
        }
    }

    fn set(&mut self, name: &str, value: &DeValue<'_>, origin: Origin) {
        let problem = match keys::key(name) {
            Some(key) => match (key.read)(&mut self.config, value) {
                Ok(()) => {
                    self.origins.said(key.name, origin);
                    return;
                }
                Err(error) => error.to_string(),
            },
            None if keys::is_section(name) => format!("a section of its own is due: [{name}]"),
            None => unknown(name, matches!(value, DeValue::Table(_))),
        };
        self.refusals.push(Refusal { origin, key: Some(name.escape_debug().to_string()), problem });
    }
}

fn unknown(name: &str, section: bool) -> String {
    if section {
        let near = nearest(name, keys::SECTIONS);
        return format!("unknown section{} (the sections are {})", DidYouMean(near), keys::SECTIONS.join(", "));
    }
    let known = "'netslot config' prints all keys";
    let Some(meant) = keys::meant(name) else { return format!("unknown key ({known})") };
    // A key under the wrong [section] header is the commonest slip of TOML.
    let section = |name: &str| name.split_once('.').map(|(section, _)| section.to_owned());
    let place = match section(meant) {
        same if same == section(name) => String::new(),
        None => ", before the first section".into(),
        Some(section) => format!(", under [{section}]"),
    };
    format!("unknown key: did you mean '{meant}'{place}? ({known})")
}

/// The line of a byte, counted from 1.
fn line(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|b| *b == b'\n').count()
}
