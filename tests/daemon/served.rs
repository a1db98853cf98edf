//! A running daemon in a world of the test's own, and ways to talk to it.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netslot_protocol::client::{Client, ClientError, Lease, LeaseOptions};
use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::frame;
use netslot_protocol::request::Call;
use netslot_protocol::snapshot::Slot;
use netslot_protocol::{Policy, State};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Pid;

use crate::common::World;

pub const SOCKET: &str = "/run/netslot/netslot.sock";

/// How long anything may take that must happen: far beyond what it takes, so that only its never happening fails.
/// Namespaces that others take down on the same machine have held the kernel's network lock for more than a minute.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A daemon, stopped at the end.
pub struct Served<'w> {
    pub world: &'w World,
    child: Child,
    log: PathBuf,
}

impl<'w> Served<'w> {
    /// Makes a pool by that configuration and serves it.
    pub fn up(world: &'w World, toml: &str) -> Self {
        // As long as the tests' own.
        world.configure(&format!("{toml}\nquotas.wait_ms_max = 300000\n"));
        Self::start(world, &["serve", "--up"])
    }

    /// Starts a daemon and waits until it serves.
    pub fn start(world: &'w World, args: &[&str]) -> Self {
        Self::spawn(world, world.command(args))
    }

    /// Starts a daemon by that command and waits until it serves.
    pub fn spawn(world: &'w World, mut command: Command) -> Self {
        let log = PathBuf::from("/run/daemon.log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("started");
        let began = Instant::now();
        while socket_to(SOCKET).is_none() {
            if let Some(status) = child.try_wait().expect("asked") {
                panic!("the daemon ended with {status}: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            assert!(began.elapsed() < PATIENCE, "the daemon does not serve");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { world, child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn client(&self) -> Client {
        Client::connect_as(Path::new(SOCKET), "test", PATIENCE)
            .unwrap_or_else(|error| panic!("{error}; {}", self.log()))
    }

    /// One slot's record.
    pub fn slot(&self, number: u32) -> Slot {
        self.client().get(number).expect("a record").0
    }

    pub fn state(&self, number: u32) -> State {
        self.slot(number).state
    }

    /// Waits until the slot is in that state.
    #[track_caller]
    pub fn wait_for(&self, number: u32, state: State) {
        self.until(|| self.state(number) == state, &format!("slot {number} never became {}", state.name()));
    }

    #[track_caller]
    pub fn until(&self, mut done: impl FnMut() -> bool, otherwise: &str) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < PATIENCE, "{otherwise}; {}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts a successor, which takes over.
    pub fn replaced(mut self) -> Self {
        let log = File::options().append(true).open(&self.log).expect("a log");
        let mut command = self.world.command(&["serve", "--replace"]);
        let mut next = command.stdout(Stdio::null()).stderr(log).spawn().expect("started");
        let ended = loop {
            if let Some(ended) = self.child.try_wait().expect("asked") {
                break ended;
            }
            if let Some(failed) = next.try_wait().expect("asked") {
                panic!("the successor ended with {failed}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let next = Self { world: self.world, child: next, log: self.log.clone() };
        assert_eq!(ended.code(), Some(0), "{}", next.log());
        next
    }

    /// Kills it as the kernel would, and reaps it.
    pub fn kill(mut self) -> &'w World {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
        self.world
    }

    /// Stops it in order, and gives its exit code.
    pub fn stop(mut self) -> i32 {
        self.terminate()
    }

    fn terminate(&mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it is there");
        self.child.wait().expect("reaped").code().unwrap_or(-1)
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.terminate();
        }
    }
}

/// One slot, with its namespace.
pub fn lease(client: &mut Client, policy: Policy) -> Lease {
    let options = LeaseOptions { policy, want_netns: true, ..LeaseOptions::default() };
    client.lease(&options).expect("a free slot").remove(0)
}

/// The code of a refusal.
#[track_caller]
pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    match result {
        Err(ClientError::Refused { refusal, .. }) => refusal.code,
        Ok(_) | Err(_) => panic!("not refused but: {result:?}"),
    }
}

/// Names that are shown, and where they lead.
pub fn names() -> Vec<(String, String)> {
    let dir = fs::read_dir("/run/netns").expect("listed").flatten();
    let link = |entry: fs::DirEntry| match fs::read_link(entry.path()) {
        // Gone since it was listed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        link => Some((entry.file_name(), link.expect("a link"))),
    };
    let mut names: Vec<_> = dir
        .filter_map(link)
        .map(|(name, target)| (name.to_string_lossy().into_owned(), target.display().to_string()))
        .collect();
    names.sort();
    names
}

/// A client that sends what it likes.
pub struct Raw(OwnedFd);

impl Raw {
    pub fn connect() -> Self {
        Self::reach().expect("a daemon")
    }

    /// To a daemon that may be gone.
    pub fn reach() -> Option<Self> {
        let fd = socket_to(SOCKET)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(180)).expect("set");
        Some(Self(fd))
    }

    pub fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)
    }

    pub fn ask<C: Call>(&self, id: u32, call: &C) -> Result<usize, Errno> {
        let mut room = [0; 256];
        let len = frame::write_request(1, id, call, &mut room).expect("fits");
        self.send(&room[..len])
    }

    /// The next frame's kind, id and body; `None` at the end.
    pub fn receive(&self) -> Option<(u16, u32, Vec<u8>)> {
        let mut room = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut room, MsgFlags::empty()) {
                Ok(0) => return None,
                Ok(len) => {
                    let (header, body) = frame::split(&room[..len]).expect("a frame");
                    return Some((header.kind, header.id, body.to_vec()));
                }
                // Said once, before what is left to read.
                Err(Errno::ECONNRESET | Errno::EINTR) => {}
                Err(errno) => panic!("recv: {errno}"),
            }
        }
    }

    /// The refusal that must come next, with its id.
    #[track_caller]
    pub fn refused(&self) -> (u32, ErrorCode) {
        let (kind, id, body) = self.receive().expect("an answer");
        assert_eq!(kind, netslot_protocol::error::ERROR_KIND);
        (id, netslot_protocol::decode::<Refusal>(&body).expect("a refusal").code)
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

fn socket_to(path: &str) -> Option<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    connect(fd.as_raw_fd(), &UnixAddr::new(path).expect("short")).ok().map(|()| fd)
}
