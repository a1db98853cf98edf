//! Connections come and go; part of the [`Daemon`].

use std::os::fd::{AsRawFd as _, OwnedFd};

use mio::{Interest, Token};
use netslot_protocol::error::Refusal;
use netslot_protocol::{VERSION_MAX, frame};
use nix::errno::Errno;

use super::answer;
use super::conversation::Conversation;
use super::daemon::{Daemon, spare_fd, token};
use super::peer::{Connection, Peer};
use crate::ledger::{self, HolderId, Owner};
use crate::limits::{ACCEPT_PAUSE_MS, ACCEPTS_PER_TURN};
use crate::sys::{pidfd, seqpacket};

impl Daemon {
    /// Takes connections, until there are none or others have waited long enough.
    pub fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match seqpacket::accept(&self.listener.fd) {
                Ok(socket) => {
                    self.welcome(socket);
                }
                Err(Errno::EAGAIN) => {
                    self.accepting = false;
                    return;
                }
                Err(Errno::ECONNABORTED | Errno::EINTR) => {}
                Err(Errno::EMFILE | Errno::ENFILE) => return self.turn_away(),
                Err(errno) => return self.accept_later(errno),
            }
        }
    }

    /// At the limit of open files: gives the spare one for a connection, so that it can be told and is not left to wait
    /// for an answer that never comes.
    fn turn_away(&mut self) {
        self.spare_fd = None;
        match seqpacket::accept(&self.listener.fd) {
            Ok(socket) => {
                log::warn!("a connection is turned away: this process may open no more files (RLIMIT_NOFILE)");
                self.refuse_connection(&socket, ledger::Refusal::ConnectionsFull);
            }
            Err(Errno::EAGAIN) => self.accepting = false,
            Err(errno) => self.accept_later(errno),
        }
        self.spare_fd = spare_fd();
    }

    /// The kernel has a connection, and cannot give it now. The poll does not tell of it again: it tells of what comes.
    fn accept_later(&mut self, errno: Errno) {
        log::error!("accept: {errno}; it is tried again in {ACCEPT_PAUSE_MS} ms");
        self.accepting = false;
        self.accept_at_ns = Some(self.now_ns + ACCEPT_PAUSE_MS * 1_000_000);
    }

    /// Takes a connection in; `None` where it is refused.
    pub fn welcome(&mut self, socket: OwnedFd) -> Option<HolderId> {
        let peer = seqpacket::peer(&socket).ok()?;
        let process = match seqpacket::peer_pidfd(&socket) {
            Ok(process) => Some(process),
            // Before 6.5: by its number, which is as good while the process lives, and it has just connected.
            Err(Errno::ENOPROTOOPT) => pidfd::open(peer.pid).ok(),
            Err(_) => None,
        };
        let inode = process.as_ref().map_or(0, pidfd::inode);
        let owner = Owner { uid: peer.uid, gid: peer.gid, pid: peer.pid, inode };
        let holder = match self.ledger.connect(owner) {
            Ok(holder) => holder,
            Err(why) => {
                self.refuse_connection(&socket, why);
                return None;
            }
        };
        let unread = usize::try_from(self.config.quotas.reply_bytes_per_connection).unwrap_or(usize::MAX);
        if let Err(errno) = seqpacket::set_unread_max(&socket, unread) {
            log::debug!("setsockopt(SO_SNDBUFFORCE): {errno}");
        }
        self.serial += 1;
        let gone = process.is_none();
        let fd = socket.as_raw_fd();
        let (serial, uid) = (self.serial, peer.uid);
        let connection = Connection { socket, serial, uid, talk: Conversation::new(), queued: false };
        self.peers[holder.index()] = Peer { connection: Some(connection), process, watched: false };
        if let Err(error) = self.watch_fd(fd, Token(holder.index()), Interest::READABLE) {
            log::error!("epoll_ctl on a connection: {error}");
            self.close(holder);
        }
        if gone {
            self.ledger.owner_died(holder, self.now_ns, &mut self.fx);
        }
        self.settle();
        Some(holder)
    }

    fn refuse_connection(&mut self, socket: &OwnedFd, why: ledger::Refusal) {
        let refusal: Refusal = answer::refusal(why, None);
        let len =
            frame::write_refusal(VERSION_MAX, 0, &refusal, &mut self.frame[..]).expect("every message fits a frame");
        // One that does not get it sees the end of the connection all the same.
        let _ = seqpacket::send(socket, &self.frame[..len], std::iter::empty());
    }

    /// Ends a connection: its waiting requests, and its leases as their policy says.
    pub fn hang_up(&mut self, holder: HolderId) {
        if self.peers[holder.index()].connection.take().is_some() {
            self.watchers.retain(|watcher| *watcher != holder);
            self.ledger.disconnect(holder, self.now_ns, &mut self.fx);
            self.lists_may_go_on();
        }
    }

    /// Has the poll look after the holder's process: a lease is to end with it.
    pub fn watch_process(&mut self, holder: HolderId) {
        let peer = &self.peers[holder.index()];
        let Some(process) = peer.process.as_ref().filter(|_| !peer.watched) else { return };
        let watched = Token(token::PROCESSES + holder.index());
        match self.watch_fd(process.as_raw_fd(), watched, Interest::READABLE) {
            Ok(()) => self.peers[holder.index()].watched = true,
            Err(error) => log::error!("epoll_ctl on the process of a lease's owner: {error}"),
        }
    }

    /// The poll says that a process has exited; it may have been the one that had the holder's number before.
    pub fn look_at_process(&mut self, number: usize) {
        let exited = self.peers.get(number).and_then(|peer| peer.process.as_ref()).is_some_and(pidfd::has_exited);
        if exited {
            let holder = HolderId::at(u32::try_from(number).expect("holders are numbered by u32"));
            self.ledger.owner_died(holder, self.now_ns, &mut self.fx);
            self.settle();
        }
    }

    /// Looks after the process of leases that an earlier daemon gave. One that has exited since, or whose number is
    /// another's by now, has died. Where the kernel had nothing by which the process is known for certain (before 6.9), one
    /// that began after the lease was given is another.
    pub fn adopt_owner(&mut self, holder: HolderId) {
        let Some(owner) = self.ledger.owner(holder) else { return };
        let since_ns = self.ledger.held_since_ns(holder).unwrap_or(u64::MAX);
        // Where that cannot be told, for want of /proc, the number has to do: else every lease would end here.
        let began_before = || pidfd::began_ns(owner.pid).map_or(true, |began_ns| began_ns <= since_ns);
        let same = |process: &OwnedFd| match owner.inode {
            0 => began_before(),
            inode => pidfd::inode(process) == inode,
        };
        match pidfd::open(owner.pid).ok().filter(same) {
            Some(process) => {
                self.peers[holder.index()].process = Some(process);
                self.watch_process(holder);
            }
            None => self.orphans.push(holder),
        }
    }
}
