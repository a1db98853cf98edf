//! Lines of frames built by a library that is not ours, and of any bytes at all.

use super::*;
use etherparse::{PacketBuilder, TcpOptionElement};
use proptest::prelude::*;

const GUEST_MAC: [u8; 6] = [0x06, 0, 0xac, 0x10, 0, 2];
const GATEWAY_MAC: [u8; 6] = [0x06, 0, 0xac, 0x10, 0, 1];
const GUEST: [u8; 4] = [172, 16, 0, 2];
const FAR: [u8; 4] = [192, 0, 2, 77];
const TUNNEL: u16 = 6_081;

fn v4(build: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8>) -> Vec<u8> {
    build(PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv4(GUEST, FAR, 64))
}

fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    v4(|builder| {
        let mut frame = Vec::new();
        builder.udp(ports.0, ports.1).write(&mut frame, payload).expect("a frame");
        frame
    })
}

fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    v4(|builder| {
        let mut frame = Vec::new();
        builder.icmpv4_raw(kind, code, rest).write(&mut frame, payload).expect("a frame");
        frame
    })
}

fn v6(kind: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let (from, to) = ("fd00::2".parse::<Ipv6Addr>(), "2001:db8::77".parse::<Ipv6Addr>());
    let octets = |address: Result<Ipv6Addr, _>| address.expect("an address").octets();
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv6(octets(from), octets(to), 64);
    let mut frame = Vec::new();
    builder.icmpv6_raw(kind, 0, rest).write(&mut frame, payload).expect("a frame");
    frame
}

fn geneve(inner: &[u8]) -> Vec<u8> {
    udp((50_000, TUNNEL), &[&[0, 0, 0x65, 0x58, 0, 0, 77, 0], inner].concat())
}

#[test]
fn frames_read_as_people_write_them() {
    let arp = |operation, sender: [u8; 4], target: [u8; 4]| {
        let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
        [&[0xff; 6][..], &GUEST_MAC, &head, &GUEST_MAC, &sender, &[0; 6], &target].concat()
    };
    let syn = v4(|builder| {
        let mut frame = Vec::new();
        let tcp = builder.tcp(5_000, 80, 7, 64_240).syn().ack(9);
        let tcp = tcp.options(&[TcpOptionElement::MaximumSegmentSize(1_410)]).expect("options");
        tcp.write(&mut frame, b"").expect("a frame");
        frame
    });
    let small = udp((5_000, 6_000), &[0; 30]);
    let mut last = small.clone();
    last[18..22].copy_from_slice(&[0x12, 0x34, 0x00, 185]);
    let mut first = last.clone();
    first[20..22].copy_from_slice(&[0x20, 0]);
    let tagged = [&small[..12], &[0x81, 0, 0, 5], &small[12..]].concat();
    let about = "IPv4 172.16.0.2.5000 > 192.0.2.77.6000: UDP, 30 bytes";
    let to = "IPv4 172.16.0.2 > 192.0.2.77:";
    let to6 = "IPv6 fd00::2 > 2001:db8::77:";
    let rows: Vec<(Vec<u8>, String)> = vec![
        (arp(1, GUEST, [172, 16, 0, 1]), "ARP who has 172.16.0.1? tell 172.16.0.2".into()),
        (arp(1, [0; 4], GUEST), "ARP who has 172.16.0.2? a probe by 06:00:ac:10:00:02".into()),
        (arp(2, GUEST, GUEST), "ARP 172.16.0.2 is at 06:00:ac:10:00:02".into()),
        (small.clone(), about.into()),
        (syn, "IPv4 172.16.0.2.5000 > 192.0.2.77.80: TCP [S.], seq 7, ack 9, win 64240, mss 1410, 0 bytes".into()),
        (icmp(8, 0, [0, 1, 0, 2], &[0; 56]), format!("{to} ICMP echo request, id 1, seq 2, 56 bytes")),
        (icmp(3, 4, [0, 0, 5, 120], &small[14..42]), format!("{to} ICMP too large, mtu 1400; about {about}")),
        (icmp(3, 3, [0; 4], &small[14..42]), format!("{to} ICMP port unreachable; about {about}")),
        (icmp(11, 0, [0; 4], &small[14..42]), format!("{to} ICMP time exceeded; about {about}")),
        (v6(128, [0, 1, 0, 2], b"x"), format!("{to6} ICMPv6 echo request, id 1, seq 2, 1 bytes")),
        (v6(2, [0, 0, 5, 120], &small), format!("{to6} ICMPv6 too large, mtu 1400; about IPv6")),
        (v6(135, [0; 4], &[0xfe; 16]), format!("{to6} ICMPv6 who has fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe?")),
        (geneve(&small), format!("IPv4 172.16.0.2.50000 > 192.0.2.77.6081: Geneve, VNI 77: {about}")),
        (tagged, format!("VLAN 5: {about}")),
        (first, format!("{about}, fragment of 0x1234: 0-38, more to come")),
        (last, format!("{to} UDP, fragment of 0x1234: 1480-1518, the last")),
        (
            [&small[..12], &[0x88, 0xcc, 1]].concat(),
            "ethertype 0x88cc, 1 bytes, 06:00:ac:10:00:02 > 06:00:ac:10:00:01".into(),
        ),
        (small[..30].to_vec(), "IPv4 [cut short]".into()),
        (small[..36].to_vec(), format!("{to} UDP [cut short] [cut short]")),
        (vec![1, 2, 3], "3 bytes, no Ethernet header".into()),
    ];
    for (frame, expected) in rows {
        assert_eq!(line(&frame, frame.len(), TUNNEL), expected);
    }
    assert_eq!(line(&small, 9_000, TUNNEL), format!("{about} [72 of 9000 bytes kept]"));
}

#[test]
fn packets_in_packets_come_to_an_end() {
    let mut frame = udp((1, 2), b"x");
    for _ in 0..20 {
        frame = geneve(&frame);
    }
    let text = line(&frame, frame.len(), TUNNEL);
    assert_eq!(text.matches("Geneve").count(), usize::from(DEPTH_MAX) + 1, "{text}");
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [
        icmp(3, 4, [0; 4], &udp((68, 67), &[0; 20])[14..]),
        geneve(&v6(1, [0; 4], &[0x60; 60])),
        udp((68, 67), &[1; 260]),
    ];
    let changed = (
        proptest::sample::select(kinds.to_vec()),
        proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        any::<usize>(),
    );
    let changed = changed.prop_map(|(mut frame, changes, cut)| {
        for (at, byte) in changes {
            let len = frame.len();
            frame[at % len] = byte;
        }
        frame.truncate(cut % (frame.len() + 1));
        frame
    });
    prop_oneof![changed, proptest::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn any_bytes_are_one_line_of_plain_characters(frame in any_frame(), length in 0_usize..70_000) {
        let text = line(&frame, length, TUNNEL);
        prop_assert!(!text.is_empty() && text.chars().all(|c| c.is_ascii() && !c.is_control()), "{text:?}");
    }
}
