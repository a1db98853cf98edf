//! How a command talks to the daemon: connects, and turns what goes wrong into words and an exit code.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use netslot_protocol::client::{self, Client, ClientError, TIMEOUT};
use netslot_protocol::{Binding, ErrorCode, Ip, LeaseId};
use serde::Serialize;

use super::output::Output;
use super::{Context, Exit, Failure};
use crate::cli::{BindOptions, LeaseOptions};
use crate::slot::{Generation, SlotId};

/// A connection to the daemon on the configured socket.
pub(super) fn connect(context: &Context) -> Result<Client, Failure> {
    let name = concat!("netslot ", env!("CARGO_PKG_VERSION"));
    Ok(Client::connect_as(&context.socket()?, name, TIMEOUT)?)
}

/// What was asked for of a lease, in the client's words; policy and fds are the command's own.
pub(super) fn ask<'a>(options: &'a LeaseOptions, client: &Client) -> client::LeaseOptions<'a> {
    let most = Duration::from_millis(client.hello().pool.wait_ms_max.into());
    if options.wait > most {
        log::warn!("the daemon lets nobody wait longer than {most:?} (quotas.wait_ms_max)");
    }
    let tag = options.tag.as_deref().unwrap_or_default();
    let (wait, own_stack) = (options.wait.min(most), options.no_guest);
    client::LeaseOptions { wait, tag, own_stack, ..client::LeaseOptions::default() }
}

/// A slot and a generation as the wire names a lease.
pub(super) fn lease_id(slot: SlotId, generation: Generation) -> LeaseId {
    LeaseId { slot: slot.number(), generation: generation.0 }
}

/// What is to be bound.
pub(super) fn binding(options: &BindOptions) -> Result<Binding, Failure> {
    let tenant = options.tenant_ips()?;
    Ok(Binding {
        vni: options.vni,
        remote: Ip::from(options.remote),
        tenant_v4: tenant.v4.map(|addr| addr.octets()),
        tenant_v6: tenant.v6.map(|addr| addr.octets()),
    })
}

/// Ends a command that has no data to print: as JSON, it names the lease that it was about.
pub(super) fn done(lease: LeaseId, out: &mut Output) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Done {
        slot: u32,
        generation: u64,
    }
    if out.json() {
        out.value(&Done { slot: lease.slot, generation: lease.generation })?;
    }
    Ok(Exit::Ok)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::Connect { path, source } = &error
            && let Some(message) = no_connection(path, source.kind())
        {
            return Self::because(Exit::Unreachable, message);
        }
        Self::new(exit(&error), error)
    }
}

/// What a failed connection most likely means, where that can be told.
fn no_connection(path: &Path, kind: ErrorKind) -> Option<String> {
    let path = path.display();
    if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
        Some(format!("no daemon at {path}: start it with 'netslot serve', or name its socket with --socket"))
    } else if kind == ErrorKind::PermissionDenied {
        Some(format!("not permitted to talk to the daemon at {path}: only root and the socket's group (netslot) may"))
    } else if kind == ErrorKind::WouldBlock {
        Some(format!("the daemon at {path} takes no connections: it hangs, or its queue of them is full"))
    } else {
        None
    }
}

fn exit(error: &ClientError) -> Exit {
    match error {
        ClientError::Connect { .. } | ClientError::TimedOut(_) => Exit::Unreachable,
        ClientError::Refused { refusal, .. } => exit_of_refusal(refusal.code),
        ClientError::Argument { .. } => Exit::Usage,
        ClientError::FdsCut
        | ClientError::FdCount { .. }
        | ClientError::LeaseCount { .. }
        | ClientError::Closed
        | ClientError::Broken
        | ClientError::Socket { .. }
        | ClientError::Version(_)
        | ClientError::Frame(_)
        | ClientError::TooLarge
        | ClientError::Body { .. }
        | ClientError::Id { .. }
        | ClientError::Kind { .. }
        | ClientError::Snapshot(_)
        | ClientError::SnapshotFile(_)
        | ClientError::SnapshotRead(_) => Exit::Failed,
    }
}

const fn exit_of_refusal(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::PoolEmpty | ErrorCode::TimedOut => Exit::Empty,
        ErrorCode::BadArgument
        | ErrorCode::NoSuchSlot
        | ErrorCode::BadVni
        | ErrorCode::RemoteFamily
        | ErrorCode::AddressInUse
        | ErrorCode::StaleGeneration
        | ErrorCode::NotOwner
        | ErrorCode::SlotNotLeased
        | ErrorCode::Quarantined
        | ErrorCode::TapBusy
        | ErrorCode::QuotaLeases
        | ErrorCode::QuotaConnections
        | ErrorCode::QuotaWaiters => Exit::Refused,
        ErrorCode::ShuttingDown => Exit::Unreachable,
        ErrorCode::BadFrame
        | ErrorCode::UnsupportedVersion
        | ErrorCode::UnknownKind
        | ErrorCode::TooLarge
        | ErrorCode::Internal => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netslot_protocol::error::Refusal;
    use std::io;

    fn connect(errno: i32) -> Failure {
        let source = io::Error::from_raw_os_error(errno);
        Failure::from(ClientError::Connect { path: "/run/netslot/netslot.sock".into(), source })
    }

    #[test]
    fn a_daemon_that_is_not_there_is_told_with_what_to_do() {
        let no_daemon = "no daemon at /run/netslot/netslot.sock: start it with 'netslot serve', or name its socket \
                         with --socket";
        for (errno, message) in [
            (2, no_daemon),
            (111, no_daemon),
            (
                13,
                "not permitted to talk to the daemon at /run/netslot/netslot.sock: only root and the socket's group \
                 (netslot) may",
            ),
            (
                11,
                "the daemon at /run/netslot/netslot.sock takes no connections: it hangs, or its queue of them is full",
            ),
            (91, "connect to /run/netslot/netslot.sock: Protocol wrong type for socket (os error 91)"),
        ] {
            let failure = connect(errno);
            assert_eq!((failure.exit(), failure.message()), (Exit::Unreachable, Some(message)));
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_code_and_its_words() {
        for (code, exit) in [
            (ErrorCode::PoolEmpty, Exit::Empty),
            (ErrorCode::TimedOut, Exit::Empty),
            (ErrorCode::StaleGeneration, Exit::Refused),
            (ErrorCode::NotOwner, Exit::Refused),
            (ErrorCode::QuotaLeases, Exit::Refused),
            (ErrorCode::Internal, Exit::Failed),
        ] {
            let refusal = Box::new(Refusal::new(code, format_args!("the reason")));
            let failure = Failure::from(ClientError::Refused { call: "release", refusal });
            assert_eq!(failure.exit(), exit);
            let message = format!("release refused ({}): the reason", code.name());
            assert_eq!(failure.message(), Some(&*message));
        }
    }

    #[test]
    fn tenant_addresses_go_by_family() {
        let options = BindOptions {
            vni: 7,
            remote: "2001:db8::9".parse().expect("an address"),
            tenant_ips: ["fd00::4", "10.0.0.4"].map(|ip| ip.parse().expect("an address")).to_vec(),
        };
        let binding = binding(&options).expect("one of each family");
        assert_eq!((binding.vni, binding.tenant_v4), (7, Some([10, 0, 0, 4])));
        assert!(matches!(binding.remote, Ip::V6(_)) && binding.tenant_v6.is_some());
    }
}
