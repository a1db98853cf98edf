//! After construction the ledger allocates nothing: counted by an allocator of the test's own.
#![allow(unsafe_code, reason = "a counting allocator has to be one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use netslot::config::{Config, Empty, Quotas};
use netslot::ledger::{
    Binding, Effect, Effects, Lease, Ledger, Memory, Observed, Outcome, Owner, Policy, Records, Request, Scrubbed,
    Settings, Tag,
};
use netslot::limits::WAITERS_MAX;

thread_local! {
    /// Of this thread alone: the test harness allocates on others.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

const SLOTS: u32 = 64;

#[test]
fn no_command_allocates() {
    // Few connections keep the tables small, so that their removed entries are cleaned out many times over.
    let quotas = Quotas { connections: 4, ..Quotas::default() };
    let config = Config { slots: SLOTS, slots_max: SLOTS, empty: Empty::Wait, quotas, ..Config::default() };
    let mut fx = Effects::with_capacity(SLOTS, WAITERS_MAX);
    let store = Records(Memory::new(SLOTS));
    let mut ledger = Ledger::open(store, Settings::of(&config), |_| Observed::Whole, &[], 0, &mut fx);
    let mut scrubs: Vec<Lease> = Vec::with_capacity(1_024);
    let mut leases: Vec<Lease> = Vec::with_capacity(1_024);
    let mut worst = 0;
    for round in 0..400_u64 {
        let uid = u32::try_from(round % 97).expect("small");
        let owner = Owner { uid, gid: 0, pid: 1, inode: round };
        let before = ALLOCATIONS.get();
        let holder = ledger.connect(owner).expect("room");
        for (count, policy) in
            [(3, Policy::Explicit), (1, Policy::OnExit), (60, Policy::OnDisconnect), (2, Policy::OnExit)]
        {
            let tag = Tag::new("counted").expect("short");
            let request = Request { holder, ticket: round, count, tag, policy, own_stack: false, wait_ns: 1 };
            if let Ok(Outcome::Granted(grant)) = ledger.lease(&request, round, &mut fx) {
                leases.clear();
                leases.extend_from_slice(fx.leases(grant));
                ledger.reply_left(&leases);
                let last = u8::try_from(round % 251).expect("small");
                let binding = Binding {
                    vni: count,
                    remote: [192, 0, 2, 1].into(),
                    tenant_v4: Some([10, uid.to_le_bytes()[0], last, 1].into()),
                    tenant_v6: Some([0xfd00, 0, 0, 0, 0, 0, uid.to_le_bytes()[0].into(), last.into()].into()),
                };
                ledger.bind(leases[0], uid, &binding).expect("an address of its own");
                if policy == Policy::Explicit {
                    leases.iter().for_each(|lease| ledger.release(*lease, uid, &mut fx).expect("ours"));
                }
            }
        }
        ledger.tick(round, &mut fx);
        ledger.disconnect(holder, round, &mut fx);
        ledger.owner_died(holder, round, &mut fx);
        scrubs.extend(fx.list().iter().filter_map(|e| if let Effect::Scrub(lease) = e { Some(*lease) } else { None }));
        fx.clear();
        for lease in scrubs.drain(..) {
            ledger.scrubbed(lease, Scrubbed::Clean, round, &mut fx);
        }
        fx.clear();
        worst = worst.max(ALLOCATIONS.get() - before);
    }
    assert_eq!(worst, 0, "allocations in one round of connect, lease, bind, release and disconnect");
}
