//! The fuzz targets on stable Rust, every day: so many mutations of real inputs, the same ones each time. A failure prints
//! the input; `tests/fuzz/run.sh` looks further, for as long as one likes.

#[path = "common/frames.rs"]
mod built;
#[path = "common/random.rs"]
mod random;
#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;

use netslot::netlink::nft::message;
use netslot::netlink::{Batch, route};
use netslot::rules::compile::{self, Order};
use netslot::rules::image::Source;
use netslot::rules::{Image, Object, Purpose, RulesError, Ruleset};
use netslot_protocol::{Binding, Ip, LeaseId, Policy, Text, VERSION_MAX, frame, request};
use random::Random;

/// Mutations of each seed of each target; `MUTATIONS` says another number.
const MUTATIONS: u64 = 500;

/// Changes an input here and there: bits, numbers at their bounds, parts left out, doubled, and taken from another.
fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.place(4) {
        let at = random.place(input.len());
        let end = at + random.place((input.len() - at).min(24) + 1);
        match random.place(8) {
            0 if !input.is_empty() => input[at] ^= 1 << random.place(8),
            1 if !input.is_empty() => input[at] = [0, 1, 4, 0x7f, 0x80, 0xff][random.place(6)],
            2 if input.len() - at >= 2 => {
                input[at..at + 2].copy_from_slice(&[[0, 0], [0xff, 0xff], [3, 0]][random.place(3)])
            }
            3 if input.len() - at >= 4 => input[at..at + 4].copy_from_slice(&[[0; 4], [0xff; 4]][random.place(2)]),
            4 => drop(input.drain(at..end)),
            5 => {
                let part = input[at..end].to_vec();
                input.splice(end..end, part);
            }
            6 => {
                let from = random.place(other.len());
                let to = from + random.place((other.len() - from).min(64) + 1);
                input.splice(at..end, other[from..to].iter().copied());
            }
            _ => input.truncate(input.len() - random.place(input.len().min(40))),
        }
    }
}

fn run((name, target): targets::Target, seeds: &[Vec<u8>]) {
    let mutations = std::env::var("MUTATIONS").map_or(MUTATIONS, |text| text.parse().expect("a number"));
    assert!(!seeds.is_empty(), "{name} has nothing to begin with");
    // A message of each panic would fill the terminal before the one that counts.
    let tried = |input: &[u8]| {
        let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
        assert!(outcome.is_ok(), "{name} panics on {input:02x?}");
    };
    let mut random = Random(7);
    for seed in seeds {
        tried(seed);
        for _ in 0..mutations {
            let mut input = seed.clone();
            let other = random.place(seeds.len());
            mutate(&mut random, &mut input, &seeds[other]);
            tried(&input);
        }
    }
    if let Ok(corpus) = std::env::var("CORPUS") {
        fs::create_dir_all(format!("{corpus}/{name}")).expect("a directory");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(format!("{corpus}/{name}/seed-{number}"), seed).expect("written");
        }
    }
}

fn seeds_of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "frame" => frames(),
        "body" => bodies(),
        "netlink" => netlink(),
        "rules" => nft_dumps(),
        "image" => images(),
        "config" => vec![include_bytes!("../systemd/netslot.toml").to_vec(), uncommented()],
        "ledger" => ledgers(),
        "trace" => packets(),
        _ => panic!("{name} has no seeds"),
    }
}

#[test]
fn no_mutation_of_a_real_input_is_taken_for_what_it_is_not() {
    for target in targets::ALL {
        run(target, &seeds_of(target.0));
    }
}

/// Frames of a slot: plain, about another, in the tunnel, and a DHCP request.
fn packets() -> Vec<Vec<u8>> {
    let (guest, far) = ([172, 16, 0, 2], [192, 0, 2, 77]);
    let udp = built::v4(guest, far, built::Carried::Udp, &[7; 40]);
    let tunnelled = [&[1, 0, 0x65, 0x58, 0, 0, 77, 0, 0xff, 0xff, 0, 0][..], &udp].concat();
    let mut request = vec![0; 236];
    request.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 3, 50, 4, 172, 16, 0, 2, 255]);
    vec![
        built::v4(guest, far, built::Carried::Tcp, b"x"),
        built::v6([0xfd; 16], [0xfe; 16], built::Carried::Echo, b"x"),
        built::error4(far, guest, 3, &udp[14..]),
        built::error6([0xfd; 16], [0xfe; 16], 2, &built::v6([1; 16], [2; 16], built::Carried::Tcp, b"x")[14..]),
        built::udp4([198, 51, 100, 2], [198, 51, 100, 1], (50_000, 6_081), &tunnelled),
        built::udp4([0; 4], [255; 4], (68, 67), &request),
    ]
}

fn frames() -> Vec<Vec<u8>> {
    let written = |call: &dyn Fn(&mut [u8]) -> usize| {
        let mut room = [0; 4096];
        let len = call(&mut room);
        room[..len].to_vec()
    };
    let lease = LeaseId { slot: 3, generation: 9 };
    let binding = Binding { vni: 7, remote: Ip::V6([1; 16]), tenant_v4: Some([10, 0, 0, 1]), tenant_v6: Some([2; 16]) };
    let ask = request::Lease {
        count: 2,
        wait_ms: 5,
        tag: Text::cut("vm"),
        policy: Policy::OnExit,
        want_netns_fd: true,
        want_tap_fd: false,
        own_stack: true,
    };
    vec![
        written(&|room| frame::write_request(VERSION_MAX, 1, &ask, room).expect("fits")),
        written(&|room| frame::write_request(VERSION_MAX, 2, &request::Bind { lease, binding }, room).expect("fits")),
        written(&|room| frame::write_request(VERSION_MAX, 3, &request::Release { lease }, room).expect("fits")),
        written(&|room| frame::write_request(VERSION_MAX, 4, &request::Get { slot: 3 }, room).expect("fits")),
        written(&|room| frame::write_request(VERSION_MAX, 5, &request::Status, room).expect("fits")),
    ]
}

/// The protocol's golden vectors, each as the body that it is, for the first byte says which.
fn bodies() -> Vec<Vec<u8>> {
    const KINDS: [(&str, u8); 9] = [
        ("hello-reply", 0),
        ("lease-reply", 1),
        ("get-reply", 2),
        ("list-reply", 3),
        ("status-reply", 4),
        ("error", 5),
        ("event-changed", 6),
        ("event-lagged", 7),
        ("snapshot", 8),
    ];
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/protocol/vectors");
    let mut seeds = vec![[&[9][..], &[0; 256]].concat()];
    for entry in fs::read_dir(dir).expect("the vectors are there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((_, which)) = KINDS.iter().find(|(kind, _)| name.starts_with(kind)) else { continue };
        let text = fs::read_to_string(entry.path()).expect("readable");
        let words = text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_ascii_whitespace());
        let bytes: Vec<u8> = words.map(|word| u8::from_str_radix(word, 16).expect("hex")).collect();
        // The header is 16 bytes, the body follows.
        let body = if *which == 8 { &bytes[..] } else { &bytes[16..] };
        seeds.push([&[*which][..], body].concat());
    }
    assert!(seeds.len() > 8, "the vectors are there");
    seeds
}

/// What the kernel says of the namespace that the test runs in, and acks with its words.
fn netlink() -> Vec<Vec<u8>> {
    let dump = |ask: fn(&mut Batch)| datagrams(netlink_sys::protocols::NETLINK_ROUTE, ask);
    let mut seeds =
        [route::dump_links, route::dump_addresses, route::dump_routes, route::dump_neighbours].map(dump).concat();
    let words = [&[0x14, 0, 1, 0][..], b"no such device\0\0"].concat();
    let refusal = [&(-19_i32).to_ne_bytes()[..], &[16, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], &words].concat();
    let length = u32::try_from(16 + refusal.len()).expect("short");
    seeds.push([&length.to_ne_bytes()[..], &[2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0], &refusal].concat());
    seeds.push(tc_dump());
    seeds.extend(nft_dumps());
    seeds
}

fn datagrams(protocol: isize, ask: impl Fn(&mut Batch)) -> Vec<Vec<u8>> {
    let mut socket = netlink_sys::Socket::new(protocol).expect("a socket");
    socket.bind(&netlink_sys::SocketAddr::new(0, 0)).expect("bound");
    socket.connect(&netlink_sys::SocketAddr::new(0, 0)).expect("connected");
    let mut batch = Batch::new();
    ask(&mut batch);
    socket.send(batch.finish(), 0).expect("sent");
    let mut all = Vec::new();
    loop {
        let mut datagram = Vec::with_capacity(32 * 1024);
        socket.recv(&mut datagram, 0).expect("received");
        let kinds: Vec<u16> = netslot::netlink::read::Messages(&datagram).flatten().map(|m| m.kind).collect();
        // Two of a kind show all there is to it.
        datagram.truncate(4_096);
        all.push(datagram);
        if kinds.iter().any(|kind| matches!(*kind, 2 | 3)) {
            return all;
        }
    }
}

/// A filter as the kernel shows it: RTM_NEWTFILTER with `bpf`, its name and its program's number.
fn tc_dump() -> Vec<u8> {
    let mut batch = Batch::new();
    batch.message(44, 0, &[0; 20], |a| {
        a.text(1, "bpf").nest(2, |options| {
            options.text(7, "slot_in").u32(11, 99);
        });
    });
    batch.as_bytes().to_vec()
}

/// Rulesets that have between them what rules are made of.
const RULES: [&str; 6] = [
    "acting.nft",
    "corpus/sets.nft",
    "corpus/stateful.nft",
    "corpus/verdicts.nft",
    "corpus/nat.nft",
    "corpus/dynamic.nft",
];

/// What nft makes of them, where this user may load rules; else one table.
fn compiled() -> &'static [Image] {
    static COMPILED: OnceLock<Vec<Image>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let compiled: Result<Vec<Image>, _> = RULES.iter().map(compile).collect();
        compiled.unwrap_or_else(|error| {
            assert!(std::env::var_os("CI").is_none(), "rules cannot be compiled: {error}");
            eprintln!("SKIPPED: rules and images are not mutated from real ones: {error}");
            let mut attributes = Vec::new();
            netslot::netlink::batch::Attributes::to(&mut attributes).text(1, "t");
            let table = Object { kind: message::NEW_TABLE, family: 1, attributes };
            let (purpose, rules) = (Purpose::Slot, Ruleset::of_objects(vec![table]));
            vec![Image { purpose, sources: vec![], features: rules.features(), rules }]
        })
    })
}

fn compile(name: &&str) -> Result<Image, RulesError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules").join(name);
    let text = fs::read_to_string(&path).expect("readable");
    let source = Source { name: path.display().to_string(), text };
    let (purpose, tap) = (Purpose::Slot, "tap0".parse().expect("a name"));
    compile::compile(&Order { sources: &[(path, source)], syntax: None, purpose, tap })
}

/// Each ruleset as a dump of nf_tables.
fn nft_dumps() -> Vec<Vec<u8>> {
    let object = |o: &Object| {
        let mut batch = Batch::new();
        batch.message(u16::from_be_bytes([10, o.kind]), 0, &[o.family, 0, 0, 0], |a| {
            a.raw(&o.attributes);
        });
        batch.as_bytes().to_vec()
    };
    compiled().iter().map(|image| image.rules.objects().iter().flat_map(object).collect()).collect()
}

fn images() -> Vec<Vec<u8>> {
    compiled().iter().map(|image| image.to_bytes().expect("small")).collect()
}

/// The example with every key set, not only named.
fn uncommented() -> Vec<u8> {
    let keys = |line: &str| line.strip_prefix("# ").or(line.strip_prefix('#')).unwrap_or(line).to_owned();
    let is_key = |line: &String| line.contains(" = ") || line.starts_with('[');
    let example = include_str!("../systemd/netslot.toml");
    example.lines().map(keys).filter(is_key).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Records of four slots: leased, bound, free, being cleaned.
fn ledgers() -> Vec<Vec<u8>> {
    use netslot_abi::{BindingRecord, LedgerRecord, SlotState};
    use zerocopy::IntoBytes as _;
    let record = |generation, state, policy| LedgerRecord {
        commit: LedgerRecord::pack(generation, state),
        since_ns: 5,
        owner_inode: 3,
        owner_uid: 7,
        owner_pid: 42,
        policy,
        tag_len: 2,
        tag: *b"vm\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ..LedgerRecord::default()
    };
    let bound = BindingRecord {
        generation: 3,
        vni: 7,
        tenant_v4: [10, 0, 0, 1],
        remote: [192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        remote_family: 4,
        mode: netslot_abi::bind_mode::TUNNEL,
        ..BindingRecord::default()
    };
    let slots = [
        (record(3, SlotState::Leased, 0), bound),
        (record(9, SlotState::Leased, 1), BindingRecord { generation: 9, ..bound }),
        (record(2, SlotState::Free, 0), BindingRecord::default()),
        (record(4, SlotState::Scrubbing, 2), bound),
    ];
    vec![slots.iter().flat_map(|(record, binding)| [record.as_bytes(), binding.as_bytes()].concat()).collect()]
}
