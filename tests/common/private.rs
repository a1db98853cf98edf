//! Private namespaces for a test: its thread's own mounts and network, taken by one test at a time.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Kernel tests run one after the other: namespaces being taken down stall everybody's RTNL.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// This test's turn, for as long as it is held.
pub struct Turn(MutexGuard<'static, ()>);

/// Waits for this test's turn and gives the calling thread mounts of its own, with a `/run` of its own, and an empty network;
/// `None`, said aloud, where this user may not, which in CI fails the test.
pub fn private() -> Option<Turn> {
    if !nix::unistd::geteuid().is_root() {
        skipped("kernel tests need root");
        return None;
    }
    let turn = Turn(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("namespaces");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("a /run of its own");
    Some(turn)
}

/// A run of a program in a network namespace, not started yet.
pub fn inside(netns: &OwnedFd, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd())).arg(program);
    command
}

/// Says that a test did not run, and why; where tests must run, it fails instead.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "a test that must run was not: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Whether a program is there; says aloud that a test did not run where it is not.
pub fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/lib/systemd", "/lib/systemd"]);
    let found = places.map(std::path::Path::new).any(|dir| dir.join(program).exists());
    if !found {
        skipped(&format!("needs {program}"));
    }
    found
}
