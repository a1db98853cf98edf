//! Takes a slot's devices out of a namespace that is about to be forgotten; decides neither which, nor forgets it.
//!
//! The kernel takes the devices down with the namespace, but only once nobody holds that: a client may keep a descriptor of
//! it, or of its tap, whose socket keeps the namespace in which the tap was opened (`tun_chr_open`, drivers/net/tun.c). The
//! tap would go on taking what it is sent, and the tunnel device would keep its VNI and remote, which are given once for all
//! devices whose socket is in root (`geneve_configure`, drivers/net/geneve.c), from the slot that is made in its place.

use nix::errno::Errno;

use super::messages::TUNNEL;
use crate::address::inside::BRIDGE_INDEX;
use crate::netlink::{Batch, Socket, route};
use crate::slot::{IfIndex, SlotId};
use crate::sys::netns;
use crate::sys::vault::Vault;

/// The group of what is to be deleted, by one message: one by one, each device costs its own grace periods under RTNL.
const DOOMED: u32 = 1;

/// Moves the calling thread into the slot's namespace, where it must end, and deletes the tap, the bridge and the tunnel
/// device there. The host end, and with it its pair, is the caller's. What cannot be deleted is told and left: the
/// namespace is forgotten all the same.
pub fn strip(vault: &Vault, slot: SlotId, tap: IfIndex) {
    if let Err(why) = delete_devices(vault, slot, tap) {
        log::warn!("slot {slot}: devices of the namespace that it had stay as long as somebody holds that: {why}");
    }
}

fn delete_devices(vault: &Vault, slot: SlotId, tap: IfIndex) -> Result<(), String> {
    let Some(namespace) = vault.netns(slot).map_err(|error| error.to_string())? else { return Ok(()) };
    netns::enter(namespace).map_err(|errno| format!("setns to it: {errno}"))?;
    let mut socket = Socket::open().map_err(|error| error.to_string())?;
    let mut batch = Batch::new();
    for index in [TUNNEL, tap, IfIndex(BRIDGE_INDEX)] {
        route::set_group(&mut batch, index, DOOMED);
    }
    route::delete_group(&mut batch, DOOMED);
    let refused = socket.send(&mut batch).map_err(|error| error.to_string())?;
    match refused.into_iter().find(|refusal| refusal.errno != Errno::ENODEV) {
        Some(refusal) => Err(format!("delete them: {refusal}")),
        None => Ok(()),
    }
}
