//! What systemd, udev and their kin read of ours, judged by their own programs, and by what it must agree with.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use netslot::address;
use netslot::config::Config;
use netslot::limits::SLOTS_MAX;
use netslot::slot::SlotId;
use netslot::sys::confine::{Capability, SERVING, STARTING};

use common::World;

const UNITS: [&str; 3] = ["netslot-up.service", "netslot.service", "netslot.socket"];

/// Exposure by `systemd-analyze security`, in tenths; recorded in SPECIFICATION.md.
const EXPOSURE: [(&str, u32); 2] = [("netslot-up.service", 46), ("netslot.service", 52)];

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lines that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a program that a test needs is there; said aloud where it is not, and in CI that fails the test.
fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is needed: run tests/tools.sh");
    if !found {
        eprintln!("SKIPPED: {program} is not here (tests/tools.sh installs it)");
    }
    found
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [&*output.stdout, &*output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// The units in a directory, with the binary that is being tested in place of the installed one.
fn units() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().expect("a directory");
    let binary = common::binary();
    let binary = fs::canonicalize(&binary).unwrap_or(binary).display().to_string();
    let write = |name: &&str| {
        let path = dir.path().join(name);
        fs::write(&path, file(name).replace("/usr/bin/netslot", &binary)).expect("written");
        path
    };
    let paths = UNITS.iter().map(write).collect();
    (dir, paths)
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    if !is_there("systemd-analyze") {
        return;
    }
    let (_dir, paths) = units();
    let said =
        succeed(Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=yes"]).args(paths));
    assert_eq!(said, "");
}

#[test]
fn the_units_are_no_more_exposed_than_was_recorded() {
    if !is_there("systemd-analyze") {
        return;
    }
    let (dir, _) = units();
    for (unit, tenths) in EXPOSURE {
        let mut command = Command::new("systemd-analyze");
        let threshold = format!("--threshold={tenths}");
        let said = succeed(command.args(["security", "--offline=true", &threshold]).arg(dir.path().join(unit)));
        let figure = format!("{}.{}", tenths / 10, tenths % 10);
        assert!(said.contains(&format!("exposure level for {unit}: {figure} ")), "record the new figure: {said}");
    }
}

#[test]
fn no_unit_gets_a_mount_namespace_of_its_own() {
    let makers = [
        "PrivateMounts",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateIPC",
        "PrivateBPF",
        "ProtectSystem",
        "ProtectHome",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectProc",
        "ProcSubset",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "ExecPaths",
        "NoExecPaths",
        "BindPaths",
        "BindReadOnlyPaths",
        "TemporaryFileSystem",
        "MountFlags",
        "MountAPIVFS",
        "RootDirectory",
        "RootImage",
        "MountImages",
        "ExtensionImages",
        "LogNamespace",
        "DynamicUser",
        "LoadCredential",
        "SetCredential",
    ];
    for unit in UNITS {
        for line in file(unit).lines().filter(|line| !line.starts_with('#')) {
            let key = line.split('=').next().unwrap_or_default();
            assert!(!makers.contains(&key), "{unit}: {line}");
        }
    }
}

/// `DacReadSearch` as `CAP_DAC_READ_SEARCH`.
fn names(capabilities: &[Capability]) -> String {
    let name = |capability: &Capability| {
        let spelt = format!("{capability:?}");
        let upper = |c: char| if c.is_ascii_uppercase() { format!("_{c}") } else { c.to_ascii_uppercase().to_string() };
        format!("CAP{}", spelt.chars().map(upper).collect::<String>())
    };
    capabilities.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_units_give_the_capabilities_that_the_daemon_keeps_and_no_other() {
    for (unit, kept) in [("netslot.service", &STARTING[..]), ("netslot-up.service", &SERVING[..])] {
        let line = format!("CapabilityBoundingSet={}", names(kept));
        assert!(lines(&file(unit)).any(|l| l == line), "{unit}: {line}");
    }
}

#[test]
fn the_files_agree_with_the_configurations_defaults() {
    let config = Config::default();
    let socket = format!("ListenSequentialPacket={}", config.socket.display());
    assert!(lines(&file("netslot.socket")).any(|line| line == socket));
    let tmpfiles = file("netslot.tmpfiles");
    for dir in [&config.run_dir, &config.netns_dir] {
        let begins = format!("d {} ", dir.display());
        assert!(lines(&tmpfiles).any(|line| line.starts_with(&begins)), "{begins}");
    }
    // One guest may have one dynamic neighbour; the rest is the host's own (see the file).
    let sysctl: BTreeMap<_, _> = file("netslot.sysctl")
        .lines()
        .filter_map(|line| line.strip_prefix('-')?.split_once(" = "))
        .map(|(key, value)| (key.to_owned(), value.parse::<u32>().expect("a number")))
        .collect();
    let key = |end: &str| format!("net.ipv6.neigh.default.{end}");
    let derived = [(key("gc_thresh2"), SLOTS_MAX + 512), (key("gc_thresh3"), SLOTS_MAX + 1_024)];
    assert_eq!(sysctl, BTreeMap::from(derived));
    let host_end = address::host_end(SlotId::new(7).expect("in range"));
    for (name, line) in [
        ("10-netslot.network", "Name=slot*"),
        ("10-netslot.link", "OriginalName=slot*"),
        ("netslot.networkmanager", "unmanaged-devices+=interface-name:slot*"),
    ] {
        assert!(host_end.as_str().starts_with("slot") && lines(&file(name)).any(|l| l == line), "{name}");
    }
}

#[test]
fn the_group_and_the_directories_are_made() {
    if !is_there("systemd-sysusers") || !is_there("systemd-tmpfiles") {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("etc")).expect("made");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let at_root = format!("--root={}", root.path().display());
    succeed(Command::new("systemd-sysusers").arg(&at_root).arg(source.join("netslot.sysusers")));
    let groups = fs::read_to_string(root.path().join("etc/group")).expect("made");
    assert!(groups.lines().any(|line| line.starts_with("netslot:")), "{groups}");
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: systemd-tmpfiles needs root");
        return;
    }
    succeed(Command::new("systemd-tmpfiles").args([&*at_root, "--create"]).arg(source.join("netslot.tmpfiles")));
    for dir in ["run/netslot", "run/netns"] {
        let mode = fs::metadata(root.path().join(dir)).expect("made").permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{dir}");
    }
}

#[test]
fn udev_leaves_a_slots_host_end_as_it_is() {
    let Some(world) = World::new() else { return };
    if !is_there("udevadm") {
        return;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    for (dir, name) in [("/run/systemd/network", "10-netslot.link"), ("/run/udev/rules.d", "99-z-netslot.rules")] {
        fs::create_dir_all(dir).expect("made");
        fs::copy(source.join(name), Path::new(dir).join(name)).expect("copied");
    }
    world.ip("link add slot7 type veth peer name slot7x");
    let of = |device: &str| {
        let device = format!("/sys/class/net/{device}");
        succeed(Command::new("udevadm").args(["test", "--action=add", &device]))
    };
    let ours = of("slot7");
    for line in [
        "ID_NET_LINK_FILE=/run/systemd/network/10-netslot.link",
        "ID_NET_NAME=slot7",
        "SYSTEMD_READY=0",
        "NM_UNMANAGED=1",
    ] {
        assert!(ours.lines().any(|l| l == line), "{line}: {ours}");
    }
    let runs = |said: &str| said.lines().any(|l| l.starts_with("run: ") && l.contains("systemd-sysctl"));
    assert!(!runs(&ours), "a process for each slot: {ours}");
    let other = of("uplink0");
    assert!(
        !other.contains("ID_NET_LINK_FILE=/run/systemd/network/10-netslot.link") && !other.contains("SYSTEMD_READY=0"),
        "{other}"
    );
    assert!(runs(&other), "what is dropped for ours is still run for others: {other}");
}
