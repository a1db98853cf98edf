//! What whoever holds a tap can do to it without any privilege, as no library wraps it (linux/if_tun.h, group 'T').
#![allow(dead_code, reason = "each test binary uses its part")]

use nix::libc;
nix::ioctl_write_ptr_bad!(set_vnet_hdr, nix::request_code_write!(b'T', 216, 4), libc::c_int);
nix::ioctl_read_bad!(get_vnet_hdr, nix::request_code_read!(b'T', 215, 4), libc::c_int);
nix::ioctl_write_ptr_bad!(set_sndbuf, nix::request_code_write!(b'T', 212, 4), libc::c_int);
nix::ioctl_read_bad!(get_sndbuf, nix::request_code_read!(b'T', 211, 4), libc::c_int);
nix::ioctl_write_int_bad!(set_owner, nix::request_code_write!(b'T', 204, 4));
nix::ioctl_write_int_bad!(set_persist, nix::request_code_write!(b'T', 203, 4));
nix::ioctl_write_ptr_bad!(attach_filter, nix::request_code_write!(b'T', 213, 16), libc::sock_fprog);
nix::ioctl_write_ptr_bad!(set_mac, 0x8924, libc::ifreq);
nix::ioctl_write_int_bad!(set_offload, nix::request_code_write!(b'T', 208, 4));
nix::ioctl_write_ptr_bad!(set_vnet_le, nix::request_code_write!(b'T', 220, 4), libc::c_int);
nix::ioctl_write_ptr_bad!(set_carrier, nix::request_code_write!(b'T', 226, 4), libc::c_int);
nix::ioctl_readwrite_bad!(set_iff, nix::request_code_write!(b'T', 202, 4), libc::ifreq);
nix::ioctl_write_int_bad!(set_group, nix::request_code_write!(b'T', 206, 4));
nix::ioctl_write_ptr_bad!(set_tx_filter, nix::request_code_write!(b'T', 209, 4), TxFilter);
nix::ioctl_read_bad!(get_vnet_le, nix::request_code_read!(b'T', 221, 4), libc::c_int);
nix::ioctl_write_ptr_bad!(set_vnet_be, nix::request_code_write!(b'T', 222, 4), libc::c_int);
nix::ioctl_read_bad!(get_vnet_be, nix::request_code_read!(b'T', 223, 4), libc::c_int);
// The kernel only reads, though the direction says otherwise.
nix::ioctl_read_bad!(set_steering, nix::request_code_read!(b'T', 224, 4), libc::c_int);
nix::ioctl_read_bad!(set_filter, nix::request_code_read!(b'T', 225, 4), libc::c_int);
nix::ioctl_readwrite_bad!(ethtool, 0x8946, libc::ifreq);

/// `struct tun_filter` with one address.
#[repr(C)]
pub struct TxFilter {
    pub flags: u16,
    pub count: u16,
    pub address: [u8; 6],
}
