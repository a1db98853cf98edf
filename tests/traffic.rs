//! Real traffic through the attached programs: two slots whose guests are the same to the byte, a host, and a network
//! beyond its uplink. A guest is a namespace at the far end of a veth pair that stands in the tap's place.

mod datapath_world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use datapath_world::exchange::{exchange, serve};
use datapath_world::private::{has, skipped};
use datapath_world::{HOST6, NETWORK, NETWORK6, World};
use netslot::config::Forward;
use netslot::ledger::Store as _;
use netslot::slot::SlotId;
use netslot::sys::netns::within;
use netslot_abi::DropReason as R;
use netslot_abi::SlotState;

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
    for (slot, guest) in (0..).zip(&world.guests) {
        for to in [NETWORK, NETWORK6] {
            // The first may meet a device that has no carrier yet, or a neighbour that is being asked for.
            assert!((0..5).any(|_| world.pings(guest, to)), "{to}: {:?}", world.counters(slot));
        }
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
fn a_route_that_holds_less_is_learnt_from_an_error_in_ipv6_too() {
    let Some(mut world) = World::new(Forward::Stack) else { return };
    world.lease_all();
    world.ip("link set uplink0 mtu 1300");
    let guest = &world.guests[1];
    // Several: the routers have only just raised their devices, and may not be ready to find each other.
    let told = world.output_in(guest, "ping", &["-c5", "-i0.5", "-W2", "-M", "do", "-s", "1300", NETWORK6]);
    assert!(told.contains("mtu=1300") || told.contains("mtu = 1300"), "the host's error reaches the guest: {told}");
    assert!(world.works_in(guest, "ping", &["-c5", "-i0.5", "-W2", "-M", "do", "-s", "1200", NETWORK6]));
    let route = world.output_in(guest, "ip", &["-6", "route", "get", NETWORK6]);
    assert!(route.contains("mtu 1300"), "and is remembered: {route}");
}

#[test]
fn traceroute_shows_the_way_by_udp_icmp_and_tcp() {
    let Some(mut world) = World::new(Forward::Stack) else { return };
    if !has("traceroute") {
        return;
    }
    world.lease_all();
    // Else the far end answers one probe in a second, and which one is chance.
    let unlimited = ["-qw", "net.ipv6.icmp.ratelimit=0", "net.ipv4.icmp_ratelimit=0"];
    assert!(world.works_in(&world.network, "sysctl", &unlimited));
    let hops4 = ["172.16.0.1", datapath_world::HOST, NETWORK];
    let hops6 = ["fd00::1", HOST6, NETWORK6];
    for (family, to, hops) in [("-4", NETWORK, hops4), ("-6", NETWORK6, hops6)] {
        // Both ends of the uplink know each other then: a probe is sent once.
        assert!((0..5).any(|_| world.pings(&world.guests[0], to)), "{to}");
        for by in ["-U", "-I", "-T"] {
            let told = world.output_in(&world.guests[0], "traceroute", &["-n", "-q1", "-N1", "-w2", family, by, to]);
            let shown: Vec<&str> =
                told.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(1)).collect();
            assert_eq!(shown, hops, "{family} {by}: {told}");
        }
    }
}

#[test]
fn nothing_of_a_slots_is_tracked_where_the_host_tracks_and_leaves_slots_out() {
    let Some(mut world) = World::new(Forward::Stack) else { return };
    world.lease_all();
    if !has("nft") || !has("conntrack") {
        return;
    }
    let nft = |rules: &str| {
        let mut nft = std::process::Command::new("nft");
        assert!(nft.arg(rules).status().expect("nft is there").success(), "{rules}");
    };
    let guest = world.guests[0].try_clone().expect("a descriptor");
    // A rule that asks for a connection's state makes the kernel track all of them.
    nft(
        "add table inet t; add chain inet t f { type filter hook forward priority 0; }; add rule inet t f ct state new",
    );
    if world.tracked_here().is_none() {
        return skipped("this kernel tracks no connections");
    }
    assert!(world.pings(&guest, NETWORK) && world.tracked_here() > Some(0), "the control: it would be tracked");
    // As systemd/root.nft offers it.
    nft(
        "add chain inet t raw { type filter hook prerouting priority raw; }; add rule inet t raw iifname \"slot*\" notrack; \
         add rule inet t raw ip daddr 100.64.0.0/15 notrack",
    );
    assert!(std::process::Command::new("conntrack").arg("-F").status().expect("conntrack is there").success());
    assert!(world.pings(&guest, NETWORK));
    assert_eq!(world.tracked_here(), Some(0));
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
