//! The programs on a slot's devices: what the guest may send, how its packets leave, and how others enter.

use aya_ebpf::bindings::{TC_ACT_OK, bpf_fib_lookup};
use netslot_abi::{ConfigRecord, DropReason, forward, nth_v4, nth_v6, tunnel as tunnel_mode};
use netslot_packet::headers::{self, ETHERNET_BYTES, Ipv4, Ipv6, NO_V6, V4, V6, ethertype, protocol, same16, v4, v6};
use netslot_packet::nat::{self, Rule, Side};
use netslot_packet::{Frame, Share, Sum, checksum, dhcp, guest, mss};

use crate::maps::{self, Leased};
use crate::skb::{Skb, redirect};
use crate::tunnel;
use crate::verdict::{NOT_OURS, PASS, dropped};

/// Bytes cut from a DHCP request before the reply is written over it: more than the place (14 + 20) where a guest's
/// UDP stack lets the checksum begin, which makes the kernel forget that it was to compute one (`skb_postpull_rcsum`,
/// include/linux/skbuff.h; called by `bpf_skb_generic_pop`, net/core/filter.c, 6.12). A reply that still had
/// "to be computed" on it would get a wrong checksum, or be refused by clients that read raw packets.
const CUT_BYTES: i32 = 64;

/// The slot's own address.
#[inline(always)]
pub fn own4(config: &ConfigRecord, slot: u32) -> V4 {
    v4(nth_v4(config.slot_v4, slot))
}

/// The slot's own IPv6 address.
#[inline(always)]
pub fn own6(config: &ConfigRecord, slot: u32) -> V6 {
    v6(nth_v6(config.slot_v6, slot))
}

/// Whether the slots have IPv6.
#[inline(always)]
pub fn has_v6(config: &ConfigRecord) -> bool {
    !same16(v6(config.guest_v6), NO_V6)
}

/// The address that stands for the slot inside: the guest's, or the slot's own where there is no guest.
#[inline(always)]
pub fn inside4(slot: &Leased, config: &ConfigRecord) -> V4 {
    if slot.own_stack() { own4(config, slot.number) } else { v4(config.guest_v4) }
}

#[inline(always)]
pub fn inside6(slot: &Leased, config: &ConfigRecord) -> V6 {
    if slot.own_stack() { own6(config, slot.number) } else { v6(config.guest_v6) }
}

/// Lowers what a TCP SYN offers.
#[inline(always)]
pub fn clamp<A>(skb: &mut Skb, ip: &headers::Ip<A>, largest: u16) -> Result<(), DropReason> {
    if ip.protocol == protocol::TCP && ip.first { mss::clamp(skb, ip.transport, largest) } else { Ok(()) }
}

#[inline(always)]
pub fn guest_in(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Some(number) = config.slot_of_ifindex(skb.ifindex()) else { return NOT_OURS };
    match try_guest_in(skb, config, number) {
        Ok(verdict) => verdict,
        Err(reason) => dropped(number, reason),
    }
}

#[inline(always)]
fn try_guest_in(skb: &mut Skb, config: &'static ConfigRecord, number: u32) -> Result<i32, DropReason> {
    let slot = Leased::find(number)?;
    match guest::judge(skb, skb.tagged(), config) {
        guest::Verdict::Pass => {
            let through_device = config.tunnel == tunnel_mode::GENEVE && slot.tunnel().is_some();
            skb.set_mark(if through_device { netslot_abi::TUNNEL_MARK } else { 0 });
            Ok(PASS)
        }
        guest::Verdict::Dhcp(at) => answer(skb, config, number, at),
        guest::Verdict::Drop(reason) => Err(reason),
    }
}

/// Turns a DHCP request into its reply and sends it back.
#[inline(always)]
fn answer(skb: &mut Skb, config: &'static ConfigRecord, number: u32, at: u32) -> Result<i32, DropReason> {
    let scratch = maps::scratch().ok_or(DropReason::Kernel)?;
    dhcp::request(skb, at, config, &mut scratch.request)?;
    dhcp::reply(&scratch.request, config, &mut scratch.reply)?;
    dhcp::client_id(skb, &scratch.request, &mut scratch.reply)?;
    skb.cut(CUT_BYTES).ok_or(DropReason::Kernel)?;
    skb.set_len(dhcp::REPLY_BYTES as u32).ok_or(DropReason::Kernel)?;
    skb.store(0, &scratch.reply, Share::Counted).ok_or(DropReason::Kernel)?;
    maps::count_dhcp(number);
    Ok(redirect(skb.ifindex()))
}

#[inline(always)]
pub fn slot_out(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Some(number) = config.slot_of_ifindex(skb.ifindex()) else { return NOT_OURS };
    let bytes = skb.len();
    match try_slot_out(skb, config, number) {
        Ok(verdict) => {
            maps::count_out(number, bytes);
            verdict
        }
        Err(reason) => dropped(number, reason),
    }
}

#[inline(always)]
fn try_slot_out(skb: &mut Skb, config: &'static ConfigRecord, number: u32) -> Result<i32, DropReason> {
    let slot = Leased::find(number)?;
    let bound = slot.tunnel();
    // In geneve mode a bound slot's packets leave by their tunnel device; here they would leave in the clear.
    if bound.is_some() && config.tunnel != tunnel_mode::EBPF {
        return Err(DropReason::WrongPath);
    }
    match headers::ethernet(skb, 0)?.ethertype {
        ethertype::IPV4 => {
            let ip = headers::ipv4(skb, ETHERNET_BYTES)?;
            let own = own4(config, number);
            let to = bound.map_or(own, |b| v4(b.tenant_v4));
            if to == 0 {
                return Err(DropReason::NoTenantAddress);
            }
            nat::ipv4(skb, &ip, Side::Source, &Rule { from: [v4(config.guest_v4), own], to })?;
            clamp(skb, &ip, config.mss_v4)?;
            match bound {
                Some(binding) => tunnel::send(skb, config, binding, ethertype::IPV4),
                None => Ok(onward4(skb, config, &ip, to)),
            }
        }
        ethertype::IPV6 if has_v6(config) => {
            let ip = headers::ipv6(skb, ETHERNET_BYTES)?;
            let own = own6(config, number);
            let to = bound.map_or(own, |b| v6(b.tenant_v6));
            if same16(to, NO_V6) {
                return Err(DropReason::NoTenantAddress);
            }
            nat::ipv6(skb, &ip, Side::Source, &Rule { from: [v6(config.guest_v6), own], to })?;
            clamp(skb, &ip, config.mss_v6)?;
            match bound {
                Some(binding) => tunnel::send(skb, config, binding, ethertype::IPV6),
                None => Ok(onward6(skb, config, &ip, to)),
            }
        }
        _ => Err(DropReason::Protocol),
    }
}

#[inline(always)]
pub fn slot_in(skb: &mut Skb, config: &'static ConfigRecord) -> i32 {
    let Some(number) = config.slot_of_ifindex(skb.ifindex()) else { return NOT_OURS };
    let bytes = skb.len();
    match try_slot_in(skb, config, number) {
        Ok(()) => {
            maps::count_in(number, bytes);
            PASS
        }
        Err(reason) => dropped(number, reason),
    }
}

#[inline(always)]
fn try_slot_in(skb: &mut Skb, config: &'static ConfigRecord, number: u32) -> Result<(), DropReason> {
    let slot = Leased::find(number)?;
    // A tenant's packets come out of the tunnel and never by this way; what does is not the tenant's.
    if slot.tunnel().is_some() {
        return Err(DropReason::WrongPath);
    }
    match headers::ethernet(skb, 0)?.ethertype {
        ethertype::IPV4 => {
            let ip = headers::ipv4(skb, ETHERNET_BYTES)?;
            let own = own4(config, number);
            enter4(skb, config, &ip, [own, own], inside4(&slot, config))
        }
        ethertype::IPV6 if has_v6(config) => {
            let ip = headers::ipv6(skb, ETHERNET_BYTES)?;
            let own = own6(config, number);
            enter6(skb, config, &ip, [own, own], inside6(&slot, config))
        }
        _ => Err(DropReason::Protocol),
    }
}

/// Gives a packet its inside destination.
#[inline(always)]
pub fn enter4(skb: &mut Skb, config: &ConfigRecord, ip: &Ipv4, from: [V4; 2], to: V4) -> Result<(), DropReason> {
    nat::ipv4(skb, ip, Side::Destination, &Rule { from, to })?;
    clamp(skb, ip, config.mss_v4)
}

/// Gives a packet its inside destination.
#[inline(always)]
pub fn enter6(skb: &mut Skb, config: &ConfigRecord, ip: &Ipv6, from: [V6; 2], to: V6) -> Result<(), DropReason> {
    nat::ipv6(skb, ip, Side::Destination, &Rule { from, to })?;
    clamp(skb, ip, config.mss_v6)
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Sends a translated packet on: by the stack, or by the route that the stack would take. Whatever is not a plain next
/// hop (a local address, no neighbour yet, too long for the route, no hops left) is left to the stack, which knows how
/// to answer it.
#[inline(always)]
fn onward4(skb: &mut Skb, config: &ConfigRecord, ip: &Ipv4, source: V4) -> i32 {
    if config.forward != forward::REDIRECT {
        return TC_ACT_OK;
    }
    let Some([ttl, proto]) = skb.load::<[u8; 2]>(ip.at + 8) else { return TC_ACT_OK };
    if ttl <= 1 {
        return TC_ACT_OK;
    }
    // SAFETY: numbers and bytes only; zero is a value of each.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.family = AF_INET;
    query.l4_protocol = proto;
    query.ifindex = skb.ifindex();
    query.__bindgen_anon_3.ipv4_src = source;
    query.__bindgen_anon_4.ipv4_dst = ip.destination;
    if !skb.route(&mut query) {
        return TC_ACT_OK;
    }
    let delta = checksum::delta2([ttl, proto], [ttl - 1, proto]);
    let stored =
        skb.store(ip.at + 8, &[ttl - 1], Share::Balanced).and_then(|()| skb.mend(ip.at + 10, delta, Sum::Header));
    if stored.is_none() { TC_ACT_OK } else { hop(skb, &query) }
}

/// As [`onward4`].
#[inline(always)]
fn onward6(skb: &mut Skb, config: &ConfigRecord, ip: &Ipv6, source: V6) -> i32 {
    if config.forward != forward::REDIRECT {
        return TC_ACT_OK;
    }
    let Some([hops]) = skb.load::<[u8; 1]>(ip.at + 7) else { return TC_ACT_OK };
    if hops <= 1 {
        return TC_ACT_OK;
    }
    // SAFETY: as in `onward4`.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.family = AF_INET6;
    query.l4_protocol = ip.protocol;
    query.ifindex = skb.ifindex();
    query.__bindgen_anon_3.ipv6_src = source;
    query.__bindgen_anon_4.ipv6_dst = ip.destination;
    if !skb.route(&mut query) {
        return TC_ACT_OK;
    }
    match skb.store(ip.at + 7, &[hops - 1], Share::Counted) {
        Some(()) => hop(skb, &query),
        None => TC_ACT_OK,
    }
}

/// Addresses the frame to the next hop and sends it.
#[inline(always)]
fn hop(skb: &mut Skb, route: &bpf_fib_lookup) -> i32 {
    let addressed =
        skb.store(0, &route.dmac, Share::Balanced).and_then(|()| skb.store(6, &route.smac, Share::Balanced));
    if addressed.is_none() { TC_ACT_OK } else { redirect(route.ifindex) }
}
