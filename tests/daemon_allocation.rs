//! The daemon's loop allocates nothing for leases, releases and what else is asked all day: counted by an allocator of
//! the test's own, on the loop's thread alone, with the real daemon on a real pool.
#![allow(unsafe_code, reason = "a counting allocator has to be one")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::World;
use netslot::config::{Config, Quotas};
use netslot_protocol::client::{Client, LeaseOptions};
use netslot_protocol::{Binding, Ip, Policy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

thread_local! {
    /// Whether this thread is the one that is looked at.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Namespaces that others take down on the same machine have held the kernel's network lock for more than a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// One round of all that clients ask for all day.
fn round(client: &mut Client, number: u32) {
    let waiting = LeaseOptions { wait: PATIENCE, want_netns: true, tag: "vm", ..LeaseOptions::default() };
    for options in
        [waiting, LeaseOptions { policy: Policy::OnExit, count: 2, want_netns: number.is_multiple_of(2), ..waiting }]
    {
        for lease in client.lease(&options).expect("free in time") {
            let binding = Binding {
                vni: 7,
                remote: Ip::V4([192, 0, 2, 1]),
                tenant_v4: Some(number.to_be_bytes().map(|b| b | 1)),
                tenant_v6: None,
            };
            client.bind(lease.id, binding).expect("ours");
            client.get(lease.id.slot).expect("told");
            client.unbind(lease.id).expect("ours");
            client.release(lease.id).expect("ours");
            assert!(client.release(lease.id).is_err(), "over");
        }
    }
    client.status().expect("told");
}

#[test]
fn the_loop_allocates_nothing_for_what_clients_ask() {
    let Some(_world) = World::new() else { return };
    let quotas = Quotas { wait_ms_max: 300_000, ..Quotas::default() };
    let config = Config { slots: 3, slots_max: 3, mtu: Some(1_400), quotas, ..Config::default() };
    let socket = config.socket.clone();
    let daemon = std::thread::spawn(move || {
        COUNTED.set(true);
        netslot::serve::serve(config, netslot::serve::Begin { up: true, replace: false })
    });
    let mut client = connect(&socket);
    (0..20).for_each(|number| round(&mut client, number));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (20..220).for_each(|number| round(&mut client, number));
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    kill(Pid::this(), Signal::SIGTERM).expect("sent to itself");
    daemon.join().expect("no panic").expect("served to the end");
    assert_eq!(after - before, 0, "allocations in 200 rounds of lease, bind, get, release and status");
    assert!(before > 0, "the count is of the daemon's thread");
}

fn connect(socket: &Path) -> Client {
    let began = Instant::now();
    loop {
        match Client::connect(socket) {
            Ok(client) => return client,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
