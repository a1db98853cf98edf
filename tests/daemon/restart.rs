//! Start is recovery: what a daemon that was killed leaves goes on under the next one.

use std::fs;
use std::process::Command;

use netslot::bpf::Maps;
use netslot::ledger::{Records, Store as _};
use netslot::slot::SlotId;
use netslot_abi::LedgerRecord;
use netslot_protocol::client::LeaseOptions;
use netslot_protocol::{Binding, ErrorCode, Ip, LeaseId, Policy, State};

use crate::common::World;
use crate::served::{PATIENCE, Served, code, lease, names};

#[test]
fn after_a_kill_leases_bindings_and_names_go_on_and_the_dead_are_released() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 6");
    let mut client = served.client();
    let explicit = lease(&mut client, Policy::Explicit);
    let on_exit = lease(&mut client, Policy::OnExit);
    let on_disconnect = lease(&mut client, Policy::OnDisconnect);
    let binding = Binding { vni: 9, remote: Ip::V4([192, 0, 2, 10]), tenant_v4: Some([10, 0, 0, 1]), tenant_v6: None };
    client.bind(explicit.id, binding).expect("ours");
    // Another process's, whose end nobody is there to see.
    let mut other = world.command(&["exec", "--", "sleep", "1000"]).spawn().expect("started");
    served.wait_for(3, State::Leased);
    // One that was being cleaned, and held up.
    let held_up = client.lease(&LeaseOptions { want_tap: true, ..LeaseOptions::default() }).expect("free").remove(0);
    client.release(held_up.id).expect("ours");
    served.until(|| names().len() == 4, "the names never came");
    let world = served.kill();
    other.kill().expect("killed");
    other.wait().expect("reaped");
    drop(client);
    let served = Served::start(world, &["serve"]);
    for lease in [&explicit, &on_exit, &on_disconnect] {
        let slot = served.slot(lease.id.slot);
        assert_eq!((slot.state, slot.generation), (State::Leased, lease.id.generation), "slot {}", slot.slot);
    }
    assert_eq!(served.slot(explicit.id.slot).binding, Some(binding));
    assert_eq!(served.state(held_up.id.slot), State::Scrubbing);
    served.wait_for(3, State::Free);
    drop(held_up);
    served.wait_for(4, State::Free);
    let daemon = format!("/proc/{}/fd/", served.pid());
    served.until(|| names().len() == 3, "a dead lease's name never went");
    assert!(names().iter().all(|(_, target)| target.starts_with(&daemon)), "{:?}", names());
    let mut client = served.client();
    client.release(on_exit.id).expect("ours");
    assert_eq!(code(client.release(LeaseId { generation: 9, ..on_disconnect.id })), ErrorCode::StaleGeneration);
    client.release(on_disconnect.id).expect("ours");
    let again = client.lease(&LeaseOptions { count: 5, ..LeaseOptions::default() });
    let again = again.or_else(|_| client.lease(&LeaseOptions { count: 5, wait: PATIENCE, ..LeaseOptions::default() }));
    let generations: Vec<_> = again.expect("all but one").iter().map(|l| (l.id.slot, l.id.generation)).collect();
    for (slot, generation) in generations {
        let least = if slot == 5 { 1 } else { 3 };
        assert_eq!(generation, least, "slot {slot}");
    }
}

#[test]
fn where_processes_have_but_numbers_one_that_began_after_the_lease_is_not_its_owner() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let mut client = served.client();
    let (reused, kept) = (lease(&mut client, Policy::OnExit), lease(&mut client, Policy::OnExit));
    let world = served.kill();
    // The kernel tells of a process's beginning in steps of 10 ms.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let mut later = Command::new("sleep").arg("1000").spawn().expect("started");
    // As before Linux 6.9; and as if the owner had ended, and its number were another's.
    let maps = Maps::open("/sys/fs/bpf/netslot".as_ref()).expect("readable").expect("pinned");
    let mut records = Records(maps.cells().expect("mapped"));
    for (lease, pid) in [(&reused, later.id()), (&kept, std::process::id())] {
        let slot = SlotId::new(lease.id.slot).expect("in range");
        let record = LedgerRecord { owner_inode: 0, owner_pid: pid, ..records.ledger(slot) };
        records.store_ledger(slot, &record);
    }
    let served = Served::start(world, &["serve"]);
    drop((reused.netns, reused.tap));
    served.wait_for(reused.id.slot, State::Free);
    assert_eq!(served.state(kept.id.slot), State::Leased, "its owner is this process, which began before");
    later.kill().expect("killed");
    later.wait().expect("reaped");
}

#[test]
fn a_second_daemon_and_a_pass_are_refused_and_told_who_serves() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let holder = format!("process {}", served.pid());
    world.netslot(&["serve"]).is_refused(7, &["serve.lock", &holder]);
    world.netslot(&["up", "--slots", "3"]).is_refused(7, &[&holder]);
    world.netslot(&["destroy"]).is_refused(7, &[&holder]);
    assert_eq!(served.state(0), State::Free, "the first one serves on");
    assert!(fs::exists("/run/netslot/netslot.sock").expect("looked"), "and its socket is still there");
}

#[test]
fn a_daemon_without_a_pool_or_in_another_namespace_says_so_and_touches_nothing() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 2");
    world.netslot(&["serve"]).is_refused(1, &["there is no pool", "netslot up"]);
    let served = Served::up(&world, "slots = 2");
    let held = lease(&mut served.client(), Policy::Explicit);
    let world = served.kill();
    let mut elsewhere = Command::new("unshare");
    let serve = world.command(&["serve"]);
    elsewhere.arg("-n").arg(serve.get_program()).args(serve.get_args());
    let ended = crate::common::Ended::of(elsewhere.output().expect("unshare is there"));
    ended.is_refused(1, &["none of the 2 slots' host ends", "network namespace"]);
    let served = Served::start(world, &["serve"]);
    assert_eq!(served.slot(held.id.slot).generation, held.id.generation);
    assert_eq!(served.state(held.id.slot), State::Leased, "nothing was ended by it");
}

#[test]
fn a_request_that_waits_is_told_when_the_daemon_stops() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let held = lease(&mut served.client(), Policy::Explicit);
    let waiting = crate::served::Raw::connect();
    let ask = netslot_protocol::request::Lease {
        count: 1,
        wait_ms: 180_000,
        tag: netslot_protocol::Text::default(),
        policy: Policy::Explicit,
        want_netns_fd: true,
        want_tap_fd: false,
        own_stack: false,
    };
    waiting.ask(3, &ask).expect("sent");
    served.until(|| served.client().status().expect("told").waiters == 1, "the request never waited");
    assert_eq!(served.stop(), 0);
    assert_eq!(waiting.refused(), (3, ErrorCode::ShuttingDown));
    assert!(waiting.receive().is_none());
    assert!(names().is_empty(), "links into a process that is gone lead nowhere");
    let served = Served::start(&world, &["serve"]);
    assert_eq!(served.slot(held.id.slot).generation, held.id.generation);
}

#[test]
fn a_pool_is_served_as_soon_as_enough_of_it_is_there() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 150\nready_after = 2");
    assert!(served.state(0) == State::Free && served.state(1) == State::Free);
    assert_eq!(served.state(149), State::Building, "it is not as many as all of them that are waited for");
    let mut client = served.client();
    let first = lease(&mut client, Policy::Explicit);
    assert_eq!(first.id.slot, 0);
    for slot in 2..150 {
        served.wait_for(slot, State::Free);
    }
    assert_eq!(served.state(0), State::Leased);
}
