//! Makes the parts that are inside slots, a few threads side by side, each inside the vault; the order of parts and
//! what is missing is the plan's.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use nix::errno::Errno;

use super::error::PassError;
use super::messages;
use super::parallel;
use super::programs::Programs;
use super::progress::Progress;
use super::template::Template;
use crate::netlink::{Batch, Protocol, Refusal, Socket, route};
use crate::plan::diff::Make;
use crate::plan::{Blueprint, Part, SlotSpec};
use crate::rules::Replay;
use crate::slot::SlotId;
use crate::sys::vault::{Inside, Vault};
use crate::sys::{netns, tap};

/// What all builder threads share.
#[derive(Debug)]
pub struct Site<'a> {
    blueprint: &'a Blueprint,
    vault: &'a Vault,
    template: &'a Template,
    root: &'a OwnedFd,
    rules: &'a Replay,
    programs: &'a Programs,
    /// `/dev/net`, for the threads that stand where no /dev is.
    dev_net: OwnedFd,
}

/// One thread's tools.
struct Builder<'a> {
    inside: Inside<'a>,
    batch: Batch,
    asked: Vec<Part>,
    /// Root's side of tunnel devices.
    root: Socket,
}

impl<'a> Site<'a> {
    /// Opens what the threads need.
    ///
    /// # Errors
    /// [`PassError::File`] where /dev/net is missing.
    pub fn open(
        blueprint: &'a Blueprint,
        vault: &'a Vault,
        template: &'a Template,
        root: &'a OwnedFd,
        rules: &'a Replay,
        programs: &'a Programs,
    ) -> Result<Self, PassError> {
        let path = PathBuf::from("/dev/net");
        let dev_net = File::open(&path).map_err(|error| PassError::File { call: "open", path, error })?.into();
        Ok(Self { blueprint, vault, template, root, rules, programs, dev_net })
    }

    /// Makes what is asked, and returns the microseconds each slot took, in the order of finishing.
    ///
    /// # Errors
    /// [`PassError`] of the first slot that failed; slots begun before it are finished.
    pub fn make(
        &self,
        what: &[Make],
        threads: usize,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Vec<u32>, PassError> {
        let times = Mutex::new(Vec::with_capacity(what.len()));
        let prepare = || {
            let root = Socket::open()?;
            let asked = Vec::with_capacity(Part::ALL.len());
            Ok(Builder { inside: self.vault.enter()?, batch: Batch::new(), asked, root })
        };
        let work = |builder: &mut Builder<'_>, make: &Make| {
            let began = Instant::now();
            self.make_slot(builder, *make)?;
            let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            times.lock().expect("no holder panics").push(took);
            progress.advance(1);
            Ok(())
        };
        // The first alone: it has the kernel load the modules that it lacks. Several threads that ask for one at once may be
        // told that there is none: busybox's modprobe takes one that is being loaded for loaded.
        let (first, others) = what.split_at(what.len().min(1));
        parallel::for_each(1, first, stop, prepare, work)?;
        parallel::for_each(threads, others, stop, prepare, work)?;
        Ok(times.into_inner().expect("no holder panics"))
    }

    fn make_slot(&self, builder: &mut Builder<'_>, make: Make) -> Result<(), PassError> {
        let slot = make.slot;
        let spec = self.blueprint.slot(slot);
        let mut socket =
            if make.parts.has(Part::Namespace) { self.make_namespace(builder, slot)? } else { self.enter(slot)? };
        if make.parts.has(Part::Tap) {
            self.make_tap(&spec)?;
        }
        if let Some(tunnel) = spec.tunnel.filter(|_| make.parts.has(Part::Tunnel)) {
            builder.batch.clear();
            let namespace = socket.netns()?;
            route::add_geneve(&mut builder.batch, &tunnel, namespace.as_fd());
            if let Some(refusal) = builder.root.send(&mut builder.batch)?.into_iter().next() {
                return Err(PassError::Refused { slot, part: Part::Tunnel, refusal });
            }
        }
        if make.parts.has(Part::TapProgram) {
            self.put_program(builder, &mut socket, slot)?;
        }
        builder.batch.clear();
        builder.asked.clear();
        for part in make.parts.iter() {
            if messages::append(&mut builder.batch, part, &spec, self.root.as_fd()) {
                builder.asked.push(part);
            }
            if part == Part::TapOnBridge {
                // The tap was let go of, and the bridge has no port with a carrier: an event each, cheap while both are down.
                route::settle_carriers(&mut builder.batch, spec.tap.index, spec.bridge.index);
                builder.asked.extend([part; 2]);
            }
        }
        if let Some(refusal) = socket.send(&mut builder.batch)?.into_iter().next() {
            return Err(PassError::Refused { slot, part: builder.asked[refusal.index], refusal });
        }
        if make.parts.has(Part::Rules) { self.make_rules(make) } else { Ok(()) }
    }

    /// Sent by itself: the kernel carries on with a batch after a refusal, and the tap must not be raised without its
    /// program.
    fn put_program(&self, builder: &mut Builder<'_>, socket: &mut Socket, slot: SlotId) -> Result<(), PassError> {
        builder.batch.clear();
        self.programs.put_on_tap(&mut builder.batch, slot)?;
        // The qdisc is there where a program is to be replaced.
        let is_fine = |r: &Refusal| r.errno == Errno::EEXIST;
        match socket.send(&mut builder.batch)?.into_iter().find(|r| !is_fine(r)) {
            Some(refusal) => Err(PassError::Refused { slot, part: Part::TapProgram, refusal }),
            None => Ok(()),
        }
    }

    /// Needs no RTNL: other threads make devices meanwhile.
    fn make_rules(&self, make: Make) -> Result<(), PassError> {
        let mut socket = Socket::open_to(Protocol::Netfilter)?;
        let is_new = make.parts.has(Part::Namespace);
        let made = if is_new { self.rules.make(&mut socket) } else { self.rules.replace(&mut socket) };
        made.map_err(|error| PassError::SlotRules { slot: make.slot, error })
    }

    /// Kept in the vault before anything is in it: killed here, we leave a slot that the next pass completes.
    fn make_namespace(&self, builder: &Builder<'_>, slot: SlotId) -> Result<Socket, PassError> {
        self.template.make_namespace()?;
        let socket = Socket::open()?;
        builder.inside.keep(slot, socket.netns()?.as_fd())?;
        Ok(socket)
    }

    fn enter(&self, slot: SlotId) -> Result<Socket, PassError> {
        let gone = || PassError::Slot { slot, call: "open its namespace", errno: Errno::ENOENT };
        let namespace = self.vault.netns(slot)?.ok_or_else(gone)?;
        netns::enter(namespace).map_err(|errno| PassError::Slot { slot, call: "setns to its namespace", errno })?;
        Ok(Socket::open()?)
    }

    fn make_tap(&self, spec: &SlotSpec) -> Result<(), PassError> {
        let (owner, group) = spec.tap_owner;
        let tap = tap::Spec { name: spec.tap.name, index: spec.tap.index, owner, group };
        tap::make(self.dev_net.as_fd(), &tap).map_err(|error| PassError::Tap { slot: spec.slot, error })
    }
}
