//! Ethernet, IPv4 and IPv6 headers, read; nothing is changed here.

use crate::DropReason;
use crate::frame::Frame;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_BYTES: u32 = 14;

/// Ethernet protocol numbers.
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    /// A whole Ethernet frame, in Geneve.
    pub const ETHERNET: u16 = 0x6558;
}

/// IP protocol numbers.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Extension headers walked before a packet is refused. Three kinds may come before the transport (RFC 8200 section
/// 4.1), one of them twice.
const EXTENSIONS_MAX: u32 = 4;

/// An Ethernet II header.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    /// Below 1,536 it is a length, and the frame is not Ethernet II.
    pub ethertype: u16,
}

/// An IPv4 address: its bytes in network order, read as one word. Addresses are words here because the compiler for eBPF
/// keeps an array of bytes as that many values, and has 512 bytes of stack to keep them in.
pub type V4 = u32;

/// An IPv6 address, likewise as four words.
pub type V6 = [u32; 4];

/// No address.
pub const NO_V4: V4 = 0;

/// No IPv6 address.
pub const NO_V6: V6 = [0; 4];

/// The words of an IPv4 address's bytes.
#[inline(always)]
#[must_use]
pub const fn v4(bytes: [u8; 4]) -> V4 {
    u32::from_ne_bytes(bytes)
}

/// The words of an IPv6 address's bytes.
#[inline(always)]
#[must_use]
pub const fn v6(bytes: [u8; 16]) -> V6 {
    zerocopy::transmute!(bytes)
}

/// An IPv4 or IPv6 header: `A` is an address of its family.
#[derive(Clone, Copy, Debug)]
pub struct Ip<A> {
    pub source: A,
    pub destination: A,
    /// Where it starts.
    pub at: u32,
    /// Where the transport starts.
    pub transport: u32,
    /// Where the packet ends by its own word; padding may follow.
    pub end: u32,
    /// The transport's protocol number.
    pub protocol: u8,
    /// Whether the transport's header is here: false in every fragment but the first.
    pub first: bool,
    /// Whether it is a fragment.
    pub fragment: bool,
}

impl<A> Ip<A> {
    /// The same header after so many bytes before it were taken away.
    #[inline(always)]
    #[must_use]
    pub fn moved_up(mut self, bytes: u32) -> Self {
        self.at -= bytes;
        self.transport -= bytes;
        self.end -= bytes;
        self
    }
}

/// An IPv4 header.
pub type Ipv4 = Ip<V4>;
/// An IPv6 header with its extension headers.
pub type Ipv6 = Ip<V6>;

/// Whether two MACs are the same.
#[inline(always)]
#[must_use]
pub const fn same6(a: [u8; 6], b: [u8; 6]) -> bool {
    let [a0, a1, a2, a3, a4, a5] = a;
    let [b0, b1, b2, b3, b4, b5] = b;
    u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, 0, 0]) == u64::from_ne_bytes([b0, b1, b2, b3, b4, b5, 0, 0])
}

/// Whether two IPv6 addresses are the same. (`==` on an array would be a call to `memcmp`.)
#[inline(always)]
#[must_use]
pub const fn same16(a: V6, b: V6) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
}

/// Reads the Ethernet header at `at`.
///
/// # Errors
/// `Malformed` where the frame is shorter.
#[inline(always)]
pub fn ethernet<F: Frame>(frame: &F, at: u32) -> Result<Ethernet, DropReason> {
    let h = frame.load::<[u8; 14]>(at).ok_or(DropReason::Malformed)?;
    Ok(Ethernet {
        destination: [h[0], h[1], h[2], h[3], h[4], h[5]],
        source: [h[6], h[7], h[8], h[9], h[10], h[11]],
        ethertype: u16::from_be_bytes([h[12], h[13]]),
    })
}

/// Reads the IPv4 header at `at`.
///
/// # Errors
/// `Malformed` where it is cut short, of another version, or shorter than itself.
#[inline(always)]
pub fn ipv4<F: Frame>(frame: &F, at: u32) -> Result<Ipv4, DropReason> {
    let [first, second, third, source, destination] = frame.load::<[u32; 5]>(at).ok_or(DropReason::Malformed)?;
    let [version_and_words, _, len @ ..] = first.to_ne_bytes();
    let [_, _, place @ ..] = second.to_ne_bytes();
    let [_, protocol, ..] = third.to_ne_bytes();
    let words = (version_and_words & 15) as u32;
    if version_and_words >> 4 != 4 || words < 5 {
        return Err(DropReason::Malformed);
    }
    let fragment = u16::from_be_bytes(place);
    Ok(Ip {
        source,
        destination,
        at,
        transport: at + words * 4,
        end: at + u16::from_be_bytes(len) as u32,
        protocol,
        first: fragment & 0x1fff == 0,
        fragment: fragment & 0x3fff != 0,
    })
}

/// Reads the IPv6 header at `at` and walks its extension headers.
///
/// # Errors
/// `Malformed` where it is cut short or of another version; `Extension` for a routing header and for more extension
/// headers than are walked: the transport's checksum could not be found, or would be about another destination.
#[inline(always)]
pub fn ipv6<F: Frame>(frame: &F, at: u32) -> Result<Ipv6, DropReason> {
    let mut ip = Ip {
        source: [0; 4],
        destination: [0; 4],
        at,
        transport: at + 40,
        end: 0,
        protocol: 0,
        first: true,
        fragment: false,
    };
    walk(frame, &mut ip).map(|()| ip)
}

/// A function to the verifier too: every program comes here more than once. It returns no record, since the compiler
/// describes one that may also be an error in a way that the kernel's check of types refuses.
#[inline(never)]
fn walk<F: Frame>(frame: &F, ip: &mut Ipv6) -> Result<(), DropReason> {
    let at = ip.at;
    let h = frame.load::<[u8; 8]>(at).ok_or(DropReason::Malformed)?;
    if h[0] >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    ip.end = at + 40 + u16::from_be_bytes([h[4], h[5]]) as u32;
    ip.protocol = h[6];
    ip.source = frame.load::<V6>(at + 8).ok_or(DropReason::Malformed)?;
    ip.destination = frame.load::<V6>(at + 24).ok_or(DropReason::Malformed)?;
    for _ in 0..EXTENSIONS_MAX {
        match ip.protocol {
            HOP_BY_HOP | DESTINATION => {
                let e = frame.load::<[u8; 2]>(ip.transport).ok_or(DropReason::Malformed)?;
                ip.protocol = e[0];
                ip.transport += (e[1] as u32 + 1) * 8;
            }
            FRAGMENT => {
                let e = frame.load::<[u8; 8]>(ip.transport).ok_or(DropReason::Malformed)?;
                let place = u16::from_be_bytes([e[2], e[3]]);
                ip.protocol = e[0];
                ip.transport += 8;
                ip.first = place & 0xfff8 == 0;
                // Offset 0 and nothing to follow is a whole packet in a fragment's dress (RFC 6946).
                ip.fragment = place & 0xfff9 != 0;
                if !ip.first {
                    return Ok(());
                }
            }
            ROUTING => return Err(DropReason::Extension),
            _ => return Ok(()),
        }
    }
    match ip.protocol {
        HOP_BY_HOP | DESTINATION | FRAGMENT | ROUTING => Err(DropReason::Extension),
        _ => Ok(()),
    }
}
