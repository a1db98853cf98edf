//! The rtnetlink socket: sends a batch and gathers the kernel's answers, or runs a dump; decides nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_sys::{Socket as Raw, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::batch::Batch;
use super::read::{self, DONE, DUMP_INTR, ERROR, Malformed, Message, Messages};
use crate::limits::{BATCH_BYTES_MAX, DUMP_BYTES_MAX, NETLINK_WAIT_S};
use crate::sys::netns;

/// A dump that the kernel reports as torn is asked for again this often: a table that changes under every one of
/// them is being rewritten, and its state means nothing.
const DUMP_TRIES: usize = 8;

/// An rtnetlink socket. It stays in the namespace in which its thread stood when it was opened.
pub struct Socket {
    raw: Raw,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Socket").field(&self.raw).finish()
    }
}

/// What keeps a socket from being of use at all.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A system call failed.
    #[error("{call} on an rtnetlink socket: {error}")]
    Call {
        /// Which.
        call: &'static str,
        /// The kernel's word.
        error: io::Error,
    },
    /// No answer in time.
    #[error(
        "the kernel gave no answer on rtnetlink within {NETLINK_WAIT_S} s: another task holds its lock (RTNL); \
         namespaces being destroyed are the usual cause: wait for them and try again"
    )]
    Silent,
    /// An answer that is no netlink message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The kernel refused a dump.
    #[error("rtnetlink dump: {0}")]
    Refused(Refusal),
    /// The table changed under each try.
    #[error("an rtnetlink dump was torn {DUMP_TRIES} times in a row: something keeps changing this table")]
    Torn,
}

impl SocketError {
    /// The kernel's error number, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Call { error, .. } => error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
            Self::Refused(refusal) => refusal.errno,
            Self::Silent | Self::Malformed(_) | Self::Torn => Errno::UnknownErrno,
        }
    }
}

/// One message of a batch that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the batch.
    pub index: usize,
    /// The kernel's error number.
    pub errno: Errno,
    /// The kernel's own words, where it has any.
    pub words: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{} (\"{words}\")", self.errno),
            None => self.errno.fmt(f),
        }
    }
}

impl Socket {
    /// A socket in the calling thread's namespace.
    ///
    /// # Errors
    /// [`SocketError::Call`].
    pub fn open() -> Result<Self, SocketError> {
        let mut raw = Raw::new(NETLINK_ROUTE).map_err(call("socket"))?;
        raw.bind(&SocketAddr::new(0, 0)).map_err(call("bind"))?;
        // Connected to the kernel: nobody else can answer.
        raw.connect(&SocketAddr::new(0, 0)).map_err(call("connect"))?;
        raw.set_ext_ack(true).map_err(call("setsockopt(NETLINK_EXT_ACK)"))?;
        raw.set_cap_ack(true).map_err(call("setsockopt(NETLINK_CAP_ACK)"))?;
        raw.set_netlink_get_strict_chk(true).map_err(call("setsockopt(NETLINK_GET_STRICT_CHK)"))?;
        setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::seconds(NETLINK_WAIT_S))
            .map_err(|e| call("setsockopt(SO_RCVTIMEO)")(e.into()))?;
        Ok(Self { raw, buffer: Vec::new() })
    }

    /// The namespace that the socket is in.
    ///
    /// # Errors
    /// [`SocketError::Call`].
    pub fn netns(&self) -> Result<OwnedFd, SocketError> {
        netns::of_socket(self.raw.as_fd()).map_err(|e| call("ioctl(SIOCGSKNS)")(e.into()))
    }

    /// Sends the batch and waits until the kernel has worked through it. A refused message does not stop the ones
    /// behind it: each comes back as a [`Refusal`], in order.
    ///
    /// # Errors
    /// [`SocketError`]; what was done of the batch is then unknown.
    pub fn send(&mut self, batch: &mut Batch) -> Result<Vec<Refusal>, SocketError> {
        self.ask(batch, |_| ())
    }

    /// As [`Socket::send`], for a batch of questions: `hear` gets each message that answers one.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn ask(&mut self, batch: &mut Batch, mut hear: impl FnMut(&Message<'_>)) -> Result<Vec<Refusal>, SocketError> {
        let Some(last) = batch.len().checked_sub(1) else { return Ok(Vec::new()) };
        let bytes = batch.finish();
        debug_assert!(bytes.len() <= BATCH_BYTES_MAX);
        self.raw.send(bytes, 0).map_err(call("send"))?;
        let mut refusals = Vec::new();
        self.receive(|message| {
            if message.kind != ERROR {
                hear(message);
                return Ok(false);
            }
            let index = message.sequence as usize;
            let answer = read::answer(message)?;
            if let Some(errno) = answer.errno {
                refusals.push(Refusal { index, errno, words: answer.words });
            }
            Ok(index == last)
        })?;
        Ok(refusals)
    }

    /// Runs the one dump in the batch; `read` picks what it understands.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn dump<T>(
        &mut self,
        ask: impl FnOnce(&mut Batch),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, SocketError> {
        let mut batch = Batch::new();
        ask(&mut batch);
        for _ in 0..DUMP_TRIES {
            self.raw.send(batch.finish(), 0).map_err(call("send"))?;
            let (mut found, mut torn) = (Vec::new(), false);
            self.receive(|message| {
                torn |= message.flags & DUMP_INTR != 0;
                if matches!(message.kind, ERROR | DONE) {
                    let answer = read::answer(message)?;
                    return match answer.errno {
                        Some(errno) => Err(SocketError::Refused(Refusal { index: 0, errno, words: answer.words })),
                        // The ACK that a batch's last message asks for comes before the dump's end, or not at all.
                        None => Ok(message.kind == DONE),
                    };
                }
                found.extend(read(message));
                Ok(false)
            })?;
            if !torn {
                return Ok(found);
            }
        }
        Err(SocketError::Torn)
    }

    /// Reads datagrams until `until` says that the last message came.
    fn receive(&mut self, mut until: impl FnMut(&Message<'_>) -> Result<bool, SocketError>) -> Result<(), SocketError> {
        self.buffer.reserve(DUMP_BYTES_MAX);
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(SocketError::Silent),
                Err(error) => return Err(SocketError::Call { call: "recv", error }),
            }
            for message in Messages(&self.buffer) {
                if until(&message?)? {
                    return Ok(());
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

fn call(call: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    move |error| SocketError::Call { call, error }
}
