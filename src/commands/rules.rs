//! `netslot rules`: new rules for a pool in use, and `netslot show --rules`: what a slot has.

use serde::Serialize;

use super::output::Output;
use super::signals::Stop;
use super::{Context, Exit, Failure, progress};
use crate::check::cpus_possible;
use crate::cli::{RulesArgs, RulesCommand};
use crate::config::Config;
use crate::execute::{self, Applied, PassError, Progress};
use crate::netlink::nft::family_name;
use crate::netlink::read::text_of;
use crate::netlink::{Protocol, Socket};
use crate::rules::{Purpose, RulesError, compile, load, own_tables, warn};
use crate::slot::SlotId;
use crate::sys::netns;
use crate::sys::vault::Vault;

/// Runs the command.
pub(super) fn run(args: &RulesArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    match args.command {
        RulesCommand::Apply => apply(context, out),
    }
}

/// What `--json` prints of `apply`.
#[derive(Debug, Serialize)]
struct AppliedJson {
    slots: usize,
    objects: usize,
    failed: Vec<FailedJson>,
    stopped: bool,
    seconds: f64,
    slot_us_p50: u32,
}

#[derive(Debug, Serialize)]
struct FailedJson {
    slot: u32,
    error: String,
}

fn apply(context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let config = context.config()?;
    let stop = Stop::on_signals().map_err(|e| Failure::new(Exit::Failed, e))?;
    let progress = Progress::new();
    let applied = progress::shown(&progress, || execute::apply(&config, stop.flag(), &progress))?;
    let Applied { slots, failed, stopped, objects, mut slot_us, took } = applied;
    for (slot, error) in &failed {
        log::error!("{error}; slot {slot} keeps the rules that it had");
    }
    warn(&config);
    slot_us.sort_unstable();
    let p50 = slot_us.get(slot_us.len() / 2).copied().unwrap_or_default();
    if out.json() {
        let failed = failed.iter().map(|(slot, error)| FailedJson { slot: slot.number(), error: error.to_string() });
        let failed = failed.collect();
        out.value(&AppliedJson { slots, objects, failed, stopped, seconds: took.as_secs_f64(), slot_us_p50: p50 })?;
    } else {
        let kept = if failed.is_empty() { String::new() } else { format!(", {} kept their old rules", failed.len()) };
        let seconds = took.as_secs_f64();
        out.line(format_args!("{slots} slots have {objects} objects of rules{kept}; p50 {p50} µs, {seconds:.2} s"))?;
    }
    match stop.exit().filter(|_| stopped) {
        Some(exit) => Err(Failure::because(exit, "stopped by a signal; run `netslot rules apply` again to go on")),
        None if failed.is_empty() => Ok(Exit::Ok),
        None => Ok(Exit::Failed),
    }
}

/// Tells what the configured rules cost that does not show in them.
pub(super) fn warn(config: &Config) {
    let cpus = cpus_possible().unwrap_or(1);
    for (path, purpose) in [(&config.rules.slot, Purpose::Slot), (&config.rules.root, Purpose::Root)] {
        // They have been loaded before, or the command would have ended there.
        let image = path.as_ref().and_then(|path| load(path, purpose, config.guest.tap, &config.run_dir).ok());
        for warning in image.iter().flat_map(|image| warn::warnings(image, config.slots, cpus)) {
            log::warn!("{warning}");
        }
    }
}

/// What `--json` prints of `show --rules`.
#[derive(Debug, Serialize)]
struct RulesJson {
    slot: u32,
    tables: Vec<TableJson>,
    /// nft's listing; none where nft is not installed.
    listing: Option<String>,
}

#[derive(Debug, Serialize)]
struct TableJson {
    family: &'static str,
    name: String,
    mark: Option<String>,
}

/// Shows the rules of a slot.
pub(super) fn show(slot: SlotId, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let config = context.config()?;
    let vault = Vault::open(&config.run_dir).map_err(PassError::from)?;
    let namespace = vault.map(|vault| vault.netns(slot)).transpose().map_err(PassError::from)?.flatten();
    let Some(namespace) = namespace else {
        return Err(Failure::because(Exit::Failed, format!("there is no slot {slot}")));
    };
    let looked = netns::within(namespace, || {
        let tables = own_tables(&mut Socket::open_to(Protocol::Netfilter)?)?;
        let listing = match compile::listing(&[]) {
            Err(RulesError::NoTool { .. }) => None,
            listed => Some(listed?),
        };
        Ok::<_, RulesError>((tables, listing))
    });
    let (tables, listing) =
        looked.map_err(|errno| PassError::Slot { slot, call: "setns to its namespace", errno })??;
    let tables: Vec<TableJson> = tables
        .iter()
        .map(|table| TableJson {
            family: family_name(table.family),
            name: text_of(&table.name).into_owned(),
            mark: table.mark.map(|mark| mark.to_string()),
        })
        .collect();
    if out.json() {
        out.value(&RulesJson { slot: slot.number(), tables, listing })?;
        return Ok(Exit::Ok);
    }
    for TableJson { family, name, mark } in &tables {
        let mark = mark.as_deref().unwrap_or_default();
        out.line(format_args!("# table {family} {} is netslot's, of the rules {mark}", super::output::visible(name)))?;
    }
    match listing {
        Some(listing) => out.text(&listing)?,
        None => log::info!("nft is not installed: the rules themselves cannot be listed"),
    }
    Ok(Exit::Ok)
}
