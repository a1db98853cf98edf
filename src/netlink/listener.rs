//! Listens for devices that go away in a namespace; says which, decides nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::libc;

use super::read::Messages;
use super::socket::{Protocol, SocketError};
use crate::limits::DUMP_BYTES_MAX;
use crate::sys::socket_filter;

/// What came since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The device of that index was deleted.
    Deleted(u32),
    /// More was deleted than the socket had room for: look at all devices.
    Lost,
    /// Nothing more for now.
    Nothing,
}

/// A socket that hears of deleted devices only: the kernel drops all other news before they wake anybody.
pub struct Listener {
    raw: Raw,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listener").field(&self.raw).finish()
    }
}

impl Listener {
    /// Listens in the calling thread's namespace.
    ///
    /// # Errors
    /// [`SocketError::Call`].
    pub fn open() -> Result<Self, SocketError> {
        let call = |call| move |error| SocketError::Call { protocol: Protocol::Route, call, error };
        let mut raw = Raw::new(NETLINK_ROUTE).map_err(call("socket"))?;
        socket_filter::keep_netlink_type(&raw, libc::RTM_DELLINK)
            .map_err(|errno| call("setsockopt(SO_ATTACH_FILTER)")(errno.into()))?;
        raw.set_non_blocking(true).map_err(call("fcntl(O_NONBLOCK)"))?;
        let group = 1 << (libc::RTNLGRP_LINK - 1);
        raw.bind(&SocketAddr::new(0, group)).map_err(call("bind"))?;
        Ok(Self { raw, buffer: Vec::with_capacity(DUMP_BYTES_MAX) })
    }

    /// The next piece of news, without waiting.
    ///
    /// # Errors
    /// [`SocketError::Call`].
    pub fn hear(&mut self) -> Result<Heard, SocketError> {
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(Heard::Lost),
                Err(error) => return Err(SocketError::Call { protocol: Protocol::Route, call: "recv", error }),
            }
            let index = Messages(&self.buffer).flatten().find_map(|message| deleted(message.kind, message.body));
            if let Some(index) = index {
                return Ok(Heard::Deleted(index));
            }
        }
    }
}

/// The device that a message says is gone. A bridge's port that leaves it is told in the same way, under the bridge's
/// family, and is still there.
fn deleted(kind: u16, body: &[u8]) -> Option<u32> {
    let family = i32::from(*body.first()?);
    let index = super::read::u32_at(body, 4)?;
    (kind == libc::RTM_DELLINK && family == libc::AF_UNSPEC).then_some(index)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}
