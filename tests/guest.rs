//! A guest behind a real tap, as behind a VMM: its kernel leaves checksums and segments to its NIC, asks for its address by
//! DHCP, and reaches the network; while no daemon runs.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::daemon::Daemon;
use common::guest::{CHECKSUMS, Guest, SEGMENTS};
use common::private::{has, skipped};
use common::{NETWORK_IP, World};
use netslot::sys::netns::within;

const BULK: usize = 16 << 20;

/// What udhcpc calls: takes the address, the route and the MTU that it was given.
const SCRIPT: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/$mask" dev "$interface"
ip link set "$interface" mtu "$mtu"
ip route replace default via "$router"
"#;

/// The uplink leaves nothing to the receiver that a wire would not carry.
fn as_a_wire() -> bool {
    let done = Command::new("ethtool").args(["-K", "uplink0", "tx", "off"]).output();
    let done = done.is_ok_and(|output| output.status.success());
    if !done {
        skipped("needs ethtool");
    }
    done
}

/// Bytes there and back between the guest and a server in the network, and a datagram.
fn exchange(world: &World, guest: &Guest) {
    let server = within(&world.network, || TcpListener::bind((NETWORK_IP, 7_000)).expect("bound")).expect("entered");
    let echo = within(&world.network, || UdpSocket::bind((NETWORK_IP, 7_000)).expect("bound")).expect("entered");
    echo.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    let sent: Vec<u8> = (0..=250).cycle().take(BULK).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = server.accept().expect("a client").0;
            let mut bytes = vec![0; BULK];
            stream.read_exact(&mut bytes).expect("all of it");
            stream.write_all(&bytes).expect("and back");
            let mut datagram = [0; 2_000];
            let (len, from) = echo.recv_from(&mut datagram).expect("a datagram");
            echo.send_to(&datagram[..len], from).expect("and back");
        });
        let client = within(&guest.netns, || {
            let mut stream = TcpStream::connect((NETWORK_IP, 7_000)).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
            stream.write_all(&sent).expect("written");
            let mut back = vec![0; BULK];
            stream.read_exact(&mut back).expect("everything comes back");
            assert!(back == sent, "as it was sent");
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
            socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
            socket.send_to(&[7; 1_000], (NETWORK_IP, 7_000)).expect("sent");
            let mut datagram = [0; 2_000];
            assert_eq!(socket.recv(&mut datagram).expect("an echo"), 1_000);
        });
        client.expect("entered");
    });
}

#[test]
fn a_guest_that_leaves_checksums_and_segments_to_its_nic_gets_an_address_and_the_network_without_a_daemon() {
    let Some(world) = World::new() else { return };
    if !has("busybox") || !as_a_wire() {
        return;
    }
    let daemon = Daemon::over(&world, "slots = 1");
    daemon.lease();
    daemon.kill();
    let guest = Guest::on(&world.slot(0), CHECKSUMS | SEGMENTS);
    let features = guest.run("ethtool", &["-k", "eth0"]);
    for feature in ["tx-checksumming: on", "tcp-segmentation-offload: on"] {
        assert!(features.contains(feature), "'{feature}' is not in {features}");
    }
    fs::write("/run/udhcpc.sh", SCRIPT).expect("written");
    fs::set_permissions("/run/udhcpc.sh", fs::Permissions::from_mode(0o755)).expect("set");
    guest.run("busybox", &["udhcpc", "-i", "eth0", "-q", "-n", "-f", "-O", "mtu", "-s", "/run/udhcpc.sh"]);
    let addresses = guest.run("ip", &["-4", "addr", "show", "dev", "eth0"]);
    assert!(addresses.contains("172.16.0.2/30") && addresses.contains("mtu 1430"), "{addresses}");
    exchange(&world, &guest);
    let shown = world.json(&["show", "0"]);
    let counters = &shown["counters"];
    // Larger than what a device cuts: segments came in one piece, as a VMM hands them over.
    let (packets, bytes) = (counters["out_packets"].as_u64(), counters["out_bytes"].as_u64());
    let mean = bytes.expect("a number") / packets.expect("a number").max(1);
    assert!(mean > 2_000, "{mean} bytes in a packet: {shown}");
    assert_eq!((&counters["drops"]["malformed"], &counters["drops"]["kernel"]), (&0.into(), &0.into()), "{shown}");
}
