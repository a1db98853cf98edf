//! Whatever the holder of a tap can do to it without any privilege, one by one: seen while he holds it, and gone for the next
//! one, without the slot being made anew. A line that is taken out of the reset fails here.

use std::fs::OpenOptions;
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use netslot_protocol::client::{Client, Lease, LeaseOptions};
use nix::errno::Errno;
use nix::libc;

use crate::common::World;
use crate::frames::GUEST_MAC;
use crate::served::{PATIENCE, Served};
use crate::tap_ioctls as ioctl;

/// A leased slot's namespace and tap.
struct Held<'a> {
    world: &'a World,
    netns: OwnedFd,
    tap: OwnedFd,
}

/// Its name, how it is turned, and how it is read.
type Knob = (&'static str, Turn, Read);

/// A call that turns it.
enum Turn {
    /// By a number.
    To(unsafe fn(RawFd, libc::c_int) -> nix::Result<i32>, libc::c_int),
    /// By a pointer to one.
    At(unsafe fn(RawFd, *const libc::c_int) -> nix::Result<i32>, libc::c_int),
    /// Otherwise.
    By(fn(RawFd) -> nix::Result<i32>),
}

/// What it is read by.
enum Read {
    /// A call that writes a number.
    Number(unsafe fn(RawFd, *mut libc::c_int) -> nix::Result<i32>),
    /// Something else.
    By(fn(&Held<'_>) -> String),
}

const KNOBS: &[Knob] = &[
    ("owner", Turn::To(ioctl::set_owner, 65_534), Read::By(details)),
    ("group", Turn::To(ioctl::set_group, 65_534), Read::By(details)),
    ("packet filter", Turn::By(attach_filter), Read::By(hears)),
    ("address filter", Turn::By(take_for_nobody), Read::By(hears)),
    ("offloads", Turn::To(ioctl::set_offload, 7), Read::By(offloads)),
    ("send buffer", Turn::At(ioctl::set_sndbuf, 4_096), Read::Number(ioctl::get_sndbuf)),
    ("header", Turn::At(ioctl::set_vnet_hdr, 64), Read::Number(ioctl::get_vnet_hdr)),
    ("little end", Turn::At(ioctl::set_vnet_le, 1), Read::Number(ioctl::get_vnet_le)),
    ("big end", Turn::At(ioctl::set_vnet_be, 1), Read::Number(ioctl::get_vnet_be)),
];

#[test]
fn whatever_a_holder_turned_on_its_tap_is_as_it_was_for_the_next_one() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1\nguest.owner = 1000\nguest.group = 1000");
    let mut client = served.client();
    for (name, turn, read) in KNOBS {
        let (lease, held) = hold(&served, &mut client);
        let before = read.read(&held);
        match turn.turn(&held) {
            Ok(_) => assert_ne!(read.read(&held), before, "{name}: turned, and nothing to be seen"),
            // CONFIG_TUN_VNET_CROSS_LE
            Err(Errno::EINVAL) if *name == "big end" => eprintln!("SKIPPED: {name}: this kernel swaps no bytes"),
            Err(errno) => panic!("{name}: {errno}"),
        }
        let (first, inode) = (lease.id, inode(&held));
        client.release(first).expect("ours");
        drop(held);
        let (lease, held) = hold(&served, &mut client);
        assert_eq!(self::inode(&held), inode, "{name}: cleaned, not made anew: {}", served.log());
        assert_eq!(read.read(&held), before, "{name}");
        client.release(lease.id).expect("ours");
    }
}

#[test]
fn a_program_that_a_holder_hung_on_its_tap_ends_with_the_release() {
    let Some(world) = World::new() else { return };
    let served = Served::up(&world, "slots = 1");
    let mut client = served.client();
    for (name, attach) in [("steering", ioctl::set_steering as unsafe fn(_, _) -> _), ("filter", ioctl::set_filter)] {
        let (lease, held) = hold(&served, &mut client);
        let program = load();
        let id = id_of(&program);
        let mut fd = program.as_raw_fd();
        // SAFETY: the kernel reads one int through the pointer, which lives through the call.
        unsafe { attach(held.tap.as_raw_fd(), &raw mut fd) }.unwrap_or_else(|errno| panic!("{name}: {errno}"));
        drop(program);
        let inode = inode(&held);
        drop(held.tap);
        std::thread::sleep(Duration::from_millis(100));
        assert!(runs(id), "{name}: it stays with the tap");
        client.release(lease.id).expect("ours");
        let (lease, held) = hold(&served, &mut client);
        assert_eq!(self::inode(&held), inode, "{name}: cleaned, not made anew: {}", served.log());
        served.until(|| !runs(id), name);
        assert_eq!(hears(&held), "true", "{name}");
        client.release(lease.id).expect("ours");
    }
}

/// Leases the slot and opens its tap, once its bridge lets packets through. Here and not by the daemon, and with the
/// packet-information header, which nobody else wants: a packet filter that was left harms who opens the tap without IFF_NO_PI,
/// as that is IFF_NOFILTER's bit, in the process that attached it.
fn hold<'a>(served: &Served<'a>, client: &mut Client) -> (Lease, Held<'a>) {
    let options = LeaseOptions { want_netns: true, wait: PATIENCE, ..LeaseOptions::default() };
    let mut lease = client.lease(&options).expect("clean in time").remove(0);
    let netns = lease.netns.take().expect("asked for");
    let tap = netslot::sys::netns::within(&netns, open).expect("entered");
    let held = Held { world: served.world, netns, tap };
    let forwards = || held.world.in_netns(&held.netns, "bridge", &["link", "show"]).contains("state forwarding");
    served.until(forwards, "the bridge never took the tap");
    (lease, held)
}

fn open() -> OwnedFd {
    let tun = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let tun = tun.expect("opened");
    // SAFETY: an ifreq of zeroes is one; the kernel reads and writes it through the pointer, which lives through the call.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        name(&mut request);
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TAP | libc::IFF_VNET_HDR).expect("below the sign bit");
        ioctl::set_iff(tun.as_raw_fd(), &raw mut request).expect("free");
    }
    tun.into()
}

fn name(request: &mut libc::ifreq) {
    for (to, from) in request.ifr_name.iter_mut().zip(*b"tap0") {
        *to = from.cast_signed();
    }
}

fn inode(held: &Held<'_>) -> u64 {
    nix::sys::stat::fstat(held.netns.as_fd()).expect("told").st_ino
}

impl Turn {
    fn turn(&self, held: &Held<'_>) -> nix::Result<i32> {
        let tap = held.tap.as_raw_fd();
        match self {
            // SAFETY: takes a plain number.
            Self::To(call, number) => unsafe { call(tap, *number) },
            // SAFETY: the kernel reads one int through the pointer, which lives through the call.
            Self::At(call, number) => unsafe { call(tap, number) },
            Self::By(turn) => turn(tap),
        }
    }
}

impl Read {
    fn read(&self, held: &Held<'_>) -> String {
        let mut number = 0;
        match self {
            Self::Number(call) => {
                // SAFETY: the kernel writes one int through the pointer, which lives through the call.
                let told = unsafe { call(held.tap.as_raw_fd(), &raw mut number) };
                told.map_or_else(|errno| errno.to_string(), |_| number.to_string())
            }
            Self::By(read) => read(held),
        }
    }
}

/// Filters of the old kind are kept as pointers into their holder's memory: this one outlives the test.
static DROP_ALL: [libc::sock_filter; 1] = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];

fn take_for_nobody(tap: RawFd) -> nix::Result<i32> {
    let filter = ioctl::TxFilter { flags: 0, count: 1, address: [2, 0, 0, 0, 0, 9] };
    // SAFETY: the kernel reads a header that counts one address, and that one, which live through the call.
    unsafe { ioctl::set_tx_filter(tap, &raw const filter) }
}

fn attach_filter(tap: RawFd) -> nix::Result<i32> {
    let program = Box::leak(Box::new(libc::sock_fprog { len: 1, filter: DROP_ALL.as_ptr().cast_mut() }));
    // SAFETY: the kernel reads a program of one instruction, now and for whoever opens the tap next; neither is freed.
    unsafe { ioctl::attach_filter(tap, &raw const *program) }
}

fn details(held: &Held<'_>) -> String {
    let told = held.world.in_netns(&held.netns, "ip", &["-d", "-j", "link", "show", "tap0"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    told[0]["linkinfo"]["info_data"].to_string()
}

/// Whether the tap takes packets without checksums.
fn offloads(held: &Held<'_>) -> String {
    let mut value: [u32; 2] = [0x16, 0]; // ETHTOOL_GTXCSUM, and where the answer goes
    let asked = netslot::sys::netns::within(&held.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
        // SAFETY: an ifreq of zeroes is one; the kernel reads a name and a pointer to two numbers, which live through the
        // call, and writes the second.
        unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            name(&mut request);
            request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
            ioctl::ethtool(socket.as_raw_fd(), &raw mut request)
        }
    });
    asked.expect("entered").expect("told");
    value[1].to_string()
}

/// Whether a packet to the guest comes out of the tap.
fn hears(held: &Held<'_>) -> String {
    netslot::sys::netns::within(&held.netns, || {
        let sender = UdpSocket::bind("0.0.0.0:0").expect("bound");
        sender.send_to(b"to the guest", "172.16.0.2:7").expect("sent");
    })
    .expect("entered");
    let (began, mut packet) = (Instant::now(), [0; 2_048]);
    while began.elapsed() < Duration::from_millis(200) {
        match nix::unistd::read(&held.tap, &mut packet) {
            Ok(len) if packet[..len].windows(6).any(|mac| mac == GUEST_MAC) => return "true".into(),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    "false".into()
}

/// A program for sockets that takes nothing: `r0 = 0; exit`.
fn load() -> OwnedFd {
    let code: [u64; 2] = [0xb7, 0x95].map(u64::from_le);
    let (license, mut request) = (c"GPL", [0_u64; 16]);
    request[0] = 1 | 2 << 32; // BPF_PROG_TYPE_SOCKET_FILTER, two instructions
    request[1..3].copy_from_slice(&[code.as_ptr() as u64, license.as_ptr() as u64]);
    bpf(5, &request).expect("BPF_PROG_LOAD") // which is 5
}

fn id_of(program: &OwnedFd) -> u64 {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).expect("told");
    let id = told.lines().find_map(|line| line.strip_prefix("prog_id:")).expect("told");
    id.trim().parse().expect("a number")
}

/// Whether the program is there; its last holder lets go of it after a grace period.
fn runs(id: u64) -> bool {
    let mut request = [0_u64; 16];
    request[0] = id;
    bpf(13, &request).is_ok() // BPF_PROG_GET_FD_BY_ID
}

fn bpf(command: libc::c_long, request: &[u64; 16]) -> nix::Result<OwnedFd> {
    // SAFETY: the kernel reads the request and what its pointers lead to, all of which lives through the call; what both
    // commands return is a new descriptor that nobody else knows.
    unsafe {
        let made = libc::syscall(libc::SYS_bpf, command, request.as_ptr(), size_of_val(request));
        Errno::result(made).map(|fd| OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")))
    }
}
