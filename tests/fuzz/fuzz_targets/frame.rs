//! Any datagram at the daemon's door: read or refused, and what is read has exactly the bytes it came in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netslot_protocol::error::Refusal;
use netslot_protocol::limits::FRAME_BYTES_MAX;
use netslot_protocol::{Request, frame};

fuzz_target!(|datagram: &[u8]| {
    let mut room = [0; FRAME_BYTES_MAX];
    match Request::read(datagram) {
        Ok((header, request)) => {
            let (version, id) = (header.version, header.id);
            let len = match request {
                Request::Hello(call) => frame::write_request(version, id, &call, &mut room),
                Request::Lease(call) => frame::write_request(version, id, &call, &mut room),
                Request::Bind(call) => frame::write_request(version, id, &call, &mut room),
                Request::Unbind(call) => frame::write_request(version, id, &call, &mut room),
                Request::Release(call) => frame::write_request(version, id, &call, &mut room),
                Request::Get(call) => frame::write_request(version, id, &call, &mut room),
                Request::List(call) => frame::write_request(version, id, &call, &mut room),
                Request::Status(call) => frame::write_request(version, id, &call, &mut room),
                Request::Watch(call) => frame::write_request(version, id, &call, &mut room),
            };
            assert_eq!(&room[..len.expect("it came in a frame")], datagram);
        }
        Err((header, error)) => {
            assert!(header.is_spoken());
            frame::write_refusal(header.version, header.id, &Refusal::from(error), &mut room).expect("fits");
        }
    }
});
