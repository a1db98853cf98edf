//! Real DHCP clients get a lease from the program on their slot's tap, and renew it by unicast; no daemon is there at all.
//! Each runs with mounts and processes of its own, so that no file of the machine is touched.

mod datapath_world;

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use datapath_world::World;
use datapath_world::private::has;
use datapath_world::private::inside;
use etherparse::{Ipv4HeaderSlice, UdpSlice};
use netslot::slot::IfIndex;
use netslot::trace::watch::Places;
use netslot::trace::{Mine, Watch, summary};

/// Clients ask again at half of it.
const LEASE_S: u32 = 6;
/// Longer than any client takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client: what it needs to be there, its files, and the shell's line that becomes it. All of them tell the lease to
/// `/run/NAME.log`.
struct Client {
    name: &'static str,
    program: &'static str,
    files: &'static [(&'static str, &'static str)],
    line: &'static str,
    tells: &'static [&'static str],
}

const CLIENTS: [Client; 4] = [
    Client {
        name: "udhcpc",
        program: "busybox",
        files: &[(
            "/run/udhcpc.sh",
            r#"#!/bin/sh
case $1 in bound | renew) ip addr replace "$ip/$mask" dev "$interface" ;; esac
echo "$1 $ip/$mask router $router mtu $mtu dns $dns lease $lease" >>/run/udhcpc.log
"#,
        )],
        // No lease is shorter than 16 s to it: it is told to renew.
        line: "busybox udhcpc -f -i eth0 -O mtu -s /run/udhcpc.sh &
until grep -q bound /run/udhcpc.log; do sleep 0.1; done
kill -USR1 $!
wait",
        tells: &["bound 172.16.0.2/30 router 172.16.0.1 mtu 1450 dns 9.9.9.9 lease"],
    },
    Client {
        name: "dhclient",
        program: "dhclient",
        files: &[
            (
                "/run/dhclient.sh",
                r#"#!/bin/sh
case $reason in BOUND | RENEW | REBIND) ip addr replace "$new_ip_address/30" dev "$interface" ;; esac
echo "$reason $new_ip_address/$new_subnet_mask router $new_routers mtu $new_interface_mtu" \
    "dns $new_domain_name_servers lease $new_dhcp_lease_time" >>/run/dhclient.log
"#,
            ),
            (
                "/run/dhclient.conf",
                "request subnet-mask, routers, interface-mtu, domain-name-servers;\ninitial-interval 1;\n",
            ),
        ],
        line: "dhclient -4 -d -sf /run/dhclient.sh -cf /run/dhclient.conf -lf /run/dhclient.leases -pf /run/dhclient.pid eth0",
        tells: &["BOUND 172.16.0.2/255.255.255.252 router 172.16.0.1 mtu 1450 dns 9.9.9.9 lease 6"],
    },
    Client {
        name: "dhcpcd",
        program: "dhcpcd",
        files: &[
            (
                "/run/dhcpcd.sh",
                r#"#!/bin/sh
echo "$reason $new_ip_address/$new_subnet_cidr router $new_routers mtu $new_interface_mtu" \
    "dns $new_domain_name_servers lease $new_dhcp_lease_time" >>/run/dhcpcd.log
"#,
            ),
            ("/run/dhcpcd.conf", "option routers, interface_mtu, domain_name_servers\nnodelay\n"),
        ],
        // Nor shorter than 20 s to this one.
        line: "dhcpcd -4 -B -f /run/dhcpcd.conf -c /run/dhcpcd.sh eth0 &
until grep -q BOUND /run/dhcpcd.log; do sleep 0.1; done
dhcpcd -4 -N eth0
wait",
        tells: &["BOUND 172.16.0.2/30 router 172.16.0.1 mtu 1450 dns 9.9.9.9 lease 6"],
    },
    Client {
        name: "networkd",
        program: "systemd-networkd",
        files: &[(
            "/run/systemd/network/10-guest.network",
            "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n[DHCPv4]\nUseMTU=yes\n",
        )],
        // Its state is its log. A /sys that cannot be written means to it that there is no udev to wait for.
        line: "/lib/systemd/systemd-networkd & while sleep 0.1; do cat /run/systemd/netif/leases/* >/run/networkd.log; done",
        tells: &[
            "ADDRESS=172.16.0.2\n",
            "NETMASK=255.255.255.252\n",
            "ROUTER=172.16.0.1\n",
            "MTU=1450\n",
            "DNS=9.9.9.9\n",
        ],
    },
];

/// Nothing that a client writes by itself is the machine's.
const OWN_FILES: &str = "set -e
for dir in /var/lib/dhcp /var/lib/dhcpcd; do
    if [ -d $dir ]; then mount -t tmpfs own $dir; fi
done
touch /run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
mount -t sysfs -o ro own /sys
set +e
";

/// A client at work; ended, with all its children, when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(client: &Client, world: &World, slot: usize) -> Running {
    for (path, text) in client.files {
        let path = Path::new(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    }
    let line = format!("{OWN_FILES}{}", client.line);
    let own = ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &line];
    let log = fs::File::create(format!("/run/{}.out", client.name)).expect("a file");
    let mut command = inside(&world.guests[slot], "unshare");
    command.args(own);
    let child = command.stdin(Stdio::null()).stderr(log.try_clone().expect("a descriptor")).stdout(log);
    Running(child.spawn().expect("started"))
}

/// Runs a client until its lease is there and renewed; whether it left the renewal's checksum to the device, as a guest's
/// kernel leaves it to a virtio NIC.
fn lease_and_renewal(client: &Client, world: &World, slot: usize) -> bool {
    let places = Places {
        netns: world.slots[slot].as_fd(),
        tap: IfIndex(world.datapath.record().ifindex_base + u32::try_from(slot).expect("a few")),
        tunnel: false,
        uplink: None,
        mine: Mine::default(),
    };
    let mut watch = Watch::open(places, 1_500).expect("a watch");
    let running = start(client, world, slot);
    let mut lines: Vec<String> = Vec::new();
    let read = |kind: &str| fs::read_to_string(format!("/run/{}.{kind}", client.name)).unwrap_or_default();
    let told = || client.tells.iter().all(|words| read("log").contains(words));
    let renewed = |lines: &[String]| {
        let asked = lines.iter().position(|line| {
            line.starts_with("guest out IPv4 172.16.0.2.68 > 172.16.0.1.67: DHCP request")
                && line.contains("has 172.16.0.2")
        });
        asked.is_some_and(|asked| {
            lines[asked..].iter().any(|line| line.starts_with("guest in IPv4 172.16.0.1.67 > 172.16.0.2.68: DHCP ack"))
        })
    };
    let (began, mut partial) = (Instant::now(), false);
    while !(told() && renewed(&lines)) {
        let (seen, _) = watch.round(Duration::from_millis(50)).expect("frames");
        lines.extend(seen.iter().map(|seen| {
            let summary = summary::line(&seen.bytes, seen.length, 6_081);
            partial |= summary.contains("DHCP request") && !is_summed(&seen.bytes);
            format!("{} {} {summary}", seen.hook.name(), seen.direction.name())
        }));
        let (log, out) = (read("log"), read("out"));
        assert!(began.elapsed() < PATIENCE, "{}: {}\n{log}\n{out}", client.name, lines.join("\n"));
    }
    drop(running);
    assert!(!lines.iter().any(|line| line.contains("guest in ARP 172.16.0.2 is at")), "nobody answers its probe");
    assert!(lines.iter().all(|line| !line.contains("DHCP nak")), "{}: {lines:?}", client.name);
    partial
}

/// Whether a UDP frame's checksum is complete.
fn is_summed(frame: &[u8]) -> bool {
    let ip = Ipv4HeaderSlice::from_slice(&frame[14..]).expect("IPv4").to_header();
    let udp = UdpSlice::from_slice(&frame[34..]).expect("UDP");
    udp.checksum() == udp.to_header().calc_checksum_ipv4(&ip, udp.payload()).expect("short")
}

#[test]
fn real_clients_get_a_lease_and_renew_it() {
    let clients: Vec<&Client> = CLIENTS.iter().filter(|client| has(client.program)).collect();
    let Some(mut world) = World::with(|config| {
        config.slots = 4;
        config.guest.dns = vec![[9, 9, 9, 9].into()];
        // Shorter than a configuration may say, so that the test sees a renewal.
        config.guest.dhcp_lease_s = LEASE_S;
    }) else {
        return;
    };
    world.lease_all();
    for slot in 0..4 {
        world.ip(&format!("-n g{slot} addr flush dev eth0"));
    }
    let world = &world;
    let partial = std::thread::scope(|scope| {
        let each = clients.iter().enumerate();
        let each: Vec<_> =
            each.map(|(slot, client)| scope.spawn(move || lease_and_renewal(client, world, slot))).collect();
        each.into_iter().map(|client| client.join().expect("no panic")).filter(|partial| *partial).count()
    });
    assert!(partial > 0 || clients.is_empty(), "no request came with its checksum left to the device");
}
