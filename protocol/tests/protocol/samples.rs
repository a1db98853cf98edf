//! One sample of every message, the same as in `vectors/`; shared by the tests, checks nothing itself.

use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::event::{Changed, Lagged};
use netslot_protocol::snapshot::{Owner, Slot};
use netslot_protocol::types::{Guest6, Net4, Net6};
use netslot_protocol::{Binding, Grant, Guest, Ip, LeaseId, List, Policy, State, Text, reply, request};

pub const GENERATION_MAX: u64 = (1 << 56) - 1;

pub fn text<const N: usize>(text: &str) -> Text<N> {
    Text::new(text).expect("the samples fit")
}

pub fn ip6(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().expect("an address").octets()
}

pub fn guest(ip6: Option<Guest6>) -> Guest {
    Guest {
        tap: text("tap0"),
        mac: [0x06, 0, 0xac, 0x10, 0, 2],
        ip: Net4 { addr: [172, 16, 0, 2], prefix: 30 },
        gateway_ip: [172, 16, 0, 1],
        gateway_mac: [0x06, 0, 0xac, 0x10, 0, 1],
        ip6,
        mtu: 1450,
    }
}

pub fn guest6() -> Option<Guest6> {
    Some(Guest6 { ip: Net6 { addr: ip6("fd00:6e73::2"), prefix: 64 }, gateway_ip: ip6("fd00:6e73::1") })
}

pub fn hello() -> request::Hello {
    request::Hello { version_min: 1, version_max: 1, client: text("example 1.0") }
}

pub fn pool() -> reply::Pool {
    reply::Pool {
        slots: 4_000,
        slots_max: 5_000,
        ifindex_base: 100_000,
        slot_net: Net4 { addr: [100, 64, 0, 0], prefix: 15 },
        slot_net6: Some(Net6 { addr: ip6("fd00:100::"), prefix: 96 }),
        guest: guest(guest6()),
        netns_dir: text("/run/netns"),
        wait_ms_max: 60_000,
    }
}

pub fn hello_reply() -> reply::Hello {
    reply::Hello { version: 1, server: text("netslot 0.1.0"), pool: pool() }
}

pub fn lease() -> request::Lease {
    request::Lease {
        count: 2,
        wait_ms: 2_000,
        tag: text("web-7"),
        policy: Policy::OnDisconnect,
        want_netns_fd: true,
        want_tap_fd: false,
        own_stack: false,
    }
}

pub fn lease_reply() -> reply::Lease {
    let mut grants = List::new();
    for (slot, generation, slot_ip, slot_ip6) in
        [(42, 7, [100, 64, 0, 44], "fd00:100::2c"), (3_999, GENERATION_MAX, [100, 64, 15, 161], "fd00:100::fa1")]
    {
        let grant = Grant {
            lease: LeaseId { slot, generation },
            netns: text(&format!("slot-{slot:04}")),
            host_ifindex: 100_000 + slot,
            slot_ip,
            slot_ip6: Some(ip6(slot_ip6)),
        };
        grants.push(grant).expect("two fit");
    }
    reply::Lease { guest: guest(guest6()), grants }
}

pub fn lease_reply_ipv4() -> reply::Lease {
    let mut grants = List::new();
    let grant = Grant {
        lease: LeaseId { slot: 0, generation: 251 },
        netns: text("slot-0000"),
        host_ifindex: 100_000,
        slot_ip: [100, 64, 0, 2],
        slot_ip6: None,
    };
    grants.push(grant).expect("one fits");
    reply::Lease { guest: guest(None), grants }
}

pub fn binding() -> Binding {
    Binding { vni: 70_000, remote: Ip::V4([192, 0, 2, 9]), tenant_v4: Some([10, 1, 2, 3]), tenant_v6: None }
}

pub fn binding_ipv6() -> Binding {
    Binding {
        vni: 16_777_215,
        remote: Ip::V6(ip6("2001:db8::9")),
        tenant_v4: Some([10, 1, 2, 3]),
        tenant_v6: Some(ip6("2001:db8:1::3")),
    }
}

pub fn slots() -> [Slot; 4] {
    let free = Slot { slot: 0, generation: 2, state: State::Free, reason: 0, owner: None, binding: None };
    let owner = Owner {
        uid: 1000,
        gid: 1001,
        pid: 4242,
        since_ns: 81_234_567_890_123,
        policy: Policy::OnExit,
        tag: text("web-7"),
    };
    let leased = Slot { slot: 1, generation: 7, state: State::Leased, owner: Some(owner), ..free };
    [
        free,
        Slot { binding: Some(binding()), ..leased },
        Slot { slot: 2, generation: GENERATION_MAX, binding: Some(binding_ipv6()), ..leased },
        quarantined(3),
    ]
}

pub fn quarantined(slot: u32) -> Slot {
    Slot { slot, generation: 9, state: State::Quarantined, reason: 3, owner: None, binding: None }
}

pub fn get_reply() -> reply::Get {
    reply::Get { record: zerocopy::transmute!(quarantined(250).record()), detail: text("tap0 is held open") }
}

pub fn status_reply() -> reply::Status {
    reply::Status {
        server: text("netslot 0.1.0"),
        pid: 812,
        uptime_ms: 86_400_000,
        slots: 4_000,
        states: [0, 3_988, 9, 2, 1, 0],
        waiters: 0,
        connections: 3,
        leases_total: 1_000_000,
        releases_total: 999_991,
        empty_total: 5_000_000_000,
    }
}

pub fn changed() -> Changed {
    Changed { slot: 42, generation: 8, state: State::Scrubbing }
}

pub fn lagged() -> Lagged {
    Lagged { dropped: 251 }
}

pub fn refusal() -> Refusal {
    Refusal::new(ErrorCode::StaleGeneration, format_args!("slot 42 is at generation 8"))
}
