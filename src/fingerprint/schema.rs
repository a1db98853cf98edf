//! What netlink's messages consist of, as far as a fingerprint must know it: names for people, what tells one thing from
//! another, how a value is written, and what is left out, each with the reason; tables, no logic.

/// A kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A device.
    Link,
    /// An address on a device.
    Address,
    /// A route of any table and type.
    Route,
    /// What the kernel has learned about a route's destination: a path MTU, a redirect.
    Exception,
    /// A routing rule.
    Rule,
    /// A next-hop object.
    NextHop,
    /// A neighbour.
    Neighbour,
    /// An entry of the bridge's forwarding database, or an address that a device listens to.
    Forwarding,
    /// A queueing discipline that somebody made.
    Qdisc,
    /// A tc filter.
    Filter,
    /// A program that hangs on a device beside tc.
    Program,
    /// A sysctl.
    Sysctl,
    /// The tables that the old iptables has made.
    Tables,
    /// How many there are of something that is not listed one by one.
    Count,
}

/// How a value is written for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Number,
    Hex,
    Text,
    Mac,
    Ip,
    /// A device's index.
    Device,
}

/// What becomes of an attribute.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Compared, and tells the thing from others.
    Key(Format),
    /// Compared.
    Same(Format),
    /// The first so many bytes are compared: times follow.
    First(usize, Format),
    /// A number of which some bits are compared.
    Bits(u32),
    /// Not compared.
    LeftOut,
    /// Holds attributes.
    In(&'static [Attribute]),
    /// An array of 32-bit numbers, of which those are compared.
    Picked(&'static [Attribute]),
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    pub id: u16,
    pub name: &'static str,
    pub how: How,
}

/// A class's messages.
#[derive(Debug)]
pub struct Schema {
    /// What people call such a thing.
    pub name: &'static str,
    /// Bytes of the fixed header.
    pub header: usize,
    /// Its fields: `id` is the offset; the length follows.
    pub fields: &'static [(Attribute, usize)],
    /// What follows it.
    pub attributes: &'static [Attribute],
    /// Nothing else tells one from another but all that it is.
    pub whole: bool,
}

use Format::{Device, Hex, Ip, Mac, Number, Text};
use How::{Bits, First, In, Key, LeftOut, Picked, Same};

const fn a(id: u16, name: &'static str, how: How) -> Attribute {
    Attribute { id, name, how }
}

const fn h(at: u16, len: usize, name: &'static str, how: How) -> (Attribute, usize) {
    (a(at, name, how), len)
}

/// All of `IFF_*` but what follows the carrier and the queue: RUNNING, LOWER_UP, DORMANT.
const LINK_FLAGS: u32 = !(0x40 | 0x1_0000 | 0x2_0000);
/// All of `RTNH_F_*` but what follows the carrier: DEAD, LINKDOWN.
const ROUTE_FLAGS: u32 = !(1 | 16);
/// All of `IFA_F_*` but what follows time: TENTATIVE.
const ADDRESS_FLAGS: u32 = !0x40;
/// NUD_PERMANENT and NUD_NOARP; the other states follow traffic and time.
const NEIGHBOUR_STATE: u32 = 0xc0;

impl Class {
    /// What its messages consist of.
    #[must_use]
    pub const fn schema(self) -> &'static Schema {
        match self {
            Self::Link => &LINK,
            Self::Address => &ADDRESS,
            Self::Route => &ROUTE,
            Self::Exception => &EXCEPTION,
            Self::Rule => &RULE,
            Self::NextHop => &NEXT_HOP,
            Self::Neighbour => &NEIGHBOUR,
            Self::Forwarding => &FORWARDING,
            Self::Qdisc => &QDISC,
            Self::Filter => &FILTER,
            Self::Program => &PROGRAM,
            Self::Sysctl => &SYSCTL,
            Self::Tables => &TABLES,
            Self::Count => &COUNT,
        }
    }
}

const LINK: Schema = Schema {
    name: "device",
    header: 16,
    fields: &[
        h(2, 2, "hardware type", Same(Number)),
        h(4, 4, "index", Key(Device)),
        h(8, 4, "flags", Bits(LINK_FLAGS)),
    ],
    attributes: &[
        a(1, "MAC", Same(Mac)),
        a(2, "broadcast", Same(Mac)),
        a(3, "name", Same(Text)),
        a(4, "MTU", Same(Number)),
        a(5, "peer", Same(Device)),
        a(6, "qdisc", LeftOut), // the kernel's default is the host's choice of the day; others are listed as qdiscs
        a(7, "statistics", LeftOut),
        a(8, "cost", Same(Number)),
        a(10, "bridge", Same(Device)),
        a(13, "queue length", Same(Number)),
        a(14, "map", Same(Hex)),
        a(16, "state", LeftOut), // follows the carrier
        a(17, "link mode", Same(Number)),
        a(18, "", In(LINK_INFO)),
        a(20, "alias", Same(Text)),
        a(23, "statistics", LeftOut),
        a(26, "", In(LINK_FAMILIES)),
        a(27, "group", Same(Number)),
        a(30, "promiscuity", Same(Number)),
        a(31, "transmit queues", Same(Number)),
        a(32, "receive queues", Same(Number)),
        a(33, "carrier", LeftOut),
        a(35, "carrier changes", LeftOut),
        a(37, "peer's namespace", LeftOut), // numbered by the kernel as it goes
        a(39, "protocol down", Same(Number)),
        a(40, "GSO segments", Same(Number)),
        a(41, "GSO size", Same(Number)),
        a(43, "", In(&[a(1, "XDP program's place", Same(Number)), a(4, "XDP program", Same(Number))])),
        a(47, "carrier ups", LeftOut),
        a(48, "carrier downs", LeftOut),
        a(50, "least MTU", Same(Number)),
        a(51, "largest MTU", Same(Number)),
        a(52, "other names", Same(Hex)),
        a(58, "GRO size", Same(Number)),
        a(61, "listens to all multicast", Same(Number)),
        a(63, "GSO size for IPv4", Same(Number)),
        a(64, "GRO size for IPv4", Same(Number)),
    ],
    whole: false,
};

const LINK_INFO: &[Attribute] = &[
    a(1, "kind", Same(Text)),
    a(2, "", In(LINK_DATA)),
    a(3, "statistics", LeftOut),
    a(4, "kind of port", Same(Text)),
    a(5, "", In(PORT)),
];

/// `IFLA_BR_*`, `IFLA_TUN_*` and `IFLA_GENEVE_*`, which are told apart by the kind beside them; those that are left out are
/// the bridge's alone.
const LINK_DATA: &[Attribute] = &[
    a(1, "forward delay, tap's owner, or VNI", Same(Number)),
    a(2, "hello time, tap's group, or remote", Same(Number)),
    a(3, "greatest age, or type of tap", Same(Number)),
    a(4, "ageing time, or packet information", Same(Number)),
    a(5, "spanning tree, or virtio-net header", Same(Number)),
    a(6, "priority, or persistence", Same(Number)),
    a(7, "VLAN filtering, or several queues", Same(Number)),
    a(9, "forwarded groups", Same(Number)),
    a(16, "hello timer", LeftOut),
    a(17, "topology notification timer", LeftOut),
    a(18, "topology change timer", LeftOut),
    a(19, "garbage timer", LeftOut),
    a(23, "multicast snooping", Same(Number)),
    a(47, "who asks for groups", LeftOut), // follows traffic and time
    a(48, "learned addresses", LeftOut),   // listed as forwarding entries
];

const PORT: &[Attribute] = &[
    a(1, "port state", LeftOut), // follows the carrier
    a(2, "port priority", Same(Number)),
    a(3, "port cost", Same(Number)),
    a(4, "port hairpin", Same(Number)),
    a(5, "port guard", Same(Number)),
    a(8, "port learns", Same(Number)),
    a(9, "port floods", Same(Number)),
    a(21, "port timer", LeftOut),
    a(22, "port timer", LeftOut),
    a(23, "port timer", LeftOut),
];

const LINK_FAMILIES: &[Attribute] = &[
    a(2, "", In(&[a(1, "", Picked(IPV4_CONF))])),
    a(
        10,
        "",
        In(&[
            a(1, "IPv6 flags", LeftOut), // follow the carrier
            a(2, "", Picked(IPV6_CONF)),
            a(3, "statistics", LeftOut),
            a(5, "times", LeftOut),
            a(6, "statistics", LeftOut),
            a(7, "token", Same(Ip)),
            a(8, "addr_gen_mode", Same(Number)),
        ]),
    ),
];

/// `IPV4_DEVCONF_*` − 1 (linux/ip.h): those that a slot is given. The others are what the host had
/// when it was made, and are held against each other.
const IPV4_CONF: &[Attribute] = &[
    a(0, "ipv4 forwarding", Same(Number)),
    a(3, "ipv4 accept_redirects", Same(Number)),
    a(5, "ipv4 send_redirects", Same(Number)),
    a(7, "ipv4 rp_filter", Same(Number)),
    a(2, "ipv4 proxy_arp", Same(Number)),
    a(8, "ipv4 accept_source_route", Same(Number)),
    a(17, "ipv4 arp_announce", Same(Number)),
    a(18, "ipv4 arp_ignore", Same(Number)),
    a(22, "ipv4 accept_local", Same(Number)),
    a(23, "ipv4 src_valid_mark", Same(Number)),
    a(25, "ipv4 route_localnet", Same(Number)),
    a(super::UNLIKE, "ipv4 settings unlike up0's", Same(Hex)),
];

/// `DEVCONF_*` (linux/ipv6.h), likewise.
const IPV6_CONF: &[Attribute] = &[
    a(3, "ipv6 accept_ra", Same(Number)),
    a(4, "ipv6 accept_redirects", Same(Number)),
    a(6, "ipv6 dad_transmits", Same(Number)),
    a(7, "ipv6 router_solicitations", Same(Number)),
    a(2, "ipv6 mtu", LeftOut),            // follows the device's
    a(47, "ipv6 addr_gen_mode", LeftOut), // stands beside
    a(0, "ipv6 forwarding", Same(Number)),
    a(22, "ipv6 proxy_ndp", Same(Number)),
    a(26, "ipv6 disable_ipv6", Same(Number)),
    a(super::UNLIKE, "ipv6 settings unlike up0's", Same(Hex)),
];

const ADDRESS: Schema = Schema {
    name: "address",
    header: 8,
    fields: &[
        h(0, 1, "family", Key(Number)),
        h(1, 1, "prefix", Key(Number)),
        h(3, 1, "scope", Same(Number)),
        h(4, 4, "on", Key(Device)),
    ],
    attributes: &[
        a(1, "address", Key(Ip)),
        a(2, "own address", Key(Ip)),
        a(3, "label", Same(Text)),
        a(4, "broadcast", Same(Ip)),
        a(6, "lifetimes", First(8, Hex)), // when it was made and changed follows
        a(8, "flags", Bits(ADDRESS_FLAGS)),
    ],
    whole: false,
};

const ROUTE: Schema = Schema {
    name: "route",
    header: 12,
    fields: &[
        h(0, 1, "family", Key(Number)),
        h(1, 1, "prefix", Key(Number)),
        h(2, 1, "source prefix", Key(Number)),
        h(3, 1, "tos", Key(Number)),
        h(5, 1, "protocol", Same(Number)),
        h(6, 1, "scope", Same(Number)),
        h(7, 1, "type", Key(Number)),
        h(8, 4, "flags", Bits(ROUTE_FLAGS)),
    ],
    attributes: &[
        a(1, "to", Key(Ip)),
        a(2, "from", Key(Ip)),
        a(4, "on", Key(Device)),
        a(5, "via", Key(Ip)),
        a(6, "metric", Key(Number)),
        a(7, "source", Same(Ip)),
        a(8, "metrics", Same(Hex)),
        a(12, "times", LeftOut),
        a(15, "table", Key(Number)),
        a(20, "preference", Same(Number)),
    ],
    whole: false,
};

const EXCEPTION: Schema = Schema { name: "route exception", whole: true, ..ROUTE };

const RULE: Schema = Schema {
    name: "routing rule",
    header: 12,
    fields: &[
        h(0, 1, "family", Key(Number)),
        h(1, 1, "to prefix", Key(Number)),
        h(2, 1, "from prefix", Key(Number)),
        h(3, 1, "tos", Key(Number)),
        h(7, 1, "action", Key(Number)),
        h(8, 4, "flags", Key(Number)),
    ],
    attributes: &[
        a(1, "to", Key(Ip)),
        a(2, "from", Key(Ip)),
        a(6, "priority", Key(Number)),
        a(10, "mark", Key(Number)),
        a(15, "table", Key(Number)),
    ],
    whole: true,
};

const NEXT_HOP: Schema = Schema {
    name: "next hop",
    header: 8,
    fields: &[h(0, 8, "header", Key(Hex))],
    attributes: &[a(1, "id", Key(Number))],
    whole: true,
};

const NEIGHBOUR: Schema = Schema {
    name: "neighbour",
    header: 12,
    fields: &[
        h(0, 1, "family", Key(Number)),
        h(4, 4, "on", Key(Device)),
        h(8, 2, "state", Bits(NEIGHBOUR_STATE)),
        h(10, 1, "flags", Key(Number)),
        h(11, 1, "type", Same(Number)),
    ],
    attributes: &[a(1, "address", Key(Ip)), a(2, "MAC", Same(Mac)), a(3, "times", LeftOut), a(4, "probes", LeftOut)],
    whole: false,
};

const FORWARDING: Schema = Schema {
    name: "forwarding entry",
    header: 12,
    fields: &[
        h(4, 4, "on", Key(Device)),
        h(8, 2, "state", Bits(NEIGHBOUR_STATE)),
        h(10, 1, "flags", Key(Number)),
        h(11, 1, "type", Same(Number)),
    ],
    attributes: &[
        a(2, "MAC", Key(Mac)),
        a(3, "times", LeftOut),
        a(5, "VLAN", Key(Number)),
        a(9, "bridge", Key(Device)),
    ],
    whole: false,
};

const QDISC: Schema = Schema {
    name: "qdisc",
    header: 20,
    // What follows is a count of references.
    fields: &[h(4, 4, "on", Key(Device)), h(8, 4, "handle", Key(Hex)), h(12, 4, "parent", Key(Hex))],
    attributes: &[
        a(1, "kind", Same(Text)),
        a(2, "options", Same(Hex)),
        a(3, "statistics", LeftOut),
        a(4, "statistics", LeftOut),
        a(7, "statistics", LeftOut),
        a(13, "ingress block", Same(Number)),
        a(14, "egress block", Same(Number)),
    ],
    whole: false,
};

const FILTER: Schema = Schema {
    name: "tc filter",
    header: 20,
    fields: &[
        h(4, 4, "on", Key(Device)),
        h(8, 4, "handle", Key(Hex)),
        h(12, 4, "hook", Key(Hex)),
        h(16, 4, "priority and protocol", Key(Hex)),
    ],
    attributes: &[
        a(1, "kind", Same(Text)),
        a(
            2,
            "",
            In(&[
                a(7, "program's name", Same(Text)),
                a(8, "flags", Same(Number)),
                a(10, "program's tag", Same(Hex)),
                a(11, "program", Same(Number)),
            ]),
        ),
        a(4, "statistics", LeftOut),
        a(7, "statistics", LeftOut),
        a(11, "chain", Key(Number)),
    ],
    whole: false,
};

const PROGRAM: Schema = TOLD;
const SYSCTL: Schema = Schema { name: "sysctl", ..TOLD };
const TABLES: Schema = Schema { name: "tables of", ..TOLD };
const COUNT: Schema = Schema { name: "number of", ..TOLD };

/// What is not read from netlink: a name and a value.
const TOLD: Schema = Schema {
    name: "program",
    header: 0,
    fields: &[],
    attributes: &[a(1, "", Key(Text)), a(2, "value", Same(Text))],
    whole: false,
};
