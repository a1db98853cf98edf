//! Frames that were read from several sockets, handed on in the order of their times; it reads no socket and no clock.

use super::{Direction, Hook, Seen};

/// How long after its time a frame may still be on its way into its socket, nanoseconds: the kernel dates a frame before
/// it queues it.
const LATE_NS: u64 = 1_000_000;

/// What was read and not yet handed on.
#[derive(Debug, Default)]
pub struct Order {
    held: Vec<Seen>,
    /// No frame that is read from here on is older.
    safe_ns: u64,
}

impl Order {
    /// Begins a round of reads at that time: once all sockets were read empty after it, nothing older can come.
    pub fn begin(&mut self, now_ns: u64) {
        self.safe_ns = now_ns.saturating_sub(LATE_NS);
    }

    /// A frame that was read.
    pub fn push(&mut self, seen: Seen) {
        self.held.push(seen);
    }

    /// A socket was not read empty: what it still holds may be as old as the last frame it gave.
    pub fn not_empty(&mut self, last_ns: u64) {
        self.safe_ns = self.safe_ns.min(last_ns);
    }

    /// Whether frames wait for a later round.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The frames that nothing older can come after, in order.
    ///
    /// A frame that programs hand from device to device keeps its time (`bpf_redirect_peer` clears none): then the order is
    /// that of the hooks on its way. Otherwise frames of the same time keep the order of their reading.
    pub fn ready(&mut self) -> Vec<Seen> {
        self.held.sort_by_key(|seen| (seen.time_ns, turn(seen)));
        let ready = self.held.partition_point(|seen| seen.time_ns <= self.safe_ns);
        self.held.drain(..ready).collect()
    }

    /// All that is left, in order: for the end.
    pub fn rest(&mut self) -> Vec<Seen> {
        self.safe_ns = u64::MAX;
        self.ready()
    }
}

/// A hook's place on the way of a frame.
const fn turn(seen: &Seen) -> u8 {
    match (seen.direction, seen.hook) {
        (Direction::Out, Hook::Guest) | (Direction::In, Hook::Uplink) => 0,
        (Direction::Out | Direction::In, Hook::Slot | Hook::Tunnel) => 1,
        (Direction::Out, Hook::Uplink) | (Direction::In, Hook::Guest) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(time_ns: u64, hook: Hook) -> Seen {
        Seen { time_ns, hook, direction: Direction::Out, length: 0, bytes: Vec::new() }
    }

    fn times(frames: &[Seen]) -> Vec<u64> {
        frames.iter().map(|seen| seen.time_ns).collect()
    }

    #[test]
    fn frames_of_two_sockets_come_in_the_order_of_their_times() {
        let mut order = Order::default();
        order.begin(5_000_000);
        for time in [1_000_000, 3_000_000, 4_500_000] {
            order.push(seen(time, Hook::Guest));
        }
        order.push(seen(2_000_000, Hook::Uplink));
        assert_eq!(times(&order.ready()), [1_000_000, 2_000_000, 3_000_000], "the last may be overtaken yet");
        order.begin(6_000_000);
        order.push(seen(4_200_000, Hook::Uplink));
        assert_eq!(times(&order.ready()), [4_200_000, 4_500_000]);
        assert!(!order.holds());
    }

    #[test]
    fn frames_of_one_time_come_in_the_order_of_their_way() {
        let mut order = Order::default();
        for hook in [Hook::Guest, Hook::Slot, Hook::Uplink] {
            order.push(Seen { direction: Direction::In, ..seen(7, hook) });
        }
        let hooks: Vec<Hook> = order.rest().iter().map(|seen| seen.hook).collect();
        assert_eq!(hooks, [Hook::Uplink, Hook::Slot, Hook::Guest]);
    }

    #[test]
    fn a_socket_that_has_more_holds_the_others_back() {
        let mut order = Order::default();
        order.begin(9_000_000);
        order.push(seen(2_000_000, Hook::Guest));
        order.not_empty(2_000_000);
        order.push(seen(3_000_000, Hook::Uplink));
        assert_eq!(times(&order.ready()), [2_000_000]);
        assert_eq!(times(&order.rest()), [3_000_000]);
    }
}
