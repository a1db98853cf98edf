//! What the kernel's dumps say: devices, addresses, routes and neighbours as plain values; reads bytes, judges
//! nothing.

use std::net::IpAddr;

use nix::libc;

use super::read::{Attributes, Message, text_of, u16_at, u32_at};
use crate::slot::{IfIndex, Mac};

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What kind it is (`veth`, `bridge`, `tun`, …); empty for hardware and loopback.
    pub kind: String,
    /// Its Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Whether it is up, has a carrier, and its queue works (IFF_RUNNING): the kernel says so only once linkwatch has
    /// dealt with the carrier.
    pub running: bool,
    /// The namespace of its peer, as an id of the asking socket's namespace (IFLA_LINK_NETNSID).
    pub peer_netns: Option<u32>,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// The bridge it is on; 0 = none.
    pub master: u32,
    /// Its device group.
    pub group: u32,
    /// Whether IPv6 runs on it.
    pub ipv6: bool,
    /// Whether IPv4 packets that it receives for others are routed on.
    pub forwards: bool,
    /// What the tap is set to, for a tun/tap device.
    pub tap: Option<Tap>,
    /// The VNI of a Geneve device.
    pub vni: Option<u32>,
}

/// A tap's own settings, from `IFLA_TUN_*` (drivers/net/tun.c, tun_fill_info).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tap {
    /// User that may open it; `None` = not restricted to one.
    pub owner: Option<u32>,
    /// Group that may open it.
    pub group: Option<u32>,
    /// It is a tap (Ethernet), not a tun.
    pub ethernet: bool,
    /// Frames carry the virtio-net header.
    pub vnet_hdr: bool,
    /// It stays when nobody holds it.
    pub persist: bool,
    /// It may be opened more than once.
    pub multi_queue: bool,
}

/// An address on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The device.
    pub index: u32,
    /// The address.
    pub addr: IpAddr,
    /// Its network's prefix.
    pub prefix: u8,
    /// `IFA_F_…` (linux/if_addr.h).
    pub flags: u32,
}

/// A unicast route of any table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its table.
    pub table: u32,
    /// IPv6, not IPv4.
    pub ipv6: bool,
    /// Where to; `None` = anywhere (the default route).
    pub to: Option<IpAddr>,
    /// Prefix of `to`; 0 for a default route.
    pub prefix: u8,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The device; 0 where the route has several or none.
    pub index: u32,
    /// Lower wins.
    pub metric: u32,
}

/// A routing rule that looks at a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// IPv6, not IPv4.
    pub ipv6: bool,
    /// The mark.
    pub mark: u32,
    /// The table that such packets are routed by.
    pub table: u32,
}

/// A neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The device.
    pub index: u32,
    /// The neighbour's address.
    pub addr: IpAddr,
    /// Its Ethernet address, where known.
    pub mac: Option<Mac>,
    /// Whether it is permanent (NUD_PERMANENT).
    pub permanent: bool,
}

impl Link {
    /// The device that a link message tells of; `None` for another message.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != libc::RTM_NEWLINK && message.kind != libc::RTM_DELLINK {
            return None;
        }
        let flags = u32_at(message.body, 8)?;
        let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
        let mut link = Self {
            index: u32_at(message.body, 4)?,
            up: has(libc::IFF_UP),
            running: has(libc::IFF_RUNNING),
            loopback: has(libc::IFF_LOOPBACK),
            ..Self::default()
        };
        for (kind, value) in Attributes(message.body.get(16..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = text_of(value).into_owned(),
                libc::IFLA_ADDRESS => link.mac = mac(value),
                libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
                libc::IFLA_MASTER => link.master = u32_at(value, 0)?,
                libc::IFLA_GROUP => link.group = u32_at(value, 0)?,
                libc::IFLA_LINK_NETNSID => link.peer_netns = u32_at(value, 0),
                libc::IFLA_LINKINFO => link.read_info(value),
                libc::IFLA_AF_SPEC => {
                    link.ipv6 = ipv6_runs(value);
                    link.forwards = ipv4_forwards(value);
                }
                _ => {}
            }
        }
        Some(link)
    }

    /// The device's number as the type that the verbs take.
    #[must_use]
    pub fn index(&self) -> IfIndex {
        IfIndex(self.index)
    }

    fn read_info(&mut self, info: &[u8]) {
        for (kind, value) in Attributes(info) {
            match kind {
                libc::IFLA_INFO_KIND => self.kind = text_of(value).into_owned(),
                // The kind stands before the data (rtnl_link_info_fill, net/core/rtnetlink.c).
                libc::IFLA_INFO_DATA if self.kind == "tun" => self.tap = Some(Tap::read(value)),
                // linux/if_link.h: IFLA_GENEVE_ID
                libc::IFLA_INFO_DATA if self.kind == "geneve" => {
                    self.vni = Attributes(value).find(|(kind, _)| *kind == 1).and_then(|(_, id)| u32_at(id, 0));
                }
                _ => {}
            }
        }
    }
}

impl Tap {
    fn read(data: &[u8]) -> Self {
        // linux/if_link.h, IFLA_TUN_*
        const OWNER: u16 = 1;
        const GROUP: u16 = 2;
        const TYPE: u16 = 3;
        const VNET_HDR: u16 = 5;
        const PERSIST: u16 = 6;
        const MULTI_QUEUE: u16 = 7;
        let mut tap = Self::default();
        for (kind, value) in Attributes(data) {
            let on = value.first().is_some_and(|v| *v != 0);
            match kind {
                OWNER => tap.owner = u32_at(value, 0),
                GROUP => tap.group = u32_at(value, 0),
                TYPE => tap.ethernet = value.first().copied().map(i32::from) == Some(libc::IFF_TAP),
                VNET_HDR => tap.vnet_hdr = on,
                PERSIST => tap.persist = on,
                MULTI_QUEUE => tap.multi_queue = on,
                _ => {}
            }
        }
        tap
    }
}

impl Address {
    /// The address that a message tells of; `None` for another message.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != libc::RTM_NEWADDR {
            return None;
        }
        let (mut addr, mut local) = (None, None);
        let mut flags = u32::from(*message.body.get(2)?);
        for (kind, value) in Attributes(message.body.get(8..)?) {
            match kind {
                libc::IFA_ADDRESS => addr = ip(value),
                libc::IFA_LOCAL => local = ip(value),
                // All 32 of them; the header has room for 8.
                libc::IFA_FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        // IFA_ADDRESS is the peer's on a point-to-point address; IFA_LOCAL, where there is one, is ours.
        Some(Self { index: u32_at(message.body, 4)?, addr: local.or(addr)?, prefix: *message.body.get(1)?, flags })
    }
}

impl Route {
    /// The unicast route that a message tells of; `None` for another message or another type of route.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        let header = message.body.first_chunk::<12>()?;
        if message.kind != libc::RTM_NEWROUTE || header[7] != libc::RTN_UNICAST {
            return None;
        }
        let mut route = Self {
            table: u32::from(header[4]),
            ipv6: i32::from(header[0]) == libc::AF_INET6,
            to: None,
            prefix: header[1],
            via: None,
            index: 0,
            metric: 0,
        };
        for (kind, value) in Attributes(&message.body[12..]) {
            match kind {
                libc::RTA_TABLE => route.table = u32_at(value, 0)?,
                libc::RTA_DST => route.to = ip(value),
                libc::RTA_GATEWAY => route.via = ip(value),
                libc::RTA_OIF => route.index = u32_at(value, 0)?,
                libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
                _ => {}
            }
        }
        Some(route)
    }
}

impl MarkRule {
    /// The rule that a message tells of; `None` for another message, or a rule that looks at no mark.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        // linux/fib_rules.h
        const FWMARK: u16 = 10;
        const TABLE: u16 = 15;
        let header = message.body.first_chunk::<12>().filter(|_| message.kind == libc::RTM_NEWRULE)?;
        let value = |kind| Attributes(&message.body[12..]).find(|(found, _)| *found == kind).map(|(_, value)| value);
        Some(Self {
            ipv6: i32::from(header[0]) == libc::AF_INET6,
            mark: u32_at(value(FWMARK)?, 0)?,
            table: u32_at(value(TABLE)?, 0)?,
        })
    }
}

impl Neighbour {
    /// The neighbour that a message tells of; `None` for another message.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        // linux/neighbour.h
        const DST: u16 = 1;
        const LLADDR: u16 = 2;
        const PERMANENT: u16 = 0x80;
        if message.kind != libc::RTM_NEWNEIGH {
            return None;
        }
        let (mut addr, mut lladdr) = (None, None);
        for (kind, value) in Attributes(message.body.get(12..)?) {
            match kind {
                DST => addr = ip(value),
                LLADDR => lladdr = mac(value),
                _ => {}
            }
        }
        let permanent = u16_at(message.body, 8)? & PERMANENT != 0;
        Some(Self { index: u32_at(message.body, 4)?, addr: addr?, mac: lladdr, permanent })
    }
}

/// Reads `disable_ipv6` of a device where the dump carries it: no entry per device under /proc/sys is opened.
fn ipv6_runs(af_spec: &[u8]) -> bool {
    // linux/if_link.h: IFLA_INET6_CONF, an array of i32; linux/ipv6.h: DEVCONF_DISABLE_IPV6, its index.
    const IFLA_INET6_CONF: u16 = 2;
    const DISABLE_IPV6: usize = 26;
    let family = libc::AF_INET6.cast_unsigned();
    Attributes(af_spec)
        .find(|(kind, _)| u32::from(*kind) == family)
        .and_then(|(_, inet6)| Attributes(inet6).find(|(kind, _)| *kind == IFLA_INET6_CONF))
        .and_then(|(_, conf)| u32_at(conf, DISABLE_IPV6 * 4))
        .is_some_and(|disabled| disabled == 0)
}

/// Reads `forwarding` of a device where the dump carries it.
fn ipv4_forwards(af_spec: &[u8]) -> bool {
    // linux/if_link.h: IFLA_INET_CONF, an array of i32; linux/ip.h: IPV4_DEVCONF_FORWARDING, the first.
    const IFLA_INET_CONF: u16 = 1;
    let family = libc::AF_INET.cast_unsigned();
    Attributes(af_spec)
        .find(|(kind, _)| u32::from(*kind) == family)
        .and_then(|(_, inet)| Attributes(inet).find(|(kind, _)| *kind == IFLA_INET_CONF))
        .and_then(|(_, conf)| u32_at(conf, 0))
        .is_some_and(|forwarding| forwarding != 0)
}

fn mac(value: &[u8]) -> Option<Mac> {
    value.try_into().ok().map(Mac)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}
