//! The golden bytes of `vectors/`: each message encodes to them, and they decode to it.
//!
//! The files are part of the protocol's description. A test that fails here has found a changed wire format: that needs
//! a new protocol version, and the old files stay as they are.

use crate::samples::*;
use netslot_protocol::error::{ERROR_KIND, ErrorCode, Refusal};
use netslot_protocol::event::{CHANGED_KIND, Event, LAGGED_KIND};
use netslot_protocol::frame::{self, Header};
use netslot_protocol::limits::{FRAME_BYTES_MAX, RECORD_BYTES, SNAPSHOT_HEADER_BYTES};
use netslot_protocol::snapshot::{Record, Slot, SnapshotHeader};
use netslot_protocol::{Body, Call, LeaseId, Request, decode, request};
use zerocopy::{FromBytes, IntoBytes};

/// The bytes of a vector file: pairs of hexadecimal digits; '#' begins a comment.
fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/vectors/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    file.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|e| panic!("{path}: '{pair}': {e}")))
        .collect()
}

#[track_caller]
fn both_ways<B: Body + PartialEq + std::fmt::Debug>(name: &str, kind: u16, id: u32, body: &B) {
    let golden = vector(name);
    let header = Header { version: 1, kind, id };
    let mut room = [0; FRAME_BYTES_MAX];
    let len = frame::join(header, body, &mut room).expect("every message fits");
    assert_eq!(room[..len], golden, "{name}: encoded");
    let (read, bytes) = frame::split(&golden).expect("a frame");
    assert_eq!(read, header, "{name}: header");
    assert_eq!(decode::<B>(bytes).as_ref(), Ok(body), "{name}: decoded");
}

/// As the daemon reads it, too.
#[track_caller]
fn request<C: Call + PartialEq + std::fmt::Debug>(name: &str, id: u32, call: &C, as_read: Request) {
    both_ways(name, C::KIND.request(), id, call);
    let header = Header { version: 1, kind: C::KIND.request(), id };
    assert_eq!(Request::read(&vector(name)), Ok((header, as_read)), "{name}: read");
}

fn reply<C: Call<Reply: PartialEq + std::fmt::Debug>>(name: &str, id: u32, reply: &C::Reply) {
    both_ways(name, C::KIND.reply(), id, reply);
}

#[test]
fn requests() {
    let (a, b) = (LeaseId { slot: 42, generation: 7 }, LeaseId { slot: 42, generation: 65_536 });
    let bind = request::Bind { lease: a, binding: binding() };
    let bind_ipv6 = request::Bind { lease: b, binding: binding_ipv6() };
    let release = request::Release { lease: LeaseId { slot: 42, generation: 1 << 32 } };
    let (unbind, get) = (request::Unbind { lease: a }, request::Get { slot: 250 });
    request("hello", 1, &hello(), Request::Hello(hello()));
    request("lease", 2, &lease(), Request::Lease(lease()));
    request("bind", 3, &bind, Request::Bind(bind));
    request("bind-ipv6", 4, &bind_ipv6, Request::Bind(bind_ipv6));
    request("unbind", 5, &unbind, Request::Unbind(unbind));
    request("release", 6, &release, Request::Release(release));
    request("get", 7, &get, Request::Get(get));
    request("list", 8, &request::List, Request::List(request::List));
    request("status", 9, &request::Status, Request::Status(request::Status));
    request("watch", 10, &request::Watch, Request::Watch(request::Watch));
}

#[test]
fn replies() {
    reply::<request::Hello>("hello-reply", 1, &hello_reply());
    reply::<request::Lease>("lease-reply", 2, &lease_reply());
    reply::<request::Lease>("lease-reply-ipv4", u32::MAX, &lease_reply_ipv4());
    reply::<request::Bind>("bind-reply", 3, &());
    reply::<request::Unbind>("unbind-reply", 5, &());
    reply::<request::Release>("release-reply", 6, &());
    reply::<request::Get>("get-reply", 7, &get_reply());
    reply::<request::List>("list-reply", 8, &netslot_protocol::reply::List { bytes: 544 });
    reply::<request::Status>("status-reply", 9, &status_reply());
    reply::<request::Watch>("watch-reply", 10, &());
}

#[test]
fn events_and_errors() {
    both_ways("event-changed", CHANGED_KIND, 10, &changed());
    both_ways("event-lagged", LAGGED_KIND, 10, &lagged());
    for (name, event) in [("event-changed", Event::Changed(changed())), ("event-lagged", Event::Lagged(lagged()))] {
        let mut room = [0; FRAME_BYTES_MAX];
        let len = event.write(1, 10, &mut room).expect("fits");
        assert_eq!(room[..len], vector(name));
        let (header, body) = frame::split(&room[..len]).expect("a frame");
        assert_eq!(Event::read(header.kind, body), Ok(Some(event)));
    }
    both_ways("error", ERROR_KIND, 6, &refusal());
    both_ways("error-version", ERROR_KIND, 11, &Refusal::new(ErrorCode::UnsupportedVersion, format_args!("")));
}

#[test]
fn snapshot() {
    let golden = vector("snapshot");
    let mut bytes = SnapshotHeader::new(4, 90_000_000_000_000).as_bytes().to_vec();
    for slot in slots() {
        bytes.extend(slot.record().as_bytes());
    }
    assert_eq!(bytes, golden);

    let header = SnapshotHeader::read_from_bytes(&golden[..SNAPSHOT_HEADER_BYTES]).expect("that many bytes");
    assert_eq!(header.check(golden.len() as u64), Ok((4, 90_000_000_000_000)));
    let records = golden[SNAPSHOT_HEADER_BYTES..].chunks_exact(RECORD_BYTES);
    let read: Vec<Slot> = records
        .map(|bytes| Record::read_from_bytes(bytes).expect("that many bytes").read().expect("a golden record"))
        .collect();
    assert_eq!(read, slots());
}

/// A file that no test reads would be a promise that nobody keeps.
#[test]
fn every_file_is_checked() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors");
    let source = include_str!("vectors.rs");
    for file in std::fs::read_dir(dir).expect("the vectors") {
        let name = file.expect("an entry").file_name().into_string().expect("text");
        let stem = name.strip_suffix(".hex").expect("only .hex files");
        assert!(source.contains(&format!("\"{stem}\"")), "no test reads {name}");
    }
}
