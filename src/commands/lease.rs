//! `netslot lease`: takes slots and prints what a VMM needs of them; gives them back if nobody can learn of them.

use std::time::Instant;

use netslot_protocol::client::{Client, Lease, LeaseOptions as Ask};
use netslot_protocol::limits::LEASE_COUNT_MAX;

use super::output::{Output, OutputError};
use super::view::{LeaseView, lease_table};
use super::{Context, Exit, Failure, daemon};
use crate::cli::{LeaseArgs, Policy};

impl From<Policy> for netslot_protocol::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Explicit => Self::Explicit,
            Policy::OnExit => Self::OnExit,
            Policy::OnDisconnect => Self::OnDisconnect,
        }
    }
}

/// Leases, prints, and holds on where the lease ends with this process.
pub(super) fn run(args: &LeaseArgs, context: &Context, out: &mut Output) -> Result<Exit, Failure> {
    let mut client = daemon::connect(context)?;
    let leases = take(&mut client, args)?;
    if let Err(error) = tell(&leases, out) {
        give_back(&mut client, &leases);
        let message = format!("{error}: nobody learned of the leases, so they are given back");
        return Err(Failure::because(Exit::Failed, message));
    }
    if args.policy == Policy::Explicit {
        return Ok(Exit::Ok);
    }
    log::info!("holding {} until this command is stopped", slots(leases.len()));
    loop {
        // A signal ends the process as it ends any other, and the daemon sees that.
        std::thread::park();
    }
}

/// All slots that were asked for, or none: several requests where one does not take so many.
fn take(client: &mut Client, args: &LeaseArgs) -> Result<Vec<Lease>, Failure> {
    let wanted = usize::try_from(args.count).expect("at most 65,536");
    let ask = Ask { policy: args.policy.into(), ..daemon::ask(&args.lease, client) };
    let until = Instant::now() + ask.wait;
    let mut leases = Vec::with_capacity(wanted);
    while leases.len() < wanted {
        let count = u32::try_from((wanted - leases.len()).min(LEASE_COUNT_MAX)).expect("at most 64");
        match client.lease(&Ask { count, wait: until.saturating_duration_since(Instant::now()), ..ask }) {
            Ok(more) => leases.extend(more),
            Err(error) => {
                give_back(client, &leases);
                return Err(error.into());
            }
        }
    }
    Ok(leases)
}

fn tell(leases: &[Lease], out: &mut Output) -> Result<(), OutputError> {
    let leases: Vec<LeaseView> = leases.iter().map(LeaseView::from).collect();
    if out.json() {
        leases.iter().try_for_each(|lease| out.value(lease))?;
    } else {
        out.table(&lease_table(&leases))?;
    }
    out.flush()
}

fn give_back(client: &mut Client, leases: &[Lease]) {
    for lease in leases {
        if let Err(error) = client.release(lease.id) {
            let id = lease.id;
            log::warn!(
                "{error}; {id} stays leased: 'netslot release {} --generation {}' gives it back",
                id.slot,
                id.generation
            );
        }
    }
}

fn slots(count: usize) -> String {
    if count == 1 { "1 slot".into() } else { format!("{count} slots") }
}
