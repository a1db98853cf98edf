//! The daemon killed under load, again and again: a client that was told of a lease or a binding keeps it, one that was
//! not has left none behind, and packets of a lease that stands go on all the while.

use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::Duration;

use netslot::bpf::Maps;
use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::{LeaseId, Policy, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{NETWORK_IP, World};
use crate::known::Known;
use crate::served::{PATIENCE, SOCKET, Served};

/// Unless `KILLS` says another number.
const KILLS: u64 = 15;
const SLOTS: u32 = 6;

/// Leases, binds, unbinds and releases until the daemon is gone; counts the requests for leases that were answered.
fn load(known: &mut Known, leases: &mut u64) -> Result<(), ClientError> {
    let mut client = Client::connect(SOCKET.as_ref())?;
    for step in 0_u64.. {
        let held = known.leases();
        match (&held[..], step % 5) {
            ([first, _, _, _, ..], _) | ([first, ..], 0) => known.release(&mut client, *first)?,
            // One that is bound already gets another address.
            ([.., last], 1 | 2) => known.bind(&mut client, *last)?,
            ([first, _, ..], 3) => known.unbind(&mut client, *first)?,
            _ => {
                let options = LeaseOptions {
                    count: 1 + u32::from(step.is_multiple_of(4)),
                    wait: PATIENCE,
                    want_netns: step.is_multiple_of(2),
                    policy: Policy::Explicit,
                    ..LeaseOptions::default()
                };
                known.lease(&mut client, &options)?;
                *leases += 1;
            }
        }
    }
    Ok(())
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
    let (mut known, mut leases) = (Known::default(), 0);
    let kills = std::env::var("KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    for kill in 0..kills {
        let world = std::thread::scope(|scope| {
            let client = scope.spawn(|| load(&mut known, &mut leases));
            // Somewhere in the middle of something: a different number of microseconds each time.
            std::thread::sleep(Duration::from_micros(5_000 + kill * 977 % 20_000));
            let world = served.kill();
            assert!(client.join().expect("no panic").is_err(), "it goes on until the daemon is gone");
            world
        });
        served = Served::start(world, &["serve"]);
        let mut slots = served.client().list().expect("a list").slots;
        let when = format!("after kill {kill}");
        let of_traffic = slots.iter().position(|slot| slot.slot == traffic.id.slot).expect("listed");
        let of_traffic = slots.remove(of_traffic);
        let wanted = (State::Leased, traffic.id.generation, None);
        assert_eq!((of_traffic.state, of_traffic.generation, of_traffic.binding), wanted, "{when}: traffic's");
        known.must_be(&slots, &when);
    }
    let packets = traffic.stop();
    let binds = u64::from(known.binds());
    eprintln!("{kills} kills, {leases} requests answered, {binds} to bind, {packets} packets there and back");
    assert!(leases > kills / 3 && binds > kills / 3, "{leases} leases, {binds} bindings are no load");
}
