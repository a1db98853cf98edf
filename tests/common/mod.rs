//! A world of a test's own: private network and mount namespaces that play the host, with their own `/run` and an
//! uplink to a namespace that plays the network. Runs the real binary in it, as a user would; leaves nothing behind.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod daemon;
pub mod guest;
pub mod private;

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use netslot::bpf::Maps;
use netslot::ledger::{Records, Store as _};
use netslot::netlink::observed::Link;
use netslot::netlink::{Socket, route};
use netslot::slot::SlotId;
use netslot::sys::vault::Vault;
use netslot_abi::{LedgerRecord, SlotState, ledger_flag};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use private::{Turn, inside, private};

/// The host that a test has to itself, for as long as its thread lives.
pub struct World {
    /// A second namespace, beyond the uplink.
    pub network: OwnedFd,
    config: PathBuf,
    _files: tempfile::TempDir,
    /// The last to go: another test's host begins when this one has ended.
    _turn: Turn,
}

/// Address of the world's host on its uplink.
pub const HOST_IP: &str = "198.51.100.2";
/// Address of the network's end of it, the host's default route.
pub const NETWORK_IP: &str = "198.51.100.1";

impl World {
    /// A fresh world, or `None`, said aloud, where this user may not make one; in CI that fails the test.
    pub fn new() -> Option<Self> {
        let turn = private()?;
        let network = namespace();
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        mount(Some("sys"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).expect("the namespace's own /sys");
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), Some("mode=0700")).expect("a bpffs");
        let files = tempfile::tempdir_in("/run").expect("a directory");
        let config = files.path().join("netslot.toml");
        let world = Self { network, config, _files: files, _turn: turn };
        let peer = format!("/proc/{}/fd/{}", std::process::id(), world.network.as_raw_fd());
        for line in [
            "link set lo up".to_owned(),
            "link add uplink0 type veth peer name net0".into(),
            format!("addr add {HOST_IP}/24 dev uplink0"),
            "link set uplink0 up".into(),
        ] {
            world.ip(&line);
        }
        // `ip link set … netns` takes a pid or a name; a name is a file below /run/netns.
        fs::create_dir_all("/run/netns").expect("a directory");
        std::os::unix::fs::symlink(&peer, "/run/netns/network").expect("a name");
        world.ip("link set net0 netns network");
        fs::remove_file("/run/netns/network").expect("the name was ours");
        world.in_netns(&world.network, "ip", &["addr", "add", "198.51.100.1/24", "dev", "net0"]);
        world.in_netns(&world.network, "ip", &["link", "set", "net0", "up"]);
        world.in_netns(&world.network, "ip", &["route", "add", "100.64.0.0/15", "via", HOST_IP]);
        world.ip(&format!("route add default via {NETWORK_IP}"));
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a router");
        world.configure("");
        // The kernel tells of carriers when it comes to it; a look before and one after would differ.
        let began = Instant::now();
        while !world.ip("-brief link show uplink0").contains(" UP ") {
            assert!(began.elapsed() < Duration::from_secs(180), "the uplink has no carrier");
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(world)
    }

    /// Writes the config file that [`World::netslot`] uses.
    pub fn configure(&self, toml: &str) {
        fs::write(&self.config, toml).expect("written");
    }

    /// The config file.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// A run of the binary, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--config").arg(&self.config).args(args).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub fn netslot(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().expect("started"))
    }

    /// Runs the binary, which must succeed, and reads what it prints as JSON.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let ended = self.netslot(&[&["--json"], args].concat());
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"))
    }

    /// Runs `ip` with a line of arguments on the host; it must succeed.
    pub fn ip(&self, line: &str) -> String {
        succeed(Command::new("ip").args(line.split_ascii_whitespace()))
    }

    /// Runs a program in a namespace; it must succeed.
    pub fn in_netns(&self, netns: &OwnedFd, program: &str, args: &[&str]) -> String {
        succeed(inside(netns, program).args(args))
    }

    /// A run of a program in a namespace, not started yet.
    pub fn command_in(&self, netns: &OwnedFd, program: &str) -> Command {
        inside(netns, program)
    }

    /// Whether a program in a namespace succeeds.
    pub fn works_in(&self, netns: &OwnedFd, program: &str, args: &[&str]) -> bool {
        let output = inside(netns, program).args(args).output().expect("nsenter is there");
        output.status.success()
    }

    /// The namespace of a slot.
    pub fn slot(&self, number: u32) -> OwnedFd {
        let vault = Vault::open(Path::new("/run/netslot")).expect("readable").expect("a vault");
        vault.netns(SlotId::new(number).expect("in range")).expect("readable").expect("a namespace")
    }

    /// Opens the tap in a slot as a VMM does.
    pub fn open_tap(&self, netns: &OwnedFd) -> OwnedFd {
        let dev_net = fs::File::open("/dev/net").expect("there");
        let name = "tap0".parse().expect("a name");
        let open = || netslot::sys::tap::open(dev_net.as_fd(), &name);
        netslot::sys::netns::within(netns, open).expect("entered").expect("opened")
    }

    /// Numbers of the slots in the vault.
    pub fn slots(&self) -> Vec<u32> {
        let vault = Vault::open(Path::new("/run/netslot")).expect("readable");
        vault.map_or_else(Vec::new, |v| v.slots().expect("listed").into_iter().map(SlotId::number).collect())
    }

    /// Lets a slot's packets pass, leased or not, its address being its own programs' and no guest's.
    pub fn open_slot(&self, number: u32) {
        let maps = Maps::open(Path::new("/sys/fs/bpf/netslot")).expect("readable").expect("pinned");
        let mut records = Records(maps.cells().expect("mapped"));
        let slot = SlotId::new(number).expect("in range");
        let mut record = records.ledger(slot);
        if record.state() != Some(SlotState::Leased) {
            record = LedgerRecord { commit: LedgerRecord::pack(1, SlotState::Leased), ..LedgerRecord::default() };
        }
        record.flags |= ledger_flag::OWN_STACK;
        records.store_ledger(slot, &record);
    }

    /// Sets a knob that only the namespace in which the tests were started shows, for as long as the guard lives.
    pub fn host_knob(&self, path: &'static str, value: &str) -> HostKnob {
        let old = in_first_netns(|| fs::read_to_string(path).expect("readable"));
        in_first_netns(|| fs::write(path, value).expect("writable"));
        HostKnob { path, old }
    }

    /// Waits until a pass that runs beside the test has begun so many slots.
    pub fn wait_for_slots(&self, count: usize) {
        let began = Instant::now();
        while self.slots().len() < count {
            assert!(began.elapsed() < Duration::from_secs(180), "the pass has not begun {count} slots");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The host's devices.
    pub fn links(&self) -> Vec<Link> {
        Socket::open().and_then(|mut s| s.dump(route::dump_links, Link::read)).expect("a dump")
    }

    /// Host ends among the host's devices.
    pub fn host_ends(&self) -> usize {
        self.links().iter().filter(|l| netslot::address::is_host_end_group(l.group)).count()
    }
}

/// A turned knob; turned back when dropped.
pub struct HostKnob {
    path: &'static str,
    old: String,
}

impl Drop for HostKnob {
    fn drop(&mut self) {
        in_first_netns(|| fs::write(self.path, self.old.trim()).expect("writable"));
    }
}

fn in_first_netns<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    // The main thread of the test process has never left the namespace in which the tests were started.
    let first = fs::File::open("/proc/self/ns/net").expect("our own");
    netslot::sys::netns::within(first, work).expect("root may enter")
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; −1 after a signal.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it told.
    pub stderr: String,
}

impl Ended {
    /// Reads a finished process.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts code and words of a refusal.
    #[track_caller]
    pub fn is_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "'{word}' is not in: {}", self.stderr);
        }
    }
}

/// The static binary where the caller names one, else cargo's own build of it.
pub fn binary() -> PathBuf {
    std::env::var_os("NETSLOT").map_or_else(|| env!("CARGO_BIN_EXE_netslot").into(), PathBuf::from)
}

fn namespace() -> OwnedFd {
    netslot::sys::netns::current().expect("this thread's namespace")
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
