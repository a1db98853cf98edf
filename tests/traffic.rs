//! Real traffic through the attached programs: two slots whose guests are the same to the byte, a host, and a network
//! beyond its uplink. A guest is a namespace at the far end of a veth pair that stands in the tap's place.

mod datapath_world;
#[path = "common/frames.rs"]
mod frames;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use datapath_world::{NETWORK, NETWORK6, VNET_BYTES, World};
use netslot::config::Forward;
use netslot::ledger::Store as _;
use netslot::slot::SlotId;
use netslot::sys::netns::within;
use netslot_abi::DropReason as R;
use netslot_abi::SlotState;

const BULK: usize = 8 << 20;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// A server in the network: sends back what it gets, TCP and UDP, on one port of an address.
fn serve(world: &World, address: &str, clients: usize, done: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let network = world.network.try_clone().expect("a descriptor");
    let address = address.to_owned();
    let (ready, listening) = std::sync::mpsc::channel();
    let server = thread::spawn(move || {
        within(network, move || {
            let tcp = TcpListener::bind(&address).expect("bound");
            let udp = UdpSocket::bind(&address).expect("bound");
            udp.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
            ready.send(()).expect("heard");
            thread::scope(|scope| {
                for _ in 0..clients {
                    let mut stream = tcp.accept().expect("a client").0;
                    scope.spawn(move || {
                        let mut bytes = vec![0; BULK];
                        stream.read_exact(&mut bytes).expect("all of it");
                        stream.write_all(&bytes).expect("and back");
                    });
                }
                let mut datagram = vec![0; 65_536];
                while !done.load(Ordering::Relaxed) {
                    if let Ok((len, from)) = udp.recv_from(&mut datagram) {
                        udp.send_to(&datagram[..len], from).expect("and back");
                    }
                }
            });
        })
        .expect("entered");
    });
    listening.recv().expect("a server");
    server
}

/// A guest's share: bulk TCP there and back, a small datagram, and one that needs fragments.
fn exchange(server: &str, seed: u8) {
    let mut stream = TcpStream::connect(server).expect("connected");
    stream.set_read_timeout(PATIENCE).expect("set");
    let sent: Vec<u8> = (0..=255).cycle().take(BULK).map(|byte: u8| byte ^ seed).collect();
    thread::scope(|scope| {
        let mut writer = stream.try_clone().expect("a descriptor");
        let sent = &sent;
        scope.spawn(move || writer.write_all(sent).expect("written"));
        let mut got = vec![0; BULK];
        stream.read_exact(&mut got).expect("everything comes back");
        assert!(got == *sent, "the bytes are this guest's own");
    });
    let local = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let udp = UdpSocket::bind(local).expect("bound");
    udp.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    udp.connect(server).expect("connected");
    for len in [20, 5_000] {
        let sent = vec![seed; len];
        let mut got = [0; 8_192];
        // The server's route holds more than the slot's: the first long IPv6 answer is lost to teach it that.
        let answer = (0..3).find_map(|_| {
            udp.send(&sent).expect("sent");
            udp.recv(&mut got).ok()
        });
        let answer = answer.unwrap_or_else(|| panic!("no answer to {len} bytes from {server}"));
        assert!(got[..answer] == sent);
    }
}

fn all_at_once(world: &World, server: &str) {
    let done = Arc::new(AtomicBool::new(false));
    let serving = serve(world, server, world.guests.len(), Arc::clone(&done));
    thread::scope(|scope| {
        for (seed, guest) in (1..).zip(&world.guests) {
            scope.spawn(move || within(guest, move || exchange(server, seed)).expect("entered"));
        }
    });
    done.store(true, Ordering::Relaxed);
    serving.join().expect("served");
}

fn twins_reach_the_network(forward: Forward) {
    let Some(mut world) = World::new(forward) else { return };
    let guest = world.guests[0].try_clone().expect("a descriptor");
    assert!(!world.pings(&guest, NETWORK), "nobody has leased the slot");
    world.lease_all();
    // Checksums left to the receiver would be believed unseen; a wire leaves none.
    if !world.as_a_wire() {
        return;
    }
    for guest in &world.guests {
        assert!(world.pings(guest, NETWORK) && world.pings(guest, NETWORK6));
    }
    all_at_once(&world, &format!("{NETWORK}:7000"));
    all_at_once(&world, &format!("[{NETWORK6}]:7000"));
    for (slot, netns) in world.slots.iter().enumerate() {
        let counted = world.counters(u32::try_from(slot).expect("few"));
        assert!(counted.out_packets > 0 && counted.in_packets > 0, "{counted:?}");
        // Not the addresses' reasons: devices announce themselves from and to link-local ones.
        for reason in [R::Malformed, R::Kernel, R::WrongPath] {
            assert!(
                counted.drops[reason as usize] == 0,
                "slot {slot}: {} {}",
                reason.name(),
                counted.drops[reason as usize]
            );
        }
        assert!(matches!(world.tracked(netns), None | Some(0)), "no connection is tracked in a slot");
    }
    assert!(matches!(world.tracked_here(), None | Some(0)), "nor on the host");
}

#[test]
fn twin_guests_reach_the_network_at_once_through_the_stack() {
    twins_reach_the_network(Forward::Stack);
}

#[test]
fn twin_guests_reach_the_network_at_once_past_the_stack() {
    twins_reach_the_network(Forward::Redirect);
}

#[test]
fn a_route_that_holds_less_is_learnt_from_an_error() {
    let Some(mut world) = World::new(Forward::Stack) else { return };
    world.lease_all();
    world.ip("link set uplink0 mtu 1300");
    let guest = &world.guests[1];
    let ping = ["-c1", "-W2", "-M", "do", "-s", "1300", NETWORK];
    let told = world.output_in(guest, "ping", &ping);
    assert!(told.contains("mtu=1300") || told.contains("mtu = 1300"), "the host's error reaches the guest: {told}");
    assert!(world.works_in(guest, "ping", &["-c1", "-W2", "-M", "do", "-s", "1200", NETWORK]));
}

#[test]
fn the_hosts_hops_show_in_a_traceroute() {
    let Some(mut world) = World::new(Forward::Stack) else { return };
    world.lease_all();
    // The first hop is the slot's gateway, the second the host, the third the network.
    for (ttl, hop) in [("1", "172.16.0.1"), ("2", datapath_world::HOST), ("3", NETWORK)] {
        let told = world.output_in(&world.guests[0], "ping", &["-c1", "-W2", "-n", "-t", ttl, NETWORK]);
        assert!(told.to_lowercase().contains(&format!("from {hop}")), "hop {ttl}: {told}");
    }
}

/// The far end of a tunnel, of our own, from the written format: what comes out of the network's tap goes into Geneve
/// towards the host, and what comes in Geneve with that VNI goes into the tap.
fn endpoint(world: &World, vni: u32, done: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let tap = world.tap_in_network("ten0", "10.1.2.1/24", "02:00:00:00:00:01");
    let network = world.network.try_clone().expect("a descriptor");
    let udp = within(&network, || UdpSocket::bind((NETWORK, 6_081)).expect("bound")).expect("entered");
    udp.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    let [_, a, b, c] = vni.to_be_bytes();
    let header = [0, 0, 0x65, 0x58, a, b, c, 0];
    let (mut reader, mut writer) = (tap.try_clone().expect("a descriptor"), tap);
    let (sender, stop) = (udp.try_clone().expect("a descriptor"), Arc::clone(&done));
    thread::spawn(move || {
        let outwards = thread::spawn(move || {
            let mut frame = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                match reader.read(&mut frame) {
                    Ok(len) => {
                        let packet = [&header[..], &frame[VNET_BYTES..len]].concat();
                        sender.send_to(&packet, (datapath_world::HOST, 6_081)).expect("sent");
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_micros(100));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let mut packet = vec![0; 65_536];
        while !done.load(Ordering::Relaxed) {
            if let Ok((len, _)) = udp.recv_from(&mut packet) {
                assert!(len < 1_500, "a packet of {len} bytes was not cut to the wire's size");
                assert_eq!(packet[..8], header, "plain Geneve with the bound VNI");
                if packet[20..22] == [8, 0] {
                    frames::adds_up(&packet[8..len]);
                }
                let frame = [&[0; VNET_BYTES][..], &packet[8..len]].concat();
                writer.write_all(&frame).expect("written");
            }
        }
        outwards.join().expect("no panic");
    })
}

#[test]
fn a_bound_slot_reaches_its_tenant_and_nobody_else() {
    let Some(mut world) = World::new(Forward::Stack) else { return };
    world.lease_all();
    // The tunnel's headers must be on each segment that leaves, and the inner checksums complete.
    if !world.as_a_wire() {
        return;
    }
    let mut binding = netslot_abi::BindingRecord {
        generation: 1,
        vni: 77,
        tenant_v4: [10, 1, 2, 3],
        remote_family: 4,
        mode: netslot_abi::bind_mode::TUNNEL,
        peer_mac: [2, 0, 0, 0, 0, 1],
        ..Default::default()
    };
    binding.remote[..4].copy_from_slice(&[198, 51, 100, 1]);
    world.bind(1, &binding);
    let done = Arc::new(AtomicBool::new(false));
    let far = endpoint(&world, 77, Arc::clone(&done));
    let (unbound, bound) = (&world.guests[0], &world.guests[1]);
    assert!(world.pings(bound, "10.1.2.1"), "{:?}", world.counters(1));
    // An address that only the host has: nothing beyond the tunnel knows it.
    world.ip("addr add 203.0.113.5/32 dev uplink0");
    assert!(!world.pings(bound, "203.0.113.5"), "a bound slot has no other way out");
    assert!(world.pings(unbound, "203.0.113.5"));
    let over = Arc::new(AtomicBool::new(false));
    let serving = serve(&world, "10.1.2.1:7000", 1, Arc::clone(&over));
    within(bound, || exchange("10.1.2.1:7000", 9)).expect("entered");
    over.store(true, Ordering::Relaxed);
    serving.join().expect("served");
    world.lease_anew(1);
    assert!(world.pings(&world.guests[1], "203.0.113.5"), "the binding died with its lease");
    done.store(true, Ordering::Relaxed);
    far.join().expect("no panic");
}

#[test]
fn a_second_start_adopts_and_a_changed_one_replaces_while_packets_flow() {
    use netslot::bpf::{Datapath, DatapathError, Origin, attach};
    use netslot::netlink::Socket;
    use netslot::netlink::tc::Hook;
    let Some(mut world) = World::new(Forward::Stack) else { return };
    world.lease_all();
    let mut root = Socket::open().expect("a socket");
    let mut hanging = || {
        let hooks = [attach::INGRESS_BLOCK, attach::EGRESS_BLOCK].map(Hook::Block);
        hooks.map(|hook| attach::shown(&mut root, hook).expect("shown"))
    };
    let first = hanging();
    assert!(first.iter().all(|filters| filters.len() == 1), "{first:?}");
    let record = *world.datapath.record();
    let adopted = Datapath::open(&world.bpf_dir, &record).expect("adopted");
    assert_eq!(adopted.origin(), Origin::Adopted);

    let changed = netslot_abi::ConfigRecord { mss_v4: 900, ..record };
    let loaded = Datapath::open(&world.bpf_dir, &changed).expect("loaded");
    assert_eq!(loaded.origin(), Origin::Loaded);
    assert_eq!(
        Datapath::open(&world.bpf_dir, &record).expect("adopted").origin(),
        Origin::Adopted,
        "not committed yet"
    );
    let guest = world.guests[0].try_clone().expect("a descriptor");
    thread::scope(|scope| {
        let pinging = scope.spawn(|| world.output_in(&guest, "ping", &["-c", "200", "-i", "0.002", "-W1", NETWORK]));
        for _ in 0..20 {
            for datapath in [&loaded, &adopted] {
                attach::host_ends(&mut Socket::open().expect("a socket"), datapath).expect("replaced");
            }
        }
        let told = pinging.join().expect("no panic");
        assert!(told.contains(" 0% packet loss"), "{told}");
    });
    attach::host_ends(&mut Socket::open().expect("a socket"), &loaded).expect("replaced");
    attach::uplink(&mut Socket::open().expect("a socket"), &loaded).expect("replaced");
    loaded.commit().expect("pinned");
    let after = hanging();
    assert!(after.iter().all(|filters| filters.len() == 1), "one in the other's place: {after:?}");
    assert!(after != first, "another program");
    assert!(world.pings(&guest, NETWORK), "the leases are where they were");
    let again = Datapath::open(&world.bpf_dir, &changed).expect("adopted");
    assert_eq!(again.origin(), Origin::Adopted);

    let larger = netslot_abi::ConfigRecord { slots: 3, ..record };
    let before = again.maps().counters().expect("counters").of(0).expect("a slot's");
    assert!(before.out_packets > 0);
    let grown = Datapath::open(&world.bpf_dir, &larger).expect("loaded");
    grown.commit().expect("pinned");
    let maps = netslot::bpf::Maps::open(&world.bpf_dir).expect("readable").expect("pinned");
    let records = netslot::ledger::Records(maps.cells().expect("mapped"));
    assert_eq!((maps.slots(), grown.origin()), (3, Origin::Loaded));
    let states = SlotId::first(3).map(|slot| records.ledger(slot).state());
    assert_eq!(
        states.collect::<Vec<_>>(),
        [Some(SlotState::Leased), Some(SlotState::Leased), Some(SlotState::Building)]
    );
    let after = maps.counters().expect("counters").of(0).expect("a slot's");
    assert_eq!((after.out_packets, after.in_bytes), (before.out_packets, before.in_bytes));
    let plain = tempfile::tempdir().expect("a directory");
    let nowhere = plain.path().join("netslot");
    assert!(matches!(Datapath::open(&nowhere, &record), Err(DatapathError::NoBpffs(_))));
    assert!(!nowhere.exists(), "nothing is left where nothing can be pinned");
}

#[test]
fn a_tenants_address_is_bound_once() {
    let Some(mut world) = World::new(Forward::Stack) else { return };
    world.lease_all();
    let binding = netslot_abi::BindingRecord {
        generation: 1,
        vni: 5,
        tenant_v4: [10, 0, 0, 1],
        mode: netslot_abi::bind_mode::TUNNEL,
        remote_family: 4,
        ..Default::default()
    };
    world.bind(0, &binding);
    assert_eq!(world.try_bind(1, &binding), Err(netslot::ledger::StoreError(17)), "EEXIST");
    assert_eq!(world.try_bind(1, &netslot_abi::BindingRecord { vni: 6, ..binding }), Ok(()), "another VNI");
    world.lease_anew(0);
    assert_eq!(world.try_bind(1, &binding), Ok(()), "a binding that died with its lease holds nothing");
}
