//! `netslot verify` and `netslot show --diff`, with and without a daemon.

use serde_json::Value;

use crate::common::World;
use crate::served::{Served, lease};
use netslot_protocol::{Policy, State};

/// Numbers of the slots that `verify` finds different.
fn differing(report: &Value) -> Vec<u64> {
    report["differ"].as_array().expect("a list").iter().map(|slot| slot["slot"].as_u64().expect("a number")).collect()
}

#[test]
fn a_fresh_pool_is_as_it_was_made_and_a_changed_slot_is_told_line_by_line() {
    let Some(world) = World::new() else { return };
    world.configure(
        "slots = 3\nslot_cidr6 = \"fd00:64::/64\"\n[guest]\nip6 = \"fd00:16::2/64\"\ngateway_ip6 = \"fd00:16::1\"",
    );
    assert_eq!(world.netslot(&["up"]).code, 0);
    let report = world.json(&["verify"]);
    assert_eq!((report["equal"].as_u64(), differing(&report)), (Some(3), vec![]));
    assert_eq!(world.netslot(&["show", "1", "--diff"]).stdout, "");

    let netns = world.slot(1);
    for line in [
        "addr add 192.0.2.7/24 dev br0",
        "route add 203.0.113.0/24 via 100.64.0.1 dev up0 onlink",
        "link set up0 mtu 1400",
        "link set tap0 alias mine",
        "neigh add 172.16.0.9 lladdr 02:00:00:00:00:09 dev br0",
        "rule add from 10.0.0.0/8 table 100",
    ] {
        world.in_netns(&netns, "ip", &line.split(' ').collect::<Vec<_>>());
    }
    world.in_netns(&netns, "sysctl", &["-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.br0.forwarding=0"]);
    let shown = world.netslot(&["show", "1", "--diff"]);
    assert_eq!(shown.code, 8, "{shown:?}");
    for line in [
        "up0 MTU: expected 1430, found 1400",
        "tap0 alias: expected none, found mine",
        "br0 ipv4 forwarding: expected 1, found 0",
        "address address 192.0.2.7 own address 192.0.2.7 prefix 24 on br0: expected none, found ",
        "neighbour address 172.16.0.9 on br0: expected none, found MAC 02:00:00:00:00:09, state 0x80",
        "route to 203.0.113.0 on up0 via 100.64.0.1 table 254 prefix 24 type 1: expected none, found ",
        "routing rule from 10.0.0.0",
        "sysctl net/ipv4/conf/all/rp_filter: expected 1, found 0",
    ] {
        assert!(shown.stdout.lines().any(|l| l.starts_with(line)), "'{line}' is not in:\n{}", shown.stdout);
    }
    let whole = world.netslot(&["verify", "--json"]);
    assert_eq!(whole.code, 8, "{whole:?}");
    let report: Value = serde_json::from_str(&whole.stdout).expect("JSON");
    assert_eq!((report["equal"].as_u64(), differing(&report)), (Some(2), vec![1]));
    assert_eq!(world.netslot(&["verify", "0", "2"]).code, 0);
    // It has looked, and changed nothing.
    assert_eq!(world.netslot(&["show", "1", "--diff"]).stdout, shown.stdout);
    world.netslot(&["verify", "7"]).is_refused(1, &["there is no slot 7"]);
    world.netslot(&["destroy"]);
    world.netslot(&["verify"]).is_refused(1, &["there is no pool"]);
}

#[test]
fn what_a_lease_brings_about_is_no_difference_and_what_its_holder_changes_is() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let leased = lease(&mut served.client(), Policy::Explicit);
    let (slot, netns) = (leased.id.slot, leased.netns.as_ref().expect("asked for"));
    let tap = world.open_tap(netns);
    // A neighbour that does not answer, a socket, a process, a tap that is held.
    world.works_in(netns, "ping", &["-c1", "-W1", "172.16.0.1"]);
    world.in_netns(
        netns,
        "ip",
        &["neigh", "add", "172.16.0.9", "lladdr", "02:00:00:00:00:09", "dev", "br0", "nud", "stale"],
    );
    let report = world.json(&["verify"]);
    assert_eq!((report["equal"].as_u64(), differing(&report)), (Some(2), vec![]), "{report}");
    world.in_netns(netns, "ip", &["link", "set", "br0", "mtu", "1300"]);
    let number = slot.to_string();
    let shown = world.netslot(&["show", &number, "--diff"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (8, "br0 MTU: expected 1430, found 1300\n"));
    drop(tap);
    drop(served);
    // The daemon is not needed for it.
    let shown = world.netslot(&["show", &number, "--diff"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (8, "br0 MTU: expected 1430, found 1300\n"));
}

#[test]
fn a_scrub_changes_no_carrier() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let netns = world.slot(0);
    // What becomes of each change waits in a list of the kernel's, which handles 100 a second.
    let changes = || {
        let told = world.in_netns(&netns, "ip", &["-j", "-s", "-s", "link", "show", "tap0"]);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told[0]["stats64"]["tx"]["carrier_changes"].as_u64().expect("a number")
    };
    let before = changes();
    let mut client = served.client();
    for _ in 0..3 {
        let leased = lease(&mut client, Policy::Explicit);
        client.release(leased.id).expect("ours");
        served.wait_for(0, State::Free);
    }
    assert_eq!(changes(), before);
    drop(world.open_tap(&netns));
    assert_eq!(changes(), before + 2, "as a VMM's opening and closing does");
}
