//! Any value of each message, for property tests; within the types' bounds, not within the arguments' bounds.

use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::event::{Changed, Lagged};
use netslot_protocol::snapshot::{Owner, Slot};
use netslot_protocol::types::{Guest6, Net4, Net6};
use netslot_protocol::{Binding, Grant, Guest, Ip, LeaseId, List, Policy, State, Text, reply, request};
use proptest::array::{uniform4, uniform6, uniform16, uniform32};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes outside ASCII, and none at all, come up often.
fn text<const N: usize>() -> impl Strategy<Value = Text<N>> + Clone {
    vec(any::<char>(), 0..N.min(300)).prop_map(|chars| Text::cut(&chars.into_iter().collect::<String>()))
}

/// Numbers near the ends of each encoded length come up as often as others.
pub fn number() -> impl Strategy<Value = u64> + Clone {
    let ends = select([0, 250, 251, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX].as_slice());
    prop_oneof![ends, any::<u64>(), 0..600_u64]
}

#[expect(clippy::cast_possible_truncation, reason = "any number will do")]
fn number32() -> impl Strategy<Value = u32> + Clone {
    number().prop_map(|n| n as u32)
}

#[expect(clippy::cast_possible_truncation, reason = "any number will do")]
fn number16() -> impl Strategy<Value = u16> + Clone {
    number().prop_map(|n| n as u16)
}

fn net4() -> impl Strategy<Value = Net4> {
    (any::<[u8; 4]>(), any::<u8>()).prop_map(|(addr, prefix)| Net4 { addr, prefix })
}

fn net6() -> impl Strategy<Value = Net6> {
    (uniform16(any::<u8>()), any::<u8>()).prop_map(|(addr, prefix)| Net6 { addr, prefix })
}

fn guest() -> impl Strategy<Value = Guest> {
    let ip6 = (net6(), uniform16(any::<u8>())).prop_map(|(ip, gateway_ip)| Guest6 { ip, gateway_ip });
    let mac = || uniform6(any::<u8>());
    (text(), mac(), net4(), uniform4(any::<u8>()), mac(), option::of(ip6), number32()).prop_map(
        |(tap, mac, ip, gateway_ip, gateway_mac, ip6, mtu)| Guest { tap, mac, ip, gateway_ip, gateway_mac, ip6, mtu },
    )
}

pub fn lease_id() -> impl Strategy<Value = LeaseId> + Clone {
    (number32(), number()).prop_map(|(slot, generation)| LeaseId { slot, generation })
}

fn grant() -> impl Strategy<Value = Grant> {
    (lease_id(), text(), number32(), any::<[u8; 4]>(), option::of(uniform16(any::<u8>()))).prop_map(
        |(lease, netns, host_ifindex, slot_ip, slot_ip6)| Grant { lease, netns, host_ifindex, slot_ip, slot_ip6 },
    )
}

pub fn binding() -> impl Strategy<Value = Binding> {
    let remote = prop_oneof![any::<[u8; 4]>().prop_map(Ip::V4), uniform16(any::<u8>()).prop_map(Ip::V6)];
    (number32(), remote, option::of(any::<[u8; 4]>()), option::of(uniform16(any::<u8>())))
        .prop_map(|(vni, remote, tenant_v4, tenant_v6)| Binding { vni, remote, tenant_v4, tenant_v6 })
}

pub fn hello() -> impl Strategy<Value = request::Hello> {
    (number16(), number16(), text()).prop_map(|(version_min, version_max, client)| request::Hello {
        version_min,
        version_max,
        client,
    })
}

pub fn hello_reply() -> impl Strategy<Value = reply::Hello> {
    let numbers = (number32(), number32(), number32(), number32());
    let pool = (numbers, net4(), option::of(net6()), guest(), text()).prop_map(
        |((slots, slots_max, ifindex_base, wait_ms_max), slot_net, slot_net6, guest, netns_dir)| reply::Pool {
            slots,
            slots_max,
            ifindex_base,
            slot_net,
            slot_net6,
            guest,
            netns_dir,
            wait_ms_max,
        },
    );
    (number16(), text(), pool).prop_map(|(version, server, pool)| reply::Hello { version, server, pool })
}

pub fn lease() -> impl Strategy<Value = request::Lease> {
    let policy = select(Policy::ALL.as_slice());
    (number32(), number32(), text(), policy, any::<[bool; 3]>()).prop_map(
        |(count, wait_ms, tag, policy, [want_netns_fd, want_tap_fd, own_stack])| request::Lease {
            count,
            wait_ms,
            tag,
            policy,
            want_netns_fd,
            want_tap_fd,
            own_stack,
        },
    )
}

pub fn lease_reply() -> impl Strategy<Value = reply::Lease> {
    (guest(), vec(grant(), 0..=64)).prop_map(|(guest, items)| {
        let mut grants = List::new();
        for item in items {
            grants.push(item).expect("at most 64");
        }
        reply::Lease { guest, grants }
    })
}

pub fn get_reply() -> impl Strategy<Value = reply::Get> {
    (uniform32(any::<[u8; 4]>()), text())
        .prop_map(|(record, detail)| reply::Get { record: zerocopy::transmute!(record), detail })
}

pub fn status_reply() -> impl Strategy<Value = reply::Status> {
    let states = uniform6(number32());
    let small = (number32(), number32(), number32(), number32());
    (text(), states, small, number(), number(), number(), number()).prop_map(
        |(server, states, small, uptime_ms, leases_total, releases_total, empty_total)| {
            let (pid, slots, waiters, connections) = small;
            reply::Status {
                server,
                pid,
                uptime_ms,
                slots,
                states,
                waiters,
                connections,
                leases_total,
                releases_total,
                empty_total,
            }
        },
    )
}

pub fn changed() -> impl Strategy<Value = Changed> {
    (lease_id(), select(State::ALL.as_slice())).prop_map(|(LeaseId { slot, generation }, state)| Changed {
        slot,
        generation,
        state,
    })
}

pub fn lagged() -> impl Strategy<Value = Lagged> {
    number().prop_map(|dropped| Lagged { dropped })
}

pub fn refusal() -> impl Strategy<Value = Refusal> {
    (select(ErrorCode::ALL.as_slice()), number16(), number16(), text())
        .prop_map(|(code, version_min, version_max, detail)| Refusal { code, version_min, version_max, detail })
}

/// Owner and binding exactly where a record keeps them.
pub fn slot() -> impl Strategy<Value = Slot> {
    let owner = ((any::<u32>(), any::<u32>(), any::<u32>()), any::<u64>(), select(Policy::ALL.as_slice()), text())
        .prop_map(|((uid, gid, pid), since_ns, policy, tag)| Owner { uid, gid, pid, since_ns, policy, tag });
    (lease_id(), select(State::ALL.as_slice()), any::<u8>(), owner, option::of(binding())).prop_map(
        |(LeaseId { slot, generation }, state, reason, owner, binding)| Slot {
            slot,
            generation,
            state,
            reason,
            owner: (state == State::Leased).then_some(owner),
            binding,
        },
    )
}
