//! Bound slots against the kernel's own geneve devices: a tenant's far end is one with the real VNI, in a namespace of its
//! own. Both tunnel modes. Runs in a VM whose kernel has geneve, started there by tests/vm.

#[path = "../common/mod.rs"]
mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use common::daemon::{Daemon, eventually};
use common::guest::{CHECKSUMS, Guest, SEGMENTS};
use common::{HOST_IP, NETWORK_IP, World};
use netslot::sys::netns::{self, within};
use serde_json::Value;

/// The tenants' router has the same address in each network.
const ROUTER: &str = "10.1.2.1";

/// A tenant's network beyond the uplink: a namespace with the kernel's geneve device of that VNI.
fn tenant(world: &World, vni: u32, slots: &[&str]) -> OwnedFd {
    let there = std::thread::spawn(|| {
        netns::make().expect("a namespace");
        netns::current().expect("our own")
    });
    let there = there.join().expect("made");
    let name = format!("tenant{vni}");
    let path = format!("/run/netns/{name}");
    std::os::unix::fs::symlink(format!("/proc/{}/fd/{}", std::process::id(), there.as_raw_fd()), path).expect("a name");
    let ip = |netns: &OwnedFd, line: &str| drop(world.in_netns(netns, "ip", &line.split(' ').collect::<Vec<_>>()));
    ip(&world.network, &format!("link add gnv{vni} type geneve id {vni} remote {HOST_IP} dstport 6081"));
    ip(&world.network, &format!("link set gnv{vni} netns {name}"));
    // Frames from a slot are for its gateway.
    ip(&there, &format!("link set gnv{vni} address 06:00:ac:10:00:01 mtu 1430 up"));
    ip(&there, "link set lo up");
    ip(&there, &format!("addr add {ROUTER}/24 dev gnv{vni}"));
    for slot in slots {
        ip(&there, &format!("neigh add {slot} lladdr 06:00:ac:10:00:02 dev gnv{vni} nud permanent"));
    }
    there
}

fn bind(world: &World, lease: &Value, vni: u32, tenant: &str) {
    let (slot, generation) = (lease["slot"].to_string(), lease["generation"].to_string());
    let vni = vni.to_string();
    let line =
        ["bind", &slot, "--generation", &generation, "--vni", &vni, "--remote", NETWORK_IP, "--tenant-ip", tenant];
    let ended = world.netslot(&line);
    assert_eq!(ended.code, 0, "{ended:?}");
}

fn pings(world: &World, from: &OwnedFd, to: &str) -> bool {
    world.works_in(from, "ping", &["-c", "2", "-W", "3", to])
}

/// What a failure should show: counters and drops of each slot, and of the devices on the way.
fn told(world: &World, leases: &[Value], tenant: &OwnedFd) -> String {
    let mut told = String::new();
    for lease in leases {
        told += &world.netslot(&["show", &lease["slot"].to_string()]).stdout;
        let slot = world.slot(u32::try_from(lease["slot"].as_u64().expect("a number")).expect("small"));
        told += &world.in_netns(&slot, "ip", &["-s", "-d", "link"]);
        told += &world.in_netns(&slot, "ip", &["rule"]);
        let knobs = "grep . /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/forwarding; nstat -az | grep -v ' 0 '";
        told += &world.in_netns(&slot, "sh", &["-c", knobs]);
        told += &world.in_netns(&slot, "ip", &["route", "show", "table", "all"]);
    }
    for line in ["-s link", "route", "neigh"] {
        told += &world.ip(line);
    }
    told + &world.in_netns(tenant, "ip", &["-s", "-d", "link"])
}

/// Who answers there, asked from that network; it sends a megabyte before, so that segments and their checksums count.
fn who(from: &OwnedFd, address: &str) -> String {
    let address = format!("{address}:7000").parse().expect("an address");
    let asked = within(from, || TcpStream::connect_timeout(&address, Duration::from_secs(20)));
    let mut stream = asked.expect("entered").expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("read");
    let name = said.split_off(1 << 20);
    assert!(said.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8), "each byte in its place");
    String::from_utf8(name).expect("a name")
}

/// Answers every connection in that namespace with a megabyte and a name.
fn answers(netns: &OwnedFd, name: &'static str) {
    let listener = within(netns, || TcpListener::bind("0.0.0.0:7000").expect("bound")).expect("entered");
    std::thread::spawn(move || {
        let mut text: Vec<u8> = (0..1_usize << 20).map(|n| (n % 251) as u8).collect();
        text.extend(name.as_bytes());
        for stream in listener.incoming() {
            let _ = stream.expect("accepted").write_all(&text);
        }
    });
}

fn tenants_are_reached_and_kept_apart(tunnel: &str) {
    let Some(world) = World::new() else { return };
    let (red, blue) =
        (tenant(&world, 5_001, &["10.1.2.3", "10.1.2.4"]), tenant(&world, 5_002, &["10.1.2.3", "10.1.2.9"]));
    answers(&red, "red");
    answers(&blue, "blue");
    let daemon = Daemon::over(&world, &format!("slots = 4\ntunnel = \"{tunnel}\""));
    let leases = [daemon.lease(), daemon.lease(), daemon.lease()];
    let guests = leases.each_ref().map(|lease| {
        let number = u32::try_from(lease["slot"].as_u64().expect("a number")).expect("small");
        let mtu = u32::try_from(lease["mtu"].as_u64().expect("a number")).expect("small");
        Guest::on(&world.slot(number), CHECKSUMS | SEGMENTS).addressed(mtu)
    });
    for (guest, name) in guests.iter().zip(["a", "b", "c"]) {
        answers(&guest.netns, name);
    }
    let [a, b, c] = guests.each_ref().map(|guest| &guest.netns);
    assert!(pings(&world, a, NETWORK_IP), "unbound, a slot has the uplink");
    assert!(!pings(&world, a, ROUTER), "and no tenant");

    // The same VNI and two addresses; another VNI and the same address.
    bind(&world, &leases[0], 5_001, "10.1.2.3");
    bind(&world, &leases[1], 5_001, "10.1.2.4");
    bind(&world, &leases[2], 5_002, "10.1.2.3");
    for (guest, router) in [(a, "red"), (b, "red"), (c, "blue")] {
        assert!(pings(&world, guest, ROUTER), "{router}: {}", told(&world, &leases, &red));
        assert_eq!(who(guest, ROUTER), router);
        assert!(!pings(&world, guest, HOST_IP), "a bound slot has no other way");
    }
    assert_eq!([who(&red, "10.1.2.3"), who(&red, "10.1.2.4"), who(&blue, "10.1.2.3")], ["a", "b", "c"]);

    // Bound to another tenant in the middle of a stream: what was sent before is not answered, what follows is.
    let pinging = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| guests[0].output("ping", &["-i", "0.2", "-c", "60", "-W", "2", ROUTER]));
        std::thread::sleep(Duration::from_secs(2));
        bind(&world, &leases[0], 5_002, "10.1.2.9");
        pinging.join().expect("no panic")
    });
    let told = String::from_utf8_lossy(&pinging.stdout).into_owned();
    // One that is under way when the binding changes goes out under the old one, and its answer is the old tenant's.
    assert!(told.matches("bytes from").count() >= 59, "neither side missed one: {told}");
    assert_eq!((who(a, ROUTER), who(&blue, "10.1.2.9")), ("blue".into(), "a".into()));
    assert!(!pings(&world, &red, "10.1.2.3"), "the old address is nobody's");

    let unbind = ["unbind", &leases[0]["slot"].to_string(), "--generation", &leases[0]["generation"].to_string()];
    assert_eq!(world.netslot(&unbind).code, 0);
    assert!(!pings(&world, a, ROUTER));
    eventually("unbound, the slot has the uplink again", || pings(&world, a, NETWORK_IP));
    drop(daemon);
    assert!(pings(&world, b, ROUTER), "packets need no daemon");
}

#[test]
fn ebpf_tunnels_reach_the_kernels_geneve() {
    tenants_are_reached_and_kept_apart("ebpf");
}

#[test]
fn geneve_devices_are_given_their_real_vni() {
    tenants_are_reached_and_kept_apart("geneve");
}

#[test]
fn a_slot_made_anew_gets_its_tunnel_while_somebody_holds_the_old_one() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 2\ntunnel = \"geneve\"");
    world.json(&["up"]);
    let held = world.slot(0);
    world.in_netns(&held, "ip", &["link", "set", "br0", "address", "02:00:00:00:00:01"]);
    // The slot's VNI is given once: the kernel refuses a second device that has it.
    let mended = world.json(&["up"]);
    assert_eq!(["adopted", "created", "removed"].map(|k| mended[k].as_u64()), [Some(1), Some(1), Some(1)]);
    assert_eq!(world.in_netns(&held, "ip", &["-o", "link"]).lines().count(), 1, "loopback alone");
}
