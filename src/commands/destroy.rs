//! `netslot destroy`: takes the whole pool down, unless somebody leases from it.

use serde::Serialize;

use super::output::Output;
use super::signals::Stop;
use super::{Context, Exit, Failure, pool, progress};
use crate::bpf::DatapathError;
use crate::cli::DestroyArgs;
use crate::execute::{self, PassError, Progress};
use crate::sys::outbox::Outbox;

/// Runs the command.
///
/// # Errors
/// Where slots are leased and `--force` is not given, a daemon serves the pool, or the kernel refuses.
pub fn run(args: &DestroyArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let config = context.config()?;
    let leased = match execute::leased(&config) {
        Err(PassError::Datapath(error @ DatapathError::Missing(_))) => {
            log::warn!("{error}");
            0
        }
        Err(PassError::Hidden(hidden)) if args.force => {
            log::warn!("{hidden}");
            0
        }
        leased => leased?.len(),
    };
    if leased > 0 && !args.force {
        return Err(Failure::because(
            Exit::Refused,
            format!("{leased} slots are leased: release them first, or use --force: their guests lose their network"),
        ));
    }
    let _alone = pool::lock_serving(&config).map_err(PassError::from)?;
    let stop = Stop::on_signals().map_err(|e| Failure::new(Exit::Failed, e))?;
    let progress = Progress::new();
    let done = progress::shown(&progress, || execute::destroy(&config, stop.flag(), &progress));
    let done = done.map_err(|error| match stop.exit() {
        Some(exit) => Failure::because(exit, format!("{error}; run `netslot destroy` again to take the rest down")),
        None => Failure::from(error),
    })?;
    // Last: its leases are gone.
    Outbox::delete(&config.run_dir)?;
    if out.json() {
        out.value(&DestroyedJson { slots: done.slots, seconds: done.took.as_secs_f64() })?;
    } else if done.slots == 0 {
        out.line("there is no pool")?;
    } else {
        out.line(format!("{} slots taken down in {:.2} s", done.slots, done.took.as_secs_f64()))?;
        log::info!("the kernel goes on freeing their memory for a while");
    }
    Ok(Exit::Ok)
}

#[derive(Debug, Serialize)]
struct DestroyedJson {
    slots: usize,
    seconds: f64,
}
