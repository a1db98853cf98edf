//! The ledger's behaviour, one rule at a time; the simulation in `tests/` has them all at once.

use netslot_abi::{GENERATION_MAX, LedgerRecord, SlotState, ledger_flag};

use super::*;
use crate::config::{Config, Empty, Quotas, Tunnel};
use crate::limits::LEASE_SLOTS_MAX;

type Pool = Ledger<Records<Memory>>;

const MS: u64 = 1_000_000;

fn slot(number: u32) -> SlotId {
    SlotId::new(number).expect("in range")
}

fn settings(slots: u32, empty: Empty, quotas: Quotas) -> Settings {
    Settings { slots, slots_max: slots, empty, quotas, tunnels: Tunnels::of(&Config::default()) }
}

fn open(store: Records<Memory>, settings: Settings) -> (Pool, Effects) {
    let mut fx = Effects::with_capacity(store.slots(), 16);
    let slots = settings.slots;
    let observed = |s: SlotId| if s.number() < slots { Observed::Whole } else { Observed::Absent };
    let pool = Ledger::open(store, settings, observed, &[], 0, &mut fx);
    (pool, fx)
}

fn pool(slots: u32, empty: Empty, quotas: Quotas) -> (Pool, Effects) {
    let (pool, mut fx) = open(Records(Memory::new(slots)), settings(slots, empty, quotas));
    fx.clear();
    (pool, fx)
}

fn user(uid: u32) -> Owner {
    Owner { uid, gid: uid, pid: uid + 10_000, inode: u64::from(uid) + 1 }
}

fn ask(holder: HolderId, ticket: u64, count: u32) -> Request {
    let (tag, policy, own_stack) = (Tag::default(), Policy::Explicit, false);
    Request { holder, ticket, count, tag, policy, own_stack, wait_ns: 1_000 * MS }
}

/// Takes slots that must be there, and sends the reply.
fn take(pool: &mut Pool, holder: HolderId, count: u32, policy: Policy) -> Vec<Lease> {
    let mut fx = Effects::default();
    let request = Request { policy, ..ask(holder, 0, count) };
    let Ok(Outcome::Granted(grant)) = pool.lease(&request, MS, &mut fx) else { panic!("{count} slots are there") };
    let leases = fx.leases(grant).to_vec();
    pool.reply_left(&leases);
    leases
}

fn give_back(pool: &mut Pool, lease: Lease, fx: &mut Effects) {
    assert_eq!(pool.release(lease, 0, fx), Ok(()));
    let released = Lease { generation: Generation(lease.generation.0 + 1), ..lease };
    pool.scrubbed(released, Scrubbed::Clean, MS, fx);
}

fn served(fx: &Effects) -> Vec<u64> {
    let ticket = |effect: &Effect| if let Effect::Granted { ticket, .. } = effect { Some(*ticket) } else { None };
    fx.list().iter().filter_map(ticket).collect()
}

#[test]
fn a_slot_goes_round_and_each_lease_and_release_raises_its_generation() {
    let (mut pool, mut fx) = pool(2, Empty::Fail, Quotas::default());
    let holder = pool.connect(user(5)).expect("room");
    let first = take(&mut pool, holder, 1, Policy::Explicit)[0];
    assert_eq!(first, Lease { slot: slot(0), generation: Generation(1) });
    give_back(&mut pool, first, &mut fx);
    assert_eq!(take(&mut pool, holder, 1, Policy::Explicit)[0].slot, slot(1), "the longest free first");
    let again = take(&mut pool, holder, 1, Policy::Explicit)[0];
    assert_eq!(again, Lease { slot: slot(0), generation: Generation(3) });
    assert_eq!(
        pool.release(first, 5, &mut fx),
        Err(Refusal::Stale { generation: Generation(3), state: SlotState::Leased }),
        "the old token is worth nothing"
    );
    assert_eq!(pool.release(again, 6, &mut fx), Err(Refusal::NotOwner));
    assert_eq!(pool.release(again, 0, &mut fx), Ok(()), "root may");
}

#[test]
fn an_empty_pool_fails_or_queues_or_grows_as_configured() {
    let (mut fails, mut fx) = pool(1, Empty::Fail, Quotas::default());
    let holder = fails.connect(user(5)).expect("room");
    take(&mut fails, holder, 1, Policy::Explicit);
    assert_eq!(
        fails.lease(&ask(holder, 1, 1), 0, &mut fx),
        Err(Refusal::PoolEmpty),
        "a wait is not for the client to ask"
    );

    let (mut waits, mut fx) = pool(1, Empty::Wait, Quotas { wait_ms_max: 5, ..Quotas::default() });
    let holder = waits.connect(user(5)).expect("room");
    take(&mut waits, holder, 1, Policy::Explicit);
    assert_eq!(waits.lease(&Request { wait_ns: 0, ..ask(holder, 1, 1) }, 0, &mut fx), Err(Refusal::PoolEmpty));
    assert_eq!(waits.lease(&ask(holder, 2, 1), 0, &mut fx), Ok(Outcome::Waiting));
    assert_eq!(waits.next_deadline_ns(), Some(5 * MS), "cut to the longest wait allowed");
    waits.tick(5 * MS - 1, &mut fx);
    assert!(fx.list().is_empty());
    waits.tick(5 * MS, &mut fx);
    assert_eq!(fx.list(), [Effect::Refused { holder, ticket: 2, why: Refusal::WaitExpired }]);

    let settings = Settings { slots_max: 3, ..settings(1, Empty::Create, Quotas::default()) };
    let (mut grows, mut fx) = open(Records(Memory::new(3)), settings);
    let holder = grows.connect(user(5)).expect("room");
    take(&mut grows, holder, 1, Policy::Explicit);
    fx.clear();
    assert_eq!(grows.lease(&ask(holder, 3, 2), 0, &mut fx), Ok(Outcome::Waiting));
    assert_eq!(fx.list(), [Effect::Create(slot(1)), Effect::Create(slot(2))]);
    assert_eq!(grows.lease(&ask(holder, 4, 4), 0, &mut fx), Err(Refusal::CountBeyondPool));
    fx.clear();
    assert_eq!(grows.built(slot(2), MS, &mut fx), Ok(()));
    assert!(served(&fx).is_empty(), "all or none");
    assert_eq!(grows.built(slot(1), MS, &mut fx), Ok(()));
    assert_eq!(served(&fx), [3]);
}

#[test]
fn a_large_request_is_not_starved_by_small_ones_behind_it() {
    let (mut pool, mut fx) = pool(3, Empty::Wait, Quotas::default());
    let holder = pool.connect(user(5)).expect("room");
    let held = take(&mut pool, holder, 3, Policy::Explicit);
    assert_eq!(pool.lease(&ask(holder, 1, 2), MS, &mut fx), Ok(Outcome::Waiting));
    give_back(&mut pool, held[0], &mut fx);
    assert_eq!(pool.lease(&ask(holder, 2, 1), MS, &mut fx), Ok(Outcome::Waiting), "one is free, and spoken for");
    assert!(served(&fx).is_empty());
    give_back(&mut pool, held[1], &mut fx);
    give_back(&mut pool, held[2], &mut fx);
    assert_eq!(served(&fx), [1, 2]);
}

#[test]
fn the_reserve_is_for_those_named_and_they_need_not_queue_behind_others() {
    let quotas = Quotas { reserve: 1, reserve_uids: vec![7], leases_per_uid: 2, ..Quotas::default() };
    let (mut pool, mut fx) = pool(3, Empty::Wait, quotas);
    let (other, named) = (pool.connect(user(5)).expect("room"), pool.connect(user(7)).expect("room"));
    take(&mut pool, other, 2, Policy::Explicit);
    assert_eq!(pool.lease(&ask(other, 1, 1), MS, &mut fx), Err(Refusal::LeaseQuota));
    let third = pool.connect(user(6)).expect("room");
    assert_eq!(pool.lease(&ask(third, 2, 1), MS, &mut fx), Ok(Outcome::Waiting), "the last one is kept back");
    assert_eq!(pool.lease(&ask(third, 3, 3), MS, &mut fx), Err(Refusal::CountBeyondPool), "it never gets the reserve");
    assert_eq!(take(&mut pool, named, 1, Policy::Explicit).len(), 1);
}

#[test]
fn what_is_free_is_kept_for_whoever_waits_until_its_wait_is_over() {
    let quotas = Quotas { reserve_uids: vec![7], wait_ms_max: 5, ..Quotas::default() };
    let (mut pool, mut fx) = pool(4, Empty::Wait, quotas);
    let [front, other, named] = [5, 6, 7].map(|uid| pool.connect(user(uid)).expect("room"));
    take(&mut pool, front, 1, Policy::Explicit);
    assert_eq!(pool.lease(&ask(front, 1, 4), 0, &mut fx), Ok(Outcome::Waiting));
    let at_once = Request { wait_ns: 0, ..ask(other, 2, 1) };
    assert_eq!(pool.lease(&at_once, MS, &mut fx), Err(Refusal::PoolEmpty), "three are free, and spoken for");
    assert_eq!(take(&mut pool, named, 1, Policy::Explicit).len(), 1, "above the others");
    pool.tick(5 * MS, &mut fx);
    assert!(matches!(pool.lease(&at_once, 5 * MS, &mut fx), Ok(Outcome::Granted(_))), "no longer than that");
}

#[test]
fn leases_end_with_process_or_connection_as_their_policy_says() {
    let (mut pool, mut fx) = pool(3, Empty::Fail, Quotas::default());
    let holder = pool.connect(user(5)).expect("room");
    let explicit = take(&mut pool, holder, 1, Policy::Explicit)[0];
    let on_exit = take(&mut pool, holder, 1, Policy::OnExit)[0];
    let on_disconnect = take(&mut pool, holder, 1, Policy::OnDisconnect)[0];
    let scrubs = |fx: &Effects| {
        let scrub = |e: &Effect| if let Effect::Scrub(lease) = e { Some(lease.slot) } else { None };
        fx.list().iter().filter_map(scrub).collect::<Vec<_>>()
    };
    pool.disconnect(holder, MS, &mut fx);
    assert_eq!(scrubs(&fx), [on_disconnect.slot]);
    assert!(!fx.list().contains(&Effect::HolderGone(holder)), "its process is still to be watched");
    fx.clear();
    pool.owner_died(holder, MS, &mut fx);
    assert_eq!(scrubs(&fx), [on_exit.slot]);
    assert!(fx.list().contains(&Effect::HolderGone(holder)));
    assert_eq!(pool.count(SlotState::Leased), 1);
    assert_eq!(pool.release(explicit, 5, &mut fx), Ok(()), "any connection of the user will do");
}

fn binding(vni: u32, last: u8) -> Binding {
    Binding { vni, remote: [192, 0, 2, 1].into(), tenant_v4: Some([10, 0, 0, last].into()), tenant_v6: None }
}

#[test]
fn a_tenant_address_is_one_slots_until_that_is_unbound() {
    let (mut pool, mut fx) = pool(2, Empty::Fail, Quotas::default());
    let holder = pool.connect(user(5)).expect("room");
    let leases = take(&mut pool, holder, 2, Policy::Explicit);
    assert_eq!(pool.bind(leases[0], 5, &binding(1, 2)), Ok(()));
    assert_eq!(pool.bind(leases[0], 5, &binding(1, 2)), Ok(()), "again is no conflict");
    assert_eq!(pool.bind(leases[1], 5, &binding(1, 2)), Err(Refusal::AddressInUse(slot(0))));
    assert_eq!(pool.bind(leases[1], 5, &binding(2, 2)), Ok(()), "another network has its own addresses");
    assert_eq!(pool.bind(leases[0], 5, &binding(1, 3)), Ok(()));
    assert_eq!(pool.bind(leases[1], 5, &binding(1, 2)), Ok(()), "moved on, it left its old address");
    for (vni, why) in [(0, Refusal::VniRange), (1 << 24, Refusal::VniRange)] {
        assert_eq!(pool.bind(leases[0], 5, &binding(vni, 9)), Err(why));
    }
    let nowhere = Binding { remote: "ff02::1".parse().expect("an address"), ..binding(1, 9) };
    assert_eq!(pool.bind(leases[0], 5, &nowhere), Err(Refusal::RemoteAddress));
    assert_eq!(pool.bind(leases[0], 5, &Binding { tenant_v4: None, ..binding(1, 9) }), Err(Refusal::TenantAddress));
    assert_eq!(pool.unbind(leases[1], 6), Err(Refusal::NotOwner));
    give_back(&mut pool, leases[1], &mut fx);
    assert_eq!(pool.bind(leases[0], 5, &binding(1, 2)), Ok(()), "a release unbinds");
}

#[test]
fn what_the_programs_cannot_carry_is_not_bound() {
    let (mut pool, _) = pool(1, Empty::Fail, Quotas::default());
    let holder = pool.connect(user(5)).expect("room");
    let lease = take(&mut pool, holder, 1, Policy::Explicit)[0];
    let config = Config { tunnel: Tunnel::Geneve, vni_base: 0xf0_0000, slots_max: 16, ..Config::default() };
    let told = |tunnel, v4, v6| {
        let record = netslot_abi::ConfigRecord {
            vni_base: 0xf0_0000,
            slots: 16,
            tunnel,
            underlay_v4: v4,
            underlay_v6: v6,
            ..netslot_abi::ConfigRecord::empty()
        };
        Tunnels::told(&record)
    };
    let (own4, own6) = ([198, 51, 100, 2], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    let to = |remote: &str, vni| Binding { remote: remote.parse().expect("an address"), ..binding(vni, 9) };
    let (v4, v6) = ("203.0.113.9", "2001:db8::9");
    use netslot_abi::tunnel::{EBPF, GENEVE, OFF};
    let rows = [
        (Tunnels::of(&Config { tunnel: Tunnel::Off, ..config.clone() }), to(v4, 7), Err(Refusal::NoTunnels)),
        (told(OFF, own4, own6), to(v4, 7), Err(Refusal::NoTunnels)),
        (Tunnels::of(&config), to(v4, 0xf0_0000), Err(Refusal::VniOfSlots(0xf0_0000, 0xf0_000f))),
        (told(GENEVE, own4, own6), to(v4, 0xf0_000f), Err(Refusal::VniOfSlots(0xf0_0000, 0xf0_000f))),
        (told(GENEVE, own4, own6), to(v4, 0xf0_0010), Ok(())),
        (told(EBPF, own4, own6), to(v4, 0xf0_0000), Ok(())),
        (told(EBPF, [0; 4], own6), to(v4, 7), Err(Refusal::RemoteFamily(4))),
        (told(EBPF, own4, [0; 16]), to(v6, 7), Err(Refusal::RemoteFamily(6))),
        (told(EBPF, own4, own6), to(v6, 7), Ok(())),
        (told(EBPF, own4, own6), to("198.51.100.2", 7), Err(Refusal::RemoteAddress)),
        (told(EBPF, own4, own6), to("2001:db8::2", 7), Err(Refusal::RemoteAddress)),
    ];
    for (tunnels, binding, outcome) in rows {
        pool.set_tunnels(tunnels);
        let before = pool.store().binding(lease.slot);
        assert_eq!(pool.bind(lease, 5, &binding), outcome, "{binding:?} by {tunnels:?}");
        if outcome.is_err() {
            assert_eq!(pool.store().binding(lease.slot), before, "what was bound stays bound");
        }
    }
}

/// Records of four slots, as a process left them.
fn left_behind(records: [LedgerRecord; 4]) -> (Pool, Effects) {
    let mut store = Records(Memory::new(4));
    for (number, record) in (0..).zip(&records) {
        store.store_ledger(slot(number), record);
    }
    open(store, settings(4, Empty::Fail, Quotas::default()))
}

fn leased(generation: u64, since_ns: u64) -> LedgerRecord {
    LedgerRecord {
        commit: LedgerRecord::pack(generation, SlotState::Leased),
        since_ns,
        owner_uid: 5,
        ..Default::default()
    }
}

#[test]
fn recovery_gives_back_a_request_of_which_one_slot_was_not_yet_marked_as_answered() {
    let unsent = LedgerRecord { flags: ledger_flag::UNSENT, ..leased(4, 70) };
    let (pool, _) = left_behind([leased(1, 70), unsent, leased(9, 71), LedgerRecord::default()]);
    let states: Vec<_> = pool.records().map(|(r, _)| (r.generation(), r.state().expect("a state"))).collect();
    use SlotState::{Free, Leased, Scrubbing};
    assert_eq!(states, [(2, Scrubbing), (5, Scrubbing), (9, Leased), (0, Free)]);
}

#[test]
fn recovery_quarantines_what_makes_no_sense() {
    let garbled = LedgerRecord { commit: 0x3ff, ..Default::default() };
    let spent =
        LedgerRecord { commit: LedgerRecord::pack(GENERATION_MAX - 1, SlotState::Building), ..Default::default() };
    let no_policy = LedgerRecord { policy: 9, ..leased(1, 0) };
    let no_tag = LedgerRecord { tag_len: 1, tag: [0xff; 24], ..leased(1, 0) };
    let (pool, fx) = left_behind([garbled, spent, no_policy, no_tag]);
    let reason =
        |e: &Effect| if let Effect::Quarantined { slot, reason } = e { Some((slot.number(), *reason)) } else { None };
    let reasons: Vec<_> = fx.list().iter().filter_map(reason).collect();
    use Reason::{BadRecord, UnknownState};
    assert_eq!(reasons, [(0, UnknownState), (1, BadRecord), (2, BadRecord), (3, BadRecord)]);
    assert_eq!(pool.leases_of(5), 0);
}

#[test]
fn recovery_hands_over_the_processes_that_leases_end_with_and_leaves_others_alone() {
    let of =
        |pid, policy: Policy| LedgerRecord { owner_pid: pid, owner_inode: 8, policy: policy as u8, ..leased(1, 0) };
    let (mut pool, mut fx) = left_behind([
        of(1, Policy::OnExit),
        of(1, Policy::OnDisconnect),
        of(2, Policy::OnExit),
        of(3, Policy::Explicit),
    ]);
    let adopted = |e: &Effect| if let Effect::Adopted(id) = e { Some(*id) } else { None };
    let holders: Vec<_> = fx.list().iter().filter_map(adopted).collect();
    assert_eq!(holders.iter().map(|h| pool.owner(*h).map(|o| o.pid)).collect::<Vec<_>>(), [Some(1), Some(2)]);
    pool.owner_died(holders[0], MS, &mut fx);
    assert_eq!((pool.count(SlotState::Leased), pool.count(SlotState::Scrubbing)), (2, 2));
}

#[test]
fn a_connection_that_outlasts_its_daemon_takes_its_leases_over_and_nobody_elses() {
    let (mut before, _) = pool(3, Empty::Wait, Quotas::default());
    let (mine, another) = (before.connect(user(5)).expect("room"), before.connect(user(6)).expect("room"));
    let mut leases = take(&mut before, mine, 1, Policy::OnDisconnect);
    leases.extend(take(&mut before, another, 2, Policy::OnDisconnect));
    let mut fx = Effects::default();
    for (holder, ticket) in [(another, 1), (mine, 2), (another, 3)] {
        assert_eq!(before.lease(&ask(holder, ticket, 1), MS, &mut fx), Ok(Outcome::Waiting));
    }
    let pending: Vec<_> = before.pending().iter().map(|p| (p.request.ticket, p.deadline_ns)).collect();
    assert_eq!(pending, [1, 2, 3].map(|ticket| (ticket, 1_001 * MS)), "in order of arrival");
    assert_eq!(before.leases_ending_with(mine).collect::<Vec<_>>(), leases[..1]);
    let Ledger { store, settings, .. } = before;
    let (mut pool, mut fx) = open(store, settings);
    let mine = pool.connect(user(5)).expect("room");
    leases.iter().for_each(|lease| pool.take_over(mine, *lease, &mut fx));
    assert_eq!(pool.leases_ending_with(mine).collect::<Vec<_>>(), leases[..1]);
    pool.disconnect(mine, MS, &mut fx);
    assert_eq!((pool.count(SlotState::Leased), pool.count(SlotState::Scrubbing)), (2, 1));
}

#[test]
fn counts_out_of_bounds_and_slots_past_the_pool_are_refused() {
    let (mut pool, mut fx) = pool(1, Empty::Wait, Quotas::default());
    let holder = pool.connect(user(5)).expect("room");
    for count in [0, LEASE_SLOTS_MAX + 1, u32::MAX] {
        assert_eq!(pool.lease(&ask(holder, 0, count), 0, &mut fx), Err(Refusal::CountRange));
    }
    let beyond = Lease { slot: slot(1), generation: Generation(0) };
    assert_eq!(pool.release(beyond, 0, &mut fx), Err(Refusal::NoSuchSlot));
    assert_eq!(pool.lost(slot(1), Reason::Lost, 0, &mut fx), Err(Refusal::NoSuchSlot));
}
