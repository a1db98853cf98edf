//! A guest without a virtual machine: a namespace with its own kernel stack on `eth0`, and a helper in the VMM's place that
//! holds the slot's tap and carries frames between the two, each with its virtio-net header, as a VMM does.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unsafe_code, reason = "a VMM offers offloads by an ioctl that no library wraps")]

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use netslot::slot::IfIndex;
use netslot::sys::{netns, tap};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::private::inside;

mod ioctl {
    use nix::libc;
    // linux/if_tun.h, group 'T'.
    nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, size_of::<libc::c_uint>()));
}

/// TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6: the reader computes checksums and cuts segments.
pub const CHECKSUMS: i32 = 1;
pub const SEGMENTS: i32 = 2 | 4;

const GUEST_MAC: &str = "06:00:ac:10:00:02";

pub struct Guest {
    pub netns: OwnedFd,
    stop: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl Guest {
    /// A guest on a slot's tap; `offloads` is what it may leave to others, as a virtio driver negotiates it.
    pub fn on(slot: &OwnedFd, offloads: i32) -> Self {
        let held = netns::within(slot, || {
            let dev_net = File::open("/dev/net").expect("there");
            tap::open(dev_net.as_fd(), &"tap0".parse().expect("a name")).expect("nobody holds it")
        });
        let (guest, nic) = std::thread::spawn(move || {
            netns::make().expect("a namespace");
            // What it says of its own accord is no part of any test.
            for device in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1").expect("a knob");
            }
            let dev_net = File::open("/dev/net").expect("there");
            let name = "eth0".parse().expect("a name");
            let spec = tap::Spec { name, index: IfIndex(2), owner: None, group: None };
            tap::make(dev_net.as_fd(), &spec).expect("a NIC");
            (netns::current().expect("our own"), tap::open(dev_net.as_fd(), &name).expect("a NIC"))
        })
        .join()
        .expect("a guest");
        let (held, nic) = (File::from(held.expect("entered")), File::from(nic));
        for tap in [&held, &nic] {
            // SAFETY: takes a plain number, on an open descriptor.
            unsafe { ioctl::set_offload(tap.as_raw_fd(), offloads) }.expect("offloads");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pump = Some(std::thread::spawn(move || carry(&held, &nic, &stopped)));
        let guest = Self { netns: guest, stop, pump };
        for line in ["link set lo up", &format!("link set eth0 address {GUEST_MAC} up")] {
            guest.run("ip", &line.split(' ').collect::<Vec<_>>());
        }
        guest
    }

    /// The guest's addresses set by hand, where a test is not about DHCP.
    pub fn addressed(self, mtu: u32) -> Self {
        for line in
            [&format!("link set eth0 mtu {mtu}"), "addr add 172.16.0.2/30 dev eth0", "route add default via 172.16.0.1"]
        {
            self.run("ip", &line.split(' ').collect::<Vec<_>>());
        }
        self
    }

    /// Runs a program in the guest.
    pub fn output(&self, program: &str, args: &[&str]) -> std::process::Output {
        inside(&self.netns, program).args(args).output().expect("nsenter is there")
    }

    /// The same; it must succeed.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {}: {told}", output.status);
        told
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}

fn carry(one: &File, other: &File, stop: &AtomicBool) {
    let mut frame = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        let mut both = [one, other].map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut both, PollTimeout::from(20_u8));
        for (mut from, mut to) in [(one, other), (other, one)] {
            // Some at a time, so that neither side waits for the other.
            for _ in 0..64 {
                match from.read(&mut frame) {
                    // A device that is down takes nothing (EIO), and a frame is lost, as on any wire.
                    Ok(len) => drop(to.write(&frame[..len])),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => break,
                }
            }
        }
    }
}
