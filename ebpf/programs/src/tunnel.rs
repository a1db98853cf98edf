//! Tunnel mode `ebpf`: a tenant's packet wrapped in Geneve at the host end, and unwrapped at the uplink.
//!
//! Outer packets never pass root's routing of the slots' side: a tenant's addresses mean nothing in root's tables, and
//! the outer source is root's own address, which root would refuse from another device as a martian.

use netslot_abi::{BindingRecord, ConfigRecord, DropReason};
use netslot_packet::headers::{NO_V6, V4, ethertype, same6, same16, v4, v6};
use netslot_packet::{Frame, Share, geneve};
use zerocopy::{Immutable, IntoBytes};

use crate::skb::{Family, Skb, redirect_routed};

const ETHERNET: u32 = 14;

/// Wraps the packet, whose source is the tenant's already, and sends it to the bound remote. Gives the program's
/// verdict.
#[inline(always)]
pub fn send(skb: &mut Skb, config: &ConfigRecord, binding: &BindingRecord, inner_type: u16) -> Result<i32, DropReason> {
    let inner = skb.len() - ETHERNET;
    let [a, b] = skb.load::<[u8; 2]>(ETHERNET).ok_or(DropReason::Malformed)?;
    let service = if inner_type == ethertype::IPV4 { b } else { a << 4 | b >> 4 };
    let hash = skb.flow_hash();
    let udp = geneve::udp(geneve::source_port(hash), config.geneve_port, inner);
    match binding.remote_family {
        4 if v4(config.underlay_v4) != 0 => {
            skb.wrap(geneve::OVERHEAD_V4 as i32, Family::V4).ok_or(DropReason::Kernel)?;
            let ip = geneve::ipv4(v4(config.underlay_v4), first4(&binding.remote), service, inner);
            put(skb, 12, &ethertype::IPV4.to_be_bytes())?;
            put(skb, ETHERNET, &ip)?;
            finish(skb, ETHERNET + 20, &udp, config, binding, inner_type)?;
        }
        6 if !same16(v6(config.underlay_v6), NO_V6) => {
            skb.wrap(geneve::OVERHEAD_V6 as i32, Family::V6).ok_or(DropReason::Kernel)?;
            put(skb, 12, &ethertype::IPV6.to_be_bytes())?;
            put(skb, ETHERNET, &geneve::ipv6(service, hash, inner))?;
            put(skb, ETHERNET + 8, &config.underlay_v6)?;
            put(skb, ETHERNET + 24, &binding.remote)?;
            finish(skb, ETHERNET + 40, &udp, config, binding, inner_type)?;
        }
        _ => return Err(DropReason::NoTenantAddress),
    }
    Ok(redirect_routed(config.uplink))
}

/// Writes what follows the outer IP header.
#[inline(always)]
fn finish(
    skb: &mut Skb,
    at: u32,
    udp: &[u8; 8],
    config: &ConfigRecord,
    binding: &BindingRecord,
    inner_type: u16,
) -> Result<(), DropReason> {
    put(skb, at, udp)?;
    put(skb, at + 8, &geneve::header(binding.vni))?;
    put(skb, at + 16, &peer_mac(config, binding))?;
    put(skb, at + 22, &config.guest_mac)?;
    put(skb, at + 28, &inner_type.to_be_bytes())
}

/// Where a tenant's frames go inside the tunnel: the bound MAC, or the one the guest knows as its gateway's.
#[inline(always)]
pub fn peer_mac(config: &ConfigRecord, binding: &BindingRecord) -> [u8; 6] {
    if same6(binding.peer_mac, [0; 6]) { config.gateway_mac } else { binding.peer_mac }
}

#[inline(always)]
pub fn first4(address: &[u8; 16]) -> V4 {
    v6(*address)[0]
}

/// Takes the tunnel's headers off a packet whose inner IP header is at `at`. Gives the bytes by which that has moved up.
///
/// This comes before any change of the inner packet: as long as the outer headers are there, "checksum to be computed"
/// may be said of the outer UDP header (a sender on this machine), and the kernel would mend an inner checksum as if it
/// were that one.
#[inline(always)]
pub fn unwrap(skb: &mut Skb, at: u32, inner_type: u16) -> Result<u32, DropReason> {
    let inner = if inner_type == ethertype::IPV4 { Family::V4 } else { Family::V6 };
    let bytes = at.wrapping_sub(ETHERNET);
    // What parses never comes near this; the verifier wants it said.
    if bytes > 0x400 {
        return Err(DropReason::Malformed);
    }
    skb.unwrap(bytes as i32, inner).ok_or(DropReason::Kernel)?;
    put(skb, 12, &inner_type.to_be_bytes())?;
    Ok(bytes)
}

#[inline(always)]
fn put<T: IntoBytes + Immutable>(skb: &mut Skb, at: u32, bytes: &T) -> Result<(), DropReason> {
    skb.store(at, bytes, Share::Counted).ok_or(DropReason::Kernel)
}
