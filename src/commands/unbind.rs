//! `netslot unbind`: disconnects a leased slot from its tenant's network.

use super::output::Output;
use super::{Context, Exit, Failure, daemon};
use crate::cli::UnbindArgs;

/// Unbinds; prints nothing but, on request, the lease as JSON.
pub(super) fn run(args: &UnbindArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let lease = daemon::lease_id(args.slot, args.generation);
    daemon::connect(context)?.unbind(lease)?;
    log::info!("{lease} is not bound");
    daemon::done(lease, out)
}
