//! The blocking client: one connection, one request at a time; retries nothing and keeps no state of its leases.

mod error;
mod lease;
mod listing;
mod socket;
mod watch;

use std::boxed::Box;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::vec::Vec;

pub use error::ClientError;
pub use lease::{Lease, LeaseOptions};
pub use listing::Listing;
pub use watch::Watch;

use crate::error::{ERROR_KIND, Refusal};
use crate::limits::FRAME_BYTES_MAX;
use crate::snapshot::{Record, Slot};
use crate::types::{Binding, LeaseId};
use crate::{BodyError, Call, Text, VERSION_MAX, VERSION_MIN, decode, frame, reply, request};
use socket::Socket;
use zerocopy::FromBytes;

/// How long the daemon may take for an answer that waits for nothing, unless [`Client::connect_as`] says otherwise.
/// Leases take microseconds; this is for a daemon that is stopped or a machine that swaps.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the daemon.
///
/// After an error that leaves it unknown what the daemon did ([`ClientError::breaks`]) the connection is closed, so
/// that the daemon takes back a lease whose reply nobody read; later calls give [`ClientError::Broken`].
#[derive(Debug)]
pub struct Client {
    socket: Option<Socket>,
    version: u16,
    id: u32,
    timeout: Duration,
    hello: reply::Hello,
}

/// A reply, the fds that came with it, and whether all of them could be received.
struct Answer<R> {
    reply: R,
    fds: Vec<OwnedFd>,
    fds_cut: bool,
}

impl Client {
    /// Connects to the daemon's socket at `path` and says hello.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when there is no daemon or the user may not reach it; as [`Client::connect_as`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::connect_as(path, concat!("netslot-protocol ", env!("CARGO_PKG_VERSION")), TIMEOUT)
    }

    /// Connects under a name of its own (for the daemon's log; cut to 32 bytes) and with another bound on answers.
    /// A zero `timeout` is taken as one millisecond.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn connect_as(path: &Path, name: &str, timeout: Duration) -> Result<Self, ClientError> {
        let timeout = timeout.max(Duration::from_millis(1));
        let socket = Socket::connect(path, timeout)?;
        let nothing = reply::Hello { version: VERSION_MAX, server: Text::default(), pool: reply::Pool::default() };
        let mut client = Self { socket: Some(socket), version: VERSION_MAX, id: 0, timeout, hello: nothing };
        let hello = request::Hello { version_min: VERSION_MIN, version_max: VERSION_MAX, client: Text::cut(name) };
        client.hello = client.ask(&hello)?;
        let version = client.hello.version;
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(client.broken(ClientError::Version(version)));
        }
        client.version = version;
        Ok(client)
    }

    /// What the daemon said of itself and its pool when the connection was made.
    #[must_use]
    pub const fn hello(&self) -> &reply::Hello {
        &self.hello
    }

    /// Takes slots: all that were asked for, or none.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `pool-empty` or `timed-out` when none is free, or any other [`ClientError`].
    pub fn lease(&mut self, options: &LeaseOptions<'_>) -> Result<Vec<Lease>, ClientError> {
        let ask = options.request()?;
        // The daemon cuts the wait to its own bound; then the answer gets the usual time.
        let wait = Duration::from_millis(ask.wait_ms.min(self.hello.pool.wait_ms_max).into());
        let answer = self.exchange(&ask, wait)?;
        let leases = lease::leases(&ask, &answer.reply, answer.fds, &self.hello.pool.netns_dir);
        let error = match leases {
            _ if answer.fds_cut => ClientError::FdsCut,
            Ok(leases) => return Ok(leases),
            Err(error) => error,
        };
        // The daemon holds these for us, and the caller will never hear of them.
        for grant in &*answer.reply.grants {
            self.release(grant.lease)?;
        }
        Err(error)
    }

    /// Gives a leased slot its tenant network.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn bind(&mut self, lease: LeaseId, binding: Binding) -> Result<(), ClientError> {
        self.ask(&request::Bind { lease, binding })
    }

    /// Takes the tenant network away again.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn unbind(&mut self, lease: LeaseId) -> Result<(), ClientError> {
        self.ask(&request::Unbind { lease })
    }

    /// Gives a slot back.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn release(&mut self, lease: LeaseId) -> Result<(), ClientError> {
        self.ask(&request::Release { lease })
    }

    /// One slot, and the reason for its quarantine in words (empty outside quarantine).
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn get(&mut self, slot: u32) -> Result<(Slot, Text<{ crate::limits::DETAIL_BYTES_MAX }>), ClientError> {
        let reply = self.ask(&request::Get { slot })?;
        let record = Record::read_from_bytes(&reply.record).expect("a record has that many bytes and no alignment");
        Ok((record.read()?, reply.detail))
    }

    /// All slots at one moment.
    ///
    /// # Errors
    /// [`ClientError::Snapshot`] and the like when the daemon's file is not what it should be, or any [`ClientError`].
    pub fn list(&mut self) -> Result<Listing, ClientError> {
        let Answer { reply, mut fds, fds_cut } = self.exchange(&request::List, Duration::ZERO)?;
        match fds.pop() {
            _ if fds_cut => Err(ClientError::FdsCut),
            Some(file) if fds.is_empty() => Listing::read(file, reply.bytes),
            last => Err(ClientError::FdCount { want: 1, got: fds.len() + usize::from(last.is_some()) }),
        }
    }

    /// Counts over the pool and the daemon.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn status(&mut self) -> Result<reply::Status, ClientError> {
        self.ask(&request::Status)
    }

    /// Turns the connection into a stream of the pool's state changes.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn watch(mut self) -> Result<Watch, ClientError> {
        self.ask(&request::Watch)?;
        let socket = self.socket.take().ok_or(ClientError::Broken)?;
        Ok(Watch::new(socket, self.id))
    }

    /// A request whose reply carries no fds and waits for nothing.
    fn ask<C: Call>(&mut self, call: &C) -> Result<C::Reply, ClientError> {
        let answer = self.exchange(call, Duration::ZERO)?;
        if !answer.fds.is_empty() {
            return Err(ClientError::FdCount { want: 0, got: answer.fds.len() });
        }
        Ok(answer.reply)
    }

    fn exchange<C: Call>(&mut self, call: &C, wait: Duration) -> Result<Answer<C::Reply>, ClientError> {
        let result = self.exchange_once(call, wait);
        result.map_err(|error| self.broken(error))
    }

    /// Closes the connection if that error leaves it out of step.
    fn broken(&mut self, error: ClientError) -> ClientError {
        if error.breaks() {
            self.socket = None;
        }
        error
    }

    fn exchange_once<C: Call>(&mut self, call: &C, wait: Duration) -> Result<Answer<C::Reply>, ClientError> {
        let socket = self.socket.as_mut().ok_or(ClientError::Broken)?;
        // 0 is the daemon's own.
        self.id = self.id.checked_add(1).unwrap_or(1);
        let mut room = [0; FRAME_BYTES_MAX];
        let len = frame::write_request(self.version, self.id, call, &mut room).expect("every message fits a frame");
        let sent = socket.send(&room[..len]);
        // A daemon that refuses the connection itself says why and closes: the send fails, the reason is there to read.
        let received = match (sent, socket.receive(&mut room, self.timeout + wait)) {
            (_, Ok(received)) => received,
            (Err(error), Err(_)) | (Ok(()), Err(error)) => return Err(error),
        };
        let (header, body) = frame::split(&room[..received.bytes])?;
        let refusal = header.kind == ERROR_KIND;
        // Id 0: the daemon speaks of the connection, not of the request.
        if !(header.id == self.id || refusal && header.id == 0) {
            return Err(ClientError::Id { want: self.id, got: header.id });
        }
        let named = |error: BodyError| ClientError::Body { call: C::KIND.name(), error };
        if refusal {
            let refusal = Box::new(decode::<Refusal>(body).map_err(named)?);
            return Err(ClientError::Refused { call: C::KIND.name(), refusal });
        }
        if header.kind != C::KIND.reply() {
            return Err(ClientError::Kind { call: C::KIND.name(), got: header.kind });
        }
        Ok(Answer { reply: decode(body).map_err(named)?, fds: received.fds, fds_cut: received.fds_cut })
    }
}
