//! Connections, and what closed ones leave behind: a fixed table; it judges nothing.

use super::links::{Links, List};
use super::types::{HolderId, Owner};

/// A connection, or the process behind a closed one that still has leases which end with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) owner: Owner,
    pub(super) connected: bool,
    pub(super) alive: bool,
    /// Its leases that end with process or connection, linked through the ledger's slots.
    pub(super) leases: List,
    pub(super) waiting: u32,
}

#[derive(Debug)]
pub(super) struct Holders {
    table: Box<[Option<Holder>]>,
    links: Links,
    unused: List,
    connected: u32,
}

impl Holders {
    pub(super) fn new(max: u32) -> Self {
        let (mut links, mut unused) = (Links::new(max), List::EMPTY);
        (0..max).for_each(|index| links.push_back(&mut unused, index));
        Self { table: (0..max).map(|_| None).collect(), links, unused, connected: 0 }
    }

    pub(super) const fn max(&self) -> u32 {
        self.connected_and_left() + self.unused.len()
    }

    const fn connected_and_left(&self) -> u32 {
        // The table was made with a u32's length.
        #[allow(clippy::cast_possible_truncation)]
        let len = self.table.len() as u32;
        len - self.unused.len()
    }

    pub(super) const fn connected(&self) -> u32 {
        self.connected
    }

    pub(super) fn get(&self, id: HolderId) -> Option<&Holder> {
        self.table.get(id.index())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: HolderId) -> Option<&mut Holder> {
        self.table.get_mut(id.index())?.as_mut()
    }

    pub(super) fn add(&mut self, owner: Owner, connected: bool) -> Option<HolderId> {
        let id = HolderId(self.links.pop_front(&mut self.unused)?);
        self.table[id.index()] = Some(Holder { owner, connected, alive: true, leases: List::EMPTY, waiting: 0 });
        self.connected += u32::from(connected);
        Some(id)
    }

    /// The user of a connection that has just gone; `None` where none was.
    pub(super) fn disconnect(&mut self, id: HolderId) -> Option<u32> {
        let holder = self.get_mut(id).filter(|h| h.connected)?;
        holder.connected = false;
        let uid = holder.owner.uid;
        self.connected -= 1;
        Some(uid)
    }

    /// Whether the holder of a process that has just exited is connected; `None` where nothing is left of it.
    pub(super) fn mark_dead(&mut self, id: HolderId) -> Option<bool> {
        let holder = self.get_mut(id)?;
        holder.alive = false;
        Some(holder.connected)
    }

    /// Frees the holder's place if nothing is left of it.
    pub(super) fn forget_if_unused(&mut self, id: HolderId) -> bool {
        let unused = self.get(id).is_some_and(|h| !h.connected && h.leases.len() == 0 && h.waiting == 0);
        if unused {
            self.table[id.index()] = None;
            self.links.push_back(&mut self.unused, id.0);
        }
        unused
    }

    #[cfg(debug_assertions)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (HolderId, &Holder)> {
        (0..).map(HolderId).zip(&self.table).filter_map(|(id, holder)| Some((id, holder.as_ref()?)))
    }
}
