//! The daemon's clients end to end: a real pool, the real daemon, the real commands.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use common::daemon::{Daemon, args, eventually, named, number, pid};
use common::{Ended, NETWORK_IP, World};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

#[test]
fn a_lease_is_listed_shown_and_given_back_once() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 3");
    let lease = world.json(&["lease", "--tag", "web-7"]);
    assert_eq!(lease["tap"], "tap0");
    assert!(fs::exists(lease["netns_path"].as_str().expect("a path")).expect("a name"));
    let name = lease["netns"].as_str().expect("a name");
    assert!(world.ip(&format!("netns exec {name} ip link")).contains("tap0"), "the name leads into the slot");

    let leased = daemon.slots("leased");
    assert_eq!(leased.len(), 1);
    assert_eq!((&leased[0]["slot"], &leased[0]["generation"]), (&lease["slot"], &lease["generation"]));
    assert_eq!((&leased[0]["owner"]["tag"], &leased[0]["owner"]["policy"]), (&"web-7".into(), &"explicit".into()));
    assert_eq!(leased[0]["owner"]["uid"], 0);
    assert_eq!(world.json(&["list", "--tag", "web-7"]).as_array().map(Vec::len), Some(1));
    assert_eq!(world.json(&["list", "--uid", "1"]).as_array().map(Vec::len), Some(0));
    let slot = number(&lease, "slot");
    assert_eq!(world.json(&["show", &slot])["owner"]["tag"], "web-7");
    let status = world.json(&["status"]);
    assert_eq!((&status["slots"], &status["leased"], &status["free"]), (&3.into(), &1.into(), &2.into()));

    let id = named(&lease);
    assert_eq!(world.netslot(&args("release", &id, &[])).code, 0);
    let path = lease["netns_path"].as_str().expect("a path");
    eventually("the name is gone", || fs::symlink_metadata(path).is_err());
    world.netslot(&args("release", &id, &[])).is_refused(7, &["stale-generation"]);
    eventually("the slot is clean", || daemon.slots("free").len() == 3);
}

#[test]
fn several_leases_are_one_object_a_line_and_all_or_none() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 4");
    let three = world.netslot(&["lease", "--count", "3", "--json"]);
    assert_eq!(three.code, 0, "{three:?}");
    let leases: Vec<Value> = three.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(leases.len(), 3);
    world.netslot(&["lease", "--count", "2"]).is_refused(6, &["pool-empty"]);
    assert_eq!(daemon.slots("leased").len(), 3, "none where not all");
    world.netslot(&["lease", "--count", "2", "--wait", "50ms"]).is_refused(6, &["timed-out"]);

    let waiting = world.command(&["lease", "--count", "2", "--wait", "60s", "--json"]);
    let waiting = spawn(waiting);
    eventually("it waits", || world.json(&["status"])["waiters"] == 1);
    assert_eq!(world.netslot(&args("release", &named(&leases[0]), &[])).code, 0);
    let ended = Ended::of(waiting.wait_with_output().expect("it ends"));
    assert_eq!((ended.code, ended.stdout.lines().count()), (0, 2), "{ended:?}");
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
}

#[test]
fn a_lease_that_nobody_can_learn_of_is_given_back() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 2");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = world.command(&["lease", "--count", "2"]);
    let ended = Ended::of(
        command.stdout(writer).stderr(Stdio::piped()).spawn().expect("started").wait_with_output().expect("ended"),
    );
    ended.is_refused(1, &["given back"]);
    eventually("both slots are clean", || daemon.slots("free").len() == 2);
}

#[test]
fn a_lease_by_policy_lasts_as_long_as_its_command() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 2");
    for policy in ["on-exit", "on-disconnect"] {
        let mut holder = spawn(world.command(&["lease", "--policy", policy, "--json"]));
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it prints at once");
        assert_eq!(daemon.slots("leased")[0]["owner"]["policy"], policy);
        holder.kill().expect("killed");
        holder.wait().expect("ended");
        eventually("the slot is clean", || daemon.slots("free").len() == 2);
    }
}

#[test]
fn a_binding_is_shown_replaced_and_taken_away() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 2");
    let (first, second) = (daemon.lease(), daemon.lease());
    let (a, b) = (named(&first), named(&second));
    let tenant = ["--vni", "7", "--remote", "198.51.100.1", "--tenant-ip", "10.0.0.4"];
    assert_eq!(world.netslot(&args("bind", &a, &tenant)).code, 0);
    let binding = &world.json(&["show", &a[0]])["binding"];
    assert_eq!((&binding["vni"], &binding["tenant_ip"]), (&7.into(), &"10.0.0.4".into()));
    world.netslot(&args("bind", &b, &tenant)).is_refused(7, &["address-in-use"]);
    let other = ["--vni", "8", "--remote", "198.51.100.1", "--tenant-ip", "10.0.0.4"];
    assert_eq!(world.netslot(&args("bind", &b, &other)).code, 0, "another network, another address space");
    assert_eq!(world.netslot(&args("unbind", &a, &[])).code, 0);
    assert_eq!(world.json(&["show", &a[0]])["binding"], Value::Null);
    assert_eq!(world.netslot(&args("release", &a, &[])).code, 0);
    world.netslot(&args("bind", &a, &tenant)).is_refused(7, &["stale-generation"]);
}

#[test]
fn exec_runs_a_program_inside_and_ends_as_it_does() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 1");
    // What the host has below /sys stays: jailers look for cgroups there.
    mount(Some("x"), "/sys/fs/cgroup", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mounted");
    fs::write("/sys/fs/cgroup/marker", "").expect("written");
    let script = "\
env | grep ^NETSLOT_
[ -e $NETSLOT_NETNS_PATH ] && echo named
ls /sys/class/net /sys/fs/cgroup
readlink /proc/self/ns/net
exit 42";
    let ran = world.netslot(&["exec", "--wait", "60s", "--", "sh", "-c", script]);
    assert_eq!(ran.code, 42, "{ran:?}");
    for line in ["NETSLOT_SLOT=0", "NETSLOT_TAP=tap0", "NETSLOT_GUEST_IP=172.16.0.2", "tap0", "br0", "marker", "named"]
    {
        assert!(ran.stdout.lines().any(|l| l == line), "'{line}' is not in: {ran:?}");
    }
    assert!(!ran.stdout.contains("uplink0"), "/sys shows the host's devices: {ran:?}");
    let host = fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
    assert!(!ran.stdout.contains(host.to_str().expect("text")), "it ran in the host's namespace: {ran:?}");
    assert!(fs::exists("/sys/class/net/uplink0").expect("looked"), "the host's own /sys is as it was");

    // One slot: each of these waits for the one before to have given it back.
    let args = |command: &'static [&'static str]| [&["exec", "--wait", "60s", "--"], command].concat();
    world.netslot(&args(&["/nonexistent"])).is_refused(127, &["run /nonexistent"]);
    world.netslot(&args(&["/dev/null"])).is_refused(126, &["run /dev/null"]);
    for (signal, code) in [(Signal::SIGTERM, 15), (Signal::SIGKILL, 9)] {
        let mut running = spawn(world.command(&args(&["sh", "-c", "echo; exec sleep 600"])));
        running.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it has started");
        kill(pid(&running), signal).expect("sent");
        let status = running.wait().expect("ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(code));
    }
    eventually("the slot is clean", || daemon.slots("free").len() == 1);
}

#[test]
fn a_slot_without_a_guest_is_its_programs_own() {
    let Some(world) = World::new() else { return };
    let _daemon = Daemon::over(&world, "slots = 1");
    let ping = ["--wait", "60s", "--", "ping", "-c1", "-W20", NETWORK_IP];
    let reached = world.netslot(&[&["exec", "--no-guest"], &ping[..]].concat());
    assert_eq!(reached.code, 0, "{reached:?}");
    let unanswered = world.netslot(&[&["exec"], &ping[..]].concat());
    assert_eq!(unanswered.code, 1, "what comes back is the guest's: {unanswered:?}");
}

#[test]
fn a_binding_that_the_programs_could_not_carry_is_refused_and_changes_nothing() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 2");
    let (a, b) = (named(&daemon.lease()), named(&daemon.lease()));
    let bound = |slot: &[String; 3]| world.json(&["show", &slot[0]])["binding"].clone();
    let to = |remote, ip| ["--vni", "7", "--remote", remote, "--tenant-ip", ip];
    assert_eq!(world.netslot(&args("bind", &a, &to("198.51.100.1", "10.0.0.4"))).code, 0);
    let before = bound(&a);
    // The world's uplink has IPv4 alone.
    for (remote, ip, words) in [
        ("2001:db8::9", "10.0.0.5", ["remote-family", "no IPv6 address"]),
        ("198.51.100.2", "10.0.0.5", ["bad-argument", "another host"]),
        ("224.0.0.1", "10.0.0.5", ["bad-argument", "unicast"]),
        ("198.51.100.1", "127.0.0.1", ["bad-argument", "unicast"]),
    ] {
        world.netslot(&args("bind", &a, &to(remote, ip))).is_refused(7, &words);
        assert_eq!(bound(&a), before, "{remote} {ip}");
    }
    world.netslot(&args("bind", &b, &to("198.51.100.1", "10.0.0.4"))).is_refused(7, &["address-in-use", "slot 0"]);
    assert!(bound(&b).is_null());
    let wide = ["--vni", "16777216", "--remote", "198.51.100.1", "--tenant-ip", "10.0.0.5"];
    world.netslot(&args("bind", &b, &wide)).is_refused(2, &["1 to 16777215"]);
}

#[test]
fn a_map_that_takes_nothing_more_refuses_a_binding_and_leaves_no_half_of_it() {
    let Some(world) = World::new() else { return };
    if !common::private::has("bpftool") {
        return;
    }
    let daemon = Daemon::over(&world, "slots = 1");
    let id = named(&daemon.lease());
    let frozen = Command::new("bpftool").args(["map", "freeze", "pinned", "/sys/fs/bpf/netslot/tenants"]).status();
    assert!(frozen.expect("started").success());
    let tenant = ["--vni", "7", "--remote", "198.51.100.1", "--tenant-ip", "10.0.0.4"];
    world.netslot(&args("bind", &id, &tenant)).is_refused(1, &["could not be stored", "not permitted"]);
    assert!(world.json(&["show", &id[0]])["binding"].is_null());
}

#[test]
fn a_missing_map_is_told_and_nothing_is_served() {
    let Some(world) = World::new() else { return };
    drop(Daemon::over(&world, "slots = 1"));
    fs::remove_file("/sys/fs/bpf/netslot/tenants").expect("there");
    let ended = world.netslot(&["serve"]);
    ended.is_refused(1, &["/sys/fs/bpf/netslot/tenants is missing", "netslot destroy"]);
}

#[test]
fn exec_binds_before_the_program_starts() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 1");
    let tenant = ["--vni", "7", "--remote", "198.51.100.1", "--tenant-ip", "10.0.0.4"];
    let mut running =
        spawn(world.command(&[&["exec"], &tenant[..], &["--", "sh", "-c", "echo; exec sleep 600"]].concat()));
    running.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it has started");
    assert_eq!(daemon.slots("leased")[0]["binding"]["vni"], 7);
    running.kill().expect("killed");
    running.wait().expect("ended");
    eventually("the slot is clean", || daemon.slots("free").len() == 1);
    assert_eq!(world.json(&["show", "0"])["binding"], Value::Null);
}

#[test]
fn leases_outlive_the_daemon() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 2");
    let kept = daemon.lease();
    let mut running = spawn(world.command(&["exec", "--", "sh", "-c", "echo; exec sleep 600"]));
    running.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it has started");
    daemon.kill();
    world.netslot(&["status"]).is_refused(5, &["no daemon at", "netslot serve"]);
    let daemon = Daemon::start(&world);
    assert_eq!(daemon.slots("leased").len(), 2);
    running.kill().expect("killed");
    running.wait().expect("ended");
    eventually("the program's slot is clean", || daemon.slots("free").len() == 1);
    assert_eq!(world.netslot(&args("release", &named(&kept), &[])).code, 0);
}

#[test]
fn who_may_not_talk_to_the_daemon_is_told_so() {
    let Some(world) = World::new() else { return };
    let _daemon = Daemon::over(&world, "slots = 1");
    // The binary and the configuration lie where only root reads: a copy, and the socket by name.
    let binary = std::path::Path::new("/run/netslot-copy");
    fs::copy(world.command(&[]).get_program(), binary).expect("copied");
    let mut command = Command::new(binary);
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let ended = Ended::of(command.args(["--socket", "/run/netslot/netslot.sock", "status"]).output().expect("started"));
    ended.is_refused(5, &["not permitted"]);
}
