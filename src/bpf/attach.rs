//! Which program hangs where: the netlink messages for host ends, taps and the uplink, and whether they hang there.
//! The sockets are the caller's; nothing is ever detached.

use aya::programs::{SchedClassifier, TcAttachType};
use nix::errno::Errno;

use crate::netlink::tc::{self, Filter, Hook, Shown};
use crate::netlink::{Batch, Refusal, Socket, SocketError};
use crate::slot::{IfIndex, SlotId};

use super::Program;
use super::error::DatapathError;
use super::load::Datapath;

/// The block that every host end's ingress joins. Numbers of blocks are per namespace and anybody's; `4e53` reads NS.
pub const INGRESS_BLOCK: u32 = 0x4e53_0001;

/// The block that every host end's egress joins.
pub const EGRESS_BLOCK: u32 = 0x4e53_0002;

/// Both.
pub const BLOCKS: (u32, u32) = (INGRESS_BLOCK, EGRESS_BLOCK);

/// Turn of our filters on devices that are ours alone.
const OWN_PRIORITY: u16 = 1;

/// Turn of our filters on the uplink, which others may use too: far from the small numbers that people and other
/// agents choose, so that none is replaced by accident.
pub const UPLINK_PRIORITY: u16 = 0x4e53;

/// Why programs are not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel refused a message.
    #[error("attach {program} to {place}: {refusal}{}", lacking(.refusal))]
    Refused {
        /// The program.
        program: &'static str,
        /// Where.
        place: String,
        /// The kernel's words.
        refusal: Refusal,
    },
    /// There is no such program.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// What a refusal most likely means. A kernel that has not the kind of qdisc or filter, nor a module of it, answers ENOENT
/// (qdisc_create, net/sched/sch_api.c; tcf_proto_lookup_ops, net/sched/cls_api.c).
fn lacking(refusal: &Refusal) -> &'static str {
    if refusal.errno == Errno::ENOENT {
        "; does this kernel have clsact and cls_bpf? 'netslot check' tells"
    } else {
        ""
    }
}

/// Appends the message that makes a host end join the blocks, to a batch for root's socket. It must be sent while
/// the blocks are empty (before [`host_ends`]) to cost 12 µs rather than a grace period. EEXIST says: joined already.
pub fn join(batch: &mut Batch, host_end: IfIndex) {
    tc::add_clsact(batch, host_end, Some(BLOCKS));
}

/// Appends the two messages that put `guest_in` on a tap, to a batch for the slot's own socket: the qdisc (EEXIST where
/// it is there), then the filter.
///
/// The qdisc is one for ingress alone. Each block that a device without offload has of its own stands in one list of the
/// whole kernel, which is searched from end to end whenever a block is bound (indir_dev_find, net/core/flow_offload.c):
/// clsact has two blocks, so at 2,000 slots the search was 7 % of a pass's CPU time, measured on 6.18; this way 2 %.
///
/// # Errors
/// [`DatapathError`].
pub fn tap(batch: &mut Batch, datapath: &Datapath, slot: SlotId) -> Result<(), DatapathError> {
    let index = crate::address::slot_ifindex(datapath.record().ifindex_base, slot);
    tc::add_ingress(batch, index);
    let program = datapath.program(Program::GuestIn)?;
    let name = Program::GuestIn.name();
    tc::set_filter(batch, &Filter { hook: Hook::Ingress(index), priority: OWN_PRIORITY, program, name });
    Ok(())
}

/// Puts `slot_out` and `slot_in` on all host ends that have joined, or in the place of older ones: one message each.
/// At least one device must have joined, since a block without members does not exist.
///
/// # Errors
/// [`AttachError`].
pub fn host_ends(root: &mut Socket, datapath: &Datapath) -> Result<(), AttachError> {
    let filters = [
        (Program::SlotOut, Hook::Block(INGRESS_BLOCK), OWN_PRIORITY),
        (Program::SlotIn, Hook::Block(EGRESS_BLOCK), OWN_PRIORITY),
    ];
    set(root, datapath, &filters)
}

/// Puts `uplink_in` and `uplink_out` on the uplink, beside whatever else hangs there; nothing where there is none yet.
///
/// # Errors
/// [`AttachError`].
pub fn uplink(root: &mut Socket, datapath: &Datapath) -> Result<(), AttachError> {
    let index = IfIndex(datapath.record().uplink);
    if index.0 == 0 {
        return Ok(());
    }
    let mut batch = Batch::new();
    tc::add_clsact(&mut batch, index, None);
    // Somebody's qdisc of the same kind is as good as ours.
    if let Some(refusal) = root.send(&mut batch)?.into_iter().find(|r| r.errno != Errno::EEXIST) {
        return Err(AttachError::Refused { program: "clsact", place: format!("uplink {index}"), refusal });
    }
    let filters = [
        (Program::UplinkIn, Hook::Ingress(index), UPLINK_PRIORITY),
        (Program::UplinkOut, Hook::Egress(index), UPLINK_PRIORITY),
    ];
    set(root, datapath, &filters)
}

fn set(root: &mut Socket, datapath: &Datapath, filters: &[(Program, Hook, u16)]) -> Result<(), AttachError> {
    let mut batch = Batch::new();
    for &(which, hook, priority) in filters {
        let program = datapath.program(which)?;
        tc::set_filter(&mut batch, &Filter { hook, priority, program, name: which.name() });
    }
    match root.send(&mut batch)?.into_iter().next() {
        None => Ok(()),
        Some(refusal) => {
            let (program, hook, _) = filters[refusal.index];
            Err(AttachError::Refused { program: program.name(), place: format!("{hook:?}"), refusal })
        }
    }
}

/// Whether a filter on a tap, or in a block, is one of ours, of whatever version.
#[must_use]
pub fn is_ours(shown: &Shown) -> bool {
    shown.priority == OWN_PRIORITY && Program::ALL.iter().any(|program| program.name() == shown.name)
}

/// Whether the blocks and the uplink carry these programs; a block that no device has joined carries none.
///
/// # Errors
/// [`AttachError`].
pub fn are_attached(root: &mut Socket, datapath: &Datapath) -> Result<bool, AttachError> {
    let uplink = IfIndex(datapath.record().uplink);
    let blocks = [(Program::SlotOut, Hook::Block(INGRESS_BLOCK)), (Program::SlotIn, Hook::Block(EGRESS_BLOCK))];
    let ends = [(Program::UplinkIn, Hook::Ingress(uplink)), (Program::UplinkOut, Hook::Egress(uplink))];
    let ends = ends.into_iter().filter(|_| uplink.0 != 0);
    for (program, hook) in blocks.into_iter().chain(ends) {
        let id = datapath.id(program)?;
        if !shown(root, hook)?.iter().any(|shown| shown.program == id) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes our programs off the uplink, when the pool is gone. What others hang there stays, and so does the qdisc.
///
/// # Errors
/// [`SocketError`].
pub fn leave_uplink(root: &mut Socket, uplink: IfIndex) -> Result<(), SocketError> {
    let mut batch = Batch::new();
    for hook in [Hook::Ingress(uplink), Hook::Egress(uplink)] {
        if shown(root, hook)?.iter().any(|s| s.priority == UPLINK_PRIORITY && s.name.starts_with("uplink_")) {
            tc::delete_filter(&mut batch, hook, UPLINK_PRIORITY);
        }
    }
    root.send(&mut batch).map(drop)
}

/// The programs on a device's tcx hooks, which run before any filter: which way, and their names. A kernel before 6.6 has
/// no such hooks, and who may not look sees none.
#[must_use]
pub fn tcx(device: &str) -> Vec<(&'static str, String)> {
    let ways = [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")];
    let found = ways.into_iter().filter_map(|(way, words)| {
        let (_, programs) = SchedClassifier::query_tcx(device, way).ok()?;
        Some(programs.into_iter().map(move |program| (words, program.name_as_str().unwrap_or("unnamed").to_owned())))
    });
    found.flatten().collect()
}

/// The programs on a hook, ours and others', in their order. A hook that does not exist has none.
///
/// # Errors
/// [`SocketError`].
pub fn shown(socket: &mut Socket, hook: Hook) -> Result<Vec<Shown>, SocketError> {
    match socket.dump(|batch| tc::dump_filters(batch, hook), Shown::read) {
        Err(SocketError::Refused(_, refusal)) if refusal.errno == Errno::EINVAL => Ok(Vec::new()),
        other => other,
    }
}
