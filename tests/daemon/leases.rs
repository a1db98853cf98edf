//! Leases: what comes with them, how they end, what an empty pool gives, who may end whose.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use netslot_protocol::client::LeaseOptions;
use netslot_protocol::event::Event;
use netslot_protocol::{Binding, ErrorCode, Ip, Policy, State};

use crate::common::World;
use crate::served::{PATIENCE, Raw, Served, code, lease, names};

#[test]
fn a_lease_brings_a_namespace_a_tap_and_a_name_and_ends_with_all_of_them() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 3");
    let mut client = served.client();
    let options = LeaseOptions { count: 2, tag: "vm-1", want_netns: true, want_tap: true, ..LeaseOptions::default() };
    let mut leases = client.lease(&options).expect("three are free");
    assert_eq!(leases.iter().map(|l| (l.id.slot, l.id.generation)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    let (first, second) = (leases.remove(0), leases.remove(0));
    for lease in [&first, &second] {
        let netns = lease.netns.as_ref().expect("asked for");
        assert!(world.in_netns(netns, "ip", &["-br", "link", "show", "tap0"]).contains("LOWER_UP"), "the tap is held");
        let host_end = world.ip(&format!("-br link show slot{}", lease.id.slot));
        assert!(host_end.contains("UP") && lease.host_ifindex == 100_000 + lease.id.slot, "{host_end}");
        // Ethernet to the gateway, behind the virtio-net header of ten bytes that the tap is made with.
        let tap = lease.tap.as_ref().expect("asked for");
        let mut packet = [0_u8; 10 + 60];
        packet[10..16].copy_from_slice(&lease.guest.gateway_mac);
        packet[16..22].copy_from_slice(&lease.guest.mac);
        packet[22..24].copy_from_slice(&[8, 0]);
        assert_eq!(nix::unistd::write(tap.as_fd(), &packet), Ok(packet.len()));
    }
    // What people and path-only VMMs see follows within a moment.
    let shown = |n: u32, fd: &str| (format!("slot-{n:04}"), fd.to_owned());
    served.until(|| names().len() == 2, "the names never came");
    let daemon = format!("/proc/{}/fd/", served.pid());
    assert!(names().iter().all(|(_, target)| target.starts_with(&daemon)), "{:?}", names());
    let by_name = Command::new("ip").args(["netns", "exec", "slot-0001", "ip", "-br", "link"]).output().expect("ip");
    assert!(String::from_utf8_lossy(&by_name.stdout).contains("tap0"), "{by_name:?}");
    let owner = served.slot(1).owner.expect("leased");
    assert_eq!((&*owner.tag, owner.uid, owner.pid), ("vm-1", 0, std::process::id()));
    // Given back, it stays unclean while somebody holds the tap.
    client.release(first.id).expect("ours");
    assert_eq!(code(client.release(first.id)), ErrorCode::StaleGeneration);
    served.until(|| names() == [shown(1, &names()[0].1)], "the name never went");
    for _ in 0..20 {
        assert_eq!(served.state(0), State::Scrubbing, "the tap is held");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(first);
    served.wait_for(0, State::Free);
    assert_eq!(served.slot(0).generation, 2);
    drop(second);
    client.release(netslot_protocol::LeaseId { slot: 1, generation: 1 }).expect("ours");
    served.wait_for(1, State::Free);
    assert_eq!(served.stop(), 0);
    assert!(!fs::exists("/run/netslot/netslot.sock").expect("looked"), "the socket goes with the daemon");
}

#[test]
fn a_client_that_asks_for_no_fd_finds_the_name_as_soon_as_it_has_the_reply() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let mut client = served.client();
    for _ in 0..20 {
        let lease = client.lease(&LeaseOptions::default()).expect("free").remove(0);
        assert!(fs::metadata(&lease.netns_path).is_ok(), "{} is not there", lease.netns_path.display());
        client.release(lease.id).expect("ours");
        served.wait_for(lease.id.slot, State::Free);
    }
}

#[test]
fn leases_end_with_connection_or_process_as_their_policy_says() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 4");
    // A process of its own, since the test itself cannot exit: it leases, and becomes what it is to run.
    let mut owner = world.command(&["exec", "--", "sleep", "1000"]).spawn().expect("started");
    served.wait_for(0, State::Leased);
    let mut client = served.client();
    let explicit = lease(&mut client, Policy::Explicit);
    let on_disconnect = lease(&mut client, Policy::OnDisconnect);
    let on_exit = lease(&mut client, Policy::OnExit);
    drop(client);
    served.wait_for(on_disconnect.id.slot, State::Free);
    assert_eq!(served.state(explicit.id.slot), State::Leased);
    assert_eq!(served.state(on_exit.id.slot), State::Leased, "its process is this one");
    owner.kill().expect("killed");
    owner.wait().expect("reaped");
    served.wait_for(0, State::Free);
    served.client().release(explicit.id).expect("any connection of the user will do");
}

#[test]
fn an_empty_pool_fails_waits_or_grows_as_it_is_configured() {
    let Some(world) = World::new() else { return };
    let wait = LeaseOptions { wait: PATIENCE, ..LeaseOptions::default() };
    let shortly = LeaseOptions { wait: Duration::from_millis(50), ..LeaseOptions::default() };
    {
        let served = Served::up(&world, "slots = 1\nempty = \"fail\"");
        let mut client = served.client();
        let held = lease(&mut client, Policy::OnDisconnect);
        assert_eq!(code(client.lease(&wait)), ErrorCode::PoolEmpty);
        client.release(held.id).expect("ours");
        served.wait_for(0, State::Free);
    }
    {
        let served = Served::up(&world, "slots = 1\nempty = \"wait\"");
        let mut client = served.client();
        let held = lease(&mut client, Policy::OnDisconnect);
        assert_eq!(code(client.lease(&LeaseOptions::default())), ErrorCode::PoolEmpty);
        assert_eq!(code(client.lease(&shortly)), ErrorCode::TimedOut);
        let waiting = Raw::connect();
        waiting.ask(7, &request(180_000)).expect("sent");
        served.until(|| served.client().status().expect("told").waiters == 1, "the request never waited");
        client.release(held.id).expect("ours");
        let (kind, id, _) = waiting.receive().expect("an answer");
        assert_eq!((kind, id), (0x8020, 7));
        assert_eq!(served.client().status().expect("told").empty_total, 2);
    }
    let served = Served::up(&world, "slots = 1\nslots_max = 3\nempty = \"create\"");
    let mut client = served.client();
    served.until(|| served.state(0) == State::Free || served.state(0) == State::Leased, "slot 0 is not there");
    let options = LeaseOptions { count: 3, want_netns: true, ..wait };
    let leases = client.lease(&options).expect("made for it");
    assert_eq!(world.host_ends(), 3);
    for lease in &leases {
        let netns = lease.netns.as_ref().expect("asked for");
        assert!(world.in_netns(netns, "ip", &["-br", "link"]).contains("tap0"));
    }
    assert_eq!(code(client.lease(&LeaseOptions { count: 4, ..wait })), ErrorCode::BadArgument);
}

fn request(wait_ms: u32) -> netslot_protocol::request::Lease {
    netslot_protocol::request::Lease {
        count: 1,
        wait_ms,
        tag: netslot_protocol::Text::default(),
        policy: Policy::OnDisconnect,
        want_netns_fd: false,
        want_tap_fd: false,
        own_stack: false,
    }
}

#[test]
fn bindings_are_the_lease_holders_and_end_with_the_lease() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let mut client = served.client();
    let (one, two) = (lease(&mut client, Policy::Explicit), lease(&mut client, Policy::Explicit));
    let binding =
        Binding { vni: 5_001, remote: Ip::V4([192, 0, 2, 10]), tenant_v4: Some([10, 0, 3, 4]), tenant_v6: None };
    client.bind(one.id, binding).expect("ours");
    assert_eq!(served.slot(one.id.slot).binding, Some(binding));
    assert_eq!(code(client.bind(two.id, binding)), ErrorCode::AddressInUse);
    client.unbind(one.id).expect("ours");
    assert_eq!(served.slot(one.id.slot).binding, None);
    client.bind(two.id, binding).expect("free again");
    client.release(two.id).expect("ours");
    assert_eq!(code(client.bind(two.id, binding)), ErrorCode::StaleGeneration);
    client.bind(one.id, binding).expect("free again");
    let mut never = one.id;
    never.slot = 70_000;
    assert_eq!(code(client.unbind(never)), ErrorCode::NoSuchSlot);
}

#[test]
fn another_user_sees_leases_and_cannot_touch_them() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let mut client = served.client();
    let held = lease(&mut client, Policy::Explicit);
    // The group's rights, for everybody: that this user could connect is the point.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions("/run/netslot/netslot.sock", open).expect("chmod");
    let binary = "/run/netslot-for-all";
    fs::copy(world.command(&[]).get_program(), binary).expect("copied");
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new(binary);
        command.args(["--socket", "/run/netslot/netslot.sock"]).args(args).uid(65_534).gid(65_534);
        crate::common::Ended::of(command.output().expect("started"))
    };
    let generation = held.id.generation.to_string();
    as_nobody(&["release", "0", "--generation", &generation]).is_refused(7, &["another user"]);
    let bind =
        ["bind", "0", "--generation", &generation, "--vni", "7", "--remote", "192.0.2.1", "--tenant-ip", "10.0.0.1"];
    as_nobody(&bind).is_refused(7, &["another user"]);
    assert_eq!(served.state(0), State::Leased);
    let theirs = as_nobody(&["--json", "lease"]);
    assert_eq!(theirs.code, 0, "{theirs:?}");
    assert_eq!(served.slot(1).owner.map(|owner| owner.uid), Some(65_534));
    client.release(netslot_protocol::LeaseId { slot: 1, generation: 1 }).expect("root may");
}

#[test]
fn who_watches_hears_of_every_change_and_lists_are_whole() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 3");
    let mut watch = served.client().watch().expect("watching");
    let mut client = served.client();
    let held = lease(&mut client, Policy::Explicit);
    client.release(held.id).expect("ours");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match watch.next_within(PATIENCE).expect("an event") {
            Some(Event::Changed(changed)) => seen.push((changed.slot, changed.generation, changed.state)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [(0, 1, State::Leased), (0, 2, State::Scrubbing), (0, 2, State::Free)]);
    let list = client.list().expect("a list");
    let states: Vec<_> = list.slots.iter().map(|slot| (slot.slot, slot.generation, slot.state)).collect();
    assert_eq!(states, [(0, 2, State::Free), (1, 0, State::Free), (2, 0, State::Free)]);
    let status = client.status().expect("told");
    assert_eq!((status.pid, status.slots, status.count(State::Free)), (served.pid(), 3, 3));
    assert_eq!((status.leases_total, status.releases_total, status.connections), (1, 1, 2));
}
