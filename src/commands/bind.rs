//! `netslot bind`: connects a leased slot to a tenant's network.

use super::output::Output;
use super::{Context, Exit, Failure, daemon};
use crate::cli::BindArgs;

/// Binds; prints nothing but, on request, the lease as JSON.
pub(super) fn run(args: &BindArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let binding = daemon::binding(&args.bind)?;
    let lease = daemon::lease_id(args.slot, args.generation);
    daemon::connect(context)?.bind(lease, binding)?;
    log::info!("{lease} is bound to VNI {} at {}", binding.vni, args.bind.remote);
    daemon::done(lease, out)
}
