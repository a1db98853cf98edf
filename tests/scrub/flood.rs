//! A VMM that writes to its tap as fast as it can and reads nothing: the others are served all the while, and when it is
//! gone its slot is clean.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netslot::bpf::Maps;
use netslot_protocol::client::{Client, LeaseOptions};
use netslot_protocol::{Binding, Ip, State};
use nix::errno::Errno;
use nix::unistd::{read, write};

use crate::common::World;
use crate::frames::{Carried, udp4, v4};
use crate::served::{PATIENCE, Served};

const SLOTS: u32 = 4;
const GUEST: [u8; 4] = [172, 16, 0, 2];
const GATEWAY: [u8; 4] = [172, 16, 0, 1];
const NETWORK: [u8; 4] = [198, 51, 100, 1];

const RULES: &str = "table inet slot {
    chain input { type filter hook input priority filter; counter; }
    chain forward { type filter hook forward priority filter; counter; }
}";

fn options() -> LeaseOptions<'static> {
    LeaseOptions { want_netns: true, want_tap: true, wait: PATIENCE, ..LeaseOptions::default() }
}

/// Frames that the gateway answers, so that the queue towards the VMM fills, and frames for the network. What the tap does
/// not take for now is lost, as on any wire.
fn flood(tap: &OwnedFd, stop: &AtomicBool, written: &AtomicU64) {
    let frames = [v4(GUEST, GATEWAY, Carried::Echo, &[7; 64]), udp4(GUEST, NETWORK, (7, 7), &[7; 1_000])];
    // Behind the virtio-net header.
    let frames = frames.map(|frame| [&[0; 10], &frame[..]].concat());
    while !stop.load(Ordering::Relaxed) {
        for frame in &frames {
            written.fetch_add(u64::from(write(tap, frame).is_ok()), Ordering::Relaxed);
        }
    }
}

/// Another tenant's whole life, so many times; how long half of them took at most, until the release was answered.
fn others(client: &mut Client, flooded: Option<u32>, rounds: usize) -> Duration {
    let network = Binding { vni: 9, remote: Ip::V4([192, 0, 2, 10]), tenant_v4: Some([10, 0, 0, 1]), tenant_v6: None };
    let mut took: Vec<Duration> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            let lease = client.lease(&options()).expect("clean in time").remove(0);
            assert_ne!(Some(lease.id.slot), flooded, "it is not free");
            client.bind(lease.id, network).expect("ours");
            client.release(lease.id).expect("ours");
            began.elapsed()
        })
        .collect();
    took.sort();
    took[rounds / 2]
}

/// Packets of a slot that passed its programs.
fn passed(slot: u32) -> u64 {
    let maps = Maps::open(Path::new("/sys/fs/bpf/netslot")).expect("readable").expect("pinned");
    maps.counters().expect("counters").of(slot).expect("a slot's").out_packets
}

#[test]
fn a_vmm_that_floods_its_tap_keeps_nobody_waiting_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    std::fs::write("/run/slot.nft", RULES).expect("written");
    let served = Served::up(&world, &format!("slots = {SLOTS}\nrules.slot = \"/run/slot.nft\""));
    let mut client = served.client();
    let quiet = others(&mut client, None, 40);
    let mut first = client.lease(&options()).expect("free").remove(0);
    let (slot, tap) = (first.id.slot, first.tap.take().expect("asked for"));
    let inode = |netns: &OwnedFd| nix::sys::stat::fstat(netns).expect("told").st_ino;
    let before = inode(first.netns.as_ref().expect("asked for"));
    drop(first.netns.take());
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let loud = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&tap, &stop, &written));
        served.until(|| written.load(Ordering::Relaxed) > 10_000, "it never flooded");
        let loud = others(&mut client, Some(slot), 40);
        assert!(passed(slot) > 1_000, "it was let out");
        client.release(first.id).expect("ours");
        let after = (passed(slot), written.load(Ordering::Relaxed));
        others(&mut client, Some(slot), 10);
        served.until(|| written.load(Ordering::Relaxed) > after.1 + 1_000, "it went on");
        // One that was in the program's hands when the lease ended.
        assert!(passed(slot) <= after.0 + 1, "packets of a slot that nobody leases passed");
        assert_eq!(served.state(slot), State::Scrubbing, "it holds its tap");
        stop.store(true, Ordering::Relaxed);
        flooding.join().expect("no panic");
        loud
    });
    let mut packet = [0; 2_048];
    assert!(read(&tap, &mut packet).is_ok_and(|len| len > 10), "there are packets to be leaked");
    drop(tap);
    served.wait_for(slot, State::Free);
    assert_eq!(world.netslot(&["verify"]).code, 0);
    assert_eq!(inode(&world.slot(slot)), before, "cleaned, not made anew: {}", served.log());
    let mut next = client.lease(&LeaseOptions { count: SLOTS, ..options() }).expect("all");
    let next = next.iter_mut().find(|lease| lease.id.slot == slot).expect("among them");
    let nothing = read(next.tap.as_ref().expect("asked for").as_fd(), &mut packet);
    assert_eq!(nothing, Err(Errno::EAGAIN), "a packet of the tenant before");
    let netns = next.netns.as_ref().expect("asked for");
    let counted = world.in_netns(netns, "nft", &["list", "ruleset"]);
    assert_eq!(counted.matches("counter packets 0 bytes 0").count(), 2, "{counted}");
    let written = written.into_inner();
    eprintln!("{written} frames; lease with tap, bind, release: p50 {quiet:?} before, {loud:?} beside the flood");
}
