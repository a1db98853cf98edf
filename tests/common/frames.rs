//! Frames built and verified by a library that is not ours: what the packet functions and the programs are fed, and
//! whether what they make of it still adds up.
#![allow(dead_code, reason = "each test binary uses its part")]

use etherparse::{
    EtherType, Ethernet2HeaderSlice, Icmpv4Slice, Icmpv6Slice, IpNumber, IpSlice, Ipv4Header, Ipv4HeaderSlice,
    Ipv6Header, Ipv6HeaderSlice, NetSlice, PacketBuilder, SlicedPacket, TcpSlice, TransportSlice, UdpSlice,
};

pub const GUEST_MAC: [u8; 6] = [0x06, 0x00, 0xac, 0x10, 0x00, 0x02];
pub const GATEWAY_MAC: [u8; 6] = [0x06, 0x00, 0xac, 0x10, 0x00, 0x01];

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    Udp,
    Tcp,
    Echo,
}

/// A frame between two IPv4 addresses.
pub fn v4(from: [u8; 4], to: [u8; 4], carried: Carried, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv4(from, to, 64);
    let mut frame = Vec::new();
    match carried {
        Carried::Udp => builder.udp(5_000, 6_000).write(&mut frame, payload),
        Carried::Tcp => builder.tcp(5_000, 6_000, 7, 1_000).write(&mut frame, payload),
        Carried::Echo => builder.icmpv4_echo_request(1, 2).write(&mut frame, payload),
    }
    .expect("a frame");
    frame
}

/// A frame between two IPv6 addresses.
pub fn v6(from: [u8; 16], to: [u8; 16], carried: Carried, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv6(from, to, 64);
    let mut frame = Vec::new();
    match carried {
        Carried::Udp => builder.udp(5_000, 6_000).write(&mut frame, payload),
        Carried::Tcp => builder.tcp(5_000, 6_000, 7, 1_000).write(&mut frame, payload),
        Carried::Echo => builder.icmpv6_echo_request(1, 2).write(&mut frame, payload),
    }
    .expect("a frame");
    frame
}

/// An ICMP error of that type about a packet (an IP packet, without its Ethernet header).
pub fn error4(from: [u8; 4], to: [u8; 4], kind: u8, quoted: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv4(from, to, 64).icmpv4_raw(kind, 0, [0; 4]);
    builder.write(&mut frame, quoted).expect("a frame");
    frame
}

/// An ICMPv6 error of that type about a packet.
pub fn error6(from: [u8; 16], to: [u8; 16], kind: u8, quoted: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv6(from, to, 64).icmpv6_raw(kind, 0, [0; 4]);
    builder.write(&mut frame, quoted).expect("a frame");
    frame
}

/// A UDP frame with those ports.
pub fn udp4(from: [u8; 4], to: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv4(from, to, 64).udp(ports.0, ports.1);
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

/// Makes a frame the fragment at that place (in bytes) of a larger packet, and mends its header's checksum.
pub fn as_fragment4(frame: &mut [u8], place: u16, more: bool) {
    let field = (place / 8) | if more { 0x2000 } else { 0 };
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    mend_header(frame);
}

/// Writes the right checksum into a frame's IPv4 header.
pub fn mend_header(frame: &mut [u8]) {
    let header = Ipv4HeaderSlice::from_slice(&frame[14..]).expect("a header").to_header();
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// Asserts that every checksum in a frame is right, quoted and tunnelled packets included.
#[track_caller]
pub fn adds_up(frame: &[u8]) {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).expect("an Ethernet header");
    assert!(
        matches!(ethernet.ether_type(), EtherType::IPV4 | EtherType::IPV6 | EtherType::ARP),
        "{:?}",
        ethernet.ether_type()
    );
    let sliced = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header: {header:?}");
            if !ip.is_payload_fragmented() {
                transport4(&header, ip.payload().ip_number, ip.payload().payload);
            }
        }
        Some(NetSlice::Ipv6(ip)) => {
            if !ip.is_payload_fragmented() {
                transport6(&ip.header().to_header(), ip.payload().ip_number, ip.payload().payload);
            }
        }
        other => assert!(matches!(other, Some(NetSlice::Arp(_))), "{other:?}"),
    }
}

/// In ones' complement 0 and 0xffff are one number, and a receiver sums both to the same; the kernel writes the latter for
/// the former in any protocol, not in UDP alone, where it completes a checksum itself (skb_checksum_help,
/// net/core/dev.c): one packet in 65,536, that is one in some ten transfers of 8 MiB.
#[track_caller]
fn is_right(protocol: &str, checksum: u16, right: u16) {
    let one = |checksum| if checksum == 0xffff { 0 } else { checksum };
    assert_eq!(one(checksum), one(right), "{protocol}: {checksum:04x}, not {right:04x}");
}

#[track_caller]
fn transport4(ip: &Ipv4Header, number: IpNumber, bytes: &[u8]) {
    match number {
        IpNumber::UDP => {
            let udp = UdpSlice::from_slice(bytes).expect("UDP");
            let right = udp.to_header().calc_checksum_ipv4(ip, udp.payload()).expect("short");
            assert!(udp.checksum() == 0 || udp.checksum() == right, "UDP {:04x}, not {right:04x}", udp.checksum());
            if udp.destination_port() == 6_081 {
                adds_up(&udp.payload()[8 + usize::from(udp.payload()[0] & 0x3f) * 4..]);
            }
        }
        IpNumber::TCP => {
            let tcp = TcpSlice::from_slice(bytes).expect("TCP");
            is_right("TCP", tcp.checksum(), tcp.calc_checksum_ipv4(ip.source, ip.destination).expect("short"));
        }
        IpNumber::ICMP => {
            let icmp = Icmpv4Slice::from_slice(bytes).expect("ICMP");
            is_right("ICMP", icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
            if matches!(bytes[0], 3 | 4 | 5 | 11 | 12) {
                quoted(&bytes[8..]);
            }
        }
        other => panic!("no checksum is known for {other:?}"),
    }
}

#[track_caller]
fn transport6(ip: &Ipv6Header, number: IpNumber, bytes: &[u8]) {
    match number {
        IpNumber::UDP => {
            let udp = UdpSlice::from_slice(bytes).expect("UDP");
            let right = udp.to_header().calc_checksum_ipv6(ip, udp.payload()).expect("short");
            let tunnel = udp.destination_port() == 6_081;
            assert!(tunnel && udp.checksum() == 0 || udp.checksum() == right, "UDP over IPv6");
            if tunnel {
                adds_up(&udp.payload()[8 + usize::from(udp.payload()[0] & 0x3f) * 4..]);
            }
        }
        IpNumber::TCP => {
            let tcp = TcpSlice::from_slice(bytes).expect("TCP");
            is_right("TCP", tcp.checksum(), tcp.calc_checksum_ipv6(ip.source, ip.destination).expect("short"));
        }
        IpNumber::IPV6_ICMP => {
            let icmp = Icmpv6Slice::from_slice(bytes).expect("ICMPv6");
            let right = icmp.icmp_type().calc_checksum(ip.source, ip.destination, icmp.payload()).expect("short");
            is_right("ICMPv6", icmp.checksum(), right);
            if matches!(bytes[0], 1..=4) {
                quoted(&bytes[8..]);
            }
        }
        other => panic!("no checksum is known for {other:?}"),
    }
}

/// A packet quoted by an error: its IPv4 header always adds up, its transport where all of it is there.
#[track_caller]
fn quoted(packet: &[u8]) {
    if packet[0] >> 4 == 4 {
        let slice = Ipv4HeaderSlice::from_slice(packet).expect("a quoted header");
        let header = slice.to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "quoted IPv4 header");
        if packet.len() >= usize::from(header.total_len) {
            transport4(&header, header.protocol, &packet[slice.slice().len()..]);
        }
    } else {
        let header = Ipv6HeaderSlice::from_slice(packet).expect("a quoted header").to_header();
        if packet.len() >= 40 + usize::from(header.payload_length) {
            transport6(&header, header.next_header, &packet[40..]);
        }
    }
}

/// Source and destination of a frame's IP header, as text.
pub fn ends(frame: &[u8]) -> (String, String) {
    let ip = IpSlice::from_slice(&frame[14..]).expect("an IP header");
    (ip.source_addr().to_string(), ip.destination_addr().to_string())
}

/// Source and destination of the packet that an ICMP or ICMPv6 error quotes, as text.
pub fn quoted_ends(frame: &[u8]) -> (String, String) {
    let ip = IpSlice::from_slice(&frame[14..]).expect("an IP header");
    let quoted = &ip.payload().payload[8..];
    if quoted[0] >> 4 == 4 {
        let header = Ipv4HeaderSlice::from_slice(quoted).expect("a header");
        (header.source_addr().to_string(), header.destination_addr().to_string())
    } else {
        let header = Ipv6HeaderSlice::from_slice(quoted).expect("a header");
        (header.source_addr().to_string(), header.destination_addr().to_string())
    }
}

/// The transport that an unfragmented frame carries.
pub fn transport(frame: &[u8]) -> TransportSlice<'_> {
    SlicedPacket::from_ethernet(frame).expect("a packet").transport.expect("a transport")
}
