//! `netslot show`: one slot, with the daemon's own words for its quarantine.

use super::output::Output;
use super::view::SlotView;
use super::{Context, Exit, Failure, daemon, rules, verify};
use crate::cli::ShowArgs;
use crate::sys::clock;

/// Shows.
pub(super) fn run(args: &ShowArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    if args.rules {
        return rules::show(args.slot, context, out);
    }
    if args.diff {
        return verify::show(args.slot, context, out);
    }
    let (slot, detail) = daemon::connect(context)?.get(args.slot.number())?;
    let slot = SlotView::new(&slot, clock::boottime_ns(), &detail);
    if out.json() {
        out.value(&slot)?
    } else {
        out.text(&slot.facts())?
    }
    Ok(Exit::Ok)
}
