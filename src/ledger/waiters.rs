//! Requests that wait for slots, in order of arrival: a fixed table with two queues; it judges nothing.

use super::links::{Links, List};
use super::types::Request;

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) request: Request,
    pub(super) uid: u32,
    /// May take the reserve.
    pub(super) reserved: bool,
    pub(super) deadline_ns: u64,
    /// Grows with each arrival.
    pub(super) arrival: u64,
}

#[derive(Debug)]
pub(super) struct Waiters {
    table: Box<[Option<Waiter>]>,
    links: Links,
    unused: List,
    ordinary: List,
    reserved: List,
    arrivals: u64,
    /// Slots that all of them ask for.
    slots: u32,
    /// No deadline lies before it.
    earliest_ns: u64,
}

impl Waiters {
    pub(super) fn new(max: u32) -> Self {
        let (mut links, mut unused) = (Links::new(max), List::EMPTY);
        (0..max).for_each(|index| links.push_back(&mut unused, index));
        Self {
            table: (0..max).map(|_| None).collect(),
            links,
            unused,
            ordinary: List::EMPTY,
            reserved: List::EMPTY,
            arrivals: 0,
            slots: 0,
            earliest_ns: u64::MAX,
        }
    }

    pub(super) const fn len(&self) -> u32 {
        self.ordinary.len() + self.reserved.len()
    }

    pub(super) const fn ordinary_len(&self) -> u32 {
        self.ordinary.len()
    }

    pub(super) const fn reserved_len(&self) -> u32 {
        self.reserved.len()
    }

    pub(super) const fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) const fn earliest_ns(&self) -> u64 {
        self.earliest_ns
    }

    pub(super) const fn is_full(&self) -> bool {
        self.unused.len() == 0
    }

    /// Queues a request; the table must have a place.
    pub(super) fn push(&mut self, request: Request, uid: u32, reserved: bool, deadline_ns: u64) {
        let index = self.links.pop_front(&mut self.unused).expect("the caller asked is_full");
        self.arrivals += 1;
        self.slots += request.count;
        self.earliest_ns = self.earliest_ns.min(deadline_ns);
        self.table[index as usize] = Some(Waiter { request, uid, reserved, deadline_ns, arrival: self.arrivals });
        let queue = if reserved { &mut self.reserved } else { &mut self.ordinary };
        self.links.push_back(queue, index);
    }

    pub(super) fn get(&self, index: u32) -> &Waiter {
        self.table[index as usize].as_ref().expect("indexes come from the queues")
    }

    /// The first of the two queues: ordinary, reserved.
    pub(super) const fn heads(&self) -> (Option<u32>, Option<u32>) {
        (self.ordinary.front(), self.reserved.front())
    }

    pub(super) fn remove(&mut self, index: u32) -> Waiter {
        let waiter = self.table[index as usize].take().expect("indexes come from the queues");
        let queue = if waiter.reserved { &mut self.reserved } else { &mut self.ordinary };
        self.links.remove(queue, index);
        self.links.push_back(&mut self.unused, index);
        self.slots -= waiter.request.count;
        if self.len() == 0 {
            self.earliest_ns = u64::MAX;
        }
        waiter
    }

    /// Indexes of those waiting, the ordinary ones first, each queue in order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first(), |index| self.after(*index))
    }

    /// The first of all waiting, in the order of [`Waiters::iter`].
    pub(super) fn first(&self) -> Option<u32> {
        self.ordinary.front().or(self.reserved.front())
    }

    /// The one after that: ask before removing it.
    pub(super) fn after(&self, index: u32) -> Option<u32> {
        let reserved = self.get(index).reserved;
        self.links.next(index).or_else(|| self.reserved.front().filter(|_| !reserved))
    }

    /// Looks the earliest deadline up again, after some were removed.
    pub(super) fn refresh_earliest(&mut self) {
        self.earliest_ns = self.iter().map(|index| self.get(index).deadline_ns).min().unwrap_or(u64::MAX);
    }
}
