//! The DHCP answers that a guest gets from the program on its tap, one row per message and state of RFC 2131.

#[path = "common/frames.rs"]
mod frames;
mod test_run;

use frames::{GATEWAY_MAC, GUEST_MAC, adds_up, ends};
use netslot::bpf::Program;
use netslot_abi::DropReason;
use test_run::{Bench, GUEST, OK, REDIRECT};

const GATEWAY: [u8; 4] = [172, 16, 0, 1];
const XID: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

/// A client's message; `options` are what follows option 53.
fn message(kind: u8, ciaddr: [u8; 4], flags: u8, options: &[u8]) -> Vec<u8> {
    let mut bootp = vec![0; 236];
    bootp[..4].copy_from_slice(&[1, 1, 6, 0]);
    bootp[4..8].copy_from_slice(&XID);
    bootp[8] = 3;
    bootp[10] = flags;
    bootp[12..16].copy_from_slice(&ciaddr);
    bootp[28..34].copy_from_slice(&GUEST_MAC);
    bootp.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
    bootp.extend(options);
    bootp.push(255);
    bootp.resize(bootp.len().max(300), 0);
    let to = if ciaddr == [0; 4] { [255; 4] } else { GATEWAY };
    frames::udp4(ciaddr, to, (68, 67), &bootp)
}

/// An answer, taken apart.
struct Answer {
    to: String,
    mac: [u8; 6],
    bootp: Vec<u8>,
    options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    fn read(frame: &[u8]) -> Self {
        adds_up(frame);
        let bootp = frame[42..].to_vec();
        let (mut at, mut options) = (240, Vec::new());
        while bootp[at] != 255 {
            if bootp[at] == 0 {
                at += 1;
                continue;
            }
            let len = usize::from(bootp[at + 1]);
            options.push((bootp[at], bootp[at + 2..at + 2 + len].to_vec()));
            at += 2 + len;
        }
        assert_eq!(at, bootp.len() - 1, "the end option ends the packet");
        assert_eq!(ends(frame).0, "172.16.0.1");
        assert_eq!((&frame[6..12], &frame[34..38]), (&GATEWAY_MAC[..], &[0, 67, 0, 68][..]));
        assert_eq!(frame[40..42], [0, 0], "no UDP checksum");
        assert_eq!((&bootp[..4], &bootp[4..8], &bootp[28..34]), (&[2, 1, 6, 0][..], &XID[..], &GUEST_MAC[..]));
        assert!(bootp[34..236].iter().all(|byte| *byte == 0), "nothing of the request is left");
        Self { to: ends(frame).1, mac: frame[..6].try_into().expect("six bytes"), bootp, options }
    }

    fn option(&self, code: u8) -> Option<&[u8]> {
        let mut found = self.options.iter().filter(|(c, _)| *c == code);
        let value = found.next().map(|(_, value)| &value[..]);
        assert!(found.next().is_none(), "option {code} twice");
        value
    }

    fn yours(&self) -> [u8; 4] {
        self.bootp[16..20].try_into().expect("four bytes")
    }
}

fn bench() -> Option<Bench> {
    let mut bench = Bench::new(|config| {
        config.guest.dns = vec![[9, 9, 9, 9].into()];
        config.guest.routes = ["0.0.0.0/0", "10.128.0.0/9"].map(|net| net.parse().expect("a network")).to_vec();
    })?;
    bench.lease(0, 1);
    Some(bench)
}

fn ask(bench: &mut Bench, request: &[u8]) -> Answer {
    let run = bench.run(Program::GuestIn, 0, request);
    assert_eq!(run.verdict, REDIRECT, "{:?}", bench.counters(0).drops);
    Answer::read(&run.frame)
}

#[test]
fn every_state_of_a_client_gets_its_answer() {
    let Some(mut bench) = bench() else { return };
    let (offer, ack, nak) = (2, 5, 6);
    let other: &[u8] = &[50, 4, 10, 0, 0, 9];
    let wants = [50, 4, 172, 16, 0, 2];
    let selects = [&wants[..], &[54, 4, 172, 16, 0, 1]].concat();
    let rows: &[(&str, Vec<u8>, u8, [u8; 4])] = &[
        ("discover", message(1, [0; 4], 0, &[55, 3, 1, 3, 6]), offer, GUEST),
        ("discover, wanting another", message(1, [0; 4], 0, other), offer, GUEST),
        ("request, selecting", message(3, [0; 4], 0, &selects), ack, GUEST),
        ("request, after a reboot", message(3, [0; 4], 0, &wants), ack, GUEST),
        ("request, renewing", message(3, GUEST, 0, &[]), ack, GUEST),
        ("request for another address", message(3, [0; 4], 0, other), nak, [0; 4]),
        ("inform", message(8, GUEST, 0, &[]), ack, [0; 4]),
    ];
    for (what, request, kind, yours) in rows {
        let answer = ask(&mut bench, request);
        assert_eq!((answer.option(53), answer.yours()), (Some(&[*kind][..]), *yours), "{what}");
        assert_eq!(answer.option(54), Some(&GATEWAY[..]), "{what}");
        let lease = (*kind != nak && !what.starts_with("inform")).then_some(&[0, 0, 0x0e, 0x10][..]);
        assert_eq!(answer.option(51), lease, "{what}");
        let routes: &[u8] = &[0, 172, 16, 0, 1, 9, 10, 128, 172, 16, 0, 1];
        let rest: &[(u8, &[u8])] =
            &[(1, &[255, 255, 255, 252]), (3, &GATEWAY), (6, &[9, 9, 9, 9]), (26, &[5, 0xaa]), (121, routes)];
        for (code, value) in rest {
            assert_eq!(answer.option(*code), (*kind != nak).then_some(*value), "{what}, option {code}");
        }
        let direct = (String::from("172.16.0.2"), GUEST_MAC);
        let broadcast = (String::from("255.255.255.255"), [0xff; 6]);
        assert_eq!((answer.to, answer.mac), if *kind == nak { broadcast } else { direct }, "{what}");
    }
    assert_eq!(bench.counters(0).dhcp_replies, rows.len() as u64);
}

#[test]
fn a_client_that_cannot_hear_unicast_gets_a_broadcast() {
    let Some(mut bench) = bench() else { return };
    let answer = ask(&mut bench, &message(1, [0; 4], 0x80, &[]));
    assert_eq!((&answer.to[..], answer.mac, answer.bootp[10]), ("255.255.255.255", [0xff; 6], 0x80));
}

#[test]
fn the_client_identifier_comes_back_up_to_its_limit() {
    let Some(mut bench) = bench() else { return };
    for len in [2, 7, 19, 64] {
        let id: Vec<u8> = (1..=len).collect();
        let answer = ask(&mut bench, &message(1, [0; 4], 0, &[&[61, len], &id[..]].concat()));
        assert_eq!(answer.option(61), Some(&id[..]));
    }
    let answer = ask(&mut bench, &message(1, [0; 4], 0, &[&[61, 65][..], &[7; 65]].concat()));
    assert_eq!(answer.option(61), None);
    let answer = ask(&mut bench, &message(1, [0; 4], 0, &[]));
    assert_eq!(answer.option(61), None, "nothing is left of the last one");
}

#[test]
fn what_asks_for_nothing_gets_nothing() {
    let Some(mut bench) = bench() else { return };
    let others_server = [50, 4, 172, 16, 0, 2, 54, 4, 10, 0, 0, 1];
    let with = |at: usize, byte: u8| {
        let mut frame = message(1, [0; 4], 0, &[]);
        frame[at] = byte;
        frame
    };
    let rows: &[(&str, Vec<u8>, DropReason)] = &[
        ("decline", message(4, [0; 4], 0, &[]), DropReason::DhcpUnanswered),
        ("release", message(7, GUEST, 0, &[]), DropReason::DhcpUnanswered),
        ("another server chosen", message(3, [0; 4], 0, &others_server), DropReason::DhcpUnanswered),
        ("a reply", with(42, 2), DropReason::DhcpUnanswered),
        ("no cookie", with(42 + 236, 0), DropReason::DhcpUnanswered),
        ("plain BOOTP", with(42 + 240, 0), DropReason::DhcpUnanswered),
        ("for another's MAC", with(42 + 33, 9), DropReason::SourceMac),
        ("cut short", message(1, [0; 4], 0, &[])[..200].to_vec(), DropReason::Malformed),
    ];
    for (what, frame, reason) in rows {
        assert_eq!(bench.dropped(Program::GuestIn, 0, frame), Some(*reason), "{what}");
    }
    let elsewhere = frames::udp4(GUEST, [192, 0, 2, 1], (68, 67), &[0; 300]);
    assert_eq!(bench.run(Program::GuestIn, 0, &elsewhere).verdict, OK, "another network's server");
}

#[test]
fn options_that_lie_about_their_length_harm_nobody() {
    let Some(mut bench) = bench() else { return };
    for options in [&[61, 64, 1][..], &[12, 255], &[0; 200], &[50, 200, 1, 1], &[61, 0], &[53, 9, 1]] {
        let request = message(1, [0; 4], 0, options);
        let run = bench.run(Program::GuestIn, 0, &request[..request.len().min(42 + 243 + options.len())]);
        assert!(matches!(run.verdict, REDIRECT | test_run::SHOT), "{options:?}: {}", run.verdict);
    }
}
