//! The keys of the configuration: one table that says how each is read and shown; nothing here knows of files or lines.

use std::path::Path;

use serde_json::Value as Json;
use toml::de::DeValue;

use super::value::{self, ValueError};
use super::{Config, Empty, Forward, Tunnel};
use crate::limits::{
    CONNECTIONS_MAX, DHCP_LEASE_S_MAX, DHCP_LEASE_S_MIN, GUEST_ROUTES_MAX, IFINDEX_BASE_MIN, IFINDEX_MAX, MTU_MAX,
    MTU_MIN, NAME_SERVERS_MAX, REPLY_BYTES_MAX, REPLY_BYTES_MIN, RESERVE_UIDS_MAX, SLOTS_MAX, THREADS_MAX, VNI_MAX,
    WAIT_MS_MAX, WAITERS_MAX,
};

/// One key: its name as people write it, sections with dots.
pub(super) struct Key {
    /// `slots` or `guest.mac`.
    pub name: &'static str,
    /// Puts a value into its field, or says why not.
    pub read: fn(&mut Config, &DeValue<'_>) -> Result<(), ValueError>,
    /// The field's value: as TOML writes it too, since JSON's strings, numbers and lists are TOML's.
    pub show: fn(&Config) -> Json,
}

/// The word for "found by netslot itself".
const AUTO: &str = "auto";
/// The word for "not there".
const NONE: &str = "none";
/// The word for "every slot".
const ALL: &str = "all";

fn set<T>(field: &mut T, value: Result<T, ValueError>) -> Result<(), ValueError> {
    *field = value?;
    Ok(())
}

fn or<T: ToString>(value: Option<T>, word: &str) -> Json {
    value.map_or_else(|| word.into(), |v| v.to_string().into())
}

fn path_or(value: Option<&Path>, word: &str) -> Json {
    value.map_or_else(|| word.into(), |path| path.display().to_string().into())
}

fn number_or(value: Option<u32>, word: &str) -> Json {
    value.map_or_else(|| word.into(), Json::from)
}

/// Every key, in the order in which they are shown: those without a section first.
pub(super) static KEYS: [Key; 41] = [
    Key { name: "slots", read: |c, v| set(&mut c.slots, value::integer(v, 1, SLOTS_MAX)), show: |c| c.slots.into() },
    Key {
        name: "slots_max",
        read: |c, v| set(&mut c.slots_max, value::integer(v, 1, SLOTS_MAX)),
        show: |c| c.slots_max.into(),
    },
    Key {
        name: "slot_cidr",
        read: |c, v| set(&mut c.slot_cidr, value::slot_cidr(v)),
        show: |c| c.slot_cidr.to_string().into(),
    },
    Key {
        name: "slot_cidr6",
        read: |c, v| set(&mut c.slot_cidr6, value::unless(v, NONE, value::slot_cidr6)),
        show: |c| or(c.slot_cidr6, NONE),
    },
    Key {
        name: "uplink",
        read: |c, v| set(&mut c.uplink, value::unless(v, AUTO, value::uplink)),
        show: |c| or(c.uplink, AUTO),
    },
    Key {
        name: "mtu",
        read: |c, v| set(&mut c.mtu, value::unless(v, AUTO, |v| value::integer(v, MTU_MIN, MTU_MAX))),
        show: |c| number_or(c.mtu, AUTO),
    },
    Key {
        name: "tunnel",
        read: |c, v| set(&mut c.tunnel, value::word(v, &[Tunnel::Ebpf, Tunnel::Geneve, Tunnel::Off], Tunnel::name)),
        show: |c| c.tunnel.name().into(),
    },
    Key {
        name: "forward",
        read: |c, v| set(&mut c.forward, value::word(v, &[Forward::Stack, Forward::Redirect], Forward::name)),
        show: |c| c.forward.name().into(),
    },
    Key {
        name: "external_cidr",
        read: |c, v| set(&mut c.external_cidr, value::unless(v, NONE, value::slot_cidr)),
        show: |c| or(c.external_cidr, NONE),
    },
    Key {
        name: "external_cidr6",
        read: |c, v| set(&mut c.external_cidr6, value::unless(v, NONE, value::slot_cidr6)),
        show: |c| or(c.external_cidr6, NONE),
    },
    Key {
        name: "empty",
        read: |c, v| set(&mut c.empty, value::word(v, &[Empty::Fail, Empty::Wait, Empty::Create], Empty::name)),
        show: |c| c.empty.name().into(),
    },
    Key {
        name: "ready_after",
        read: |c, v| set(&mut c.ready_after, value::unless(v, ALL, |v| value::integer(v, 0, SLOTS_MAX))),
        show: |c| number_or(c.ready_after, ALL),
    },
    Key {
        name: "threads",
        read: |c, v| {
            let max = u32::try_from(THREADS_MAX).expect("a handful");
            set(&mut c.threads, value::integer(v, 1, max).map(|n| n as usize))
        },
        show: |c| c.threads.into(),
    },
    Key {
        name: "ifindex_base",
        read: |c, v| set(&mut c.ifindex_base, value::integer(v, IFINDEX_BASE_MIN, IFINDEX_MAX)),
        show: |c| c.ifindex_base.into(),
    },
    Key {
        name: "vni_base",
        read: |c, v| set(&mut c.vni_base, value::integer(v, 0, VNI_MAX)),
        show: |c| c.vni_base.into(),
    },
    Key {
        name: "run_dir",
        read: |c, v| set(&mut c.run_dir, value::dir(v)),
        show: |c| c.run_dir.display().to_string().into(),
    },
    Key {
        name: "bpf_dir",
        read: |c, v| set(&mut c.bpf_dir, value::dir(v)),
        show: |c| c.bpf_dir.display().to_string().into(),
    },
    Key {
        name: "netns_dir",
        read: |c, v| set(&mut c.netns_dir, value::dir(v)),
        show: |c| c.netns_dir.display().to_string().into(),
    },
    Key {
        name: "socket",
        read: |c, v| set(&mut c.socket, value::socket(v)),
        show: |c| c.socket.display().to_string().into(),
    },
    Key {
        name: "guest.mac",
        read: |c, v| set(&mut c.guest.mac, value::mac(v)),
        show: |c| c.guest.mac.to_string().into(),
    },
    Key {
        name: "guest.ip",
        read: |c, v| set(&mut c.guest.ip, value::guest_ip(v)),
        show: |c| c.guest.ip.to_string().into(),
    },
    Key {
        name: "guest.gateway_ip",
        read: |c, v| set(&mut c.guest.gateway_ip, value::addr(v, "IPv4 address, as in \"172.16.0.1\"")),
        show: |c| c.guest.gateway_ip.to_string().into(),
    },
    Key {
        name: "guest.gateway_mac",
        read: |c, v| set(&mut c.guest.gateway_mac, value::mac(v)),
        show: |c| c.guest.gateway_mac.to_string().into(),
    },
    Key {
        name: "guest.ip6",
        read: |c, v| set(&mut c.guest.ip6, value::unless(v, NONE, value::guest_ip6)),
        show: |c| or(c.guest.ip6, NONE),
    },
    Key {
        name: "guest.gateway_ip6",
        read: |c, v| {
            let read = |v: &DeValue<'_>| value::addr(v, "IPv6 address, as in \"fd00:6e73:1::1\"");
            set(&mut c.guest.gateway_ip6, value::unless(v, NONE, read))
        },
        show: |c| or(c.guest.gateway_ip6, NONE),
    },
    Key {
        name: "guest.dns",
        read: |c, v| set(&mut c.guest.dns, value::name_servers(v, NAME_SERVERS_MAX)),
        show: |c| c.guest.dns.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
    },
    Key {
        name: "guest.routes",
        read: |c, v| set(&mut c.guest.routes, value::routes(v, GUEST_ROUTES_MAX)),
        show: |c| c.guest.routes.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
    },
    Key {
        name: "guest.dhcp_lease_s",
        read: |c, v| set(&mut c.guest.dhcp_lease_s, value::integer(v, DHCP_LEASE_S_MIN, DHCP_LEASE_S_MAX)),
        show: |c| c.guest.dhcp_lease_s.into(),
    },
    Key {
        name: "guest.tap",
        read: |c, v| set(&mut c.guest.tap, value::tap(v)),
        show: |c| c.guest.tap.to_string().into(),
    },
    Key {
        name: "guest.owner",
        read: |c, v| set(&mut c.guest.owner, value::unless(v, NONE, value::id)),
        show: |c| number_or(c.guest.owner, NONE),
    },
    Key {
        name: "guest.group",
        read: |c, v| set(&mut c.guest.group, value::unless(v, NONE, value::id)),
        show: |c| number_or(c.guest.group, NONE),
    },
    Key {
        name: "rules.slot",
        read: |c, v| set(&mut c.rules.slot, value::unless(v, NONE, value::dir)),
        show: |c| path_or(c.rules.slot.as_deref(), NONE),
    },
    Key {
        name: "rules.root",
        read: |c, v| set(&mut c.rules.root, value::unless(v, NONE, value::dir)),
        show: |c| path_or(c.rules.root.as_deref(), NONE),
    },
    Key {
        name: "quotas.leases_per_uid",
        read: |c, v| set(&mut c.quotas.leases_per_uid, value::integer(v, 1, SLOTS_MAX)),
        show: |c| c.quotas.leases_per_uid.into(),
    },
    Key {
        name: "quotas.connections_per_uid",
        read: |c, v| set(&mut c.quotas.connections_per_uid, value::integer(v, 1, CONNECTIONS_MAX)),
        show: |c| c.quotas.connections_per_uid.into(),
    },
    Key {
        name: "quotas.connections",
        read: |c, v| set(&mut c.quotas.connections, value::integer(v, 1, CONNECTIONS_MAX)),
        show: |c| c.quotas.connections.into(),
    },
    Key {
        name: "quotas.waiters_per_uid",
        read: |c, v| set(&mut c.quotas.waiters_per_uid, value::integer(v, 0, WAITERS_MAX)),
        show: |c| c.quotas.waiters_per_uid.into(),
    },
    Key {
        name: "quotas.reply_bytes_per_connection",
        read: |c, v| {
            let bytes = value::integer(v, REPLY_BYTES_MIN, REPLY_BYTES_MAX);
            set(&mut c.quotas.reply_bytes_per_connection, bytes)
        },
        show: |c| c.quotas.reply_bytes_per_connection.into(),
    },
    Key {
        name: "quotas.wait_ms_max",
        read: |c, v| set(&mut c.quotas.wait_ms_max, value::integer(v, 0, WAIT_MS_MAX)),
        show: |c| c.quotas.wait_ms_max.into(),
    },
    Key {
        name: "quotas.reserve",
        read: |c, v| set(&mut c.quotas.reserve, value::integer(v, 0, SLOTS_MAX)),
        show: |c| c.quotas.reserve.into(),
    },
    Key {
        name: "quotas.reserve_uids",
        read: |c, v| set(&mut c.quotas.reserve_uids, value::ids(v, RESERVE_UIDS_MAX)),
        show: |c| c.quotas.reserve_uids.clone().into(),
    },
];

/// The sections that keys stand in.
pub(super) const SECTIONS: [&str; 3] = ["guest", "rules", "quotas"];

/// Whether a name is a section's.
pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.contains(&name)
}

/// The key of that name.
pub(super) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key that was probably meant by an unknown name: the same name in another section, else the nearest.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let typed_last = name.rsplit('.').next().unwrap_or(name);
    let elsewhere = KEYS.iter().find(|key| last(key.name) == typed_last).map(|key| key.name);
    elsewhere.or_else(|| value::nearest(name, KEYS.iter().map(|key| key.name)))
}
