//! The same bytes from a second, unrelated implementation of the encoding (wincode), over plain `String`s and `Vec`s.
//!
//! bincode is no longer maintained; this is the proof that the bytes are a format and not one crate's behaviour.

use netslot_protocol::error::Refusal;
use netslot_protocol::event::Changed;
use netslot_protocol::limits::FRAME_BYTES_MAX;
use netslot_protocol::{Binding, Body, Grant, Guest, Ip, LeaseId, encode, reply, request};
use proptest::prelude::*;
use wincode::config::{Configuration, deserialize, serialize};
use wincode::{SchemaRead, SchemaWrite};

use crate::strategy;

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct Hello {
    version_min: u16,
    version_max: u16,
    client: String,
}

impl From<request::Hello> for Hello {
    fn from(h: request::Hello) -> Self {
        Self { version_min: h.version_min, version_max: h.version_max, client: h.client.to_string() }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct Lease {
    count: u32,
    wait_ms: u32,
    tag: String,
    policy: u8,
    want_netns_fd: bool,
    want_tap_fd: bool,
    own_stack: bool,
}

impl From<request::Lease> for Lease {
    fn from(l: request::Lease) -> Self {
        Self {
            count: l.count,
            wait_ms: l.wait_ms,
            tag: l.tag.to_string(),
            policy: l.policy.number(),
            want_netns_fd: l.want_netns_fd,
            want_tap_fd: l.want_tap_fd,
            own_stack: l.own_stack,
        }
    }
}

type LeaseTuple = (u32, u64);
type Net4 = ([u8; 4], u8);
type Net6 = ([u8; 16], u8);

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct Bind {
    lease: LeaseTuple,
    vni: u32,
    remote: Address,
    tenant_v4: Option<[u8; 4]>,
    tenant_v6: Option<[u8; 16]>,
}

impl From<request::Bind> for Bind {
    fn from(bind: request::Bind) -> Self {
        let request::Bind { lease: LeaseId { slot, generation }, binding } = bind;
        let Binding { vni, remote, tenant_v4, tenant_v6 } = binding;
        let remote = match remote {
            Ip::V4(addr) => Address::V4(addr),
            Ip::V6(addr) => Address::V6(addr),
        };
        Self { lease: (slot, generation), vni, remote, tenant_v4, tenant_v6 }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct PlainGuest {
    tap: String,
    mac: [u8; 6],
    ip: Net4,
    gateway_ip: [u8; 4],
    gateway_mac: [u8; 6],
    ip6: Option<(Net6, [u8; 16])>,
    mtu: u32,
}

impl From<Guest> for PlainGuest {
    fn from(g: Guest) -> Self {
        Self {
            tap: g.tap.to_string(),
            mac: g.mac,
            ip: (g.ip.addr, g.ip.prefix),
            gateway_ip: g.gateway_ip,
            gateway_mac: g.gateway_mac,
            ip6: g.ip6.map(|v6| ((v6.ip.addr, v6.ip.prefix), v6.gateway_ip)),
            mtu: g.mtu,
        }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct PlainGrant {
    lease: LeaseTuple,
    netns: String,
    host_ifindex: u32,
    slot_ip: [u8; 4],
    slot_ip6: Option<[u8; 16]>,
}

impl From<Grant> for PlainGrant {
    fn from(g: Grant) -> Self {
        Self {
            lease: (g.lease.slot, g.lease.generation),
            netns: g.netns.to_string(),
            host_ifindex: g.host_ifindex,
            slot_ip: g.slot_ip,
            slot_ip6: g.slot_ip6,
        }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct LeaseReply {
    guest: PlainGuest,
    grants: Vec<PlainGrant>,
}

impl From<reply::Lease> for LeaseReply {
    fn from(l: reply::Lease) -> Self {
        Self { guest: l.guest.into(), grants: l.grants.iter().copied().map(Into::into).collect() }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct HelloReply {
    version: u16,
    server: String,
    slots: u32,
    slots_max: u32,
    ifindex_base: u32,
    slot_net: Net4,
    slot_net6: Option<Net6>,
    guest: PlainGuest,
    netns_dir: String,
    wait_ms_max: u32,
}

impl From<reply::Hello> for HelloReply {
    fn from(h: reply::Hello) -> Self {
        let pool = h.pool;
        Self {
            version: h.version,
            server: h.server.to_string(),
            slots: pool.slots,
            slots_max: pool.slots_max,
            ifindex_base: pool.ifindex_base,
            slot_net: (pool.slot_net.addr, pool.slot_net.prefix),
            slot_net6: pool.slot_net6.map(|net| (net.addr, net.prefix)),
            guest: pool.guest.into(),
            netns_dir: pool.netns_dir.to_string(),
            wait_ms_max: pool.wait_ms_max,
        }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct StatusReply {
    server: String,
    pid: u32,
    uptime_ms: u64,
    slots: u32,
    states: [u32; 6],
    waiters: u32,
    connections: u32,
    totals: (u64, u64, u64),
}

impl From<reply::Status> for StatusReply {
    fn from(s: reply::Status) -> Self {
        Self {
            server: s.server.to_string(),
            pid: s.pid,
            uptime_ms: s.uptime_ms,
            slots: s.slots,
            states: s.states,
            waiters: s.waiters,
            connections: s.connections,
            totals: (s.leases_total, s.releases_total, s.empty_total),
        }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct Error {
    code: u16,
    version_min: u16,
    version_max: u16,
    detail: String,
}

impl From<Refusal> for Error {
    fn from(r: Refusal) -> Self {
        Self {
            code: r.code.number(),
            version_min: r.version_min,
            version_max: r.version_max,
            detail: r.detail.to_string(),
        }
    }
}

#[derive(SchemaRead, SchemaWrite, Debug, PartialEq)]
struct ChangedEvent(u32, u64, u8);

impl From<Changed> for ChangedEvent {
    fn from(c: Changed) -> Self {
        Self(c.slot, c.generation, c.state.number())
    }
}

macro_rules! same_bytes {
    ($($name:ident: $strategy:expr => $plain:ty),+ $(,)?) => {
        proptest! {
            $(#[test]
            fn $name(message in $strategy) {
                let config = Configuration::default().with_varint_encoding();
                let ours = encoded(&message);
                let plain = <$plain>::from(message);
                prop_assert_eq!(&serialize(&plain, config).expect("encodes"), &ours);
                prop_assert_eq!(deserialize::<$plain, _>(&ours, config).expect("decodes"), plain);
            })+
        }
    };
}

fn encoded(body: &impl Body) -> Vec<u8> {
    let mut room = [0; FRAME_BYTES_MAX];
    let len = encode(body, &mut room).expect("every message fits a frame");
    room[..len].to_vec()
}

same_bytes! {
    hello: strategy::hello() => Hello,
    hello_reply: strategy::hello_reply() => HelloReply,
    lease: strategy::lease() => Lease,
    lease_reply: strategy::lease_reply() => LeaseReply,
    bind: (strategy::lease_id(), strategy::binding())
        .prop_map(|(lease, binding)| request::Bind { lease, binding }) => Bind,
    status_reply: strategy::status_reply() => StatusReply,
    refusal: strategy::refusal() => Error,
    changed: strategy::changed() => ChangedEvent,
}
