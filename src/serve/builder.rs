//! The one thread that makes slots: the pass that `serve --up` begins with, then whatever is to be made or made again,
//! several at once where several are asked for meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use super::inbox::Inbox;
use super::pool::{self, Seen};
use super::worker::Done;
use crate::config::Config;
use crate::execute::{self, Orders, Progress};
use crate::slot::SlotId;

/// Something to make.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// The whole pool: [`Done::PassEnded`] will follow, and [`Done::Built`] for each slot that is there then.
    Up,
    /// This slot, from nothing.
    Make(SlotId),
}

/// The builder's tools.
#[derive(Debug)]
pub struct Builder {
    /// What the pool should be.
    pub config: Arc<Config>,
    /// Slots with a record.
    pub slots: u32,
    /// Raised to end a pass at the next slot.
    pub stop: Arc<AtomicBool>,
    /// How far the pass is.
    pub progress: Arc<Progress>,
    /// Where to report.
    pub inbox: Arc<Inbox<Done>>,
}

impl Builder {
    /// The builder's life: until nobody can order any more. `leased` is what the first pass must not touch.
    pub fn work(&self, orders: &Receiver<Order>, leased: &BTreeSet<SlotId>) {
        while let Ok(order) = orders.recv() {
            let mut slots = BTreeSet::new();
            for order in [order].into_iter().chain(orders.try_iter()) {
                match order {
                    Order::Up => self.up(leased),
                    Order::Make(slot) => {
                        slots.insert(slot);
                    }
                }
            }
            if !slots.is_empty() {
                self.make(&slots);
            }
        }
    }

    fn up(&self, leased: &BTreeSet<SlotId>) {
        let begun = AtomicBool::new(false);
        let on_whole = |slots: &[SlotId]| match begun.swap(true, Ordering::Relaxed) {
            false => self.inbox.put(Done::PassServes),
            true => slots.iter().for_each(|slot| self.report(*slot)),
        };
        let (config, stop, progress) = (&*self.config, &*self.stop, &*self.progress);
        let outcome = execute::up(&Orders { config, leased, stop, progress, on_whole: &on_whole });
        match &outcome {
            Ok(done) => {
                let made = (done.created, done.repaired, done.removed);
                log::info!(
                    "the pool has {} slots: {} created, {} repaired, {} removed",
                    done.slots,
                    made.0,
                    made.1,
                    made.2
                );
                done.left_alone.iter().for_each(|left| log::warn!("slot {} is leased, and {}", left.slot, left.why));
                for knob in &done.out_of_reach {
                    log::warn!("{} could not be set ({}): {}", knob.path, knob.error, knob.cost);
                }
            }
            Err(broken) => log::error!("{broken}"),
        }
        // What was whole before the pass was told by nobody yet.
        match Seen::look(&self.config, self.slots) {
            Ok(seen) => {
                for (slot, netns) in SlotId::first(self.slots).zip(seen.netns) {
                    if let Some(netns) = netns {
                        self.inbox.put(Done::Built { slot, netns });
                    }
                }
            }
            Err(error) => log::error!("the pool cannot be looked at: {error}"),
        }
        self.inbox.put(Done::PassEnded(outcome.map(drop).map_err(Box::new)));
    }

    fn make(&self, slots: &BTreeSet<SlotId>) {
        let whole = Mutex::new(BTreeSet::new());
        let on_whole = |slots: &[SlotId]| whole.lock().expect("no holder panics").extend(slots.iter().copied());
        let (config, stop) = (&*self.config, &*self.stop);
        let leased = BTreeSet::new();
        let orders = Orders { config, leased: &leased, stop, progress: &Progress::new(), on_whole: &on_whole };
        let outcome = execute::rebuild(&orders, slots);
        let why = outcome.err().map_or_else(|| "it is not whole".into(), |broken| broken.error.to_string());
        for slot in slots {
            if whole.lock().expect("no holder panics").contains(slot) {
                self.report(*slot);
            } else {
                self.inbox.put(Done::BuildFailed { slot: *slot, why: why.clone() });
            }
        }
    }

    fn report(&self, slot: SlotId) {
        self.inbox.put(match pool::netns(&self.config.run_dir, slot) {
            Ok(netns) => Done::Built { slot, netns },
            Err(error) => Done::BuildFailed { slot, why: error.to_string() },
        });
    }
}
