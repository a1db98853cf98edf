//! Taps: made persistent and let go, or opened as a VMM opens them. Always in the calling thread's namespace.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;

use super::fault;
use crate::slot::{IfIndex, LinkName};

mod ioctl {
    use nix::libc;
    // linux/if_tun.h, group 'T'. The kernel reads these numbers as given, though the macros there say int.
    nix::ioctl_write_ptr_bad!(set_iff, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), libc::ifreq);
    nix::ioctl_write_int_bad!(set_persist, nix::request_code_write!(b'T', 203, size_of::<libc::c_int>()));
    nix::ioctl_write_int_bad!(set_owner, nix::request_code_write!(b'T', 204, size_of::<libc::c_int>()));
    nix::ioctl_write_int_bad!(set_group, nix::request_code_write!(b'T', 206, size_of::<libc::c_int>()));
    nix::ioctl_write_ptr_bad!(set_index, nix::request_code_write!(b'T', 218, size_of::<libc::c_uint>()), libc::c_uint);
}

/// The flags with which every VMM opens its tap (Firecracker's tap.rs; Cloud Hypervisor and QEMU alike): Ethernet, no
/// packet-information header, virtio-net header. Never IFF_MULTI_QUEUE: it allocates 256 queues, and Firecracker's
/// open of such a tap fails.
const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// linux/if_tun.h: do not put the tap's packet filter on this opener's socket. It is IFF_NO_PI's bit, so only who wants a
/// packet-information header gets the filter.
const IFF_NOFILTER: libc::c_int = 0x1000;

/// linux/if_tun.h, since 6.1: the device gets no carrier from being opened. An older kernel passes over it.
const IFF_NO_CARRIER: libc::c_int = 0x40;

/// A call on a tap that failed.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{call} on the tap: {errno}")]
pub struct TapError {
    /// The call.
    pub call: &'static str,
    /// The kernel's word.
    pub errno: Errno,
}

const OPEN: &str = "open of /dev/net/tun";

impl TapError {
    /// Whether the host has no taps at all: no device node, or no driver behind it.
    #[must_use]
    pub fn is_lacking(&self) -> bool {
        self.call == OPEN && matches!(self.errno, Errno::ENOENT | Errno::ENXIO | Errno::ENODEV)
    }
}

/// What a tap is made with.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name.
    pub name: LinkName,
    /// Its index in its namespace.
    pub index: IfIndex,
    /// User that may open it without CAP_NET_ADMIN.
    pub owner: Option<u32>,
    /// Group that may.
    pub group: Option<u32>,
}

/// Makes a persistent tap and lets go of it. `dev_net` is an open `/dev/net`: the caller may stand in a mount
/// namespace that has none.
///
/// The fd is closed before the device is ever up: closed after, it would leave a non-urgent carrier event that waits
/// for its turn among 100 per second (net/core/link_watch.c).
///
/// # Errors
/// [`TapError`] with the call; EBUSY where the name or the index is taken.
pub fn make(dev_net: BorrowedFd<'_>, spec: &Spec) -> Result<(), TapError> {
    let tun = open_tun(dev_net)?;
    let fd = tun.as_raw_fd();
    // SAFETY: the kernel reads one unsigned int through the pointer, which lives through the call.
    unsafe { ioctl::set_index(fd, &spec.index.0) }.map_err(failed("TUNSETIFINDEX"))?;
    attach(tun.as_fd(), &spec.name, FLAGS)?;
    if let Some(owner) = spec.owner {
        // SAFETY: takes a plain number.
        unsafe { ioctl::set_owner(fd, owner.cast_signed()) }.map_err(failed("TUNSETOWNER"))?;
        fault::point();
    }
    if let Some(group) = spec.group {
        // SAFETY: takes a plain number.
        unsafe { ioctl::set_group(fd, group.cast_signed()) }.map_err(failed("TUNSETGROUP"))?;
        fault::point();
    }
    // SAFETY: takes a plain number.
    unsafe { ioctl::set_persist(fd, 1) }.map_err(failed("TUNSETPERSIST"))?;
    fault::point();
    Ok(())
}

/// Opens an existing tap as a VMM does.
///
/// # Errors
/// [`TapError`]; EBUSY while somebody else holds it.
pub fn open(dev_net: BorrowedFd<'_>, name: &LinkName) -> Result<OwnedFd, TapError> {
    let tun = open_tun(dev_net)?;
    attach(tun.as_fd(), name, FLAGS)?;
    Ok(tun)
}

/// Opens an existing tap to set it back, not to send.
///
/// Without the packet filter that a former holder may have left on it: the kernel keeps that as a pointer into the former
/// holder's memory (`tun->fprog`), reads it again for the next opener, and where that happens to succeed leaves the queue
/// unattached (tun_attach, drivers/net/tun.c).
///
/// Without a carrier: each change of it is an event of the tap and one of the bridge, and they pile up
/// (`netlink::route::settle_carriers`).
///
/// # Errors
/// As [`open`].
pub fn open_to_reset(dev_net: BorrowedFd<'_>, name: &LinkName) -> Result<OwnedFd, TapError> {
    let tun = open_tun(dev_net)?;
    attach(tun.as_fd(), name, FLAGS | IFF_NOFILTER | IFF_NO_CARRIER)?;
    Ok(tun)
}

/// The tun device binds to the namespace in which it is opened (tun_chr_open, drivers/net/tun.c).
fn open_tun(dev_net: BorrowedFd<'_>) -> Result<OwnedFd, TapError> {
    openat(dev_net, "tun", OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()).map_err(failed(OPEN))
}

fn attach(tun: BorrowedFd<'_>, name: &LinkName, flags: libc::c_int) -> Result<(), TapError> {
    // SAFETY: ifreq is plain data (a name and a union of numbers), for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(flags).expect("below the sign bit");
    // SAFETY: the kernel reads and writes one ifreq through the pointer, which lives through the call.
    unsafe { ioctl::set_iff(tun.as_raw_fd(), &raw mut request) }.map_err(failed("TUNSETIFF"))?;
    fault::point();
    Ok(())
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> TapError {
    move |errno| TapError { call, errno }
}
