//! `netslot up`: makes, repairs, grows or shrinks the pool, shows how far it is, and prints what came of it.

use serde::Serialize;

use super::output::Output;
use super::signals::Stop;
use super::{Context, Exit, Failure, pool, progress, rules};
use crate::cli::UpArgs;
use crate::execute::{self, Broken, Orders, PassError, Progress, Summary};
use crate::plan::{Part, Plan};
use crate::slot::SlotId;
use crate::sys::lock::LockError;

/// Slots whose times are taken together at the beginning and at the end of a pass: enough for a median, few enough to
/// show growth within 4,000.
const EDGE: usize = 500;

/// Runs the command.
///
/// # Errors
/// What stopped the pass, and what stands.
pub fn run(args: &UpArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let config = context.loaded(args.slots)?.config;
    let stop = Stop::on_signals().map_err(|e| Failure::new(Exit::Failed, e))?;
    let progress = Progress::new();
    let leased = execute::leased(&config)?;
    let orders = Orders { config: &config, leased: &leased, stop: stop.flag(), progress: &progress, on_whole: &|_| () };
    if args.dry_run {
        return dry_run(&orders, out);
    }
    // The daemon may lease any slot at any moment: while it serves, a pass may look and must not touch.
    let _alone = match pool::lock_serving(&config) {
        Ok(lock) => lock,
        Err(served @ LockError::Held { .. }) if execute::dry_run(&orders)?.is_empty() => {
            log::info!("{served}; every slot is as it should be");
            return Ok(Exit::Ok);
        }
        Err(error) => return Err(PassError::from(error).into()),
    };
    let broken = |broken: Broken| {
        let message = broken.to_string();
        Failure::because(stop.exit().unwrap_or_else(|| Failure::from(broken.error).exit()), message)
    };
    let summary = progress::shown(&progress, || execute::up(&orders)).map_err(broken)?;
    if summary.created + summary.repaired > 0 {
        rules::warn(&config);
    }
    report(&summary, out)?;
    Ok(Exit::Ok)
}

fn dry_run(orders: &Orders<'_>, out: &mut Output) -> Result<Exit, Failure> {
    let plan = execute::dry_run(orders)?;
    if out.json() {
        out.value(&PlanJson::from(&plan))?;
    } else {
        out.text(&plan.to_string())?;
    }
    Ok(Exit::Ok)
}

fn report(summary: &Summary, out: &mut Output) -> Result<(), Failure> {
    for knob in &summary.out_of_reach {
        log::warn!("{} could not be set ({}): {}", knob.path, knob.error, knob.cost);
    }
    for left in &summary.left_alone {
        log::warn!("slot {} is leased and was left as it is: {}", left.slot, left.why);
    }
    let json = SummaryJson::from(summary);
    if out.json() {
        return Ok(out.value(&json)?);
    }
    let Summary { slots, created, adopted, repaired, refreshed, removed, .. } = summary;
    let mut line = format!("{slots} slots stand: {created} made, {adopted} adopted");
    for (count, word) in [(repaired, "repaired"), (refreshed, "with newer programs"), (removed, "removed")] {
        if *count > 0 {
            line += &format!(", {count} {word}");
        }
    }
    out.line(format!("{line}; {:.2} s", json.seconds))?;
    if !json.phases.is_empty() && *created > 0 {
        let phases: Vec<String> = json.phases.iter().map(|p| format!("{} {:.2} s", p.name, p.seconds)).collect();
        out.line(format!("phases: {}", phases.join(", ")))?;
        let us = &json.slot_us;
        out.line(format!("to make one: p50 {} µs, p99 {} µs", us.p50, us.p99))?;
    }
    Ok(())
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct SummaryJson {
    slots: u32,
    created: usize,
    adopted: usize,
    repaired: usize,
    refreshed: usize,
    removed: usize,
    left_alone: Vec<u32>,
    seconds: f64,
    phases: Vec<PhaseJson>,
    slot_us: SlotUs,
}

#[derive(Debug, Serialize)]
struct PhaseJson {
    name: &'static str,
    seconds: f64,
}

/// Microseconds that a slot takes to make, raising not counted; each thousand in the order of making shows growth.
#[derive(Debug, Serialize)]
struct SlotUs {
    first_500_p50: u32,
    last_500_p50: u32,
    p50: u32,
    p99: u32,
    per_thousand_p50: Vec<u32>,
}

impl From<&Summary> for SummaryJson {
    fn from(summary: &Summary) -> Self {
        let mut phases: Vec<PhaseJson> = Vec::new();
        for phase in &summary.phases {
            let seconds = phase.took.as_secs_f64();
            // With `ready_after` each phase runs twice.
            match phases.iter_mut().find(|p| p.name == phase.name) {
                Some(same) => same.seconds += seconds,
                None => phases.push(PhaseJson { name: phase.name, seconds }),
            }
        }
        Self {
            slots: summary.slots,
            created: summary.created,
            adopted: summary.adopted,
            repaired: summary.repaired,
            refreshed: summary.refreshed,
            removed: summary.removed,
            left_alone: summary.left_alone.iter().map(|l| l.slot.number()).collect(),
            seconds: summary.took.as_secs_f64(),
            phases,
            slot_us: SlotUs::from(summary.slot_us.as_slice()),
        }
    }
}

impl From<&[u32]> for SlotUs {
    fn from(times: &[u32]) -> Self {
        let first = &times[..times.len().min(EDGE)];
        let last = &times[times.len().saturating_sub(EDGE)..];
        Self {
            first_500_p50: percentile(first, 50),
            last_500_p50: percentile(last, 50),
            p50: percentile(times, 50),
            p99: percentile(times, 99),
            per_thousand_p50: times.chunks(1_000).map(|thousand| percentile(thousand, 50)).collect(),
        }
    }
}

/// The value below which `percent` of the times lie; 0 where there are none.
fn percentile(times: &[u32], percent: usize) -> u32 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// What `--dry-run --json` prints: slots by number, parts by name.
#[derive(Debug, Serialize)]
struct PlanJson {
    adopted: u32,
    remove: Vec<ReasonJson>,
    make: Vec<MakeJson>,
    left_alone: Vec<ReasonJson>,
    /// Whether the host's own rules are to be replaced.
    root_rules: bool,
    /// Whether programs are to be hung on the host ends' blocks and the uplink.
    host_programs: bool,
}

#[derive(Debug, Serialize)]
struct ReasonJson {
    slot: u32,
    why: String,
}

#[derive(Debug, Serialize)]
struct MakeJson {
    slot: u32,
    parts: Vec<&'static str>,
}

impl From<&Plan> for PlanJson {
    fn from(plan: &Plan) -> Self {
        let reason = |slot: SlotId, why: &str| ReasonJson { slot: slot.number(), why: why.into() };
        Self {
            adopted: plan.adopted,
            root_rules: plan.root_rules,
            host_programs: plan.host_programs,
            remove: plan.remove.iter().map(|r| reason(r.slot, &r.why)).collect(),
            make: plan
                .make
                .iter()
                .map(|m| MakeJson { slot: m.slot.number(), parts: m.parts.iter().map(Part::name).collect() })
                .collect(),
            left_alone: plan.left_alone.iter().map(|l| reason(l.slot, &l.why)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_is_there() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 99), 7);
        let times: Vec<u32> = (1..=100).rev().collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (51, 100));
    }

    #[test]
    fn first_and_last_are_taken_in_the_order_of_making() {
        let times: Vec<u32> = (0..4_000).collect();
        let us = SlotUs::from(times.as_slice());
        assert_eq!((us.first_500_p50, us.last_500_p50, us.per_thousand_p50.len()), (250, 3_750, 4));
    }
}
