//! What a lease is to the client: its facts and its fds; ending it is [`Client::release`](super::Client::release)'s.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::vec::Vec;

use super::ClientError;
use crate::bounded::Text;
use crate::limits::WAIT_MS_MAX;
use crate::types::{Guest, LeaseId, Policy};
use crate::{reply, request};

/// What to lease, and how.
#[derive(Clone, Copy, Debug)]
pub struct LeaseOptions<'a> {
    /// Slots, 1 to 64.
    pub count: u32,
    /// How long to wait for them in an empty pool; cut to an hour, and by the daemon to its own bound.
    pub wait: Duration,
    /// A word for the lease, at most 24 bytes.
    pub tag: &'a str,
    /// When the lease ends without a release.
    pub policy: Policy,
    /// Whether to receive each slot's namespace.
    pub want_netns: bool,
    /// Whether to receive each slot's tap.
    pub want_tap: bool,
    /// Whether the slot is used without a guest: what comes for its address goes to programs in the namespace.
    pub own_stack: bool,
}

impl Default for LeaseOptions<'_> {
    /// One slot, at once, until it is released, no fds.
    fn default() -> Self {
        let (wait, tag, policy) = (Duration::ZERO, "", Policy::Explicit);
        Self { count: 1, wait, tag, policy, want_netns: false, want_tap: false, own_stack: false }
    }
}

impl LeaseOptions<'_> {
    pub(super) fn request(&self) -> Result<request::Lease, ClientError> {
        Ok(request::Lease {
            count: self.count,
            wait_ms: u32::try_from(self.wait.as_millis()).map_or(WAIT_MS_MAX, |ms| ms.min(WAIT_MS_MAX)),
            tag: Text::new(self.tag).map_err(|error| ClientError::Argument { what: "the tag", error })?,
            policy: self.policy,
            want_netns_fd: self.want_netns,
            want_tap_fd: self.want_tap,
            own_stack: self.own_stack,
        })
    }
}

/// A leased slot. Dropping it closes its fds and leaves it leased.
#[derive(Debug)]
pub struct Lease {
    /// Slot and fencing token: what bind and release take.
    pub id: LeaseId,
    /// Where the slot's namespace is shown while it is leased.
    pub netns_path: PathBuf,
    /// What is the same inside every slot.
    pub guest: Guest,
    /// Index of the slot's host end in the root namespace.
    pub host_ifindex: u32,
    /// The slot's own address on the host.
    pub slot_ip: Ipv4Addr,
    /// The slot's own IPv6 address, where the pool has it.
    pub slot_ip6: Option<Ipv6Addr>,
    /// The slot's namespace, if asked for.
    pub netns: Option<OwnedFd>,
    /// The slot's tap, if asked for: attached, single queue, `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`.
    pub tap: Option<OwnedFd>,
}

/// The leases in that reply to that request, each with its fds.
pub(super) fn leases(
    ask: &request::Lease,
    reply: &reply::Lease,
    fds: Vec<OwnedFd>,
    netns_dir: &str,
) -> Result<Vec<Lease>, ClientError> {
    let grants = &*reply.grants;
    if u32::try_from(grants.len()) != Ok(ask.count) {
        return Err(ClientError::LeaseCount { want: ask.count, got: grants.len() });
    }
    let want = grants.len() * (usize::from(ask.want_netns_fd) + usize::from(ask.want_tap_fd));
    if fds.len() != want {
        return Err(ClientError::FdCount { want, got: fds.len() });
    }
    // First all namespaces, then all taps; a kind that was not asked for has none.
    let mut netns = fds;
    let mut taps = netns.split_off(if ask.want_netns_fd { grants.len() } else { 0 }).into_iter();
    let mut netns = netns.into_iter();
    Ok(grants
        .iter()
        .map(|grant| Lease {
            id: grant.lease,
            netns_path: Path::new(netns_dir).join(&*grant.netns),
            guest: reply.guest,
            host_ifindex: grant.host_ifindex,
            slot_ip: grant.slot_ip.into(),
            slot_ip6: grant.slot_ip6.map(Into::into),
            netns: netns.next(),
            tap: taps.next(),
        })
        .collect())
}
