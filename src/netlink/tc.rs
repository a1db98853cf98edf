//! The rtnetlink messages that put eBPF programs on devices: clsact and ingress qdiscs, shared blocks and cls_bpf filters; pure.
//!
//! A shared block is a list of filters that many devices' qdiscs join, so that one message attaches a program to all
//! of them, and one replaces it on all of them at once.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::batch::{Batch, CREATE, DUMP, EXCL};
use super::read::{Attributes, Message, text_of, u16_at, u32_at};
use crate::slot::IfIndex;

// linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h.
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_INGRESS_BLOCK: u16 = 13;
const TCA_EGRESS_BLOCK: u16 = 14;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// `TCA_BPF_FLAG_ACT_DIRECT`: the program's return value is the verdict.
const ACT_DIRECT: u32 = 1;
/// `TC_H_CLSACT`, and `TC_H_INGRESS`; its handle has the lower half zero, and hooks are told apart by theirs.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `TCM_IFINDEX_MAGIC_BLOCK`: the message is about a block, whose number stands where the parent would.
const BLOCK: u32 = 0xffff_ffff;
/// `ETH_P_ALL` in network byte order.
const ALL_PROTOCOLS: u32 = 0x0300;
/// Handle of our filter among those of its priority.
const HANDLE: u32 = 1;

/// Where a filter hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// On every device that joined the block.
    Block(u32),
    /// On what a device receives.
    Ingress(IfIndex),
    /// On what a device sends.
    Egress(IfIndex),
}

impl Hook {
    /// `tcm_ifindex` and `tcm_parent`.
    const fn place(self) -> (u32, u32) {
        match self {
            Self::Block(block) => (BLOCK, block),
            Self::Ingress(index) => (index.0, 0xffff_fff2),
            Self::Egress(index) => (index.0, 0xffff_fff3),
        }
    }
}

/// A program on a hook.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// Where.
    pub hook: Hook,
    /// Its turn among the hook's filters, lowest first; 0 would let the kernel choose.
    pub priority: u16,
    /// The program.
    pub program: BorrowedFd<'a>,
    /// What `tc filter show` calls it.
    pub name: &'a str,
}

/// Gives a device a clsact qdisc. With blocks (ingress, egress), it joins them; join while they are empty, since a
/// block with a filter makes each newcomer wait for a grace period.
///
/// Refused with EEXIST where the device has one, or one of [`add_ingress`].
pub fn add_clsact(batch: &mut Batch, index: IfIndex, blocks: Option<(u32, u32)>) {
    add_qdisc(batch, index, "clsact", blocks);
}

/// Gives a device an ingress qdisc: programs can hang on what it receives, and not on what it sends.
///
/// Refused with EEXIST where the device has one, or one of [`add_clsact`].
pub fn add_ingress(batch: &mut Batch, index: IfIndex) {
    add_qdisc(batch, index, "ingress", None);
}

fn add_qdisc(batch: &mut Batch, index: IfIndex, kind: &str, blocks: Option<(u32, u32)>) {
    batch.message(RTM_NEWQDISC, CREATE | EXCL, &header(index.0, CLSACT_HANDLE, CLSACT, 0), |a| {
        a.text(TCA_KIND, kind);
        if let Some((ingress, egress)) = blocks {
            a.u32(TCA_INGRESS_BLOCK, ingress).u32(TCA_EGRESS_BLOCK, egress);
        }
    });
}

/// Hangs a program on a hook, or puts it in the place of the one that this function hung there before: packets meet
/// the old or the new, never none.
pub fn set_filter(batch: &mut Batch, filter: &Filter<'_>) {
    let (index, parent) = filter.hook.place();
    let info = u32::from(filter.priority) << 16 | ALL_PROTOCOLS;
    batch.message(RTM_NEWTFILTER, CREATE, &header(index, HANDLE, parent, info), |a| {
        a.text(TCA_KIND, "bpf").nest(TCA_OPTIONS, |options| {
            options
                .bytes(TCA_BPF_FD, &filter.program.as_raw_fd().to_ne_bytes())
                .text(TCA_BPF_NAME, filter.name)
                .u32(TCA_BPF_FLAGS, ACT_DIRECT);
        });
    });
}

/// Takes our filter off a hook.
pub fn delete_filter(batch: &mut Batch, hook: Hook, priority: u16) {
    let (index, parent) = hook.place();
    let info = u32::from(priority) << 16 | ALL_PROTOCOLS;
    batch.message(RTM_DELTFILTER, 0, &header(index, HANDLE, parent, info), |a| {
        a.text(TCA_KIND, "bpf");
    });
}

/// Asks for the qdiscs of all devices.
pub fn dump_qdiscs(batch: &mut Batch) {
    batch.message(RTM_GETQDISC, DUMP, &header(0, 0, 0, 0), |_| ());
}

/// A qdisc that the kernel shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Its device.
    pub index: u32,
    /// Whether programs can hang on what the device receives and sends.
    pub clsact: bool,
    /// The blocks that it is in (ingress, egress); 0 = in none.
    pub blocks: (u32, u32),
}

impl Qdisc {
    /// The qdisc in an answer to [`dump_qdiscs`].
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let (fixed, rest) = message.body.split_first_chunk::<20>().filter(|_| message.kind == RTM_NEWQDISC)?;
        let mut qdisc = Self { index: u32_at(fixed, 4)?, clsact: false, blocks: (0, 0) };
        for (kind, value) in Attributes(rest) {
            match kind {
                TCA_KIND => qdisc.clsact = text_of(value) == "clsact",
                TCA_INGRESS_BLOCK => qdisc.blocks.0 = u32_at(value, 0)?,
                TCA_EGRESS_BLOCK => qdisc.blocks.1 = u32_at(value, 0)?,
                _ => {}
            }
        }
        Some(qdisc)
    }
}

/// Asks for all filters of a hook.
pub fn dump_filters(batch: &mut Batch, hook: Hook) {
    let (index, parent) = hook.place();
    batch.message(RTM_GETTFILTER, DUMP, &header(index, 0, parent, 0), |_| ());
}

/// A cls_bpf filter that the kernel shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its turn.
    pub priority: u16,
    /// Its name.
    pub name: String,
    /// Its program's id.
    pub program: u32,
}

impl Shown {
    /// The filter in an answer to [`dump_filters`]; `None` for a filter of another kind, or of none.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let (fixed, rest) = message.body.split_first_chunk::<20>().filter(|_| message.kind == RTM_NEWTFILTER)?;
        let value = |bytes, kind| Attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value);
        if text_of(value(rest, TCA_KIND)?) != "bpf" {
            return None;
        }
        let options = value(rest, TCA_OPTIONS)?;
        Some(Self {
            priority: u16_at(fixed, 18)?,
            name: text_of(value(options, TCA_BPF_NAME).unwrap_or_default()).into_owned(),
            program: u32_at(value(options, TCA_BPF_ID)?, 0)?,
        })
    }
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut header = [0; 20];
    for (at, word) in [(4, index), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_qdisc_joins_its_blocks() {
        let mut batch = Batch::new();
        add_clsact(&mut batch, IfIndex(100_007), Some((0x4e53_0001, 0x4e53_0002)));
        let expected = [
            &[64, 0, 0, 0, 36, 0, 0x05, 0x06, 0, 0, 0, 0, 0, 0, 0, 0][..], // length, kind, flags, sequence, port
            &[0, 0, 0, 0, 0xa7, 0x86, 1, 0],                               // family, padding, ifindex
            &[0, 0, 0xff, 0xff, 0xf1, 0xff, 0xff, 0xff, 0, 0, 0, 0],       // handle, parent, info
            &[11, 0, 1, 0, b'c', b'l', b's', b'a', b'c', b't', 0, 0],      // TCA_KIND
            &[8, 0, 13, 0, 1, 0, 0x53, 0x4e],                              // TCA_INGRESS_BLOCK
            &[8, 0, 14, 0, 2, 0, 0x53, 0x4e],                              // TCA_EGRESS_BLOCK
        ]
        .concat();
        assert_eq!(batch.finish(), expected);
    }

    #[test]
    fn a_filter_names_its_hook_program_and_turn() {
        let file = File::open("/dev/null").expect("some descriptor");
        let fd = file.as_fd();
        let written = |hook| {
            let mut batch = Batch::new();
            set_filter(&mut batch, &Filter { hook, priority: 1, program: fd, name: "slot_in" });
            batch.finish().to_vec()
        };
        let expected = [
            &[76, 0, 0, 0, 44, 0, 0x05, 0x04, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0], // about a block; the handle
            &[2, 0, 0x53, 0x4e, 0x00, 0x03, 1, 0],             // which one; ETH_P_ALL, priority 1
            &[8, 0, 1, 0, b'b', b'p', b'f', 0],                // TCA_KIND
            &[32, 0, 2, 0],                                    // TCA_OPTIONS
            &[8, 0, 6, 0],                                     // TCA_BPF_FD
            &fd.as_raw_fd().to_ne_bytes(),
            &[12, 0, 7, 0, b's', b'l', b'o', b't', b'_', b'i', b'n', 0], // TCA_BPF_NAME
            &[8, 0, 8, 0, 1, 0, 0, 0],                                   // TCA_BPF_FLAGS
        ]
        .concat();
        assert_eq!(written(Hook::Block(0x4e53_0002)), expected);
        let device = written(Hook::Egress(IfIndex(2)));
        assert_eq!(device[20..32], [2, 0, 0, 0, 1, 0, 0, 0, 0xf3, 0xff, 0xff, 0xff]);
    }
}
