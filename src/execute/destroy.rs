//! Takes a whole pool down, devices first; asks nothing about leases.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::PassError;
use super::knobs::Knobs;
use super::progress::Progress;
use super::rules;
use crate::address;
use crate::bpf::record::{DUMMY_REMOTE_V4, DUMMY_REMOTE_V6};
use crate::bpf::{self, attach};
use crate::config::Config;
use crate::netlink::observed::{Link, Route};
use crate::netlink::tc::Qdisc;
use crate::netlink::{Batch, Socket, route, tc};
use crate::slot::IfIndex;
use crate::sys::lock::Lock;
use crate::sys::vault::Vault;

/// What was taken down.
#[derive(Clone, Copy, Debug)]
pub struct Destroyed {
    /// Namespaces.
    pub slots: usize,
    /// How long it took.
    pub took: Duration,
}

/// Deletes every host end, then lets go of the vault; the kernel ends the namespaces on its own.
///
/// # Errors
/// [`PassError`]; what is left is taken down by another call.
pub fn destroy(config: &Config, stop: &AtomicBool, progress: &Progress) -> Result<Destroyed, PassError> {
    let began = Instant::now();
    let _alone = Lock::take(&config.run_dir.join("pass.lock"))?;
    Knobs::repair(&config.run_dir);
    let Some(vault) = Vault::open(&config.run_dir)? else {
        bpf::remove(&config.bpf_dir)?;
        Vault::clear(&config.run_dir)?;
        return Ok(Destroyed { slots: 0, took: began.elapsed() });
    };
    let slots = vault.slots()?.len();
    {
        let _turned = Knobs::turn(&config.run_dir).map_err(|error| PassError::File {
            call: "record the host's knobs in",
            path: config.run_dir.clone(),
            error,
        })?;
        let mut socket = Socket::open()?;
        progress.phase("host ends", slots, || {
            let links = socket.dump(route::dump_links, Link::read)?;
            let mut groups: Vec<u32> =
                links.iter().map(|l| l.group).filter(|g| address::is_host_end_group(*g)).collect();
            // Nothing promises the order of a dump, and asking for a group that is gone already is an error.
            groups.sort_unstable();
            groups.dedup();
            for group in groups {
                if stop.load(Ordering::Relaxed) {
                    return Err(PassError::Stopped);
                }
                let mut batch = Batch::new();
                route::delete_group(&mut batch, group);
                if let Some(refusal) = socket.send(&mut batch)?.into_iter().next() {
                    return Err(PassError::RefusedAll { what: "delete the host ends", refusal });
                }
                progress.advance(links.iter().filter(|l| l.group == group).count());
            }
            Ok(())
        })?;
        leave_uplink(&mut socket)?;
    }
    rules::remove_from_root()?;
    progress.phase("vault", slots, || vault.destroy(&config.run_dir))?;
    // Last: a destroy that broke off leaves leases that still say whose the rest is.
    bpf::remove(&config.bpf_dir)?;
    Ok(Destroyed { slots, took: began.elapsed() })
}

/// Wherever our programs hang on a device that is not ours, and where a tunnel was thought to end: which one was the uplink need not be known for that, nor
/// which version put them there.
fn leave_uplink(socket: &mut Socket) -> Result<(), PassError> {
    for qdisc in socket.dump(tc::dump_qdiscs, Qdisc::read)?.iter().filter(|q| q.clsact) {
        attach::leave_uplink(socket, IfIndex(qdisc.index))?;
    }
    // Where the tunnel devices believed to send.
    let dummies: [IpAddr; 2] = [DUMMY_REMOTE_V4.into(), DUMMY_REMOTE_V6.into()];
    let mut batch = Batch::new();
    for route in socket.dump(route::dump_routes, Route::read)? {
        if let Some(dummy) = dummies.into_iter().find(|dummy| route.to == Some(*dummy)) {
            route::delete_host_route(&mut batch, dummy, IfIndex(route.index));
            route::delete_neighbour(&mut batch, IfIndex(route.index), dummy);
        }
    }
    // Somebody may have been quicker.
    socket.send(&mut batch)?;
    Ok(())
}
