//! Real guests on the host's own kernel: Debian's kernel under QEMU, started by `netslot exec` on a leased slot's tap or
//! given the tap as a descriptor; DHCP, NAT, HTTP, the tunnel, the guest's sudden death and the slot's next lease.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netslot::bpf::Maps;
use netslot::sys::netns::within;
use netslot_protocol::client::{Client, LeaseOptions};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::common::daemon::{Daemon, eventually};
use crate::common::{NETWORK_IP, World};
use crate::image::Image;
use crate::kernel::{Kernel, Line};
use crate::machine::{Machine, QEMU, Running};
use crate::packages;
use crate::scenario::{possible, script, skip};

/// What the guests download.
const FILE_BYTES: usize = 100 << 20;
const VNI: u32 = 0x00_1234;
/// The tenant's network, beyond the tunnel.
const PEER: [u8; 4] = [10, 1, 2, 1];

/// What every guest is made of.
struct Kit {
    kernel: Kernel,
    initramfs: Vec<u8>,
    append: String,
}

impl Kit {
    fn new(md5: &str, mtu: u32) -> Result<Self, String> {
        possible()?;
        let kernel = Kernel::get(Line::V6_12)?;
        let mut image = Image::new()?;
        for (from, to) in [("guest.sh", "init"), ("udhcpc.sh", "udhcpc.sh"), ("lib.sh", "lib.sh")] {
            image.file(to, 0o755, &script(from));
        }
        image.modules(&kernel, &["virtio_net"]);
        let append = format!("server={NETWORK_IP} md5={md5} mtu={mtu} peer=10.1.2.1");
        Ok(Self { kernel, initramfs: image.finish(), append })
    }

    /// A guest on the network device that those words describe.
    fn start(&self, name: &str, launcher: Command, netdev: &str) -> Running {
        let device = "virtio-net-pci,netdev=net,mac=06:00:ac:10:00:02,romfile=";
        let more = ["-netdev", &format!("tap,id=net,{netdev}"), "-device", device].map(str::to_owned);
        let machine = Machine {
            kernel: &self.kernel.image,
            initramfs: &self.initramfs,
            memory_mb: 192,
            append: &self.append,
            more: &more,
            patience: Duration::from_secs(900),
        };
        machine.start(launcher, &packages::cache().join("runs").join(name))
    }
}

/// Debian's busybox as a web server in the network beyond the uplink.
struct Server(Child);

impl Server {
    fn start(world: &World, root: &Path) -> Self {
        let busybox = packages::unpacked("busybox-static").expect("unpacked before").join("bin/busybox");
        let mut command = Command::new(busybox);
        command.args(["httpd", "-f", "-p", &format!("{NETWORK_IP}:8080"), "-h"]).arg(root).stdin(Stdio::null());
        Self(within(&world.network, || command.spawn().expect("started")).expect("entered"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The tenant's far end, from the written format: answers each ping that comes in Geneve with the bound VNI, and gives up
/// waiting when the test is over. Returns how many it answered.
fn answer_pings(udp: &UdpSocket, until: &dyn Fn() -> bool) -> u32 {
    udp.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    let (mut packet, mut answered) = (vec![0; 2_048], 0);
    while !until() {
        let Ok((len, from)) = udp.recv_from(&mut packet) else { continue };
        let frame = &mut packet[8..len];
        if frame[12..14] != [8, 0] || frame[23] != 1 || frame[34] != 8 || frame[30..34] != PEER {
            continue;
        }
        let (to, sender): ([u8; 6], [u8; 6]) = (frame[..6].try_into().expect("6"), frame[6..12].try_into().expect("6"));
        frame[..6].copy_from_slice(&sender);
        frame[6..12].copy_from_slice(&to);
        let (source, destination): ([u8; 4], [u8; 4]) =
            (frame[26..30].try_into().expect("4"), frame[30..34].try_into().expect("4"));
        frame[26..30].copy_from_slice(&destination);
        frame[30..34].copy_from_slice(&source);
        // Echo request → reply: the type's byte falls by 8, so the ones' complement checksum rises by as much (RFC 1624).
        frame[34] = 0;
        let (sum, carry) = u16::from_be_bytes([frame[36], frame[37]]).overflowing_add(0x0800);
        frame[36..38].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        assert_eq!(packet[4..7], VNI.to_be_bytes()[1..], "the bound VNI");
        udp.send_to(&packet[..len], (from.ip(), 6_081)).expect("sent");
        answered += 1;
    }
    answered
}

/// Waits until a slot's program has answered a DHCP request, without a look at what the guest tells.
fn until_answered(guest: &mut Running) {
    let maps = Maps::open(Path::new("/sys/fs/bpf/netslot")).expect("readable").expect("pinned");
    let counters = maps.counters().expect("readable");
    let answered = || (0..2).any(|slot| counters.of(slot).expect("counted").dhcp_replies > 0);
    let began = Instant::now();
    while !answered() {
        guest.runs(began, "no DHCP request answered");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn two_real_guests_by_name_and_by_descriptor_reach_the_network_and_a_killed_ones_slot_is_leased_again() {
    let Some(world) = World::new() else { return };
    let root = tempfile::tempdir_in(packages::cache()).expect("a directory");
    // No two pages alike: a segment lost, doubled or out of its place would change the sum.
    let file: Vec<u8> =
        (0..FILE_BYTES / 8).flat_map(|n| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    fs::write(root.path().join("file"), file).expect("written");
    let md5 = packages::output(Command::new("md5sum").arg(root.path().join("file"))).expect("md5sum is there");
    let kit = match Kit::new(md5.split(' ').next().expect("a sum"), 1_430) {
        Ok(kit) => kit,
        Err(why) => return skip(&why),
    };
    let daemon = Daemon::over(&world, "slots = 2");
    let _server = Server::start(&world, root.path());

    let began = Instant::now();
    assert_eq!(world.netslot(&["exec", "--", "true"]).code, 0);
    eprintln!("measured: {:?} for netslot exec of a program that ends at once", began.elapsed());
    eventually("its slot is free", || daemon.slots("free").len() == 2);
    let began_first = Instant::now();
    let by_name = "ifname=tap0,script=no,downscript=no";
    let mut first = kit.start("guest-name", world.command(&["exec", "--tag", "first", "--", QEMU]), by_name);
    until_answered(&mut first);
    eprintln!(
        "measured: {:?} from netslot exec to the answer to the guest's first packet, a DHCP request",
        began_first.elapsed()
    );
    let began_second = Instant::now();
    let mut client =
        Client::connect_as(Path::new("/run/netslot/netslot.sock"), "test", Duration::from_secs(30)).expect("served");
    let ask = LeaseOptions { want_tap: true, tag: "second", ..LeaseOptions::default() };
    let lease = client.lease(&ask).expect("leased").pop().expect("one");
    let tap = lease.tap.expect("asked for");
    fcntl(&tap, FcntlArg::F_SETFD(FdFlag::empty())).expect("kept over exec");
    let mut second = kit.start("guest-fd", Command::new(QEMU), &format!("fd={}", tap.as_raw_fd()));
    drop(tap);
    for (guest, name, began) in [(&mut first, "by name", began_first), (&mut second, "by descriptor", began_second)] {
        guest.tells("ok the address is the guest's");
        eprintln!("measured: {name}: {:?} from the start to an address; {:?}", began.elapsed(), guest.measured());
        guest.tells("done");
        eprintln!("measured: {name}: {:?} to the end of 100 MiB over HTTP", began.elapsed());
    }

    let firsts =
        daemon.slots("leased").iter().find(|slot| slot["owner"]["tag"] == "first").expect("leased")["slot"].clone();
    drop(first);
    eventually("the dead guest's slot is free", || daemon.slots("free").len() == 1);
    let mut third = kit.start("guest-again", world.command(&["exec", "--tag", "third", "--", QEMU]), by_name);
    third.tells("done");
    let thirds =
        daemon.slots("leased").iter().find(|slot| slot["owner"]["tag"] == "third").expect("leased")["slot"].clone();
    assert_eq!(firsts, thirds, "there is no other");

    let bind = ["bind", &lease.id.slot.to_string(), "--generation", &lease.id.generation.to_string()];
    let vni = VNI.to_string();
    let tunnel = ["--vni", &vni, "--remote", NETWORK_IP, "--tenant-ip", "10.1.2.3"];
    assert_eq!(world.netslot(&[&bind[..], &tunnel].concat()).code, 0);
    let udp = within(&world.network, || UdpSocket::bind((NETWORK_IP, 6_081)).expect("bound")).expect("entered");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let far = scope.spawn(|| answer_pings(&udp, &|| over.load(std::sync::atomic::Ordering::Relaxed)));
        second.tells("ok the tenant's network is reached");
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(far.join().expect("no panic") >= 4);
    });
}
