//! `netslot compile-rules`: rules in text to an image; tells what they will cost.

use serde::Serialize;

use super::output::Output;
use super::{Context, Exit, Failure};
use crate::check::cpus_possible;
use crate::cli::CompileRulesArgs;
use crate::rules::compile::{self, Order};
use crate::rules::load::{self, RulesFile};
use crate::rules::source::Syntax;
use crate::rules::{Image, Purpose, Replay, RulesError, warn};

impl From<RulesError> for Failure {
    fn from(error: RulesError) -> Self {
        Self::new(exit(&error), error)
    }
}

/// How a command ends that could not have its rules.
pub(super) fn exit(error: &RulesError) -> Exit {
    match error {
        RulesError::NoTool { .. } => Exit::Host,
        other if other.is_permission() => Exit::Unreachable,
        RulesError::Run { .. } | RulesError::Socket(_) | RulesError::Scratch { .. } => Exit::Failed,
        RulesError::File { .. }
        | RulesError::TooLong(_)
        | RulesError::NoText { .. }
        | RulesError::TooManySources(_)
        | RulesError::Image { .. }
        | RulesError::Unwritable(_)
        | RulesError::Purpose { .. }
        | RulesError::Refused { .. }
        | RulesError::Uncapturable { .. }
        | RulesError::Untakeable { .. }
        | RulesError::Differs { .. } => Exit::Config,
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Compiled<'a> {
    image: &'a std::path::Path,
    purpose: &'static str,
    mark: String,
    objects: usize,
    bytes: usize,
    features: Vec<&'a str>,
    warnings: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: &CompileRulesArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let config = context.config()?;
    let mut sources = Vec::with_capacity(args.files.len());
    for path in &args.files {
        match load::read(path)? {
            RulesFile::Text(source) => sources.push((path.clone(), source)),
            RulesFile::Image(_) => {
                let problem = format!("{}: this is an image already: compile the text it came from", path.display());
                return Err(Failure::because(Exit::Usage, problem));
            }
        }
    }
    let syntax = match (args.iptables, args.ip6tables) {
        (true, _) => Some(Syntax::Iptables),
        (_, true) => Some(Syntax::Ip6tables),
        (false, false) => None,
    };
    let purpose = if args.root { Purpose::Root } else { Purpose::Slot };
    let order = Order { sources: &sources, syntax, purpose, tap: config.guest.tap };
    let image = compile::compile(&order)?;
    if args.check {
        compile::check(&order, &image)?;
    }
    load::keep(&args.output, &image)?;
    let warnings = warn::warnings(&image, config.slots, cpus_possible().unwrap_or(1));
    for warning in &warnings {
        log::warn!("{warning}");
    }
    tell(args, &image, warnings, out)
}

fn tell(args: &CompileRulesArgs, image: &Image, warnings: Vec<String>, out: &mut Output) -> Result<Exit, Failure> {
    let replay = Replay::new(image).map_err(|error| Failure::new(Exit::Config, error))?;
    let mark = image.mark().to_string();
    let (objects, bytes) = (replay.objects(), replay.bytes());
    if out.json() {
        let features = image.features.iter().map(String::as_str).collect();
        let purpose = image.purpose.name();
        out.value(&Compiled { image: &args.output, purpose, mark, objects, bytes, features, warnings })?;
    } else {
        let same = if args.check { ", listed the same after a replay" } else { "" };
        out.line(format_args!("{}: {objects} objects, {bytes} bytes{same}", args.output.display()))?;
    }
    Ok(Exit::Ok)
}
