//! `netslot check` on hosts that a test makes: what is lacking is found, the command that it names mends it, and an
//! unprivileged user is told so.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::World;
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
