//! `netslot config`: prints the effective configuration; it judges nothing itself.

use super::output::Output;
use super::{Context, Exit, Failure};
use crate::cli::ConfigArgs;
use crate::config::print;

/// Prints the configuration, or with `--check` only that it would be taken.
pub(super) fn run(args: &ConfigArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let loaded = context.loaded(None)?;
    if args.check {
        log::info!("the configuration would be taken: {} slots", loaded.config.slots);
    } else if out.json() {
        out.value(&print::json(&loaded))?;
    } else {
        out.text(&print::toml(&loaded))?;
    }
    Ok(Exit::Ok)
}
