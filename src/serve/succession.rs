//! One daemon after another without a moment in between that a client could see: how the successor asks for what the
//! running one has, and how both know at each step whose the pool is. Only root's processes are heard.
//!
//! ```text
//!   successor                                running daemon
//!     "netslot succession 1"          ─▶      serves nobody any more
//!                                     ◀─      "estate", with the listening socket and the list of what is left
//!                                     ◀─      "connections" …, with up to 128 of them each
//!     reads all of it; "taken"        ─▶
//!                                     ◀─      "yours"; from here on it never serves again
//!                                     ◀─      "free"; it has ended its workers and let its lock go
//!     recovers, as after a kill, and takes the connections
//!     leads the names to itself       ─▶      ends: what names led to was open until now
//! ```
//! The end of the talk instead of "free" is the end of the process, which was killed.
//!
//! Whatever goes wrong before "yours" leaves the running daemon serving as if nothing had been. Where that is what goes wrong,
//! the successor finds its lock free and begins as after a kill.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use super::estate::{Estate, EstateError};
use crate::limits::{ESTATE_BYTES_MAX, HAND_OVER_MS, SUCCESSION_WAIT_S};
use crate::sys::seqpacket;

/// Name of the socket in `run_dir`.
const SOCKET: &str = "successor.sock";

/// Bytes of a message: a word, or a refusal's reason.
const MESSAGE_BYTES: usize = 512;

/// How soon a successor that was put off asks again.
const AGAIN: Duration = Duration::from_millis(20);

mod word {
    pub const CLAIM: &[u8] = b"netslot succession 1";
    pub const ESTATE: &[u8] = b"estate";
    pub const CONNECTIONS: &[u8] = b"connections";
    pub const TAKEN: &[u8] = b"taken";
    pub const YOURS: &[u8] = b"yours";
    pub const FREE: &[u8] = b"free";
    /// Followed by the reason.
    pub const NO: &[u8] = b"no: ";
    /// Not now; followed by the reason.
    pub const LATER: &[u8] = b"later: ";
}

/// Why there was no succession. The running daemon serves on.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// It does not want to.
    #[error("the running daemon does not give way: {0}")]
    Refused(String),
    /// It could not for too long.
    #[error("the running daemon does not give way: {0}")]
    Later(String),
    /// It has said nothing in time, or something else.
    #[error("the running daemon {0}; it serves on")]
    Unheard(&'static str),
    /// It has ended the talk, or has been killed in the middle of it.
    #[error("the running daemon has ended the talk; it serves on")]
    Ended,
    /// What it leaves cannot be taken over.
    #[error("what the running daemon leaves cannot be taken over, and it serves on: {0}")]
    Estate(#[from] EstateError),
    /// It listens elsewhere.
    #[error("the running daemon listens at {}, the configuration says {}: stop it first", .0.display(), .1.display())]
    Elsewhere(PathBuf, PathBuf),
    /// A call failed.
    #[error("{call} for the succession: {error}")]
    Call {
        /// The call.
        call: &'static str,
        /// The kernel's words.
        error: io::Error,
    },
}

impl SuccessionError {
    fn call(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| {
            if matches!(errno, Errno::EPIPE | Errno::ECONNRESET) {
                return Self::Ended;
            }
            Self::Call { call, error: errno.into() }
        }
    }
}

/// What a successor got.
#[derive(Debug)]
pub struct Heritage {
    /// What is left.
    pub estate: Estate,
    /// The connections, in any order.
    pub connections: Vec<OwnedFd>,
    /// The talk with the process before this, which holds what names lead to until it is closed; `None` where it is gone.
    pub before: Option<OwnedFd>,
}

/// Where a running daemon hears of its successor. The caller holds the daemon's lock.
///
/// # Errors
/// Those of making the socket.
pub fn listen(run_dir: &Path) -> io::Result<OwnedFd> {
    let path = run_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(seqpacket::listen_at(&path, Mode::from_bits_truncate(0o600))?)
}

/// The running daemon's side: a process that asks for the pool.
#[derive(Debug)]
pub struct Heir(OwnedFd);

impl Heir {
    /// Whoever has connected, if it is root's and asks as it should.
    #[must_use]
    pub fn of(socket: OwnedFd) -> Option<Self> {
        // The socket's mode lets nobody else in; this holds for a run_dir of any mode.
        if seqpacket::peer(&socket).ok()?.uid != 0 {
            return None;
        }
        let heir = Self(socket);
        (heir.hear(Duration::from_millis(HAND_OVER_MS)).as_deref() == Some(word::CLAIM)).then_some(heir)
    }

    /// Says why not.
    pub fn refuse(self, reason: &str) {
        self.end(word::NO, reason);
    }

    /// Says why not now.
    pub fn put_off(self, reason: &str) {
        self.end(word::LATER, reason);
    }

    fn end(self, word: &[u8], reason: &str) {
        let bytes = [word, &reason.as_bytes()[..reason.len().min(MESSAGE_BYTES - word.len())]].concat();
        let _ = seqpacket::send(&self.0, &bytes, std::iter::empty());
    }

    /// Offers everything; whether it was taken, and is the heir's from now on.
    #[must_use]
    pub fn offer(&self, listener: BorrowedFd<'_>, estate: BorrowedFd<'_>, connections: &[BorrowedFd<'_>]) -> bool {
        let until = Instant::now() + Duration::from_millis(HAND_OVER_MS);
        let mut all = self.tell(word::ESTATE, &[listener, estate], until);
        for some in connections.chunks(seqpacket::FDS_MAX) {
            all = all && self.tell(word::CONNECTIONS, some, until);
        }
        let taken = all && self.hear(until.saturating_duration_since(Instant::now())).as_deref() == Some(word::TAKEN);
        taken && self.tell(word::YOURS, &[], until)
    }

    /// Says that the pool is let go of, and waits until the successor leads the names to itself, or is gone.
    pub fn part(self) {
        let until = Instant::now() + Duration::from_secs(SUCCESSION_WAIT_S);
        if self.tell(word::FREE, &[], until) {
            wait(&self.0, PollFlags::POLLIN, until);
        }
    }

    /// A message, once there is room for it.
    fn tell(&self, word: &[u8], fds: &[BorrowedFd<'_>], until: Instant) -> bool {
        loop {
            match seqpacket::send(&self.0, word, fds.iter().copied()) {
                Ok(()) => return true,
                Err(Errno::EAGAIN) if wait(&self.0, PollFlags::POLLOUT, until) => {}
                Err(errno) => {
                    log::warn!("sendmsg to a successor: {errno}");
                    return false;
                }
            }
        }
    }

    fn hear(&self, patience: Duration) -> Option<Vec<u8>> {
        let mut room = [0; MESSAGE_BYTES];
        if !wait(&self.0, PollFlags::POLLIN, Instant::now() + patience) {
            return None;
        }
        let received = seqpacket::receive(&self.0, &mut room).ok()?;
        Some(room[..received.bytes].to_vec())
    }
}

/// The successor's side: takes what the daemon below `run_dir` has, and waits until it has let go of the pool; `None` where
/// none runs.
/// Returns with everything, or leaves everything as it was.
///
/// # Errors
/// [`SuccessionError`].
pub fn claim(run_dir: &Path, socket: &Path) -> Result<Option<(OwnedFd, Heritage)>, SuccessionError> {
    let until = Instant::now() + Duration::from_secs(SUCCESSION_WAIT_S);
    loop {
        match claim_now(run_dir, socket) {
            Err(SuccessionError::Later(reason)) if Instant::now() < until => {
                log::debug!("the running daemon puts a succession off: {reason}");
                std::thread::sleep(AGAIN);
            }
            ended => return ended,
        }
    }
}

fn claim_now(run_dir: &Path, socket: &Path) -> Result<Option<(OwnedFd, Heritage)>, SuccessionError> {
    let running = match seqpacket::connect_to(&run_dir.join(SOCKET)) {
        Ok(running) => running,
        Err(Errno::ENOENT | Errno::ECONNREFUSED) => return Ok(None),
        Err(errno) => return Err(SuccessionError::call("connect")(errno)),
    };
    say(&running, word::CLAIM)?;
    // It may be finishing jobs first, and then has as long again.
    let until = Instant::now() + Duration::from_millis(2 * HAND_OVER_MS);
    let [listener, list] = <[OwnedFd; 2]>::try_from(hear(&running, word::ESTATE, until)?)
        .map_err(|_| SuccessionError::Unheard("sent something else than two descriptors"))?;
    let listener = seqpacket::adopt_listener(listener)
        .map_err(|error| SuccessionError::Call { call: "look at a socket", error })?;
    if let Some(path) = seqpacket::path(&listener).filter(|path| path != socket) {
        return Err(SuccessionError::Elsewhere(path, socket.into()));
    }
    let estate = read(list.into()).map_err(|error| SuccessionError::Call { call: "read", error })?;
    let estate = Estate::read(&estate)?;
    let mut connections = Vec::with_capacity(estate.connections.len());
    while connections.len() < estate.connections.len() {
        connections.append(&mut hear(&running, word::CONNECTIONS, until)?);
    }
    say(&running, word::TAKEN)?;
    hear(&running, word::YOURS, until)?;
    let end = Instant::now() + Duration::from_secs(SUCCESSION_WAIT_S);
    let mut before = None;
    if !wait(&running, PollFlags::POLLIN, end) {
        log::error!("the daemon before this has handed over and does not end");
    } else if hear(&running, word::FREE, end).is_ok() {
        before = Some(running);
    }
    Ok(Some((listener, Heritage { estate, connections, before })))
}

/// All of a file, up to what an estate may have.
///
/// # Errors
/// Those of lseek(2) and read(2).
pub fn read(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(ESTATE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn say(running: &OwnedFd, word: &[u8]) -> Result<(), SuccessionError> {
    seqpacket::send(running, word, std::iter::empty()).map_err(SuccessionError::call("sendmsg"))
}

fn hear(running: &OwnedFd, expected: &[u8], until: Instant) -> Result<Vec<OwnedFd>, SuccessionError> {
    if !wait(running, PollFlags::POLLIN, until) {
        return Err(SuccessionError::Unheard("has not answered in time"));
    }
    let mut room = [0; MESSAGE_BYTES];
    let (bytes, fds) = seqpacket::receive_with_fds(running, &mut room).map_err(SuccessionError::call("recvmsg"))?;
    let said = &room[..bytes];
    let reason = |text| String::from_utf8_lossy(text).into_owned();
    if let Some(why) = said.strip_prefix(word::LATER) {
        return Err(SuccessionError::Later(reason(why)));
    }
    match said.strip_prefix(word::NO) {
        Some(why) => Err(SuccessionError::Refused(reason(why))),
        None if said == expected => Ok(fds),
        None if said.is_empty() => Err(SuccessionError::Ended),
        None => Err(SuccessionError::Unheard("said something else than was expected")),
    }
}

/// Whether something of that kind came in time.
fn wait(socket: &OwnedFd, what: PollFlags, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), what)], timeout) {
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok_and(|count| count > 0),
        }
    }
}
