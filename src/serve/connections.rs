//! Connections and the processes behind them, as the loop knows them: found, written to, watched, marked for their end; part
//! of the [`Daemon`].

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use nix::errno::Errno;

use super::daemon::Daemon;
use super::peer::Connection;
use crate::ledger::HolderId;
use crate::sys::seqpacket;

impl Daemon {
    /// Puts a connection among those that may have something to say.
    pub fn enqueue(&mut self, number: usize) {
        let Some(connection) = self.peers.get_mut(number).and_then(|peer| peer.connection.as_mut()) else { return };
        if !connection.queued {
            connection.queued = true;
            let number = u32::try_from(number).expect("holders are numbered by u32");
            self.ready.push_back(HolderId::at(number));
        }
    }

    pub fn connection(&self, holder: HolderId) -> Option<&Connection> {
        self.peers[holder.index()].connection.as_ref()
    }

    pub fn connection_mut(&mut self, holder: HolderId) -> Option<&mut Connection> {
        self.peers[holder.index()].connection.as_mut()
    }

    /// Sends the first `len` bytes of the frame with those fds.
    ///
    /// # Errors
    /// Those of [`seqpacket::send`]; EPIPE where the connection is to be closed anyway.
    pub fn post<'a>(
        &'a self,
        holder: HolderId,
        len: usize,
        fds: impl ExactSizeIterator<Item = BorrowedFd<'a>>,
    ) -> Result<(), Errno> {
        match self.connection(holder) {
            Some(connection) if !connection.talk.closing => {
                seqpacket::send(&connection.socket, &self.frame[..len], fds)
            }
            _ => Err(Errno::EPIPE),
        }
    }

    /// Marks a connection for its end; nothing more is sent to it.
    pub fn close(&mut self, holder: HolderId) {
        if let Some(connection) = self.connection_mut(holder)
            && !connection.talk.closing
        {
            connection.talk.closing = true;
            self.closings.push(holder);
        }
    }

    /// Registers an fd with the poll.
    pub fn watch_fd(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), token, interest)
    }

    /// Asks the poll to tell also when a connection takes more, or no longer.
    pub fn watch_writable(&self, holder: HolderId, writable: bool) {
        let Some(connection) = self.connection(holder) else { return };
        let interest = if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let fd = connection.socket.as_raw_fd();
        if let Err(error) = self.poll.registry().reregister(&mut SourceFd(&fd), Token(holder.index()), interest) {
            log::warn!("epoll_ctl on a watching connection: {error}");
        }
    }
}
