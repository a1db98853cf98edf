//! The programs themselves, run by the kernel on one packet at a time (`BPF_PROG_TEST_RUN`): every job of theirs, valid
//! and hostile, with the maps that the daemon would have written.

#[path = "common/frames.rs"]
mod frames;
mod test_run;

use etherparse::{EtherType, PacketBuilder, TransportSlice};
use frames::{Carried, GATEWAY_MAC, GUEST_MAC, adds_up, ends, quoted_ends};
use netslot::bpf::Program;
use netslot::config::Forward;
use netslot::config::Tunnel;
use netslot_abi::{BindingRecord, DropReason, SlotState, bind_mode};
use test_run::{Bench, GUEST, GUEST6, OK, REDIRECT, SHOT, UNSPEC, slot4, slot6};

const FAR: [u8; 4] = [192, 0, 2, 77];
const FAR6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
const ROUTER: [u8; 4] = [198, 51, 100, 1];
const TENANT: [u8; 4] = [10, 1, 2, 3];
const TENANT6: [u8; 16] = [0xfd, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
const VNI: u32 = 0x12_3456;
const ALL_CARRIED: [Carried; 3] = [Carried::Udp, Carried::Tcp, Carried::Echo];

fn text(address: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

fn text6(address: [u8; 16]) -> String {
    std::net::Ipv6Addr::from(address).to_string()
}

fn tunnel(generation: u64, remote: [u8; 4]) -> BindingRecord {
    let mut record = BindingRecord {
        generation,
        vni: VNI,
        tenant_v4: TENANT,
        tenant_v6: TENANT6,
        remote_family: 4,
        mode: bind_mode::TUNNEL,
        ..BindingRecord::default()
    };
    record.remote[..4].copy_from_slice(&remote);
    record
}

const REMOTE: [u8; 4] = [203, 0, 113, 9];
const REMOTE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

#[test]
fn a_leased_slots_packets_leave_by_its_own_address_and_return_to_the_guest() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(1, 5);
    for carried in ALL_CARRIED {
        let out = bench.run(Program::SlotOut, 1, &frames::v4(GUEST, FAR, carried, b"hello"));
        assert_eq!((out.verdict, ends(&out.frame)), (OK, (text(slot4(1)), text(FAR))), "{carried:?}");
        adds_up(&out.frame);
        let back = bench.run(Program::SlotIn, 1, &frames::v4(FAR, slot4(1), carried, b"hello"));
        assert_eq!((back.verdict, ends(&back.frame)), (OK, (text(FAR), text(GUEST))), "{carried:?}");
        adds_up(&back.frame);

        let out = bench.run(Program::SlotOut, 1, &frames::v6(GUEST6, FAR6, carried, b"hello"));
        assert_eq!((out.verdict, ends(&out.frame)), (OK, (text6(slot6(1)), text6(FAR6))), "{carried:?}");
        adds_up(&out.frame);
        let back = bench.run(Program::SlotIn, 1, &frames::v6(FAR6, slot6(1), carried, b"hello"));
        assert_eq!((back.verdict, ends(&back.frame)), (OK, (text6(FAR6), text6(GUEST6))), "{carried:?}");
        adds_up(&back.frame);
    }
    let counted = bench.counters(1);
    assert_eq!((counted.out_packets, counted.in_packets, counted.drops.iter().sum::<u64>()), (6, 6, 0));
    assert_eq!(bench.counters(0), Default::default(), "the other slot's are its own");
}

#[test]
fn errors_cross_with_what_they_quote() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 1);
    let sent = frames::v4(slot4(0), FAR, Carried::Udp, &[1; 100]);
    let cut = bench.run(Program::SlotIn, 0, &frames::error4(ROUTER, slot4(0), 3, &sent[14..14 + 28]));
    assert_eq!((cut.verdict, ends(&cut.frame)), (OK, (text(ROUTER), text(GUEST))));
    assert_eq!(quoted_ends(&cut.frame), (text(GUEST), text(FAR)));
    adds_up(&cut.frame);
    let received = frames::v4(FAR, GUEST, Carried::Tcp, &[1; 10]);
    let told = bench.run(Program::SlotOut, 0, &frames::error4(GUEST, FAR, 3, &received[14..]));
    assert_eq!(
        (ends(&told.frame), quoted_ends(&told.frame)),
        ((text(slot4(0)), text(FAR)), (text(FAR), text(slot4(0))))
    );
    adds_up(&told.frame);
    let sent = frames::v6(slot6(0), FAR6, Carried::Tcp, &[1; 100]);
    let cut = bench.run(Program::SlotIn, 0, &frames::error6(FAR6, slot6(0), 2, &sent[14..]));
    assert_eq!((cut.verdict, quoted_ends(&cut.frame)), (OK, (text6(GUEST6), text6(FAR6))));
    adds_up(&cut.frame);
}

#[test]
fn fragments_and_missing_checksums_survive() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 1);
    for (place, more) in [(0, true), (1_480, false)] {
        let mut frame = frames::v4(GUEST, FAR, Carried::Udp, &[3; 200]);
        frames::as_fragment4(&mut frame, place, more);
        let out = bench.run(Program::SlotOut, 0, &frame);
        assert_eq!((out.verdict, out.frame[34..] != frame[34..]), (OK, place == 0));
        adds_up(&out.frame);
    }
    let mut frame = frames::v4(GUEST, FAR, Carried::Udp, b"x");
    frame[40..42].fill(0);
    assert_eq!(bench.run(Program::SlotOut, 0, &frame).frame[40..42], [0, 0]);
}

#[test]
fn nothing_passes_a_slot_that_is_not_leased() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    let (out, back) = (frames::v4(GUEST, FAR, Carried::Udp, b"x"), frames::v4(FAR, slot4(0), Carried::Udp, b"x"));
    for state in SlotState::ALL.into_iter().filter(|state| *state != SlotState::Leased) {
        bench.state(0, 3, state);
        for (program, frame) in [(Program::GuestIn, &out), (Program::SlotOut, &out), (Program::SlotIn, &back)] {
            assert_eq!(bench.dropped(program, 0, frame), Some(DropReason::NotLeased), "{program:?} {state:?}");
        }
    }
    assert_eq!(bench.run(Program::SlotOut, test_run::NOT_A_SLOT, &out).verdict, UNSPEC, "another's device");
}

#[test]
fn only_the_slots_own_sources_leave_and_only_its_destination_enters() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 1);
    let own = bench.run(Program::SlotOut, 0, &frames::v4(slot4(0), FAR, Carried::Tcp, b"from its stack"));
    assert_eq!((own.verdict, ends(&own.frame)), (OK, (text(slot4(0)), text(FAR))));
    for from in [slot4(1), [172, 16, 0, 1], [127, 0, 0, 1], FAR] {
        let spoofed = frames::v4(from, FAR, Carried::Udp, b"x");
        assert_eq!(bench.dropped(Program::SlotOut, 0, &spoofed), Some(DropReason::SourceAddress), "{from:?}");
    }
    let astray = frames::v4(FAR, slot4(1), Carried::Udp, b"x");
    assert_eq!(bench.dropped(Program::SlotIn, 0, &astray), Some(DropReason::DestinationAddress));
    let spoofed = frames::v6(slot6(1), FAR6, Carried::Udp, b"x");
    assert_eq!(bench.dropped(Program::SlotOut, 0, &spoofed), Some(DropReason::SourceAddress));
    let mut other = frames::v4(GUEST, FAR, Carried::Udp, b"x");
    other[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(bench.dropped(Program::SlotOut, 0, &other), Some(DropReason::Protocol));
}

#[test]
fn a_slot_without_a_guest_keeps_its_own_address() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease_without_guest(0, 4);
    let frame = frames::v4(FAR, slot4(0), Carried::Tcp, b"x");
    assert_eq!(bench.run(Program::SlotIn, 0, &frame).frame, frame);
    bench.lease(0, 5);
    let back = bench.run(Program::SlotIn, 0, &frame);
    assert_eq!(ends(&back.frame).1, text(GUEST), "the flag died with its lease");
}

#[test]
fn a_syn_offers_no_more_than_the_mtu_holds() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 1);
    let syn = |from, to| {
        let mut frame = Vec::new();
        let tcp = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv4(from, to, 64).tcp(1, 2, 3, 4).syn();
        let tcp = tcp.options(&[etherparse::TcpOptionElement::MaximumSegmentSize(8_960)]).expect("options");
        tcp.write(&mut frame, &[]).expect("a frame");
        frame
    };
    for (program, frame) in [(Program::SlotOut, syn(GUEST, FAR)), (Program::SlotIn, syn(FAR, slot4(0)))] {
        let run = bench.run(program, 0, &frame);
        adds_up(&run.frame);
        let TransportSlice::Tcp(tcp) = frames::transport(&run.frame) else { panic!("no TCP") };
        let offer = tcp.options_iterator().next().expect("an option").expect("well-formed");
        assert_eq!(offer, etherparse::TcpOptionElement::MaximumSegmentSize(1_410), "1,450 − 40");
    }
}

/// What a guest may and may not send.
#[test]
fn the_guest_speaks_for_itself_alone() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 1);
    let udp = frames::v4(GUEST, FAR, Carried::Udp, b"x");
    let with = |change: fn(&mut Vec<u8>)| {
        let mut frame = frames::v4(GUEST, FAR, Carried::Udp, b"x");
        change(&mut frame);
        frame
    };
    let passes = [
        udp.clone(),
        frames::v4(GUEST, FAR, Carried::Tcp, b"x"),
        frames::v4(GUEST, FAR, Carried::Echo, b"x"),
        frames::v6(GUEST6, FAR6, Carried::Echo, b"x"),
        test_run::arp(1, GUEST_MAC, GUEST, [172, 16, 0, 1]),
        test_run::arp(1, GUEST_MAC, [0; 4], [172, 16, 0, 1]),
        test_run::arp(2, GUEST_MAC, GUEST, [172, 16, 0, 1]),
        test_run::solicit(GUEST6, test_run::GATEWAY6, GUEST_MAC),
        test_run::solicit(test_run::LINK_LOCAL, test_run::GATEWAY6, GUEST_MAC),
        test_run::advertise(GUEST6, GUEST6, GUEST_MAC),
        test_run::icmp6(test_run::LINK_LOCAL, 133, &[0; 4]),
    ];
    for (i, frame) in passes.iter().enumerate() {
        let run = bench.run(Program::GuestIn, 0, frame);
        assert_eq!((run.verdict, &run.frame, run.mark), (OK, frame, 0), "frame {i}: {:?}", bench.counters(0).drops);
    }
    let hostile: &[(Vec<u8>, DropReason, &str)] = &[
        (with(|f| f[6] = 2), DropReason::SourceMac, "another's MAC"),
        (with(|f| f.truncate(36)), DropReason::Malformed, "cut short"),
        (with(|f| f[14] = 0x65), DropReason::Malformed, "version"),
        (with(|f| f[14] = 0x44), DropReason::Malformed, "header length"),
        (with(|f| drop(f.splice(12..12, [0x81, 0, 0, 5]))), DropReason::Protocol, "802.1Q"),
        (with(|f| drop(f.splice(12..12, [0x81, 0, 0, 0]))), DropReason::Protocol, "VLAN 0"),
        (with(|f| drop(f.splice(12..12, [0x88, 0xa8, 0, 5]))), DropReason::Protocol, "802.1ad"),
        (with(|f| f[12..14].copy_from_slice(&[0, 60])), DropReason::Protocol, "LLC"),
        (with(|f| f[12..14].copy_from_slice(&[0x88, 0xcc])), DropReason::Protocol, "LLDP"),
        (frames::v4(slot4(0), FAR, Carried::Udp, b"x"), DropReason::SourceAddress, "the slot's address"),
        (frames::v4([172, 16, 0, 1], FAR, Carried::Udp, b"x"), DropReason::SourceAddress, "the gateway's address"),
        (frames::v4([0; 4], FAR, Carried::Udp, b"x"), DropReason::SourceAddress, "no address"),
        (test_run::arp(1, [2; 6], GUEST, FAR), DropReason::Arp, "ARP sender MAC"),
        (test_run::arp(2, GUEST_MAC, [172, 16, 0, 1], FAR), DropReason::Arp, "ARP for the gateway"),
        (test_run::arp(3, GUEST_MAC, GUEST, FAR), DropReason::Arp, "RARP"),
        (test_run::arp(1, GUEST_MAC, [0; 4], GUEST), DropReason::OwnAddress, "a probe of its own address"),
        (test_run::arp(1, GUEST_MAC, GUEST, GUEST), DropReason::OwnAddress, "an announcement"),
        (frames::udp4(GUEST, FAR, (67, 68), b"x"), DropReason::DhcpServer, "a DHCP server"),
        (frames::error4(GUEST, FAR, 5, &udp[14..]), DropReason::Router, "a redirect"),
        (frames::error4(GUEST, FAR, 9, &udp[14..]), DropReason::Router, "an ICMP router"),
        (frames::v6(FAR6, FAR6, Carried::Udp, b"x"), DropReason::SourceAddress, "another's IPv6 address"),
        (frames::v6(test_run::LINK_LOCAL, FAR6, Carried::Udp, b"x"), DropReason::SourceAddress, "link-local UDP"),
        (frames::v6(test_run::LINK_LOCAL, FAR6, Carried::Echo, b"x"), DropReason::SourceAddress, "link-local, far"),
        (test_run::icmp6(test_run::LINK_LOCAL, 134, &[0; 12]), DropReason::Router, "a router advertisement"),
        (test_run::icmp6(test_run::LINK_LOCAL, 137, &[0; 36]), DropReason::Router, "an IPv6 redirect"),
        (test_run::icmp6(test_run::LINK_LOCAL, 130, &[0; 20]), DropReason::Router, "a listener query"),
        (test_run::icmp6(test_run::GATEWAY_LINK_LOCAL, 136, &[0; 20]), DropReason::SourceAddress, "the gateway's"),
        (test_run::solicit([0; 16], GUEST6, GUEST_MAC), DropReason::OwnAddress, "duplicate address detection"),
        (test_run::solicit(GUEST6, test_run::GATEWAY6, [2; 6]), DropReason::Neighbour, "another's link-layer address"),
        (test_run::advertise(GUEST6, test_run::GATEWAY6, GUEST_MAC), DropReason::Neighbour, "ND for the gateway"),
        (test_run::advertise(GUEST6, GUEST6, [2; 6]), DropReason::Neighbour, "ND with another's MAC"),
        (test_run::hidden_advertisement(), DropReason::Router, "an advertisement behind extension headers"),
        (test_run::dhcp6_server(), DropReason::DhcpServer, "a DHCPv6 server"),
    ];
    for (frame, reason, what) in hostile {
        assert_eq!(bench.dropped(Program::GuestIn, 0, frame), Some(*reason), "{what}");
    }
}

#[test]
fn ipv6_is_off_unless_configured() {
    let Some(mut bench) = Bench::new(|config| config.guest.ip6 = None) else { return };
    bench.lease(0, 1);
    let frame = frames::v6(GUEST6, FAR6, Carried::Udp, b"x");
    for program in [Program::GuestIn, Program::SlotOut, Program::SlotIn] {
        assert_eq!(bench.dropped(program, 0, &frame), Some(DropReason::Protocol), "{program:?}");
    }
}

#[test]
fn a_bound_slots_packets_travel_in_geneve_and_come_back_only_from_its_remote() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(1, 7);
    bench.bind(1, &tunnel(7, REMOTE));
    for (sent, arrived) in [
        (frames::v4(GUEST, FAR, Carried::Tcp, b"to a tenant"), (text(TENANT), text(FAR))),
        (frames::v6(GUEST6, FAR6, Carried::Udp, b"to a tenant"), (text6(TENANT6), text6(FAR6))),
    ] {
        let out = bench.run(Program::SlotOut, 1, &sent);
        assert_eq!((out.verdict, out.frame.len()), (REDIRECT, sent.len() + 50));
        adds_up(&out.frame);
        assert_eq!(ends(&out.frame), (text(test_run::UNDERLAY), text(REMOTE)));
        let TransportSlice::Udp(udp) = frames::transport(&out.frame) else { panic!("no UDP") };
        assert_eq!((udp.destination_port(), udp.checksum(), udp.source_port() >= 0xc000), (6_081, 0, true));
        assert_eq!(udp.payload()[..8], [0, 0, 0x65, 0x58, 0x12, 0x34, 0x56, 0]);
        let inner = &udp.payload()[8..];
        assert_eq!((&inner[..6], &inner[6..12], ends(inner)), (&GATEWAY_MAC[..], &GUEST_MAC[..], arrived));
    }
    for (inner, sent) in [
        (frames::v4(FAR, TENANT, Carried::Tcp, b"reply"), (text(FAR), text(GUEST))),
        (frames::v6(FAR6, TENANT6, Carried::Udp, b"reply"), (text6(FAR6), text6(GUEST6))),
    ] {
        for options in [0, 1, 63] {
            let packet = test_run::geneve(REMOTE, VNI, options, &inner);
            let run = bench.run(Program::UplinkIn, test_run::UPLINK, &packet);
            assert_eq!((run.verdict, run.frame.len()), (REDIRECT, inner.len()), "{:?}", bench.counters(1).drops);
            assert_eq!(ends(&run.frame), sent);
            adds_up(&run.frame);
        }
    }
    let inner = frames::v4(FAR, TENANT, Carried::Tcp, b"reply");
    let good = test_run::geneve(REMOTE, VNI, 0, &inner);
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    let refused = [
        (test_run::geneve(FAR, VNI, 0, &inner), 1, DropReason::NoTenant, "another remote"),
        (test_run::geneve(REMOTE, VNI + 1, 0, &inner), test_run::NOBODY, DropReason::NoTenant, "another VNI"),
        (
            test_run::geneve(REMOTE, VNI, 0, &frames::v4(FAR, GUEST, Carried::Tcp, b"x")),
            test_run::NOBODY,
            DropReason::NoTenant,
            "another tenant address",
        ),
        (with(42, 0x40), test_run::NOBODY, DropReason::Geneve, "another version"),
        (with(43, 0x40), test_run::NOBODY, DropReason::Geneve, "critical options"),
        (with(43, 0x80), test_run::NOBODY, DropReason::Geneve, "a control packet"),
        (with(44, 8), test_run::NOBODY, DropReason::Geneve, "no Ethernet inside"),
        (with(62, 0x81), test_run::NOBODY, DropReason::Protocol, "a tag inside"),
        (good[..60].to_vec(), test_run::NOBODY, DropReason::Malformed, "cut short"),
    ];
    for (frame, owner, reason, what) in &refused {
        assert_eq!(bench.dropped_for(Program::UplinkIn, test_run::UPLINK, *owner, frame), Some(*reason), "{what}");
    }
    bench.lease(1, 8);
    let stale = bench.dropped_for(Program::UplinkIn, test_run::UPLINK, 1, &good);
    assert_eq!(stale, Some(DropReason::NoTenant), "a binding dies with its lease");
    let out = bench.run(Program::SlotOut, 1, &frames::v4(GUEST, FAR, Carried::Udp, b"x"));
    assert_eq!((out.verdict, ends(&out.frame).0), (OK, text(slot4(1))), "and its packets go the unbound way");
    bench.state(1, 8, SlotState::Scrubbing);
    let gone = bench.dropped_for(Program::UplinkIn, test_run::UPLINK, 1, &good);
    assert_eq!(gone, Some(DropReason::NotLeased));
}

#[test]
fn a_bound_slot_has_no_other_way_in() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 1);
    bench.bind(0, &tunnel(1, REMOTE));
    let frame = frames::v4(FAR, slot4(0), Carried::Udp, b"x");
    assert_eq!(bench.dropped(Program::SlotIn, 0, &frame), Some(DropReason::WrongPath));
    let v4_only = BindingRecord { tenant_v6: [0; 16], ..tunnel(1, REMOTE) };
    bench.bind(0, &v4_only);
    let frame = frames::v6(GUEST6, FAR6, Carried::Udp, b"x");
    assert_eq!(bench.dropped(Program::SlotOut, 0, &frame), Some(DropReason::NoTenantAddress));
}

#[test]
fn an_ipv6_underlay_carries_the_tunnel_both_ways() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    bench.lease(0, 2);
    let bound = BindingRecord { remote: REMOTE6, remote_family: 6, ..tunnel(2, [0; 4]) };
    bench.bind(0, &bound);
    let sent = frames::v4(GUEST, FAR, Carried::Tcp, b"over IPv6");
    let out = bench.run(Program::SlotOut, 0, &sent);
    assert_eq!((out.verdict, out.frame.len()), (REDIRECT, sent.len() + 70));
    assert_eq!(ends(&out.frame), (text6(test_run::UNDERLAY6), text6(REMOTE6)));
    adds_up(&out.frame);
    let inner = frames::v4(FAR, TENANT, Carried::Tcp, b"reply");
    let run = bench.run(Program::UplinkIn, test_run::UPLINK, &test_run::geneve6(REMOTE6, VNI, &inner));
    assert_eq!((run.verdict, ends(&run.frame)), (REDIRECT, (text(FAR), text(GUEST))));
    assert_eq!(EtherType(u16::from_be_bytes([run.frame[12], run.frame[13]])), EtherType::IPV4);
    adds_up(&run.frame);
}

#[test]
fn a_tunnel_devices_dummies_become_the_bound_ones_and_back() {
    let Some(mut bench) = Bench::new(|config| config.tunnel = Tunnel::Geneve) else { return };
    bench.lease(1, 3);
    let peer_mac = [0x02, 9, 9, 9, 9, 9];
    bench.bind(1, &BindingRecord { peer_mac, ..tunnel(3, REMOTE) });
    let marked = bench.run(Program::GuestIn, 1, &frames::v4(GUEST, FAR, Carried::Udp, b"x"));
    assert_eq!((marked.verdict, marked.mark), (OK, netslot_abi::TUNNEL_MARK));
    let clear = frames::v4(GUEST, FAR, Carried::Udp, b"x");
    assert_eq!(bench.dropped(Program::SlotOut, 1, &clear), Some(DropReason::WrongPath));

    let dummy = test_run::DUMMY_VNI + 1;
    let device = test_run::geneve_between(test_run::UNDERLAY, test_run::DUMMY_REMOTE, dummy, &clear);
    let out = bench.run(Program::UplinkOut, test_run::UPLINK, &device);
    assert_eq!((out.verdict, ends(&out.frame)), (REDIRECT, (text(test_run::UNDERLAY), text(REMOTE))));
    assert_eq!((&out.frame[46..49], &out.frame[50..56]), (&[0x12, 0x34, 0x56][..], &peer_mac[..]));
    assert_eq!(ends(&out.frame[50..]), (text(TENANT), text(FAR)));
    adds_up(&out.frame);
    let again = bench.run(Program::UplinkOut, test_run::UPLINK, &out.frame);
    assert_eq!((again.verdict, &again.frame), (UNSPEC, &out.frame), "a real VNI passes");

    let inner = frames::v4(FAR, TENANT, Carried::Tcp, b"reply");
    let run = bench.run(Program::UplinkIn, test_run::UPLINK, &test_run::geneve(REMOTE, VNI, 2, &inner));
    assert_eq!((run.verdict, ends(&run.frame)), (UNSPEC, (text(test_run::DUMMY_REMOTE), text(test_run::UNDERLAY))));
    assert_eq!(run.frame[46..49], dummy.to_be_bytes()[1..]);
    assert_eq!((&run.frame[58..64], ends(&run.frame[58..]).1), (&test_run::DEVICE_MAC[..], text(GUEST)));
    adds_up(&run.frame);

    bench.bind(1, &BindingRecord { generation: 3, ..BindingRecord::default() });
    let unbound = bench.dropped_for(Program::UplinkOut, test_run::UPLINK, 1, &device);
    assert_eq!(unbound, Some(DropReason::WrongPath));
}

#[test]
fn the_network_may_know_a_slot_by_another_address() {
    let Some(mut bench) = Bench::new(|config| config.external_cidr = "203.0.113.0/24".parse().ok()) else {
        return;
    };
    let external = [203, 0, 113, 3];
    let out = bench.run(Program::UplinkOut, test_run::UPLINK, &frames::v4(slot4(1), FAR, Carried::Tcp, b"x"));
    assert_eq!((out.verdict, ends(&out.frame).0), (UNSPEC, text(external)));
    adds_up(&out.frame);
    let back = bench.run(Program::UplinkIn, test_run::UPLINK, &frames::v4(FAR, external, Carried::Tcp, b"x"));
    assert_eq!((back.verdict, ends(&back.frame).1), (UNSPEC, text(slot4(1))));
    adds_up(&back.frame);
}

#[test]
fn the_uplinks_other_traffic_is_left_alone() {
    let Some(mut bench) = Bench::new(|config| config.external_cidr = "203.0.113.0/24".parse().ok()) else {
        return;
    };
    let others = [
        frames::v4(FAR, ROUTER, Carried::Tcp, b"x"),
        frames::v6(FAR6, GUEST6, Carried::Udp, b"x"),
        test_run::arp(1, [2; 6], FAR, ROUTER),
        frames::udp4(FAR, ROUTER, (1, 6_081), &[0; 40]),
        vec![0xff; 14],
    ];
    for frame in &others {
        for program in [Program::UplinkIn, Program::UplinkOut] {
            let run = bench.run(program, test_run::UPLINK, frame);
            assert_eq!((run.verdict, &run.frame), (UNSPEC, frame), "{program:?}");
        }
    }
}

#[test]
fn redirected_packets_pass_the_stack_by() {
    let Some(mut bench) = Bench::new(|config| config.forward = Forward::Redirect) else { return };
    bench.lease(1, 1);
    let out = bench.run(Program::SlotOut, 1, &frames::v4(GUEST, FAR, Carried::Tcp, b"x"));
    assert_eq!((out.verdict, ends(&out.frame).0, out.frame[22]), (REDIRECT, text(slot4(1)), 63), "one hop less");
    assert_eq!(out.frame[..6], test_run::NEXT_HOP_MAC);
    adds_up(&out.frame);
    let local = bench.run(Program::SlotOut, 1, &frames::v4(GUEST, test_run::UNDERLAY, Carried::Tcp, b"x"));
    assert_eq!(local.verdict, OK, "this host's own address is the stack's");
    let back = bench.run(Program::UplinkIn, test_run::UPLINK, &frames::v4(FAR, slot4(1), Carried::Tcp, b"x"));
    assert_eq!((back.verdict, ends(&back.frame).1), (REDIRECT, text(GUEST)));
    adds_up(&back.frame);
    let unleased = frames::v4(FAR, slot4(0), Carried::Tcp, b"x");
    assert_eq!(bench.dropped_for(Program::UplinkIn, test_run::UPLINK, 0, &unleased), Some(DropReason::NotLeased));
}

#[test]
fn the_verifiers_work_is_what_was_recorded() {
    let Some(bench) = Bench::new(|_| ()) else { return };
    let budget = include_str!("../ebpf/verifier-budget.txt");
    let mut rows = budget.lines().filter(|line| !line.starts_with('#')).map(|l| l.split_ascii_whitespace().collect());
    let head: Vec<&str> = rows.next().expect("a line of kernels");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    let column = (1..head.len()).rev().find(|n| version(head[*n]) <= version(&kernel)).unwrap_or(1);
    let rows: Vec<Vec<&str>> = rows.collect();
    let mut grown = Vec::new();
    for program in Program::ALL {
        let info = bench.datapath.classifier(program).expect("loaded").info().expect("info");
        let counted = info.verified_instruction_count().expect("5.16 and later");
        let name = program.name();
        eprintln!("verifier: {name} {counted} instructions on {}", head[column]);
        let row = rows.iter().find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("{name} is not in verifier-budget.txt"));
        let recorded: u32 = row[column].parse().expect("a number");
        if counted > recorded {
            grown.push(format!("{name} {counted} > {recorded}"));
        }
    }
    assert!(grown.is_empty(), "growth on {} is a decision, write it down: {}", head[column], grown.join(", "));
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().expect("a number"));
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

#[test]
fn drops_are_verdicts() {
    let Some(mut bench) = Bench::new(|_| ()) else { return };
    assert_eq!(bench.run(Program::SlotOut, 0, &frames::v4(GUEST, FAR, Carried::Udp, b"x")).verdict, SHOT);
}
