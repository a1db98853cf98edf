//! The same guest, slot, host and network, joined in three ways that take turns: by the programs through the host's stack,
//! by the programs past it, and by the kernel's connection tracking, which masquerades once in the slot and once at the
//! uplink.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netslot::config::Forward;
use netslot::sys::netns::within;
use serde_json::{Value, json};

use crate::datapath_world::private::inside;
use crate::datapath_world::{NETWORK, World};
use crate::{percentile, println_json, sorted};

const WAYS: [&str; 3] = ["stack", "redirect", "masquerade twice"];

pub fn measure(turns: usize, seconds: u32, rounds: usize) {
    for turn in 0..turns {
        for at in 0..WAYS.len() {
            let way = WAYS[(turn + at) % WAYS.len()];
            // A thread of its own: a world is a thread's namespaces, and gone with it.
            let told = thread::spawn(move || one(way, seconds, rounds)).join().expect("no panic");
            let Some(mut told) = told else { return };
            told["what"] = "path".into();
            told["turn"] = turn.into();
            println_json(&told);
        }
    }
}

fn one(way: &str, seconds: u32, rounds: usize) -> Option<Value> {
    let forward = if way == "redirect" { Forward::Redirect } else { Forward::Stack };
    let mut world = World::bare(|config| config.forward = forward)?;
    if way == "masquerade twice" {
        for (place, device) in [(Some("s0"), "up0"), (None, "uplink0")] {
            let rules = format!(
                "add table ip nat; add chain ip nat post {{ type nat hook postrouting priority srcnat; }}; \
                 add rule ip nat post oifname \"{device}\" masquerade"
            );
            let mut nft = place.map_or_else(
                || Command::new("nft"),
                |netns| {
                    let mut command = Command::new("ip");
                    command.args(["netns", "exec", netns, "nft"]);
                    command
                },
            );
            assert!(nft.arg(&rules).status().expect("nft is there").success(), "{rules}");
        }
    } else {
        world.attach();
        world.lease_all();
    }
    assert!(world.pings(&world.guests[0], NETWORK), "{way}: no way");
    let trips = round_trips(&world.guests[0], &world.network, rounds);
    let (out, back) = (transfer(&world, seconds, &[]), transfer(&world, seconds, &["-R"]));
    let tracked = world.tracked_here();
    Some(json!({
        "way": way, "rtt_p50_us": percentile(&trips, 50), "rtt_p99_us": percentile(&trips, 99),
        "out_gbit": out, "in_gbit": back, "tracked_on_host": tracked
    }))
}

/// Microseconds of round trips of a small datagram from one namespace to an echo in another.
fn round_trips(from: &OwnedFd, to: &OwnedFd, rounds: usize) -> Vec<f64> {
    let echo = within(to, || UdpSocket::bind((NETWORK, 4_001)).expect("bound")).expect("entered");
    let asker = within(from, || UdpSocket::bind("0.0.0.0:0").expect("bound")).expect("entered");
    asker.connect((NETWORK, 4_001)).expect("connected");
    asker.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    thread::spawn(move || {
        let mut byte = [0; 16];
        // An empty datagram ends it.
        while let Ok((len @ 1.., from)) = echo.recv_from(&mut byte) {
            echo.send_to(&byte[..len], from).expect("sent");
        }
    });
    let mut byte = [0; 16];
    let mut trip = || {
        let began = Instant::now();
        asker.send(&[1]).expect("sent");
        asker.recv(&mut byte).expect("an echo");
        began.elapsed().as_secs_f64() * 1e6
    };
    for _ in 0..rounds / 10 {
        trip();
    }
    let trips = sorted((0..rounds).map(|_| trip()).collect());
    asker.send(&[]).expect("sent");
    trips
}

/// Gbit per second of one TCP stream.
fn transfer(world: &World, seconds: u32, more: &[&str]) -> f64 {
    let mut server = inside(&world.network, "iperf3");
    server.args(["-s", "-1", "-B", NETWORK]);
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("iperf3 is there");
    thread::sleep(Duration::from_millis(300));
    let seconds = seconds.to_string();
    let args = [&["-c", NETWORK, "-t", &seconds, "-J"], more].concat();
    let told = inside(&world.guests[0], "iperf3").args(args).output().expect("iperf3 is there");
    server.wait().expect("it ends with its client");
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    told["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_else(|| panic!("{told}")) / 1e9
}

pub fn attach(slots: u32) {
    let told = thread::spawn(move || {
        let mut world = World::bare(|config| config.slots = slots)?;
        // As the pass has them: not raised yet.
        for slot in 0..slots {
            world.ip(&format!("link set slot{slot} down"));
            world.ip(&format!("-n s{slot} link set tap0 down"));
        }
        let [joined, hung, taps] = world.attach();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(slots);
        Some(json!({
            "what": "attach", "slots": slots, "join_us": each(joined), "tap_us": each(taps),
            "programs_once_us": hung.as_secs_f64() * 1e6
        }))
    });
    if let Some(told) = told.join().expect("no panic") {
        println_json(&told);
    }
}
