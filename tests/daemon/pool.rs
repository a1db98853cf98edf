//! A pool that changes under the daemon: devices deleted by hand are found, the slot is made anew, nothing else is lost.

use std::process::Command;

use netslot_protocol::client::LeaseOptions;
use netslot_protocol::{ErrorCode, Policy, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::World;
use crate::served::{PATIENCE, Served, code, lease, names};

#[test]
fn a_slot_deleted_by_hand_is_found_and_made_anew_and_its_lease_is_over() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 4");
    let mut client = served.client();
    let (lost, kept) = (lease(&mut client, Policy::Explicit), lease(&mut client, Policy::Explicit));
    world.ip(&format!("link del slot{}", lost.id.slot));
    served.until(|| served.slot(lost.id.slot).generation > lost.id.generation, "the loss was never noticed");
    assert!(matches!(code(client.release(lost.id)), ErrorCode::StaleGeneration | ErrorCode::Quarantined));
    served.wait_for(lost.id.slot, State::Free);
    assert_eq!(served.slot(kept.id.slot).generation, kept.id.generation);
    // A free one, and whoever waits gets what is made.
    world.ip("link del slot2");
    world.ip("link del slot3");
    // Until the news of it is worked on, they are leased like any other.
    let noticed = || served.log().matches("its host end is gone").count() == 3;
    served.until(noticed, "the loss of free slots was never noticed");
    let all = LeaseOptions { count: 3, wait: PATIENCE, want_netns: true, own_stack: true, ..LeaseOptions::default() };
    let leases = client.lease(&all).expect("made anew in time");
    for lease in &leases {
        let netns = lease.netns.as_ref().expect("asked for");
        world.in_netns(netns, "ping", &["-c1", "-W20", crate::common::HOST_IP]);
    }
    assert_eq!(world.host_ends(), 4);
    assert!(served.log().contains("its host end is gone"), "{}", served.log());
}

#[test]
fn a_slot_made_anew_leaves_nothing_to_who_keeps_the_old_one() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let all = LeaseOptions { want_netns: true, want_tap: true, ..LeaseOptions::default() };
    let mut kept = served.client().lease(&all).expect("free").remove(0);
    let (netns, tap) = (kept.netns.take().expect("asked for"), kept.tap.take().expect("asked for"));
    let devices = || world.in_netns(&netns, "ip", &["-o", "link"]).lines().count();
    assert_eq!(devices(), 4, "loopback, bridge, its way up, tap");
    world.ip(&format!("link del slot{}", kept.id.slot));
    served.until(|| served.slot(0).generation > kept.id.generation, "the loss was never noticed");
    served.wait_for(0, State::Free);
    assert!(!served.log().contains("could not be made"), "{}", served.log());
    assert_eq!(devices(), 1, "loopback: {}", world.in_netns(&netns, "ip", &["-o", "link"]));
    assert_eq!(nix::unistd::read(&tap, &mut [0; 64]), Err(nix::errno::Errno::EBADFD));
}

#[test]
fn devices_deleted_inside_a_slot_are_found_when_it_is_given_back() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let mut client = served.client();
    let held = lease(&mut client, Policy::Explicit);
    let netns = held.netns.as_ref().expect("asked for");
    world.in_netns(netns, "ip", &["link", "del", "tap0"]);
    client.release(held.id).expect("ours");
    served.wait_for(held.id.slot, State::Free);
    assert!(served.log().contains("its tap is gone"), "{}", served.log());
    let both = LeaseOptions { count: 2, want_tap: true, ..LeaseOptions::default() };
    assert_eq!(client.lease(&both).expect("whole again").len(), 2);
}

#[test]
fn what_a_tenant_did_to_a_slot_costs_the_next_one_no_wait_and_a_slot_that_does_not_last_costs_no_cpu() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let mut client = served.client();
    for _ in 0..4 {
        let options = LeaseOptions { want_netns: true, wait: PATIENCE, ..LeaseOptions::default() };
        let held = client.lease(&options).expect("made anew").remove(0);
        world.in_netns(held.netns.as_ref().expect("asked for"), "ip", &["link", "del", "tap0"]);
        client.release(held.id).expect("ours");
    }
    served.wait_for(0, State::Free);
    assert_eq!(served.log().matches("it is made anew in 0 s").count(), 4, "{}", served.log());
    assert!(served.log().contains("slot 0 is made anew; 4 since this daemon began"), "{}", served.log());
    // Somebody else on the host takes it away whenever it is there, and nobody leases it in between.
    for (round, wait) in [(1, 1), (2, 2)] {
        world.ip("link del slot0");
        served.until(|| served.log().matches("its host end is gone").count() == round, "the loss was never noticed");
        let told = served.log().lines().rfind(|line| line.contains("is quarantined")).map(String::from);
        assert!(told.is_some_and(|told| told.ends_with(&format!("in {wait} s"))), "{}", served.log());
        served.wait_for(0, State::Free);
    }
}

#[test]
fn an_overflow_slot_that_is_deleted_leaves_the_pool() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1\nslots_max = 2\nempty = \"create\"");
    let mut client = served.client();
    let both = LeaseOptions { count: 2, wait: PATIENCE, ..LeaseOptions::default() };
    for lease in client.lease(&both).expect("made for it") {
        client.release(lease.id).expect("ours");
    }
    served.wait_for(1, State::Free);
    world.ip("link del slot1");
    served.wait_for(1, State::Building);
    assert_eq!(client.lease(&both).expect("made for it again").len(), 2);
}

#[test]
fn a_name_goes_before_the_descriptor_that_it_leads_to() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let held = lease(&mut served.client(), Policy::Explicit);
    served.until(|| names().len() == 1, "the name never came");
    let fd = names()[0].1.rsplit_once('/').expect("/proc/PID/fd/N").1.to_owned();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qqq", "-o", "/run/calls", "-e", "trace=close,unlinkat", "-p", &served.pid().to_string()]);
    let mut strace = strace.spawn().expect("strace is there");
    let status = format!("/proc/{}/status", served.pid());
    let traced = || !std::fs::read_to_string(&status).expect("readable").contains("TracerPid:\t0\n");
    served.until(traced, "strace never came");
    world.ip("link del slot0");
    served.until(|| served.slot(0).generation > held.id.generation, "the loss was never noticed");
    served.wait_for(0, State::Free);
    kill(Pid::from_raw(i32::try_from(strace.id()).expect("a pid")), Signal::SIGINT).expect("it is there");
    strace.wait().expect("ended");
    let calls = std::fs::read_to_string("/run/calls").expect("written");
    let place =
        |call: &str| calls.lines().position(|line| line.contains(call)).unwrap_or_else(|| panic!("{call}: {calls}"));
    // The number may be another slot's at once, and the name would lead into that tenant's namespace.
    assert!(place("\"slot-0000\"") < place(&format!("close({fd})")), "{calls}");
}
