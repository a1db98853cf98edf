//! The lines of `show --for` do what they promise: QEMU takes them as they are, and for VMMs that cannot run here their own
//! sequence of opens and ioctls is gone through with what the lines name.
#![allow(unsafe_code, reason = "a VMM's ioctls on its tap, which no library wraps")]

mod common;
#[path = "common/tap_ioctls.rs"]
mod tap_ioctls;

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};

use common::World;
use common::daemon::{Daemon, eventually};
use netslot_protocol::client::{Client, LeaseOptions};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

nix::ioctl_write_ptr_bad!(set_iff, nix::request_code_write!(b'T', 202, 4), libc::ifreq);
nix::ioctl_read_bad!(get_iff, nix::request_code_read!(b'T', 210, 4), libc::ifreq);

/// TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_UFO, as Firecracker and Cloud Hypervisor set them on activation.
const OFFLOADS: i32 = 1 | 2 | 4 | 16;
/// Bytes of virtio-net's header with `num_buffers`.
const HEADER: i32 = 12;

/// The line for a purpose that begins so.
fn line(world: &World, slot: &str, vmm: &str, purpose: &str) -> String {
    let lines = world.json(&["show", slot, "--for", vmm]);
    let lines = lines.as_array().expect("a list").clone();
    let found = lines.iter().find(|line| line["for"].as_str().is_some_and(|p| p.starts_with(purpose)));
    found.unwrap_or_else(|| panic!("{purpose}: {lines:?}"))["paste"].as_str().expect("text").to_owned()
}

/// What a program prints that is run as the line has it, up to the VMM's own name.
fn run(inside: &str, program: &[&str]) -> String {
    let mut words = inside.split_ascii_whitespace().chain(program.iter().copied());
    let output = Command::new(words.next().expect("ip")).args(words).output().expect("ip is there");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// The tap by name in the thread's namespace, as Firecracker opens it: no IFF_MULTI_QUEUE.
fn open_by_name(name: &str) -> File {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let tap = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/net/tun").expect("opened");
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR).expect("15 bits");
    // SAFETY: the kernel reads and writes one ifreq that lives on.
    unsafe { set_iff(tap.as_raw_fd(), &raw const request) }.expect("TUNSETIFF");
    tap
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::try_from(byte).expect("ASCII");
    }
    request
}

/// What both VMMs do to a tap they hold.
fn activate(tap: &impl std::os::fd::AsRawFd) {
    // SAFETY: takes a plain number.
    unsafe { tap_ioctls::set_offload(tap.as_raw_fd(), OFFLOADS) }.expect("TUNSETOFFLOAD");
    let header = HEADER;
    // SAFETY: the kernel reads one int that lives on.
    unsafe { tap_ioctls::set_vnet_hdr(tap.as_raw_fd(), &raw const header) }.expect("TUNSETVNETHDRSZ");
}

#[test]
fn firecracker_by_path_and_name() {
    let Some(world) = World::new() else { return };
    let _daemon = Daemon::over(&world, "slots = 2");
    world.json(&["lease"]);
    let interface: Value = serde_json::from_str(&line(&world, "0", "firecracker", "API: PUT /network")).expect("JSON");
    assert_eq!(interface.as_object().map(serde_json::Map::len), Some(3), "no key that an older version refuses");
    assert_eq!(interface["guest_mac"], "06:00:ac:10:00:02");
    let boot = line(&world, "0", "firecracker", "boot_args");
    assert_eq!(boot, "ip=172.16.0.2::172.16.0.1:255.255.255.252::eth0:off");
    let jailer = line(&world, "0", "firecracker", "jailer");
    let path = jailer.strip_prefix("--netns ").expect("the jailer's argument").to_owned();
    let tap = interface["host_dev_name"].as_str().expect("a name").to_owned();
    let slot = world.slot(0);
    // In a thread: as the jailer, it never comes back.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let netns = File::open(&path).expect("the jailer opens it");
            setns(netns, CloneFlags::CLONE_NEWNET).expect("and enters");
            let tap = open_by_name(&tap);
            activate(&tap);
            assert!(world.in_netns(&slot, "ip", &["link", "show", "tap0"]).contains("LOWER_UP"), "the VMM is there");
        });
    });
    assert!(line(&world, "0", "firecracker", "without").starts_with("ip netns exec slot-0000 firecracker "));
}

#[test]
fn cloud_hypervisor_by_descriptor_and_name() {
    let Some(world) = World::new() else { return };
    let _daemon = Daemon::over(&world, "slots = 2");
    let mut client = Client::connect("/run/netslot/netslot.sock".as_ref()).expect("a daemon");
    let options = LeaseOptions { want_tap: true, ..LeaseOptions::default() };
    let lease = client.lease(&options).expect("a slot").remove(0);
    let by_fd = line(&world, "0", "cloud-hypervisor", "by descriptor");
    let (inside, _) =
        by_fd.split_once("cloud-hypervisor --net fd=3,mac=06:00:ac:10:00:02,num_queues=2").expect("its line");
    let tap = lease.tap.expect("asked for");
    // The descriptor gets through, and the device's MTU can be asked for by its name, as is done for an inherited one, too.
    fcntl(&tap, FcntlArg::F_SETFD(FdFlag::empty())).expect("kept over exec");
    let seen = format!("grep -q tap0 /proc/self/fdinfo/{} && cat /sys/class/net/tap0/mtu", tap.as_raw_fd());
    assert_eq!(run(inside, &["sh", "-c", &seen]), lease.guest.mtu.to_string());
    let mut found = request("");
    // SAFETY: the kernel writes one ifreq that lives on.
    unsafe { get_iff(tap.as_raw_fd(), &raw mut found) }.expect("TUNGETIFF");
    // SAFETY: TUNGETIFF fills the flags of the union.
    let flags = libc::c_int::from(unsafe { found.ifr_ifru.ifru_flags });
    assert_eq!(flags & (libc::IFF_TAP | libc::IFF_VNET_HDR), libc::IFF_TAP | libc::IFF_VNET_HDR);
    assert_eq!(flags & libc::IFF_MULTI_QUEUE, 0, "one pair of queues is what the line asks for");
    activate(&tap);
    drop(tap);
    let by_name = line(&world, "0", "cloud-hypervisor", "by name");
    let (inside, _) = by_name.split_once("cloud-hypervisor --net tap=tap0,mac=06:00:ac:10:00:02,").expect("its line");
    // What it looks at before it opens the tap by name: of the slot's own /sys.
    let flags = run(inside, &["cat", "/sys/class/net/tap0/tun_flags"]);
    let flags = i32::from_str_radix(flags.trim_start_matches("0x"), 16).expect("a number");
    assert_eq!(flags & libc::IFF_MULTI_QUEUE, 0);
}

#[test]
fn qemu_itself() {
    let Some(world) = World::new() else { return };
    let program = format!("qemu-system-{}", std::env::consts::ARCH);
    if Command::new(&program).arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "{program} is needed: run tests/tools.sh vm");
        eprintln!("SKIPPED: {program} is not here (tests/tools.sh vm installs it)");
        return;
    }
    let _daemon = Daemon::over(&world, "slots = 2");
    world.json(&["lease"]);
    let slot = world.slot(0);
    let carrier = || world.in_netns(&slot, "ip", &["link", "show", "tap0"]).contains("LOWER_UP");
    assert!(!carrier());
    let pasted = line(&world, "0", "qemu", "by name");
    // Stopped before the first instruction: what is to be seen is that it takes the line and opens the tap.
    let rest = "-S -accel tcg -machine q35 -m 64 -display none -nodefaults -no-user-config";
    let mut command = Command::new("sh");
    let mut vm = command.args(["-c", &format!("exec {pasted} {rest}")]).stdin(Stdio::null()).spawn().expect("started");
    eventually("QEMU holds the tap", || {
        assert!(vm.try_wait().expect("asked").is_none(), "QEMU refused: {pasted}");
        carrier()
    });
    vm.kill().expect("killed");
    vm.wait().expect("reaped");
    eventually("the tap is free again", || !carrier());
}
