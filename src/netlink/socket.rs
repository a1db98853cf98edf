//! The netlink socket: sends a batch and gathers the kernel's answers, or runs a dump; decides nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use netlink_sys::{Socket as Raw, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::batch::Batch;
use super::read::{self, DONE, DUMP_INTR, ERROR, Malformed, Message, Messages};
use crate::limits::{BATCH_BYTES_MAX, DUMP_BYTES_MAX, NETLINK_WAIT_S};
use crate::slot::{IfIndex, LinkName};
use crate::sys::{device, fault, netns};

/// A dump that the kernel reports as torn is asked for again this often: a table that changes under every one of
/// them is being rewritten, and its state means nothing.
const DUMP_TRIES: usize = 8;

/// Which of the kernel's subsystems a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Devices, addresses, routes, neighbours.
    Route,
    /// nf_tables.
    Netfilter,
    /// Connections.
    Diag,
}

impl Protocol {
    /// As people know it.
    const fn name(self) -> &'static str {
        match self {
            Self::Route => "rtnetlink",
            Self::Netfilter => "nfnetlink",
            Self::Diag => "sock_diag",
        }
    }

    /// Who makes the kernel slow to answer.
    const fn suspect(self) -> &'static str {
        match self {
            Self::Route => {
                "another task holds its lock (RTNL); namespaces being destroyed are the usual cause: wait for them and \
                 try again"
            }
            Self::Netfilter => "another task holds nf_tables' lock in this namespace: wait for it and try again",
            Self::Diag => "the host has very many connections: try again",
        }
    }
}

/// A netlink socket. It stays in the namespace in which its thread stood when it was opened.
pub struct Socket {
    raw: Raw,
    protocol: Protocol,
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
    #[error("{call} on an {on} socket: {error}", on = protocol.name())]
    Call {
        /// Which.
        call: &'static str,
        /// On what.
        protocol: Protocol,
        /// The kernel's word.
        error: io::Error,
    },
    /// No answer in time.
    #[error(
        "the kernel gave no answer on {on} within {NETLINK_WAIT_S} s: {suspect}",
        on = .0.name(),
        suspect = .0.suspect()
    )]
    Silent(Protocol),
    /// An answer that is no netlink message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The kernel refused a dump.
    #[error("{on} dump: {1}", on = .0.name())]
    Refused(Protocol, Refusal),
    /// The table changed under each try.
    #[error("an {on} dump was torn {DUMP_TRIES} times in a row: something keeps changing this table", on = .0.name())]
    Torn(Protocol),
}

impl SocketError {
    /// The kernel's error number, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Call { error, .. } => error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
            Self::Refused(_, refusal) => refusal.errno,
            Self::Silent(_) | Self::Malformed(_) | Self::Torn(_) => Errno::UnknownErrno,
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
    /// An rtnetlink socket in the calling thread's namespace.
    ///
    /// # Errors
    /// [`SocketError::Call`].
    pub fn open() -> Result<Self, SocketError> {
        Self::open_to(Protocol::Route)
    }

    /// A socket of that protocol in the calling thread's namespace.
    ///
    /// # Errors
    /// [`SocketError::Call`]; EPROTONOSUPPORT where the kernel lacks the protocol.
    pub fn open_to(protocol: Protocol) -> Result<Self, SocketError> {
        let call = |name| call(protocol, name);
        let number = match protocol {
            Protocol::Route => NETLINK_ROUTE,
            Protocol::Netfilter => NETLINK_NETFILTER,
            Protocol::Diag => NETLINK_SOCK_DIAG,
        };
        let mut raw = Raw::new(number).map_err(call("socket"))?;
        raw.bind(&SocketAddr::new(0, 0)).map_err(call("bind"))?;
        // Connected to the kernel: nobody else can answer.
        raw.connect(&SocketAddr::new(0, 0)).map_err(call("connect"))?;
        raw.set_ext_ack(true).map_err(call("setsockopt(NETLINK_EXT_ACK)"))?;
        raw.set_cap_ack(true).map_err(call("setsockopt(NETLINK_CAP_ACK)"))?;
        raw.set_netlink_get_strict_chk(true).map_err(call("setsockopt(NETLINK_GET_STRICT_CHK)"))?;
        setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::seconds(NETLINK_WAIT_S))
            .map_err(|e| call("setsockopt(SO_RCVTIMEO)")(e.into()))?;
        Ok(Self { raw, protocol, buffer: Vec::new() })
    }

    /// The namespace that the socket is in.
    ///
    /// # Errors
    /// [`SocketError::Call`].
    pub fn netns(&self) -> Result<OwnedFd, SocketError> {
        netns::of_socket(self.raw.as_fd()).map_err(|e| self.call("ioctl(SIOCGSKNS)")(e.into()))
    }

    /// The name of the device of that index; `None` where there is none. Asked without a message, which takes RTNL and
    /// settles the device's carrier ([`super::route::get_link`]).
    ///
    /// # Errors
    /// [`SocketError::Call`].
    pub fn device_name(&self, index: IfIndex) -> Result<Option<LinkName>, SocketError> {
        device::name_of(self.raw.as_fd(), index).map_err(|e| self.call("ioctl(SIOCGIFNAME)")(e.into()))
    }

    /// Sends the batch and waits until the kernel has worked through it. A refused message does not stop the ones
    /// behind it: each comes back as a [`Refusal`], in order.
    ///
    /// # Errors
    /// [`SocketError`]; what was done of the batch is then unknown.
    pub fn send(&mut self, batch: &mut Batch) -> Result<Vec<Refusal>, SocketError> {
        let refusals = self.ask(batch, |_| ())?;
        fault::point();
        Ok(refusals)
    }

    /// As [`Socket::send`], for a batch of questions: `hear` gets each message that answers one.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn ask(&mut self, batch: &mut Batch, mut hear: impl FnMut(&Message<'_>)) -> Result<Vec<Refusal>, SocketError> {
        let Some(last) = batch.len().checked_sub(1) else { return Ok(Vec::new()) };
        let bytes = batch.finish();
        debug_assert!(bytes.len() <= BATCH_BYTES_MAX);
        self.raw.send(bytes, 0).map_err(self.call("send"))?;
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
        let protocol = self.protocol;
        ask(&mut batch);
        for _ in 0..DUMP_TRIES {
            self.raw.send(batch.finish(), 0).map_err(self.call("send"))?;
            let (mut found, mut torn) = (Vec::new(), false);
            self.receive(|message| {
                torn |= message.flags & DUMP_INTR != 0;
                if matches!(message.kind, ERROR | DONE) {
                    let answer = read::answer(message)?;
                    return match answer.errno {
                        Some(errno) => {
                            Err(SocketError::Refused(protocol, Refusal { index: 0, errno, words: answer.words }))
                        }
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
        Err(SocketError::Torn(protocol))
    }

    /// Sends an nfnetlink transaction, of which all is done or nothing; its first message begins it and the one before
    /// its last asks for an ACK. Gives the first message that was refused, the beginning's own number (0) where the
    /// kernel refused the whole.
    ///
    /// # Errors
    /// [`SocketError`]; whether the transaction was carried out is then unknown.
    pub fn transact(&mut self, transaction: &Batch) -> Result<Option<Refusal>, SocketError> {
        let bytes = transaction.as_bytes();
        self.make_room(bytes.len())?;
        self.raw.send(bytes, 0).map_err(self.call("send"))?;
        fault::point();
        let last = transaction.len().saturating_sub(2);
        let mut first: Option<Refusal> = None;
        self.receive(|message| {
            if message.kind != ERROR {
                return Ok(false);
            }
            let index = message.sequence as usize;
            let answer = read::answer(message)?;
            if let Some(errno) = answer.errno
                && first.is_none()
            {
                first = Some(Refusal { index, errno, words: answer.words });
            }
            // Refused as a whole, nothing else is answered (nfnetlink_rcv_batch, net/netfilter/nfnetlink.c).
            Ok(index == last || (index == 0 && first.is_some()))
        })?;
        Ok(first)
    }

    /// A transaction is one datagram, and the kernel takes none that is longer than the send buffer less 32.
    fn make_room(&self, bytes: usize) -> Result<(), SocketError> {
        let call = |errno: Errno| self.call("setsockopt(SO_SNDBUFFORCE)")(errno.into());
        // The number that is read back is twice the one that was set (socket(7)).
        if getsockopt(&self.raw, sockopt::SndBuf).map_err(call)? < bytes + 32 {
            setsockopt(&self.raw, sockopt::SndBufForce, &(bytes + 32)).map_err(call)?;
        }
        Ok(())
    }

    fn call(&self, name: &'static str) -> impl FnOnce(io::Error) -> SocketError + use<> {
        call(self.protocol, name)
    }

    /// Reads datagrams until `until` says that the last message came.
    fn receive(&mut self, mut until: impl FnMut(&Message<'_>) -> Result<bool, SocketError>) -> Result<(), SocketError> {
        self.buffer.reserve(DUMP_BYTES_MAX);
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(SocketError::Silent(self.protocol)),
                Err(error) => return Err(self.call("recv")(error)),
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

fn call(protocol: Protocol, call: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    move |error| SocketError::Call { call, protocol, error }
}
