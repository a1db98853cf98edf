//! What a guest may send: verdicts on frames from the tap; nothing is changed here.
//!
//! A slot's only Ethernet neighbours are the guest and the bridge, so the guest can deceive nobody but its own router;
//! what is held back here is what would leave the slot in another's name, or make the router believe another.

use netslot_abi::ConfigRecord;

use crate::DropReason;
use crate::frame::Frame;
use crate::headers::{self, ETHERNET_BYTES, Ipv4, Ipv6, V6, ethertype, protocol, same6, same16, v4, v6};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to the bridge.
    Pass,
    /// A DHCP request to be answered here; its BOOTP header starts there.
    Dhcp(u32),
    /// Dropped.
    Drop(DropReason),
}

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_SERVER: u16 = 547;

const ANY6: V6 = [0; 4];

/// Judges a frame. `tagged` says whether the network card's or the kernel's hands took a VLAN tag off it.
#[inline(always)]
pub fn judge<F: Frame>(frame: &F, tagged: bool, config: &ConfigRecord) -> Verdict {
    match try_judge(frame, tagged, config) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Drop(reason),
    }
}

#[inline(always)]
fn try_judge<F: Frame>(frame: &F, tagged: bool, config: &ConfigRecord) -> Result<Verdict, DropReason> {
    let ethernet = headers::ethernet(frame, 0)?;
    if !same6(ethernet.source, config.guest_mac) {
        return Err(DropReason::SourceMac);
    }
    if tagged {
        return Err(DropReason::Protocol);
    }
    match ethernet.ethertype {
        ethertype::IPV4 => judge4(frame, config),
        ethertype::ARP => judge_arp(frame, config),
        ethertype::IPV6 if !same16(v6(config.guest_v6), ANY6) => judge6(frame, config),
        // Everything else, LLC/SNAP with its lengths below 1,536 and VLAN tags included: a bridge forwards them, and
        // a receiver may look inside (CVE-2021-27853 and its kin).
        _ => Err(DropReason::Protocol),
    }
}

#[inline(always)]
fn judge_arp<F: Frame>(frame: &F, config: &ConfigRecord) -> Result<Verdict, DropReason> {
    let a = frame.load::<[u8; 28]>(ETHERNET_BYTES).ok_or(DropReason::Malformed)?;
    let kind = u64::from_be_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]);
    // Ethernet, IPv4, 6 and 4 bytes, request (1) or reply (2).
    let (request, reply) = (0x0001_0800_0604_0001, 0x0001_0800_0604_0002);
    let sender = [a[14], a[15], a[16], a[17]];
    let target = [a[24], a[25], a[26], a[27]];
    let probe = kind == request && v4(sender) == 0;
    if kind != request && kind != reply || !same6([a[8], a[9], a[10], a[11], a[12], a[13]], config.guest_mac) {
        return Err(DropReason::Arp);
    }
    if !probe && v4(sender) != v4(config.guest_v4) {
        return Err(DropReason::Arp);
    }
    // An answer would make the guest give up its address.
    if v4(target) == v4(config.guest_v4) { Err(DropReason::OwnAddress) } else { Ok(Verdict::Pass) }
}

#[inline(always)]
fn judge4<F: Frame>(frame: &F, config: &ConfigRecord) -> Result<Verdict, DropReason> {
    let ip = headers::ipv4(frame, ETHERNET_BYTES)?;
    let own = ip.source == v4(config.guest_v4);
    if !own && ip.source != 0 {
        return Err(DropReason::SourceAddress);
    }
    if ip.protocol == protocol::UDP && ip.first {
        let [a, b, c, d] = frame.load::<[u8; 4]>(ip.transport).ok_or(DropReason::Malformed)?;
        let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if from == DHCP_SERVER {
            return Err(DropReason::DhcpServer);
        }
        if from == DHCP_CLIENT && to == DHCP_SERVER && !ip.fragment && for_us(&ip, config) {
            return Ok(Verdict::Dhcp(ip.transport + 8));
        }
    }
    if !own {
        return Err(DropReason::SourceAddress);
    }
    if ip.protocol == protocol::ICMP && ip.first {
        let [kind] = frame.load::<[u8; 1]>(ip.transport).ok_or(DropReason::Malformed)?;
        // Redirect (RFC 792) and router advertisement (RFC 1256).
        if kind == 5 || kind == 9 {
            return Err(DropReason::Router);
        }
    }
    Ok(Verdict::Pass)
}

/// A DHCP server is reached by broadcast, and by its own address when a lease is renewed.
#[inline(always)]
fn for_us(ip: &Ipv4, config: &ConfigRecord) -> bool {
    ip.destination == u32::MAX || ip.destination == v4(config.gateway_v4)
}

#[inline(always)]
const fn is_link_local(address: V6) -> bool {
    u32::from_be(address[0]) >> 22 == 0xfe80 >> 6
}

#[inline(always)]
fn judge6<F: Frame>(frame: &F, config: &ConfigRecord) -> Result<Verdict, DropReason> {
    let ip = headers::ipv6(frame, ETHERNET_BYTES)?;
    let own = same16(ip.source, v6(config.guest_v6));
    // Which link-local address a guest takes is its own affair (RFC 7217 makes it random); the gateway's it is not.
    let local = is_link_local(ip.source) && !same16(ip.source, v6(config.gateway_link_local));
    let unspecified = same16(ip.source, ANY6);
    if !own && !local && !unspecified {
        return Err(DropReason::SourceAddress);
    }
    if ip.protocol == protocol::ICMPV6 {
        // Neighbour discovery in fragments is forbidden (RFC 6980), and would hide from what follows.
        if ip.fragment {
            return if own && !ip.first { Ok(Verdict::Pass) } else { judge_icmp6(frame, &ip, own, true, config) };
        }
        return judge_icmp6(frame, &ip, own, false, config);
    }
    if !own {
        return Err(DropReason::SourceAddress);
    }
    if ip.protocol == protocol::UDP && ip.first {
        let [a, b] = frame.load::<[u8; 2]>(ip.transport).ok_or(DropReason::Malformed)?;
        if u16::from_be_bytes([a, b]) == DHCPV6_SERVER {
            return Err(DropReason::DhcpServer);
        }
    }
    Ok(Verdict::Pass)
}

mod icmp6 {
    pub const LISTENER_QUERY: u8 = 130;
    pub const LISTENER_REPORT: u8 = 131;
    pub const LISTENER_DONE: u8 = 132;
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;
    pub const LISTENER_REPORT_2: u8 = 143;
}

#[inline(always)]
fn judge_icmp6<F: Frame>(
    frame: &F,
    ip: &Ipv6,
    own: bool,
    fragment: bool,
    config: &ConfigRecord,
) -> Result<Verdict, DropReason> {
    if !ip.first {
        return Err(DropReason::SourceAddress);
    }
    let [kind] = frame.load::<[u8; 1]>(ip.transport).ok_or(DropReason::Malformed)?;
    match kind {
        icmp6::ROUTER_ADVERTISEMENT | icmp6::REDIRECT | icmp6::LISTENER_QUERY => Err(DropReason::Router),
        icmp6::LISTENER_REPORT | icmp6::LISTENER_DONE | icmp6::LISTENER_REPORT_2 if !fragment => Ok(Verdict::Pass),
        icmp6::ROUTER_SOLICITATION if !fragment => option(frame, ip, ip.transport + 8, 1, config),
        icmp6::NEIGHBOUR_SOLICITATION if !fragment => {
            let target = frame.load::<V6>(ip.transport + 8).ok_or(DropReason::Malformed)?;
            if same16(target, v6(config.guest_v6)) {
                return Err(DropReason::OwnAddress);
            }
            option(frame, ip, ip.transport + 24, 1, config)
        }
        icmp6::NEIGHBOUR_ADVERTISEMENT if !fragment => {
            let target = frame.load::<V6>(ip.transport + 8).ok_or(DropReason::Malformed)?;
            let local = is_link_local(target) && !same16(target, v6(config.gateway_link_local));
            if !local && !same16(target, v6(config.guest_v6)) {
                return Err(DropReason::Neighbour);
            }
            option(frame, ip, ip.transport + 24, 2, config)
        }
        icmp6::NEIGHBOUR_SOLICITATION | icmp6::NEIGHBOUR_ADVERTISEMENT | icmp6::ROUTER_SOLICITATION => {
            Err(DropReason::Neighbour)
        }
        // Echo and errors: from the guest's own address, or to the gateway's link-local one.
        _ if own || is_link_local(ip.source) && is_link_local(ip.destination) => Ok(Verdict::Pass),
        _ => Err(DropReason::SourceAddress),
    }
}

/// Options of a neighbour message looked at: a solicitation carries one or two (its MAC, a nonce).
const OPTIONS_MAX: u32 = 4;

/// Whether the link-layer addresses among the options at `at` are the guest's.
#[inline(always)]
fn option<F: Frame>(frame: &F, ip: &Ipv6, at: u32, kind: u8, config: &ConfigRecord) -> Result<Verdict, DropReason> {
    let mut at = at;
    for _ in 0..OPTIONS_MAX {
        if at + 8 > ip.end {
            return Ok(Verdict::Pass);
        }
        let o = frame.load::<[u8; 8]>(at).ok_or(DropReason::Malformed)?;
        if o[1] == 0 {
            return Err(DropReason::Malformed);
        }
        if o[0] == kind && !same6([o[2], o[3], o[4], o[5], o[6], o[7]], config.guest_mac) {
            return Err(DropReason::Neighbour);
        }
        at += o[1] as u32 * 8;
    }
    Err(DropReason::Neighbour)
}
