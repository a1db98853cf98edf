//! The daemon killed after its n-th change, while a client leases, binds, releases, and taps are opened and cleaned: the
//! next daemon knows every lease that the client was told of, and none that it was not; in the end the pool is as it was.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::{Binding, Ip, LeaseId, Policy, State as SlotState};

use crate::common::World;
use crate::loops::{Table, all, changes_in, must, places, with_fault};
use crate::served::{PATIENCE, SOCKET, Served};
use crate::state::{self, State};

const SLOTS: u32 = 3;
const NETWORK: Binding =
    Binding { vni: 9, remote: Ip::V4([192, 0, 2, 10]), tenant_v4: Some([10, 0, 0, 1]), tenant_v6: None };

/// What a client knows of its leases: true where it is bound, and what it was told nothing about.
#[derive(Debug, Default)]
pub struct Known {
    held: BTreeMap<u32, (u64, bool)>,
    /// It asked for leases and got no answer.
    asking: bool,
    /// It asked for something to become of these and got no answer.
    changing: Vec<LeaseId>,
}

impl Known {
    /// Leases; what is passed with the leases is closed at once.
    pub fn lease(&mut self, client: &mut Client, options: &LeaseOptions<'_>) -> Result<Vec<LeaseId>, ClientError> {
        self.asking = true;
        let ids: Vec<LeaseId> = client.lease(options)?.iter().map(|lease| lease.id).collect();
        self.asking = false;
        ids.iter().for_each(|id| self.granted(*id));
        Ok(ids)
    }

    /// It was told of a lease.
    pub fn granted(&mut self, id: LeaseId) {
        let before = self.held.insert(id.slot, (id.generation, false));
        assert_eq!(before, None, "slot {} is leased twice", id.slot);
    }

    /// Asks for something to become of a lease, which may be done or not if no answer comes.
    fn change<T>(&mut self, id: LeaseId, ask: impl FnOnce() -> Result<T, ClientError>) -> Result<T, ClientError> {
        self.changing.push(id);
        let answer = ask()?;
        self.changed(id);
        Ok(answer)
    }

    fn changed(&mut self, id: LeaseId) {
        self.changing.retain(|changing| *changing != id);
    }

    /// Releases a lease.
    pub fn release(&mut self, client: &mut Client, id: LeaseId) -> Result<(), ClientError> {
        self.held.remove(&id.slot);
        self.change(id, || client.release(id))
    }

    /// The same by closing the connection that it ends with; its slot is leased again by another.
    pub fn close(&mut self, holder: Option<Client>, id: LeaseId, client: &mut Client) -> Result<(), ClientError> {
        self.held.remove(&id.slot);
        self.changing.push(id);
        drop(holder);
        let again = self.lease(client, &LeaseOptions { wait: PATIENCE, ..LeaseOptions::default() })?;
        assert_eq!(again[0].slot, id.slot, "all others are leased");
        self.changed(id);
        Ok(())
    }

    /// Binds a lease that is held.
    pub fn bind(&mut self, client: &mut Client, id: LeaseId) -> Result<(), ClientError> {
        self.change(id, || client.bind(id, NETWORK))?;
        self.held.insert(id.slot, (id.generation, true));
        Ok(())
    }

    /// The other way round.
    pub fn unbind(&mut self, client: &mut Client, id: LeaseId) -> Result<(), ClientError> {
        self.change(id, || client.unbind(id))?;
        self.held.insert(id.slot, (id.generation, false));
        Ok(())
    }
}

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
    let list = served.client().list().expect("a list");
    for slot in list.slots.iter().filter(|slot| slot.state == SlotState::Leased) {
        let id = LeaseId { slot: slot.slot, generation: slot.generation };
        let bound = slot.binding.is_some();
        match known.held.remove(&slot.slot) {
            Some((generation, was_bound)) => {
                assert_eq!(slot.generation, generation, "{when}: slot {} was leased to another", slot.slot);
                assert!(bound == was_bound || known.changing.contains(&id), "{when}: {slot:?}, bound: {was_bound}");
            }
            None if known.changing.contains(&id) => {}
            None => panic!("{when}: leased, and nobody was told of it (asking: {}): {slot:?}", known.asking),
        }
        served.client().release(id).expect("this user's");
    }
    assert!(known.held.is_empty(), "{when}: lost: {:?}", known.held);
    *known = Known::default();
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
