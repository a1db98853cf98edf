//! `netslot serve`: runs the daemon.

use nix::errno::Errno;

use super::{Context, Exit, Failure};
use crate::cli::ServeArgs;
use crate::execute::PassError;
use crate::serve::{self, Begin, ServeError, SuccessionError};
use crate::sys::lock::LockError;

/// Runs the command.
///
/// # Errors
/// Why the daemon did not start, or stopped by itself.
pub fn run(args: &ServeArgs, context: &Context) -> Result<Exit, Failure> {
    let config = context.loaded(args.slots)?.config;
    serve::serve(config, Begin { up: args.up, replace: args.replace })?;
    Ok(Exit::Ok)
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let exit = match &error {
            ServeError::Lock(LockError::Held { .. })
            | ServeError::Succession(SuccessionError::Refused(_) | SuccessionError::Later(_)) => Exit::Refused,
            ServeError::Leases(PassError::Hidden(_)) => Exit::Refused,
            ServeError::TooFewFds { .. } => Exit::Host,
            ServeError::Stopped => Exit::Interrupted,
            ServeError::Vault(error) if matches!(error.errno(), Errno::EPERM | Errno::EACCES) => Exit::Unreachable,
            ServeError::Pass(_)
            | ServeError::Leases(_)
            | ServeError::Lock(LockError::File { .. })
            | ServeError::NoPool(_)
            | ServeError::Unfinished
            | ServeError::Elsewhere(_)
            | ServeError::Maps(_)
            | ServeError::Blueprint(_)
            | ServeError::Outbox(_)
            | ServeError::Vault(_)
            | ServeError::Netlink(_)
            | ServeError::NotASocket(_)
            | ServeError::Succession(_)
            | ServeError::Activation(_)
            | ServeError::File { .. }
            | ServeError::Call { .. } => Exit::Failed,
        };
        if let ServeError::Pass(broken) = error {
            let message = broken.to_string();
            return Self::because(Self::from(broken.error).exit(), message);
        }
        Self::new(exit, error)
    }
}
