//! `netslot release`: gives a leased slot back.

use super::output::Output;
use super::{Context, Exit, Failure, daemon};
use crate::cli::ReleaseArgs;

/// Releases; prints nothing but, on request, the lease that is over as JSON.
pub(super) fn run(args: &ReleaseArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let lease = daemon::lease_id(args.slot, args.generation);
    daemon::connect(context)?.release(lease)?;
    log::info!("{lease} is released");
    daemon::done(lease, out)
}
