//! A pass that replaces the programs of a standing pool, killed after its n-th change while a leased slot sends: the lease
//! stays, the next pass finishes, and no packet of the slot passes a hook at which no program of ours hangs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netslot::bpf::told;
use netslot::slot::IfIndex;
use netslot::sys::netns::within;
use netslot::sys::packet::{PacketSocket, Read};
use netslot_protocol::{Policy, State as SlotState};

use crate::common::World;
use crate::frames::udp4;
use crate::loops::{Table, all, changes, killed_after, must, places};
use crate::served::{self, Served};
use crate::state::{self, State};

/// The guest's own address, its address outside, and the network's.
const GUEST: [u8; 4] = [172, 16, 0, 2];
const OUTSIDE: [u8; 4] = [100, 64, 0, 2];
const NETWORK: [u8; 4] = [198, 51, 100, 1];

/// The protocol's number in an IPv4 header.
const UDP: u8 = 17;

/// Ports to which the guest sends with its own MAC, and with another's, which the stack would take.
const HONEST: u16 = 7;
const FORGED: u16 = 8;

/// By which the frames that are looked for are known.
const MARK: &[u8] = b"of the slot that is leased";

/// Two places that a leased slot's packets pass: behind its tap's program, and behind its host end's.
struct Traffic<'w> {
    tap: File,
    behind: [(&'w str, PacketSocket); 2],
    /// Frames with the guest's own source that were sent, and that arrived in the network as they should.
    sent: u64,
    arrived: u64,
    /// Those that were seen behind the tap: otherwise nobody listens there.
    entered: u64,
}

impl<'w> Traffic<'w> {
    fn of(world: &'w World) -> Self {
        let open = |index| PacketSocket::open(IfIndex(index), None, 1 << 20).expect("a device");
        let far = within(&world.network, || open(nix::net::if_::if_nametoindex("net0").expect("there")));
        let behind = [("the tap", open(100_000)), ("the host end", far.expect("entered"))];
        Self { tap: world.open_tap(&world.slot(0)).into(), behind, sent: 0, arrived: 0, entered: 0 }
    }

    /// One packet as it should be and one that must not pass, then a look at what came through.
    fn step(&mut self) {
        for port in [HONEST, FORGED] {
            let mut frame = udp4(GUEST, NETWORK, (7, port), MARK);
            frame[11] ^= u8::from(port == FORGED);
            // Behind the virtio-net header.
            self.tap.write_all(&[&[0; 10], &frame[..]].concat()).expect("taken");
        }
        self.sent += 1;
        self.look();
    }

    fn look(&mut self) {
        let mut room = [0; 256];
        for (place, socket) in &self.behind {
            let wanted = if *place == "the tap" { GUEST } else { OUTSIDE };
            while let Read::Frame(frame) = socket.read(&mut room).expect("a device") {
                let frame = &room[..frame.bytes.min(room.len())];
                // Not what the network answers, which quotes it.
                if frame.ends_with(MARK) && frame[23] == UDP {
                    let found = (&frame[26..30], u16::from_be_bytes([frame[36], frame[37]]));
                    assert_eq!(found, (&wanted[..], HONEST), "behind {place}, a packet passed unfiltered");
                    *if wanted == OUTSIDE { &mut self.arrived } else { &mut self.entered } += 1;
                }
            }
        }
    }

    /// Sends for as long as something else is done.
    fn during<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    self.step();
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            sender.join().expect("no packet passes unfiltered");
            result
        })
    }

    /// All that was sent has come through.
    fn settle(&mut self) {
        let began = Instant::now();
        while self.arrived < self.sent && began.elapsed() < Duration::from_secs(60) {
            self.look();
        }
        assert_eq!(self.arrived, self.sent, "packets of a leased slot were lost");
        assert!(self.entered > 0, "nothing was seen behind the tap");
    }
}

/// A configuration that the programs are not told yet: other name servers, or more slots that the maps must hold.
fn configure(world: &World, n: u64, grows: bool) {
    let most = if grows { n } else { 0 } + 2;
    world.configure(&format!("slots = 2\nslots_max = {most}\nthreads = 1\nguest.dns = [\"192.0.2.{}\"]", n % 250));
}

fn replaced_under_traffic(grows: bool, sample: u64) {
    let Some(world) = World::new() else { return };
    state::cover_knobs();
    configure(&world, 0, grows);
    must(&world, &["up"]);
    let served = Served::start(&world, &["serve"]);
    let lease = served::lease(&mut served.client(), Policy::Explicit);
    assert_eq!((lease.id.slot, served.stop()), (0, 0));
    let mut traffic = Traffic::of(&world);
    configure(&world, 1, grows);
    let count = changes(&world, &["up"]);
    // The network's own neighbour comes and goes; how many records there are is what grows.
    let seen = || {
        let state = State::of(&world).without("dev uplink0 lladdr");
        if grows { state.without("record ") } else { state }
    };
    let whole = seen();
    let what = if grows { "up, with larger maps for new programs" } else { "up, with new programs" };
    let mut table = Table::new(what, count);
    for (index, n) in (0..).zip(places(count, sample)) {
        let when = format!("{what}, killed after {n} of {count}");
        configure(&world, 2 + index, grows);
        traffic.during(|| {
            table.kill(killed_after(&world, &["up"], n));
            if all() || index % 3 == 0 {
                table.kill_again(killed_after(&world, &["up"], 1 + n * 7 % count));
            }
            must(&world, &["up"]);
        });
        traffic.settle();
        seen().must_be(&whole, &when);
        assert!(world.netslot(&["up", "--dry-run"]).stdout.ends_with("nothing to do\n"), "{when}");
    }
    let told = told::read(Path::new("/sys/fs/bpf/netslot")).expect("ours").expect("pinned");
    assert!(!grows || u64::from(told.slots) > 3, "the maps never grew: {told:?}");
    eprintln!(
        "{} packets of the leased slot meanwhile, each translated; as many forged ones, none passed",
        traffic.arrived
    );
    let served = Served::start(&world, &["serve"]);
    let slot = served.slot(0);
    assert_eq!((slot.state, slot.generation), (SlotState::Leased, lease.id.generation));
}

#[test]
fn a_pass_that_replaces_programs_killed_after_any_change_leaves_leases_and_no_packet_unfiltered() {
    replaced_under_traffic(false, 3);
}

#[test]
fn a_pass_that_makes_larger_maps_killed_after_any_change_leaves_leases_and_no_packet_unfiltered() {
    replaced_under_traffic(true, 4);
}
