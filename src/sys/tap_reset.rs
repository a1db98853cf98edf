//! Puts a tap back to what it was made as: whatever a holder of its fd can change without any privilege
//! (`__tun_chr_ioctl`, drivers/net/tun.c, read in 6.12 and 6.18). Always in the calling thread's namespace.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::fault;
use super::tap::{self, TapError};
use crate::slot::LinkName;

mod ioctl {
    use nix::{libc, request_code_write};
    // linux/if_tun.h, group 'T'.
    nix::ioctl_write_int_bad!(set_owner, request_code_write!(b'T', 204, size_of::<libc::c_int>()));
    nix::ioctl_write_int_bad!(set_group, request_code_write!(b'T', 206, size_of::<libc::c_int>()));
    nix::ioctl_write_int_bad!(set_offload, request_code_write!(b'T', 208, size_of::<libc::c_uint>()));
    nix::ioctl_write_ptr_bad!(
        set_tx_filter,
        request_code_write!(b'T', 209, size_of::<libc::c_uint>()),
        super::TxFilter
    );
    nix::ioctl_write_ptr_bad!(
        detach_filter,
        request_code_write!(b'T', 214, size_of::<libc::sock_fprog>()),
        libc::sock_fprog
    );
    nix::ioctl_write_ptr_bad!(
        set_vnet_hdr_bytes,
        request_code_write!(b'T', 216, size_of::<libc::c_int>()),
        libc::c_int
    );
    nix::ioctl_write_ptr_bad!(set_vnet_le, request_code_write!(b'T', 220, size_of::<libc::c_int>()), libc::c_int);
    nix::ioctl_write_ptr_bad!(set_vnet_be, request_code_write!(b'T', 222, size_of::<libc::c_int>()), libc::c_int);
    nix::ioctl_read_bad!(set_steering, nix::request_code_read!(b'T', 224, size_of::<libc::c_int>()), libc::c_int);
    nix::ioctl_read_bad!(set_filter, nix::request_code_read!(b'T', 225, size_of::<libc::c_int>()), libc::c_int);
}

/// `struct tun_filter` with no addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TxFilter {
    flags: u16,
    count: u16,
}

/// `sizeof(struct virtio_net_hdr)`: what a tap begins with, and what a VMM that does not set it relies on.
const VNET_HDR_BYTES: libc::c_int = 10;

/// Opens the tap, which fails while somebody holds it, and sets back everything of it. The returned fd is the proof that
/// nobody else holds it; closing it drops what was queued (`__tun_detach`).
///
/// Two things need no setting back: a tap that somebody made pass away goes with his descriptor, and the send buffer is that of
/// the descriptor (tun_set_sndbuf).
///
/// The tap must be there: under a name that is not, the kernel would make a new one.
///
/// # Errors
/// [`TapError`]: EBUSY while somebody holds it.
pub fn open_and_reset(
    dev_net: BorrowedFd<'_>,
    name: &LinkName,
    owner: Option<u32>,
    group: Option<u32>,
) -> Result<OwnedFd, TapError> {
    let tap = tap::open_to_reset(dev_net, name)?;
    reset(tap.as_fd(), owner, group)?;
    Ok(tap)
}

fn reset(tap: BorrowedFd<'_>, owner: Option<u32>, group: Option<u32>) -> Result<(), TapError> {
    let fd = tap.as_raw_fd();
    let (off, none, vnet_hdr_bytes): (libc::c_int, libc::c_int, _) = (0, -1, VNET_HDR_BYTES);
    let no_addresses = TxFilter { flags: 0, count: 0 };
    let no_program = libc::sock_fprog { len: 0, filter: std::ptr::null_mut() };
    if let Some(owner) = owner {
        // SAFETY: takes a plain number.
        unsafe { ioctl::set_owner(fd, owner.cast_signed()) }.map_err(failed("TUNSETOWNER"))?;
        fault::point();
    }
    if let Some(group) = group {
        // SAFETY: takes a plain number.
        unsafe { ioctl::set_group(fd, group.cast_signed()) }.map_err(failed("TUNSETGROUP"))?;
        fault::point();
    }
    // The filter first: a tap keeps it as a pointer into its former holder's memory, and reads it again for whoever
    // opens the tap next without IFF_NOFILTER.
    // SAFETY: the kernel does not read the argument (tun_detach_filter), which lives through the call all the same.
    unsafe { ioctl::detach_filter(fd, &raw const no_program) }.map_err(failed("TUNDETACHFILTER"))?;
    fault::point();
    // SAFETY: the kernel reads the four bytes of the filter's header, and no addresses behind it as its count is 0.
    unsafe { ioctl::set_tx_filter(fd, &raw const no_addresses) }.map_err(failed("TUNSETTXFILTER"))?;
    fault::point();
    // SAFETY: takes a plain number.
    unsafe { ioctl::set_offload(fd, 0) }.map_err(failed("TUNSETOFFLOAD"))?;
    fault::point();
    // SAFETY: here and below, the kernel reads one int through the pointer, which lives through the call.
    unsafe { ioctl::set_vnet_hdr_bytes(fd, &raw const vnet_hdr_bytes) }.map_err(failed("TUNSETVNETHDRSZ"))?;
    fault::point();
    // SAFETY: as above.
    unsafe { ioctl::set_vnet_le(fd, &raw const off) }.map_err(failed("TUNSETVNETLE"))?;
    fault::point();
    // Kernels that cannot swap have nothing to set back (CONFIG_TUN_VNET_CROSS_LE).
    // SAFETY: as above.
    match unsafe { ioctl::set_vnet_be(fd, &raw const off) } {
        Ok(_) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(failed("TUNSETVNETBE")(errno)),
    }
    // SAFETY: as above; −1 takes a program away. The number's direction bits say read, and the kernel only reads.
    unsafe { ioctl::set_steering(fd, (&raw const none).cast_mut()) }.map_err(failed("TUNSETSTEERINGEBPF"))?;
    fault::point();
    // SAFETY: as above.
    unsafe { ioctl::set_filter(fd, (&raw const none).cast_mut()) }.map_err(failed("TUNSETFILTEREBPF"))?;
    fault::point();
    Ok(())
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> TapError {
    move |errno| TapError { call, errno }
}
