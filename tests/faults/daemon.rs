//! The daemon killed after its n-th change, while a client leases, binds, releases, and taps are opened and cleaned: the
//! next daemon knows every lease that the client was told of, and none that it was not; in the end the pool is as it was.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::{Policy, State as SlotState};

use crate::common::World;
use crate::known::Known;
use crate::loops::{Table, all, changes_in, must, places, with_fault};
use crate::served::{PATIENCE, SOCKET, Served};
use crate::state::{self, State};

const SLOTS: u32 = 3;
/// What the client does, as far as the daemon lives.
fn load(known: &mut Known) -> Result<(), ClientError> {
    let mut client = Client::connect_as(Path::new(SOCKET), "test", PATIENCE)?;
    // With namespaces; with taps; and all slots, which must have been cleaned for that, with neither.
    for (round, count) in [2, 2, SLOTS].into_iter().enumerate() {
        let options = LeaseOptions {
            count,
            wait: PATIENCE,
            want_netns: round == 0,
            want_tap: round == 1,
            policy: Policy::Explicit,
            ..LeaseOptions::default()
        };
        let ids = known.lease(&mut client, &options)?;
        known.bind(&mut client, ids[0])?;
        // In its place.
        known.bind(&mut client, ids[0])?;
        for id in ids {
            known.release(&mut client, id)?;
        }
    }
    Ok(())
}

/// Starts a daemon that is to be killed after so many changes, and uses it until it is, or until nothing is left to do,
/// when it is told to stop.
fn use_until_killed(world: &World, args: &[&str], changes: u64, known: &mut Known) -> String {
    let mut doomed = Doomed::start(world, args, changes);
    if doomed.serves() && load(known).is_ok() {
        doomed.stop();
    }
    doomed.told()
}

/// A daemon that is to be killed after so many changes; gone with the test, whatever becomes of that.
pub struct Doomed(Child);

impl Doomed {
    pub fn start(world: &World, args: &[&str], changes: u64) -> Self {
        let mut command = with_fault(world, args, changes);
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started"))
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("asked").is_some()
    }

    /// Whether it came to serve.
    pub fn serves(&mut self) -> bool {
        while Client::connect(SOCKET.as_ref()).is_err() {
            if self.has_ended() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Tells it to stop; it is not reaped.
    pub fn stop(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a child that is not reaped");
    }

    /// What it has told at its end, however it ends; what it tells fits into a pipe.
    pub fn told(mut self) -> String {
        let began = Instant::now();
        while !self.has_ended() {
            assert!(began.elapsed() < PATIENCE, "neither killed nor told to stop, and the test went on without it");
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut told = Vec::new();
        self.0.stderr.take().expect("a pipe").read_to_end(&mut told).expect("readable");
        String::from_utf8_lossy(&told).into_owned()
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // Says so where it has ended and is reaped; there is nothing to do then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next daemon: holds what it says against what the client was told, then stops it in order.
pub fn take_over(world: &World, known: &mut Known, when: &str) {
    let served = Served::start(world, &["serve"]);
    settle(&served, known, when);
    let up = world.netslot(&["up"]);
    assert!(up.code == 0 && up.stderr.contains("every slot is as it should be"), "{when}: {up:?}");
    assert_eq!(served.stop(), 0);
}

/// Holds what a daemon says against what the client was told, and gives everything back.
fn settle(served: &Served<'_>, known: &mut Known, when: &str) {
    let slots = u32::try_from(served.world.slots().len()).expect("few");
    known.must_be(&served.client().list().expect("a list").slots, when);
    for id in known.leases() {
        known.release(&mut served.client(), id).expect("this user's");
    }
    (0..slots).for_each(|slot| served.wait_for(slot, SlotState::Free));
}

#[test]
fn a_daemon_killed_after_any_change_is_taken_over_by_the_next() {
    let Some(world) = World::new() else { return };
    state::cover_knobs();
    world.configure(&format!("slots = {SLOTS}\nthreads = 1\nquotas.wait_ms_max = 300000\n"));
    must(&world, &["up"]);
    let mut known = Known::default();
    let count = changes_in(&use_until_killed(&world, &["serve"], 1_000_000, &mut known));
    take_over(&world, &mut known, "undisturbed");
    let rest = State::of(&world);
    let mut table = Table::new("serve, lease, bind, release, scrub, stop", count);
    for (index, n) in places(count, 16).into_iter().enumerate() {
        let when = format!("killed after {n} of {count}");
        let told = use_until_killed(&world, &["serve"], n, &mut known);
        table.kill(!told.contains("changes made"));
        if all() || index % 3 == 0 {
            // What the client was told of by the first is still there when the second one dies.
            Doomed::start(&world, &["serve"], 1 + n * 7 % 25).serves();
            table.kill_again(true);
        }
        take_over(&world, &mut known, &when);
        State::of(&world).must_be(&rest, &when);
    }
}
