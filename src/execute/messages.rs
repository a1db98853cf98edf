//! Which rtnetlink message makes which part of a slot; appends bytes, sends nothing.

use std::os::fd::BorrowedFd;

use netslot_abi::TUNNEL_MARK;

use crate::address;
use crate::address::inside::{TUNNEL_INDEX, TUNNEL_TABLE};
use crate::bpf::attach;
use crate::netlink::route::MAIN_TABLE;
use crate::netlink::{Batch, route};
use crate::plan::blueprint::Addresses;
use crate::plan::{Part, SlotSpec};
use crate::slot::IfIndex;

/// Loopback is the first device of every namespace (loopback_net_init, drivers/net/loopback.c).
pub const LOOPBACK: IfIndex = IfIndex(1);

/// The tunnel device of every slot that has one.
pub const TUNNEL: IfIndex = IfIndex(TUNNEL_INDEX);

/// Appends the one message that makes the part. `false` for the parts that are made otherwise: the namespace, the
/// tap, the rules, the tap's program, the tunnel device, and the host end's IPv6 switch.
pub fn append(batch: &mut Batch, part: Part, spec: &SlotSpec, root: BorrowedFd<'_>) -> bool {
    let (bridge, up, host) = (spec.bridge.index, spec.up.index, spec.host_end.index);
    let v4 = spec.v4.any();
    let v6 = || spec.v6.as_ref().map(Addresses::any);
    match (part, v6()) {
        (Part::Namespace | Part::Tap | Part::Rules | Part::TapProgram | Part::Tunnel | Part::HostEndQuiet, _) => {
            return false;
        }
        (Part::Bridge, _) => route::add_bridge(batch, &spec.bridge),
        (Part::VethPair, _) => {
            route::add_veth(batch, &spec.up, &spec.host_end, root, address::host_end_group(spec.slot));
        }
        (Part::TapOnBridge, _) => route::enslave(batch, spec.tap.index, bridge, spec.tap.mac, spec.tap.mtu),
        (Part::LoopbackUp, _) => route::raise(batch, LOOPBACK),
        (Part::BridgeUp, _) => route::raise(batch, bridge),
        (Part::TapUp, _) => route::raise(batch, spec.tap.index),
        (Part::UplinkUp, _) => route::raise(batch, up),
        (Part::HostEndBlocks, _) => attach::join(batch, host),
        (Part::HostEndUp, _) if spec.forwards => route::raise_and_forward(batch, host),
        (Part::HostEndUp, _) => route::raise(batch, host),
        (Part::GatewayAddress, _) => route::add_address(batch, bridge, v4.gateway.addr, v4.gateway.prefix),
        (Part::SlotAddress, _) => route::add_address(batch, up, v4.slot, 32),
        (Part::DefaultRoute, _) => route::add_default_route(batch, v4.next_hop, up, MAIN_TABLE),
        (Part::TunnelRule, _) => route::add_mark_rule(batch, false, TUNNEL_MARK, TUNNEL_TABLE),
        (Part::TunnelRule6, _) => route::add_mark_rule(batch, true, TUNNEL_MARK, TUNNEL_TABLE),
        (Part::TunnelUp, _) => route::raise(batch, TUNNEL),
        (Part::TunnelRoute, _) => route::add_default_route(batch, v4.next_hop, TUNNEL, TUNNEL_TABLE),
        (Part::TunnelNextHop, _) => route::add_neighbour(batch, TUNNEL, v4.next_hop, spec.host_end.mac),
        (Part::TunnelRoute6, Some(v6)) => route::add_default_route(batch, v6.next_hop, TUNNEL, TUNNEL_TABLE),
        (Part::TunnelNextHop6, Some(v6)) => route::add_neighbour(batch, TUNNEL, v6.next_hop, spec.host_end.mac),
        (Part::NextHop, _) => route::add_neighbour(batch, up, v4.next_hop, spec.host_end.mac),
        (Part::GuestNeighbour, _) => route::add_neighbour(batch, bridge, v4.guest, spec.guest_mac),
        (Part::HostRoute, _) => route::add_host_route(batch, v4.slot, host),
        (Part::HostNeighbour, _) => route::add_neighbour(batch, host, v4.slot, spec.up.mac),
        (Part::GatewayAddress6, Some(v6)) => {
            route::add_address(batch, bridge, v6.gateway.addr, v6.gateway.prefix);
        }
        (Part::SlotAddress6, Some(v6)) => route::add_address(batch, up, v6.slot, 128),
        (Part::DefaultRoute6, Some(v6)) => route::add_default_route(batch, v6.next_hop, up, MAIN_TABLE),
        (Part::NextHop6, Some(v6)) => route::add_neighbour(batch, up, v6.next_hop, spec.host_end.mac),
        (Part::GuestNeighbour6, Some(v6)) => route::add_neighbour(batch, bridge, v6.guest, spec.guest_mac),
        (Part::HostRoute6, Some(v6)) => route::add_host_route(batch, v6.slot, host),
        (Part::HostNeighbour6, Some(v6)) => route::add_neighbour(batch, host, v6.slot, spec.up.mac),
        (
            Part::GatewayAddress6
            | Part::SlotAddress6
            | Part::DefaultRoute6
            | Part::NextHop6
            | Part::TunnelRoute6
            | Part::TunnelNextHop6
            | Part::GuestNeighbour6
            | Part::HostRoute6
            | Part::HostNeighbour6,
            None,
        ) => return false,
    }
    true
}
