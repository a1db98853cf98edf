//! A namespace to try rules in: with the devices of a slot, without traffic, gone with its thread.

use nix::errno::Errno;

use super::error::RulesError;
use super::image::Purpose;
use crate::address::inside;
use crate::netlink::route::{self, Device};
use crate::netlink::{Batch, Socket};
use crate::slot::{IfIndex, LinkName, Mac};
use crate::sys::{netns, thread};

/// Index of the scratch namespace's tap. In slots each tap has another, so a rule that holds this number cannot be
/// brought there; chosen to occur in no rule by chance.
pub const TAP_INDEX: IfIndex = IfIndex(0x7fe1_a2d3);

/// Runs the work in a fresh namespace: for a slot's rules with `br0`, `up0` and the tap, so that rules may name them, by
/// index or as devices of the netdev family.
///
/// # Errors
/// [`RulesError::Scratch`] without CAP_SYS_ADMIN, and the work's own.
pub fn within<R: Send>(
    purpose: Purpose,
    tap: LinkName,
    work: impl FnOnce() -> Result<R, RulesError> + Send,
) -> Result<R, RulesError> {
    thread::apart(|| {
        netns::make().map_err(|errno| RulesError::Scratch { call: "unshare(CLONE_NEWNET)", errno })?;
        if purpose == Purpose::Slot {
            devices(tap)?;
        }
        work()
    })
    .map_err(|errno| RulesError::Scratch { call: "start a thread", errno })?
}

/// Bridges all three: nothing that rules can tell.
fn devices(tap: LinkName) -> Result<(), RulesError> {
    let fixed = |name: &str| name.parse().expect("a constant name that fits");
    let names = [
        (fixed(inside::BRIDGE), IfIndex(inside::BRIDGE_INDEX)),
        (fixed(inside::UP), IfIndex(inside::UP_INDEX)),
        (tap, TAP_INDEX),
    ];
    let mut batch = Batch::new();
    for (number, (name, index)) in (1..).zip(names) {
        let mac = Mac([0x02, 0, 0, 0, 0, number]);
        route::add_bridge(&mut batch, &Device { name, index, mac, mtu: 1_500 });
    }
    let refused = Socket::open()?.send(&mut batch)?.into_iter().next();
    let errno = refused.map_or(Errno::UnknownErrno, |refusal| refusal.errno);
    if errno == Errno::UnknownErrno { Ok(()) } else { Err(RulesError::Scratch { call: "make the devices", errno }) }
}
