//! What is fed with any bytes, by libFuzzer (`tests/fuzz/run.sh`) and, for a bounded number of mutations, by the everyday
//! tests (`tests/mutations.rs`). Each target returns, or panics where something is wrong.

use netslot::config;
use netslot::config::parse::{Overrides, Source};
use netslot::ledger::{Effects, Ledger, Memory, Observed, Owner, Records, Settings, Store as _};
use netslot::netlink::forward::{Chain, Rule};
use netslot::netlink::nft::{self, Table};
use netslot::netlink::observed::{Address, Link, Neighbour, Route};
use netslot::netlink::read::{self, Attributes, Messages};
use netslot::netlink::tc::Shown;
use netslot::rules::{Image, Object, Replay, Ruleset};
use netslot::slot::SlotId;
use netslot::trace::{Direction, Hook, Mine, Seen, pcapng, select, summary};
use netslot_protocol::error::{self, Refusal};
use netslot_protocol::event::{Changed, Lagged};
use netslot_protocol::limits::FRAME_BYTES_MAX;
use netslot_protocol::snapshot::{Record, SnapshotHeader};
use netslot_protocol::{Body, Request, decode, encode, frame, reply};
use zerocopy::FromBytes as _;

/// A target: its name, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 8] = [
    ("frame", frame),
    ("body", body),
    ("netlink", netlink),
    ("rules", rules),
    ("image", image),
    ("config", config),
    ("ledger", ledger),
    ("trace", trace),
];

/// Any frame of a device, at a trace: a line of plain characters, whatever is kept of it, and somebody's or not.
pub fn trace(frame: &[u8]) {
    const TUNNEL: u16 = 6_081;
    let line = summary::line(frame, frame.len(), TUNNEL);
    assert!(!line.is_empty() && line.chars().all(|c| c.is_ascii() && !c.is_control()), "{line:?}");
    let mine = Mine {
        v4: vec![[100, 64, 0, 2]],
        v6: vec![[0xfd; 16]],
        port: TUNNEL,
        tunnels: vec![select::Tunnel { vni: 77, v4: [10, 1, 2, 3], v6: [0xfd; 16] }],
    };
    let _ = mine.has(frame);
    let bytes = frame.to_vec();
    let seen = Seen { time_ns: 1, hook: Hook::Uplink, direction: Direction::In, length: bytes.len(), bytes };
    assert_eq!(pcapng::packet(&[Hook::Uplink], &seen).len() % 4, 0);
}

/// Any datagram at the daemon's door: read or refused, and what is read has exactly the bytes it came in.
pub fn frame(datagram: &[u8]) {
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
}

/// Any bytes as any body a client reads: the first byte picks which; what is read has exactly the bytes it came in.
pub fn body(input: &[u8]) {
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
}

fn there_and_back<B: Body>(bytes: &[u8]) {
    if let Ok(body) = decode::<B>(bytes) {
        let mut room = [0; FRAME_BYTES_MAX];
        let len = encode(&body, &mut room).expect("it came in a frame");
        assert_eq!(&room[..len], bytes);
    }
}

/// Any datagram from the kernel: acks, and dumps of devices, addresses, routes, neighbours, filters, tables.
pub fn netlink(datagram: &[u8]) {
    for message in Messages(datagram) {
        let Ok(message) = message else { return };
        let _ = read::answer(&message);
        let _ = Link::read(&message);
        let _ = Address::read(&message);
        let _ = Route::read(&message);
        let _ = Neighbour::read(&message);
        let _ = Shown::read(&message);
        let _ = Chain::read(&message);
        let _ = Rule::read(&message, "slot");
        if let Some(table) = Table::read(&message) {
            nft::delete_table(&mut netslot::netlink::Batch::new(), &table);
        }
        for (_, value) in Attributes(message.body) {
            Attributes(value).for_each(drop);
        }
    }
}

/// Any dump of nf_tables: captured or refused; what is captured can be named, and replayed as one transaction.
pub fn rules(datagram: &[u8]) {
    let object = |(kind, family, attributes): (u8, u8, &[u8])| Object { kind, family, attributes: attributes.to_vec() };
    let messages = Messages(datagram).filter_map(Result::ok);
    let dump: Vec<Object> = messages.filter_map(|message| nft::parts(&message).map(object)).collect();
    match Ruleset::of_dump(&dump) {
        Ok(rules) => replayed(&Image {
            purpose: netslot::rules::Purpose::Slot,
            sources: Vec::new(),
            features: rules.features(),
            rules,
        }),
        Err(error) => drop(error.to_string()),
    }
}

fn replayed(image: &Image) {
    (0..image.rules.objects().len()).for_each(|index| drop(image.rules.name(index)));
    let bytes = image.to_bytes().expect("an input is small");
    assert_eq!(Image::from_bytes(&bytes).expect("as it was written"), *image);
    if let Ok(replay) = Replay::new(image) {
        assert!(replay.objects() == image.rules.objects().len() && replay.tables().len() <= replay.objects());
    }
}

/// Any image of rules, and the same bytes with a frame whose length and checksum fit: read as what was written, or refused.
pub fn image(bytes: &[u8]) {
    if let Ok(whole) = Image::from_bytes(bytes) {
        replayed(&whole);
    }
    let records = bytes.get(16..bytes.len().saturating_sub(16)).unwrap_or_default();
    let length = u32::try_from(records.len()).expect("an input is small");
    let mut framed = [&b"NSRULES\n"[..], &1_u32.to_le_bytes(), &length.to_le_bytes(), records].concat();
    // FNV-1a, 128 bits.
    let sum = framed.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |sum, byte| {
        (sum ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    framed.extend(sum.to_le_bytes());
    match Image::from_bytes(&framed) {
        Ok(image) => replayed(&image),
        Err(error) => drop(error.to_string()),
    }
}

/// Any configuration: taken or refused with a reason; what is taken is printed as one that says the same.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let source = |text: &str| Source { path: "fuzz.toml".into(), text: text.into() };
    match config::parse::parse(&[source(text)], &Overrides::default()) {
        Ok(loaded) => drop(format!("{:?}", loaded.config)),
        Err(refusals) => {
            assert!(!refusals.is_empty());
            refusals.iter().for_each(|refusal| assert!(!refusal.to_string().is_empty()));
        }
    }
}

/// Any records, as a crash, another version or an admin's hand may have left them: taken over without a panic, within the
/// ledger's invariants (checked after each command where debug assertions are on), and of use afterwards.
pub fn ledger(bytes: &[u8]) {
    const SLOTS: u32 = 4;
    let mut store = Records(Memory::new(SLOTS));
    let mut rest = bytes;
    for slot in SlotId::first(SLOTS) {
        let (record, binding) = (take(&mut rest), take(&mut rest));
        store.store_ledger(slot, &zerocopy::transmute!(record));
        store.store_binding(slot, &zerocopy::transmute!(binding)).expect("memory takes it");
    }
    let settings = Settings::of(&config::Config { slots: 3, slots_max: SLOTS, ..config::Config::default() });
    let mut fx = Effects::with_capacity(SLOTS, 8);
    let absent = rest.first().copied().unwrap_or(0xff);
    let observed = |slot: SlotId| if slot.number() == u32::from(absent) { Observed::Absent } else { Observed::Whole };
    let mut ledger = Ledger::open(store, settings, observed, &[], 1 << 40, &mut fx);
    let holder = ledger.connect(Owner { uid: 7, gid: 7, pid: 7, inode: 7 }).expect("room");
    ledger.disconnect(holder, 1 << 41, &mut fx);
    ledger.tick(1 << 41, &mut fx);
}

fn take(rest: &mut &[u8]) -> [u8; 64] {
    let mut record = [0; 64];
    let (head, tail) = rest.split_at((*rest).len().min(64));
    record[..head.len()].copy_from_slice(head);
    *rest = tail;
    record
}
