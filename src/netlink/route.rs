//! One short function per kernel verb that netslot uses: each appends one rtnetlink message to a batch; pure.

use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::libc;

use super::batch::{Attributes, Batch, CREATE, DUMP, EXCL, REPLACE};
use crate::slot::{IfIndex, LinkName, Mac};

/// `rtm_protocol` of our routes: any number of 16 to 255 that no routing daemon is registered for
/// (/etc/iproute2/rt_protos), so that `ip route show proto 78` lists ours and nobody else's. 78 is `N`.
pub const ROUTE_PROTOCOL: u8 = 78;

const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const IFLA_INFO_KIND: u16 = libc::IFLA_INFO_KIND;
const IFLA_INFO_DATA: u16 = libc::IFLA_INFO_DATA;
// linux/if_link.h and linux/veth.h; nix's libc has none of these.
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;
const IFLA_BR_FDB_FLUSH: u16 = 21;
const VETH_INFO_PEER: u16 = 1;
/// Leave the statistics out of a dump: they are two thirds of it.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
// linux/if.h
const IF_OPER_DORMANT: u8 = 5;
// linux/neighbour.h
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NTF_PROXY: u8 = 8;
// linux/rtnetlink.h
const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;
const RTM_GETNEXTHOP: u16 = 106;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
/// The table that a packet without a rule of its own is routed by.
pub const MAIN_TABLE: u32 = 254;
// linux/fib_rules.h
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;

/// What an Ethernet device is made with, all in its one message.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Its name.
    pub name: LinkName,
    /// Its index; must be free in its namespace.
    pub index: IfIndex,
    /// Its address: set explicitly, or udev and the bridge code choose one.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
}

/// What a Geneve device is made with.
#[derive(Clone, Copy, Debug)]
pub struct Geneve {
    /// Name, index, MAC, MTU.
    pub device: Device,
    /// Its VNI, 24 bits.
    pub vni: u32,
    /// Where it sends to, and whom it hears.
    pub remote: IpAddr,
    /// UDP port of both ends.
    pub port: u16,
}

/// A bridge, down and silent: no multicast snooping (else it joins groups and queries), no VLAN 1 on its ports.
pub fn add_bridge(batch: &mut Batch, bridge: &Device) {
    batch.message(RTM_NEWLINK, CREATE | EXCL, &link_header(bridge.index.0, 0, 0), |a| {
        device(a, bridge);
        a.nest(libc::IFLA_LINKINFO, |info| {
            info.bytes(IFLA_INFO_KIND, b"bridge").nest(IFLA_INFO_DATA, |data| {
                data.u8(IFLA_BR_MCAST_SNOOPING, 0).u16(IFLA_BR_VLAN_DEFAULT_PVID, 0);
            });
        });
    });
}

/// A veth pair, both ends down: `near` in the socket's namespace, `far` straight into another one, in a device group.
///
/// One queue each way on both ends: the default of one per possible CPU costs two grace periods and 2.9 KB per CPU.
/// The far end cannot be made up in this message (ENOTCONN, drivers/net/veth.c: its peer is not linked yet).
pub fn add_veth(batch: &mut Batch, near: &Device, far: &Device, far_netns: BorrowedFd<'_>, far_group: u32) {
    batch.message(RTM_NEWLINK, CREATE | EXCL, &link_header(near.index.0, 0, 0), |a| {
        device(a, near);
        one_queue(a);
        a.nest(libc::IFLA_LINKINFO, |info| {
            info.bytes(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_header(far.index.0, 0, 0));
                    device(peer, far);
                    one_queue(peer);
                    peer.bytes(libc::IFLA_NET_NS_FD, &far_netns.as_raw_fd().to_ne_bytes())
                        .u32(libc::IFLA_GROUP, far_group);
                });
            });
        });
    });
}

/// Puts a tap that nobody holds on a bridge and gives it a MAC and an MTU.
///
/// And says that it is dormant, which it is: its carrier went when its maker let go of it, but until linkwatch reaches
/// it the bridge takes it for usable, starts the port, gets a carrier, and stops both again (netif_oper_up holds for
/// an unknown state; set_operstate, net/core/rtnetlink.c, and br_port_carrier_check). Raising a slot then costs twice
/// as much (120 against 60 µs of CPU, measured on 6.18), and what is left in it depends on who came first. The VMM's
/// open brings it up as ever.
pub fn enslave(batch: &mut Batch, index: IfIndex, bridge: IfIndex, mac: Mac, mtu: u32) {
    batch.message(RTM_NEWLINK, 0, &link_header(index.0, 0, 0), |a| {
        a.bytes(libc::IFLA_ADDRESS, &mac.0).u32(libc::IFLA_MTU, mtu).u32(libc::IFLA_MASTER, bridge.0);
        a.u8(libc::IFLA_OPERSTATE, IF_OPER_DORMANT);
    });
}

/// A Geneve device, down, in the namespace `netns`; its UDP socket will be in that of the socket which sends this: the
/// message must go out by root's (rtnl_newlink, net/core/rtnetlink.c). Nothing of it but MTU, MAC and names can be
/// changed later; the VNI never (geneve_changelink, drivers/net/geneve.c).
pub fn add_geneve(batch: &mut Batch, tunnel: &Geneve, netns: BorrowedFd<'_>) {
    // linux/if_link.h
    const ID: u16 = 1;
    const REMOTE: u16 = 2;
    const PORT: u16 = 5;
    const REMOTE6: u16 = 7;
    const ZERO_CSUM6_TX: u16 = 9;
    const ZERO_CSUM6_RX: u16 = 10;
    batch.message(RTM_NEWLINK, CREATE | EXCL, &link_header(tunnel.device.index.0, 0, 0), |a| {
        device(a, &tunnel.device);
        a.bytes(libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
        a.nest(libc::IFLA_LINKINFO, |info| {
            info.bytes(IFLA_INFO_KIND, b"geneve").nest(IFLA_INFO_DATA, |data| {
                data.u32(ID, tunnel.vni).bytes(PORT, &tunnel.port.to_be_bytes());
                with_ip(tunnel.remote, |ip| {
                    data.bytes(if tunnel.remote.is_ipv6() { REMOTE6 } else { REMOTE }, ip);
                });
                if tunnel.remote.is_ipv6() {
                    // Over IPv4 no checksum is the default; a rewritten VNI would break one.
                    data.u8(ZERO_CSUM6_TX, 1).u8(ZERO_CSUM6_RX, 1);
                }
            });
        });
    });
}

/// Raises one device.
pub fn raise(batch: &mut Batch, index: IfIndex) {
    let up = libc::IFF_UP.cast_unsigned();
    batch.message(RTM_NEWLINK, 0, &link_header(index.0, up, up), |_| ());
}

/// Raises every device of a group in one message, under one hold of RTNL, and lets them forward.
pub fn raise_group(batch: &mut Batch, group: u32, forward: bool) {
    let up = libc::IFF_UP.cast_unsigned();
    batch.message(RTM_NEWLINK, 0, &link_header(0, up, up), |a| {
        a.u32(libc::IFLA_GROUP, group);
        if forward {
            forwarding(a);
        }
    });
}

/// Raises one device and lets it forward.
pub fn raise_and_forward(batch: &mut Batch, index: IfIndex) {
    let up = libc::IFF_UP.cast_unsigned();
    batch.message(RTM_NEWLINK, 0, &link_header(index.0, up, up), forwarding);
}

/// Lets a device forward what it receives for others: IPv4, this device alone. The sysctl of the same name would take a
/// write to /proc/sys per device.
pub fn forward(batch: &mut Batch, index: IfIndex) {
    batch.message(RTM_NEWLINK, 0, &link_header(index.0, 0, 0), forwarding);
}

/// Has the kernel make no IPv6 address on the device by itself. Unlike the sysctl of the same name it looks after no address
/// when it is set (inet6_set_link_af against addrconf_sysctl_addr_gen_mode, net/ipv6/addrconf.c). The kernel must have IPv6.
pub fn generate_no_address(batch: &mut Batch, index: IfIndex) {
    // linux/if_link.h
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
    let family = u16::try_from(libc::AF_INET6).expect("10");
    batch.message(RTM_NEWLINK, 0, &link_header(index.0, 0, 0), |a| {
        a.nest(libc::IFLA_AF_SPEC, |spec| {
            spec.nest(family, |inet6| {
                inet6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        });
    });
}

fn forwarding(a: &mut Attributes<'_>) {
    // linux/if_link.h: IFLA_INET_CONF; linux/ip.h: IPV4_DEVCONF_FORWARDING. inet_set_link_af, net/ipv4/devinet.c.
    const IFLA_INET_CONF: u16 = 1;
    const IPV4_DEVCONF_FORWARDING: u16 = 1;
    let family = u16::try_from(libc::AF_INET).expect("2");
    a.nest(libc::IFLA_AF_SPEC, |spec| {
        spec.nest(family, |inet| {
            inet.nest(IFLA_INET_CONF, |conf| {
                conf.u32(IPV4_DEVCONF_FORWARDING, 1);
            });
        });
    });
}

/// Deletes one device.
pub fn delete_link(batch: &mut Batch, index: IfIndex) {
    batch.message(libc::RTM_DELLINK, 0, &link_header(index.0, 0, 0), |_| ());
}

/// Deletes every device of a group in one message, sharing one round of grace periods.
pub fn delete_group(batch: &mut Batch, group: u32) {
    batch.message(libc::RTM_DELLINK, 0, &link_header(0, 0, 0), |a| {
        a.u32(libc::IFLA_GROUP, group);
    });
}

/// Gives a device its address back.
pub fn set_mac(batch: &mut Batch, index: IfIndex, mac: Mac) {
    batch.message(RTM_NEWLINK, 0, &link_header(index.0, 0, 0), |a| {
        a.bytes(libc::IFLA_ADDRESS, &mac.0);
    });
}

/// Makes a bridge forget the addresses that it has learned.
pub fn flush_fdb(batch: &mut Batch, bridge: IfIndex) {
    batch.message(RTM_NEWLINK, 0, &link_header(bridge.0, 0, 0), |a| {
        a.nest(libc::IFLA_LINKINFO, |info| {
            info.bytes(IFLA_INFO_KIND, b"bridge").nest(IFLA_INFO_DATA, |data| {
                data.bytes(IFLA_BR_FDB_FLUSH, &[]);
            });
        });
    });
}

/// Moves a device to another group.
pub fn set_group(batch: &mut Batch, index: IfIndex, group: u32) {
    batch.message(RTM_NEWLINK, 0, &link_header(index.0, 0, 0), |a| {
        a.u32(libc::IFLA_GROUP, group);
    });
}

/// Adds an address; no duplicate-address detection for IPv6, as every address here is ours alone by construction.
pub fn add_address(batch: &mut Batch, index: IfIndex, addr: IpAddr, prefix: u8) {
    let flags = if addr.is_ipv6() { libc::IFA_F_NODAD } else { 0 };
    let [a, b, c, d] = index.0.to_ne_bytes();
    let header = [family(addr), prefix, u8::try_from(flags).expect("IFA_F_NODAD is 2"), RT_SCOPE_UNIVERSE, a, b, c, d];
    batch.message(libc::RTM_NEWADDR, CREATE | REPLACE, &header, |attributes| {
        with_ip(addr, |ip| {
            attributes.bytes(libc::IFA_LOCAL, ip).bytes(libc::IFA_ADDRESS, ip);
        });
    });
}

/// Adds the default route over `via` to a table, reachable on the device whatever its addresses are. The device must be
/// up.
pub fn add_default_route(batch: &mut Batch, via: IpAddr, index: IfIndex, table: u32) {
    batch.message(libc::RTM_NEWROUTE, CREATE | REPLACE, &route_header(via, 0, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK), |a| {
        with_ip(via, |ip| {
            a.bytes(libc::RTA_GATEWAY, ip).u32(libc::RTA_OIF, index.0).u32(libc::RTA_TABLE, table);
        });
    });
}

/// Sends packets with that mark to a table.
pub fn add_mark_rule(batch: &mut Batch, ipv6: bool, mark: u32, table: u32) {
    batch.message(libc::RTM_NEWRULE, CREATE | EXCL, &rule_header(ipv6, FR_ACT_TO_TBL), |a| {
        a.u32(FRA_FWMARK, mark).u32(FRA_TABLE, table).u32(FRA_PRIORITY, mark);
    });
}

/// Adds the route to one address straight onto a device. The device must be up.
pub fn add_host_route(batch: &mut Batch, to: IpAddr, index: IfIndex) {
    let prefix = if to.is_ipv6() { 128 } else { 32 };
    batch.message(libc::RTM_NEWROUTE, CREATE | REPLACE, &route_header(to, prefix, RT_SCOPE_LINK, 0), |a| {
        with_ip(to, |ip| {
            a.bytes(libc::RTA_DST, ip).u32(libc::RTA_OIF, index.0);
        });
    });
}

/// Deletes the route to one address.
pub fn delete_host_route(batch: &mut Batch, to: IpAddr, index: IfIndex) {
    let prefix = if to.is_ipv6() { 128 } else { 32 };
    batch.message(libc::RTM_DELROUTE, 0, &route_header(to, prefix, RT_SCOPE_LINK, 0), |a| {
        with_ip(to, |ip| {
            a.bytes(libc::RTA_DST, ip).u32(libc::RTA_OIF, index.0);
        });
    });
}

/// Adds a permanent neighbour: never asked for, never forgotten, and not counted against the table's limit of 1,024
/// that all namespaces share (neigh_alloc exempts NUD_PERMANENT, net/core/neighbour.c).
pub fn add_neighbour(batch: &mut Batch, index: IfIndex, addr: IpAddr, mac: Mac) {
    batch.message(libc::RTM_NEWNEIGH, CREATE | REPLACE, &neighbour_header(family(addr), index.0, NUD_PERMANENT), |a| {
        with_ip(addr, |ip| {
            a.bytes(NDA_DST, ip).bytes(NDA_LLADDR, &mac.0);
        });
    });
}

/// Deletes a neighbour.
pub fn delete_neighbour(batch: &mut Batch, index: IfIndex, addr: IpAddr) {
    batch.message(libc::RTM_DELNEIGH, 0, &neighbour_header(family(addr), index.0, 0), |a| {
        with_ip(addr, |ip| {
            a.bytes(NDA_DST, ip);
        });
    });
}

/// Asks for one device, of the socket's namespace or of another that has an id in it. The kernel settles the device's
/// carrier before it answers (linkwatch_sync_dev in rtnl_getlink, net/core/rtnetlink.c, since 6.8).
pub fn get_link(batch: &mut Batch, index: IfIndex, netns: Option<u32>) {
    batch.message(libc::RTM_GETLINK, 0, &link_header(index.0, 0, 0), |a| {
        a.u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        if let Some(netns) = netns {
            a.u32(libc::IFLA_TARGET_NETNSID, netns);
        }
    });
}

/// Has the kernel handle at once what waits of carrier events of that tap and then of that bridge, by asking for both; with a
/// grace period each where they are up.
///
/// All namespaces' events wait in one list, of which the kernel by itself handles 100 a second, and which it walks under RTNL
/// with interrupts off for each urgent one, as each host end's raising and each opening of a tap is (`__linkwatch_run_queue`,
/// net/core/link_watch.c): 22 % of both CPUs at 200 scrubs per second beside 4,000 slots, on 6.18.
pub fn settle_carriers(batch: &mut Batch, tap: IfIndex, bridge: IfIndex) {
    get_link(batch, tap, None);
    get_link(batch, bridge, None);
}

/// Asks for all devices, without their statistics.
pub fn dump_links(batch: &mut Batch) {
    batch.message(libc::RTM_GETLINK, DUMP, &link_header(0, 0, 0), |a| {
        a.u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    });
}

/// Asks for all addresses of both families.
pub fn dump_addresses(batch: &mut Batch) {
    batch.message(libc::RTM_GETADDR, DUMP, &[0; 8], |_| ());
}

/// Asks for all routes of both families and all tables.
pub fn dump_routes(batch: &mut Batch) {
    batch.message(libc::RTM_GETROUTE, DUMP, &[0; 12], |_| ());
}

/// Asks for all neighbours of both families.
pub fn dump_neighbours(batch: &mut Batch) {
    batch.message(libc::RTM_GETNEIGH, DUMP, &[0; 12], |_| ());
}

/// Asks for the addresses that the namespace answers for on behalf of others.
pub fn dump_proxied(batch: &mut Batch) {
    let mut header = neighbour_header(0, 0, 0);
    header[10] = NTF_PROXY;
    batch.message(libc::RTM_GETNEIGH, DUMP, &header, |_| ());
}

/// Asks for what the kernel has learned about the destinations of routes: path MTUs and redirects.
pub fn dump_exceptions(batch: &mut Batch) {
    let mut header = [0; 12];
    header[8..].copy_from_slice(&RTM_F_CLONED.to_ne_bytes());
    batch.message(libc::RTM_GETROUTE, DUMP, &header, |_| ());
}

/// Asks for all routing rules of both families.
pub fn dump_rules(batch: &mut Batch) {
    batch.message(libc::RTM_GETRULE, DUMP, &[0; 12], |_| ());
}

/// Asks for all next-hop objects.
pub fn dump_next_hops(batch: &mut Batch) {
    batch.message(RTM_GETNEXTHOP, DUMP, &[0; 8], |_| ());
}

/// Asks for what bridges know of addresses, and what devices listen to.
pub fn dump_forwarding(batch: &mut Batch) {
    let family = u8::try_from(libc::AF_BRIDGE).expect("address families are small");
    batch.message(libc::RTM_GETNEIGH, DUMP, &neighbour_header(family, 0, 0), |_| ());
}

/// All but the index, which stands in the message's fixed header.
fn device(a: &mut Attributes<'_>, device: &Device) {
    a.text(libc::IFLA_IFNAME, device.name.as_str())
        .bytes(libc::IFLA_ADDRESS, &device.mac.0)
        .u32(libc::IFLA_MTU, device.mtu);
}

fn one_queue(a: &mut Attributes<'_>) {
    a.u32(libc::IFLA_NUM_TX_QUEUES, 1).u32(libc::IFLA_NUM_RX_QUEUES, 1);
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct rtmsg`.
fn route_header(addr: IpAddr, prefix: u8, scope: u8, flags: u32) -> [u8; 12] {
    let [a, b, c, d] = flags.to_ne_bytes();
    [family(addr), prefix, 0, 0, libc::RT_TABLE_MAIN, ROUTE_PROTOCOL, scope, RTN_UNICAST, a, b, c, d]
}

/// `struct fib_rule_hdr`.
fn rule_header(ipv6: bool, action: u8) -> [u8; 12] {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    [u8::try_from(family).expect("address families are small"), 0, 0, 0, 0, 0, 0, action, 0, 0, 0, 0]
}

/// `struct ndmsg`.
fn neighbour_header(family: u8, index: u32, state: u16) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header
}

fn family(addr: IpAddr) -> u8 {
    let family = if addr.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    u8::try_from(family).expect("address families are small")
}

fn with_ip<R>(addr: IpAddr, f: impl FnOnce(&[u8]) -> R) -> R {
    match addr {
        IpAddr::V4(ip) => f(&ip.octets()),
        IpAddr::V6(ip) => f(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    //! What we write is read back by somebody else's parser.

    use std::fs::File;
    use std::os::fd::AsFd as _;

    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_route::RouteNetlinkMessage as Route;
    use netlink_packet_route::address::AddressAttribute;
    use netlink_packet_route::link::{
        InfoBridge, InfoData, InfoGeneve as G, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    };
    use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
    use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteProtocol, RouteScope};

    use super::*;

    const MAC: Mac = Mac([2, 0x4e, 0x53, 0, 0, 7]);

    fn device(name: &str, index: u32) -> Device {
        Device { name: name.parse().expect("a name"), index: IfIndex(index), mac: MAC, mtu: 1430 }
    }

    fn parsed(write: impl FnOnce(&mut Batch)) -> (u16, Route) {
        let mut batch = Batch::new();
        write(&mut batch);
        let message = NetlinkMessage::<Route>::deserialize(batch.finish()).expect("well-formed");
        let NetlinkPayload::InnerMessage(inner) = message.payload else { panic!("no rtnetlink message") };
        (message.header.flags, inner)
    }

    #[test]
    fn a_bridge_is_quiet_and_has_name_index_mac_and_mtu() {
        let (flags, message) = parsed(|b| add_bridge(b, &device("br0", 2)));
        let Route::NewLink(link) = message else { panic!("{message:?}") };
        assert_eq!(flags & (CREATE | EXCL), CREATE | EXCL);
        assert_eq!((link.header.index, link.header.flags), (2, LinkFlags::empty()));
        let expected = [
            LinkAttribute::IfName("br0".into()),
            LinkAttribute::Address(MAC.0.to_vec()),
            LinkAttribute::Mtu(1430),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![
                    InfoBridge::MulticastSnooping(false),
                    InfoBridge::VlanDefaultPvid(0),
                ])),
            ]),
        ];
        assert_eq!(link.attributes, expected);
    }

    #[test]
    fn a_veth_pair_has_one_queue_on_both_ends_and_its_far_end_elsewhere() {
        let elsewhere = File::open("/dev/null").expect("some descriptor");
        let fd = elsewhere.as_fd().as_raw_fd();
        let write = |b: &mut Batch| add_veth(b, &device("up0", 3), &device("slot7", 100_007), elsewhere.as_fd(), 9);
        let (_, message) = parsed(write);
        let Route::NewLink(near) = message else { panic!("{message:?}") };
        let one_queue = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
        assert_eq!((near.header.index, &near.attributes[3..5]), (3, &one_queue[..]));
        let Some(LinkAttribute::LinkInfo(info)) = near.attributes.last() else { panic!("{near:?}") };
        let [LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far)))] = &info[..] else {
            panic!("{info:?}")
        };
        assert_eq!((far.header.index, far.header.flags), (100_007, LinkFlags::empty()));
        assert_eq!(far.attributes[0], LinkAttribute::IfName("slot7".into()));
        assert_eq!(far.attributes[3..5], one_queue);
        assert_eq!(far.attributes[5..], [LinkAttribute::NetNsFd(fd), LinkAttribute::Group(9)]);
    }

    #[test]
    fn a_tunnel_device_is_made_in_the_slot_with_its_dummies() {
        let file = File::open("/dev/null").expect("some descriptor");
        for remote in ["192.0.0.8", "100::8"] {
            let tunnel =
                Geneve { device: device("gnv0", 4), vni: 0xf0_0007, remote: remote.parse().expect("one"), port: 6_081 };
            let (_, message) = parsed(|b| add_geneve(b, &tunnel, file.as_fd()));
            let Route::NewLink(link) = message else { panic!("{message:?}") };
            assert!(link.attributes.contains(&LinkAttribute::NetNsFd(file.as_raw_fd())), "{link:?}");
            let Some(LinkAttribute::LinkInfo(info)) = link.attributes.last() else { panic!("{link:?}") };
            let [LinkInfo::Kind(InfoKind::Geneve), LinkInfo::Data(InfoData::Geneve(data))] = &info[..] else {
                panic!("{info:?}")
            };
            let expected = match tunnel.remote {
                IpAddr::V4(remote) => vec![G::Id(0xf0_0007), G::Port(6_081), G::Remote(remote)],
                IpAddr::V6(remote) => vec![
                    G::Id(0xf0_0007),
                    G::Port(6_081),
                    G::Remote6(remote),
                    G::UdpZeroCsum6Tx(true),
                    G::UdpZeroCsum6Rx(true),
                ],
            };
            assert_eq!(data, &expected);
        }
    }

    #[test]
    fn address_generation_is_switched_off_and_the_flags_are_left() {
        use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode};
        let (_, message) = parsed(|b| generate_no_address(b, IfIndex(1)));
        let Route::NewLink(link) = message else { panic!("{message:?}") };
        assert_eq!((link.header.index, link.header.change_mask), (1, LinkFlags::empty()));
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        assert_eq!(link.attributes, [LinkAttribute::AfSpecUnspec(vec![none])]);
    }

    #[test]
    fn a_device_or_a_group_is_raised_by_flag_and_mask() {
        for (write, index) in [(raise as fn(&mut Batch, IfIndex), 5), (|b, _| raise_group(b, 9, false), 0)] {
            let (_, message) = parsed(|b| write(b, IfIndex(5)));
            let Route::NewLink(link) = message else { panic!("{message:?}") };
            assert_eq!(
                (link.header.index, link.header.flags, link.header.change_mask),
                (index, LinkFlags::Up, LinkFlags::Up)
            );
            let group: &[_] = if index == 0 { &[LinkAttribute::Group(9)] } else { &[] };
            assert_eq!(link.attributes, group);
        }
    }

    #[test]
    fn addresses_and_routes_carry_family_prefix_and_device() {
        let ip: IpAddr = [100, 64, 0, 9].into();
        let Route::NewAddress(address) = parsed(|b| add_address(b, IfIndex(3), ip, 32)).1 else { panic!() };
        assert_eq!((address.header.index, address.header.prefix_len), (3, 32));
        assert_eq!(address.attributes, [AddressAttribute::Local(ip), AddressAttribute::Address(ip)]);

        let Route::NewRoute(route) = parsed(|b| add_default_route(b, ip, IfIndex(3), MAIN_TABLE)).1 else { panic!() };
        assert_eq!((route.header.destination_prefix_length, route.header.flags), (0, RouteFlags::Onlink));
        assert_eq!(route.header.protocol, RouteProtocol::Other(ROUTE_PROTOCOL));
        let v4 = RouteAddress::Inet([100, 64, 0, 9].into());
        let table = RouteAttribute::Table(MAIN_TABLE);
        assert_eq!(route.attributes, [RouteAttribute::Gateway(v4.clone()), RouteAttribute::Oif(3), table]);

        let Route::NewRoute(route) = parsed(|b| add_host_route(b, ip, IfIndex(7))).1 else { panic!() };
        assert_eq!((route.header.destination_prefix_length, route.header.scope), (32, RouteScope::Link));
        assert_eq!(route.attributes, [RouteAttribute::Destination(v4), RouteAttribute::Oif(7)]);
    }

    #[test]
    fn a_neighbour_is_permanent() {
        let Route::NewNeighbour(entry) = parsed(|b| add_neighbour(b, IfIndex(2), [10, 0, 0, 2].into(), MAC)).1 else {
            panic!()
        };
        assert_eq!((entry.header.ifindex, entry.header.state), (2, NeighbourState::Permanent));
        let address = NeighbourAddress::Inet([10, 0, 0, 2].into());
        assert_eq!(
            entry.attributes,
            [NeighbourAttribute::Destination(address), NeighbourAttribute::LinkLayerAddress(MAC.0.to_vec())]
        );
    }
}
