//! A network device by its index, as the old ioctls tell of it: they take no lock and search nothing, where a dump of links
//! looks each peer's namespace up in a list of all. Changes nothing.

use std::ffi::{CStr, c_char};
use std::mem::zeroed;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::slot::{IfIndex, LinkName};

mod ioctl {
    use nix::libc;
    // linux/sockios.h
    nix::ioctl_readwrite_bad!(name, 0x8910, libc::ifreq);
    nix::ioctl_readwrite_bad!(flags, libc::SIOCGIFFLAGS, libc::ifreq);
    nix::ioctl_readwrite_bad!(mtu, libc::SIOCGIFMTU, libc::ifreq);
}

/// What is told of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: LinkName,
    /// Whether it has been raised.
    pub up: bool,
    /// Its MTU.
    pub mtu: u32,
}

/// The devices of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Devices(OwnedFd);

impl Devices {
    /// Those of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> Result<Self, Errno> {
        socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map(Self)
    }

    /// The device of that index; `None` where there is none. By its index, since a name that is not there would have the
    /// kernel look for a module of that name (dev_load, net/core/dev_ioctl.c).
    ///
    /// # Errors
    /// Those of the three requests, but for ENODEV; EINVAL for a name that is none.
    pub fn find(&self, index: IfIndex) -> Result<Option<Device>, Errno> {
        match self.ask(index) {
            Ok(device) => Ok(Some(device)),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn ask(&self, index: IfIndex) -> Result<Device, Errno> {
        let mut request = named(self.0.as_fd(), index)?;
        let fd = self.0.as_raw_fd();
        // SAFETY: both requests read the name, and write their own field of the union, which is read before the next one.
        let (flags, mtu) = unsafe {
            ioctl::flags(fd, &raw mut request)?;
            let flags = request.ifr_ifru.ifru_flags;
            ioctl::mtu(fd, &raw mut request)?;
            (flags, request.ifr_ifru.ifru_mtu)
        };
        let up = i32::from(flags) & libc::IFF_UP != 0;
        Ok(Device { name: name_in(&request)?, up, mtu: mtu.cast_unsigned() })
    }
}

/// The name of the device of that index in the namespace of a socket of any family; `None` where there is none.
///
/// # Errors
/// Those of the request, but for ENODEV; EINVAL for a name that is none.
pub fn name_of(socket: BorrowedFd<'_>, index: IfIndex) -> Result<Option<LinkName>, Errno> {
    match named(socket, index) {
        Ok(request) => name_in(&request).map(Some),
        Err(Errno::ENODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A request with the name of the device of that index.
fn named(socket: BorrowedFd<'_>, index: IfIndex) -> Result<libc::ifreq, Errno> {
    // SAFETY: `ifreq` is plain bytes, of which zeros are a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_ifru.ifru_ifindex = index.0.cast_signed();
    // SAFETY: reads the index and writes the name.
    unsafe { ioctl::name(socket.as_raw_fd(), &raw mut request) }?;
    Ok(request)
}

fn name_in(request: &libc::ifreq) -> Result<LinkName, Errno> {
    let name = request.ifr_name.map(c_char::cast_unsigned);
    let name = CStr::from_bytes_until_nul(&name).ok().and_then(|name| name.to_str().ok()?.parse().ok());
    name.ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_what_is_not_there_is_not() {
        let devices = Devices::open().expect("a socket");
        let found = devices.find(IfIndex(1)).expect("asked").expect("there");
        assert_eq!((found.name.as_str(), found.mtu), ("lo", 65_536));
        assert_eq!(devices.find(IfIndex(0x7fff_fff0)), Ok(None));
    }
}
