//! The daemon killed under load, again and again: a client that was told of a lease keeps it, one that was not has left
//! none behind, and packets of a lease that stands go on all the while.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::Duration;

use netslot::bpf::Maps;
use netslot_protocol::client::{Client, LeaseOptions};
use netslot_protocol::{LeaseId, Policy, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{NETWORK_IP, World};
use crate::served::{PATIENCE, SOCKET, Served};

/// Unless `KILLS` says another number.
const KILLS: u64 = 15;
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

/// Echo requests from a leased slot to the network, a hundred in a second.
struct Traffic {
    id: LeaseId,
    /// By its descriptor here, `ping` finds the namespace, whenever it comes to look.
    _netns: OwnedFd,
    ping: Child,
    dropped: [u64; netslot_abi::DROP_REASONS],
}

impl Traffic {
    fn start(world: &World, served: &Served<'_>) -> Self {
        let options = LeaseOptions { want_netns: true, own_stack: true, ..LeaseOptions::default() };
        let mut lease = served.client().lease(&options).expect("free").remove(0);
        let netns = lease.netns.take().expect("asked for");
        let mut command = world.command_in(&netns, "ping");
        let ping = command.args(["-q", "-i", "0.01", NETWORK_IP]).stdout(Stdio::piped()).spawn().expect("started");
        Self { id: lease.id, _netns: netns, ping, dropped: dropped(lease.id.slot) }
    }

    /// Every packet came back, and the programs have dropped none; how many there were.
    fn stop(self) -> u64 {
        kill(Pid::from_raw(i32::try_from(self.ping.id()).expect("a pid")), Signal::SIGINT).expect("it is there");
        let told = self.ping.wait_with_output().expect("ended").stdout;
        let told = String::from_utf8_lossy(&told);
        // The one that is under way when it ends is not waited for.
        let numbers: Vec<u64> = told.split([' ', '\n']).filter_map(|word| word.parse().ok()).collect();
        let [sent, received, ..] = numbers[..] else { panic!("{told}") };
        assert!(sent - received <= 1, "{told}");
        assert_eq!(dropped(self.id.slot), self.dropped, "dropped by reason");
        received
    }
}

fn dropped(slot: u32) -> [u64; netslot_abi::DROP_REASONS] {
    let maps = Maps::open("/sys/fs/bpf/netslot".as_ref()).expect("readable").expect("pinned");
    maps.counters().and_then(|counters| counters.of(slot).map_err(|e| panic!("{e}"))).expect("counted").drops
}

#[test]
fn leases_survive_kills_under_load_and_no_other_is_left() {
    let Some(world) = World::new() else { return };
    let mut served = Served::up(&world, &format!("slots = {SLOTS}"));
    let traffic = Traffic::start(&world, &served);
    let mut known = Known::default();
    let kills = std::env::var("KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    for kill in 0..kills {
        let world = std::thread::scope(|scope| {
            let client = scope.spawn(|| load(&mut known));
            // Somewhere in the middle of something: a different number of microseconds each time.
            std::thread::sleep(Duration::from_micros(5_000 + kill * 977 % 20_000));
            let world = served.kill();
            client.join().expect("no panic");
            world
        });
        served = Served::start(world, &["serve"]);
        let list = served.client().list().expect("a list");
        let mut leased: BTreeMap<u32, u64> = list
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
        assert_eq!(leased.remove(&traffic.id.slot), Some(traffic.id.generation), "after kill {kill}: traffic's");
        for (slot, generation) in &known.held {
            assert_eq!(leased.get(slot), Some(generation), "after kill {kill}: slot {slot} is lost");
        }
        let untold = |(slot, _): &(&u32, &u64)| !known.held.contains_key(slot);
        let untold: Vec<_> = leased.iter().filter(untold).collect();
        assert!(untold.is_empty(), "after kill {kill}: leased, and nobody was told: {untold:?}");
    }
    let packets = traffic.stop();
    eprintln!("{kills} kills, {} requests answered, {packets} packets there and back", known.leases);
    assert!(known.leases > kills / 3, "{} leases are no load", known.leases);
}
