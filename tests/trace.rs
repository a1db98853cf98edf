//! `netslot trace` against real packets: what each hook shows, in lines and in a capture file that others' readers take.

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use common::daemon::{Daemon, args, named, pid};
use common::guest::Guest;
use common::private::has;
use common::{Ended, NETWORK_IP, World};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

/// Starts a trace and waits until its sockets are open.
fn traced(world: &World, args: &[&str]) -> Child {
    let mut command = world.command(&[&["-v", "trace"], args].concat());
    let mut trace = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let told = BufReader::new(trace.stderr.take().expect("piped"));
    let mut lines = told.lines().map_while(Result::ok);
    lines.find(|line| line.contains("watching")).expect("it watches");
    // The rest is read beside, so that the trace never waits for its reader.
    std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
    trace
}

/// Ends a trace as a person does, and gives what it printed.
fn ended(trace: Child) -> Vec<Value> {
    kill(pid(&trace), Signal::SIGINT).expect("it runs");
    let ended = Ended::of(trace.wait_with_output().expect("ended"));
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// Hook, direction and summary of the frames whose summary has those words, in their order.
fn shown<'a>(frames: &'a [Value], words: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let text = |frame: &'a Value, key: &str| frame[key].as_str().expect("a text");
    let frames = frames.iter().map(|frame| (text(frame, "hook"), text(frame, "direction"), text(frame, "summary")));
    frames.filter(|(_, _, summary)| summary.contains(words)).collect()
}

/// The stages of one ping through slot 0, by the source and destination at each.
fn ping_stages(world: &World, forward: &str) {
    let daemon = Daemon::over(world, &format!("slots = 2\nforward = \"{forward}\""));
    let lease = daemon.lease();
    assert_eq!(lease["slot"], 0);
    let guest = Guest::on(&world.slot(0), 0).addressed(1_430);
    let trace = traced(world, &["0", "--json"]);
    guest.run("ping", &["-c1", "-W5", NETWORK_IP]);
    let frames = ended(trace);
    let ends = |words: &str| -> Vec<String> {
        let shown = shown(&frames, words);
        let ends = |summary: &str| summary.split(": ").next().unwrap_or_default().to_owned();
        shown.iter().map(|(hook, direction, summary)| format!("{hook} {direction} {}", ends(summary))).collect()
    };
    assert_eq!(
        ends("echo request"),
        [
            "guest out IPv4 172.16.0.2 > 198.51.100.1",
            "slot out IPv4 172.16.0.2 > 198.51.100.1",
            "uplink out IPv4 100.64.0.2 > 198.51.100.1"
        ],
        "{frames:#?}"
    );
    assert_eq!(
        ends("echo reply"),
        [
            "uplink in IPv4 198.51.100.1 > 100.64.0.2",
            "slot in IPv4 198.51.100.1 > 172.16.0.2",
            "guest in IPv4 198.51.100.1 > 172.16.0.2"
        ],
        "{frames:#?}"
    );
}

#[test]
fn each_hook_shows_the_packet_as_it_is_there() {
    let Some(world) = World::new() else { return };
    ping_stages(&world, "stack");
}

#[test]
fn packets_that_pass_the_stack_by_show_at_each_hook() {
    let Some(world) = World::new() else { return };
    ping_stages(&world, "redirect");
}

#[test]
fn a_binding_in_the_middle_of_a_trace_is_followed_and_the_trace_ends_with_the_lease() {
    let Some(world) = World::new() else { return };
    let daemon = Daemon::over(&world, "slots = 2");
    let id = named(&daemon.lease());
    let guest = Guest::on(&world.slot(0), 0).addressed(1_430);
    let trace = traced(&world, &["0", "--json"]);
    let tenant = ["--vni", "77", "--remote", NETWORK_IP, "--tenant-ip", "10.1.2.3"];
    assert_eq!(world.netslot(&args("bind", &id, &tenant)).code, 0);
    // Until the trace has looked at the binding, what it sees of the uplink is what was the slot's before.
    guest.output("ping", &["-c30", "-i0.1", "-W1", "10.1.2.1"]);
    drop(guest);
    assert_eq!(world.netslot(&args("release", &id, &[])).code, 0);
    let over = Ended::of(trace.wait_with_output().expect("it ends by itself"));
    assert_eq!(over.code, 0, "{over:?}");
    let frames: Vec<Value> = over.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let requests = shown(&frames, "echo request");
    let (hook, direction, summary) = requests.last().expect("it was seen");
    assert_eq!((*hook, *direction), ("uplink", "out"), "{requests:?}");
    assert!(summary.starts_with("IPv4 198.51.100.2."), "{summary}");
    assert!(summary.contains("6081: Geneve, VNI 77: IPv4 10.1.2.3 > 10.1.2.1: ICMP echo request"), "{summary}");
}

#[test]
fn a_capture_is_read_by_others() {
    let Some(world) = World::new() else { return };
    if !has("tshark") || !has("capinfos") {
        return;
    }
    let daemon = Daemon::over(&world, "slots = 1");
    daemon.lease();
    let slot = world.slot(0);
    let guest = Guest::on(&slot, 0).addressed(1_430);
    let file = "/run/trace.pcapng";
    // An ARP question and its answer, and the request, which shows twice.
    let trace = traced(&world, &["0", "-w", file, "-c", "3", "--snaplen", "120"]);
    guest.output("ping", &["-c1", "-W1", "-s", "200", NETWORK_IP]);
    let ended = Ended::of(trace.wait_with_output().expect("ended"));
    assert_eq!((ended.code, &ended.stdout[..]), (0, ""), "{ended:?}");
    let read = |program: &str, args: &[&str]| {
        let read = Ended::of(Command::new(program).args(args).arg(file).output().expect("started"));
        assert_eq!(read.code, 0, "{read:?}");
        read.stdout
    };
    let about = read("capinfos", &["-M"]);
    for words in [
        "pcapng",
        "Number of packets = 3",
        "Number of interfaces in file: 3",
        "Capture comment:     slot 0, lease 1",
        "nanoseconds (9)",
    ] {
        assert!(about.contains(words), "'{words}' is not in {about}");
    }
    let fields =
        ["frame.interface_name", "frame.packet_flags_direction", "frame.len", "frame.cap_len", "_ws.col.Protocol"];
    let fields: Vec<&str> = fields.iter().flat_map(|field| ["-e", field]).collect();
    let frames = read("tshark", &[&["-n", "-T", "fields"], &fields[..], &["-r"]].concat());
    // Direction 1 is inbound, 2 outbound; versions of the reader write the number with more or fewer zeros.
    let frames = frames.replace("0x000000", "0x");
    let expected = ["guest\t0x02\t42\t42\tARP", "guest\t0x01\t42\t42\tARP", "guest\t0x02\t242\t120\tICMP"];
    assert_eq!(frames.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_cannot_be_traced_is_said() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    world.json(&["up"]);
    world.netslot(&["trace", "7"]).is_refused(1, &["there is no slot 7"]);
    world.netslot(&["trace", "0", "-w", "/nowhere/file", "-c", "1"]).is_refused(1, &["open /nowhere/file"]);
    world.netslot(&["trace", "0", "--snaplen", "1"]).is_refused(2, &["--snaplen"]);
}
