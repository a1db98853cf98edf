//! What is to be seen of a slot from outside: `netslot show` with and without a daemon, and the pinned maps through bpftool.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use common::daemon::{Daemon, args, named};
use common::guest::Guest;
use common::private::has;
use common::{Ended, NETWORK_IP, World};
use serde_json::Value;

#[test]
fn a_slot_shows_its_lease_addresses_and_counters_with_a_daemon_and_without() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 2\nexternal_cidr = \"203.0.113.0/24\"");
    let lease = world.json(&["lease", "--tag", "web-7"]);
    let id = named(&lease);
    let before = world.json(&["show", &id[0]]);
    assert_eq!(before["counters"]["out_packets"], 0, "{before}");
    let guest = Guest::on(&world.slot(0), 0).addressed(1_430);
    world.in_netns(&world.network, "ip", &["route", "add", "203.0.113.0/24", "via", common::HOST_IP]);
    guest.run("ping", &["-c3", "-i0.1", "-W5", NETWORK_IP]);
    // Another's address, which the first program drops.
    guest.run("ip", &["addr", "add", "10.9.9.9/32", "dev", "lo"]);
    guest.output("ping", &["-c2", "-i0.1", "-W1", "-I", "10.9.9.9", NETWORK_IP]);
    let shown = world.json(&["show", &id[0]]);
    let counters = &shown["counters"];
    assert_eq!((&counters["out_packets"], &counters["in_packets"]), (&3.into(), &3.into()), "{shown}");
    assert_eq!((&counters["out_bytes"], &counters["in_bytes"]), (&(3 * 98).into(), &(3 * 98).into()), "{shown}");
    assert_eq!(counters["drops"]["source-address"], 2, "{shown}");
    assert_eq!(counters["drops"]["not-leased"], 0, "every reason is named: {shown}");
    assert_eq!(shown["addresses"]["external_ip"], "203.0.113.2", "{shown}");
    let text = world.netslot(&["show", &id[0]]).stdout;
    for line in [
        "sent        3 packets, 294 bytes",
        "dropped     2 source-address",
        "known as    203.0.113.2",
        "tag         web-7",
    ] {
        assert!(text.lines().any(|shown| shown == line), "'{line}' is not in\n{text}");
    }
    let list = world.json(&["list"]);
    assert!(list[0].get("counters").is_none(), "a list is as it was");

    let tenant = ["--vni", "77", "--remote", NETWORK_IP, "--tenant-ip", "10.1.2.3"];
    assert_eq!(world.netslot(&args("bind", &id, &tenant)).code, 0);
    let told = world.json(&["show", &id[0]]);
    daemon.kill();
    let pinned = world.json(&["show", &id[0]]);
    let same = |key: &str| assert_eq!(told[key], pinned[key], "{key}");
    ["slot", "state", "generation", "binding", "addresses", "counters"].into_iter().for_each(same);
    assert_eq!((&pinned["owner"]["tag"], &pinned["binding"]["vni"]), (&"web-7".into(), &77.into()));
    world.netslot(&["show", "1"]).is_refused(0, &["no daemon"]);
    world.netslot(&["show", "7"]).is_refused(5, &["no daemon"]);
}

#[test]
fn who_is_not_root_sees_the_lease_and_no_counters() {
    let Some(world) = World::new() else { return };
    let _daemon = Daemon::over(&world, "slots = 1");
    // The binary and the configuration lie where only root reads; and no group has the socket here.
    fs::set_permissions("/run/netslot/netslot.sock", fs::Permissions::from_mode(0o666)).expect("set");
    let (binary, config) = ("/run/netslot-copy", "/run/netslot-copy.toml");
    fs::copy(world.command(&[]).get_program(), binary).expect("copied");
    fs::write(config, "slots = 1").expect("written");
    let mut command = Command::new(binary);
    command.uid(65_534).gid(0).args(["--json", "--config", config, "show", "0"]);
    let ended = Ended::of(command.output().expect("started"));
    assert_eq!(ended.code, 0, "{ended:?}");
    let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&shown["state"], &shown["counters"]), (&"free".into(), &Value::Null));
}

#[test]
fn bpftool_shows_the_pinned_maps_with_the_names_of_their_fields() {
    let Some(world) = World::new() else { return };
    if !has("bpftool") {
        return;
    }
    let daemon = Daemon::over(&world, "slots = 1");
    let id = named(&daemon.lease());
    let tenant = ["--vni", "77", "--remote", NETWORK_IP, "--tenant-ip", "10.1.2.3"];
    assert_eq!(world.netslot(&args("bind", &id, &tenant)).code, 0);
    let dump = |map: &str| -> Value {
        let pin = format!("/sys/fs/bpf/netslot/{map}");
        let ended =
            Ended::of(Command::new("bpftool").args(["-j", "map", "dump", "pinned", &pin]).output().expect("started"));
        assert_eq!(ended.code, 0, "{ended:?}");
        serde_json::from_str(&ended.stdout).expect("JSON")
    };
    let field = |map: &str, name: &str| {
        let dump = dump(map);
        let value = dump[0]["formatted"]["value"].clone();
        value.get(name).unwrap_or_else(|| panic!("no '{name}' in {value}")).clone()
    };
    assert_eq!(field("ledger", "commit"), (1 << 8 | 2), "generation 1, leased");
    assert_eq!((field("ledger", "owner_uid"), field("ledger", "policy")), (0.into(), 0.into()));
    assert_eq!((field("bindings", "vni"), field("bindings", "generation")), (77.into(), 1.into()));
    assert_eq!(field("bindings", "tenant_v4"), serde_json::json!([10, 1, 2, 3]));
    assert_eq!(field("config", "ifindex_base"), 100_000);
    let counters = dump("counters");
    assert!(counters[0]["formatted"]["values"][0]["value"].get("out_packets").is_some(), "{counters}");
    let tenants = dump("tenants");
    assert_eq!(tenants[0]["formatted"]["key"]["vni"], 77, "{tenants}");
}
