//! The ledger under a seeded stream of commands and crashes, compared after each with a shadow model.
//!
//! One seed is one run: a small pool with random limits, random commands of clients, workers and the clock, and, now
//! and then, a crash at some single word of some store. After a crash the records alone are left; the ledger is opened
//! from them, and every slot must be in a state that the records of the finished, the unfinished or the half-done
//! command explain: no lease that a client was told of is gone, none that nobody was told of is left.
//! In debug builds the ledger checks its own numbered invariants after each command besides.
//!
//! `NETSLOT_SIM_SEED=n` replays one seed, `NETSLOT_SIM_SEEDS=n` and `NETSLOT_SIM_STEPS=n` run more of them or longer ones.

mod model;
#[path = "../common/random.rs"]
mod random;
mod store;
mod world;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Everyday run: together 1,024,000 steps.
const SEEDS: u64 = 256;
const STEPS: u64 = 4_000;

/// Tells where a failing run was, when the assertion unwinds past it.
struct Whereabouts {
    seed: u64,
    step: Cell<u64>,
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, step) = (self.seed, self.step.get());
            eprintln!(
                "simulation failed at seed {seed}, step {step}; replay: NETSLOT_SIM_SEED={seed} cargo test --test simulation"
            );
        }
    }
}

fn run(seed: u64, steps: u64) -> world::Tally {
    let whereabouts = Whereabouts { seed, step: Cell::new(0) };
    let mut world = World::new(seed);
    for step in 0..steps {
        whereabouts.step.set(step);
        world.step();
    }
    world.tally()
}

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}='{text}' is no number")))
}

#[test]
fn the_ledger_is_its_model_through_any_commands_and_crashes() {
    let steps = from_env("NETSLOT_SIM_STEPS").unwrap_or(STEPS);
    let seeds = match from_env("NETSLOT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("NETSLOT_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let next = AtomicU64::new(seeds.start);
    let mut tally = world::Tally::default();
    std::thread::scope(|scope| {
        let worker = || {
            let mut tally = world::Tally::default();
            while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed)) {
                tally.add(&run(seed, steps));
            }
            tally
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            tally.add(&worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    eprintln!("{} seeds, {steps} steps each: {tally:?}", seeds.end - seeds.start);
    // A stream that never gets anywhere would prove nothing.
    if seeds.end - seeds.start == SEEDS && steps == STEPS {
        assert!(tally.granted > 30_000 && tally.served_waiters > 5_000 && tally.crashes > 5_000, "{tally:?}");
        assert!(tally.binds > 15_000 && tally.refusals > 50_000 && tally.quarantines > 5_000, "{tally:?}");
        assert!(tally.replies_cut > 1_000, "{tally:?}");
    }
}
