//! The ledger's words in the protocol's, and back: the one place that knows both; decides nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netslot_abi::{BindingRecord, LedgerRecord, SlotState};
use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::reply::{self, Pool};
use netslot_protocol::snapshot;
use netslot_protocol::types::{self, Guest, Guest6, Net4, Net6};
use netslot_protocol::{Grant, LeaseId, Text};

use super::publish;
use crate::address::{self, Ipv4Net, Ipv6Net};
use crate::config::{Config, Empty};
use crate::ledger::{self, Binding, Lease, Policy, Tag};
use crate::slot::{Generation, SlotId};

/// What hello tells of the pool, whose devices have that MTU.
#[must_use]
pub fn pool(config: &Config, mtu: u32) -> Pool {
    let growing = config.empty == Empty::Create;
    let netns_dir = config.netns_dir.to_string_lossy();
    Pool {
        slots: config.slots,
        slots_max: if growing { config.slots_max } else { config.slots },
        ifindex_base: config.ifindex_base,
        slot_net: net4(config.slot_cidr),
        slot_net6: config.slot_cidr6.map(net6),
        guest: guest(config, mtu),
        netns_dir: Text::cut(&netns_dir),
        wait_ms_max: config.quotas.wait_ms_max,
    }
}

fn guest(config: &Config, mtu: u32) -> Guest {
    let guest = &config.guest;
    let gateway6 = |ip| guest.gateway_ip6.map(|gateway| Guest6 { ip: net6(ip), gateway_ip: gateway.octets() });
    Guest {
        tap: Text::cut(guest.tap.as_str()),
        mac: guest.mac.0,
        ip: net4(guest.ip),
        gateway_ip: guest.gateway_ip.octets(),
        gateway_mac: guest.gateway_mac.0,
        ip6: guest.ip6.and_then(gateway6),
        mtu,
    }
}

fn net4(net: Ipv4Net) -> Net4 {
    Net4 { addr: net.addr.octets(), prefix: net.prefix }
}

fn net6(net: Ipv6Net) -> Net6 {
    Net6 { addr: net.addr.octets(), prefix: net.prefix }
}

/// One slot of a lease reply.
#[must_use]
pub fn grant(config: &Config, lease: Lease) -> Grant {
    Grant {
        lease: LeaseId { slot: lease.slot.number(), generation: lease.generation.0 },
        netns: publish::name(lease.slot),
        host_ifindex: address::slot_ifindex(config.ifindex_base, lease.slot).0,
        slot_ip: address::slot_ip(config.slot_cidr, lease.slot).octets(),
        slot_ip6: config.slot_cidr6.map(|range| address::slot_ip6(range, lease.slot).octets()),
    }
}

/// The lease that a client names, where a slot can have such a number.
#[must_use]
pub fn lease(id: LeaseId) -> Option<Lease> {
    Some(Lease { slot: SlotId::new(id.slot)?, generation: Generation(id.generation) })
}

/// When a lease ends.
#[must_use]
pub const fn policy(policy: types::Policy) -> Policy {
    match policy {
        types::Policy::Explicit => Policy::Explicit,
        types::Policy::OnExit => Policy::OnExit,
        types::Policy::OnDisconnect => Policy::OnDisconnect,
    }
}

/// A tag, which the protocol has held to the ledger's bound.
#[must_use]
pub fn tag(tag: &types::Tag) -> Tag {
    Tag::new(tag).unwrap_or_default()
}

/// A tenant's network.
#[must_use]
pub fn binding(binding: &types::Binding) -> Binding {
    Binding {
        vni: binding.vni,
        remote: binding.remote.into(),
        tenant_v4: binding.tenant_v4.map(Ipv4Addr::from),
        tenant_v6: binding.tenant_v6.map(Ipv6Addr::from),
    }
}

/// A state.
#[must_use]
pub const fn state(state: SlotState) -> types::State {
    match state {
        SlotState::Building => types::State::Building,
        SlotState::Free => types::State::Free,
        SlotState::Leased => types::State::Leased,
        SlotState::Scrubbing => types::State::Scrubbing,
        SlotState::Quarantined => types::State::Quarantined,
        SlotState::Rebuilding => types::State::Rebuilding,
    }
}

/// A slot as a snapshot and a get reply show it. A state byte that no version writes, which only the records of a daemon
/// that is not running can hold, shows as quarantined: that is what the next one makes of it.
#[must_use]
pub fn record(slot: SlotId, record: &LedgerRecord, bound: Option<&BindingRecord>) -> snapshot::Record {
    let found = record.state().unwrap_or(SlotState::Quarantined);
    let owner = (found == SlotState::Leased).then(|| snapshot::Owner {
        uid: record.owner_uid,
        gid: record.owner_gid,
        pid: record.owner_pid,
        since_ns: record.since_ns,
        policy: types::Policy::from_number(record.policy).unwrap_or_default(),
        tag: Tag::of(record).map_or_else(Text::default, |tag| Text::cut(tag.as_str())),
    });
    let current = |binding: &&BindingRecord| found == SlotState::Leased && binding.generation == record.generation();
    let binding = bound.filter(current).and_then(Binding::of).map(|binding| types::Binding {
        vni: binding.vni,
        remote: IpAddr::into(binding.remote),
        tenant_v4: binding.tenant_v4.map(|a| a.octets()),
        tenant_v6: binding.tenant_v6.map(|a| a.octets()),
    });
    snapshot::Slot {
        slot: slot.number(),
        generation: record.generation(),
        state: state(found),
        reason: if found == SlotState::Quarantined { record.reason } else { 0 },
        owner,
        binding,
    }
    .record()
}

/// A lease reply without grants.
#[must_use]
pub fn empty_lease(pool: &Pool) -> reply::Lease {
    reply::Lease { guest: pool.guest, ..reply::Lease::default() }
}

/// A refusal by the ledger; `asked` is the lease that the request named, if it named one.
#[must_use]
pub fn refusal(why: ledger::Refusal, asked: Option<Lease>) -> Refusal {
    Refusal::new(code(why, asked), format_args!("{why}"))
}

fn code(why: ledger::Refusal, asked: Option<Lease>) -> ErrorCode {
    use ledger::Refusal as R;
    match why {
        R::PoolEmpty => ErrorCode::PoolEmpty,
        R::WaitExpired => ErrorCode::TimedOut,
        R::LeaseQuota => ErrorCode::QuotaLeases,
        R::WaiterQuota | R::QueueFull => ErrorCode::QuotaWaiters,
        R::ConnectionQuota | R::ConnectionsFull => ErrorCode::QuotaConnections,
        R::CountRange | R::CountBeyondPool | R::OwnerGone | R::RemoteAddress | R::TenantAddress | R::NoTunnels => {
            ErrorCode::BadArgument
        }
        R::NoSuchSlot => ErrorCode::NoSuchSlot,
        R::Stale { state: SlotState::Quarantined, .. } => ErrorCode::Quarantined,
        // Its own generation, as a list shows it: no lease that ended, there is none.
        R::Stale { generation, .. } if asked.is_some_and(|lease| lease.generation == generation) => {
            ErrorCode::SlotNotLeased
        }
        R::Stale { .. } => ErrorCode::StaleGeneration,
        R::NotOwner => ErrorCode::NotOwner,
        R::AddressInUse(_) => ErrorCode::AddressInUse,
        R::VniRange | R::VniOfSlots(..) => ErrorCode::BadVni,
        R::RemoteFamily(_) => ErrorCode::RemoteFamily,
        R::Store(_) | R::WrongState(_) => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netslot_protocol::limits;

    #[test]
    fn the_numbers_that_both_sides_store_are_the_same() {
        for policy_here in types::Policy::ALL {
            assert_eq!(policy(policy_here) as u8, policy_here.number());
        }
        for state_here in SlotState::ALL {
            assert_eq!(state(state_here).number(), state_here as u8);
        }
        assert_eq!(limits::LEASE_COUNT_MAX, crate::limits::LEASE_SLOTS_MAX as usize);
        assert_eq!(limits::TAG_BYTES_MAX, netslot_abi::TAG_BYTES);
    }

    #[test]
    fn a_record_shows_its_owner_and_binding_while_it_is_leased_and_only_then() {
        let slot = SlotId::new(4).expect("in range");
        let (tag, tag_len) = (*b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 3);
        let leased = LedgerRecord {
            commit: LedgerRecord::pack(7, SlotState::Leased),
            since_ns: 5,
            owner_uid: 1_000,
            owner_pid: 42,
            policy: 1,
            tag_len,
            tag,
            ..LedgerRecord::default()
        };
        let mut remote = [0; 16];
        remote[..4].copy_from_slice(&[192, 0, 2, 1]);
        let bound = BindingRecord {
            generation: 7,
            vni: 9,
            tenant_v4: [10, 0, 0, 2],
            remote,
            remote_family: 4,
            mode: netslot_abi::bind_mode::TUNNEL,
            ..BindingRecord::default()
        };
        let shown = record(slot, &leased, Some(&bound)).read().expect("readable");
        let owner = shown.owner.expect("leased");
        assert_eq!((owner.uid, owner.pid, &*owner.tag, owner.policy), (1_000, 42, "abc", types::Policy::OnExit));
        assert_eq!(shown.binding.map(|b| (b.vni, b.tenant_v4)), Some((9, Some([10, 0, 0, 2]))));
        let stale = BindingRecord { generation: 6, ..bound };
        assert_eq!(record(slot, &leased, Some(&stale)).read().map(|s| s.binding), Ok(None));
        let given_back = LedgerRecord { commit: LedgerRecord::pack(8, SlotState::Scrubbing), reason: 3, ..leased };
        let shown = record(slot, &given_back, Some(&bound)).read().expect("readable");
        assert_eq!((shown.owner, shown.binding, shown.reason), (None, None, 0));
    }

    #[test]
    fn a_lease_that_is_over_is_told_from_a_slot_that_has_none() {
        let slot = SlotId::new(4).expect("in range");
        let asked = |generation| Some(Lease { slot, generation: Generation(generation) });
        let stale = |state| ledger::Refusal::Stale { generation: Generation(8), state };
        assert_eq!(refusal(stale(SlotState::Leased), asked(7)).code, ErrorCode::StaleGeneration);
        assert_eq!(refusal(stale(SlotState::Free), asked(8)).code, ErrorCode::SlotNotLeased);
        assert_eq!(refusal(stale(SlotState::Quarantined), asked(7)).code, ErrorCode::Quarantined);
    }
}
