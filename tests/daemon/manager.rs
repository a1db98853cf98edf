//! A service manager as far as a daemon sees it: is told things, keeps descriptors, and passes them to the next one.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Instant;

use netslot::sys::seqpacket;
use nix::errno::Errno;

use crate::common::World;
use crate::served::{PATIENCE, Served};

const NOTIFY: &str = "/run/notify";

pub struct Manager {
    socket: UnixDatagram,
    /// What it was told, line by line.
    pub told: String,
    /// What it keeps, by name.
    pub kept: Vec<(String, OwnedFd)>,
}

/// A socket to be told things by, with room for as many as a host's service manager has: nobody may be reading yet.
pub fn bound(path: &str) -> UnixDatagram {
    std::fs::write("/proc/sys/net/unix/max_dgram_qlen", "512").expect("the namespace's own");
    UnixDatagram::bind(path).expect("bound")
}

impl Manager {
    pub fn new() -> Self {
        Self { socket: bound(NOTIFY), told: String::new(), kept: Vec::new() }
    }

    /// Starts a daemon with everything that is kept.
    pub fn start<'w>(&mut self, world: &'w World, args: &[&str]) -> Served<'w> {
        let serve = world.command(args);
        // LISTEN_PID is the daemon's own, which only a process that becomes the daemon can know.
        let mut command = Command::new("sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
        let names: Vec<&str> = self.kept.iter().map(|(name, _)| &**name).collect();
        command.env("NOTIFY_SOCKET", NOTIFY).env("FDSTORE", "100");
        if !names.is_empty() {
            command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        // Out of the way of the numbers that they are to have.
        let high = |(_, fd): &(String, OwnedFd)| {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(200)).expect("a copy")
        };
        let copies: Vec<i32> = self.kept.iter().map(high).collect();
        let passed = copies.clone();
        // SAFETY: dup2 is async-signal-safe, and all numbers are plain.
        unsafe {
            command.pre_exec(move || {
                for (place, fd) in (3..).zip(&passed) {
                    if nix::libc::dup2(*fd, place) != place {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let served = Served::spawn(world, command);
        copies.into_iter().for_each(|fd| nix::unistd::close(fd).expect("ours"));
        self.until("READY=1");
        served
    }

    /// Reads what it is told until there is such a line among what is new.
    #[track_caller]
    pub fn until(&mut self, line: &str) {
        let began = Instant::now();
        while !self.read().iter().any(|l| l == line) {
            assert!(began.elapsed() < PATIENCE, "never told {line}, but {}", self.told);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Reads what there is, and does what it is asked to do.
    pub fn read(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        loop {
            let mut room = [0; 4096];
            match seqpacket::receive_with_fds(&self.socket, &mut room) {
                Ok((bytes, fds)) => {
                    let text = String::from_utf8_lossy(&room[..bytes]).into_owned();
                    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default();
                    if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
                        self.kept.retain(|(kept, _)| kept != name);
                    } else if text.lines().any(|line| line == "FDSTORE=1") {
                        self.kept.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
                    }
                    self.told += &text;
                    news.extend(text.lines().map(str::to_owned));
                }
                Err(Errno::EAGAIN) => return news,
                Err(errno) => panic!("recvmsg: {errno}"),
            }
        }
    }

    /// Stops a daemon in order, reading all the while; its exit code.
    pub fn stop(&mut self, served: Served<'_>) -> i32 {
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| served.stop());
            while !ended.is_finished() {
                self.read();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            self.read();
            ended.join().expect("no panic")
        })
    }

    /// How many it keeps of that name.
    pub fn keeps(&self, name: &str) -> usize {
        self.kept.iter().filter(|(kept, _)| kept == name).count()
    }
}
