//! A test bench for the programs: a private namespace with the devices they look for, a bpffs of its own, the real
//! loader and the real maps; one packet at a time.
#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../common/maps.rs"]
mod maps;
#[path = "../common/private.rs"]
pub mod private;

use std::process::Command;

use aya::programs::{TestRun as _, TestRunOptions};
use etherparse::PacketBuilder;
use netslot::bpf::{Counters, Datapath, MapStore, Program, Settings};
use netslot::config::Config;
use netslot::ledger::Store as _;
use netslot::slot::{IfIndex, SlotId};
use netslot_abi::{BindingRecord, CounterRecord, DropReason, LedgerRecord, SlotState, ledger_flag};
use nix::mount::{MsFlags, mount};
use private::{Turn, private};

use crate::frames::{self, GATEWAY_MAC, GUEST_MAC};

/// Verdicts of tc, linux/pkt_cls.h.
pub const OK: u32 = 0;
pub const SHOT: u32 = 2;
pub const REDIRECT: u32 = 7;
pub const UNSPEC: u32 = u32::MAX;

pub const SLOTS: u32 = 4;
const BASE: u32 = 100_000;
/// Where a run happens, beside the slots' devices.
pub const UPLINK: u32 = u32::MAX;
pub const NOT_A_SLOT: u32 = u32::MAX - 1;
/// The owner of what belongs to no slot.
pub const NOBODY: u32 = SLOTS;

pub const GUEST: [u8; 4] = [172, 16, 0, 2];
pub const GUEST6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const GATEWAY6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
pub const GATEWAY_LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x04, 0x00, 0xac, 0xff, 0xfe, 0x10, 0x00, 0x01];
pub const UNDERLAY: [u8; 4] = [198, 51, 100, 2];
pub const UNDERLAY6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const DUMMY_VNI: u32 = 0xf0_0000;
pub const DUMMY_REMOTE: [u8; 4] = [192, 0, 0, 8];
pub const DEVICE_MAC: [u8; 6] = [0x02, 0x4e, 0x53, 0xff, 0xff, 0xfe];
pub const NEXT_HOP_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

pub fn slot4(slot: u8) -> [u8; 4] {
    [100, 64, 0, 2 + slot]
}

pub fn slot6(slot: u8) -> [u8; 16] {
    [0xfd, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2 + slot]
}

/// What a program made of a packet.
#[derive(Debug)]
pub struct Ran {
    pub verdict: u32,
    pub frame: Vec<u8>,
    pub mark: u32,
}

pub struct Bench {
    pub datapath: Datapath,
    store: MapStore,
    counters: Counters,
    _files: tempfile::TempDir,
    _turn: Turn,
}

impl Bench {
    /// A bench with a changed configuration, or `None`, said aloud, where this user may not make one.
    pub fn new(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let turn = private()?;
        let files = tempfile::tempdir().expect("a directory");
        mount(Some("bpf"), files.path(), Some("bpf"), MsFlags::empty(), None::<&str>).expect("a bpffs");
        for line in [
            "link add slot0 index 100000 type veth peer name p0",
            "link add slot1 index 100001 type veth peer name p1",
            "link add other index 99 type veth peer name p99",
            "link add uplink0 index 77 type veth peer name net0",
            "addr add 198.51.100.2/24 dev uplink0",
            "link set slot1 up",
            "link set p1 up",
            "link set uplink0 up",
            "link set net0 up",
            "neigh add 198.51.100.1 lladdr 02:00:00:00:00:99 dev uplink0 nud permanent",
            "route add default via 198.51.100.1",
        ] {
            let done = Command::new("ip").args(line.split(' ')).output().expect("ip is there");
            assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
        }
        for device in ["slot1", "all"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/forwarding"), "1").expect("a router");
        }
        let mut config = Config { slots: SLOTS, slots_max: SLOTS, ..Config::default() };
        config.slot_cidr6 = "fd6e::/64".parse().ok();
        config.guest.ip6 = "fd00::2/64".parse().ok();
        change(&mut config);
        let settings = Settings {
            config: &config,
            mtu: 1_450,
            uplink: IfIndex(77),
            underlay_v4: Some(UNDERLAY.into()),
            underlay_v6: Some(UNDERLAY6.into()),
        };
        let datapath = Datapath::open(&files.path().join("netslot"), &settings.record()).expect("loaded");
        let (store, counters) = maps::state(&datapath);
        Some(Self { datapath, store, counters, _files: files, _turn: turn })
    }

    pub fn state(&mut self, slot: u32, generation: u64, state: SlotState) {
        let record = LedgerRecord { commit: LedgerRecord::pack(generation, state), ..LedgerRecord::default() };
        self.store.store_ledger(SlotId::new(slot).expect("in range"), &record);
    }

    pub fn lease(&mut self, slot: u32, generation: u64) {
        self.state(slot, generation, SlotState::Leased);
    }

    pub fn lease_without_guest(&mut self, slot: u32, generation: u64) {
        let commit = LedgerRecord::pack(generation, SlotState::Leased);
        let record = LedgerRecord { commit, flags: ledger_flag::OWN_STACK, ..LedgerRecord::default() };
        self.store.store_ledger(SlotId::new(slot).expect("in range"), &record);
    }

    pub fn bind(&mut self, slot: u32, record: &BindingRecord) {
        self.store.store_binding(SlotId::new(slot).expect("in range"), record).expect("bound");
    }

    pub fn store(&mut self) -> &mut MapStore {
        &mut self.store
    }

    pub fn counters(&self, slot: u32) -> CounterRecord {
        self.counters.of(slot).expect("a slot's counters")
    }

    /// Runs a program on a frame, as if on that slot's device.
    pub fn run(&mut self, program: Program, on: u32, frame: &[u8]) -> Ran {
        let context = context(on);
        let (mut after, mut out) = ([0; 192], vec![0; 70_000]);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut after);
        let ran = self.datapath.classifier(program).expect("loaded").test_run(options).expect("ran");
        out.truncate(ran.data_size_out as usize);
        let mark = u32::from_ne_bytes([after[8], after[9], after[10], after[11]]);
        Ran { verdict: ran.return_value, frame: out, mark }
    }

    /// The reason for which a program drops a frame on a slot's device; `None` = it does not.
    pub fn dropped(&mut self, program: Program, slot: u32, frame: &[u8]) -> Option<DropReason> {
        self.dropped_for(program, slot, slot, frame)
    }

    /// As [`Self::dropped`], counted for another owner than the device.
    pub fn dropped_for(&mut self, program: Program, on: u32, owner: u32, frame: &[u8]) -> Option<DropReason> {
        let before = self.counters(owner).drops;
        let verdict = self.run(program, on, frame).verdict;
        let after = self.counters(owner).drops;
        let changed: Vec<_> = (0..before.len()).filter(|i| after[*i] != before[*i]).collect();
        match (verdict, &changed[..]) {
            (SHOT, [reason]) => Some(DropReason::ALL[*reason]),
            (SHOT, _) => panic!("dropped, but counted as {changed:?}"),
            (_, []) => None,
            _ => panic!("verdict {verdict}, but counted as {changed:?}"),
        }
    }
}

/// What a program is told of where a packet is: `struct __sk_buff`, linux/bpf.h, with its ifindex at 40 (and mark at 8).
pub fn context(on: u32) -> [u8; 192] {
    let ifindex = match on {
        UPLINK => 77,
        NOT_A_SLOT => 99,
        slot => BASE + slot,
    };
    let mut context = [0; 192];
    context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

/// An ARP message on Ethernet.
pub fn arp(operation: u8, sender_mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&[0xff; 6][..], &GUEST_MAC, &[8, 6], &head, &sender_mac, &sender, &[0; 6], &target].concat()
}

/// An ICMPv6 message to all nodes with hop limit 255; `body` follows the checksum.
pub fn icmp6(from: [u8; 16], kind: u8, body: &[u8]) -> Vec<u8> {
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let (first, rest) = body.split_at(4);
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv6(from, all_nodes, 255);
    let builder = builder.icmpv6_raw(kind, 0, first.try_into().expect("four bytes"));
    let mut frame = Vec::new();
    builder.write(&mut frame, rest).expect("a frame");
    frame
}

pub fn solicit(from: [u8; 16], target: [u8; 16], mac: [u8; 6]) -> Vec<u8> {
    icmp6(from, 135, &[&[0; 4][..], &target, &[1, 1], &mac].concat())
}

pub fn advertise(from: [u8; 16], target: [u8; 16], mac: [u8; 6]) -> Vec<u8> {
    icmp6(from, 136, &[&[0x60, 0, 0, 0][..], &target, &[2, 1], &mac].concat())
}

/// A router advertisement behind two destination options headers.
pub fn hidden_advertisement() -> Vec<u8> {
    let mut frame = icmp6(LINK_LOCAL, 134, &[0; 12]);
    frame.splice(54..54, [60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0]);
    frame[20] = 60;
    frame[19] += 16;
    frame
}

pub fn dhcp6_server() -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv6(GUEST6, GATEWAY6, 64).udp(547, 546);
    builder.write(&mut frame, b"x").expect("a frame");
    frame
}

fn tunnelled(vni: u32, options: u8, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let mut payload = vec![options, 0, 0x65, 0x58, a, b, c, 0];
    payload.extend(vec![0; usize::from(options) * 4]);
    payload.extend(inner);
    payload
}

/// A Geneve packet from a remote to this host, with so many words of options.
pub fn geneve(remote: [u8; 4], vni: u32, options: u8, inner: &[u8]) -> Vec<u8> {
    let mut frame = frames::udp4(remote, UNDERLAY, (50_000, 6_081), &tunnelled(vni, options, inner));
    frame[40..42].fill(0);
    frame
}

/// A Geneve packet without options between two addresses, as a tunnel device makes it.
pub fn geneve_between(from: [u8; 4], to: [u8; 4], vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut frame = frames::udp4(from, to, (50_000, 6_081), &tunnelled(vni, 0, inner));
    frame[40..42].fill(0);
    frame
}

/// The same over IPv6.
pub fn geneve6(remote: [u8; 16], vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(GUEST_MAC, GATEWAY_MAC).ipv6(remote, UNDERLAY6, 64).udp(50_000, 6_081);
    builder.write(&mut frame, &tunnelled(vni, 0, inner)).expect("a frame");
    frame
}
