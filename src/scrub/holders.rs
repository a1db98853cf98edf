//! Who is still in a slot: tasks whose network namespace it is, counted for all slots at once; and, where one is to be told
//! of, by whom its sockets and its tap are held.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::libc;
use nix::sys::stat::fstat;

use crate::limits::{CENSUS_SHARE, HOLDERS_TOLD};
use crate::sys::{netns, pidfd};

/// The processes that have a task in each network namespace, by the namespace's inode; our own not.
pub type Census = HashMap<u64, Vec<u32>>;

/// What people are told of a tap that is held.
const TAP: &str = "its tap";

/// A census that all workers share: to look at every task of a host for each slot would cost a core.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Option<Taken>>);

#[derive(Debug)]
struct Taken {
    began: Instant,
    ended: Instant,
    census: Arc<Census>,
}

impl Registry {
    /// A census that began after that moment: who was in a namespace then and is not in it now has left. `None` where one
    /// must not be taken yet, as the last one was too dear to be followed by another at once.
    pub fn since(&self, moment: Instant) -> Option<Arc<Census>> {
        let mut last = self.0.lock().expect("no holder panics");
        if let Some(taken) = &*last {
            if taken.began >= moment {
                return Some(Arc::clone(&taken.census));
            }
            if taken.ended.elapsed() < (taken.ended - taken.began) * (CENSUS_SHARE - 1) {
                return None;
            }
        }
        let began = Instant::now();
        let census = Arc::new(take());
        *last = Some(Taken { began, ended: Instant::now(), census: Arc::clone(&census) });
        Some(census)
    }
}

/// Looks at every task of the calling process's pid namespace. One that ends meanwhile is in no namespace any more.
#[must_use]
pub fn take() -> Census {
    let mut census = Census::new();
    let own = std::process::id();
    for pid in pids().filter(|pid| *pid != own) {
        // Each thread can be in a namespace of its own.
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let namespace =
                fs::read_link(task.path().join("ns/net")).ok().and_then(|link| inode(&link.to_string_lossy()));
            if let Some(namespace) = namespace {
                let pids = census.entry(namespace).or_default();
                if pids.last() != Some(&pid) {
                    pids.push(pid);
                }
            }
        }
    }
    census
}

/// The inode of a namespace, by which the census knows it.
#[must_use]
pub fn inode_of(namespace: BorrowedFd<'_>) -> Option<u64> {
    fstat(namespace).ok().map(|stat| stat.st_ino)
}

/// Who holds a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// Whether somebody holds its tap.
    pub tap: bool,
    /// All of them in words: process, command, and what it holds.
    pub told: String,
}

/// Everybody who is in the namespace or holds a socket or a tap of it. Costs a look at every open file of the host: for a
/// slot that is given up.
#[must_use]
pub fn told(namespace: BorrowedFd<'_>, census: &Census) -> Holders {
    let Some(wanted) = inode_of(namespace) else { return Holders { tap: false, told: "somebody".into() } };
    let inside = census.get(&wanted).map_or(&[][..], Vec::as_slice);
    let mut holders: Vec<String> =
        inside.iter().map(|pid| format!("process {pid} ({}) in it", command(*pid))).collect();
    let (own, mut tap) = (std::process::id(), false);
    for pid in pids().filter(|pid| *pid != own) {
        let held = held(pid, wanted);
        tap |= held.contains(&TAP);
        if !held.is_empty() {
            holders.push(format!("process {pid} ({}) with {}", command(pid), held.join(" and ")));
        }
    }
    let more = holders.len().saturating_sub(HOLDERS_TOLD);
    holders.truncate(HOLDERS_TOLD);
    let told = match (holders.is_empty(), more) {
        (true, _) => "nobody that can be seen from here".into(),
        (false, 0) => holders.join(", "),
        (false, more) => format!("{} and {more} more", holders.join(", ")),
    };
    Holders { tap, told }
}

/// What of the namespace that process holds open.
fn held(pid: u32, namespace: u64) -> Vec<&'static str> {
    let mut held = Vec::new();
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return held };
    for file in files.flatten() {
        let Ok(target) = fs::read_link(file.path()) else { continue };
        let target = target.to_string_lossy();
        let what = if target.starts_with("socket:") {
            "a socket"
        } else if target.ends_with("/net/tun") {
            TAP
        } else {
            continue;
        };
        let number = file.file_name().to_str().and_then(|name| name.parse().ok());
        if !held.contains(&what) && number.is_some_and(|fd| is_of(pid, fd, namespace)) {
            held.push(what);
        }
    }
    held
}

/// Whether a process's socket or tap is of that namespace; asked of a copy that is closed at once.
fn is_of(pid: u32, fd: libc::c_int, namespace: u64) -> bool {
    let copy = pidfd::open(pid).and_then(|process| pidfd::copy_fd(&process, fd));
    let of = copy.and_then(|copy| netns::of_socket(copy.as_fd()));
    of.ok().and_then(|of| inode_of(of.as_fd())) == Some(namespace)
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

fn command(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
