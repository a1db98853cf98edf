//! `netslot trace` against real packets: what each hook shows, in lines and in a capture file that others' readers take.

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use common::guest::Guest;
use common::private::has;
use common::{Ended, NETWORK_IP, World};

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

#[test]
fn a_capture_is_read_by_others() {
    let Some(world) = World::new() else { return };
    if !has("tshark") || !has("capinfos") {
        return;
    }
    world.configure("slots = 1");
    world.json(&["up"]);
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
        "Capture comment:     slot 0",
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
