//! Frames that a hostile or broken client sends: each is refused for its own reason, and none panics or allocates.

use crate::samples;
use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::frame::{self, FrameError, Header};
use netslot_protocol::limits::{FRAME_BYTES_MAX, HEADER_BYTES, REQUEST_BYTES_MAX, VNI_MAX, WAIT_MS_MAX};
use netslot_protocol::request::{self, RequestError};
use netslot_protocol::{Binding, BodyError, Call, Ip, Kind, LeaseId, Request, Text, decode, reply};

fn framed(call: &impl Call, version: u16) -> Vec<u8> {
    let mut room = [0; FRAME_BYTES_MAX];
    let len = frame::write_request(version, 77, call, &mut room).expect("fits");
    room[..len].to_vec()
}

/// A frame of that kind with that body, its length right.
fn raw(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    frame::join(Header { version: 1, kind, id: 77 }, &(), &mut bytes).expect("room for a header");
    bytes[8] = u8::try_from(body.len()).expect("a short body");
    bytes.extend(body);
    bytes
}

fn refused(datagram: &[u8]) -> (u32, RequestError) {
    let (header, error) = Request::read(datagram).expect_err("was taken");
    assert!(header.is_spoken(), "the refusal's version must be one that a client can read");
    (header.id, error)
}

#[test]
fn a_datagram_that_is_no_frame_is_refused_under_id_0() {
    let whole = framed(&samples::lease(), 1);
    let cases: [(Vec<u8>, RequestError); 7] = [
        (vec![], FrameError::Short(0).into()),
        (whole[..HEADER_BYTES - 1].to_vec(), FrameError::Short(15).into()),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), FrameError::Magic(*b"GET ").into()),
        // Half a frame.
        (whole[..20].to_vec(), FrameError::Length { said: 14, has: 4 }.into()),
        // A byte more than announced.
        ([&*whole, &[0]].concat(), FrameError::Length { said: 14, has: 15 }.into()),
        // A length past every buffer.
        ([&whole[..8], &[0xff; 4], &whole[12..]].concat(), FrameError::Length { said: u32::MAX, has: 14 }.into()),
        (vec![0; REQUEST_BYTES_MAX + 1], RequestError::TooLarge(REQUEST_BYTES_MAX + 1)),
    ];
    for (datagram, error) in cases {
        assert_eq!(refused(&datagram), (0, error), "{datagram:02x?}");
    }
}

#[test]
fn a_body_that_is_not_its_kinds_is_refused_under_its_id() {
    let body = |kind: Kind, error| RequestError::Body { kind, error };
    let release = |bytes: &[u8]| raw(0x23, bytes);
    let lease = |tag: &[u8], policy: u8, fds: &[u8]| raw(0x20, &[&[1, 0], tag, &[policy], fds].concat());
    let cases = [
        // A request without its body, cut inside a number, and with a byte too many.
        (release(&[]), body(Kind::Release, BodyError::Short)),
        (release(&[0xfb, 0x05]), body(Kind::Release, BodyError::Short)),
        (release(&[5, 7, 0]), body(Kind::Release, BodyError::Trailing(1))),
        (raw(0x31, &[0]), body(Kind::List, BodyError::Trailing(1))),
        // Slot 5 in three bytes; generation 250 in nine; a slot of 64 bits; the marker that no number has.
        (release(&[0xfb, 5, 0, 7]), body(Kind::Release, BodyError::NotShortest)),
        (release(&[5, 0xfd, 250, 0, 0, 0, 0, 0, 0, 0]), body(Kind::Release, BodyError::NotShortest)),
        (release(&[0xfd, 1, 0, 0, 0, 1, 0, 0, 0, 7]), body(Kind::Release, BodyError::TooWide)),
        (release(&[0xff, 7]), body(Kind::Release, BodyError::TooWide)),
        // A tag of 25 bytes, of 2^63 bytes, cut short, in no UTF-8.
        (lease(&[[25].as_slice(), &[b'a'; 25]].concat(), 0, &[0, 0]), body(Kind::Lease, BodyError::TooLong)),
        (lease(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80], 0, &[0, 0]), body(Kind::Lease, BodyError::TooLong)),
        (lease(&[24, b'a'], 0, &[0, 0]), body(Kind::Lease, BodyError::Short)),
        (lease(&[2, 0xc3, 0x28], 0, &[0, 0]), body(Kind::Lease, BodyError::Utf8)),
        // Policy 3, a boolean of 2, an address family of 2, an option of 2.
        (lease(&[0], 3, &[0, 0]), body(Kind::Lease, BodyError::Tag)),
        (lease(&[0], 0, &[2, 0]), body(Kind::Lease, BodyError::Tag)),
        (raw(0x21, &[1, 1, 1, 2, 1, 1, 1, 1, 0, 0]), body(Kind::Bind, BodyError::Tag)),
        (raw(0x21, &[1, 1, 1, 0, 1, 1, 1, 1, 2, 0]), body(Kind::Bind, BodyError::Tag)),
        // Numbers of nothing, of a reply, of an event, of an error.
        (raw(0x24, &[]), RequestError::Kind(0x24)),
        (raw(0x8020, &[]), RequestError::Kind(0x8020)),
        (raw(0x4040, &[]), RequestError::Kind(0x4040)),
        (raw(0x8000, &[]), RequestError::Kind(0x8000)),
    ];
    for (datagram, error) in cases {
        assert_eq!(refused(&datagram), (77, error), "{datagram:02x?}");
    }
}

#[test]
fn arguments_outside_their_bounds_are_refused() {
    let lease = samples::lease();
    let bind = |binding| framed(&request::Bind { lease: LeaseId { slot: 1, generation: 1 }, binding }, 1);
    let good = samples::binding();
    let wide = samples::binding_ipv6();
    let addr = |text: &str| text.parse().expect("an address");
    let cases = [
        (framed(&request::Lease { count: 0, ..lease }, 1), RequestError::Count(0)),
        (framed(&request::Lease { count: 65, ..lease }, 1), RequestError::Count(65)),
        (framed(&request::Lease { wait_ms: WAIT_MS_MAX + 1, ..lease }, 1), RequestError::Wait(WAIT_MS_MAX + 1)),
        (framed(&request::Lease { tag: samples::text("a\u{1b}[2J"), ..lease }, 1), RequestError::Tag),
        (bind(Binding { vni: 0, ..good }), RequestError::Vni(0)),
        (bind(Binding { vni: VNI_MAX + 1, ..good }), RequestError::Vni(VNI_MAX + 1)),
        (bind(Binding { tenant_v4: None, ..good }), RequestError::NoTenantAddress),
        (bind(Binding { remote: Ip::V4([0; 4]), ..good }), RequestError::NotUnicast("remote", addr("0.0.0.0"))),
        (
            bind(Binding { remote: Ip::V4([255; 4]), ..good }),
            RequestError::NotUnicast("remote", addr("255.255.255.255")),
        ),
        (
            bind(Binding { tenant_v4: Some([224, 0, 0, 1]), ..good }),
            RequestError::NotUnicast("tenant address", addr("224.0.0.1")),
        ),
        (bind(Binding { tenant_v6: Some([0; 16]), ..wide }), RequestError::NotUnicast("tenant address", addr("::"))),
    ];
    for (datagram, error) in cases {
        assert_eq!(refused(&datagram), (77, error));
    }
}

#[test]
fn a_version_that_is_not_spoken_is_refused_but_hello_is_always_read() {
    for version in [0, 2, u16::MAX] {
        assert_eq!(refused(&framed(&samples::lease(), version)), (77, RequestError::Version(version)));
        let hello = Request::read(&framed(&samples::hello(), version));
        assert!(matches!(hello, Ok((Header { id: 77, .. }, Request::Hello(_)))), "{hello:?}");
    }
    let hello = |version_min, version_max| framed(&request::Hello { version_min, version_max, ..samples::hello() }, 9);
    assert_eq!(refused(&hello(2, 9)), (77, RequestError::VersionRange(2, 9)));
    assert_eq!(refused(&hello(0, 0)), (77, RequestError::VersionRange(0, 0)));
    assert_eq!(refused(&hello(2, 1)), (77, RequestError::VersionRange(2, 1)));
    assert!(Request::read(&hello(0, 9)).is_ok());
}

#[test]
fn a_refusal_carries_its_number_and_its_words() {
    let refusal = Refusal::from(RequestError::Count(65));
    assert_eq!(refusal.code, ErrorCode::BadArgument);
    assert_eq!(&*refusal.detail, "count 65 is not 1 to 64: ask several times for more slots");
    assert_eq!((refusal.version_min, refusal.version_max), (1, 1));
    // Longer than any detail: cut, not lost.
    let long = Refusal::new(ErrorCode::Internal, format_args!("{}", "x".repeat(300)));
    assert_eq!(long.detail.len(), 255);
}

#[test]
fn a_list_or_text_past_its_bound_is_refused_by_its_length_alone() {
    let mut body = vec![0; FRAME_BYTES_MAX];
    let len = netslot_protocol::encode(&reply::Lease::default(), &mut body).expect("fits");
    body.truncate(len);
    assert!(decode::<reply::Lease>(&body).is_ok());
    // 64 grants fit, and are not there; 65 do not fit.
    *body.last_mut().expect("the list's length") = 64;
    assert_eq!(decode::<reply::Lease>(&body), Err(BodyError::Short));
    *body.last_mut().expect("the list's length") = 65;
    assert_eq!(decode::<reply::Lease>(&body), Err(BodyError::TooLong));
    assert_eq!(decode::<Text<8>>(&[9; 10]), Err(BodyError::TooLong));
}
