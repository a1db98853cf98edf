//! The daemon killed under load, again and again: a client that was told of a lease keeps it, and one that was not has
//! left none behind.

use std::collections::BTreeMap;
use std::time::Duration;

use netslot_protocol::client::{Client, LeaseOptions};
use netslot_protocol::{LeaseId, Policy, State};

use crate::common::World;
use crate::served::{PATIENCE, SOCKET, Served};

/// Unless `KILLS` says another number.
const KILLS: u64 = 30;
const SLOTS: u32 = 6;

/// What a client knows: what it leased and was told of, and what it asked to end and was not told that it ended.
#[derive(Default)]
struct Known {
    held: BTreeMap<u32, u64>,
    ending: Option<LeaseId>,
    leases: u64,
}

/// Leases and releases until the daemon is gone.
fn load(known: &mut Known) {
    let Ok(mut client) = Client::connect(SOCKET.as_ref()) else { return };
    for step in 0_u64.. {
        if known.held.len() > 3 || (!known.held.is_empty() && step.is_multiple_of(3)) {
            let (slot, generation) = known.held.pop_first().expect("some");
            let id = LeaseId { slot, generation };
            known.ending = Some(id);
            if client.release(id).is_err() {
                return;
            }
            known.ending = None;
        } else {
            let options = LeaseOptions {
                count: 1 + u32::from(step.is_multiple_of(5)),
                wait: PATIENCE,
                want_netns: step.is_multiple_of(2),
                policy: Policy::Explicit,
                ..LeaseOptions::default()
            };
            let Ok(leases) = client.lease(&options) else { return };
            known.leases += 1;
            for lease in leases {
                let before = known.held.insert(lease.id.slot, lease.id.generation);
                assert_eq!(before, None, "slot {} leased twice", lease.id.slot);
            }
        }
    }
}

#[test]
fn leases_survive_kills_under_load_and_no_other_is_left() {
    let Some(world) = World::new() else { return };
    let mut served = Served::up(&world, &format!("slots = {SLOTS}"));
    let mut known = Known::default();
    let kills = std::env::var("KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    for kill in 0..kills {
        let world = std::thread::scope(|scope| {
            let client = scope.spawn(|| load(&mut known));
            // Somewhere in the middle of something: a different number of microseconds each time.
            std::thread::sleep(Duration::from_micros(2_000 + kill * 977 % 9_000));
            let world = served.kill();
            client.join().expect("no panic");
            world
        });
        served = Served::start(world, &["serve"]);
        let list = served.client().list().expect("a list");
        let leased: BTreeMap<u32, u64> = list
            .slots
            .iter()
            .filter(|slot| slot.state == State::Leased)
            .map(|slot| (slot.slot, slot.generation))
            .collect();
        // A release whose answer was lost is done or not.
        if let Some(id) = known.ending.take()
            && leased.get(&id.slot) == Some(&id.generation)
        {
            known.held.insert(id.slot, id.generation);
        }
        for (slot, generation) in &known.held {
            assert_eq!(leased.get(slot), Some(generation), "after kill {kill}: slot {slot} is lost");
        }
        let untold = |(slot, _): &(&u32, &u64)| !known.held.contains_key(slot);
        let untold: Vec<_> = leased.iter().filter(untold).collect();
        assert!(untold.is_empty(), "after kill {kill}: leased, and nobody was told: {untold:?}");
    }
    eprintln!("{kills} kills, {} requests answered", known.leases);
    assert!(known.leases > kills, "{} leases are no load", known.leases);
}
