//! Packet sockets: a copy of each frame that passes a device, both ways, with its time. Always in the calling thread's
//! namespace; it changes nothing about the device.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{self, sock_filter};
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use super::socket_filter;
use crate::slot::IfIndex;

/// `struct tpacket_auxdata`, linux/if_packet.h: status, len, snaplen (4 bytes each), mac, net, VLAN TCI and VLAN protocol
/// (2 bytes each).
const AUXDATA_BYTES: usize = 20;

/// A call on a packet socket that failed.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{call} on a packet socket: {errno}")]
pub struct PacketError {
    /// The call.
    pub call: &'static str,
    /// The kernel's word.
    pub errno: Errno,
}

/// One frame as the socket gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When the kernel took the copy, nanoseconds since 1970 (`CLOCK_REALTIME`).
    pub time_ns: u64,
    /// Whether it leaves by the device; else it came in by it.
    pub outgoing: bool,
    /// The tag that the kernel took out of the frame, as it stood there: its protocol and its value.
    pub vlan: Option<(u16, u16)>,
    /// Bytes of the frame; more than were stored where it did not fit.
    pub bytes: usize,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A frame; its first bytes are in the buffer.
    Frame(Frame),
    /// None for now.
    Nothing,
    /// The device was deleted: none will ever come.
    Gone,
}

/// A packet socket on one device.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on the device of that index; `filter` says which frames it gets, `buffer_bytes` how many may wait.
    ///
    /// # Errors
    /// [`PacketError`]: ENODEV without such a device, EPERM without CAP_NET_RAW.
    pub fn open(index: IfIndex, filter: Option<&[sock_filter]>, buffer_bytes: usize) -> Result<Self, PacketError> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes plain numbers. Protocol 0: no frame comes before the filter and the device are chosen.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, flags, 0) }).map_err(failed("socket"))?;
        // SAFETY: the call returned a new descriptor that nobody else knows.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        if let Some(filter) = filter {
            socket.set_filter(filter)?;
        }
        setsockopt(&socket.0, sockopt::ReceiveTimestampns, &true).map_err(failed("setsockopt(SO_TIMESTAMPNS)"))?;
        setsockopt(&socket.0, sockopt::RcvBufForce, &buffer_bytes).map_err(failed("setsockopt(SO_RCVBUFFORCE)"))?;
        socket.set_packet_option(libc::PACKET_AUXDATA, 1).map_err(failed("setsockopt(PACKET_AUXDATA)"))?;
        socket.bind(index).map_err(failed("bind"))?;
        Ok(socket)
    }

    /// Replaces the filter; no frame is lost or comes unfiltered meanwhile.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn set_filter(&self, filter: &[sock_filter]) -> Result<(), PacketError> {
        socket_filter::attach(&self.0, filter).map_err(failed("setsockopt(SO_ATTACH_FILTER)"))
    }

    /// The next frame, without waiting.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn read(&self, buffer: &mut [u8]) -> Result<Read, PacketError> {
        let mut control = cmsg_space!(TimeSpec, [u8; AUXDATA_BYTES]);
        let mut room = [IoSliceMut::new(buffer)];
        loop {
            // MSG_TRUNC: tell the frame's whole length.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recvmsg::<LinkAddr>(self.0.as_raw_fd(), &mut room, Some(&mut control), flags) {
                Ok(message) => {
                    let outgoing = message.address.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
                    let mut frame = Frame { time_ns: 0, outgoing, vlan: None, bytes: message.bytes };
                    for control in message.cmsgs().map_err(failed("recvmsg"))? {
                        read_control(&control, &mut frame);
                    }
                    if frame.time_ns == 0 {
                        frame.time_ns = now_ns();
                    }
                    return Ok(Read::Frame(frame));
                }
                Err(Errno::EAGAIN) => return Ok(Read::Nothing),
                Err(Errno::EINTR) => {}
                // Told once, and also of a device that is merely taken down; frames come again when it is up
                // (packet_notifier, net/packet/af_packet.c).
                Err(Errno::ENETDOWN) if self.is_bound().map_err(failed("getsockname"))? => {}
                Err(Errno::ENETDOWN) => return Ok(Read::Gone),
                Err(errno) => return Err(failed("recvmsg")(errno)),
            }
        }
    }

    /// Frames lost for want of room since the last call.
    ///
    /// # Errors
    /// [`PacketError`].
    pub fn lost(&self) -> Result<u32, PacketError> {
        // struct tpacket_stats: frames, and of them the lost ones. Reading sets both to zero.
        let mut counted = [0_u32; 2];
        let mut size = size_of_as_socklen(&counted);
        // SAFETY: a buffer and its size that live through the call.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counted.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        Errno::result(result).map_err(failed("getsockopt(PACKET_STATISTICS)"))?;
        Ok(counted[1])
    }

    fn bind(&self, index: IfIndex) -> Result<(), Errno> {
        let mut address = empty_address();
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("three").to_be();
        address.sll_ifindex = i32::try_from(index.0).map_err(|_| Errno::ENODEV)?;
        // SAFETY: an address and its size that live through the call.
        let result =
            unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), size_of_as_socklen(&address)) };
        Errno::result(result).map(drop)
    }

    /// Whether the device is still there: one that is deleted leaves the socket with index −1.
    fn is_bound(&self) -> Result<bool, Errno> {
        let mut address = empty_address();
        let mut size = size_of_as_socklen(&address);
        // SAFETY: an address to fill and its size, which live through the call.
        let result = unsafe { libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut size) };
        Errno::result(result)?;
        Ok(address.sll_ifindex > 0)
    }

    fn set_packet_option(&self, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
        // SAFETY: a number and its size that live through the call.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const value).cast(),
                size_of_as_socklen(&value),
            )
        };
        Errno::result(result).map(drop)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until the kernel dates frames when it sees them. It begins to with the first socket that asks for it, by a worker of
/// its own (net_enable_timestamp, net/core/dev.c); until then a frame gets the time at which it is read
/// (__sock_recv_timestamp, net/socket.c), which says nothing of the order in which frames passed. A datagram to ourselves
/// tells the two apart: it is dated before it is asked for, or not.
///
/// False where it could not be seen: no loopback device that is up, or still not after a second.
#[must_use]
pub fn wait_for_dates() -> bool {
    (0..100).any(|_| {
        let dated = is_dated();
        if dated == Some(false) {
            std::thread::sleep(Duration::from_millis(10));
        }
        dated == Some(true)
    })
}

/// Whether a datagram to ourselves bears a time from before it was read; `None` where none arrives.
fn is_dated() -> Option<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).ok()?;
    socket.send_to(&[0], socket.local_addr().ok()?).ok()?;
    std::thread::sleep(Duration::from_millis(1));
    let asked = now_ns();
    let (mut byte, mut control) = ([0], cmsg_space!(TimeSpec));
    let mut room = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut room, Some(&mut control), MsgFlags::MSG_DONTWAIT).ok()?;
    message.cmsgs().ok()?.find_map(|control| {
        if let ControlMessageOwned::ScmTimestampns(time) = control { Some(nanoseconds(time) < asked) } else { None }
    })
}

/// The time now, as frames are dated: nanoseconds since 1970.
#[must_use]
pub fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map(nanoseconds).unwrap_or_default()
}

fn nanoseconds(time: TimeSpec) -> u64 {
    let part = |n: i64| u64::try_from(n).unwrap_or_default();
    part(time.tv_sec()).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec()))
}

fn read_control(control: &ControlMessageOwned, frame: &mut Frame) {
    if let ControlMessageOwned::ScmTimestampns(time) = control {
        frame.time_ns = nanoseconds(*time);
    } else if let ControlMessageOwned::Unknown(unknown) = control {
        let header = &unknown.cmsg_header;
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            frame.vlan = vlan(&unknown.data_bytes);
        }
    }
}

fn vlan(auxdata: &[u8]) -> Option<(u16, u16)> {
    let status = u32::from_ne_bytes(*auxdata.first_chunk()?);
    let half = |at: usize| Some(u16::from_ne_bytes(*auxdata.get(at..)?.first_chunk()?));
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    Some((half(18).filter(|_| known).unwrap_or(0x8100), half(16)?))
}

fn empty_address() -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain numbers, for which all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("seventeen");
    address
}

fn size_of_as_socklen<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(value)).expect("a few bytes")
}

fn failed(call: &'static str) -> impl Fn(Errno) -> PacketError {
    move |errno| PacketError { call, errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_dates_what_it_gets_soon_after_a_socket_asks_for_it() {
        let asking = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback device");
        setsockopt(&asking, sockopt::ReceiveTimestampns, &true).expect("set");
        assert!(wait_for_dates());
    }
}
