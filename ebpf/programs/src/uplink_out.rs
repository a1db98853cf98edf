//! Uplink egress: a slot's tunnel device gets the bound VNI and remote for its dummies, and a slot's address becomes the one
//! that the network knows it by.

use netslot_abi::{BindingRecord, ConfigRecord, DropReason, nth_v4, nth_v6, tunnel as tunnel_mode};
use netslot_packet::geneve;
use netslot_packet::headers::{self, ETHERNET_BYTES, NO_V4, NO_V6, ethertype, same16, v4, v6};
use netslot_packet::nat::{self, Rule, Side};
use netslot_packet::{Frame, Share, Sum, checksum};

use crate::maps::{self, Leased};
use crate::outer::{Outer, outer4, outer6, put};
use crate::skb::{Skb, redirect_routed};
use crate::slot;
use crate::tunnel::{self, first4};
use crate::verdict::{NOT_OURS, dropped};

#[inline(always)]
pub fn uplink_out(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Ok(ethernet) = headers::ethernet(skb, 0) else { return NOT_OURS };
    let mut outer = Outer::default();
    let device = config.tunnel == tunnel_mode::GENEVE;
    match ethernet.ethertype {
        ethertype::IPV4 if device && outer4(skb, config, Side::Destination, &mut outer) => {
            to_tunnel(skb, config, &mut outer)
        }
        ethertype::IPV6 if device && outer6(skb, config, Side::Destination, &mut outer) => {
            to_tunnel(skb, config, &mut outer)
        }
        ethertype::IPV4 => nat_out4(skb, config),
        ethertype::IPV6 => nat_out6(skb, config),
        _ => NOT_OURS,
    }
}

/// A packet of a slot's tunnel device.
#[inline(always)]
fn to_tunnel(skb: &mut Skb, config: &'static ConfigRecord, outer: &mut Outer) -> i32 {
    let Ok(geneve) = geneve::parse(skb, outer.udp + 8) else { return NOT_OURS };
    // A VNI that is no dummy: a packet that has been here already, or another's tunnel on the same port.
    let Some(number) = config.slot_of_vni(geneve.vni) else { return NOT_OURS };
    outer.inner = geneve.inner;
    outer.vni = number;
    let bytes = skb.len();
    let result = match headers::ethernet(skb, outer.inner).map(|e| e.ethertype) {
        Ok(ethertype::IPV4) => to_tunnel4(skb, config, outer),
        Ok(ethertype::IPV6) => to_tunnel6(skb, config, outer),
        Ok(_) => Err(DropReason::Protocol),
        Err(reason) => Err(reason),
    };
    match result {
        Ok(()) => {
            maps::count_out(number, bytes);
            redirect_routed(skb.ifindex())
        }
        Err(reason) => dropped(number, reason),
    }
}

/// Gives a device's packet the tenant's source, VNI and remote. `outer.vni` is the slot's number here.
#[inline(never)]
fn to_tunnel4(skb: &mut Skb, config: &ConfigRecord, outer: &Outer) -> Result<(), DropReason> {
    let binding = Leased::find(outer.vni)?.tunnel().ok_or(DropReason::WrongPath)?;
    if v4(binding.tenant_v4) == NO_V4 {
        return Err(DropReason::NoTenantAddress);
    }
    let ip = headers::ipv4(skb, outer.inner + ETHERNET_BYTES)?;
    let from = [v4(config.guest_v4), slot::own4(config, outer.vni)];
    nat::ipv4(skb, &ip, Side::Source, &Rule { from, to: v4(binding.tenant_v4) })?;
    slot::clamp(skb, &ip, config.mss_v4)?;
    readdress(skb, config, binding, outer)
}

/// As [`to_tunnel4`].
#[inline(never)]
fn to_tunnel6(skb: &mut Skb, config: &ConfigRecord, outer: &Outer) -> Result<(), DropReason> {
    let binding = Leased::find(outer.vni)?.tunnel().ok_or(DropReason::WrongPath)?;
    if same16(v6(binding.tenant_v6), NO_V6) {
        return Err(DropReason::NoTenantAddress);
    }
    let ip = headers::ipv6(skb, outer.inner + ETHERNET_BYTES)?;
    let from = [v6(config.guest_v6), slot::own6(config, outer.vni)];
    nat::ipv6(skb, &ip, Side::Source, &Rule { from, to: v6(binding.tenant_v6) })?;
    slot::clamp(skb, &ip, config.mss_v6)?;
    readdress(skb, config, binding, outer)
}

/// Writes the bound VNI and remote where the tunnel device wrote its dummies.
#[inline(always)]
fn readdress(skb: &mut Skb, config: &ConfigRecord, binding: &BindingRecord, outer: &Outer) -> Result<(), DropReason> {
    if outer.family != binding.remote_family {
        // The device was made for the other family of underlay.
        return Err(DropReason::NoTenant);
    }
    put(skb, outer.inner, &tunnel::peer_mac(config, binding))?;
    put(skb, outer.inner + 6, &config.guest_mac)?;
    put(skb, outer.udp + 12, &geneve::vni_word(binding.vni))?;
    put(skb, outer.udp + 6, &0_u16)?;
    if outer.family == 6 {
        return put(skb, ETHERNET_BYTES + 24, &binding.remote);
    }
    let (old, new) = (outer.far[0], first4(&binding.remote));
    skb.store(ETHERNET_BYTES + 16, &new, Share::Balanced).ok_or(DropReason::Kernel)?;
    skb.mend(ETHERNET_BYTES + 10, checksum::delta4(old, new), Sum::Header).ok_or(DropReason::Kernel)
}

/// A slot's packet on its way out gets the address that the network knows it by.
#[inline(never)]
fn nat_out4(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Ok(ip) = headers::ipv4(skb, ETHERNET_BYTES) else { return NOT_OURS };
    let ip = &ip;
    if v4(config.external_v4) == NO_V4 {
        return NOT_OURS;
    }
    let Some(number) = config.slot_of_v4(config.slot_v4, ip.source.to_ne_bytes()) else { return NOT_OURS };
    let to = v4(nth_v4(config.external_v4, number));
    match nat::ipv4(skb, ip, Side::Source, &Rule { from: [ip.source, ip.source], to }) {
        Ok(()) => NOT_OURS,
        Err(reason) => dropped(number, reason),
    }
}

/// As [`nat_out4`].
#[inline(never)]
fn nat_out6(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Ok(ip) = headers::ipv6(skb, ETHERNET_BYTES) else { return NOT_OURS };
    let ip = &ip;
    if same16(v6(config.external_v6), NO_V6) {
        return NOT_OURS;
    }
    let Some(number) = config.slot_of_v6(config.slot_v6, zerocopy::transmute!(ip.source)) else { return NOT_OURS };
    let to = v6(nth_v6(config.external_v6, number));
    match nat::ipv6(skb, ip, Side::Source, &Rule { from: [ip.source, ip.source], to }) {
        Ok(()) => NOT_OURS,
        Err(reason) => dropped(number, reason),
    }
}
