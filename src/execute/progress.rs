//! How far a pass has come: counters that the workers raise and a display reads; shows nothing itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Shared by a pass and whoever shows it.
#[derive(Debug)]
pub struct Progress {
    done: AtomicU32,
    phase: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    total: u32,
    began: Instant,
    finished: Vec<PhaseTime>,
}

/// A finished phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseTime {
    /// Its name.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// The moment as a display shows it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The running phase; empty before the first.
    pub phase: &'static str,
    /// Slots done in it.
    pub done: u32,
    /// Slots it will do.
    pub total: u32,
    /// How long it has run.
    pub for_: Duration,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Before the first phase.
    #[must_use]
    pub fn new() -> Self {
        let running = Running { name: "", total: 0, began: Instant::now(), finished: Vec::new() };
        Self { done: AtomicU32::new(0), phase: Mutex::new(running) }
    }

    /// Runs one phase and keeps its time, whether it ends well or not.
    pub fn phase<R>(&self, name: &'static str, total: usize, work: impl FnOnce() -> R) -> R {
        {
            let mut running = self.phase.lock().expect("no holder panics");
            self.done.store(0, Ordering::Relaxed);
            running.name = name;
            running.total = u32::try_from(total).unwrap_or(u32::MAX);
            running.began = Instant::now();
        }
        let result = work();
        let mut running = self.phase.lock().expect("no holder panics");
        let took = running.began.elapsed();
        running.finished.push(PhaseTime { name, took });
        result
    }

    /// Counts slots as done.
    pub fn advance(&self, slots: usize) {
        self.done.fetch_add(u32::try_from(slots).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let running = self.phase.lock().expect("no holder panics");
        Now {
            phase: running.name,
            done: self.done.load(Ordering::Relaxed),
            total: running.total,
            for_: running.began.elapsed(),
        }
    }

    /// The phases that have ended, in order.
    #[must_use]
    pub fn finished(&self) -> Vec<PhaseTime> {
        self.phase.lock().expect("no holder panics").finished.clone()
    }
}
