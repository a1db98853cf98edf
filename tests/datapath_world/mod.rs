//! Two slots with the same guest, a host with the programs attached by the real code, and a network; all in namespaces
//! of the test's own.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod exchange;
#[path = "../common/maps.rs"]
mod maps;
#[path = "../common/private.rs"]
pub mod private;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netslot::address;
use netslot::bpf::{Counters, Datapath, MapStore, Settings, attach};
use netslot::config::{Config, Forward};
use netslot::ledger::Store as _;
use netslot::netlink::{Batch, Socket};
use netslot::slot::{IfIndex, SlotId};
use netslot::sys::netns::{self, within};
use netslot_abi::{BindingRecord, CounterRecord, LedgerRecord, SlotState};
use nix::mount::{MsFlags, mount};
use private::{Turn, inside, private};

pub const HOST: &str = "198.51.100.2";
pub const NETWORK: &str = "198.51.100.1";
pub const HOST6: &str = "2001:db8:8::2";
pub const NETWORK6: &str = "2001:db8:8::1";
/// Slots of a world, unless it is made with more.
const SLOTS: u32 = 2;
/// `struct virtio_net_hdr`.
pub const VNET_BYTES: usize = 10;

pub struct World {
    pub network: OwnedFd,
    pub slots: Vec<OwnedFd>,
    pub guests: Vec<OwnedFd>,
    pub datapath: Datapath,
    pub bpf_dir: std::path::PathBuf,
    store: MapStore,
    counters: Counters,
    _files: tempfile::TempDir,
    _turn: Turn,
}

impl World {
    /// A world, or `None`, said aloud, where this user may not make one.
    pub fn new(forward: Forward) -> Option<Self> {
        Self::with(|config| config.forward = forward)
    }

    /// The same with another configuration.
    pub fn with(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let mut world = Self::bare(change)?;
        world.attach();
        Some(world)
    }

    /// The same with the programs loaded and on no device.
    pub fn bare(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let turn = private()?;
        std::fs::create_dir("/run/netns").expect("a directory");
        let files = tempfile::tempdir().expect("a directory");
        mount(Some("bpf"), files.path(), Some("bpf"), MsFlags::empty(), None::<&str>).expect("a bpffs");
        netns::make().expect("a network");
        let network = named("network");
        let mut config = Config { slots: SLOTS, ..Config::default() };
        config.slot_cidr6 = "fd6e::/64".parse().ok();
        config.guest.ip6 = "fd00::2/64".parse().ok();
        change(&mut config);
        config.slots_max = config.slots;
        let (mut slots, mut guests) = (Vec::new(), Vec::new());
        for slot in 0..config.slots {
            netns::make().expect("a slot");
            slots.push(named(&format!("s{slot}")));
            netns::make().expect("a guest");
            guests.push(named(&format!("g{slot}")));
        }
        netns::make().expect("a host");
        forwarding();
        for line in [
            "link add uplink0 index 77 type veth peer name net0 netns network",
            "addr add 198.51.100.2/24 dev uplink0",
            "addr add 2001:db8:8::2/64 dev uplink0 nodad",
            "link set uplink0 up",
            "-n network addr add 198.51.100.1/24 dev net0",
            "-n network addr add 2001:db8:8::1/64 dev net0 nodad",
            "-n network link set lo up",
            "-n network link set net0 up",
            "-n network route add 100.64.0.0/15 via 198.51.100.2",
            "-n network route add fd6e::/64 via 2001:db8:8::2",
            "route add default via 198.51.100.1",
        ] {
            ip(line);
        }
        let settings = Settings {
            config: &config,
            mtu: 1_450,
            uplink: IfIndex(77),
            underlay_v4: HOST.parse().ok(),
            underlay_v6: HOST6.parse().ok(),
        };
        let bpf_dir = files.path().join("netslot");
        let datapath = Datapath::open(&bpf_dir, &settings.record()).expect("loaded");
        for slot in SlotId::first(config.slots) {
            make_slot(slot);
        }
        let (store, counters) = maps::state(&datapath);
        Some(Self { network, slots, guests, datapath, bpf_dir, store, counters, _files: files, _turn: turn })
    }

    /// Hangs the programs where they belong, and pins them; how long it took to have the host ends join the blocks, to hang
    /// the programs on those and the uplink, and to put the taps' program on all of them.
    pub fn attach(&mut self) -> [Duration; 3] {
        let base = self.datapath.record().ifindex_base;
        let slots = || SlotId::first(self.datapath.record().slots);
        let mut root = Socket::open().expect("a socket");
        let mut batch = Batch::new();
        let began = Instant::now();
        for slot in slots() {
            attach::join(&mut batch, address::slot_ifindex(base, slot));
        }
        assert_eq!(root.send(&mut batch).expect("sent"), []);
        let joined = began.elapsed();
        attach::host_ends(&mut root, &self.datapath).expect("attached");
        attach::uplink(&mut root, &self.datapath).expect("attached");
        let hung = began.elapsed() - joined;
        let mut taps = Duration::ZERO;
        for (slot, netns) in slots().zip(&self.slots) {
            let attached = within(netns, || {
                // Open already, as the pass has it.
                let (mut socket, mut batch) = (Socket::open().expect("a socket"), Batch::new());
                let began = Instant::now();
                attach::tap(&mut batch, &self.datapath, slot).expect("a program");
                assert_eq!(socket.send(&mut batch).expect("sent"), []);
                began.elapsed()
            });
            taps += attached.expect("entered");
        }
        self.datapath.commit().expect("pinned");
        [joined, hung, taps]
    }

    pub fn lease_all(&mut self) {
        for slot in SlotId::first(self.datapath.record().slots) {
            let commit = LedgerRecord::pack(1, SlotState::Leased);
            self.store.store_ledger(slot, &LedgerRecord { commit, ..LedgerRecord::default() });
        }
    }

    /// Gives a slot back and leases it again.
    pub fn lease_anew(&mut self, slot: u32) {
        let slot = SlotId::new(slot).expect("in range");
        let commit = LedgerRecord::pack(self.store.ledger(slot).generation() + 1, SlotState::Leased);
        self.store.store_ledger(slot, &LedgerRecord { commit, ..LedgerRecord::default() });
    }

    /// Makes the uplink leave nothing to the receiver that a wire would not carry: segments are cut and checksums
    /// written before. False, said aloud, where there is no ethtool to ask for it.
    pub fn as_a_wire(&self) -> bool {
        let done = Command::new("ethtool").args(["-K", "uplink0", "tx", "off"]).output();
        let done = done.is_ok_and(|output| output.status.success());
        assert!(done || std::env::var_os("CI").is_none(), "ethtool is needed");
        if !done {
            eprintln!("SKIPPED: needs ethtool");
        }
        done
    }

    /// A tap in the network, as a VMM opens it: reads do not wait, and each frame follows a virtio-net header of
    /// [`VNET_BYTES`].
    pub fn tap_in_network(&self, name: &str, address: &str, mac: &str) -> std::fs::File {
        ip(&format!("-n network tuntap add {name} mode tap vnet_hdr"));
        let dev_net = std::fs::File::open("/dev/net").expect("a directory");
        let name_of = name.parse().expect("a name");
        let tap = within(&self.network, || netslot::sys::tap::open(dev_net.as_fd(), &name_of).expect("a tap"));
        for line in [
            format!("-n network link set {name} address {mac} mtu 1450 up"),
            format!("-n network addr add {address} dev {name}"),
            format!("-n network addr add fdaa::1/64 dev {name} nodad"),
            format!("-n network neigh add 10.1.2.3 lladdr 06:00:ac:10:00:02 dev {name} nud permanent"),
            format!("-n network neigh add fdaa::3 lladdr 06:00:ac:10:00:02 dev {name} nud permanent"),
        ] {
            ip(&line);
        }
        std::fs::File::from(tap.expect("entered"))
    }

    pub fn bind(&mut self, slot: u32, record: &BindingRecord) {
        self.store.store_binding(SlotId::new(slot).expect("in range"), record).expect("bound");
    }

    pub fn try_bind(&mut self, slot: u32, record: &BindingRecord) -> Result<(), netslot::ledger::StoreError> {
        self.store.store_binding(SlotId::new(slot).expect("in range"), record)
    }

    pub fn counters(&self, slot: u32) -> CounterRecord {
        self.counters.of(slot).expect("counters")
    }

    pub fn ip(&self, line: &str) {
        ip(line);
    }

    pub fn works_in(&self, netns: &OwnedFd, program: &str, args: &[&str]) -> bool {
        let mut command = inside(netns, program);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("nsenter is there").success()
    }

    pub fn output_in(&self, netns: &OwnedFd, program: &str, args: &[&str]) -> String {
        let output = inside(netns, program).args(args).output().expect("nsenter is there");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    pub fn pings(&self, netns: &OwnedFd, to: &str) -> bool {
        self.works_in(netns, "ping", &["-c1", "-W2", to])
    }

    /// Connections tracked in a namespace; `None` where the kernel has no tracking at all.
    pub fn tracked(&self, netns: &OwnedFd) -> Option<u32> {
        within(netns, || self.tracked_here()).expect("entered")
    }

    pub fn tracked_here(&self) -> Option<u32> {
        let count = std::fs::read_to_string("/proc/thread-self/root/proc/sys/net/netfilter/nf_conntrack_count").ok()?;
        count.trim().parse().ok()
    }
}

/// The calling thread's namespace, known to `ip` by that name.
fn named(name: &str) -> OwnedFd {
    let fd = netns::current().expect("our own");
    let path = format!("/run/netns/{name}");
    std::fs::File::create(&path).expect("a file");
    let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
    mount(Some(from.as_str()), path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bound");
    forwarding();
    fd
}

fn forwarding() {
    for knob in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{knob}"), "1").expect("a router");
    }
}

#[track_caller]
fn ip(line: &str) {
    let done = Command::new("ip").args(line.split(' ')).output().expect("ip is there");
    assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What the boot pass makes, with a veth end in the tap's place and a guest at the other.
fn make_slot(slot: SlotId) {
    let n = slot.number();
    let index = 100_000 + n;
    let (own, own6) = (format!("100.64.0.{}", 2 + n), format!("fd6e::{:x}", 2 + n));
    let (host_mac, up_mac) = (address::host_end_mac(slot), address::up_mac(slot));
    for line in [
        format!("-n s{n} link add br0 index 102 address 06:00:ac:10:00:01 mtu 1450 type bridge"),
        format!("-n s{n} link add tap0 index {index} mtu 1450 type veth peer name eth0 netns g{n}"),
        format!("-n s{n} link set tap0 master br0 up"),
        format!("-n s{n} link set br0 up"),
        format!("-n s{n} addr add 172.16.0.1/30 dev br0"),
        format!("-n s{n} addr add fd00::1/64 dev br0 nodad"),
        format!(
            "link add slot{n} index {index} address {host_mac} mtu 1450 type veth peer name up0 index 103 netns s{n}"
        ),
        format!("-n s{n} link set up0 address {up_mac} mtu 1450 up"),
        format!("link set slot{n} up"),
        format!("-n s{n} addr add {own}/32 dev up0"),
        format!("-n s{n} addr add {own6}/128 dev up0 nodad"),
        format!("-n s{n} neigh add 100.64.0.1 lladdr {host_mac} dev up0 nud permanent"),
        format!("-n s{n} neigh add fd6e::1 lladdr {host_mac} dev up0 nud permanent"),
        format!("-n s{n} route add default via 100.64.0.1 dev up0 onlink"),
        format!("-n s{n} route add default via fd6e::1 dev up0 onlink"),
        format!("neigh add {own} lladdr {up_mac} dev slot{n} nud permanent"),
        format!("neigh add {own6} lladdr {up_mac} dev slot{n} nud permanent"),
        format!("route add {own}/32 dev slot{n}"),
        format!("route add {own6}/128 dev slot{n}"),
        format!("-n g{n} link set eth0 address 06:00:ac:10:00:02 mtu 1450 up"),
        format!("-n g{n} link set lo up"),
        format!("-n g{n} addr add 172.16.0.2/30 dev eth0"),
        format!("-n g{n} addr add fd00::2/64 dev eth0 nodad"),
        format!("-n g{n} route add default via 172.16.0.1"),
        format!("-n g{n} route add default via fd00::1"),
    ] {
        ip(&line);
    }
}
