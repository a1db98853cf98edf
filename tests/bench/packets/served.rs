//! With the real daemon and the real pool: a round trip through the first slot beside one through the last, and the time from
//! asking for a binding to the first packet at the far end of the tunnel with the real VNI.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use netslot::sys::netns::within;
use netslot_protocol::client::{Client, Lease, LeaseOptions};
use netslot_protocol::{Binding, Ip};
use serde_json::json;

use crate::datapath_world::NETWORK;
use crate::{percentile, println_json, sorted};

const BLOCK: usize = 250;
const VNI: u32 = 5_001;

pub fn measure(socket: &Path, rounds: usize) {
    let mut client = Client::connect(socket).expect("a daemon");
    let network: OwnedFd = File::open("/run/netns/network").expect("the world's").into();
    let last = client.hello().pool.slots - 1;
    let (mut first_lease, mut last_lease) = (None, None);
    while first_lease.is_none() || last_lease.is_none() {
        let ask = LeaseOptions { want_netns: true, own_stack: true, ..LeaseOptions::default() };
        let lease = client.lease(&ask).expect("a slot").pop().expect("one");
        match lease.id.slot {
            0 => first_lease = Some(lease),
            slot if slot == last => last_lease = Some(lease),
            _ => {}
        }
    }
    let ends = [first_lease.expect("leased"), last_lease.expect("leased")];
    both_ends(&ends, &network, rounds);
    bindings(&mut client, &ends[0], &network, rounds);
}

fn asker(lease: &Lease, to: &str) -> UdpSocket {
    let netns = lease.netns.as_ref().expect("asked for");
    let socket = within(netns, || UdpSocket::bind("0.0.0.0:0").expect("bound")).expect("entered");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    socket.connect(to).expect("connected");
    socket
}

fn both_ends(ends: &[Lease; 2], network: &OwnedFd, rounds: usize) {
    let echo = within(network, || UdpSocket::bind((NETWORK, 4_001)).expect("bound")).expect("entered");
    thread::spawn(move || {
        let mut byte = [0; 16];
        while let Ok((len, from)) = echo.recv_from(&mut byte) {
            echo.send_to(&byte[..len], from).expect("sent");
        }
    });
    let askers = ends.each_ref().map(|lease| asker(lease, "198.51.100.1:4001"));
    let mut trips = [Vec::new(), Vec::new()];
    let mut byte = [0; 16];
    // In turns, so that whatever else the machine does meets both.
    for block in 0..rounds.div_ceil(BLOCK) + 1 {
        for (asker, trips) in askers.iter().zip(&mut trips) {
            for _ in 0..BLOCK {
                let began = Instant::now();
                asker.send(&[1]).expect("sent");
                asker.recv(&mut byte).expect("an echo");
                // The first block warms up.
                if block > 0 {
                    trips.push(began.elapsed().as_secs_f64() * 1e6);
                }
            }
        }
    }
    let [first, last] = trips.map(sorted);
    let p50 = [&first, &last].map(|trips| percentile(trips, 50));
    println_json(&json!({
        "what": "ends", "slots": [ends[0].id.slot, ends[1].id.slot], "first_p50_us": p50[0], "last_p50_us": p50[1],
        "first_p99_us": percentile(&first, 99), "last_p99_us": percentile(&last, 99), "ratio_p50": p50[1] / p50[0]
    }));
}

fn bindings(client: &mut Client, lease: &Lease, network: &OwnedFd, rounds: usize) {
    let endpoint = within(network, || UdpSocket::bind((NETWORK, 6_081)).expect("bound")).expect("entered");
    endpoint.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    let sender = asker(lease, "10.1.2.1:9");
    let binding =
        Binding { vni: VNI, remote: Ip::V4([198, 51, 100, 1]), tenant_v4: Some([10, 1, 2, 3]), tenant_v6: None };
    let (mut bound, mut seen) = (Vec::new(), Vec::new());
    let mut packet = [0; 2_048];
    for _ in 0..rounds {
        let began = Instant::now();
        client.bind(lease.id, binding).expect("bound");
        bound.push(began.elapsed().as_secs_f64() * 1e6);
        sender.send(&[1]).expect("sent");
        let (len, _) = endpoint.recv_from(&mut packet).expect("a packet");
        seen.push(began.elapsed().as_secs_f64() * 1e6);
        assert!(len > 8 && packet[4..7] == VNI.to_be_bytes()[1..], "the real VNI");
        client.unbind(lease.id).expect("unbound");
    }
    let (bound, seen) = (sorted(bound), sorted(seen));
    println_json(&json!({
        "what": "bind", "rounds": rounds, "reply_p50_us": percentile(&bound, 50), "reply_p99_us": percentile(&bound, 99),
        "packet_p50_us": percentile(&seen, 50), "packet_p99_us": percentile(&seen, 99)
    }));
}
