//! Each judgement on facts made up for it: what is fine, what is lacking or noted, and what is said to mend it.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::facts::{Dir, FEATURES, Facts, Presence};
use super::judge::judge;
use super::network::Network;
use super::path::{self, Other};
use super::text::Mount;
use super::{Finding, Level};
use crate::config::{Config, Forward, Tunnel};
use crate::execute::knobs::Seen;
use crate::netlink::forward::{Place, Wall};
use crate::netlink::observed::{Address, Link, Route};
use crate::{address, slot::SlotId};

const MAIN_TABLE: u32 = 254;

fn mount(id: u32, parent: u32, point: &str, kind: &str) -> Mount {
    Mount { id, parent, point: point.into(), kind: kind.into(), read_only: false }
}

fn knob(value: io::Result<String>) -> Seen {
    Seen { path: "/sys/kernel/rcu_expedited", value, fits: false, wanted: "1", cost: "slow" }
}

fn dir(key: &'static str, path: &str) -> Dir {
    Dir { key, path: path.into(), nearest: path.into(), writable: Ok(()) }
}

/// A host on which 1,000 slots can be made.
fn host() -> Facts {
    let eth0 = Link { index: 2, name: "eth0".into(), mtu: 1_500, ..Link::default() };
    let lo = Link { index: 1, name: "lo".into(), mtu: 65_536, loopback: true, ..Link::default() };
    Facts {
        kernel: Some("6.12.117-amd64".into()),
        capabilities: Some(u64::MAX),
        initial_user_namespace: true,
        tun: Ok(()),
        features: FEATURES.iter().map(|_| Presence::There).collect(),
        open_files: Some(1 << 20),
        net_namespaces: Some(96_365),
        mounts_max: Some(100_000),
        mounts: vec![
            mount(27, 1, "/", "ext4"),
            mount(28, 27, "/run", "tmpfs"),
            mount(29, 27, "/sys", "sysfs"),
            mount(30, 29, "/sys/fs/bpf", "bpf"),
        ],
        memory_bytes: Some(16 << 30),
        cpus_possible: Some(2),
        cpus_online: Some(2),
        neighbours_max: Some(1_024),
        ipv6_forwarding: Some(1),
        knobs: vec![knob(Ok("0".into()))],
        path: path::Seen { walls: Some(vec![]), legacy: false, others: Some(vec![]), unpinned: Some(vec![]) },
        network: Ok(Network { links: vec![lo, eth0], addresses: vec![], routes: vec![route(None, 0)] }),
        dirs: vec![dir("run_dir", "/run/netslot"), dir("netns_dir", "/run/netns"), dir("socket", "/run/netslot")],
    }
}

fn route(to: Option<&str>, prefix: u8) -> Route {
    let to = to.map(|to| to.parse().expect("an address"));
    Route { table: MAIN_TABLE, ipv6: false, to, prefix, via: None, index: 2, metric: 0 }
}

fn address(addr: &str) -> Address {
    Address { index: 2, addr: addr.parse().expect("an address"), prefix: 24, flags: 0 }
}

fn host_end(slot: u32) -> Link {
    let slot = SlotId::new(slot).expect("in range");
    Link {
        index: address::slot_ifindex(Config::default().ifindex_base, slot).0,
        name: address::host_end(slot).to_string(),
        kind: "veth".into(),
        group: address::host_end_group(slot),
        ..Link::default()
    }
}

fn judged(config: &Config, change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = host();
    change(&mut facts);
    judge(config, &facts)
}

/// The one finding that is not fine.
fn only(findings: Vec<Finding>) -> Finding {
    let mut wrong: Vec<Finding> = findings.into_iter().filter(|finding| finding.level != Level::Ok).collect();
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    wrong.remove(0)
}

/// Asserts that the change makes exactly this finding, of this level, with that mend.
fn finds(name: &str, level: Level, value: &str, mend: &str, change: impl FnOnce(&mut Facts)) {
    let finding = only(judged(&Config::default(), change));
    assert_eq!((finding.name, finding.level), (name, level), "{finding:?}");
    assert!(finding.value.contains(value), "{finding:?} does not say {value:?}");
    assert!(finding.mend.as_deref().is_some_and(|said| said.contains(mend)), "{finding:?} does not say {mend:?}");
}

fn with_network(change: impl FnOnce(&mut Network)) -> impl FnOnce(&mut Facts) {
    |facts| change(facts.network.as_mut().expect("a network"))
}

#[test]
fn a_good_host_lacks_nothing_and_nothing_is_to_be_mended() {
    let findings = judged(&Config::default(), |_| ());
    let wrong: Vec<_> = findings.iter().filter(|f| f.level != Level::Ok || f.mend.is_some()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut names: Vec<_> = findings.iter().map(|f| f.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), findings.len(), "no name twice");
    assert!(findings.iter().all(|f| !f.value.is_empty() && !f.need.is_empty() && !f.why.is_empty()));
}

#[test]
fn the_kernel_is_new_enough() {
    let older = |release: &'static str| move |facts: &mut Facts| facts.kernel = Some(release.into());
    finds("kernel", Level::Lack, "5.15.0-91-generic", "boot a newer kernel", older("5.15.0-91-generic"));
    finds("kernel", Level::Lack, "6.0.19", "boot a newer kernel", older("6.0.19"));
    finds("kernel", Level::Lack, "6.1.0-35-amd64", "tunnel = \"off\"", older("6.1.0-35-amd64"));
    finds("kernel", Level::Note, "6.6.1", "boot a newer kernel", older("6.6.1"));
    finds("kernel", Level::Note, "6.11-rc3", "boot a newer kernel", older("6.11-rc3"));
    finds("kernel", Level::Note, "cannot be read", "boot a newer kernel", |facts| facts.kernel = None);
    for release in ["6.12.0", "6.18.44-x", "7.0", "10.1"] {
        assert!(judged(&Config::default(), older(release)).iter().all(|f| f.level == Level::Ok), "{release}");
    }
}

#[test]
fn privilege_is_one_finding_and_what_it_hides_is_not_called_lacking() {
    let findings = judged(&Config::default(), |facts| {
        facts.capabilities = Some(0);
        facts.knobs = vec![knob(Err(io::ErrorKind::PermissionDenied.into()))];
        facts.dirs[0].writable = Err(Errno::EACCES);
        facts.tun = Err(io::ErrorKind::PermissionDenied.into());
    });
    let lacks: Vec<_> = findings.iter().filter(|f| f.level == Level::Lack).collect();
    assert_eq!(lacks.len(), 1, "{lacks:#?}");
    assert_eq!(lacks[0].value, "without CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF");
    assert!(lacks[0].mend.as_deref().is_some_and(|mend| mend.starts_with("run as root")));
    let notes: Vec<_> = findings.iter().filter(|f| f.level == Level::Note).collect();
    assert_eq!(
        notes.iter().map(|f| f.name).collect::<Vec<_>>(),
        ["/dev/net/tun", "/sys/kernel/rcu_expedited", "run_dir"]
    );
    assert!(notes.iter().all(|f| f.value == "not looked at: that takes privilege"), "{notes:#?}");

    // CAP_SYS_ADMIN stands for CAP_BPF.
    let net_and_sys = (1 << 12) | (1 << 21);
    assert!(judged(&Config::default(), |f| f.capabilities = Some(net_and_sys)).iter().all(|f| f.level == Level::Ok));
    finds("capabilities", Level::Lack, "without CAP_NET_ADMIN", "run as root", |f| f.capabilities = Some(1 << 21));
    finds("user namespace", Level::Lack, "one of its own", "on the host", |f| f.initial_user_namespace = false);
}

#[test]
fn the_tun_device_opens() {
    finds("/dev/net/tun", Level::Lack, "entity not found", "mknod -m 666 /dev/net/tun c 10 200", |facts| {
        facts.tun = Err(io::ErrorKind::NotFound.into());
    });
    finds("/dev/net/tun", Level::Lack, "No such device", "modprobe tun", |facts| {
        facts.tun = Err(io::Error::from_raw_os_error(19));
    });
}

#[test]
fn the_kernels_parts_are_there_or_can_be_loaded() {
    let set = |index: usize, presence| move |facts: &mut Facts| facts.features[index] = presence;
    finds(
        "kernel: bridge",
        Level::Lack,
        "not in this kernel",
        "modprobe bridge, or boot a kernel with",
        set(0, Presence::Absent),
    );
    finds(
        "kernel: bpf",
        Level::Lack,
        "not in this kernel",
        "boot a kernel with CONFIG_BPF_SYSCALL",
        set(3, Presence::Absent),
    );
    finds("kernel: veth", Level::Lack, "may not be loaded", "kernel.modules_disabled", set(1, Presence::Locked));
    finds("kernel: tun", Level::Note, "cannot be told", "CONFIG_TUN", set(2, Presence::Unknown));
    assert!(judged(&Config::default(), set(0, Presence::Loadable)).iter().all(|f| f.level == Level::Ok));
    // geneve is asked for in its mode alone.
    assert!(judged(&Config::default(), set(6, Presence::Absent)).iter().all(|f| f.level == Level::Ok));
    let geneve = Config { tunnel: Tunnel::Geneve, ..Config::default() };
    assert_eq!(only(judged(&geneve, set(6, Presence::Absent))).name, "kernel: geneve");
}

#[test]
fn limits_hold_all_slots_that_the_pool_may_grow_to() {
    let config = Config { slots_max: 5_000, ..Config::default() };
    // slots_max + 2 x 1,024 connections + 128
    let files = |n| only(judged(&config, move |facts| facts.open_files = Some(n)));
    assert_eq!(files(7_175).need, "at least 7176");
    assert_eq!(files(7_175).level, Level::Lack);
    assert!(files(7_175).mend.is_some_and(|mend| mend.starts_with("LimitNOFILE=7176 in the unit")));
    assert!(judged(&config, |facts| facts.open_files = Some(7_176)).iter().all(|f| f.level == Level::Ok));
    assert_eq!(only(judged(&config, |facts| facts.open_files = None)).level, Level::Note);

    let namespaces = only(judged(&config, |facts| facts.net_namespaces = Some(5_063)));
    assert_eq!(namespaces.mend.as_deref(), Some("sysctl -w user.max_net_namespaces=5064"));
    let mounts = only(judged(&config, |facts| facts.mounts_max = Some(5_019)));
    assert_eq!(mounts.mend.as_deref(), Some("sysctl -w fs.mount-max=5020"));
    assert_eq!(mounts.level, Level::Lack);
}

#[test]
fn memory_is_judged_by_slot_and_possible_cpu_and_by_what_is_made_already() {
    // 1,000 x (376 KiB + 2 x 6,349 B) + 64 MiB = 464.8 MB
    let free = |bytes: u64, cpus: u32| {
        judged(&Config::default(), move |facts| {
            facts.memory_bytes = Some(bytes);
            facts.cpus_possible = Some(cpus);
            facts.cpus_online = Some(cpus);
        })
    };
    let lack = only(free(464_000_000, 2));
    assert_eq!((lack.name, lack.level), ("memory", Level::Lack));
    assert_eq!(lack.need, "464 MB for 1000 slots more, 397 kB each with 2 possible CPUs");
    assert_eq!(lack.value, "464 MB available");
    assert_eq!(only(free(465_000_000, 2)).level, Level::Note, "more than half of it");
    assert!(free(930_000_000, 2).iter().all(|f| f.level == Level::Ok));
    assert_eq!(only(free(1_600_000_000, 192)).need, "1.6 GB for 1000 slots more, 1604 kB each with 192 possible CPUs");
    let made = |facts: &mut Facts| {
        facts.memory_bytes = Some(300_000_000);
        let network = facts.network.as_mut().expect("a network");
        network.links.extend((0..900).map(host_end));
    };
    assert!(judged(&Config::default(), made).iter().all(|f| f.level == Level::Ok), "900 of them cost no more");
}

#[test]
fn cpus_that_will_never_be_are_told_with_their_price() {
    finds("possible CPUs", Level::Note, "240 possible, 4 online: 1.4 GB", "nr_cpus=4", |facts| {
        facts.cpus_possible = Some(240);
        facts.cpus_online = Some(4);
    });
}

#[test]
fn a_knob_out_of_reach_is_noted_with_what_it_costs() {
    let knob_is = |error: io::ErrorKind| move |facts: &mut Facts| facts.knobs = vec![knob(Err(error.into()))];
    let name = "/sys/kernel/rcu_expedited";
    finds(name, Level::Note, "not there", "initial network namespace", knob_is(io::ErrorKind::NotFound));
    finds(
        name,
        Level::Note,
        "read-only",
        "make /sys/kernel/rcu_expedited writable",
        knob_is(io::ErrorKind::ReadOnlyFilesystem),
    );
    assert_eq!(only(judged(&Config::default(), knob_is(io::ErrorKind::NotFound))).why, "slow");
}

#[test]
fn pins_need_a_bpffs_that_can_be_seen_and_written() {
    finds("bpffs", Level::Lack, "is on a sysfs", "mount -t bpf bpf /sys/fs/bpf", |facts| facts.mounts.truncate(3));
    finds("bpffs", Level::Lack, "read-only at /sys/fs/bpf", "mount -o remount,rw /sys/fs/bpf", |facts| {
        facts.mounts[3].read_only = true;
    });
    finds("bpffs", Level::Lack, "the one at /sys/fs/bpf is hidden by a tmpfs over it", "umount /sys/fs/bpf", |facts| {
        facts.mounts.push(mount(31, 30, "/sys/fs/bpf", "tmpfs"));
    });
    finds("bpffs", Level::Note, "one at /sys/fs/bpf lies over another", "umount /sys/fs/bpf, if pins", |facts| {
        facts.mounts.push(mount(31, 30, "/sys/fs/bpf", "bpf"));
    });
    let own = |facts: &mut Facts| facts.mounts.push(mount(31, 30, "/sys/fs/bpf/netslot", "bpf"));
    assert!(judged(&Config::default(), own).iter().all(|f| f.level == Level::Ok), "a bpffs of its own");
    let elsewhere = Config { bpf_dir: "/run/bpf/netslot".into(), ..Config::default() };
    assert_eq!(only(judged(&elsewhere, |_| ())).mend.as_deref(), Some("mount -t bpf bpf /run/bpf"));
}

#[test]
fn directories_can_be_written_and_forget_with_the_boot() {
    finds("run_dir", Level::Lack, "/run/netslot: Read-only file system", "choose another run_dir", |facts| {
        facts.dirs[0].writable = Err(Errno::EROFS);
    });
    finds("socket's directory", Level::Lack, "Permission denied", "choose another socket", |facts| {
        facts.dirs[2].writable = Err(Errno::EACCES);
    });
    finds("run_dir", Level::Note, "is on ext4, which outlives the boot", "choose a run_dir on one", |facts| {
        facts.dirs[0].path = PathBuf::from("/var/netslot");
        facts.dirs[0].nearest = PathBuf::from("/var");
    });
}

#[test]
fn the_uplink_is_found_or_its_absence_told() {
    let mend = "set `uplink`, or bring the network up first";
    finds("uplink", Level::Lack, "no default route", mend, with_network(|network| network.routes.clear()));
    let early = Config { mtu: Some(1_400), ..Config::default() };
    let note = only(judged(&early, with_network(|network| network.routes.clear())));
    assert_eq!((note.name, note.level), ("uplink", Level::Note), "an initramfs has no network yet");
    let fine = judged(&Config::default(), |_| ());
    let uplink = fine.iter().find(|f| f.name == "uplink").expect("judged");
    assert_eq!(uplink.value, "eth0, MTU 1430 inside the slots");
}

#[test]
fn devices_of_others_in_the_slots_places_are_lacking_room() {
    let foreign = |index, name: &str| Link { index, name: name.into(), kind: "dummy".into(), ..Link::default() };
    finds(
        "device names",
        Level::Lack,
        "slot7",
        "ip link set slot7 name other0",
        with_network(|network| {
            network.links.push(foreign(9, "slot7"));
        }),
    );
    finds(
        "device indexes",
        Level::Lack,
        "veth9 (index 100999)",
        "ifindex_base = 200999",
        with_network(|network| {
            network.links.push(foreign(100_999, "veth9"));
        }),
    );
    let beside = with_network(|network| {
        network.links.extend([foreign(99_999, "a"), foreign(101_000, "b"), foreign(10, "slot1000"), host_end(3)]);
    });
    assert!(judged(&Config::default(), beside).iter().all(|f| f.level == Level::Ok));
    let many = with_network(|network| network.links.extend((10..16).map(|n| foreign(n, &format!("slot{n}")))));
    assert!(only(judged(&Config::default(), many)).value.ends_with("slot13 and 2 more"));
}

#[test]
fn addresses_of_others_in_the_slots_range_are_lacking_room_and_wider_routes_are_noted() {
    let mend = "choose another slot_cidr";
    finds(
        "slot addresses",
        Level::Lack,
        "100.64.9.9 on eth0",
        mend,
        with_network(|network| {
            network.addresses.push(address("100.64.9.9"));
        }),
    );
    finds(
        "slot addresses",
        Level::Lack,
        "a route to 100.65.0.0/16 by eth0",
        mend,
        with_network(|network| {
            network.routes.push(route(Some("100.65.0.0"), 16));
        }),
    );
    finds(
        "slot addresses",
        Level::Note,
        "a route to 100.64.0.0/10 by eth0",
        mend,
        with_network(|network| {
            network.routes.push(route(Some("100.64.0.0"), 10));
        }),
    );
    let ours = with_network(|network| {
        let end = host_end(3);
        network.routes.push(Route { index: end.index, ..route(Some("100.64.0.5"), 32) });
        network.addresses.push(Address { index: end.index, ..address("100.64.0.1") });
        network.links.push(end);
    });
    assert!(judged(&Config::default(), ours).iter().all(|f| f.level == Level::Ok));

    let ipv6 = Config { slot_cidr6: "fd00:6e73::/96".parse().ok(), ..Config::default() };
    let lack = only(judged(&ipv6, with_network(|network| network.addresses.push(address("fd00:6e73::9")))));
    assert_eq!((lack.level, &*lack.value), (Level::Lack, "fd00:6e73::9 on eth0"));
}

#[test]
fn what_guests_cannot_reach_is_noted() {
    finds(
        "guest addresses",
        Level::Note,
        "172.16.0.1 on eth0",
        "choose another guest.ip",
        with_network(|network| {
            network.addresses.push(address("172.16.0.1"));
        }),
    );
    finds(
        "guest addresses",
        Level::Note,
        "a route to 172.16.0.0/30 by eth0",
        "choose another",
        with_network(|network| {
            network.routes.push(route(Some("172.16.0.0"), 30));
        }),
    );
    let wider = with_network(|network| network.routes.push(route(Some("172.16.0.0"), 12)));
    assert!(judged(&Config::default(), wider).iter().all(|f| f.level == Level::Ok), "four of a million addresses");
}

#[test]
fn this_host_is_looked_at_without_a_panic() {
    let findings = super::check(&Config::default());
    assert!(findings.iter().any(|f| f.name == "kernel" && f.value.starts_with(|c: char| c.is_ascii_digit())));
    assert!(findings.iter().any(|f| f.name == "memory" && f.value.ends_with("available")));
    let kernel_parts = findings.iter().filter(|f| f.name.starts_with("kernel: "));
    assert!(kernel_parts.count() >= FEATURES.len() - 1);
}

#[test]
fn a_firewall_in_the_way_is_named_with_what_lets_slots_through() {
    let place = Place { family: 2, table: b"filter\0".to_vec(), chain: b"FORWARD\0".to_vec() };
    let wall = |by_policy| Wall { place: place.clone(), by_policy };
    finds(
        "host firewall",
        Level::Note,
        "ip filter FORWARD drops by its policy",
        "nft insert rule ip filter FORWARD iifname '\"slot*\"' accept",
        |facts| facts.path.walls = Some(vec![wall(true)]),
    );
    finds("host firewall", Level::Note, "drops by its last rule", "oifname", |facts| {
        facts.path.walls = Some(vec![wall(false)]);
    });
    finds("host firewall", Level::Note, "iptables-legacy", "iptables-legacy -S FORWARD", |f| f.path.legacy = true);
    finds("host firewall", Level::Note, "not looked at", "as root", |facts| facts.path.walls = None);
    let config = Config { forward: Forward::Redirect, ..Config::default() };
    let findings = judged(&config, |facts| facts.path.walls = Some(vec![wall(true)]));
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
}

#[test]
fn others_programs_matter_where_they_come_first() {
    let other = |first| Other { place: "eth0 ingress".into(), name: "cil_from_netdev".into(), first };
    finds("others' programs", Level::Note, "cil_from_netdev on eth0 ingress", "TC_ACT_UNSPEC", |facts| {
        facts.path.others = Some(vec![other(false), other(true)]);
    });
    let findings = judged(&Config::default(), |facts| facts.path.others = Some(vec![other(false)]));
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
}

#[test]
fn pins_are_all_there_where_a_pool_is() {
    let pool = |facts: &mut Facts| facts.network.as_mut().expect("seen").links.push(host_end(0));
    let lost = |facts: &mut Facts| facts.path.unpinned = Some(vec!["ledger"]);
    finds("pins", Level::Lack, "1 slots stand, and ledger not in /sys/fs/bpf/netslot", "netslot destroy", |facts| {
        pool(facts);
        lost(facts);
    });
    let findings = judged(&Config::default(), lost);
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
}

#[test]
fn ipv6_slots_need_the_hosts_forwarding_unless_packets_pass_it_by() {
    let with = |slot_cidr6: Option<&str>, forward, value| {
        let config = Config { slot_cidr6: slot_cidr6.and_then(|net| net.parse().ok()), forward, ..Config::default() };
        let findings = judge(&config, &Facts { ipv6_forwarding: value, ..host() });
        findings.into_iter().find(|f| f.name == "net.ipv6.conf.all.forwarding").map(|f| f.level)
    };
    let range = Some("fd00:6e73::/64");
    assert_eq!(with(range, Forward::Stack, Some(0)), Some(Level::Lack));
    assert_eq!(with(range, Forward::Stack, Some(1)), Some(Level::Ok));
    assert_eq!(with(range, Forward::Redirect, Some(0)), None);
    assert_eq!(with(None, Forward::Stack, Some(0)), None);
}
