//! `netslot exec`: leases a slot and becomes a program in it; the daemon ends the lease with the process.
//!
//! There is no parent that waits: the program is the process that opened the connection, so the policy on-exit speaks
//! of it itself. Signals, job control and the exit code are the program's own; a SIGKILL from a supervisor meets the
//! VMM and not a go-between that would leave it running without a network; and a worker with thousands of VMs has no
//! thousands of processes that only wait. The lease outlives a restart of the daemon, since processes do.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use netslot_protocol::Policy;
use netslot_protocol::client::LeaseOptions as Ask;

use super::view::LeaseView;
use super::{Context, Exit, Failure, daemon};
use crate::cli::ExecArgs;
use crate::sys::{netns, sysfs};

/// Returns only if the program could not be started; ending gives the lease back then as it does later.
pub(super) fn run(args: &ExecArgs, context: &Context) -> Result<Exit, Failure> {
    let binding = args.bind.as_ref().map(daemon::binding).transpose()?;
    let mut client = daemon::connect(context)?;
    // Without an fd: then the slot's name is there before the reply, for the program to use from its first moment on.
    let ask = Ask { policy: Policy::OnExit, ..daemon::ask(&args.lease, &client) };
    let lease = client.lease(&ask)?.pop().expect("as many as were asked for");
    if let Some(binding) = binding {
        client.bind(lease.id, binding)?;
    }
    enter(&lease.netns_path)?;
    if let Err(error) = sysfs::make_private() {
        log::warn!("{error}; the program sees another namespace's devices in /sys");
    }
    let (program, arguments) = args.command.split_first().expect("clap wants at least one");
    let error = Command::new(program).args(arguments).envs(LeaseView::from(&lease).environment()).exec();
    // As shells have it: 127 for no such program, 126 for one that cannot be run.
    let exit = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Err(Failure::because(Exit::Program(exit), format!("run {}: {error}", program.display())))
}

/// Enters the namespace that is shown there.
fn enter(path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let need = if error.kind() == io::ErrorKind::PermissionDenied { ": only root can enter a slot" } else { "" };
        Failure::because(Exit::Unreachable, format!("enter {}: {error}{need}", path.display()))
    };
    let netns = File::open(path).map_err(failed)?;
    netns::enter(netns).map_err(|errno| failed(errno.into()))
}
