//! The outer headers of tunnel packets on the uplink: whether a packet has them, and what they say.

use netslot_abi::{BindingRecord, ConfigRecord, DropReason, tunnel as tunnel_mode};
use netslot_packet::headers::{self, ETHERNET_BYTES, V6, protocol, same16, v4, v6};
use netslot_packet::nat::Side;
use netslot_packet::{Frame, Share};
use zerocopy::{Immutable, IntoBytes};

use crate::skb::Skb;
use crate::tunnel::first4;

/// Whether the packet goes to the tunnel's port. Fragments do not: an outer packet is never to be fragmented.
#[inline(always)]
fn is_tunnel<A>(skb: &Skb, ip: &headers::Ip<A>, config: &ConfigRecord) -> bool {
    if config.tunnel == tunnel_mode::OFF || ip.protocol != protocol::UDP || ip.fragment {
        return false;
    }
    match skb.load::<[u8; 2]>(ip.transport + 2) {
        Some(port) => u16::from_be_bytes(port) == config.geneve_port,
        None => false,
    }
}

/// The outer headers of a tunnel packet.
#[derive(Default)]
pub struct Outer {
    /// The far end of the underlay (the source of a packet that arrived, the destination of one that leaves): IPv6, or
    /// IPv4 in the first four bytes.
    pub far: V6,
    /// Where the UDP header starts.
    pub udp: u32,
    /// Where the inner Ethernet header starts.
    pub inner: u32,
    pub vni: u32,
    /// 4 or 6.
    pub family: u8,
}

impl Outer {
    /// Whether the far end is the bound one.
    #[inline(always)]
    pub fn is_from(&self, binding: &BindingRecord) -> bool {
        self.family == binding.remote_family
            && if self.family == 4 {
                self.far[0] == first4(&binding.remote)
            } else {
                same16(self.far, v6(binding.remote))
            }
    }
}

/// Reads the outer headers of an IPv4 packet on the tunnel's port; false for any other packet. Of a packet that arrives
/// (`Source` is the far side), only what is for this machine counts.
///
/// This and what follows are functions to the verifier too, so that their stacks do not add up.
#[inline(never)]
pub fn outer4(skb: &mut Skb, config: &ConfigRecord, far: Side, outer: &mut Outer) -> bool {
    let Ok(ip) = headers::ipv4(skb, ETHERNET_BYTES) else { return false };
    let ours = far == Side::Destination || ip.destination == v4(config.underlay_v4);
    if !ours || !is_tunnel(skb, &ip, config) {
        return false;
    }
    outer.far = [if far == Side::Source { ip.source } else { ip.destination }, 0, 0, 0];
    outer.udp = ip.transport;
    outer.family = 4;
    true
}

/// As [`outer4`].
#[inline(never)]
pub fn outer6(skb: &mut Skb, config: &ConfigRecord, far: Side, outer: &mut Outer) -> bool {
    let Ok(ip) = headers::ipv6(skb, ETHERNET_BYTES) else { return false };
    let ours = far == Side::Destination || same16(ip.destination, v6(config.underlay_v6));
    if !ours || !is_tunnel(skb, &ip, config) {
        return false;
    }
    outer.far = if far == Side::Source { ip.source } else { ip.destination };
    outer.udp = ip.transport;
    outer.family = 6;
    true
}

/// Writes into a header.
#[inline(always)]
pub fn put<T: IntoBytes + Immutable>(skb: &mut Skb, at: u32, bytes: &T) -> Result<(), DropReason> {
    skb.store(at, bytes, Share::Counted).ok_or(DropReason::Kernel)
}
