//! `netslot check` on hosts that a test makes: what is lacking is found, the command that it names mends it, and an
//! unprivileged user is told so.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::daemon::Daemon;
use common::guest::Guest;
use common::{NETWORK_IP, World};
use serde_json::Value;

/// Runs the check; its exit code says whether anything is lacking.
fn check(world: &World, args: &[&str]) -> Value {
    let ended = world.netslot(&[&["check", "--json"], args].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
    let expected = if report["lacks"] == 0 { 0 } else { 4 };
    assert_eq!(ended.code, expected, "{ended:?}");
    report
}

/// The finding of that name.
fn finding<'a>(report: &'a Value, name: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

fn lacks(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().filter(|f| f["level"] == "lack").filter_map(|f| f["name"].as_str()).collect()
}

#[test]
fn what_is_lacking_is_mended_by_the_command_that_is_told() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 4");
    nix::mount::umount("/sys/fs/bpf").expect("the world's own");
    let report = check(&world, &[]);
    assert_eq!(lacks(&report), ["bpffs"], "{report:#}");
    let mend = finding(&report, "bpffs")["mend"].as_str().expect("a command");
    assert_eq!(mend, "mount -t bpf bpf /sys/fs/bpf");
    assert!(Command::new("sh").args(["-c", mend]).status().expect("a shell").success());
    let report = check(&world, &[]);
    assert_eq!(lacks(&report), [""; 0], "{report:#}");
    assert_eq!(finding(&report, "bpffs")["value"], "mounted at /sys/fs/bpf");
    // These settings exist in the initial network namespace alone, and this is not it.
    let inherit = finding(&report, "/proc/sys/net/core/devconf_inherit_init_net");
    assert_eq!((&inherit["level"], &inherit["value"]), (&"note".into(), &"not there".into()));
    // The uplink is the world's, and its MTU less a tunnel's overhead is the guests'.
    assert_eq!(finding(&report, "uplink")["value"], "uplink0, MTU 1430 inside the slots");
    // More slots than one process here can hold files for (20,000 at most are assumed on no machine).
    let files = finding(&check(&world, &["--slots", "65536"]), "open files (hard limit)")["need"].clone();
    assert_eq!(files, "at least 67712");
    // A second bpffs over the first hides what is pinned in it.
    assert!(Command::new("sh").args(["-c", mend]).status().expect("a shell").success());
    let report = check(&world, &[]);
    assert_eq!(finding(&report, "bpffs")["value"], "one at /sys/fs/bpf lies over another");
}

#[test]
fn devices_and_addresses_of_others_are_found_and_the_pools_own_are_not() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 4");
    world.ip("link add slot2 type bridge");
    world.ip("link add other0 index 100003 type bridge");
    world.ip("addr add 100.64.0.9/24 dev slot2");
    world.ip("link set slot2 up");
    let report = check(&world, &[]);
    assert_eq!(lacks(&report), ["device names", "device indexes", "slot addresses"]);
    assert_eq!(finding(&report, "device names")["value"], "slot2");
    assert_eq!(finding(&report, "device indexes")["value"], "other0 (index 100003)");
    let addresses = finding(&report, "slot addresses")["value"].as_str().expect("text");
    assert_eq!(addresses, "100.64.0.9 on slot2, a route to 100.64.0.0/24 by slot2");
    world.ip("link del slot2");
    world.ip("link del other0");
    world.json(&["up"]);
    let report = check(&world, &[]);
    assert_eq!(lacks(&report), [""; 0], "{report:#}");
    let memory = finding(&report, "memory")["need"].as_str().expect("text");
    assert!(memory.contains("for 0 slots more"), "{memory}");
}

#[test]
fn a_firewall_in_the_way_of_slots_is_found_and_mended_by_what_is_told() {
    let Some(world) = World::new() else { return };
    let sh = |line: &str| assert!(Command::new("sh").args(["-c", line]).status().expect("a shell").success(), "{line}");
    let daemon = Daemon::over(&world, "slots = 1");
    daemon.lease();
    let guest = Guest::on(&world.slot(0), 0).addressed(1_430);
    // Three: a question for a neighbour that is lost is asked again after a second.
    let reaches = || guest.output("ping", &["-c3", "-i0.6", "-W1", NETWORK_IP]).status.success();
    let firewall = || {
        let report = check(&world, &[]);
        let finding = finding(&report, "host firewall");
        (finding["level"] == "ok", finding["value"].as_str().expect("a text").to_owned(), finding["mend"].clone())
    };
    assert!(reaches() && firewall().0, "{:?}", firewall());
    // As Docker does it, as ufw does it, as firewalld does it.
    let docker = "iptables -P FORWARD DROP";
    let ufw = "nft 'add table inet ufw; add chain inet ufw forwarded { type filter hook forward priority 0; policy drop; }; \
               add rule inet ufw forwarded ct state established accept'";
    let firewalld = "nft 'add table inet firewalld; add chain inet firewalld forwarded { type filter hook forward priority 10; }; \
                     add rule inet firewalld forwarded ct state established accept; \
                     add rule inet firewalld forwarded counter reject with icmpx admin-prohibited'";
    for (line, words, undo) in [
        (docker, "ip filter FORWARD drops by its policy", "nft delete table ip filter"),
        (ufw, "inet ufw forwarded drops by its policy", "nft delete table inet ufw"),
        (firewalld, "inet firewalld forwarded drops by its last rule", "nft delete table inet firewalld"),
    ] {
        sh(line);
        let (fine, value, mend) = firewall();
        assert!(!reaches(), "{line} is in the way");
        assert_eq!((fine, &*value), (false, words));
        sh(mend.as_str().expect("commands").split("; or").next().expect("commands"));
        assert!(reaches(), "mended: {mend}");
        assert!(firewall().0, "{:?}", firewall());
        sh(undo);
    }
}

#[test]
fn others_programs_before_ours_and_missing_pins_are_found() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    world.json(&["up"]);
    let report = check(&world, &[]);
    assert_eq!(finding(&report, "others' programs")["value"], "none", "{report:#}");
    assert_eq!(finding(&report, "pins")["value"], "all there", "{report:#}");
    let pinned = "bpf direct-action object-pinned /sys/fs/bpf/netslot/guest_in";
    for (line, level, value) in [
        ("ingress pref 60000", "ok", "guest_in:[*fsobj] on uplink0 ingress"),
        ("egress pref 7", "note", "guest_in:[*fsobj] on uplink0 egress"),
    ] {
        let line = format!("filter add dev uplink0 {line} {pinned}");
        assert!(Command::new("tc").args(line.split(' ')).status().expect("tc is there").success(), "{line}");
        let report = check(&world, &[]);
        let others = finding(&report, "others' programs");
        assert_eq!(others["level"], level, "{others}");
        assert!(others["value"].as_str().expect("a text").contains(value), "{others}");
    }
    let mut tcx = aya::programs::SchedClassifier::from_pin("/sys/fs/bpf/netslot/slot_in").expect("pinned");
    tcx.attach("uplink0", aya::programs::TcAttachType::Ingress).expect("attached");
    let report = check(&world, &[]);
    let others = finding(&report, "others' programs")["value"].as_str().expect("a text").to_owned();
    assert!(others.contains("slot_in on uplink0 ingress (tcx)"), "{others}");
    fs::remove_file("/sys/fs/bpf/netslot/ledger").expect("pinned");
    let report = check(&world, &[]);
    assert_eq!(lacks(&report), ["pins"], "{report:#}");
    assert_eq!(finding(&report, "pins")["value"], "1 slots stand, and ledger not in /sys/fs/bpf/netslot");
}

#[test]
fn an_unprivileged_user_is_told_so_first_and_in_words() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 4");
    // Where nobody can reach it: the binary's own directory may be root's.
    let binary = "/run/netslot-for-nobody";
    fs::copy(env!("CARGO_BIN_EXE_netslot"), binary).expect("copied");
    fs::set_permissions(binary, fs::Permissions::from_mode(0o755)).expect("executable");
    let ended = Command::new(binary).args(["check", "--slots", "4"]).uid(65_534).gid(65_534).output().expect("run");
    let stdout = String::from_utf8(ended.stdout).expect("text");
    assert_eq!(ended.status.code(), Some(4), "{stdout}");
    assert!(stdout.starts_with("lack  capabilities: without CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF\n"), "{stdout}");
    assert_eq!(stdout.matches("lack  ").count(), 1, "{stdout}");
    assert!(stdout.contains("mend: run as root; in a unit: AmbientCapabilities="), "{stdout}");
    assert!(stdout.contains("note  run_dir: not looked at: that takes privilege\n"), "{stdout}");
}
