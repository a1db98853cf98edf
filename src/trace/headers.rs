//! The headers of a frame, read from any bytes; pure. Ours and of slices alone, since root reads here what a hostile guest
//! sends: mutations of IPv6 extension headers made the library at hand (etherparse 0.21) read past its slice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::slot::Mac;

/// IANA's protocol numbers.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
}

/// IPv6 extension headers that are walked: no honest packet has more.
const EXTENSIONS_MAX: usize = 8;

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    /// What is there of what the header says.
    pub payload: &'a [u8],
    pub fragment: Option<Fragment>,
    /// Whether less is there than the header says.
    pub cut: bool,
}

/// Where a fragment stands in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    /// Bytes before it.
    pub place: usize,
    pub more: bool,
}

/// A TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    /// As in the header: FIN is the lowest bit.
    pub flags: u8,
    pub window: u16,
    pub mss: Option<u16>,
    /// Bytes of the header with its options.
    pub bytes: usize,
}

/// ARP about IPv4 on Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub operation: u16,
    pub mac: Mac,
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

/// `None` where the header is not all there or contradicts itself.
#[must_use]
pub fn ipv4(bytes: &[u8]) -> Option<Ip<'_>> {
    let header = bytes.first_chunk::<20>()?;
    let length = usize::from(header[0] & 0xf) * 4;
    if header[0] >> 4 != 4 || length < 20 || bytes.len() < length {
        return None;
    }
    // A packet that a device is to cut (GSO) may be longer than the field holds, and says 0 then.
    let said = match usize::from(u16::from_be_bytes([header[2], header[3]])) {
        0 => bytes.len(),
        said => said.max(length),
    };
    let field = u16::from_be_bytes([header[6], header[7]]);
    let (place, more) = (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0);
    let id = u16::from_be_bytes([header[4], header[5]]).into();
    Some(Ip {
        from: Ipv4Addr::from(*header[12..].first_chunk::<4>()?).into(),
        to: Ipv4Addr::from(*header[16..].first_chunk::<4>()?).into(),
        protocol: header[9],
        payload: &bytes[length..said.min(bytes.len())],
        fragment: (place > 0 || more).then_some(Fragment { id, place, more }),
        cut: bytes.len() < said,
    })
}

/// `None` where the header is not all there or of another version. Extension headers are walked; where they end or are cut
/// short, the number of the last stands.
#[must_use]
pub fn ipv6(bytes: &[u8]) -> Option<Ip<'_>> {
    let header = bytes.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let there = bytes.len() - 40;
    let said = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        0 => there,
        said => said,
    };
    let mut ip = Ip {
        from: Ipv6Addr::from(*header[8..].first_chunk::<16>()?).into(),
        to: Ipv6Addr::from(*header[24..].first_chunk::<16>()?).into(),
        protocol: header[6],
        payload: &bytes[40..][..said.min(there)],
        fragment: None,
        cut: there < said,
    };
    for _ in 0..EXTENSIONS_MAX {
        let Some(&[next, size, high, low, a, b, c, d]) = ip.payload.first_chunk() else { break };
        let length = match ip.protocol {
            // Hop-by-hop, routing, destination options; authentication; fragment.
            0 | 43 | 60 => (usize::from(size) + 1) * 8,
            51 => (usize::from(size) + 2) * 4,
            44 => 8,
            _ => break,
        };
        let Some(rest) = ip.payload.get(length..) else { break };
        if ip.protocol == 44 {
            let field = u16::from_be_bytes([high, low]);
            let (place, more) = (usize::from(field & 0xfff8), field & 1 != 0);
            ip.fragment = Some(Fragment { id: u32::from_be_bytes([a, b, c, d]), place, more });
        }
        (ip.protocol, ip.payload) = (next, rest);
        if ip.fragment.is_some_and(|fragment| fragment.place > 0) {
            break; // What follows is the middle of a packet.
        }
    }
    Some(ip)
}

/// `None` where the header or its options are not all there.
#[must_use]
pub fn tcp(bytes: &[u8]) -> Option<Tcp> {
    let header = bytes.first_chunk::<20>()?;
    let length = usize::from(header[12] >> 4) * 4;
    let options = bytes.get(20..length)?;
    Some(Tcp {
        source: u16::from_be_bytes([header[0], header[1]]),
        destination: u16::from_be_bytes([header[2], header[3]]),
        sequence: u32::from_be_bytes(*header[4..].first_chunk()?),
        acknowledgement: u32::from_be_bytes(*header[8..].first_chunk()?),
        flags: header[13],
        window: u16::from_be_bytes([header[14], header[15]]),
        mss: mss(options),
        bytes: length,
    })
}

fn mss(mut options: &[u8]) -> Option<u16> {
    loop {
        options = match options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [1, rest @ ..] => rest,
            [0, ..] | [] | [_] => return None,
            [_, length, ..] => options.get(usize::from((*length).max(2))..)?,
        };
    }
}

/// `None` where it is about other protocols, or cut short.
#[must_use]
pub fn arp(bytes: &[u8]) -> Option<Arp> {
    let message = bytes.first_chunk::<28>()?;
    (message[..6] == [0, 1, 8, 0, 6, 4]).then_some(Arp {
        operation: u16::from_be_bytes([message[6], message[7]]),
        mac: Mac(*message[8..].first_chunk()?),
        sender: Ipv4Addr::from(*message[14..].first_chunk::<4>()?),
        target: Ipv4Addr::from(*message[24..].first_chunk::<4>()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_headers_are_walked_and_their_end_is_an_end() {
        let packet = |next: u8, rest: &[u8]| {
            let size = u16::try_from(rest.len()).expect("short").to_be_bytes();
            [&[0x60, 0, 0, 0, size[0], size[1], next, 64][..], &[1; 16], &[2; 16], rest].concat()
        };
        let walked = |bytes: &[u8]| ipv6(bytes).map(|ip| (ip.protocol, ip.payload.len(), ip.fragment.map(|f| f.place)));
        let options = [60, 0, 0, 0, 0, 0, 0, 0, 17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(walked(&packet(0, &[&options[..], &[9; 5]].concat())), Some((17, 5, None)));
        let fragment = [0, 0, 0x05, 0xa9, 0, 0, 0, 7, 60, 255, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            walked(&packet(44, &fragment)),
            Some((0, 8, Some(1_448))),
            "a later fragment's bytes are no headers"
        );
        assert_eq!(walked(&packet(51, &[17, 255, 0, 0, 0, 0, 0, 0])), Some((51, 8, None)), "longer than the packet");
        assert_eq!(walked(&packet(0, &[0; 8].repeat(40))).map(|(_, left, _)| left), Some(8 * 32), "for ever");
    }
}
