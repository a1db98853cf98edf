//! The effective configuration as text: TOML that can be read back, or JSON; it writes nowhere.

use serde_json::{Map, Value as Json, json};

use super::keys::KEYS;
use super::parse::Loaded;

/// The configuration as a file that gives the same configuration, each value with its origin in a comment.
#[must_use]
pub fn toml(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in &KEYS {
        let (in_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if in_section != section {
            section = in_section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        let said = format!("{name} = {}", (key.show)(&loaded.config));
        text.push_str(&format!("{said:<40} # {}\n", loaded.origins.of(key.name)));
    }
    text
}

/// The configuration as one JSON object of the same shape, and beside it `origins`: key → file:line.
#[must_use]
pub fn json(loaded: &Loaded) -> Json {
    let mut all = Map::new();
    let mut origins = Map::new();
    for key in &KEYS {
        let value = (key.show)(&loaded.config);
        origins.insert(key.name.into(), loaded.origins.of(key.name).to_string().into());
        match key.name.split_once('.') {
            None => all.insert(key.name.into(), value),
            Some((section, name)) => {
                let inner = all.entry(section).or_insert_with(|| json!({}));
                inner.as_object_mut().and_then(|inner| inner.insert(name.into(), value))
            }
        };
    }
    all.insert("origins".into(), origins.into());
    all.into()
}
