//! Translation forth and back is the identity, and every checksum adds up in between, by a parser that is not ours.

#[path = "../../../tests/common/frames.rs"]
mod frames;
mod memory;

use frames::{Carried, adds_up, ends, quoted_ends};
use memory::Memory;
use netslot_packet::headers::{self, V4, V6};
use netslot_packet::nat::{self, Rule, Side};
use netslot_packet::{DropReason, mss};
use proptest::prelude::*;

const GUEST: [u8; 4] = [172, 16, 0, 2];
const GUEST6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn translate4(frame: &mut Memory, side: Side, from: [u8; 4], to: [u8; 4]) -> Result<(), DropReason> {
    let ip = headers::ipv4(frame, 14)?;
    let rule: Rule<V4> = Rule { from: [headers::v4(from); 2], to: headers::v4(to) };
    nat::ipv4(frame, &ip, side, &rule)
}

fn translate6(frame: &mut Memory, side: Side, from: [u8; 16], to: [u8; 16]) -> Result<(), DropReason> {
    let ip = headers::ipv6(frame, 14)?;
    let rule: Rule<V6> = Rule { from: [headers::v6(from); 2], to: headers::v6(to) };
    nat::ipv6(frame, &ip, side, &rule)
}

fn carried() -> impl Strategy<Value = Carried> {
    prop_oneof![Just(Carried::Udp), Just(Carried::Tcp), Just(Carried::Echo)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..80)
}

proptest! {
    #[test]
    fn ipv4_forth_and_back(to: [u8; 4], slot: [u8; 4], carried in carried(), payload in payload()) {
        prop_assume!(slot != GUEST);
        let before = frames::v4(GUEST, to, carried, &payload);
        let mut frame = Memory(before.clone());
        prop_assert_eq!(translate4(&mut frame, Side::Source, GUEST, slot), Ok(()));
        adds_up(&frame.0);
        prop_assert_eq!(ends(&frame.0), (std::net::Ipv4Addr::from(slot).to_string(), std::net::Ipv4Addr::from(to).to_string()));
        prop_assert_eq!(translate4(&mut frame, Side::Source, slot, GUEST), Ok(()));
        prop_assert_eq!(frame.0, before);
    }

    #[test]
    fn ipv6_forth_and_back(to: [u8; 16], slot: [u8; 16], carried in carried(), payload in payload()) {
        prop_assume!(slot != GUEST6);
        let before = frames::v6(GUEST6, to, carried, &payload);
        let mut frame = Memory(before.clone());
        prop_assert_eq!(translate6(&mut frame, Side::Source, GUEST6, slot), Ok(()));
        adds_up(&frame.0);
        prop_assert_eq!(translate6(&mut frame, Side::Source, slot, GUEST6), Ok(()));
        prop_assert_eq!(frame.0, before);
    }

    #[test]
    fn an_ipv4_error_is_translated_with_what_it_quotes(
        router: [u8; 4], far: [u8; 4], slot: [u8; 4], carried in carried(), payload in payload(),
        kind in prop_oneof![Just(3_u8), Just(11), Just(12)], kept in 28_usize..200,
    ) {
        prop_assume!(slot != GUEST && far != slot && far != GUEST);
        let sent = frames::v4(slot, far, carried, &payload);
        let quoted = &sent[14..sent.len().min(14 + kept)];
        let before = frames::error4(router, slot, kind, quoted);
        let mut frame = Memory(before.clone());
        prop_assert_eq!(translate4(&mut frame, Side::Destination, slot, GUEST), Ok(()));
        adds_up(&frame.0);
        let text = |a: [u8; 4]| std::net::Ipv4Addr::from(a).to_string();
        prop_assert_eq!(quoted_ends(&frame.0), (text(GUEST), text(far)));
        prop_assert_eq!(translate4(&mut frame, Side::Destination, GUEST, slot), Ok(()));
        prop_assert_eq!(frame.0, before);
    }

    #[test]
    fn an_ipv6_error_is_translated_with_what_it_quotes(
        router: [u8; 16], far: [u8; 16], slot: [u8; 16], carried in carried(), payload in payload(), kind in 1_u8..5,
        kept in 48_usize..200,
    ) {
        prop_assume!(slot != GUEST6 && far != slot && far != GUEST6);
        let sent = frames::v6(slot, far, carried, &payload);
        let quoted = &sent[14..sent.len().min(14 + kept)];
        let before = frames::error6(router, slot, kind, quoted);
        let mut frame = Memory(before.clone());
        prop_assert_eq!(translate6(&mut frame, Side::Destination, slot, GUEST6), Ok(()));
        adds_up(&frame.0);
        let text = |a: [u8; 16]| std::net::Ipv6Addr::from(a).to_string();
        prop_assert_eq!(quoted_ends(&frame.0), (text(GUEST6), text(far)));
        prop_assert_eq!(translate6(&mut frame, Side::Destination, GUEST6, slot), Ok(()));
        prop_assert_eq!(frame.0, before);
    }

    #[test]
    fn nothing_that_arrives_is_too_strange(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), nibble in 4_u8..7) {
        if let Some(first) = bytes.get_mut(14) {
            *first = nibble << 4 | 5;
        }
        let mut frame = Memory(bytes);
        let _ = translate4(&mut frame, Side::Source, GUEST, [100, 64, 0, 2]);
        let _ = translate6(&mut frame, Side::Source, GUEST6, GUEST6);
        let _ = mss::clamp(&mut frame, 34, 1_400);
    }

    #[test]
    fn an_offer_above_the_mtu_is_lowered_wherever_it_stands(
        offered: u16, largest in 500_u16..9_000, before in 0_usize..5, to: [u8; 4],
    ) {
        let mut options = vec![1_u8; before];
        options.extend([2, 4]);
        options.extend(offered.to_be_bytes());
        options.extend([4, 2, 1, 1]);
        let mut sent = Vec::new();
        let tcp = etherparse::PacketBuilder::ethernet2(frames::GUEST_MAC, frames::GATEWAY_MAC).ipv4(GUEST, to, 64);
        let tcp = tcp.tcp(1, 2, 3, 4).syn().options_raw(&options).expect("options");
        tcp.write(&mut sent, &[]).expect("a frame");
        let mut frame = Memory(sent);
        prop_assert_eq!(mss::clamp(&mut frame, 34, largest), Ok(()));
        adds_up(&frame.0);
        let at = 54 + before + 2;
        prop_assert_eq!(u16::from_be_bytes([frame.0[at], frame.0[at + 1]]), offered.min(largest));
    }
}

#[test]
fn udp_without_a_checksum_stays_without_one() {
    let mut frame = Memory(frames::v4(GUEST, [192, 0, 2, 1], Carried::Udp, b"x"));
    frame.0[40..42].copy_from_slice(&[0, 0]);
    assert_eq!(translate4(&mut frame, Side::Source, GUEST, [100, 64, 0, 2]), Ok(()));
    assert_eq!(frame.0[40..42], [0, 0]);
}

#[test]
fn the_first_fragment_carries_the_transports_checksum_and_later_ones_do_not() {
    let whole = frames::v4(GUEST, [192, 0, 2, 1], Carried::Udp, &[7; 64]);
    let slot = [100, 64, 0, 9];
    for (place, more, mended) in [(0, true, true), (64, true, false), (64, false, false)] {
        let mut frame = Memory(whole.clone());
        frames::as_fragment4(&mut frame.0, place, more);
        let body = frame.0[34..].to_vec();
        assert_eq!(translate4(&mut frame, Side::Source, GUEST, slot), Ok(()));
        adds_up(&frame.0);
        assert_eq!(frame.0[34..] != body, mended, "offset {place}: the transport's bytes");
    }
    // Of the first, the checksum is what the whole packet's would be.
    let mut first = Memory(whole.clone());
    frames::as_fragment4(&mut first.0, 0, true);
    translate4(&mut first, Side::Source, GUEST, slot).expect("translated");
    let mut translated = Memory(whole);
    translate4(&mut translated, Side::Source, GUEST, slot).expect("translated");
    assert_eq!(first.0[34..], translated.0[34..]);
}

#[test]
fn ipv6_fragments_are_found_behind_their_header() {
    let slot = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    for (place, mended) in [(0_u16, true), (185, false)] {
        let mut frame = frames::v6(GUEST6, [0x20; 16], Carried::Udp, &[7; 32]);
        let [a, b] = (place << 3 | 1).to_be_bytes();
        frame.splice(54..54, [17, 0, a, b, 0, 0, 0, 1]);
        frame[20] = 44;
        frame[19] += 8;
        let mut frame = Memory(frame);
        let body = frame.0[62..].to_vec();
        assert_eq!(translate6(&mut frame, Side::Source, GUEST6, slot), Ok(()));
        assert_eq!(frame.0[62..] != body, mended, "offset {place}: the transport's bytes");
    }
}

#[test]
fn what_is_not_the_slots_is_refused_and_left_alone() {
    let stranger = frames::v4([10, 0, 0, 1], [192, 0, 2, 1], Carried::Tcp, b"x");
    let mut frame = Memory(stranger.clone());
    assert_eq!(translate4(&mut frame, Side::Source, GUEST, [100, 64, 0, 2]), Err(DropReason::SourceAddress));
    assert_eq!(translate4(&mut frame, Side::Destination, GUEST, GUEST), Err(DropReason::DestinationAddress));
    assert_eq!(frame.0, stranger);

    let other = frames::v4([9, 9, 9, 9], [8, 8, 8, 8], Carried::Udp, b"not ours");
    let mut error = Memory(frames::error4([10, 0, 0, 1], [100, 64, 0, 2], 3, &other[14..]));
    let verdict = translate4(&mut error, Side::Destination, [100, 64, 0, 2], GUEST);
    assert_eq!(verdict, Err(DropReason::DestinationAddress), "an error about another's packet");
}

#[test]
fn headers_that_hide_the_transport_are_refused() {
    let mut routed = frames::v6(GUEST6, [0x20; 16], Carried::Udp, b"x");
    routed[20] = 43;
    assert_eq!(headers::ipv6(&Memory(routed), 14).err(), Some(DropReason::Extension));
    let mut deep = frames::v6(GUEST6, [0x20; 16], Carried::Udp, b"x");
    deep[20] = 60;
    deep.splice(54..54, [60, 0, 1, 4, 0, 0, 0, 0].repeat(5));
    assert_eq!(headers::ipv6(&Memory(deep), 14).err(), Some(DropReason::Extension));
    let mut short = frames::v4(GUEST, [192, 0, 2, 1], Carried::Udp, b"x");
    short[14] = 0x44;
    assert_eq!(headers::ipv4(&Memory(short), 14).err(), Some(DropReason::Malformed));
}
