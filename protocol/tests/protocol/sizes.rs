//! The bounds that `limits` derives in words, encoded.

use netslot_protocol::event::{Changed, Lagged};
use netslot_protocol::frame;
use netslot_protocol::limits::{FRAME_BYTES_MAX, HEADER_BYTES, LEASE_COUNT_MAX, REQUEST_BYTES_MAX, TAG_BYTES_MAX};
use netslot_protocol::types::{Guest6, Net6};
use netslot_protocol::{Binding, Grant, Guest, Ip, LeaseId, List, Policy, State, Text, encode, error, reply, request};

fn full<const N: usize>() -> Text<N> {
    Text::cut(&"x".repeat(N))
}

fn bytes<C: netslot_protocol::Call>(call: &C) -> usize {
    frame::write_request(1, u32::MAX, call, &mut [0; FRAME_BYTES_MAX]).expect("fits a frame")
}

fn body_bytes(body: &impl netslot_protocol::Body) -> usize {
    HEADER_BYTES + encode(body, &mut [0; FRAME_BYTES_MAX - HEADER_BYTES]).expect("fits a frame")
}

const LEASE: LeaseId = LeaseId { slot: u32::MAX, generation: u64::MAX };

fn largest_guest() -> Guest {
    Guest { tap: full(), ip6: Some(Guest6::default()), mtu: u32::MAX, ..Guest::default() }
}

#[test]
fn the_largest_request_is_a_bind_with_ipv6_everywhere() {
    let ip6 = [0xff; 16];
    let binding = Binding { vni: u32::MAX, remote: Ip::V6(ip6), tenant_v4: Some([0xff; 4]), tenant_v6: Some(ip6) };
    let lease = request::Lease {
        count: u32::MAX,
        wait_ms: u32::MAX,
        tag: full(),
        policy: Policy::OnDisconnect,
        want_netns_fd: true,
        want_tap_fd: true,
        own_stack: true,
    };
    let hello = request::Hello { version_min: u16::MAX, version_max: u16::MAX, client: full() };
    let largest = [
        bytes(&hello),
        bytes(&lease),
        bytes(&request::Bind { lease: LEASE, binding }),
        bytes(&request::Unbind { lease: LEASE }),
        bytes(&request::Release { lease: LEASE }),
        bytes(&request::Get { slot: u32::MAX }),
        bytes(&request::List),
        bytes(&request::Status),
        bytes(&request::Watch),
    ];
    assert_eq!(largest.into_iter().max(), Some(bytes(&request::Bind { lease: LEASE, binding })));
    assert_eq!(bytes(&request::Bind { lease: LEASE, binding }), 74);
    const { assert!(74 <= REQUEST_BYTES_MAX) };
}

#[test]
fn the_largest_reply_is_a_lease_of_all_slots_at_once() {
    let mut grants = List::new();
    for _ in 0..LEASE_COUNT_MAX {
        let grant = Grant {
            lease: LEASE,
            netns: full(),
            host_ifindex: u32::MAX,
            slot_ip: [0xff; 4],
            slot_ip6: Some([0xff; 16]),
        };
        grants.push(grant).expect("as many as fit");
    }
    let lease = body_bytes(&reply::Lease { guest: largest_guest(), grants });
    assert_eq!(lease, 3_741);

    let pool = reply::Pool {
        slots: u32::MAX,
        slots_max: u32::MAX,
        ifindex_base: u32::MAX,
        slot_net6: Some(Net6::default()),
        guest: largest_guest(),
        netns_dir: full(),
        wait_ms_max: u32::MAX,
        ..Default::default()
    };
    let status = reply::Status {
        server: full(),
        pid: u32::MAX,
        uptime_ms: u64::MAX,
        slots: u32::MAX,
        states: [u32::MAX; 6],
        waiters: u32::MAX,
        connections: u32::MAX,
        leases_total: u64::MAX,
        releases_total: u64::MAX,
        empty_total: u64::MAX,
    };
    let refusal = error::Refusal {
        code: error::ErrorCode::Internal,
        version_min: u16::MAX,
        version_max: u16::MAX,
        detail: full(),
    };
    for other in [
        body_bytes(&reply::Hello { version: u16::MAX, server: full(), pool }),
        body_bytes(&reply::Get { record: [0xff; 128], detail: full() }),
        body_bytes(&reply::List { bytes: u64::MAX }),
        body_bytes(&status),
        body_bytes(&refusal),
        body_bytes(&Changed { slot: u32::MAX, generation: u64::MAX, state: State::Rebuilding }),
        body_bytes(&Lagged { dropped: u64::MAX }),
    ] {
        assert!(other < lease, "{other}");
    }
}

#[test]
fn a_room_too_small_is_said_and_not_overrun() {
    let mut room = [0xaa; 40];
    assert!(frame::write_reply::<request::Get>(1, 1, &crate::samples::get_reply(), &mut room[..39]).is_err());
    assert_eq!(room[39], 0xaa);
    assert!(frame::write_request(1, 1, &request::List, &mut room[..15]).is_err());
}

/// The wire's tables and the ledger's stored ones are two, so that either can change; today they agree.
#[test]
fn the_ledgers_records_hold_what_the_wire_carries() {
    assert_eq!(TAG_BYTES_MAX, netslot_abi::TAG_BYTES);
    for (wire, stored) in State::ALL.into_iter().zip(netslot_abi::SlotState::ALL) {
        assert_eq!((wire.number(), wire.name()), (stored as u8, stored.name()));
    }
}

#[test]
fn numbers_and_their_tables_agree() {
    assert!(State::ALL.iter().all(|s| State::from_number(s.number()) == Some(*s)));
    assert!(Policy::ALL.iter().all(|p| Policy::from_number(p.number()) == Some(*p)));
    assert!(error::ErrorCode::ALL.iter().all(|c| error::ErrorCode::from_number(c.number()) == Some(*c)));
    assert!(error::ErrorCode::ALL.is_sorted_by_key(|c| c.number()));
    // `states` of a status is indexed by a state's number.
    assert!(State::ALL.iter().enumerate().all(|(i, s)| i == usize::from(s.number())));
}

#[test]
fn the_description_has_every_number() {
    let description = include_str!("../../PROTOCOL.md");
    let rows: Vec<&str> = description.lines().collect();
    let has = |row: &str| assert!(rows.iter().any(|line| line.starts_with(row)), "PROTOCOL.md has no row '{row}'");
    for code in error::ErrorCode::ALL {
        has(&format!("| {} | {}{} |", code.number(), code.name(), if code.closes() { " *" } else { "" }));
    }
    for kind in netslot_protocol::Kind::ALL {
        has(&format!("| `{:#06x}` | {} | `{:#06x}`", kind.request(), kind.name(), kind.reply()));
    }
    for state in State::ALL {
        has(&format!("| {} | {} |", state.number(), state.name()));
    }
    for policy in Policy::ALL {
        has(&format!("| {} | {} |", policy.number(), policy.name()));
    }
}
