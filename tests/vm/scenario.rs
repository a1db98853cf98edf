//! One scenario: a script from `scenarios/`, and the machine in which it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::image::Image;
use crate::kernel::{Kernel, Line};
use crate::machine::{Machine, QEMU};
use crate::packages;

/// Modules that netslot needs, with those of its rules and of the peers that tests make.
const MODULES: [&str; 21] = [
    "bridge",
    "veth",
    "tun",
    "sch_ingress",
    "cls_bpf",
    "geneve",
    "nf_tables",
    "nf_conntrack",
    "nft_ct",
    "nft_limit",
    "nft_quota",
    "nf_conntrack_netlink",
    "nft_reject_inet",
    "nft_log",
    "nft_meta",
    "nft_masq",
    "nf_log_syslog",
    "dummy",
    "act_mirred",
    "ipip",
    "sit",
];

/// A scenario, not run yet.
#[derive(Debug)]
pub struct Scenario {
    name: &'static str,
    line: Line,
    commands: Vec<&'static str>,
    programs: Vec<(PathBuf, String)>,
    memory_mb: u32,
    patience: Duration,
    append: String,
}

impl Scenario {
    /// The script of that name, on that kernel.
    pub fn new(name: &'static str, line: Line) -> Self {
        let commands = vec!["ip", "jq"];
        Self {
            name,
            line,
            commands,
            programs: vec![],
            memory_mb: 512,
            patience: Duration::from_secs(900),
            append: String::new(),
        }
    }

    /// With that on the kernel's command line.
    pub fn append(mut self, words: &str) -> Self {
        self.append = format!("{} {words}", self.append).trim().to_owned();
        self
    }

    /// With that program of this machine.
    pub fn with_command(mut self, name: &'static str) -> Self {
        self.commands.push(name);
        self
    }

    /// With that file of this tree.
    pub fn with_file(mut self, from: &str, to: &str) -> Self {
        self.programs.push((Path::new(env!("CARGO_MANIFEST_DIR")).join(from), to.into()));
        self
    }

    /// With the test program of that name, built beside this one, which `suite.sh` runs; and what those run.
    pub fn with_test(mut self, name: &'static str) -> Self {
        match test_program(name) {
            Ok(path) => self.programs.push((path, name.into())),
            Err(why) => panic!("cargo test --no-run --test {name}: {why}"),
        }
        self.commands.extend([
            "ping", "nft", "tc", "bridge", "nsenter", "ethtool", "bpftool", "nstat", "setpriv", "prlimit", "unshare",
            "nice",
        ]);
        self.patience = Duration::from_secs(900);
        self.memory_mb = 1_024;
        self.append(&format!("suite={name}"))
    }

    /// Boots it and asserts that every check holds; where there can be no VM that is said aloud, and fails in CI.
    #[track_caller]
    pub fn run(self) {
        match self.image() {
            Ok((kernel, initramfs)) => self.boot(&kernel, &initramfs),
            Err(why) => skip(&why),
        }
    }

    fn image(&self) -> Result<(Kernel, Vec<u8>), String> {
        possible()?;
        let kernel = Kernel::get(self.line)?;
        let mut image = Image::new()?;
        image.file("init", 0o755, &script(&format!("{}.sh", self.name)));
        image.file("lib.sh", 0o644, &script("lib.sh"));
        image.program(&binary(), "usr/sbin/netslot");
        image.symlink("usr/bin/netslot", "/usr/sbin/netslot");
        for name in &self.commands {
            image.command(name);
        }
        for (from, to) in &self.programs {
            image.program(from, to);
        }
        image.modules(&kernel, &MODULES);
        Ok((kernel, image.finish()))
    }

    #[track_caller]
    fn boot(&self, kernel: &Kernel, initramfs: &[u8]) {
        let machine = Machine {
            kernel: &kernel.image,
            initramfs,
            memory_mb: self.memory_mb,
            append: &self.append,
            more: &[],
            patience: self.patience,
        };
        let words = self.append.split([' ', ',']).next().unwrap_or_default();
        let dir = packages::cache().join(format!("runs/{}-{words}-{:?}", self.name, self.line));
        machine.start(Command::new(QEMU), &dir).wait().is_well();
    }
}

/// A file of `scenarios/`.
pub fn script(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/scenarios").join(name)).expect("a script")
}

/// Whether a VM can run here.
///
/// # Errors
/// What is missing.
pub fn possible() -> Result<(), String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err("the kernels under test are for x86-64".into());
    }
    packages::output(Command::new(QEMU).arg("--version")).map_err(|e| format!("{e}: tests/tools.sh vm")).map(drop)
}

/// Where cargo puts the test program of that name, after it has built it.
fn test_program(name: &str) -> Result<PathBuf, String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--no-run", "--quiet", "--message-format=json", "--test", name]);
    let messages = packages::output(cargo.current_dir(env!("CARGO_MANIFEST_DIR")))?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == name);
    let program = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.ok_or_else(|| "cargo names no such program".into())
}

/// Says aloud that a test was left out; in CI it fails.
#[track_caller]
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

/// The static binary where the caller names one, else cargo's own build of it.
pub fn binary() -> PathBuf {
    std::env::var_os("NETSLOT").map_or_else(|| env!("CARGO_BIN_EXE_netslot").into(), PathBuf::from)
}
