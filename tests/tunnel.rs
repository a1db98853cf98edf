//! Real traffic through the tunnel: guests, a host with the programs attached by the real code, and the far end of a tunnel
//! of our own, from the written format (RFC 8926), over either underlay.
#![allow(
    unsafe_code,
    reason = "a socket is told to take packets without a checksum by an option that no library wraps"
)]

mod datapath_world;
#[path = "common/frames.rs"]
mod frames;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use datapath_world::exchange::{exchange, serve};
use datapath_world::{HOST, HOST6, NETWORK, NETWORK6, VNET_BYTES, World};
use netslot::config::Forward;
use netslot::sys::netns::within;
use netslot_abi::{BindingRecord, bind_mode};
use nix::libc;

const VNI: u32 = 77;
const TENANT6: [u8; 16] = [0xfd, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];

/// The far end of a tunnel: what comes out of the network's tap goes into Geneve towards the host, with so many words of
/// options, and what comes in Geneve with the VNI goes into the tap.
struct Endpoint {
    done: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Endpoint {
    fn new(world: &World, own: &'static str, host: &'static str, options: u8) -> Self {
        let tap = world.tap_in_network("ten0", "10.1.2.1/24", "02:00:00:00:00:01");
        let udp = within(&world.network, || UdpSocket::bind((own, 6_081)).expect("bound")).expect("entered");
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        take_without_checksum(&udp);
        let [_, a, b, c] = VNI.to_be_bytes();
        let header = [options, 0, 0x65, 0x58, a, b, c, 0];
        let done = Arc::new(AtomicBool::new(false));
        let (mut reader, mut writer) = (tap.try_clone().expect("a descriptor"), tap);
        let (sender, stop) = (udp.try_clone().expect("a descriptor"), Arc::clone(&done));
        // Options of a class that nobody has to understand.
        let words = [0xff, 0xff, 0, 0].repeat(usize::from(options));
        let outwards = thread::spawn(move || {
            let mut frame = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                match reader.read(&mut frame) {
                    Ok(len) => {
                        let packet = [&header[..], &words, &frame[VNET_BYTES..len]].concat();
                        sender.send_to(&packet, (host, 6_081)).expect("sent");
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_micros(100)),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let stop = Arc::clone(&done);
        let inwards = thread::spawn(move || {
            let mut packet = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((len, _)) = udp.recv_from(&mut packet) {
                    assert!(len < 1_500, "a packet of {len} bytes was not cut to the wire's size");
                    assert_eq!(packet[..8], [0, 0, 0x65, 0x58, a, b, c, 0], "plain Geneve with the bound VNI");
                    frames::adds_up(&packet[8..len]);
                    let frame = [&[0; VNET_BYTES][..], &packet[8..len]].concat();
                    writer.write_all(&frame).expect("written");
                }
            }
        });
        Self { done, threads: vec![outwards, inwards] }
    }

    fn end(self) {
        self.done.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

/// Over IPv6 a packet without a UDP checksum is for those alone who ask for it (RFC 6935); a kernel's geneve device does
/// with `udp6zerocsumrx`.
fn take_without_checksum(socket: &UdpSocket) {
    const UDP_NO_CHECK6_RX: libc::c_int = 102;
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).expect("four");
    // SAFETY: a number and its size that live through the call.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, (&raw const on).cast(), size)
    };
    assert_eq!(set, 0, "UDP_NO_CHECK6_RX");
}

/// Slot 1 bound to that remote, in a world whose uplink is as a wire is.
fn bound_world(remote: &str) -> Option<World> {
    let mut world = World::new(Forward::Stack)?;
    world.lease_all();
    // The tunnel's headers must be on each segment that leaves, and the inner checksums complete.
    if !world.as_a_wire() {
        return None;
    }
    // Room for the outer headers over IPv6 and for options, which the MTU of 1,450 inside leaves none for.
    for line in ["link set uplink0 mtu 1600", "-n network link set net0 mtu 1600"] {
        world.ip(line);
    }
    let mut binding = BindingRecord {
        generation: 1,
        vni: VNI,
        tenant_v4: [10, 1, 2, 3],
        tenant_v6: TENANT6,
        mode: bind_mode::TUNNEL,
        peer_mac: [2, 0, 0, 0, 0, 1],
        ..Default::default()
    };
    match remote.parse().expect("an address") {
        std::net::IpAddr::V4(remote) => {
            binding.remote_family = 4;
            binding.remote[..4].copy_from_slice(&remote.octets());
        }
        std::net::IpAddr::V6(remote) => {
            binding.remote_family = 6;
            binding.remote = remote.octets();
        }
    }
    world.bind(1, &binding);
    Some(world)
}

fn tenant_is_reached(remote: &'static str, host: &'static str, options: u8) {
    let Some(world) = bound_world(remote) else { return };
    let far = Endpoint::new(&world, remote, host, options);
    let bound = &world.guests[1];
    for (to, server) in [("10.1.2.1", "10.1.2.1:7000"), ("fdaa::1", "[fdaa::1]:7000")] {
        assert!(world.pings(bound, to), "{to}: {:?}", world.counters(1));
        let over = Arc::new(AtomicBool::new(false));
        let serving = serve(&world, server, 1, Arc::clone(&over));
        within(bound, || exchange(server, 9)).expect("entered");
        over.store(true, Ordering::Relaxed);
        serving.join().expect("served");
    }
    far.end();
}

#[test]
fn both_families_reach_their_tenant_over_ipv4() {
    tenant_is_reached(NETWORK, HOST, 0);
}

#[test]
fn both_families_reach_their_tenant_over_ipv6_from_an_endpoint_that_sends_options() {
    tenant_is_reached(NETWORK6, HOST6, 5);
}

#[test]
fn a_bound_slot_reaches_nobody_but_its_tenant() {
    let Some(mut world) = bound_world(NETWORK) else { return };
    let far = Endpoint::new(&world, NETWORK, HOST, 0);
    assert!(world.pings(&world.guests[1], "10.1.2.1"), "{:?}", world.counters(1));
    // An address that only the host has: nothing beyond the tunnel knows it.
    world.ip("addr add 203.0.113.5/32 dev uplink0");
    assert!(!world.pings(&world.guests[1], "203.0.113.5"), "a bound slot has no other way out");
    assert!(world.pings(&world.guests[0], "203.0.113.5"), "an unbound one has");
    world.lease_anew(1);
    assert!(world.pings(&world.guests[1], "203.0.113.5"), "the binding died with its lease");
    far.end();
}
