//! One daemon after another without a moment in between: no client sees an error, and a newcomer that cannot begin leaves
//! the old one serving.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use netslot::sys::seqpacket;
use netslot_protocol::client::{Client, LeaseOptions};
use netslot_protocol::reply;
use netslot_protocol::request::{self, Call as _};
use netslot_protocol::{ErrorCode, Policy, State};

use crate::common::World;
use crate::manager::Manager;
use crate::served::{PATIENCE, Raw, Served, code, lease, names};

/// A request for one slot that waits.
fn waiting() -> request::Lease {
    request::Lease {
        count: 1,
        wait_ms: 280_000,
        tag: netslot_protocol::Text::cut("waits"),
        policy: Policy::OnDisconnect,
        want_netns_fd: false,
        want_tap_fd: false,
        own_stack: false,
    }
}

/// The grant that must come next, as slot and generation.
#[track_caller]
fn granted(client: &Raw, id: u32) -> (u32, u64) {
    let (kind, answered, body) = client.receive().expect("an answer");
    assert_eq!((kind, answered), (request::Lease::KIND.reply(), id));
    let reply: reply::Lease = netslot_protocol::decode(&body).expect("a lease");
    (reply.grants[0].lease.slot, reply.grants[0].lease.generation)
}

fn waiters(served: &Served<'_>) -> u32 {
    served.client().status().expect("told").waiters
}

#[test]
fn connections_waits_leases_and_subscriptions_go_on_under_a_successor() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 3");
    let mut client = served.client();
    let explicit = lease(&mut client, Policy::Explicit);
    let on_exit = lease(&mut client, Policy::OnExit);
    let mut closing = served.client();
    let on_disconnect = lease(&mut closing, Policy::OnDisconnect);
    let (first, second) = (Raw::connect(), Raw::connect());
    first.ask(7, &waiting()).expect("sent");
    served.until(|| waiters(&served) == 1, "the request never waited");
    // More requests behind the one that waits, on the same connection.
    first.ask(8, &waiting()).expect("sent");
    second.ask(9, &waiting()).expect("sent");
    served.until(|| waiters(&served) == 3, "the requests never waited");
    let mut watch = served.client().watch().expect("subscribed");
    let served = served.replaced().replaced();
    // The old connection is the new daemon's.
    assert_eq!(client.status().expect("the same connection").pid, served.pid());
    assert_eq!(waiters(&served), 3);
    assert_eq!(client.status().expect("told").leases_total, 3, "what was counted goes on too");
    // Each slot that comes free goes to whoever has waited longest, under the request's own number.
    client.release(on_exit.id).expect("ours");
    let one = granted(&first, 7);
    assert_eq!(one.0, on_exit.id.slot);
    drop(closing);
    let two = granted(&first, 8);
    assert_eq!(two, (on_disconnect.id.slot, on_disconnect.id.generation + 2), "it ended with its connection");
    let changes: Vec<_> = (0..2).map(|_| watch.next().expect("an event")).collect();
    assert!(format!("{changes:?}").contains("Scrubbing") && !format!("{changes:?}").contains("Lagged"), "{changes:?}");
    // And the leases that this connection just got end with it: two slots, one of them for the last that waits.
    drop(first);
    let (slot, _) = granted(&second, 9);
    served.wait_for(if slot == one.0 { two.0 } else { one.0 }, State::Free);
    assert_eq!(served.slot(explicit.id.slot).generation, explicit.id.generation);
    assert_eq!(served.state(explicit.id.slot), State::Leased);
    assert_eq!(served.stop(), 0);
}

/// Set when it is dropped.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_request_fails_while_daemons_take_over_from_each_other_under_load() {
    let Some(world) = World::new() else { return };
    let mut served = Some(Served::up(&world, "slots = 4"));
    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    let load = |taps: bool| {
        let mut client = Client::connect_as(crate::served::SOCKET.as_ref(), "load", PATIENCE).expect("connected");
        while !stop.load(Ordering::Relaxed) {
            let options = LeaseOptions { wait: PATIENCE, want_netns: true, want_tap: taps, ..LeaseOptions::default() };
            let leases = client.lease(&options).expect("no error is seen");
            client.release(leases[0].id).expect("nor here");
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        // Also where something below fails: or the load, and the test, would never end.
        let _stops = Stops(&stop);
        let load = &load;
        (0..6).for_each(|n| drop(scope.spawn(move || load(n % 2 == 0))));
        for _ in 0..5 {
            let before = rounds.load(Ordering::Relaxed);
            let last = served.as_ref().expect("always one");
            last.until(|| rounds.load(Ordering::Relaxed) >= before + 3, "the load stands still");
            served = served.take().map(Served::replaced);
        }
    });
    let served = served.expect("the last one");
    for slot in 0..4 {
        served.wait_for(slot, State::Free);
    }
}

#[test]
fn a_leases_name_leads_into_its_namespace_all_the_while_one_daemon_follows_another() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 40");
    let mut client = served.client();
    let all = LeaseOptions { count: 40, want_netns: true, ..LeaseOptions::default() };
    let leases = client.lease(&all).expect("all are free");
    served.until(|| names().len() == 40, "the names never came");
    let inode = |fd: &std::os::fd::OwnedFd| nix::sys::stat::fstat(fd).expect("told").st_ino;
    let last = leases.last().expect("forty");
    let (path, namespace) = (&last.netns_path, inode(last.netns.as_ref().expect("asked for")));
    let stop = AtomicBool::new(false);
    let (served, looks) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                looks += 1;
                let found = std::fs::metadata(path).map(|found| std::os::unix::fs::MetadataExt::ino(&found));
                match found {
                    Ok(found) if found == namespace => {}
                    other => return Err(format!("look {looks}: {other:?}")),
                }
            }
            Ok(looks)
        });
        let served = served.replaced().replaced().replaced();
        stop.store(true, Ordering::Relaxed);
        (served, reader.join().expect("no panic"))
    });
    assert!(looks.as_ref().is_ok_and(|looks| *looks > 100), "{looks:?}");
    let daemon = format!("/proc/{}/fd/", served.pid());
    assert!(names().len() == 40 && names().iter().all(|(_, target)| target.starts_with(&daemon)), "{:?}", names());
    client.release(last.id).expect("ours");
    served.until(|| names().len() == 39, "the name never went");
    assert_eq!(served.stop(), 0);
    assert!(names().is_empty(), "{:?}", names());
}

#[test]
fn a_newcomer_that_cannot_begin_leaves_the_old_one_serving() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let mut client = served.client();
    let held = lease(&mut client, Policy::Explicit);
    let waits = Raw::connect();
    waits.ask(5, &waiting()).expect("sent");
    served.until(|| waiters(&served) == 1, "the request never waited");
    world.configure("slots = 0");
    world.netslot(&["serve", "--replace"]).is_refused(3, &["slots"]);
    world.configure("slots = 1\nsocket = \"/run/netslot/other.sock\"");
    world.netslot(&["serve", "--replace"]).is_refused(1, &["/run/netslot/netslot.sock", "/run/netslot/other.sock"]);
    world.configure("slots = 1");
    let few = world.command(&["serve", "--replace"]);
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=50").arg(few.get_program()).args(few.get_args());
    crate::common::Ended::of(limited.output().expect("prlimit is there")).is_refused(4, &["file descriptors"]);
    // One that asks, gets everything, and dies of it.
    let path = std::path::Path::new("/run/netslot/successor.sock");
    let dying = seqpacket::connect_to(path).expect("connected");
    seqpacket::send(&dying, b"netslot succession 1", std::iter::empty()).expect("sent");
    served.until(|| seqpacket::receive_with_fds(&dying, &mut [0; 512]).is_ok(), "it was offered nothing");
    drop(dying);
    // One that talks of something else.
    let odd = seqpacket::connect_to(path).expect("connected");
    seqpacket::send(&odd, b"netslot succession 2", std::iter::empty()).expect("sent");
    assert_eq!(client.status().expect("served on").pid, served.pid());
    assert_eq!(waiters(&served), 1);
    client.release(held.id).expect("ours");
    assert_eq!(granted(&waits, 5), (0, held.id.generation + 2));
}

#[test]
fn replacing_nobody_is_a_start_and_a_daemon_of_a_service_manager_is_the_managers() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    assert_eq!(world.netslot(&["up"]).code, 0);
    let served = Served::start(&world, &["serve", "--replace"]);
    assert_eq!(served.state(0), State::Free);
    assert_eq!(served.stop(), 0);
    let _manager = UnixDatagram::bind("/run/notify").expect("bound");
    let mut command = world.command(&["serve"]);
    command.env("NOTIFY_SOCKET", "/run/notify");
    let served = Served::spawn(&world, command);
    world.netslot(&["serve", "--replace"]).is_refused(7, &["systemctl restart netslot"]);
    assert_eq!(served.client().status().expect("served on").pid, served.pid());
    assert_eq!(code(served.client().get(5)), ErrorCode::NoSuchSlot);
}

#[test]
fn a_restart_keeps_socket_connections_and_waits_in_the_managers_store() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 3\nquotas.wait_ms_max = 300000");
    let mut manager = Manager::new();
    let served = manager.start(&world, &["serve", "--up"]);
    assert_eq!(manager.keeps("netslot-listener"), 1);
    let mut client = served.client();
    let explicit = lease(&mut client, Policy::Explicit);
    let mut leaving = served.client();
    let speaking = Raw::connect();
    let ends = lease(&mut leaving, Policy::OnDisconnect);
    let released = lease(&mut client, Policy::Explicit);
    let waits = Raw::connect();
    waits.ask(7, &waiting()).expect("sent");
    served.until(|| waiters(&served) == 1, "the request never waited");
    let pid = served.pid();
    assert_eq!(manager.stop(served), 0);
    assert_eq!((manager.keeps("netslot-listener"), manager.keeps("netslot-estate")), (1, 1));
    assert!(manager.keeps("netslot-connection") >= 4 && manager.told.contains("FDPOLL=0"), "{}", manager.told);
    // While there is none: one goes, one says its last words and goes, one comes.
    drop(leaving);
    speaking.ask(1, &request::Release { lease: released.id }).expect("sent");
    drop(speaking);
    let newcomer = Raw::connect();
    newcomer.ask(1, &request::Status).expect("sent");
    let served = manager.start(&world, &["serve", "--up"]);
    assert_ne!(served.pid(), pid);
    assert_eq!(
        (manager.keeps("netslot-connection"), manager.keeps("netslot-estate")),
        (0, 0),
        "they are to end with us"
    );
    assert_eq!(newcomer.receive().map(|(kind, id, _)| (kind, id)), Some((request::Status::KIND.reply(), 1)));
    let (slot, _) = granted(&waits, 7);
    assert!([ends.id.slot, released.id.slot].contains(&slot), "slot {slot}");
    let other = if slot == ends.id.slot { released.id.slot } else { ends.id.slot };
    served.wait_for(other, State::Free);
    assert_eq!(client.status().expect("the same connection").pid, served.pid());
    assert_eq!(served.slot(explicit.id.slot).generation, explicit.id.generation);
    served.until(
        || {
            manager.read();
            manager.told.contains("STATUS=serving: 1 free, 2 leased")
        },
        "the status never came",
    );
    assert_eq!(manager.stop(served), 0);
}

#[test]
fn who_connects_while_a_killed_daemon_is_away_is_served_by_the_next() {
    let Some(world) = World::new() else { return };
    world.configure("slots = 1");
    let mut manager = Manager::new();
    let served = manager.start(&world, &["serve", "--up"]);
    let mut client = served.client();
    let held = lease(&mut client, Policy::Explicit);
    let world = served.kill();
    let waits = Raw::connect();
    waits.ask(3, &request::Release { lease: held.id }).expect("sent");
    let served = manager.start(world, &["serve"]);
    assert_eq!(waits.receive().map(|(kind, id, _)| (kind, id)), Some((request::Release::KIND.reply(), 3)));
    assert!(client.status().is_err(), "what was connected to the killed one has ended");
    served.wait_for(0, State::Free);
    assert_eq!(manager.stop(served), 0);
}
