//! Geneve (RFC 8926): the headers put in front of a tenant's packet, and those of a packet that arrives; what is done
//! with either is the caller's matter.

use crate::DropReason;
use crate::checksum;
use crate::frame::Frame;
use crate::headers::{ETHERNET_BYTES, V4, ethertype, protocol};

/// Bytes of UDP, Geneve without options, and the inner Ethernet header.
pub const INNER_BYTES: u32 = 8 + GENEVE_BYTES + ETHERNET_BYTES;

/// Bytes of a Geneve header without options.
pub const GENEVE_BYTES: u32 = 8;

/// Overhead over IPv4: what the guest's MTU is smaller than the underlay's.
pub const OVERHEAD_V4: u32 = 20 + INNER_BYTES;

/// Overhead over IPv6.
pub const OVERHEAD_V6: u32 = 40 + INNER_BYTES;

/// Hops that an outer packet may take.
const HOPS: u8 = 64;

/// A Geneve header that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Geneve {
    /// 24 bits.
    pub vni: u32,
    /// Where the inner Ethernet header starts.
    pub inner: u32,
}

/// Reads the Geneve header at `at`, and past its options.
///
/// # Errors
/// `Malformed` where it is cut short; `Geneve` for another version, a control packet, options that must be understood,
/// or anything but an Ethernet frame inside.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, at: u32) -> Result<Geneve, DropReason> {
    let h = frame.load::<[u8; 8]>(at).ok_or(DropReason::Malformed)?;
    // Version (2 bits), option length (6), control, critical.
    if h[0] & 0xc0 != 0 || h[1] & 0xc0 != 0 || u16::from_be_bytes([h[2], h[3]]) != ethertype::ETHERNET {
        return Err(DropReason::Geneve);
    }
    Ok(Geneve { vni: u32::from_be_bytes([0, h[4], h[5], h[6]]), inner: at + GENEVE_BYTES + (h[0] & 0x3f) as u32 * 4 })
}

/// The second word of a Geneve header: the VNI and a reserved byte, zero.
#[inline(always)]
#[must_use]
pub const fn vni_word(vni: u32) -> u32 {
    (vni << 8).to_be()
}

/// The Geneve header of a VNI, without options, with an Ethernet frame inside.
#[inline(always)]
#[must_use]
pub const fn header(vni: u32) -> [u8; 8] {
    let [_, a, b, c] = vni.to_be_bytes();
    [0, 0, 0x65, 0x58, a, b, c, 0]
}

/// The UDP header of a tunnel packet with `inner` bytes after the inner Ethernet header. Checksum 0: none, as RFC 8926
/// section 3.3 allows over both families; over IPv6 the far end must be told to take it.
#[inline(always)]
#[must_use]
pub const fn udp(source: u16, port: u16, inner: u32) -> [u8; 8] {
    let ([a, b], [c, d], [e, f]) = (source.to_be_bytes(), port.to_be_bytes(), length(inner + INNER_BYTES));
    [a, b, c, d, e, f, 0, 0]
}

/// The UDP source port of a flow: the ephemeral ports, spread by the flow's hash so that receivers spread flows.
#[inline(always)]
#[must_use]
pub const fn source_port(hash: u32) -> u16 {
    let [a, b, ..] = (hash ^ (hash >> 16)).to_le_bytes();
    0xc000 | u16::from_le_bytes([a, b])
}

/// The outer IPv4 header. "Don't fragment" is set, which also frees the identification of its meaning (RFC 6864); the
/// type of service is the inner one without its congestion bits (RFC 6040, compatibility mode).
#[inline(always)]
#[must_use]
pub fn ipv4(from: V4, to: V4, service: u8, inner: u32) -> [u8; 20] {
    let ([f0, f1, f2, f3], [t0, t1, t2, t3], [l0, l1]) =
        (from.to_ne_bytes(), to.to_ne_bytes(), length(inner + OVERHEAD_V4));
    let mut h =
        [0x45, service & 0xfc, l0, l1, 0, 0, 0x40, 0, HOPS, protocol::UDP, 0, 0, f0, f1, f2, f3, t0, t1, t2, t3];
    [h[10], h[11]] = checksum::of_header(h);
    h
}

/// The first eight bytes of the outer IPv6 header; the addresses follow.
#[inline(always)]
#[must_use]
pub const fn ipv6(service: u8, label: u32, inner: u32) -> [u8; 8] {
    let [_, a, b, c] = (label & 0xf_ffff).to_be_bytes();
    let [l0, l1] = length(inner + INNER_BYTES);
    let service = service & 0xfc;
    [0x60 | service >> 4, service << 4 | a, b, c, l0, l1, protocol::UDP, HOPS]
}

/// A length field. A packet that a device will cut into segments may be longer than the field; the cutting writes each
/// segment's own, so what stands here then is of no account.
#[inline(always)]
const fn length(bytes: u32) -> [u8; 2] {
    let [a, b, c, d] = bytes.to_be_bytes();
    if a | b != 0 { [0, 0] } else { [c, d] }
}
