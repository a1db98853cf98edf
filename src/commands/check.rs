//! `netslot check`: prints what the host lacks; what is lacking is judged by `check`.

use serde::Serialize;

use super::output::{Output, OutputError, visible};
use super::{Context, Exit, Failure};
use crate::check::{self, Finding, Level};
use crate::cli::CheckArgs;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    slots: u32,
    lacks: usize,
    notes: usize,
    findings: &'a [Finding],
}

/// Prints the findings, those that matter most first; ends with [`Exit::Host`] where something is lacking.
pub(super) fn run(args: &CheckArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let config = context.loaded(args.slots)?.config;
    let mut findings = check::check(&config);
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (lacks, notes, fine) = (count(Level::Lack), count(Level::Note), count(Level::Ok));
    if out.json() {
        out.value(&Report { slots: config.slots, lacks, notes, findings: &findings })?;
    } else {
        findings.sort_by_key(|finding| finding.level);
        for finding in findings.iter().filter(|finding| args.all || finding.level != Level::Ok) {
            tell(finding, out)?;
        }
        out.line(format_args!("for {} slots: {lacks} lacking, {notes} to note, {fine} as it should be", config.slots))?;
    }
    Ok(if lacks == 0 { Exit::Ok } else { Exit::Host })
}

fn tell(finding: &Finding, out: &mut Output) -> Result<(), OutputError> {
    let Finding { name, level, value, need, why, mend } = finding;
    // Names of devices are part of values, and may hold anything.
    out.line(format_args!("{:<4}  {name}: {}", level.name(), visible(value)))?;
    out.line(format_args!("      need: {need}"))?;
    out.line(format_args!("      why:  {why}"))?;
    match mend {
        Some(mend) => out.line(format_args!("      mend: {}\n", visible(mend))),
        None => out.line(""),
    }
}
