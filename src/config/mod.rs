//! The validated configuration: plain values that every other part takes as given; how files become one is told by the
//! files below (`load` → `parse` → `keys` → `value`, then `validate`), how one becomes text by `print`.

mod keys;
pub mod load;
pub mod parse;
pub mod print;
pub mod refusal;
#[cfg(test)]
mod tests;
mod validate;
mod value;

use std::path::PathBuf;

use crate::address::{Ipv4Net, Ipv6Net};
use crate::slot::{LinkName, Mac};

/// Everything netslot is told, checked as a whole: whoever holds one need not check it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Slots that `up` makes and keeps.
    pub slots: u32,
    /// Slots that `empty = "create"` may grow the pool to; at least `slots`.
    pub slots_max: u32,
    /// Index of slot 0's host end and tap.
    pub ifindex_base: u32,
    /// The guest that every slot is made for.
    pub guest: Guest,
    /// Range of the slots' own addresses.
    pub slot_cidr: Ipv4Net,
    /// Range of the slots' own IPv6 addresses; `None` = no IPv6.
    pub slot_cidr6: Option<Ipv6Net>,
    /// Device towards the network; `None` = that of the default route.
    pub uplink: Option<LinkName>,
    /// The guest's MTU; `None` = the uplink's less the tunnel's overhead.
    pub mtu: Option<u32>,
    /// How a bound slot's packets travel.
    pub tunnel: Tunnel,
    /// Whether slots' packets pass root's stack.
    pub forward: Forward,
    /// Range of the addresses that the network knows the slots by; `None` = their own.
    pub external_cidr: Option<Ipv4Net>,
    /// The same for IPv6.
    pub external_cidr6: Option<Ipv6Net>,
    /// Dummy VNI of slot 0 (geneve mode).
    pub vni_base: u32,
    /// Vault, ledger, host-knob record.
    pub run_dir: PathBuf,
    /// Pinned eBPF objects.
    pub bpf_dir: PathBuf,
    /// Where leased namespaces are shown by name.
    pub netns_dir: PathBuf,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Builder threads.
    pub threads: usize,
    /// Slots that must exist before the daemon says READY; `None` = all.
    pub ready_after: Option<u32>,
    /// What a lease of an empty pool gets.
    pub empty: Empty,
    /// Rules files.
    pub rules: Rules,
    /// Limits per user id.
    pub quotas: Quotas,
}

/// Files of rules, in nft's or iptables' syntax or compiled; `None` = no rules of netslot's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What every slot gets.
    pub slot: Option<PathBuf>,
    /// What the host's own namespace gets.
    pub root: Option<PathBuf>,
}

/// What is the same inside every slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The guest's MAC.
    pub mac: Mac,
    /// The guest's address and its network.
    pub ip: Ipv4Net,
    /// The bridge's address in that network.
    pub gateway_ip: std::net::Ipv4Addr,
    /// The bridge's MAC, the same in each slot so that a cloned guest's ARP cache stays true.
    pub gateway_mac: Mac,
    /// The guest's IPv6 address and its network; `None` = no IPv6.
    pub ip6: Option<Ipv6Net>,
    /// The bridge's IPv6 address; set exactly when `ip6` is.
    pub gateway_ip6: Option<std::net::Ipv6Addr>,
    /// Name servers that DHCP tells of, at most [`crate::limits::NAME_SERVERS_MAX`].
    pub dns: Vec<std::net::Ipv4Addr>,
    /// Networks that DHCP tells of as behind the gateway, in place of all; at most [`crate::limits::GUEST_ROUTES_MAX`].
    pub routes: Vec<Ipv4Net>,
    /// Seconds of a DHCP lease.
    pub dhcp_lease_s: u32,
    /// Name of the tap.
    pub tap: LinkName,
    /// User that may open the tap; `None` = whoever has CAP_NET_ADMIN.
    pub owner: Option<u32>,
    /// Group that may open the tap.
    pub group: Option<u32>,
}

/// How a bound slot's packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// The host end's program encapsulates.
    Ebpf,
    /// A kernel Geneve device per slot, its VNI rewritten at the uplink.
    Geneve,
    /// Plain slots only.
    Off,
}

impl Tunnel {
    /// The word in the config.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Geneve => "geneve",
            Self::Off => "off",
        }
    }

    /// Bytes that a bound slot's packet grows by on its way to the uplink: 0, 50 or 70.
    #[must_use]
    pub const fn overhead(self, outer: Outer) -> u32 {
        // The inner Ethernet header, the Geneve header without options (RFC 8926), UDP.
        const GENEVE_BYTES: u32 = 14 + 8 + 8;
        match (self, outer) {
            (Self::Off, _) => 0,
            (Self::Ebpf | Self::Geneve, Outer::V4) => GENEVE_BYTES + 20,
            (Self::Ebpf | Self::Geneve, Outer::V6) => GENEVE_BYTES + 40,
        }
    }
}

/// Whether slots' packets pass root's stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forward {
    /// Through root's routing and rules.
    #[default]
    Stack,
    /// From device to device, past root's rules.
    Redirect,
}

impl Forward {
    /// The word in the config.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::Redirect => "redirect",
        }
    }
}

/// The outer IP version of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// 20 bytes of header.
    V4,
    /// 40 bytes of header.
    V6,
}

/// What a lease of an empty pool gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// An error at once.
    Fail,
    /// A place in the queue, for as long as the client says and at most `quotas.wait_ms_max`.
    Wait,
    /// A place in the queue, while more slots are made, up to `slots_max`.
    Create,
}

impl Empty {
    /// The word in the config.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Wait => "wait",
            Self::Create => "create",
        }
    }
}

/// Limits per user id, and who is above them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Leases one uid may hold.
    pub leases_per_uid: u32,
    /// Connections one uid may hold.
    pub connections_per_uid: u32,
    /// Connections in all.
    pub connections: u32,
    /// Requests of one uid that may wait for a slot.
    pub waiters_per_uid: u32,
    /// Bytes of unread replies before a connection is closed.
    pub reply_bytes_per_connection: u32,
    /// Longest wait for a slot, milliseconds.
    pub wait_ms_max: u32,
    /// Slots kept back for `reserve_uids`.
    pub reserve: u32,
    /// Users that may take the reserve and are above the per-uid limits.
    pub reserve_uids: Vec<u32>,
}

impl Default for Config {
    /// What an empty config file gives; each default's reason is in the annotated example.
    fn default() -> Self {
        Self {
            slots: 1_000,
            slots_max: 1_000,
            ifindex_base: 100_000,
            guest: Guest::default(),
            slot_cidr: Ipv4Net { addr: [100, 64, 0, 0].into(), prefix: 15 },
            slot_cidr6: None,
            uplink: None,
            mtu: None,
            tunnel: Tunnel::Ebpf,
            forward: Forward::Stack,
            external_cidr: None,
            external_cidr6: None,
            vni_base: 0xf0_0000,
            run_dir: "/run/netslot".into(),
            bpf_dir: "/sys/fs/bpf/netslot".into(),
            netns_dir: "/run/netns".into(),
            socket: "/run/netslot/netslot.sock".into(),
            threads: 2,
            ready_after: None,
            empty: Empty::Wait,
            rules: Rules::default(),
            quotas: Quotas::default(),
        }
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            mac: Mac([0x06, 0x00, 0xac, 0x10, 0x00, 0x02]),
            ip: Ipv4Net { addr: [172, 16, 0, 2].into(), prefix: 30 },
            gateway_ip: [172, 16, 0, 1].into(),
            gateway_mac: Mac([0x06, 0x00, 0xac, 0x10, 0x00, 0x01]),
            ip6: None,
            gateway_ip6: None,
            dns: Vec::new(),
            routes: Vec::new(),
            dhcp_lease_s: 3_600,
            tap: "tap0".parse().expect("a device name"),
            owner: None,
            group: None,
        }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            leases_per_uid: 65_536,
            connections_per_uid: 256,
            connections: 1_024,
            waiters_per_uid: 1_024,
            reply_bytes_per_connection: 256 * 1024,
            wait_ms_max: 60_000,
            reserve: 0,
            reserve_uids: Vec::new(),
        }
    }
}
