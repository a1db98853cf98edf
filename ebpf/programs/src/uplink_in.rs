//! Uplink ingress: a tunnel's packets to the slot that their tenant's address is bound to, and packets for the addresses
//! that the network knows slots by.

use netslot_abi::{BindingRecord, ConfigRecord, DropReason, TenantKey, forward, tunnel as tunnel_mode};
use netslot_packet::geneve;
use netslot_packet::headers::{self, ETHERNET_BYTES, Ipv4, Ipv6, NO_V4, NO_V6, ethertype, same16, v4, v6};
use netslot_packet::nat::{self, Rule, Side};
use netslot_packet::{Frame, Share, Sum, checksum};

use crate::maps::{self, Leased};
use crate::outer::{Outer, outer4, outer6, put};
use crate::skb::{Skb, redirect_peer};
use crate::slot;
use crate::tunnel;
use crate::verdict::{NOT_OURS, dropped};

#[inline(always)]
pub fn uplink_in(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Ok(ethernet) = headers::ethernet(skb, 0) else { return NOT_OURS };
    let mut outer = Outer::default();
    let from_tunnel = match ethernet.ethertype {
        ethertype::IPV4 => outer4(skb, config, Side::Source, &mut outer),
        ethertype::IPV6 => outer6(skb, config, Side::Source, &mut outer),
        _ => return NOT_OURS,
    };
    match (from_tunnel, ethernet.ethertype) {
        (true, _) => from_tunnel_in(skb, config, &mut outer),
        (false, ethertype::IPV4) => nat_in4(skb, config),
        (false, _) => nat_in6(skb, config),
    }
}

/// A packet for the tunnel's port.
#[inline(always)]
fn from_tunnel_in(skb: &mut Skb, config: &'static ConfigRecord, outer: &mut Outer) -> i32 {
    let inner_type = match geneve::parse(skb, outer.udp + 8) {
        Ok(geneve) => {
            outer.vni = geneve.vni;
            outer.inner = geneve.inner;
            headers::ethernet(skb, geneve.inner).map(|e| e.ethertype)
        }
        Err(reason) => Err(reason),
    };
    match inner_type {
        Ok(ethertype::IPV4) => from_tunnel4(skb, config, outer),
        Ok(ethertype::IPV6) if slot::has_v6(config) => from_tunnel6(skb, config, outer),
        Ok(_) => dropped(config.slots, DropReason::Protocol),
        Err(reason) => dropped(config.slots, reason),
    }
}

#[inline(never)]
fn from_tunnel4(skb: &mut Skb, config: &'static ConfigRecord, outer: &Outer) -> i32 {
    let mut owner = config.slots;
    match try_from_tunnel4(skb, config, outer, &mut owner) {
        Ok(verdict) => verdict,
        Err(reason) => dropped(owner, reason),
    }
}

#[inline(always)]
fn try_from_tunnel4(
    skb: &mut Skb,
    config: &'static ConfigRecord,
    outer: &Outer,
    owner: &mut u32,
) -> Result<i32, DropReason> {
    let mut ip = headers::ipv4(skb, outer.inner + ETHERNET_BYTES)?;
    let key = TenantKey { vni: outer.vni, family: 4, address: zerocopy::transmute!([ip.destination, 0, 0, 0]) };
    let (slot, binding) = bound(&key, outer, owner)?;
    if v4(binding.tenant_v4) != ip.destination {
        return Err(DropReason::NoTenant);
    }
    let unwrapped = config.tunnel == tunnel_mode::EBPF;
    if unwrapped {
        ip = ip.moved_up(tunnel::unwrap(skb, ip.at, ethertype::IPV4)?);
    }
    slot::enter4(skb, config, &ip, [ip.destination; 2], slot::inside4(&slot, config))?;
    arrive(skb, config, slot.number, outer, unwrapped)
}

#[inline(never)]
fn from_tunnel6(skb: &mut Skb, config: &'static ConfigRecord, outer: &Outer) -> i32 {
    let mut owner = config.slots;
    match try_from_tunnel6(skb, config, outer, &mut owner) {
        Ok(verdict) => verdict,
        Err(reason) => dropped(owner, reason),
    }
}

#[inline(always)]
fn try_from_tunnel6(
    skb: &mut Skb,
    config: &'static ConfigRecord,
    outer: &Outer,
    owner: &mut u32,
) -> Result<i32, DropReason> {
    let mut ip = headers::ipv6(skb, outer.inner + ETHERNET_BYTES)?;
    let key = TenantKey { vni: outer.vni, family: 6, address: zerocopy::transmute!(ip.destination) };
    let (slot, binding) = bound(&key, outer, owner)?;
    if !same16(v6(binding.tenant_v6), ip.destination) {
        return Err(DropReason::NoTenant);
    }
    let unwrapped = config.tunnel == tunnel_mode::EBPF;
    if unwrapped {
        ip = ip.moved_up(tunnel::unwrap(skb, ip.at, ethertype::IPV6)?);
    }
    slot::enter6(skb, config, &ip, [ip.destination; 2], slot::inside6(&slot, config))?;
    arrive(skb, config, slot.number, outer, unwrapped)
}

/// The slot that the key is bound to, by a binding that says the same and names the sender.
#[inline(always)]
fn bound(key: &TenantKey, outer: &Outer, owner: &mut u32) -> Result<(Leased, &'static BindingRecord), DropReason> {
    let number = maps::tenant(key).ok_or(DropReason::NoTenant)?;
    *owner = number;
    let slot = Leased::find(number)?;
    let binding = slot.tunnel().ok_or(DropReason::NoTenant)?;
    if binding.vni != key.vni || !outer.is_from(binding) {
        return Err(DropReason::NoTenant);
    }
    Ok((slot, binding))
}

/// Gives a translated packet to its slot: straight, or to the slot's tunnel device by its dummy VNI.
#[inline(always)]
fn arrive(
    skb: &mut Skb,
    config: &'static ConfigRecord,
    slot: u32,
    outer: &Outer,
    unwrapped: bool,
) -> Result<i32, DropReason> {
    if !unwrapped {
        disguise(skb, config, slot, outer)?;
    }
    maps::count_in(slot, skb.len());
    Ok(if unwrapped { redirect_peer(config.ifindex_base + slot) } else { NOT_OURS })
}

/// Makes a real tunnel packet look as the slot's tunnel device expects it: dummy VNI, dummy remote, its own MAC.
#[inline(always)]
fn disguise(skb: &mut Skb, config: &ConfigRecord, slot: u32, outer: &Outer) -> Result<(), DropReason> {
    put(skb, outer.inner, &config.geneve_mac)?;
    put(skb, outer.udp + 12, &geneve::vni_word(config.vni_base + slot))?;
    put(skb, outer.udp + 6, &0_u16)?;
    if outer.family == 6 {
        return put(skb, ETHERNET_BYTES + 8, &config.dummy_remote_v6);
    }
    let delta = checksum::delta4(outer.far[0], v4(config.dummy_remote_v4));
    skb.store(ETHERNET_BYTES + 12, &config.dummy_remote_v4, Share::Balanced).ok_or(DropReason::Kernel)?;
    skb.mend(ETHERNET_BYTES + 10, delta, Sum::Header).ok_or(DropReason::Kernel)
}

/// A packet for a slot's external address, or (where packets are redirected) for the slot's own.
#[inline(never)]
fn nat_in4(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Ok(ip) = headers::ipv4(skb, ETHERNET_BYTES) else { return NOT_OURS };
    let ip = &ip;
    let external = if v4(config.external_v4) == NO_V4 {
        None
    } else {
        config.slot_of_v4(config.external_v4, ip.destination.to_ne_bytes())
    };
    let redirected = config.forward == forward::REDIRECT;
    let number = match external {
        Some(number) => number,
        None if redirected => match config.slot_of_v4(config.slot_v4, ip.destination.to_ne_bytes()) {
            Some(number) => number,
            None => return NOT_OURS,
        },
        None => return NOT_OURS,
    };
    let own = slot::own4(config, number);
    let from = [ip.destination, ip.destination];
    if !redirected {
        return match nat::ipv4(skb, ip, Side::Destination, &Rule { from, to: own }) {
            Ok(()) => NOT_OURS,
            Err(reason) => dropped(number, reason),
        };
    }
    match try_hand_over4(skb, config, ip, number) {
        Ok(verdict) => verdict,
        Err(reason) => dropped(number, reason),
    }
}

/// Gives a packet from the network to its slot without passing the stack.
#[inline(always)]
fn try_hand_over4(skb: &mut Skb, config: &'static ConfigRecord, ip: &Ipv4, number: u32) -> Result<i32, DropReason> {
    let slot = Leased::find(number)?;
    if slot.tunnel().is_some() {
        return Err(DropReason::WrongPath);
    }
    let bytes = skb.len();
    slot::enter4(skb, config, ip, [ip.destination, ip.destination], slot::inside4(&slot, config))?;
    maps::count_in(number, bytes);
    Ok(redirect_peer(config.ifindex_base + number))
}

/// As [`nat_in4`].
#[inline(never)]
fn nat_in6(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Ok(ip) = headers::ipv6(skb, ETHERNET_BYTES) else { return NOT_OURS };
    let ip = &ip;
    if !slot::has_v6(config) {
        return NOT_OURS;
    }
    let external = if same16(v6(config.external_v6), NO_V6) {
        None
    } else {
        config.slot_of_v6(config.external_v6, zerocopy::transmute!(ip.destination))
    };
    let redirected = config.forward == forward::REDIRECT;
    let number = match external {
        Some(number) => number,
        None if redirected => match config.slot_of_v6(config.slot_v6, zerocopy::transmute!(ip.destination)) {
            Some(number) => number,
            None => return NOT_OURS,
        },
        None => return NOT_OURS,
    };
    let from = [ip.destination, ip.destination];
    if !redirected {
        let to = slot::own6(config, number);
        return match nat::ipv6(skb, ip, Side::Destination, &Rule { from, to }) {
            Ok(()) => NOT_OURS,
            Err(reason) => dropped(number, reason),
        };
    }
    match try_hand_over6(skb, config, ip, number) {
        Ok(verdict) => verdict,
        Err(reason) => dropped(number, reason),
    }
}

/// As [`try_hand_over4`].
#[inline(always)]
fn try_hand_over6(skb: &mut Skb, config: &'static ConfigRecord, ip: &Ipv6, number: u32) -> Result<i32, DropReason> {
    let slot = Leased::find(number)?;
    if slot.tunnel().is_some() {
        return Err(DropReason::WrongPath);
    }
    let bytes = skb.len();
    slot::enter6(skb, config, ip, [ip.destination, ip.destination], slot::inside6(&slot, config))?;
    maps::count_in(number, bytes);
    Ok(redirect_peer(config.ifindex_base + number))
}
