//! A table of dirt: whatever a guest, a VMM, or root in the namespace can leave, one kind each. After the release the slot
//! is free and as it was made: set back in place, or made anew where only that helps.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Stdio};

use netslot::limits::WAITING_MAX;
use netslot::sys::kernel;
use netslot_protocol::client::{Client, Lease, LeaseOptions};
use netslot_protocol::{Policy, State};
use nix::libc;

use crate::common::World;
use crate::common::private::inside;
use crate::frames;
use crate::served::{PATIENCE, Served, lease};

/// What becomes of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Cleaned: the same namespace is leased again.
    Mended,
    /// Quarantined and made anew.
    MadeAnew,
    /// Cleaned where neighbours are made anew, which sets MACs back before the first look (Linux 6.13); else made anew.
    MendedWithNeighbours,
    /// One or the other: a bridge that is raised again listens where it did once a carrier has come.
    Either,
}
use End::{Either, MadeAnew, Mended, MendedWithNeighbours};

/// Its name, the commands in the namespace that leave it, and the end of it.
type Dirt = (&'static str, &'static [&'static str], End);

const DIRT: &[Dirt] = &[
    ("address added", &["ip addr add 192.0.2.7/24 dev br0"], Mended),
    ("IPv6 address added", &["ip addr add fd00:9::1/64 dev up0 nodad"], Mended),
    ("address taken away", &["ip addr del 100.64.0.2/32 dev up0"], Mended),
    ("gateway's address taken away", &["ip addr flush dev br0"], Mended),
    ("address on loopback", &["ip addr add 192.0.2.8/32 dev lo"], Mended),
    ("route added", &["ip route add 203.0.113.0/24 via 100.64.0.1 dev up0 onlink"], Mended),
    ("route in another table", &["ip route add unreachable 203.0.113.0/24 table 77"], Mended),
    ("IPv6 route added", &["ip -6 route add fd00:8::/64 dev up0"], Mended),
    ("default route taken away", &["ip route del default"], Mended),
    ("default route changed", &["ip route replace default via 100.64.0.9 dev up0 onlink"], Mended),
    ("routing rule added", &["ip rule add from 10.0.0.0/8 table 77", "ip -6 rule add from fd00::/8 table 77"], Mended),
    ("routing rule taken away", &["ip rule del priority 32766"], Mended),
    ("neighbour added", &["ip neigh add 172.16.0.9 lladdr 02:00:00:00:00:09 dev br0 nud permanent"], Mended),
    ("guest's neighbour changed", &["ip neigh replace 172.16.0.2 lladdr 02:00:00:00:00:08 dev br0"], Mended),
    ("next hop's neighbour taken away", &["ip neigh del 100.64.0.1 dev up0"], Mended),
    ("proxied neighbour", &["ip neigh add proxy 172.16.0.77 dev br0"], Mended),
    ("forwarding entry learned", &["bridge fdb add 02:00:00:00:00:07 dev tap0 master dynamic"], Mended),
    ("forwarding entry taught", &["bridge fdb add 02:00:00:00:00:07 dev tap0 master static"], Mended),
    ("group joined", &["ip maddr add 33:33:00:00:77:77 dev up0"], Mended),
    (
        "connection tracked",
        &["conntrack -I -p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 7 --dport 8 --state ESTABLISHED -t 600 -u SEEN_REPLY"],
        Mended,
    ),
    ("sysctl of the namespace", &["sysctl -qw net.ipv4.ip_forward=0 net.ipv4.ip_default_ttl=7"], Mended),
    ("sysctl of all devices", &["sysctl -qw net.ipv4.conf.all.rp_filter=2 net.ipv6.conf.all.accept_ra=2"], Mended),
    ("sysctl of a device", &["sysctl -qw net.ipv4.conf.br0.accept_redirects=1"], Mended),
    ("local network let out", &["sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.br0.proxy_arp=1"], Mended),
    ("sysctl of a device that no slot is given", &["sysctl -qw net.ipv4.conf.br0.arp_notify=1"], MadeAnew),
    ("the same of IPv6", &["sysctl -qw net.ipv6.conf.tap0.hop_limit=7"], MadeAnew),
    ("IPv6 sysctl of a device", &["sysctl -qw net.ipv6.conf.tap0.accept_ra=2"], Mended),
    ("address generation", &["ip link set up0 addrgenmode eui64"], Mended),
    ("MTU", &["ip link set tap0 mtu 1300", "ip link set up0 mtu 1300"], Mended),
    ("MTU below IPv6's", &["ip link set up0 mtu 900"], MadeAnew),
    ("alias and group", &["ip link set up0 alias mine", "ip link set br0 group 7"], Mended),
    ("queue length", &["ip link set tap0 txqueuelen 7"], Mended),
    ("MAC", &["ip link set up0 address 02:00:00:00:00:01"], Mended),
    ("bridge's MAC", &["ip link set br0 address 02:00:00:00:00:02"], MendedWithNeighbours),
    ("promiscuity", &["ip link set up0 promisc on", "ip link set br0 allmulticast on"], Mended),
    ("ARP off", &["ip link set up0 arp off"], Mended),
    ("uplink down", &["ip link set up0 down"], Mended),
    ("bridge down", &["ip link set br0 down"], Either),
    (
        "table of nftables",
        &["nft add table inet mine", "nft add chain inet mine c { type filter hook input priority 0 ; }"],
        Mended,
    ),
    ("another name", &["ip link property add dev up0 altname mine"], MadeAnew),
    ("device renamed", &["ip link set up0 down", "ip link set up0 name mine"], MadeAnew),
    ("device added", &["ip link add mine type bridge"], MadeAnew),
    ("pair added", &["ip link add mine type veth peer name mine2"], MadeAnew),
    ("tap off the bridge", &["ip link set tap0 nomaster"], MadeAnew),
    ("tap deleted", &["ip link del tap0"], MadeAnew),
    ("bridge's timers", &["ip link set br0 type bridge ageing_time 100"], MadeAnew),
    ("port's flags", &["bridge link set dev tap0 hairpin on"], MadeAnew),
    ("qdisc", &["tc qdisc add dev up0 root pfifo limit 7"], MadeAnew),
    ("hook for programs", &["tc qdisc add dev up0 clsact"], MadeAnew),
    (
        "foreign program",
        &["tc filter add dev tap0 ingress prio 7 bpf direct-action object-pinned /sys/fs/bpf/netslot/guest_in"],
        MadeAnew,
    ),
    ("our program taken away", &["tc filter del dev tap0 ingress"], MadeAnew),
    ("next-hop object", &["ip nexthop add id 7 blackhole"], MadeAnew),
    ("table of iptables of old", &["iptables-legacy -t mangle -L -n"], MadeAnew),
];

/// Its name, who leaves it, by way of namespace and tap, and the end of it.
type Deed = (&'static str, fn(&World, &OwnedFd, &OwnedFd), End);

/// What packets leave that no command makes; of a pool that has IPv6.
const DEEDS: &[Deed] = &[
    ("a part of a guest's packet", |_, _, tap| send(tap, &part4()), MadeAnew),
    ("a part of a guest's IPv6 packet", |_, _, tap| send(tap, &part6()), MadeAnew),
    ("closed TCP connections", |_, netns, _| connect(netns, 3), Mended),
    ("more of them than are ended one by one", |_, netns, _| connect(netns, WAITING_MAX + 1), MadeAnew),
];

/// Of a slot that has [`RULES`].
const DIRT_OF_RULES: &[Dirt] = &[
    ("counts, and an element that a packet adds", &["ping -c1 -W1 127.0.0.1"], Mended),
    ("element added by hand", &["nft add element inet slot fixed { 7 }"], Mended),
    ("element taken away", &["nft delete element inet slot fixed { 22 }"], Mended),
    ("rule added", &["nft add rule inet slot input tcp dport 7 accept"], Mended),
    ("all rules gone", &["nft flush ruleset"], Mended),
    ("table beside ours", &["nft add table ip mine"], Mended),
    ("one like ours in its place", &["nft flush ruleset", "nft add table inet slot"], Mended),
];

const RULES: &str = "
table inet slot {
    counter named { }
    quota some { 1 mbytes }
    set fixed { type inet_service; elements = { 22, 80 } }
    set seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
    chain input {
        type filter hook input priority filter; policy accept;
        counter name named
        quota name some
        add @seen { ip saddr }
        tcp dport @fixed counter accept
    }
    chain output {
        type filter hook output priority filter
        counter
    }
}";

#[test]
fn whatever_is_left_in_a_slot_is_gone_with_the_release_or_the_slot_is() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    clean_up(&served, DIRT);
}

#[test]
fn what_is_left_in_a_slots_rules_is_gone_with_the_release() {
    let Some(world) = World::new() else { return };
    std::fs::write("/run/slot.nft", RULES).expect("written");
    let served = Served::up(&world, "slots = 1\nrules.slot = \"/run/slot.nft\"");
    clean_up(&served, DIRT_OF_RULES);
    // Counts alone are set back without making the rules again: then there is nothing to compare with but the kernel.
    let listing = world.in_netns(&world.slot(0), "nft", &["list", "ruleset"]);
    assert!(!listing.contains("elements = { 127.0.0.1") && listing.contains("packets 0 bytes 0"), "{listing}");
    assert!(!listing.contains("used"), "{listing}");
}

#[test]
fn fragments_closed_connections_and_what_tcp_learned_of_a_peer_are_not_there_for_the_next_tenant() {
    let Some(world) = World::new() else { return };
    let served = Served::up(
        &world,
        "slots = 1\nslot_cidr6 = \"fd64::/64\"\nguest.ip6 = \"fd00::2/64\"\nguest.gateway_ip6 = \"fd00::1\"",
    );
    let mut client = served.client();
    let mut wrong = Vec::new();
    for (name, deed, end) in DEEDS {
        let dirt = |world: &World, netns: &OwnedFd, tap: &OwnedFd| {
            deed(world, netns, tap);
            // The kernel takes a frame in by and by.
            served.until(|| left(netns) != [0; 3], name);
            Ok(())
        };
        wrong.extend(leave(&served, &mut client, name, dirt, *end));
        // Our own eyes, not the scrub's.
        assert_eq!(left(&world.slot(0)), [0; 3], "{name}");
        assert_eq!(world.in_netns(&world.slot(0), "ip", &["tcp_metrics", "show"]), "", "{name}");
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), served.log());
}

/// Closed TCP connections, packets and IPv6 packets that wait for fragments.
fn left(netns: &OwnedFd) -> [u32; 3] {
    let text = netslot::sys::netns::within(netns, || {
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("told");
        read("sockstat") + &read("sockstat6")
    });
    let text = text.expect("entered");
    [("TCP:", "tw"), ("FRAG:", "inuse"), ("FRAG6:", "inuse")].map(|(line, word)| {
        let mut words = text.lines().find(|l| l.starts_with(line)).expect("told").split(' ');
        words.find(|w| *w == word).and_then(|_| words.next()).and_then(|n| n.parse().ok()).expect("a number")
    })
}

fn send(tap: &OwnedFd, frame: &[u8]) {
    let sent = [&[0; 10], frame].concat();
    assert_eq!(nix::unistd::write(tap, &sent), Ok(sent.len()));
}

/// The first part of a packet from the guest to its gateway.
fn part4() -> Vec<u8> {
    let mut frame = frames::udp4([172, 16, 0, 2], [172, 16, 0, 1], (7, 7), &[7; 16]);
    frames::as_fragment4(&mut frame, 0, true);
    frame
}

/// The same of IPv6: a fragment header (next: UDP; place 0, more to come) before 24 bytes.
fn part6() -> Vec<u8> {
    let [mut from, mut to] = [[0; 16]; 2];
    (from[0], from[15], to[0], to[15]) = (0xfd, 2, 0xfd, 1);
    let mut frame =
        [&frames::GATEWAY_MAC[..], &frames::GUEST_MAC, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 44, 64]].concat();
    frame.extend([from, to].concat());
    frame.extend([17, 0, 0, 1, 0, 0, 0, 7]);
    frame.extend([0, 7, 0, 7, 0, 100, 0, 0].iter().chain(&[7; 16]));
    frame
}

/// Connections within the slot, whose own side closes first, and waits.
fn connect(netns: &OwnedFd, count: u32) {
    let connect = || {
        let listener = TcpListener::bind("172.16.0.1:0").expect("bound");
        let address = listener.local_addr().expect("told");
        for _ in 0..count {
            let here = TcpStream::connect(address).expect("connected");
            let there = listener.accept().expect("accepted").0;
            drop(here);
            assert_eq!((&there).read(&mut [0; 1]).expect("closed"), 0);
        }
    };
    netslot::sys::netns::within(netns, connect).expect("entered");
}

/// Leaves each kind of dirt in turn in the one slot that there is.
fn clean_up(served: &Served<'_>, dirt: &[Dirt]) {
    let mut client = served.client();
    let one = |(name, commands, end): &Dirt| {
        let run = |world: &World, netns: &OwnedFd, _: &OwnedFd| match commands.iter().find(|c| !run(world, netns, c)) {
            Some(failed) => Err((*failed).to_owned()),
            None => Ok(()),
        };
        leave(served, &mut client, name, run, *end)
    };
    let wrong: Vec<String> = dirt.iter().filter_map(one).collect();
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), served.log());
}

/// What is not as it should be after that dirt.
fn leave(
    served: &Served<'_>,
    client: &mut Client,
    name: &str,
    dirt: impl Fn(&World, &OwnedFd, &OwnedFd) -> Result<(), String>,
    end: End,
) -> Option<String> {
    let world = served.world;
    let leased = again(client);
    let netns = leased.netns.as_ref().expect("asked for");
    let before = inode(netns.as_fd());
    let tap = world.open_tap(netns);
    let forwards = || world.in_netns(netns, "bridge", &["link", "show"]).contains("state forwarding");
    served.until(forwards, "the bridge never took the tap");
    if let Err(failed) = dirt(world, netns, &tap) {
        assert!(name == "table of iptables of old" || name == "next-hop object", "{name}: {failed}");
        eprintln!("SKIPPED: {name}: this kernel or host has it not");
        client.release(leased.id).expect("ours");
        return None;
    }
    drop(tap);
    let shown = world.netslot(&["verify"]);
    // What traffic brings about as well is no difference while the lease lasts.
    let traces = ["connection tracked", "forwarding entry learned", "counts, and an element that a packet adds"];
    let is_trace = traces.contains(&name) || DEEDS.iter().any(|deed| deed.0 == name);
    let seen = (shown.code == 8) != is_trace;
    client.release(leased.id).expect("ours");
    served.wait_for(0, State::Free);
    let after = world.netslot(&["verify"]);
    let end_seen = if inode(world.slot(0).as_fd()) == before { Mended } else { MadeAnew };
    let end = match end {
        MendedWithNeighbours if kernel::version(&kernel::release().expect("told")) >= (6, 13) => Mended,
        MendedWithNeighbours => MadeAnew,
        end @ (Mended | MadeAnew | Either) => end,
    };
    let wrong = !seen || after.code != 0 || (end_seen != end && end != Either);
    wrong.then(|| format!("{name}: {end_seen:?}; leased: {}; free: {}", shown.stdout, after.stdout))
}

/// Splits at blanks: none of the arguments has one.
fn run(world: &World, netns: &OwnedFd, command: &str) -> bool {
    let words: Vec<&str> = command.split_ascii_whitespace().collect();
    world.works_in(netns, words[0], &words[1..])
}

fn inode(netns: BorrowedFd<'_>) -> u64 {
    nix::sys::stat::fstat(netns).expect("told").st_ino
}

fn again(client: &mut Client) -> Lease {
    let options = LeaseOptions { want_netns: true, wait: PATIENCE, ..LeaseOptions::default() };
    client.lease(&options).expect("free in time").remove(0)
}

/// A program in the namespace, ended with the guard.
struct Left(Child);

impl Left {
    fn start(netns: &OwnedFd, program: &str, args: &[&str]) -> Self {
        let child = inside(netns, program).args(args).stdin(Stdio::null()).spawn();
        Self(child.expect("started"))
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }
}

#[test]
fn nobody_is_left_in_a_slot_that_is_free_and_who_stays_is_named() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 4");
    let mut client = served.client();
    let leases: Vec<Lease> = (0..4).map(|_| lease(&mut client, Policy::Explicit)).collect();
    let netns: Vec<OwnedFd> =
        leases.iter().map(|l| l.netns.as_ref().expect("asked for").try_clone().expect("a copy")).collect();
    let before: Vec<u64> = netns.iter().map(|netns| inode(netns.as_fd())).collect();
    // One that leaves in time, and three that do not: by a process, by a socket alone, by the tap.
    let guest = Left::start(&netns[0], "sleep", &["1000"]);
    let process = Left::start(&netns[1], "sleep", &["1000"]);
    let socket = netslot::sys::netns::within(&netns[2], || std::net::UdpSocket::bind("0.0.0.0:0").expect("bound"))
        .expect("entered");
    let tap = world.open_tap(&netns[3]);
    let sleeps = |left: &Left| {
        std::fs::read_to_string(format!("/proc/{}/comm", left.0.id())).is_ok_and(|comm| comm == "sleep\n")
    };
    served.until(|| sleeps(&guest) && sleeps(&process), "no sleep");
    for lease in &leases {
        client.release(lease.id).expect("ours");
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    for lease in &leases {
        assert_eq!(served.state(lease.id.slot), State::Scrubbing, "slot {}: {}", lease.id.slot, served.log());
    }
    drop(guest);
    served.wait_for(leases[0].id.slot, State::Free);
    assert_eq!(inode(world.slot(leases[0].id.slot).as_fd()), before[0], "cleaned, not made anew");
    for lease in &leases[1..] {
        served.wait_for(lease.id.slot, State::Free);
    }
    let log = served.log();
    let own = std::process::id();
    for (held, words) in [
        (1, format!("process {} (sleep) in it", process.0.id())),
        (2, format!("process {own} (")),
        (3, "its tap".into()),
    ] {
        assert_ne!(inode(world.slot(leases[held].id.slot).as_fd()), before[held], "made anew");
        let told = format!("slot {} is quarantined: ", leases[held].id.slot);
        assert!(log.lines().any(|line| line.contains(&told) && line.contains(&words)), "{words}: {log}");
    }
    assert_eq!(world.netslot(&["verify"]).code, 0);
    drop((process, socket, tap));
}

#[test]
fn packets_that_waited_for_one_tenant_are_not_read_by_the_next() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let mut client = served.client();
    let options = LeaseOptions { want_netns: true, want_tap: true, wait: PATIENCE, ..LeaseOptions::default() };
    let mut first = client.lease(&options).expect("free").remove(0);
    let (netns, tap) = (first.netns.take().expect("asked for"), first.tap.take().expect("asked for"));
    let kept = tap.try_clone().expect("a copy");
    world.works_in(&netns, "ping", &["-c3", "-i0.1", "-W1", "172.16.0.2"]);
    client.release(first.id).expect("ours");
    drop(tap);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(served.state(0), State::Scrubbing, "a copy of its tap is held");
    let mut packet = [0; 2_048];
    assert!(nix::unistd::read(&kept, &mut packet).is_ok_and(|len| len > 10), "there are packets to be leaked");
    drop(kept);
    let second = client.lease(&options).expect("free in time").remove(0);
    assert_eq!(second.id.generation, first.id.generation + 2, "cleaned, not made anew");
    let read = nix::unistd::read(second.tap.as_ref().expect("asked for"), &mut packet);
    assert_eq!(read, Err(nix::errno::Errno::from_raw(libc::EAGAIN)), "a packet of the tenant before");
}
