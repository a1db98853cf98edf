//! One slot after another, each with a guest that does what it can in between: every lease begins with a slot as it was
//! made. `REUSES=10000` makes it a long run, and `SEED` another one; the figures are printed.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netslot::config::load;
use netslot::config::parse::Overrides;
use netslot::fingerprint::{Class, Difference, line};
use netslot::netlink::{Batch, Socket, route, tc};
use netslot::scrub::{Census, Eyes, Site};
use netslot::slot::{IfIndex, Mac, SlotId};
use netslot_protocol::client::LeaseOptions;
use nix::libc;

use crate::common::World;
use crate::random::Random;
use crate::served::{PATIENCE, Served};
use crate::tap_ioctls as ioctl;

const REUSES: u64 = 100;
const SLOTS: u32 = 4;

/// Rules that count, gather and track what passes, so that there is something of all that to be left behind.
const RULES: &str = "
table inet slot {
    set seen { type ipv4_addr; flags dynamic; }
    chain out {
        type filter hook output priority filter
        ct state new counter add @seen { ip daddr }
    }
}";

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[test]
fn every_lease_begins_with_a_slot_as_it_was_made_whatever_the_guest_before_did() {
    let Some(world) = World::new() else { return };
    let (reuses, seed) = (number("REUSES", REUSES), number("SEED", 1));
    std::fs::write("/run/slot.nft", RULES).expect("written");
    let served = Served::up(&world, &format!("slots = {SLOTS}\nrules.slot = \"/run/slot.nft\""));
    let config = Arc::new(load::load(Some(world.config_path()), &Overrides::default()).expect("taken").config);
    let blueprint = netslot::execute::blueprint(&config).expect("an uplink");
    let site = Site::open(&config, blueprint).expect("a tun device");
    let options = LeaseOptions { want_netns: true, wait: PATIENCE, ..LeaseOptions::default() };
    let (mut client, mut random, began) = (served.client(), Random(seed), Instant::now());
    let (mut equal, mut made_anew, mut packets, mut tracked) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut namespaces: HashMap<u32, u64> = HashMap::new();
    for reuse in 0..reuses {
        let mut lease = client.lease(&options).expect("clean in time").remove(0);
        let netns = lease.netns.take().expect("asked for");
        let found = differences(&site, lease.id.slot, &netns);
        assert!(found.is_empty(), "reuse {reuse} of seed {seed}, slot {}: {found:#?}\n{}", lease.id.slot, served.log());
        equal += 1;
        let inode = nix::sys::stat::fstat(&netns).expect("told").st_ino;
        made_anew += u64::from(namespaces.insert(lease.id.slot, inode).is_some_and(|before| before != inode));
        let tap = world.open_tap(&netns);
        let mut packet = [0; 2_048];
        let read = nix::unistd::read(&tap, &mut packet);
        assert_eq!(read, Err(nix::errno::Errno::EAGAIN), "reuse {reuse} of seed {seed}: a packet of the guest before");
        let left = guest(&mut random, &netns, tap, lease.id.slot);
        packets += left.queued;
        let traces = differences(&site, lease.id.slot, &netns).join("\n");
        tracked += u64::from(["tracked connections", "rules"].iter().all(|trace| traces.contains(trace)));
        client.release(lease.id).expect("ours");
        std::thread::sleep(Duration::from_micros(random.next() % 3_000));
        drop(left);
        if reuse % 1_000 == 999 {
            eprintln!("{} reuses: {made_anew} slots made anew, {:.0} s", reuse + 1, began.elapsed().as_secs_f64());
        }
    }
    assert!(tracked > reuses / 4, "{tracked} of {reuses} guests left connections, counts and elements to be found");
    let took = began.elapsed().as_secs_f64();
    eprintln!(
        "{reuses} reuses, seed {seed}: {equal} began as made, {made_anew} of them in a slot made anew, 0 leaks; {packets} \
         packets were left unread; {took:.1} s"
    );
}

/// In what the slot is not as it was made, but for sockets, as one that its scrub has closed counts a little longer, and for
/// processes: a guest here is this process, which is counted nowhere.
fn differences(site: &Site, slot: u32, netns: &OwnedFd) -> Vec<String> {
    let slot = SlotId::new(slot).expect("in range");
    let look = || site.differences(&mut Eyes::default(), slot, netns.as_fd(), &Census::default());
    let found = netslot::sys::thread::apart(look).expect("a thread").expect("looked at");
    let sockets = |d: &Difference| matches!(d, Difference::Added(fact) if fact.class == Class::Count && fact.value([1, 0, 0, 0]) == Some(b"sockets"));
    let spec = site.blueprint().slot(slot);
    found.iter().filter(|d| !sockets(d)).flat_map(|d| line(d, &spec)).map(|line| line.to_string()).collect()
}

/// What stays behind for a moment after the release.
struct Left {
    _tap: Option<OwnedFd>,
    _socket: Option<UdpSocket>,
    queued: u64,
}

/// One guest's life: what a VMM's guest sends, what its holder does to the tap, and now and then what root in the namespace
/// does.
fn guest(random: &mut Random, netns: &OwnedFd, tap: OwnedFd, slot: u32) -> Left {
    for _ in 0..random.next() % 8 {
        send_frame(random, &tap);
    }
    let queued = random.next() % 6;
    let mut socket = None;
    let (dirty, hand) = (random.one_in(3), random.next());
    netslot::sys::netns::within(netns, || {
        let sender = UdpSocket::bind("0.0.0.0:0").expect("bound");
        for n in 0..queued {
            // To the guest, who does not read.
            let _ = sender.send_to(&n.to_le_bytes(), (Ipv4Addr::new(172, 16, 0, 2), 7));
        }
        socket = Some(sender);
        if dirty {
            soil(hand, slot);
        }
    })
    .expect("entered");
    tweak(random, &tap);
    Left { _tap: random.one_in(2).then_some(tap), _socket: socket.filter(|_| random.one_in(2)), queued }
}

/// A frame of random kind: ARP and neighbour discovery for somebody else, DHCP, floods with random sources.
fn send_frame(random: &mut Random, tap: &OwnedFd) {
    let mut frame = vec![0_u8; 10]; // the virtio-net header
    frame.extend([0xff; 6]);
    frame.extend([2, random.byte(), random.byte(), random.byte(), random.byte(), 1]);
    match random.next() % 3 {
        0 => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + random.byte() % 2]);
            frame.extend([2, 0, 0, 0, 0, random.byte(), 172, 16, 0, random.byte()]);
            frame.extend([0, 0, 0, 0, 0, 0, 172, 16, 0, 1]);
        }
        1 => {
            frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
            frame.extend([172, 16, 0, 2, 203, 0, 113, random.byte(), 0, 9, 0, 9, 0, 8, 0, 0]);
        }
        _ => frame.extend((0..random.next() % 100).map(|_| random.byte())),
    }
    // A frame that the tap does not take is none of our business.
    let _ = nix::unistd::write(tap, &frame);
}

fn tweak(random: &mut Random, tap: &OwnedFd) {
    let fd = tap.as_raw_fd();
    let mut any = random.next();
    let mut chosen = || {
        any >>= 1;
        any & 1 == 1
    };
    let (header, sndbuf, on) = (64, 4_096, 1);
    let mut drop_all = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: drop_all.as_mut_ptr() };
    // SAFETY: an ifreq of zeroes is one; the ioctls take plain numbers or read what their pointers lead to, all of it on
    // this stack. Some are refused, as some kernels lack them: what was not done need not be undone.
    unsafe {
        if chosen() {
            let mut mac: libc::ifreq = std::mem::zeroed();
            mac.ifr_ifru.ifru_hwaddr.sa_family = 1;
            mac.ifr_ifru.ifru_hwaddr.sa_data[..6].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
            let _ = ioctl::set_mac(fd, &raw const mac);
        }
        if chosen() {
            let _ = ioctl::set_vnet_hdr(fd, &raw const header);
        }
        if chosen() {
            let _ = ioctl::set_sndbuf(fd, &raw const sndbuf);
        }
        if chosen() {
            let _ = ioctl::attach_filter(fd, &raw const program);
        }
        if chosen() {
            let _ = ioctl::set_offload(fd, 1);
        }
        if chosen() {
            let _ = ioctl::set_vnet_le(fd, &raw const on);
        }
        if random.one_in(4) {
            let _ = ioctl::set_carrier(fd, &raw const on);
        }
        if random.one_in(50) {
            let _ = ioctl::set_owner(fd, 65_534);
        }
        if random.one_in(50) {
            let _ = ioctl::set_persist(fd, 0);
        }
    }
}

/// What root in the namespace does: now and then what costs the slot.
fn soil(hand: u64, slot: u32) {
    let mut socket = Socket::open().expect("a socket");
    let mut batch = Batch::new();
    let (bridge, up) = (IfIndex(2), IfIndex(3));
    let tap = netslot::address::slot_ifindex(100_000, SlotId::new(slot).expect("in range"));
    let [a, b, ..] = hand.to_le_bytes();
    match hand >> 32 & 15 {
        0..=2 => (0..a % 32).for_each(|n| {
            route::add_neighbour(&mut batch, bridge, Ipv4Addr::new(172, 16, 0, n ^ b).into(), Mac([2, 0, 0, 0, 0, n]));
        }),
        3 | 4 => route::add_address(&mut batch, up, Ipv4Addr::new(192, 0, 2, a).into(), 32),
        5 | 6 => route::add_host_route(&mut batch, Ipv4Addr::new(203, 0, 113, a).into(), up),
        7 => route::add_default_route(&mut batch, Ipv4Addr::new(100, 64, 0, a).into(), up, 254),
        8 => route::set_mac(&mut batch, up, Mac([2, 0, 0, 0, 0, a])),
        9 => route::set_group(&mut batch, bridge, a.into()),
        10 => route::delete_neighbour(&mut batch, up, Ipv4Addr::new(100, 64, 0, 1).into()),
        11 => std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("written"),
        12 => std::fs::write("/proc/sys/net/ipv4/conf/br0/rp_filter", "0").expect("written"),
        13 if a < 64 => tc::add_clsact(&mut batch, up, None),
        14 if a < 64 => route::delete_link(&mut batch, tap),
        _ => {}
    }
    // What is refused leaves nothing.
    let _ = socket.send(&mut batch);
}
