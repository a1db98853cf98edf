//! Clients that do what they should not: the daemon says so, closes what it must, and serves everybody else.

use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;

use netslot::limits::LISTS_UNREAD_PER_USER;
use netslot_protocol::client::{Client, LeaseOptions};
use netslot_protocol::event::{CHANGED_KIND, Event};
use netslot_protocol::request;
use netslot_protocol::{ErrorCode, Policy, State, Text, frame};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use nix::unistd::Pid;

use crate::common::World;
use crate::served::{PATIENCE, Raw, Served, code, lease};

#[test]
fn what_is_no_request_is_refused_and_others_are_served_on() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let mut bystander = served.client();
    let mut whole = [0; 64];
    let len = frame::write_request(1, 9, &request::Get { slot: 0 }, &mut whole).expect("fits");
    // Garbage, half a frame, a body too long: told, and the connection closed.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &whole[..len - 1], &whole[..7], &[0xff; 128]] {
        let client = Raw::connect();
        client.send(bytes).expect("sent");
        assert_eq!(client.refused(), (0, ErrorCode::BadFrame));
        assert!(client.receive().is_none(), "closed");
        assert_eq!(bystander.status().expect("served on").slots, 2);
    }
    let large = Raw::connect();
    setsockopt(large.fd(), sockopt::SndBufForce, &(4 << 20)).expect("set");
    large.send(&vec![0; 1 << 20]).expect("a megabyte in one datagram");
    assert_eq!(large.refused(), (0, ErrorCode::TooLarge));
    assert!(large.receive().is_none(), "closed");
    // Fds never enter the daemon.
    let passing = Raw::connect();
    let fds = [passing.fd().as_raw_fd(); 3];
    let message = [std::io::IoSlice::new(&whole[..len])];
    sendmsg::<()>(passing.fd().as_raw_fd(), &message, &[ControlMessage::ScmRights(&fds)], MsgFlags::empty(), None)
        .expect("sent");
    assert_eq!(passing.refused(), (0, ErrorCode::BadFrame));
    assert!(passing.receive().is_none(), "closed");
    // Something that it merely does not know: told, and kept.
    let unknown = Raw::connect();
    let header = frame::Header { version: 1, kind: 0x0999, id: 5 };
    let mut room = [0; 32];
    let len = frame::join(header, &(), &mut room).expect("fits");
    unknown.send(&room[..len]).expect("sent");
    assert_eq!(unknown.refused(), (5, ErrorCode::UnknownKind));
    unknown.ask(6, &request::Status).expect("still open");
    assert_eq!(unknown.receive().map(|(kind, id, _)| (kind, id)), Some((0x8032, 6)));
    // Half-closed is closed.
    nix::sys::socket::shutdown(unknown.fd().as_raw_fd(), nix::sys::socket::Shutdown::Write).expect("shut");
    assert!(unknown.receive().is_none());
    assert_eq!(bystander.status().expect("served on").slots, 2);
}

#[test]
fn connections_past_the_limit_are_told_so_and_root_gets_in() {
    let Some(world) = World::new() else { return };
    let quotas = "quotas.connections = 4\nquotas.connections_per_uid = 3";
    let served = Served::up(&world, &format!("slots = 1\n{quotas}"));
    // Root has eight beyond each limit.
    let held: Vec<Client> = (0..11).map(|_| served.client()).collect();
    let refused = Client::connect(std::path::Path::new("/run/netslot/netslot.sock"));
    assert_eq!(code(refused), ErrorCode::QuotaConnections);
    drop(held);
    let alone = || {
        let client = Client::connect(std::path::Path::new("/run/netslot/netslot.sock"));
        client.and_then(|mut client| client.status()).is_ok_and(|status| status.connections == 1)
    };
    served.until(alone, "the connections never went");
}

#[test]
fn who_does_not_read_is_not_waited_for() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2\nquotas.reply_bytes_per_connection = 8192");
    let mut bystander = served.client();
    let flood = Raw::connect();
    let mut asked = 0;
    // It sends and never reads: at some point the daemon hangs up, and not before it has answered some.
    while flood.ask(1, &request::Status).is_ok() {
        asked += 1;
        assert!(asked < 100_000, "a client that never reads is served without end");
    }
    assert!(asked > 10, "hung up on after {asked} requests");
    let mut answered = 0;
    while flood.receive().is_some() {
        answered += 1;
    }
    assert!((1..asked).contains(&answered), "{answered} answers to {asked} requests");
    assert_eq!(bystander.status().expect("served on").slots, 2);
    // A watcher that is slow gets the rest when it reads again.
    let watcher = Raw::connect();
    watcher.ask(2, &request::Watch).expect("sent");
    assert_eq!(watcher.receive().map(|(kind, ..)| kind), Some(0x8040));
    for _ in 0..200 {
        let options = LeaseOptions { wait: PATIENCE, ..LeaseOptions::default() };
        let lease = bystander.lease(&options).expect("free in time").remove(0);
        bystander.release(lease.id).expect("ours");
    }
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < 600 {
        let (kind, _, body) = watcher.receive().expect("an event");
        match Event::read(kind, &body).expect("an event").expect("an event") {
            Event::Changed(_) => {
                assert_eq!(kind, CHANGED_KIND);
                seen += 1;
            }
            Event::Lagged(lagged) => missed += lagged.dropped,
        }
    }
    assert_eq!((seen, missed), (600, 0), "as many are kept for it as it missed here");
}

/// Bytes that wait to be read: SIOCINQ counts those of all datagrams (unix_inq_len, net/unix/af_unix.c).
fn unread(client: &Raw) -> i32 {
    let mut bytes = 0;
    // SAFETY: an open socket; the kernel writes one int through the pointer.
    let asked = unsafe { nix::libc::ioctl(client.fd().as_raw_fd(), nix::libc::FIONREAD, &raw mut bytes) };
    assert_eq!(asked, 0);
    bytes
}

#[test]
fn lists_that_nobody_reads_are_not_written() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 2");
    let flood = Raw::connect();
    for id in 1..=50 {
        flood.ask(id, &request::List).expect("sent");
    }
    served.until(|| unread(&flood) > 0, "never answered");
    let mut bystander = served.client();
    // Each goes the same way, behind what was asked before.
    for _ in 0..20 {
        assert_eq!(bystander.list().expect("served on").slots.len(), 2);
    }
    // A header, and 288 in three bytes.
    assert_eq!(unread(&flood), 16 + 3, "one list is all that waits for who does not read");
    // A successor has what was read of the connection answered, and begins where the other was.
    let served = served.replaced();
    for _ in 0..20 {
        assert_eq!(bystander.list().expect("served on").slots.len(), 2);
    }
    assert_eq!(unread(&flood), 2 * (16 + 3));
    // Who reads gets all that it has asked for, in order.
    for id in 1..=50 {
        assert_eq!(flood.receive().map(|(kind, id, _)| (kind, id)), Some((0x8031, id)));
    }
    // A few users' connections are no way around it.
    let many: Vec<Raw> = (0..20).map(|_| Raw::connect()).collect();
    for client in &many {
        client.ask(7, &request::List).expect("sent");
    }
    let answered = || many.iter().filter(|client| unread(client) > 0).count();
    served.until(|| answered() >= LISTS_UNREAD_PER_USER, "never answered");
    for _ in 0..50 {
        bystander.status().expect("served on");
        assert_eq!(answered(), LISTS_UNREAD_PER_USER, "so many lists are all that wait for a user");
    }
    // One that goes while it waits is gone.
    let mut many = many;
    many.remove(many.iter().position(|client| unread(client) == 0).expect("twelve wait"));
    // And so is one that had gone before its request was read.
    let daemon = Pid::from_raw(i32::try_from(served.pid()).expect("a pid"));
    kill(daemon, Signal::SIGSTOP).expect("it is there");
    for _ in 0..4 {
        Raw::connect().ask(7, &request::List).expect("sent");
    }
    kill(daemon, Signal::SIGCONT).expect("it is there");
    // Each is a turn of the daemon's, in which it takes who has come.
    (0..10).for_each(|_| assert_eq!(bystander.status().expect("served on").slots, 2));
    served.until(|| bystander.status().expect("told").connections == 21, "they never went");
    // One that goes makes room as one that reads does.
    let mut read = 0;
    while !many.is_empty() {
        served.until(|| many.iter().any(|client| unread(client) > 0), "those that read get no further");
        let next = many.iter().position(|client| unread(client) > 0).expect("just seen");
        let client = many.swap_remove(next);
        if read % 2 == 0 {
            assert_eq!(client.receive().map(|(kind, id, _)| (kind, id)), Some((0x8031, 7)));
        }
        read += 1;
    }
    assert_eq!(read, 19);
    assert_eq!(bystander.list().expect("served on").slots.len(), 2);
}

#[test]
fn a_lease_whose_reply_nobody_read_is_given_back() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 4");
    let ask = |want_tap_fd| request::Lease {
        count: 2,
        wait_ms: 0,
        tag: Text::default(),
        policy: Policy::Explicit,
        want_netns_fd: true,
        want_tap_fd,
        own_stack: false,
    };
    for want_tap in [false, true] {
        let client = Raw::connect();
        client.ask(1, &ask(want_tap)).expect("sent");
        let given = || served.client().status().expect("told").leases_total;
        let before = if want_tap { 2 } else { 0 };
        served.until(|| given() == before + 2, "never leased");
        drop(client);
        for slot in 0..4 {
            served.wait_for(slot, State::Free);
        }
    }
    // One that was read stays, whatever is unread behind it.
    let client = Raw::connect();
    client.ask(1, &ask(false)).expect("sent");
    client.receive().expect("read");
    client.ask(2, &request::Status).expect("sent");
    served.until(|| served.client().status().expect("told").connections == 2, "two connections");
    drop(client);
    served.until(|| served.client().status().expect("told").connections == 1, "it never went");
    assert_eq!(served.client().status().expect("told").count(State::Leased), 2);
}

use crate::tap_ioctls as ioctl;

#[test]
fn what_a_holder_did_to_its_tap_is_not_there_for_the_next_one() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let mut client = served.client();
    let with_tap = LeaseOptions { want_tap: true, want_netns: true, wait: PATIENCE, ..LeaseOptions::default() };
    let mut first = client.lease(&with_tap).expect("free").remove(0);
    let netns = first.netns.take().expect("asked for");
    let tap = first.tap.take().expect("asked for");
    let fd = tap.as_raw_fd();
    let (mut header, mut sndbuf) = (64, 4_096);
    let mut drop_all = [nix::libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
    let program = nix::libc::sock_fprog { len: 1, filter: drop_all.as_mut_ptr() };
    // SAFETY: an ifreq of zeroes is one; the ioctls read and write what their pointers lead to, all of it on this stack.
    unsafe {
        let mut mac: nix::libc::ifreq = std::mem::zeroed();
        mac.ifr_ifru.ifru_hwaddr.sa_family = 1;
        mac.ifr_ifru.ifru_hwaddr.sa_data[..6].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        ioctl::set_mac(fd, &raw const mac).expect("a holder may");
        ioctl::set_vnet_hdr(fd, &raw const header).expect("a holder may");
        ioctl::set_sndbuf(fd, &raw const sndbuf).expect("a holder may");
        ioctl::attach_filter(fd, &raw const program).expect("a holder may");
    }
    // What it learned, and what it taught.
    world.in_netns(&netns, "ip", &["neigh", "add", "172.16.0.9", "lladdr", "02:00:00:00:00:09", "dev", "br0"]);
    world.in_netns(&netns, "ip", &["neigh", "replace", "172.16.0.2", "lladdr", "02:00:00:00:00:08", "dev", "br0"]);
    let before = (
        world.in_netns(&netns, "ip", &["neigh"]).lines().count(),
        world.in_netns(&netns, "ip", &["link", "show", "tap0"]).contains("02:00:00:00:00:07"),
    );
    assert_eq!(before, (3, true));
    client.release(first.id).expect("ours");
    drop(tap);
    let second = client.lease(&with_tap).expect("clean in time").remove(0);
    assert_eq!(second.id.generation, 3, "the same slot, scrubbed and not rebuilt");
    let fd = second.tap.as_ref().expect("asked for").as_raw_fd();
    // SAFETY: as above.
    unsafe {
        ioctl::get_vnet_hdr(fd, &raw mut header).expect("told");
        ioctl::get_sndbuf(fd, &raw mut sndbuf).expect("told");
    }
    assert_eq!((header, sndbuf), (10, i32::MAX));
    let neighbours = world.in_netns(&netns, "ip", &["neigh"]);
    assert!(
        neighbours.lines().count() == 2 && neighbours.contains("172.16.0.2 dev br0 lladdr 06:00:ac:10:00:02 PERMANENT"),
        "{neighbours}"
    );
    assert!(world.in_netns(&netns, "ip", &["link", "show", "tap0"]).contains("02:4e:53:ff:ff:ff"));
    // The filter would drop everything, and would make the next open fail or come to nothing: this one receives.
    let forwards = || world.in_netns(&netns, "bridge", &["link", "show"]).contains("state forwarding");
    served.until(forwards, "the bridge never took the tap");
    world.works_in(&netns, "ping", &["-c1", "-W1", "172.16.0.2"]);
    let mut packet = [0; 2_048];
    assert!(nix::unistd::read(second.tap.as_ref().expect("asked for"), &mut packet).is_ok_and(|len| len > 10));
}

#[test]
fn a_tap_that_cannot_be_set_back_or_is_gone_costs_the_slot_and_not_the_next_tenant() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let mut client = served.client();
    let with_tap = LeaseOptions { want_tap: true, want_netns: true, wait: PATIENCE, ..LeaseOptions::default() };
    for (round, spoil) in [
        // No ioctl takes an owner away again.
        // SAFETY: takes plain numbers.
        |fd| unsafe { ioctl::set_owner(fd, 65_534) },
        // Without persistence the tap goes with its last descriptor.
        // SAFETY: takes plain numbers.
        |fd| unsafe { ioctl::set_persist(fd, 0) },
    ]
    .into_iter()
    .enumerate()
    {
        let mut lease = client.lease(&with_tap).expect("made again in time").remove(0);
        let inode = |fd: std::os::fd::BorrowedFd<'_>| nix::sys::stat::fstat(fd).expect("told").st_ino;
        let (netns, tap) = (lease.netns.take().expect("asked for"), lease.tap.take().expect("asked for"));
        let before = inode(netns.as_fd());
        spoil(tap.as_raw_fd()).expect("a holder may");
        client.release(lease.id).expect("ours");
        drop(tap);
        let mut next = client.lease(&with_tap).expect("made again in time").remove(0);
        assert_eq!(next.id.generation, lease.id.generation + 2);
        assert_ne!(inode(next.netns.as_ref().expect("asked for").as_fd()), before, "round {round}: made anew");
        client.release(next.id).expect("ours");
        drop(next.tap.take());
    }
    assert!(served.log().contains("quarantined: its namespace or a device of it is gone"), "{}", served.log());
}

#[test]
fn a_tap_that_somebody_holds_is_no_tap_to_lease() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let mut client = served.client();
    let first = lease(&mut client, Policy::Explicit);
    let netns = first.netns.as_ref().expect("asked for");
    let dev_net = std::fs::File::open("/dev/net").expect("there");
    let name = "tap0".parse().expect("a name");
    let squatter = netslot::sys::netns::within(netns, || netslot::sys::tap::open(dev_net.as_fd(), &name));
    let squatter = squatter.expect("entered").expect("opened");
    client.release(first.id).expect("ours");
    // Not free while it is held; and a slot found held although it is free is not leased with its tap.
    assert_eq!(code(client.lease(&LeaseOptions { want_tap: true, ..LeaseOptions::default() })), ErrorCode::PoolEmpty);
    drop(squatter);
    served.wait_for(0, State::Free);
    let squatter = netslot::sys::netns::within(netns, || netslot::sys::tap::open(dev_net.as_fd(), &name));
    let squatter = squatter.expect("entered").expect("opened");
    assert_eq!(code(client.lease(&LeaseOptions { want_tap: true, ..LeaseOptions::default() })), ErrorCode::TapBusy);
    drop(squatter);
    served.wait_for(0, State::Free);
    assert_eq!(client.status().map(|s| s.slots).map_err(|e| e.to_string()), Ok(1));
}
