//! The programs on the device towards the network: the tunnel's packets, and slots' addresses as the network knows them.

use netslot_abi::{BindingRecord, ConfigRecord, DropReason, TenantKey, forward, nth_v4, nth_v6, tunnel as tunnel_mode};
use netslot_packet::geneve;
use netslot_packet::headers::{self, ETHERNET_BYTES, Ipv4, Ipv6, V4, V6, ethertype, protocol, same16, v4, v6};
use netslot_packet::nat::{self, Rule, Side};
use netslot_packet::{Frame, Share, Sum, checksum};
use zerocopy::{Immutable, IntoBytes};

use crate::maps::{self, Leased};
use crate::programs::{NOT_OURS, dropped};
use crate::skb::{Skb, redirect_peer, redirect_routed};
use crate::slot::{self, NO_V6};
use crate::tunnel::{self, first4};

const NO_V4: V4 = 0;

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
struct Outer {
    /// The far end of the underlay (the source of a packet that arrived, the destination of one that leaves): IPv6, or
    /// IPv4 in the first four bytes.
    far: V6,
    /// Where the UDP header starts.
    udp: u32,
    /// Where the inner Ethernet header starts.
    inner: u32,
    vni: u32,
    /// 4 or 6.
    family: u8,
}

impl Outer {
    /// Whether the far end is the bound one.
    #[inline(always)]
    fn is_from(&self, binding: &BindingRecord) -> bool {
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
fn outer4(skb: &mut Skb, config: &ConfigRecord, far: Side, outer: &mut Outer) -> bool {
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
fn outer6(skb: &mut Skb, config: &ConfigRecord, far: Side, outer: &mut Outer) -> bool {
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

#[inline(always)]
fn put<T: IntoBytes + Immutable>(skb: &mut Skb, at: u32, bytes: &T) -> Result<(), DropReason> {
    skb.store(at, bytes, Share::Counted).ok_or(DropReason::Kernel)
}
