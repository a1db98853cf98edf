//! What there is of a pool and of the host around it, line by line, so that two runs can be compared and told apart.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use netslot::bpf::Maps;
use netslot::ledger::{Records, Store as _};
use netslot::slot::SlotId;
use netslot::sys::vault::Vault;
use nix::mount::{MsFlags, mount};

use crate::common::World;

pub const RUN_DIR: &str = "/run/netslot";
const BPF_DIR: &str = "/sys/fs/bpf/netslot";

/// The knobs that a pass turns and that belong to the machine.
const KNOBS: [(&str, &str); 2] = [("/sys/kernel/rcu_expedited", "0\n"), ("/proc/sys/kernel/printk", "7\t4\t1\t7\n")];

/// Covers the machine's knobs by files of the world's own: what others do on the machine meanwhile is not seen, and what
/// a killed pass leaves is not left to them.
pub fn cover_knobs() {
    for (path, value) in KNOBS {
        let own = format!("/run/knob-{}", path.rsplit('/').next().expect("a name"));
        fs::write(&own, value).expect("written");
        mount(Some(own.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("covered");
    }
}

/// All of it: devices, addresses, routes and neighbours of the host and of each slot, mounts, files, names, knobs, and
/// each record's state; without numbers that differ from one making to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(BTreeSet<String>);

impl State {
    /// Looks at everything.
    pub fn of(world: &World) -> Self {
        let mut lines = BTreeSet::new();
        for what in ["link", "addr", "route", "neigh"] {
            let of =
                |printed: String, whose: &str| printed.lines().map(|l| format!("{whose}: {}", lasting(l))).collect();
            let host: Vec<String> = of(world.ip(&format!("-d -o {what}")), "host");
            lines.extend(host);
            for number in world.slots() {
                let printed = world.in_netns(&world.slot(number), "ip", &["-d", "-o", what]);
                let inside: Vec<String> = of(printed, &format!("slot {number}"));
                lines.extend(inside);
            }
        }
        let rules = std::process::Command::new("nft").args(["-s", "list", "ruleset"]).output().expect("nft is there");
        lines.insert(format!("host: {}", String::from_utf8_lossy(&rules.stdout)));
        for number in world.slots() {
            let rules = world.in_netns(&world.slot(number), "nft", &["-s", "list", "ruleset"]);
            lines.insert(format!("slot {number}: {rules}"));
        }
        let vault = Vault::open(Path::new(RUN_DIR)).expect("readable");
        lines.insert(format!("mounts of the host: {}", mounts_of("thread-self")));
        lines.insert(format!("mounts in the vault: {}", vault.map_or(0, |vault| mounts_in(&vault))));
        lines.extend(files(RUN_DIR));
        lines.extend(files(BPF_DIR));
        lines.extend(files("/run/netns"));
        lines.extend(KNOBS.map(|(path, _)| format!("{path}: {}", fs::read_to_string(path).expect("readable").trim())));
        lines.extend(records());
        Self(lines)
    }

    /// Fails with what is in one and not in the other.
    #[track_caller]
    pub fn must_be(&self, wanted: &Self, when: &str) {
        let lacking: Vec<_> = wanted.0.difference(&self.0).collect();
        let strange: Vec<_> = self.0.difference(&wanted.0).collect();
        assert!(lacking.is_empty() && strange.is_empty(), "{when}: missing: {lacking:#?}; there instead: {strange:#?}");
    }

    /// Without those lines.
    pub fn without(mut self, word: &str) -> Self {
        self.0.retain(|line| !line.contains(word));
        self
    }
}

/// A line of `ip -d -o` without what changes by itself: timers, carriers, and what the kernel has seen of the others.
fn lasting(line: &str) -> String {
    let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
    while let Some(at) = words.iter().position(|word| matches!(*word, "link-netnsid" | "used" | "probes" | "state")) {
        words.drain(at..(at + 2).min(words.len()));
    }
    let is_time = |word: &str| word.contains('.') && !word.contains('/') && word.matches('.').count() == 1;
    words.retain(|word| !is_time(word) && !matches!(*word, "linkdown" | "tentative"));
    words.join(" ").replace("NO-CARRIER,", "").replace(",LOWER_UP", "")
}

fn mounts_of(process: &str) -> usize {
    fs::read_to_string(format!("/proc/{process}/mountinfo")).expect("readable").lines().count()
}

/// Mounts that a thread in the vault sees.
fn mounts_in(vault: &Vault) -> usize {
    // The vault has no /proc: the host's is asked about the thread that stands in it.
    let tasks = fs::File::open("/proc/self/task").expect("readable");
    let look = || {
        let _inside = vault.enter().expect("entered");
        let path = format!("{}/mountinfo", nix::unistd::gettid());
        let (flags, mode) = (nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty());
        let fd = nix::fcntl::openat(tasks.as_fd(), path.as_str(), flags, mode).expect("opened");
        std::io::read_to_string(fs::File::from(fd)).expect("read").lines().count()
    };
    std::thread::scope(|scope| scope.spawn(look).join().expect("no panic"))
}

fn files(dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().display().to_string()).collect()
}

fn records() -> Vec<String> {
    let Some(maps) = Maps::open(Path::new(BPF_DIR)).expect("ours") else { return Vec::new() };
    let store = Records(maps.cells().expect("mapped"));
    let of = |slot: SlotId| format!("record {slot}: {:?}", store.ledger(slot).state());
    SlotId::first(store.slots()).map(of).collect()
}
