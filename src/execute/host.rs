//! Root's side of the slots: host ends quiet, up, routed, known, and taken away; one socket, batches, few messages.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::PassError;
use super::messages;
use super::programs::Programs;
use super::progress::Progress;
use crate::address;
use crate::limits::{BATCH_MESSAGES_MAX, BATCH_QUESTIONS_MAX, CARRIER_WAIT_S};
use crate::netlink::observed::Link;
use crate::netlink::{Batch, Socket, route};
use crate::plan::diff::Make;
use crate::plan::{Blueprint, Part, Parts};
use crate::slot::SlotId;
use crate::sys::fault;

/// Between two looks at carriers that are not on yet: linkwatch's urgent work runs within a millisecond or two.
const SETTLE_PAUSE: Duration = Duration::from_millis(2);

/// Root's side, with its socket.
#[derive(Debug)]
pub struct Host<'a> {
    /// The blueprint of the pool.
    pub blueprint: &'a Blueprint,
    /// A socket in root.
    pub socket: &'a mut Socket,
    /// Root itself.
    pub root: &'a OwnedFd,
    /// What hangs on the host ends and on the uplink.
    pub programs: &'a Programs,
}

impl Host<'_> {
    /// Makes the host parts. `as_group` raises whole groups of host ends by one message each (0.06 ms per host end);
    /// otherwise one by one, and no other slot's is touched.
    ///
    /// # Errors
    /// [`PassError`].
    pub fn make(
        &mut self,
        what: &[Make],
        as_group: bool,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<(), PassError> {
        self.quiet(what, stop)?;
        let blocks = Parts::of(&[Part::HostEndBlocks]);
        self.make_parts(what, blocks, stop, &Progress::new())?;
        self.programs.attach(self.socket)?;
        if as_group {
            self.raise_groups(what)?;
        }
        let done = if as_group { blocks.with(Parts::of(&[Part::HostEndUp])) } else { blocks };
        self.make_parts(what, Parts::of(&Part::ALL).without(done), stop, progress)
    }

    /// Makes those of the parts that are among `which`.
    fn make_parts(
        &mut self,
        what: &[Make],
        which: Parts,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<(), PassError> {
        let (mut batch, mut asked) = (Batch::new(), Vec::new());
        for make in what {
            if stop.load(Ordering::Relaxed) {
                return Err(PassError::Stopped);
            }
            let spec = self.blueprint.slot(make.slot);
            for part in make.parts.common(which).iter() {
                if messages::append(&mut batch, part, &spec, self.root.as_fd()) {
                    asked.push((make.slot, part));
                }
                if batch.is_full() {
                    self.send(&mut batch, &mut asked)?;
                }
            }
            progress.advance(1);
        }
        self.send(&mut batch, &mut asked)
    }

    fn raise_groups(&mut self, what: &[Make]) -> Result<(), PassError> {
        let mut groups: Vec<u32> = what.iter().map(|m| address::host_end_group(m.slot)).collect();
        groups.dedup();
        for some in groups.chunks(BATCH_MESSAGES_MAX) {
            let mut batch = Batch::new();
            some.iter().for_each(|group| route::raise_group(&mut batch, *group, self.blueprint.host_ends_forward()));
            if let Some(refusal) = self.socket.send(&mut batch)?.into_iter().next() {
                return Err(PassError::RefusedAll { what: "raise the host ends", refusal });
            }
        }
        Ok(())
    }

    /// Waits until both ends of those slots' pairs run: up, with carrier, and with a queue that lets packets through.
    ///
    /// # Errors
    /// [`PassError::NoCarrier`] past [`CARRIER_WAIT_S`].
    pub fn settle(&mut self, slots: &[SlotId], stop: &AtomicBool, progress: &Progress) -> Result<(), PassError> {
        if slots.is_empty() {
            return Ok(()); // a dump of all devices is not free
        }
        let links = self.socket.dump(route::dump_links, Link::read)?;
        let netns: HashMap<u32, u32> = links.iter().filter_map(|l| Some((l.index, l.peer_netns?))).collect();
        let began = Instant::now();
        let mut waiting = slots.to_vec();
        loop {
            let before = waiting.len();
            waiting = self.not_running(&waiting, &netns)?;
            progress.advance(before - waiting.len());
            match waiting.first() {
                None => return Ok(()),
                Some(_) if stop.load(Ordering::Relaxed) => return Err(PassError::Stopped),
                Some(slot) if began.elapsed().as_secs() >= CARRIER_WAIT_S => {
                    return Err(PassError::NoCarrier { slot: *slot, more: waiting.len() - 1 });
                }
                Some(_) => std::thread::sleep(SETTLE_PAUSE),
            }
        }
    }

    /// Those of the slots of whose pair an end does not run yet.
    fn not_running(&mut self, slots: &[SlotId], netns: &HashMap<u32, u32>) -> Result<Vec<SlotId>, PassError> {
        let mut waiting = Vec::new();
        for some in slots.chunks(BATCH_QUESTIONS_MAX / 2) {
            let mut batch = Batch::new();
            for slot in some {
                let spec = self.blueprint.slot(*slot);
                route::get_link(&mut batch, spec.host_end.index, None);
                route::get_link(&mut batch, spec.up.index, netns.get(&spec.host_end.index.0).copied());
            }
            let mut running = vec![0; some.len()];
            self.socket.ask(&mut batch, |message| {
                let is_running = Link::read(message).is_some_and(|link| link.running);
                if let Some(ends) = running.get_mut(message.sequence as usize / 2) {
                    *ends += u32::from(is_running);
                }
            })?;
            waiting.extend(some.iter().zip(running).filter(|(_, ends)| *ends < 2).map(|(slot, _)| *slot));
        }
        Ok(waiting)
    }

    /// Deletes the host ends of those slots, and with each its pair.
    ///
    /// # Errors
    /// [`PassError`]; a host end that is not there is no error.
    pub fn delete(&mut self, slots: &[SlotId]) -> Result<(), PassError> {
        for some in slots.chunks(BATCH_MESSAGES_MAX) {
            let mut batch = Batch::new();
            for slot in some {
                route::delete_link(&mut batch, self.blueprint.slot(*slot).host_end.index);
            }
            let refused = self.socket.send(&mut batch)?.into_iter().find(|r| r.errno != nix::errno::Errno::ENODEV);
            if let Some(refusal) = refused {
                let slot = some[refusal.index];
                return Err(PassError::Refused { slot, part: Part::VethPair, refusal });
            }
        }
        Ok(())
    }

    fn send(&mut self, batch: &mut Batch, asked: &mut Vec<(SlotId, Part)>) -> Result<(), PassError> {
        let refused = self.socket.send(batch)?.into_iter().next();
        batch.clear();
        match refused {
            Some(refusal) => {
                let (slot, part) = asked[refusal.index];
                Err(PassError::Refused { slot, part, refusal })
            }
            None => {
                asked.clear();
                Ok(())
            }
        }
    }

    /// Before they are up: with IPv6 on, every host end would add its own ff00::/8 to one list that each further one
    /// walks. There is no rtnetlink attribute for it.
    fn quiet(&self, what: &[Make], stop: &AtomicBool) -> Result<(), PassError> {
        for make in what.iter().filter(|m| m.parts.has(Part::HostEndQuiet)) {
            if stop.load(Ordering::Relaxed) {
                return Err(PassError::Stopped);
            }
            let name = self.blueprint.slot(make.slot).host_end.name;
            let path = PathBuf::from(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"));
            match fs::write(&path, "1") {
                Ok(()) => fault::point(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {} // a kernel without IPv6
                Err(error) => return Err(PassError::File { call: "write", path, error }),
            }
        }
        Ok(())
    }
}
