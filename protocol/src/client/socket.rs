//! The socket itself: one datagram out, one in with its fds, both bounded in time; knows no message.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::vec::Vec;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with,
};

use super::ClientError;
use crate::limits::FDS_MAX;

#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// As the kernel has it, so that a bound that stays the same costs no call; zero = none.
    receive_timeout: Duration,
}

pub(super) struct Received {
    /// At the start of the room.
    pub bytes: usize,
    /// Close-on-exec. Empty if any was cut off: all others are closed again.
    pub fds: Vec<OwnedFd>,
    pub fds_cut: bool,
}

impl Socket {
    pub(super) fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let open = || -> Result<OwnedFd, Errno> {
            let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            // Also bounds connect, which waits while the daemon's backlog is full (unix_stream_connect).
            set_socket_timeout(&fd, Timeout::Send, Some(timeout))?;
            connect(&fd, &SocketAddrUnix::new(path)?)?;
            Ok(fd)
        };
        let fd = open().map_err(|errno| ClientError::Connect { path: path.into(), source: errno.into() })?;
        Ok(Self { fd, receive_timeout: Duration::ZERO })
    }

    pub(super) fn send(&self, datagram: &[u8]) -> Result<(), ClientError> {
        loop {
            match send(&self.fd, datagram, SendFlags::NOSIGNAL) {
                // A datagram goes whole or not at all.
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ClientError::Closed),
                Err(errno) => return Err(ClientError::Socket { call: "send", source: errno.into() }),
            }
        }
    }

    /// One datagram. A signal that interrupts the call starts the wait anew.
    pub(super) fn receive(&mut self, room: &mut [u8], timeout: Duration) -> Result<Received, ClientError> {
        if self.receive_timeout != timeout {
            // Zero means for ever, to the kernel as to this file; rustix wants that as None.
            set_socket_timeout(&self.fd, Timeout::Recv, (!timeout.is_zero()).then_some(timeout))
                .map_err(|errno| ClientError::Socket { call: "setsockopt(SO_RCVTIMEO)", source: errno.into() })?;
            self.receive_timeout = timeout;
        }
        let mut reset = false;
        loop {
            match self.receive_once(room) {
                Err(Errno::INTR) => {}
                // The kernel tells once that the daemon closed with something of ours unread, before it gives out what
                // the daemon had written until then (unix_release_sock, __skb_try_recv_datagram).
                Err(Errno::CONNRESET) if !reset => reset = true,
                Err(Errno::CONNRESET) => return Err(ClientError::Closed),
                Err(Errno::AGAIN) => return Err(ClientError::TimedOut(timeout)),
                Err(errno) => return Err(ClientError::Socket { call: "recvmsg", source: errno.into() }),
                Ok((0, ..)) => return Err(ClientError::Closed),
                Ok((_, flags, _)) if flags.contains(ReturnFlags::TRUNC) => return Err(ClientError::TooLarge),
                Ok((bytes, flags, mut fds)) => {
                    let fds_cut = flags.contains(ReturnFlags::CTRUNC);
                    if fds_cut {
                        fds.clear();
                    }
                    return Ok(Received { bytes, fds, fds_cut });
                }
            }
        }
    }

    fn receive_once(&self, room: &mut [u8]) -> Result<(usize, ReturnFlags, Vec<OwnedFd>), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(&self.fd, &mut [IoSliceMut::new(room)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        Ok((message.bytes, message.flags, fds))
    }
}
