//! Stateless 1:1 translation of one side of a packet, quoted packets in ICMP errors included; which addresses become
//! which is the caller's matter.

use crate::DropReason;
use crate::checksum::{apply, delta2, delta4, delta16};
use crate::frame::{Frame, Share, Sum};
use crate::headers::{Ip, Ipv4, Ipv6, V4, V6, protocol, same16};

/// The side of a packet that is translated: the source on the way out of a slot, the destination on the way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

impl Side {
    /// Why a packet whose address on this side is not to be translated must not pass.
    #[inline(always)]
    const fn reason(self) -> DropReason {
        match self {
            Self::Source => DropReason::SourceAddress,
            Self::Destination => DropReason::DestinationAddress,
        }
    }
}

/// Either of `from` becomes `to`. Two, since a slot speaks with one address outside and with two inside: the guest's,
/// and the slot's own, which its stack puts on ICMP errors.
#[derive(Clone, Copy, Debug)]
pub struct Rule<A> {
    pub from: [A; 2],
    pub to: A,
}

/// Translates an IPv4 packet.
///
/// The address's change is balanced in the packet's sum by the header checksum's.
///
/// # Errors
/// [`DropReason`]: the address is not in `rule`, the packet is cut short, or the kernel refused.
#[inline(always)]
pub fn ipv4<F: Frame>(frame: &mut F, ip: &Ipv4, side: Side, rule: &Rule<V4>) -> Result<(), DropReason> {
    outer4(frame, ip, side, rule)?;
    if ip.protocol == protocol::ICMP && !ip.fragment { quoted4(frame, ip, side, rule) } else { Ok(()) }
}

// These are functions to the verifier too, called one after the other: inlined, the stacks of all of a program's
// translations would add up past the 512 bytes that a program has.

#[inline(never)]
fn outer4<F: Frame>(frame: &mut F, ip: &Ipv4, side: Side, rule: &Rule<V4>) -> Result<(), DropReason> {
    let (at, old) = address(ip, side, 12, 4);
    if old != rule.from[0] && old != rule.from[1] {
        return Err(side.reason());
    }
    if old != rule.to {
        let delta = delta4(old, rule.to);
        frame.store(at, &rule.to, Share::Balanced).ok_or(DropReason::Kernel)?;
        frame.mend(ip.at + 10, delta, Sum::Header).ok_or(DropReason::Kernel)?;
        if ip.first {
            match ip.protocol {
                protocol::TCP => frame.mend(ip.transport + 16, delta, Sum::Pseudo),
                protocol::UDP => frame.mend(ip.transport + 6, delta, Sum::PseudoUdp),
                _ => Some(()),
            }
            .ok_or(DropReason::Malformed)?;
        }
    }
    Ok(())
}

/// ICMP errors: unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
const fn is_error4(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// Translates the packet that an ICMP error quotes: it went the other way, so its other side.
#[inline(never)]
fn quoted4<F: Frame>(frame: &mut F, ip: &Ipv4, side: Side, rule: &Rule<V4>) -> Result<(), DropReason> {
    let [kind] = frame.load::<[u8; 1]>(ip.transport).ok_or(DropReason::Malformed)?;
    if !is_error4(kind) {
        return Ok(());
    }
    let quoted = crate::headers::ipv4(frame, ip.transport + 8)?;
    let (at, old) = match side {
        Side::Source => (quoted.at + 16, quoted.destination),
        Side::Destination => (quoted.at + 12, quoted.source),
    };
    if old == rule.to {
        return Ok(());
    }
    if old != rule.from[0] && old != rule.from[1] {
        // An error about a packet that never was this slot's (RFC 5508 section 4.2: drop it).
        return Err(side.reason());
    }
    let delta = delta4(old, rule.to);
    frame.store(at, &rule.to, Share::Balanced).ok_or(DropReason::Kernel)?;
    frame.mend(quoted.at + 10, delta, Sum::Header).ok_or(DropReason::Kernel)?;
    let check = match quoted.protocol {
        protocol::TCP => quoted.transport + 16,
        protocol::UDP => quoted.transport + 6,
        _ => return Ok(()),
    };
    if !quoted.first || check + 2 > ip.end {
        return Ok(());
    }
    // The quoted header's sum is as it was (its checksum balances its address), so only a change of the quoted
    // transport's checksum is one for the ICMP checksum.
    let gain = quoted_transport(frame, check, delta, quoted.protocol)?;
    frame.mend(ip.transport + 2, gain, Sum::Body).ok_or(DropReason::Kernel)
}

/// Translates an IPv6 packet.
///
/// There is no header checksum to balance the address, but the transport's does; where there is none to mend (a later
/// fragment), the packet's sum changes. Storing with `Counted` and mending with `Pseudo`, which takes the change out of
/// the packet's sum again, is right in both cases. (The kernel's flag `BPF_F_IPV6` for `Balanced` stores is younger than
/// 6.12.)
///
/// # Errors
/// As [`ipv4`].
#[inline(always)]
pub fn ipv6<F: Frame>(frame: &mut F, ip: &Ipv6, side: Side, rule: &Rule<V6>) -> Result<(), DropReason> {
    outer6(frame, ip, side, rule)?;
    if ip.protocol == protocol::ICMPV6 && !ip.fragment { quoted6(frame, ip, side, rule) } else { Ok(()) }
}

// These are functions to the verifier too, called one after the other: inlined, the stacks of all of a program's
// translations would add up past the 512 bytes that a program has.

#[inline(never)]
fn outer6<F: Frame>(frame: &mut F, ip: &Ipv6, side: Side, rule: &Rule<V6>) -> Result<(), DropReason> {
    let (at, old) = address(ip, side, 8, 16);
    if !same16(old, rule.from[0]) && !same16(old, rule.from[1]) {
        return Err(side.reason());
    }
    if !same16(old, rule.to) {
        let delta = delta16(old, rule.to);
        frame.store(at, &rule.to, Share::Counted).ok_or(DropReason::Kernel)?;
        if ip.first {
            match ip.protocol {
                protocol::TCP => frame.mend(ip.transport + 16, delta, Sum::Pseudo),
                protocol::UDP => frame.mend(ip.transport + 6, delta, Sum::PseudoUdp),
                protocol::ICMPV6 => frame.mend(ip.transport + 2, delta, Sum::Pseudo),
                _ => Some(()),
            }
            .ok_or(DropReason::Malformed)?;
        }
    }
    Ok(())
}

#[inline(never)]
fn quoted6<F: Frame>(frame: &mut F, ip: &Ipv6, side: Side, rule: &Rule<V6>) -> Result<(), DropReason> {
    let [kind] = frame.load::<[u8; 1]>(ip.transport).ok_or(DropReason::Malformed)?;
    // Errors are 0 to 127 (RFC 4443 section 2.1); 1 to 4 exist.
    if kind > 127 {
        return Ok(());
    }
    let start = ip.transport + 8;
    let [version] = frame.load::<[u8; 1]>(start).ok_or(DropReason::Malformed)?;
    let [transport] = frame.load::<[u8; 1]>(start + 6).ok_or(DropReason::Malformed)?;
    if version >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    let at = match side {
        Side::Source => start + 24,
        Side::Destination => start + 8,
    };
    let old = frame.load::<V6>(at).ok_or(DropReason::Malformed)?;
    if same16(old, rule.to) {
        return Ok(());
    }
    if !same16(old, rule.from[0]) && !same16(old, rule.from[1]) {
        return Err(side.reason());
    }
    let delta = delta16(old, rule.to);
    frame.store(at, &rule.to, Share::Balanced).ok_or(DropReason::Kernel)?;
    frame.mend(ip.transport + 2, delta, Sum::Body).ok_or(DropReason::Kernel)?;
    // A quoted packet with extension headers keeps its transport checksum: nobody verifies one (RFC 4443 section
    // 2.4 has the receiver look at ports alone), and the walk would be paid by every error.
    let check = match transport {
        protocol::TCP => start + 40 + 16,
        protocol::UDP => start + 40 + 6,
        protocol::ICMPV6 => start + 40 + 2,
        _ => return Ok(()),
    };
    if check + 2 > ip.end {
        return Ok(());
    }
    let gain = quoted_transport(frame, check, delta, transport)?;
    frame.mend(ip.transport + 2, gain, Sum::Body).ok_or(DropReason::Kernel)
}

/// Mends the checksum of a quoted transport and gives the gain of the bytes that hold it.
#[inline(always)]
fn quoted_transport<F: Frame>(frame: &mut F, at: u32, delta: u32, transport: u8) -> Result<u32, DropReason> {
    let old = frame.load::<[u8; 2]>(at).ok_or(DropReason::Malformed)?;
    let none = transport == protocol::UDP && u16::from_ne_bytes(old) == 0;
    let mut new = if none { old } else { apply(old, delta) };
    if !none && transport == protocol::UDP && u16::from_ne_bytes(new) == 0 {
        new = [0xff, 0xff];
    }
    frame.store(at, &new, Share::Balanced).ok_or(DropReason::Kernel)?;
    Ok(delta2(old, new))
}

#[inline(always)]
fn address<A: Copy>(ip: &Ip<A>, side: Side, source_at: u32, bytes: u32) -> (u32, A) {
    match side {
        Side::Source => (ip.at + source_at, ip.source),
        Side::Destination => (ip.at + source_at + bytes, ip.destination),
    }
}
