//! `netslot show`: one slot: its lease in the daemon's own words or, without a daemon, as it is pinned; its addresses; and
//! what the packet programs counted for it.

use netslot_protocol::snapshot::Slot;
use nix::errno::Errno;

use super::datapath_view::{AddressesView, CountersView, ShowView};
use super::output::Output;
use super::view::SlotView;
use super::{Context, Exit, Failure, daemon, rules, verify, vmm};
use crate::bpf::look::Looked;
use crate::bpf::{DatapathError, Look};
use crate::cli::ShowArgs;
use crate::config::Config;
use crate::serve::record;
use crate::slot::SlotId;
use crate::sys::clock;

/// Shows.
pub(super) fn run(args: &ShowArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    if args.rules {
        return rules::show(args.slot, context, out);
    }
    if let Some(vmm) = args.vmm {
        return vmm::run(args.slot, vmm, context, out);
    }
    if args.diff {
        return verify::show(args.slot, context, out);
    }
    let config = context.config()?;
    let looked = look(&config, args.slot);
    let (slot, detail) = match (told(args.slot, context), &looked) {
        (Ok(told), _) => told,
        (Err(failure), Some(looked)) if failure.exit() == Exit::Unreachable => {
            log::info!("no daemon answers: the slot is shown as its records have it");
            (pinned(args.slot, looked)?, String::new())
        }
        (Err(failure), _) => return Err(failure),
    };
    let view = ShowView {
        slot: SlotView::new(&slot, clock::boottime_ns(), &detail),
        addresses: AddressesView::of(&config, args.slot),
        counters: looked.map(|looked| CountersView::from(&looked.counters)),
    };
    if out.json() {
        out.value(&view)?
    } else {
        out.text(&view.facts())?
    }
    Ok(Exit::Ok)
}

/// The slot as the daemon knows it, and its words for a quarantine.
fn told(slot: SlotId, context: &Context) -> Result<(Slot, String), Failure> {
    let (slot, detail) = daemon::connect(context)?.get(slot.number())?;
    Ok((slot, detail.to_string()))
}

/// The slot as its records have it.
fn pinned(slot: SlotId, looked: &Looked) -> Result<Slot, Failure> {
    let failed = |error| Failure::because(Exit::Failed, format!("the record of slot {slot}: {error}"));
    record(slot, &looked.ledger, looked.binding.as_ref()).read().map_err(failed)
}

/// What is pinned of the slot; nothing where this user may not look, or nothing is.
fn look(config: &Config, slot: SlotId) -> Option<Looked> {
    match Look::open(&config.bpf_dir) {
        Ok(look) => look.and_then(|look| look.slot(slot)),
        Err(DatapathError::Call { error, .. }) if error.raw_os_error() == Some(Errno::EACCES as i32) => {
            log::debug!("{} is root's: no counters are shown", config.bpf_dir.display());
            None
        }
        Err(error) => {
            log::warn!("{error}; no counters are shown");
            None
        }
    }
}
