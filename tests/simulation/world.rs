//! The simulated surroundings: clients, workers and the clock, each step one command to the ledger and to the model.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use netslot::config::{Config, Empty, Quotas};
use netslot::ledger::{
    Binding, Effect, Effects, HolderId, Lease, Ledger, Observed, Outcome, Owner, Policy, Reason, Refusal, Request,
    Scrubbed, Settings, Store, Tag, Tunnels,
};
use netslot::slot::{Generation, SlotId};
use netslot_abi::{LedgerRecord, SlotState, ledger_flag};

use crate::model::{Answer, Connection, Entry, Model, Waiter};
use crate::random::Random;
use crate::store::{Crash, FragileStore, Machine};

/// What a run got to see.
#[derive(Debug, Default)]
pub struct Tally {
    pub granted: u64,
    pub served_waiters: u64,
    pub refusals: u64,
    pub binds: u64,
    pub quarantines: u64,
    pub crashes: u64,
    pub given_back_unsent: u64,
    pub replies_cut: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.granted += other.granted;
        self.served_waiters += other.served_waiters;
        self.refusals += other.refusals;
        self.binds += other.binds;
        self.quarantines += other.quarantines;
        self.crashes += other.crashes;
        self.given_back_unsent += other.given_back_unsent;
        self.replies_cut += other.replies_cut;
    }
}

const UIDS: [u32; 4] = [0, 7, 1_000, 1_001];
const MS: u64 = 1_000_000;

fn slot_id(number: u32) -> SlotId {
    SlotId::new(number).expect("few slots")
}

pub struct World {
    random: Random,
    machine: Rc<Machine>,
    ledger: Ledger<FragileStore>,
    model: Model,
    fx: Effects,
    now_ns: u64,
    serial: u64,
    ticket: u64,
    /// Connections, or their remains, under the ledger's name and the model's.
    ids: BTreeMap<u64, HolderId>,
    /// Scrubs that the worker was told to do.
    scrubs: Vec<Lease>,
    /// Grants whose reply has not been tried.
    replies: Vec<Vec<Lease>>,
    /// The reply under way, as it outlives a crash: its leases, and whether it has left.
    reply: (Vec<Lease>, bool),
    /// Kernel objects that are there.
    exists: Vec<bool>,
    /// The slots before the command under way.
    past: Vec<Entry>,
    tally: Tally,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let slots = 2 + random.below(14);
        let slots_max = slots + random.below(5);
        let quotas = Quotas {
            leases_per_uid: if random.one_in(4) { 1 + random.below(slots_max) } else { 100 },
            connections_per_uid: 1 + random.below(6),
            connections: 2 + random.below(10),
            waiters_per_uid: 1 + random.below(6),
            wait_ms_max: 1 + random.below(200),
            reserve: if random.one_in(2) { 0 } else { random.below(slots) },
            reserve_uids: if random.one_in(2) { vec![] } else { vec![7] },
            ..Quotas::default()
        };
        let empty = random.pick(&[Empty::Fail, Empty::Wait, Empty::Create, Empty::Create]).expect("four");
        let settings = Settings { slots, slots_max, empty, quotas, tunnels: Tunnels::of(&Config::default()) };
        let machine = Machine::new(slots_max);
        let mut fx = Effects::with_capacity(slots_max, 0);
        let observed = |slot: SlotId| if slot.number() < slots { Observed::Whole } else { Observed::Absent };
        let ledger = Ledger::open(machine.store(), settings.clone(), observed, &[], 0, &mut fx);
        let blank = Entry {
            state: SlotState::Building,
            generation: 0,
            owner: Owner::default(),
            policy: Policy::Explicit,
            holder: 0,
            unsent: false,
            grant: 0,
            reason: None,
            binding: None,
        };
        let model = Model {
            settings,
            slots: (0..slots_max).map(|_| blank).collect(),
            trail: vec![],
            free: (0..slots).collect(),
            idle: (slots..slots_max).collect(),
            requested: vec![],
            queue: vec![],
            connections: vec![],
            answers: vec![],
            grants: 0,
        };
        let mut world = Self {
            random,
            machine,
            ledger,
            model,
            fx,
            now_ns: 0,
            serial: 0,
            ticket: 0,
            ids: BTreeMap::new(),
            scrubs: vec![],
            replies: vec![],
            reply: (vec![], false),
            exists: (0..slots_max).map(|n| n < slots).collect(),
            past: vec![],
            tally: Tally::default(),
        };
        for slot in 0..slots {
            world.model.set_state(slot, SlotState::Free);
        }
        world.compare();
        world
    }

    pub fn tally(self) -> Tally {
        self.tally
    }

    pub fn step(&mut self) {
        self.now_ns += u64::from(self.random.below(4)) * MS;
        self.machine.crash_after(None);
        if self.random.one_in(25) {
            // A record is 8 words; most commands store one or two.
            let words = if self.random.one_in(4) { self.random.below(64) } else { self.random.below(12) };
            self.machine.crash_after(Some(words));
        }
        self.machine.refuse_next_binding(None);
        self.begin();
        match self.random.below(100) {
            0..8 => self.connect(),
            8..10 => self.disconnect(),
            10..12 => self.owner_dies(),
            12..35 => self.lease(),
            35..47 => self.release(),
            47..58 => self.bind(),
            58..61 => self.unbind(),
            61..85 => self.scrub_ends(),
            85..88 => self.slot_is_lost(),
            88..94 => self.worker_builds(),
            94..95 => self.retire(),
            95..96 => self.grow(),
            _ => self.tick(),
        }
        while let Some(leases) = self.replies.pop() {
            self.begin();
            self.reply(&leases);
        }
    }

    /// Remembers where the next command starts from.
    fn begin(&mut self) {
        self.model.trail.clear();
        self.past.clone_from(&self.model.slots);
    }

    /// Runs a command on the ledger; `None` if the machine crashed within, and the ledger was opened again since.
    fn command<T>(&mut self, command: impl FnOnce(&mut Ledger<FragileStore>, &mut Effects) -> T) -> Option<T> {
        self.fx.clear();
        let Self { ledger, fx, .. } = self;
        match catch_unwind(AssertUnwindSafe(|| command(ledger, fx))) {
            Ok(value) => {
                self.machine.crash_after(None);
                self.take_effects();
                self.compare();
                Some(value)
            }
            Err(payload) if payload.is::<Crash>() => {
                self.crash();
                None
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    fn take_effects(&mut self) {
        let mut answers = vec![];
        for effect in self.fx.list() {
            match *effect {
                Effect::Changed { slot, generation, to, .. } => {
                    let shown = (slot.number(), generation.0, to);
                    let seen = self.model.trail.iter().any(|(n, e)| (*n, e.generation, e.state) == shown);
                    assert!(seen, "a change that nothing explains: {effect:?}");
                }
                Effect::Scrub(lease) => self.scrubs.push(lease),
                Effect::Quarantined { slot, reason } => {
                    self.tally.quarantines += 1;
                    assert_eq!(self.model.slots[slot.index()].reason, Some(reason), "slot {slot}");
                }
                Effect::Create(slot) => assert!(self.model.requested.contains(&slot.number()), "slot {slot} asked for"),
                Effect::Granted { ticket, grant, .. } => {
                    let leases = self.fx.leases(grant).to_vec();
                    answers.push(Answer::Granted { ticket, slots: leases.iter().map(|l| l.slot.number()).collect() });
                    self.tally.served_waiters += 1;
                    self.replies.push(leases);
                }
                Effect::Refused { ticket, .. } => answers.push(Answer::Refused { ticket }),
                Effect::Adopted(_) => panic!("only recovery adopts"),
                Effect::HolderGone(id) => self.ids.retain(|_, known| *known != id),
            }
        }
        assert_eq!(answers, std::mem::take(&mut self.model.answers), "who was served, in order");
        let left: Vec<u64> = self.model.connections.iter().filter(|c| self.is_left(c)).map(|c| c.serial).collect();
        self.model.connections.retain(|c| left.contains(&c.serial));
        assert_eq!(self.ids.keys().copied().collect::<Vec<_>>(), left, "connections and their remains");
    }

    fn is_left(&self, c: &Connection) -> bool {
        let lease = |e: &Entry| e.state == SlotState::Leased && e.policy != Policy::Explicit && e.holder == c.serial;
        c.connected || self.model.slots.iter().any(lease)
    }

    fn compare(&self) {
        for (number, ((record, binding), entry)) in self.ledger.records().zip(&self.model.slots).enumerate() {
            let shown = Self::entry_of(record, binding.and_then(Binding::of));
            assert!(same(&shown, entry), "slot {number} is {shown:?}, and should be {entry:?}");
        }
        assert_eq!(self.ledger.waiting() as usize, self.model.queue.len(), "requests that wait");
        let scrubbing = self.model.slots.iter().filter(|e| e.state == SlotState::Scrubbing).count();
        let told =
            |e: &Entry, n: usize| self.scrubs.iter().any(|l| l.slot.index() == n && l.generation.0 == e.generation);
        let known = (0..).zip(&self.model.slots).filter(|(n, e)| e.state == SlotState::Scrubbing && told(e, *n));
        assert_eq!(known.count(), scrubbing, "a slot to be scrubbed that no worker was told of");
    }

    fn entry_of(record: &LedgerRecord, binding: Option<Binding>) -> Entry {
        Entry {
            state: record.state().expect("the ledger keeps only states"),
            generation: record.generation(),
            owner: Owner {
                uid: record.owner_uid,
                gid: record.owner_gid,
                pid: record.owner_pid,
                inode: record.owner_inode,
            },
            policy: Policy::from_byte(record.policy).unwrap_or(Policy::Explicit),
            holder: 0,
            unsent: record.flags & ledger_flag::UNSENT != 0,
            grant: 0,
            reason: Reason::from_byte(record.reason),
            binding,
        }
    }

    fn connect(&mut self) {
        let uid = self.random.pick(&UIDS).expect("some");
        let pid = 1 + self.random.below(20);
        let owner = Owner { uid, gid: uid, pid, inode: u64::from(pid) + 1_000 };
        let of = |c: &&Connection| c.connected;
        let quotas = &self.model.settings.quotas;
        let kept = if uid == 0 { 8 } else { 0 };
        let all = self.model.connections.iter().filter(of).count();
        let users = self.model.connections.iter().filter(of).filter(|c| c.owner.uid == uid).count();
        let refused = if all >= (quotas.connections + kept) as usize {
            Some(Refusal::ConnectionsFull)
        } else if !self.model.is_reserved(uid) && users >= (quotas.connections_per_uid + kept) as usize {
            Some(Refusal::ConnectionQuota)
        } else {
            None
        };
        self.fx.clear();
        match (self.ledger.connect(owner), refused) {
            (Ok(id), None) => {
                self.serial += 1;
                self.model.connections.push(Connection { serial: self.serial, owner, connected: true, alive: true });
                assert!(!self.ids.values().any(|known| *known == id), "a holder's number in use twice");
                self.ids.insert(self.serial, id);
            }
            (Err(why), Some(expected)) => assert_eq!(why, expected),
            (got, expected) => panic!("connect gave {got:?} and should have given {expected:?}"),
        }
        self.machine.crash_after(None);
    }

    fn any_connection(&mut self, test: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let serials: Vec<u64> = self.model.connections.iter().filter(|c| test(c)).map(|c| c.serial).collect();
        let serial = self.random.pick(&serials)?;
        self.model.connection(serial).cloned()
    }

    fn disconnect(&mut self) {
        let Some(c) = self.any_connection(|c| c.connected) else { return };
        let model = &mut self.model;
        model.queue.retain(|w| w.connection != c.serial);
        model.end_leases(|e| e.policy == Policy::OnDisconnect && e.holder == c.serial);
        model.connections.iter_mut().filter(|x| x.serial == c.serial).for_each(|x| x.connected = false);
        model.pump();
        let (id, now_ns) = (self.ids[&c.serial], self.now_ns);
        self.command(|ledger, fx| ledger.disconnect(id, now_ns, fx));
    }

    fn owner_dies(&mut self) {
        let Some(c) = self.any_connection(|c| c.alive) else { return };
        let model = &mut self.model;
        let dropped = |w: &Waiter| w.connection == c.serial && w.policy == Policy::OnExit;
        model.answers.extend(model.queue.iter().filter(|w| dropped(w)).map(|w| Answer::Refused { ticket: w.ticket }));
        model.queue.retain(|w| !dropped(w));
        model.end_leases(|e| {
            e.holder == c.serial && (e.policy == Policy::OnExit || (e.policy == Policy::OnDisconnect && !c.connected))
        });
        model.connections.iter_mut().filter(|x| x.serial == c.serial).for_each(|x| x.alive = false);
        model.pump();
        let (id, now_ns) = (self.ids[&c.serial], self.now_ns);
        self.command(|ledger, fx| ledger.owner_died(id, now_ns, fx));
    }

    fn lease(&mut self) {
        let Some(c) = self.any_connection(|c| c.connected) else { return };
        self.ticket += 1;
        let count = match self.random.below(20) {
            0 => 0,
            1 => 65,
            2..6 => 2 + self.random.below(6),
            _ => 1,
        };
        let policy = self.random.pick(&[Policy::Explicit, Policy::OnExit, Policy::OnDisconnect]).expect("three");
        let wait_ns = if self.random.one_in(3) { 0 } else { u64::from(self.random.below(100)) * MS };
        let tag = Tag::new("simulated").expect("short");
        let own_stack = count % 2 == 1;
        let request =
            Request { holder: self.ids[&c.serial], ticket: self.ticket, count, tag, policy, own_stack, wait_ns };
        let expected = self.predict_lease(&c, &request);
        let now_ns = self.now_ns;
        let got = self.command(|ledger, fx| {
            let outcome = ledger.lease(&request, now_ns, fx);
            outcome.map(|outcome| match outcome {
                Outcome::Granted(grant) => Some(fx.leases(grant).to_vec()),
                Outcome::Waiting => None,
            })
        });
        let Some(got) = got else { return };
        let numbers = |leases: &Vec<Lease>| leases.iter().map(|l| l.slot.number()).collect::<Vec<_>>();
        assert_eq!(
            got.as_ref().map(|o| o.as_ref().map(numbers)),
            expected.as_ref().map(Option::as_ref).map(|o| o.cloned())
        );
        match got {
            Ok(Some(leases)) => {
                self.tally.granted += 1;
                self.replies.push(leases);
            }
            Ok(None) => {}
            Err(_) => self.tally.refusals += 1,
        }
    }

    fn predict_lease(&mut self, c: &Connection, r: &Request) -> Result<Option<Vec<u32>>, Refusal> {
        let model = &mut self.model;
        let (uid, settings) = (c.owner.uid, model.settings.clone());
        let reserved = model.is_reserved(uid);
        let made = model.slots.iter().filter(|e| e.state != SlotState::Building).count();
        let planned = if settings.empty == Empty::Create { settings.slots_max } else { settings.slots };
        let pool = u32::try_from(made).expect("few").max(planned);
        let reachable = if reserved { pool } else { pool.saturating_sub(settings.quotas.reserve) };
        if r.count == 0 || r.count > 64 {
            return Err(Refusal::CountRange);
        }
        if r.policy == Policy::OnExit && !c.alive {
            return Err(Refusal::OwnerGone);
        }
        if r.count > reachable {
            return Err(Refusal::CountBeyondPool);
        }
        let charged = model.leases_of(uid) + model.waiting_slots_of(uid) + r.count;
        if !reserved && charged > settings.quotas.leases_per_uid {
            return Err(Refusal::LeaseQuota);
        }
        if !model.must_queue(uid) && r.count <= model.available(uid) {
            return Ok(Some(model.grant(c.serial, c.owner, r.count, r.policy)));
        }
        if r.wait_ns == 0 || settings.empty == Empty::Fail {
            return Err(Refusal::PoolEmpty);
        }
        let waiting = model.queue.iter().filter(|w| w.owner.uid == uid).count();
        if !reserved && waiting >= settings.quotas.waiters_per_uid as usize {
            return Err(Refusal::WaiterQuota);
        }
        let deadline_ns = self.now_ns + r.wait_ns.min(u64::from(settings.quotas.wait_ms_max) * MS);
        model.queue.push(Waiter {
            ticket: r.ticket,
            connection: c.serial,
            owner: c.owner,
            count: r.count,
            policy: r.policy,
            deadline_ns,
        });
        model.grow();
        Ok(None)
    }

    /// The reply with a grant's leases leaves, or fails to.
    fn reply(&mut self, leases: &[Lease]) {
        let numbers: Vec<u32> = leases.iter().map(|l| l.slot.number()).collect();
        // A crash of an earlier reply in this step may have ended them.
        if !leases.iter().all(|l| {
            let e = &self.model.slots[l.slot.index()];
            e.state == SlotState::Leased && e.generation == l.generation.0 && e.unsent
        }) {
            return;
        }
        if self.random.one_in(8) {
            for slot in &numbers {
                self.model.end_lease(*slot, None);
            }
            self.model.pump();
            let now_ns = self.now_ns;
            self.command(|ledger, fx| ledger.undo(leases, now_ns, fx));
        } else {
            self.reply = (leases.to_vec(), false);
            if self.random.one_in(50) {
                // Between the note of the reply and its sending.
                return self.crash();
            }
            self.reply.1 = true;
            if self.random.one_in(25) {
                let words = self.random.below(8 * u32::try_from(leases.len()).expect("few"));
                self.machine.crash_after(Some(words));
            }
            self.model.reply_left(&numbers);
            if self.command(|ledger, _| ledger.reply_left(leases)).is_some() {
                self.reply.0.clear();
            }
        }
    }

    /// A slot and a generation, mostly those of a lease; a user, mostly its owner.
    fn some_claim(&mut self) -> (Lease, u32) {
        let all = u32::try_from(self.model.slots.len()).expect("few");
        let leased: Vec<u32> = (0..all).filter(|n| self.model.slots[*n as usize].state == SlotState::Leased).collect();
        let number = match self.random.pick(&leased) {
            Some(number) if !self.random.one_in(12) => number,
            _ => self.random.below(all + 1),
        };
        let entry = self.model.slots.get(number as usize);
        let generation = entry.map_or(0, |e| e.generation);
        let owner = entry.map_or(0, |e| e.owner.uid);
        let generation = if self.random.one_in(10) { generation.wrapping_sub(1) } else { generation };
        let uid = if self.random.one_in(10) { self.random.pick(&UIDS).expect("some") } else { owner };
        (Lease { slot: slot_id(number), generation: Generation(generation) }, uid)
    }

    fn check_claim(&self, claim: Lease, uid: u32) -> Result<u32, Refusal> {
        let number = claim.slot.number();
        let entry = self.model.slots.get(number as usize).ok_or(Refusal::NoSuchSlot)?;
        if entry.state != SlotState::Leased || entry.generation != claim.generation.0 {
            return Err(Refusal::Stale { generation: Generation(entry.generation), state: entry.state });
        }
        if uid != 0 && entry.owner.uid != uid { Err(Refusal::NotOwner) } else { Ok(number) }
    }

    fn expect(&mut self, got: Option<Result<(), Refusal>>, expected: Result<(), Refusal>) {
        let Some(got) = got else { return };
        self.tally.refusals += u64::from(got.is_err());
        assert_eq!(got, expected);
    }

    fn release(&mut self) {
        let (claim, uid) = self.some_claim();
        let expected = self.check_claim(claim, uid).map(|slot| self.model.end_lease(slot, None));
        let got = self.command(|ledger, fx| ledger.release(claim, uid, fx));
        self.expect(got, expected);
    }

    fn bind(&mut self) {
        let (claim, uid) = self.some_claim();
        let low = |random: &mut Random| u8::try_from(1 + random.below(6)).expect("small");
        let v4 = (!self.random.one_in(4)).then(|| [10, 0, 0, low(&mut self.random)].into());
        let v6 = self.random.one_in(2).then(|| [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(low(&mut self.random))].into());
        let vni = if self.random.one_in(20) { 1 << 24 } else { self.random.below(4) };
        let remote = if self.random.one_in(20) { [224, 0, 0, 1].into() } else { [192, 0, 2, 1].into() };
        let binding = Binding { vni, remote, tenant_v4: v4, tenant_v6: v6 };
        let refuse = self.random.one_in(15);
        self.machine.refuse_next_binding(refuse.then_some(12));
        let expected = self.check_claim(claim, uid).and_then(|slot| {
            if vni == 0 || vni == 1 << 24 {
                return Err(Refusal::VniRange);
            }
            if remote.is_multicast() {
                return Err(Refusal::RemoteAddress);
            }
            if v4.is_none() && v6.is_none() {
                return Err(Refusal::TenantAddress);
            }
            if let Some(other) = self.model.taken_by(slot, &binding) {
                return Err(Refusal::AddressInUse(slot_id(other)));
            }
            self.model.set_binding(slot, None);
            if refuse {
                return Err(Refusal::Store(netslot::ledger::StoreError(12)));
            }
            self.model.set_binding(slot, Some(binding));
            self.tally.binds += 1;
            Ok(())
        });
        let got = self.command(|ledger, _| ledger.bind(claim, uid, &binding));
        self.expect(got, expected);
    }

    fn unbind(&mut self) {
        let (claim, uid) = self.some_claim();
        let expected = self.check_claim(claim, uid).map(|slot| self.model.set_binding(slot, None));
        let got = self.command(|ledger, _| ledger.unbind(claim, uid));
        self.expect(got, expected);
    }

    fn scrub_ends(&mut self) {
        if self.scrubs.is_empty() {
            return;
        }
        let at = self.random.below(u32::try_from(self.scrubs.len()).expect("few")) as usize;
        let lease = self.scrubs.swap_remove(at);
        let number = lease.slot.number();
        let entry = self.model.slots[number as usize];
        let outcome = if self.random.one_in(12) { Scrubbed::Quarantine(Reason::TapHeld) } else { Scrubbed::Clean };
        if entry.state == SlotState::Scrubbing && entry.generation == lease.generation.0 {
            match outcome {
                Scrubbed::Clean => self.model.set_free(number),
                Scrubbed::Quarantine(reason) => self.model.quarantine(number, reason),
            }
            self.model.pump();
        }
        let now_ns = self.now_ns;
        self.command(|ledger, fx| ledger.scrubbed(lease, outcome, now_ns, fx));
    }

    fn any_slot(&mut self) -> u32 {
        self.random.below(u32::try_from(self.model.slots.len()).expect("few") + 1)
    }

    fn slot_is_lost(&mut self) {
        let number = self.any_slot();
        let expected = match self.model.slots.get(number as usize).map(|e| e.state) {
            None => Err(Refusal::NoSuchSlot),
            Some(SlotState::Free | SlotState::Leased | SlotState::Scrubbing) => {
                self.exists[number as usize] = false;
                self.model.quarantine(number, Reason::Lost);
                self.model.pump();
                Ok(())
            }
            Some(other) => Err(Refusal::WrongState(other)),
        };
        let now_ns = self.now_ns;
        let got = self.command(|ledger, fx| ledger.lost(slot_id(number), Reason::Lost, now_ns, fx));
        self.expect(got, expected);
    }

    /// The worker goes on with something to be built, or reports on it.
    fn worker_builds(&mut self) {
        let number = self.any_slot();
        let slot = slot_id(number);
        let (fails, now_ns) = (self.random.one_in(6), self.now_ns);
        match self.model.slots.get(number as usize).map(|e| e.state) {
            Some(SlotState::Quarantined) => {
                self.model.set_state(number, SlotState::Rebuilding);
                let got = self.command(|ledger, fx| ledger.rebuild(slot, fx));
                self.expect(got, Ok(()));
            }
            Some(SlotState::Building) if fails => {
                let model = &mut self.model;
                model.requested.retain(|n| *n != number);
                model.idle.retain(|n| *n != number);
                model.idle.push_back(number);
                let got = self.command(|ledger, fx| ledger.build_failed(slot, fx));
                self.expect(got, Ok(()));
            }
            Some(SlotState::Rebuilding) if fails => {
                self.exists[number as usize] = false;
                self.model.quarantine(number, Reason::RebuildFailed);
                let got = self.command(|ledger, fx| ledger.build_failed(slot, fx));
                self.expect(got, Ok(()));
            }
            Some(SlotState::Building | SlotState::Rebuilding) => {
                self.exists[number as usize] = true;
                let model = &mut self.model;
                model.requested.retain(|n| *n != number);
                model.idle.retain(|n| *n != number);
                model.set_free(number);
                model.pump();
                let got = self.command(|ledger, fx| ledger.built(slot, now_ns, fx));
                self.expect(got, Ok(()));
            }
            other @ (None | Some(SlotState::Free | SlotState::Leased | SlotState::Scrubbing)) => {
                let why = other.map_or(Refusal::NoSuchSlot, Refusal::WrongState);
                let got = self.command(|ledger, fx| ledger.built(slot, now_ns, fx));
                self.expect(got, Err(why));
                let got = self.command(|ledger, fx| ledger.rebuild(slot, fx));
                self.expect(got, Err(why));
            }
        }
    }

    fn retire(&mut self) {
        let number = self.any_slot();
        let expected = match self.model.slots.get(number as usize).map(|e| e.state) {
            None => Err(Refusal::NoSuchSlot),
            Some(SlotState::Free | SlotState::Quarantined) => {
                self.exists[number as usize] = false;
                self.model.free.retain(|n| *n != number);
                self.model.set_state(number, SlotState::Building);
                self.model.idle.push_back(number);
                Ok(())
            }
            Some(other) => Err(Refusal::WrongState(other)),
        };
        let got = self.command(|ledger, fx| ledger.retire(slot_id(number), fx));
        self.expect(got, expected);
    }

    fn grow(&mut self) {
        let count = self.random.below(4);
        let expected = count.min(u32::try_from(self.model.idle.len()).expect("few"));
        let asked: Vec<u32> = self.model.idle.drain(..expected as usize).collect();
        self.model.requested.extend(asked);
        if let Some(got) = self.command(|ledger, fx| ledger.grow(count, fx)) {
            assert_eq!(got, expected);
        }
    }

    fn tick(&mut self) {
        self.now_ns += u64::from(self.random.below(60)) * MS;
        let now_ns = self.now_ns;
        let model = &mut self.model;
        let expired = |w: &&Waiter| w.deadline_ns <= now_ns;
        // The ledger looks at ordinary requests first.
        let (reserved, ordinary): (Vec<&Waiter>, Vec<&Waiter>) =
            model.queue.iter().filter(expired).partition(|w| model.settings.quotas.reserve_uids.contains(&w.owner.uid));
        let answers =
            ordinary.iter().chain(&reserved).map(|w| Answer::Refused { ticket: w.ticket }).collect::<Vec<_>>();
        let any = !answers.is_empty();
        model.answers.extend(answers);
        model.queue.retain(|w| w.deadline_ns > now_ns);
        if any {
            model.pump();
        }
        if let Some(earliest) = model.queue.iter().map(|w| w.deadline_ns).min() {
            let next = self.ledger.next_deadline_ns();
            assert!(any || next.is_some_and(|next| next <= earliest), "the clock would be looked at too late");
        }
        self.command(|ledger, fx| ledger.tick(now_ns, fx));
    }

    /// The process is gone; what it stored is left. Opens it again and checks each slot against what may be left.
    fn crash(&mut self) {
        self.tally.crashes += 1;
        self.machine.crash_after(None);
        self.now_ns += MS;
        let all = u32::try_from(self.model.slots.len()).expect("few");
        let vanished = self.random.one_in(8).then(|| self.random.below(all));
        if let Some(number) = vanished {
            self.exists[number as usize] = false;
        }
        let garbled = self.random.one_in(20).then(|| self.random.below(all));
        if let Some(number) = garbled {
            let mut store = self.machine.store();
            let mut record = store.ledger(slot_id(number));
            record.commit |= 0xf0;
            store.store_ledger(slot_id(number), &record);
        }
        self.fx.clear();
        let exists = self.exists.clone();
        let observed = |slot: SlotId| if exists[slot.index()] { Observed::Whole } else { Observed::Absent };
        let settings = self.model.settings.clone();
        // The old ledger's memory is nobody's any more.
        let answered = if self.reply.1 { self.reply.0.clone() } else { vec![] };
        self.ledger = Ledger::open(self.machine.store(), settings, observed, &answered, self.now_ns, &mut self.fx);
        for number in 0..all {
            self.check_recovered(number, garbled == Some(number));
        }
        self.check_fate_of_the_reply(garbled);
        self.resync();
        self.check_fate_of_grants();
    }

    fn check_recovered(&mut self, number: u32, garbled: bool) {
        let (record, binding) = self.ledger.get(slot_id(number)).expect("the pool is as large as before");
        let shown = Self::entry_of(record, binding.and_then(Binding::of));
        // The model has run the command to its end: the entry before it is the last known, those within are the trail.
        let trail = self.model.trail.iter().filter(|(n, _)| *n == number).map(|(_, e)| e);
        let before = self.past[number as usize];
        let explained = trail.chain([&before]).any(|e| same(&shown, &self.recovered(number, e, garbled)));
        assert!(explained, "slot {number} came back as {shown:?}; it was {before:?}, then {:?}", self.model.trail);
        let unsent = before.unsent || self.model.trail.iter().any(|(n, e)| *n == number && e.unsent);
        self.tally.given_back_unsent += u64::from(unsent && shown.state == SlotState::Scrubbing);
    }

    fn recovered(&self, number: u32, entry: &Entry, garbled: bool) -> Entry {
        let mut e = *entry;
        let exists = self.exists[number as usize];
        let beyond = number >= self.model.settings.slots;
        if garbled {
            (e.state, e.reason) = (SlotState::Quarantined, Some(Reason::UnknownState));
        }
        let (state, reason) = match e.state {
            SlotState::Leased if !exists => (SlotState::Quarantined, Some(Reason::Lost)),
            SlotState::Leased if e.unsent => (SlotState::Scrubbing, e.reason),
            SlotState::Building if exists => (SlotState::Free, e.reason),
            SlotState::Free | SlotState::Quarantined if !exists && beyond => (SlotState::Building, e.reason),
            SlotState::Free | SlotState::Scrubbing if !exists => (SlotState::Quarantined, Some(Reason::Lost)),
            SlotState::Rebuilding => (SlotState::Quarantined, Some(Reason::RebuildCut)),
            SlotState::Building
            | SlotState::Free
            | SlotState::Leased
            | SlotState::Scrubbing
            | SlotState::Quarantined => (e.state, e.reason),
        };
        if e.state == SlotState::Leased && state != SlotState::Leased {
            e.generation += 1;
        }
        if state != SlotState::Leased {
            e.binding = None;
        }
        (e.state, e.reason) = (state, reason);
        e
    }

    /// No lease is left that nobody was told of, and the leases of one request live or are given back together.
    fn check_fate_of_grants(&self) {
        let mut fates: BTreeMap<u64, bool> = BTreeMap::new();
        for (number, now) in self.model.slots.iter().enumerate() {
            let leased = now.state == SlotState::Leased;
            assert!(!(leased && now.unsent), "slot {number}: a lease nobody was told of");
            // Those whose reply was under way when the machine died.
            let was = self.past[number];
            let vanished = now.state == SlotState::Quarantined || !self.exists[number];
            if was.state == SlotState::Leased && was.unsent && !vanished {
                let fate = *fates.entry(was.grant).or_insert(leased);
                assert_eq!(fate, leased, "slot {number}: half a grant is left");
            }
        }
    }

    /// The reply that was under way has reached its client or not, and its leases stay or not with it.
    fn check_fate_of_the_reply(&mut self, garbled: Option<u32>) {
        let (leases, sent) = std::mem::take(&mut self.reply);
        for lease in leases {
            let number = lease.slot.number();
            if Some(number) == garbled || !self.exists[number as usize] {
                continue;
            }
            let (record, _) = self.ledger.get(lease.slot).expect("the pool is as large as before");
            let stays = record.state() == Some(SlotState::Leased) && record.generation() == lease.generation.0;
            assert_eq!(stays, sent, "slot {number}: its reply left: {sent}");
            self.tally.replies_cut += 1;
        }
    }

    /// Takes the recovered ledger's word for what the model cannot know: which of the allowed it was.
    fn resync(&mut self) {
        let mut order: Vec<(u64, u32)> = vec![];
        let grants: Vec<u64> = self.model.slots.iter().map(|e| e.grant).collect();
        self.model.connections.clear();
        self.ids.clear();
        self.scrubs.clear();
        self.replies.clear();
        for effect in self.fx.list() {
            match *effect {
                Effect::Adopted(id) => {
                    let Some(owner) = self.ledger.owner(id) else { continue };
                    self.serial += 1;
                    self.ids.insert(self.serial, id);
                    let serial = self.serial;
                    self.model.connections.push(Connection { serial, owner, connected: false, alive: true });
                }
                Effect::HolderGone(id) => {
                    let gone: Vec<u64> = self.ids.iter().filter(|(_, k)| **k == id).map(|(s, _)| *s).collect();
                    self.ids.retain(|_, known| *known != id);
                    self.model.connections.retain(|c| !gone.contains(&c.serial));
                }
                Effect::Scrub(lease) => self.scrubs.push(lease),
                Effect::Changed { .. } | Effect::Quarantined { .. } => {}
                Effect::Create(_) | Effect::Granted { .. } | Effect::Refused { .. } => {
                    panic!("nobody waits: {effect:?}")
                }
            }
        }
        for (number, (record, binding)) in (0_u32..).zip(self.ledger.records()) {
            let mut entry = Self::entry_of(record, binding.and_then(Binding::of));
            let by = |c: &&Connection| c.owner == entry.owner;
            entry.holder = self.model.connections.iter().find(by).map_or(0, |c| c.serial);
            entry.grant = grants[number as usize];
            self.model.slots[number as usize] = entry;
            if entry.state == SlotState::Free {
                order.push((record.since_ns, number));
            }
        }
        order.sort_unstable();
        let model = &mut self.model;
        model.free = order.iter().map(|(_, number)| *number).collect();
        let slots_max = model.settings.slots_max;
        model.idle = (0..slots_max).filter(|n| model.slots[*n as usize].state == SlotState::Building).collect();
        model.requested.clear();
        model.queue.clear();
        model.answers.clear();
        model.trail.clear();
        self.compare();
    }
}

/// Whether the two agree in all that their state gives a meaning.
fn same(a: &Entry, b: &Entry) -> bool {
    let leased = a.state != SlotState::Leased
        || (a.owner == b.owner && a.policy == b.policy && a.unsent == b.unsent && a.binding == b.binding);
    let quarantined = a.state != SlotState::Quarantined || a.reason == b.reason;
    a.state == b.state
        && a.generation == b.generation
        && leased
        && quarantined
        && (a.state == SlotState::Leased || a.binding.is_none())
}
