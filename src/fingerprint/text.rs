//! Differences in words: what the thing is, which of its values, what was expected and what was found.

use std::net::IpAddr;

use serde::Serialize;

use super::difference::Difference;
use super::schema::{Class, Format};
use super::translate::{attribute, format};
use super::{Fact, Path, number};
use crate::netlink::read::text_of;
use crate::plan::SlotSpec;
use crate::slot::Mac;

/// One line about one difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The thing, and which of its values where it is one of several.
    pub what: String,
    /// As it was made; `none` where nothing was.
    pub expected: String,
    /// As it is.
    pub found: String,
    /// Traffic alone brings it about.
    pub trace: bool,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, found {}", self.what, self.expected, self.found)
    }
}

/// The lines that tell of a difference in that slot: one for each value that is otherwise.
#[must_use]
pub fn line(difference: &Difference, spec: &SlotSpec) -> Vec<Line> {
    let trace = difference.is_trace();
    let one = |what, expected, found| vec![Line { what, expected, found, trace }];
    match difference {
        Difference::Missing(fact) => one(thing(fact, spec), rest(fact, spec), "none".into()),
        Difference::Added(fact) => one(thing(fact, spec), "none".into(), rest(fact, spec)),
        Difference::Rules(what) | Difference::Element(what) => {
            one("rules".into(), "as configured".into(), what.clone())
        }
        Difference::Counts => one("counts and quotas of rules".into(), "none".into(), "some".into()),
        Difference::Changed { expected, found, paths } => {
            let value = |fact: &Fact, path| {
                let value = fact.value(path).map(|value| written(fact.class, path, value, spec));
                value.unwrap_or_else(|| "none".into())
            };
            let line = |path: &Path| {
                let name = name(expected.class, *path);
                let what =
                    if name == "value" { thing(expected, spec) } else { format!("{} {name}", thing(expected, spec)) };
                Line { what, expected: value(expected, *path), found: value(found, *path), trace }
            };
            paths.iter().map(line).collect()
        }
    }
}

/// What people call the thing.
fn thing(fact: &Fact, spec: &SlotSpec) -> String {
    let schema = fact.class.schema();
    if fact.class == Class::Link {
        return device(fact.number([super::HEADER, 4, 0, 0]).unwrap_or_default(), spec);
    }
    let mut words = schema.name.to_owned();
    for (path, value) in fact.key() {
        // A zero says nothing: no prefix, no flags, the default of an address.
        if value.iter().all(|byte| *byte == 0) {
            continue;
        }
        let name = name(fact.class, path);
        if !matches!(name.as_str(), "" | "family") {
            words += &format!(" {name}");
        }
        if name != "family" {
            words += &format!(" {}", written(fact.class, path, value, spec));
        }
    }
    words
}

/// What is not in its name.
fn rest(fact: &Fact, spec: &SlotSpec) -> String {
    if fact.class == Class::Link {
        let name = fact.value([3, 0, 0, 0]).map(|name| text_of(name).into_owned()).unwrap_or_default();
        let kind = fact.value([18, 1, 0, 0]).map(|kind| text_of(kind).into_owned()).unwrap_or_default();
        return format!("{kind} device {name}").trim_start().to_owned();
    }
    let fields = fact.fields.iter().filter(|f| !f.key && f.value.iter().any(|byte| *byte != 0));
    let shown = fields.map(|f| format!("{} {}", name(fact.class, f.path), written(fact.class, f.path, &f.value, spec)));
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { "it".into() } else { shown.join(", ") }
}

fn name(class: Class, path: Path) -> String {
    attribute(class, path).map_or_else(|| format!("attribute {}", numbers(path)), |attribute| attribute.name.into())
}

fn numbers(path: Path) -> String {
    let numbers: Vec<String> = path.iter().take_while(|id| **id != 0).map(u16::to_string).collect();
    numbers.join(".")
}

fn written(class: Class, path: Path, value: &[u8], spec: &SlotSpec) -> String {
    if value.is_empty() {
        return "none".into();
    }
    let number = || number(value);
    let written = match format(class, path).unwrap_or(Format::Hex) {
        Format::Number => number().map(|n| n.to_string()),
        Format::Hex => None,
        Format::Text => Some(text_of(value).chars().map(|c| if c.is_control() { '?' } else { c }).collect()),
        Format::Mac => value.try_into().ok().map(|mac| Mac(mac).to_string()),
        Format::Device => number().map(|index| device(index, spec)),
        Format::Ip => match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(|ip| IpAddr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(value).ok().map(|ip| IpAddr::from(ip).to_string()),
            _ => None,
        },
    };
    written.unwrap_or_else(|| match number() {
        Some(number) => format!("{number:#x}"),
        None => value.iter().take(32).map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn device(index: u32, spec: &SlotSpec) -> String {
    let known = [&spec.bridge, &spec.up, &spec.tap].into_iter().find(|device| device.index.0 == index);
    match (index, known) {
        (1, _) => "lo".into(),
        (_, Some(device)) => device.name.to_string(),
        (index, None) => format!("device {index}"),
    }
}
