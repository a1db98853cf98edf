//! One daemon takes over from another, and either is killed after its n-th change: whoever is left serves, or the next plain
//! start does. No lease is lost, none is double, and a request that waits is answered once or not at all.

use std::time::Duration;

use netslot_protocol::client::{Client, ClientError, LeaseOptions};
use netslot_protocol::request::{self, Call as _};
use netslot_protocol::{LeaseId, Policy, State as SlotState, Text, reply};

use crate::common::World;
use crate::daemon::{Doomed, take_over};
use crate::known::Known;
use crate::loops::{Table, all, changes_in, places, pool};
use crate::served::{PATIENCE, Raw, SOCKET};
use crate::state::State;

/// Of the pool.
const SLOTS: u32 = 2;

/// As good as not killed.
const NEVER: u64 = 1_000_000;

/// Who hangs on the daemons: a connection with a lease, one whose lease ends with it, and a request that waits.
struct Clients {
    client: Client,
    explicit: LeaseId,
    closing: Option<Client>,
    on_disconnect: LeaseId,
    waits: Option<Raw>,
}

impl Clients {
    /// `None` where the daemon died before all of them had what they came for.
    fn seat(known: &mut Known) -> Option<Self> {
        let (client, explicit) = leased(known, Policy::Explicit).ok()?;
        let (mut closing, on_disconnect) = leased(known, Policy::OnDisconnect).ok()?;
        let waits = Raw::reach()?;
        let request = request::Lease {
            count: 1,
            wait_ms: 280_000,
            tag: Text::cut("waits"),
            policy: Policy::Explicit,
            want_netns_fd: false,
            want_tap_fd: false,
            own_stack: false,
        };
        waits.ask(7, &request).ok()?;
        while closing.status().ok()?.waiters == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { client, explicit, closing: Some(closing), on_disconnect, waits: Some(waits) })
    }

    /// Requests on a connection that stands, some of them before the pool changes hands and some after.
    fn load(&mut self, known: &mut Known) -> Result<(), ClientError> {
        for _ in 0..6 {
            known.bind(&mut self.client, self.explicit)?;
            std::thread::sleep(Duration::from_millis(3));
            known.unbind(&mut self.client, self.explicit)?;
        }
        Ok(())
    }

    /// What comes after: the one that waits gets a slot, and when a lease has ended with its connection, its slot is leased
    /// again.
    fn leave(&mut self, known: &mut Known) -> Result<(), ClientError> {
        let status = self.client.status()?;
        assert_eq!((status.waiters, status.count(SlotState::Leased)), (1, SLOTS), "nobody may be lost: {status:?}");
        known.release(&mut self.client, self.explicit)?;
        self.read_answer(known);
        let again = LeaseOptions { wait: PATIENCE, ..LeaseOptions::default() };
        known.close(self.closing.take(), self.on_disconnect, &mut self.client, &again)
    }

    /// Reads what became of the request that waits: it knows of its lease, or nobody does.
    fn read_answer(&mut self, known: &mut Known) {
        let Some((kind, id, body)) = self.waits.take().and_then(|waits| waits.receive()) else { return };
        assert_eq!(id, 7);
        if kind == request::Lease::KIND.reply() {
            let grants = netslot_protocol::decode::<reply::Lease>(&body).expect("a lease").grants;
            grants.iter().for_each(|grant| known.granted(grant.lease));
        }
    }
}

/// A connection with a lease.
fn leased(known: &mut Known, policy: Policy) -> Result<(Client, LeaseId), ClientError> {
    let mut client = Client::connect_as(SOCKET.as_ref(), "test", PATIENCE)?;
    let ids = known.lease(&mut client, &LeaseOptions { policy, ..LeaseOptions::default() })?;
    Ok((client, ids[0]))
}

/// Waits until one of the two is gone; who is left, if any is, and serves.
fn survivor<'a>(old: &'a mut Doomed, new: &'a mut Doomed) -> Option<&'a mut Doomed> {
    while !old.has_ended() && !new.has_ended() {
        std::thread::sleep(Duration::from_millis(2));
    }
    [old, new].into_iter().find_map(|one| (!one.has_ended() && one.serves()).then_some(one))
}

/// How a hand-over ended.
#[derive(Debug)]
struct Ended {
    /// The first daemon had clients before it was killed, if it was.
    began: bool,
    /// One of the two served after it.
    served: bool,
    /// And all clients went on as if nothing had been.
    went_on: bool,
    /// What the two have told.
    told: [String; 2],
}

/// A daemon, clients, and a second daemon that takes over; each is to be killed after so many changes.
fn hand_over(world: &World, kill: [u64; 2], known: &mut Known) -> Ended {
    let mut old = Doomed::start(world, &["serve"], kill[0]);
    let seated = if old.serves() { Clients::seat(known) } else { None };
    let Some(mut clients) = seated else {
        return Ended { began: false, served: false, went_on: false, told: [old.told(), String::new()] };
    };
    let mut new = Doomed::start(world, &["serve", "--replace"], kill[1]);
    let (survivor, loaded) = std::thread::scope(|scope| {
        let load = scope.spawn(|| clients.load(known).is_ok());
        (survivor(&mut old, &mut new), load.join().expect("no panic"))
    });
    let served = survivor.is_some();
    let went_on = survivor.is_some_and(|survivor| {
        let went_on = loaded && clients.leave(known).is_ok();
        survivor.stop();
        went_on
    });
    let told = [old.told(), new.told()];
    clients.read_answer(known);
    Ended { began: true, served, went_on, told }
}

/// What an undisturbed hand-over leaves is what any other must leave.
struct Relay<'w> {
    world: &'w World,
    known: Known,
    changes: [u64; 2],
    rest: State,
}

impl<'w> Relay<'w> {
    fn undisturbed(world: &'w World) -> Self {
        let mut known = Known::default();
        let ended = hand_over(world, [NEVER; 2], &mut known);
        assert!(ended.went_on, "{ended:?}");
        take_over(world, &mut known, "undisturbed");
        let changes = [0, 1].map(|who: usize| changes_in(&ended.told[who]));
        Self { world, known, changes, rest: State::of(world) }
    }

    /// One of the two is killed; then a plain start.
    fn disturbed(&mut self, who: usize, n: u64, table: &mut Table) -> Ended {
        let mut kill = [NEVER; 2];
        kill[who] = n;
        let ended = hand_over(self.world, kill, &mut self.known);
        table.kill(!ended.told[who].contains("changes made"));
        let when = format!("killed after {n} of {}: {ended:?}", self.changes[who]);
        take_over(self.world, &mut self.known, &when);
        State::of(self.world).must_be(&self.rest, &when);
        ended
    }
}

#[test]
fn a_newcomer_killed_after_any_change_loses_no_lease() {
    let Some((world, _)) = pool("quotas.wait_ms_max = 300000") else { return };
    let mut relay = Relay::undisturbed(&world);
    let mut table = Table::new("serve --replace, the newcomer", relay.changes[1]);
    for n in places(relay.changes[1], 7) {
        let ended = relay.disturbed(1, n, &mut table);
        assert!(ended.began, "{ended:?}");
        assert!(n > 1 || ended.went_on, "it had only asked, and the old one was to serve on: {ended:?}");
    }
    assert!(table.has_killed(), "nobody was killed");
}

#[test]
fn an_old_daemon_killed_after_any_change_while_it_hands_over_loses_no_lease() {
    let Some((world, _)) = pool("quotas.wait_ms_max = 300000") else { return };
    let mut relay = Relay::undisturbed(&world);
    let mut table = Table::new("serve, handing over", relay.changes[0]);
    // From its last change back to those that it makes before there is a newcomer.
    let step = if all() { 1 } else { 5 };
    for n in (1..=relay.changes[0]).rev().step_by(step) {
        let ended = relay.disturbed(0, n, &mut table);
        if !ended.began {
            break;
        }
        assert!(ended.served, "the newcomer found nobody, and was to begin: {ended:?}");
    }
    assert!(table.has_killed(), "nobody was killed");
}
