//! `netslot status`: counts over the pool and the daemon.

use super::output::Output;
use super::view::StatusView;
use super::{Context, Exit, Failure, daemon};

/// Shows.
pub(super) fn run(context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let status = StatusView::from(&daemon::connect(context)?.status()?);
    if out.json() {
        out.value(&status)?
    } else {
        out.text(&status.facts())?
    }
    Ok(Exit::Ok)
}
