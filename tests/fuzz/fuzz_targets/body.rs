//! Any bytes as any body a client reads: the first byte picks which; what is read has exactly the bytes it came in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netslot_protocol::event::{Changed, Lagged};
use netslot_protocol::limits::FRAME_BYTES_MAX;
use netslot_protocol::snapshot::{Record, SnapshotHeader};
use netslot_protocol::{Body, decode, encode, error, reply};
use zerocopy::FromBytes;

fn there_and_back<B: Body>(bytes: &[u8]) {
    if let Ok(body) = decode::<B>(bytes) {
        let mut room = [0; FRAME_BYTES_MAX];
        let len = encode(&body, &mut room).expect("it came in a frame");
        assert_eq!(&room[..len], bytes);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    match which {
        0 => there_and_back::<reply::Hello>(bytes),
        1 => there_and_back::<reply::Lease>(bytes),
        2 => there_and_back::<reply::Get>(bytes),
        3 => there_and_back::<reply::List>(bytes),
        4 => there_and_back::<reply::Status>(bytes),
        5 => there_and_back::<error::Refusal>(bytes),
        6 => there_and_back::<Changed>(bytes),
        7 => there_and_back::<Lagged>(bytes),
        8 => {
            if let Ok((header, rest)) = SnapshotHeader::read_from_prefix(bytes) {
                let _ = header.check(32 + rest.len() as u64);
            }
        }
        _ => {
            if let Ok((record, _)) = Record::read_from_prefix(bytes)
                && let Ok(slot) = record.read()
            {
                // Reserved bytes and fields that mean nothing now are read over, never written.
                assert_eq!(slot.record().read(), Ok(slot));
            }
        }
    }
});
