//! The latest state changes, kept for those who watch: a ring that never waits for a reader; sends nothing itself.

use netslot_protocol::event::Changed;

/// What a watcher is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing new.
    Nothing,
    /// This many changes are gone that it has not seen.
    Missed(u64),
    /// This one.
    Change(Changed),
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    kept: Box<[Changed]>,
    /// Number of the first change pushed into this ring: not 0 in one that goes on from another process's.
    first: u64,
    /// Number of the next change.
    pushed: u64,
}

impl Ring {
    /// For so many changes, at least one.
    #[must_use]
    pub fn new(kept: usize) -> Self {
        Self::starting_at(kept, 0)
    }

    /// The same, its first change having that number.
    #[must_use]
    pub fn starting_at(kept: usize, first: u64) -> Self {
        let none = Changed { slot: 0, generation: 0, state: netslot_protocol::State::Building };
        Self { kept: vec![none; kept.max(1)].into_boxed_slice(), first, pushed: first }
    }

    /// Adds a change, over the oldest one where the ring is full.
    pub fn push(&mut self, change: Changed) {
        let at = self.place(self.pushed);
        self.kept[at] = change;
        self.pushed += 1;
    }

    /// Where a watcher stands that is to see only what comes from now on.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.pushed
    }

    /// What stands at a watcher's place.
    #[must_use]
    pub fn at(&self, place: u64) -> Next {
        let oldest = self.oldest();
        if place < oldest {
            Next::Missed(oldest - place)
        } else if place < self.pushed {
            Next::Change(self.kept[self.place(place)])
        } else {
            Next::Nothing
        }
    }

    /// The oldest place that is still kept.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.pushed.saturating_sub(self.kept.len() as u64).max(self.first)
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number % self.kept.len() as u64).expect("below the length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netslot_protocol::State;

    fn change(slot: u32) -> Changed {
        Changed { slot, generation: 1, state: State::Free }
    }

    #[test]
    fn a_watcher_sees_all_in_order_or_is_told_how_much_it_missed() {
        let mut ring = Ring::new(3);
        let mut place = ring.now();
        assert_eq!(ring.at(place), Next::Nothing);
        (0..2).for_each(|n| ring.push(change(n)));
        assert_eq!((ring.at(place), ring.at(place + 1)), (Next::Change(change(0)), Next::Change(change(1))));
        (2..5).for_each(|n| ring.push(change(n)));
        assert_eq!(ring.at(place), Next::Missed(2));
        place = ring.oldest();
        let seen: Vec<_> = (place..place + 4).map(|p| ring.at(p)).collect();
        assert_eq!(seen, [Next::Change(change(2)), Next::Change(change(3)), Next::Change(change(4)), Next::Nothing]);
    }

    #[test]
    fn a_ring_that_goes_on_from_anothers_keeps_its_numbers() {
        let mut ring = Ring::starting_at(3, 10);
        assert_eq!((ring.now(), ring.at(10), ring.at(7)), (10, Next::Nothing, Next::Missed(3)));
        ring.push(change(1));
        assert_eq!((ring.at(10), ring.at(9)), (Next::Change(change(1)), Next::Missed(1)));
    }
}
