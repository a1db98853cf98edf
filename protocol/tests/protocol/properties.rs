//! What holds for every value and for every mangled frame: nothing is lost on the way, nothing panics, and no two byte
//! strings mean the same.

use crate::strategy;

use netslot_protocol::event::Event;
use netslot_protocol::frame::{self, Header};
use netslot_protocol::limits::FRAME_BYTES_MAX;
use netslot_protocol::snapshot::{Record, SnapshotHeader};
use netslot_protocol::{Body, Request, decode, encode, error, reply, request};
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn encoded(body: &impl Body) -> Vec<u8> {
    let mut room = [0; FRAME_BYTES_MAX];
    let len = encode(body, &mut room).expect("every message fits a frame");
    room[..len].to_vec()
}

/// Back and forth; cut short: refused; with one byte changed: refused, or another value with exactly those bytes.
fn survives<B: Body + PartialEq + std::fmt::Debug>(body: &B, at: usize, to: u8) -> Result<(), TestCaseError> {
    let mut bytes = encoded(body);
    let decoded = decode::<B>(&bytes);
    prop_assert_eq!(decoded.as_ref(), Ok(body));
    let at = at % bytes.len();
    prop_assert!(decode::<B>(&bytes[..at]).is_err(), "{} of {} bytes were taken", at, bytes.len());
    bytes[at] = to;
    if let Ok(other) = decode::<B>(&bytes) {
        prop_assert_eq!(encoded(&other), bytes);
    }
    Ok(())
}

macro_rules! every_message_survives {
    ($($name:ident: $strategy:expr),+ $(,)?) => {
        proptest! {
            $(#[test]
            fn $name(body in $strategy, at in any::<usize>(), to in any::<u8>()) {
                survives(&body, at, to)?;
            })+
        }
    };
}

every_message_survives! {
    hello: strategy::hello(),
    hello_reply: strategy::hello_reply(),
    lease: strategy::lease(),
    lease_reply: strategy::lease_reply(),
    bind: (strategy::lease_id(), strategy::binding()).prop_map(|(lease, binding)| request::Bind { lease, binding }),
    unbind: strategy::lease_id().prop_map(|lease| request::Unbind { lease }),
    release: strategy::lease_id().prop_map(|lease| request::Release { lease }),
    get: any::<u32>().prop_map(|slot| request::Get { slot }),
    get_reply: strategy::get_reply(),
    list_reply: strategy::number().prop_map(|bytes| reply::List { bytes }),
    status_reply: strategy::status_reply(),
    changed: strategy::changed(),
    lagged: strategy::lagged(),
    refusal: strategy::refusal(),
}

fn read_everything(bytes: &[u8]) {
    let _ = Request::read(bytes);
    let _ = frame::split(bytes);
    let _ = Event::read(0x4040, bytes);
    let _ = Event::read(0x4041, bytes);
    let _ = decode::<reply::Hello>(bytes);
    let _ = decode::<reply::Lease>(bytes);
    let _ = decode::<reply::Get>(bytes);
    let _ = decode::<reply::Status>(bytes);
    let _ = decode::<error::Refusal>(bytes);
    if let Ok((header, _)) = SnapshotHeader::read_from_prefix(bytes) {
        let _ = header.check(bytes.len() as u64);
    }
    if let Ok((record, _)) = Record::read_from_prefix(bytes) {
        let _ = record.read();
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    /// The header is right more often than random bytes would make it.
    #[test]
    fn no_body_panics(kind in 0..0x50_u16, version in 0..3_u16, body in vec(any::<u8>(), 0..110)) {
        let mut bytes = [0; 16].to_vec();
        frame::join(Header { version, kind, id: 1 }, &(), &mut bytes).expect("room for a header");
        bytes[8] = u8::try_from(body.len()).expect("below 110");
        bytes.extend(body);
        read_everything(&bytes);
    }

    #[test]
    fn a_record_says_what_it_was_made_from(slot in strategy::slot(), at in 0..128_usize, to in any::<u8>()) {
        let mut slot = slot;
        // What is not there is stored as zero; a record cannot tell an absent address from one that a set bit denies.
        let record = slot.record();
        prop_assert_eq!(record.read(), Ok(slot));
        slot.generation ^= 1;
        prop_assert_ne!(slot.record(), record);
        let mut bytes: [u8; 128] = zerocopy::transmute!(record);
        bytes[at] = to;
        let _ = Record::read_from_bytes(bytes.as_bytes()).expect("that many bytes").read();
    }
}
