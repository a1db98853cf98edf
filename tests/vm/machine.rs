//! A VM under QEMU, in software alone: started, watched until it ends or has to be ended, its two serial lines kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::verdict;

pub const QEMU: &str = "qemu-system-x86_64";

/// Lines of the kernel's log that a failure shows.
const TAIL: usize = 40;

/// What is booted, and how long it may take.
#[derive(Debug)]
pub struct Machine<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a [u8],
    pub memory_mb: u32,
    /// Appended to the kernel's command line.
    pub append: &'a str,
    /// QEMU's arguments beside those that every machine gets.
    pub more: &'a [String],
    /// Far beyond what it takes: software emulation on a machine that others use too.
    pub patience: Duration,
}

/// A machine that runs; ended with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    dir: PathBuf,
    patience: Duration,
}

/// What a machine left behind.
#[derive(Debug)]
pub struct Ran {
    pub verdict: verdict::Verdict,
    /// Where the logs are.
    pub dir: PathBuf,
    pub kernel: String,
}

impl Machine<'_> {
    /// Boots it by that command, which is QEMU or becomes it, with its files below `dir`.
    pub fn start(&self, launcher: Command, dir: &Path) -> Running {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).expect("target is ours");
        fs::write(dir.join("initramfs"), self.initramfs).expect("written");
        let child = self.command(launcher, dir).spawn().expect("QEMU starts");
        Running { child, dir: dir.to_owned(), patience: self.patience }
    }

    fn command(&self, mut command: Command, dir: &Path) -> Command {
        // Never KVM because /dev/kvm exists: on nested hosts it may be there and hang. Both CPUs in turns on one thread: side by
        // side, a guest died once of "Oops: int3" at a static key, where no breakpoint was any more (netif_rx_internal, 6.12).
        // Taken for the emulator's doing, not proven.
        command.args(
            "-nodefaults -no-user-config -no-reboot -display none -accel tcg,thread=single -cpu max -smp 2".split(' '),
        );
        command.arg("-m").arg(self.memory_mb.to_string());
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(dir.join("initramfs"));
        for line in ["kernel.log", "checks.log"] {
            command.arg("-serial").arg(format!("file:{}", dir.join(line).display()));
        }
        // Stalls are counted in the guest's time, which passes while the host runs others: three times the defaults.
        command.arg("-append").arg(format!(
            "console=ttyS0 quiet loglevel=5 log_buf_len=4M panic=-1 oops=panic rcupdate.rcu_cpu_stall_timeout=63 watchdog_thresh=30 {}",
            self.append
        ));
        command.args(self.more).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(dir.join("qemu.log")).expect("target is ours"));
        command
    }
}

impl Running {
    /// Waits until it ends by itself, or has to be ended.
    pub fn wait(mut self) -> Ran {
        let began = Instant::now();
        let mut ended = None;
        while ended.is_none() && self.child.try_wait().expect("asked").is_none() {
            ended = self.trouble(began);
            std::thread::sleep(Duration::from_millis(100));
        }
        let kernel = self.read("kernel.log");
        let mut verdict = verdict::read(&self.read("checks.log"), &kernel);
        verdict.wrong.extend(ended.map(|why| format!("QEMU was ended: {why}")));
        if verdict.wrong.is_empty() {
            let _ = fs::remove_file(self.dir.join("initramfs"));
        }
        Ran { verdict, dir: self.dir.clone(), kernel }
    }

    /// Waits until its script has told that line, and fails if it tells of a check that does not hold.
    #[track_caller]
    pub fn tells(&mut self, line: &str) {
        let began = Instant::now();
        loop {
            let told = self.read("checks.log");
            let failed: Vec<&str> = told.lines().filter(|line| line.starts_with("FAIL ")).collect();
            assert!(failed.is_empty(), "{failed:?}; logs: {}", self.dir.display());
            if told.lines().any(|told| told.trim_end() == line) {
                return;
            }
            self.runs(began, &format!("no '{line}': {told}"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails with those words if it has ended, or should have.
    #[track_caller]
    pub fn runs(&mut self, began: Instant, otherwise: &str) {
        let end = self.child.try_wait().expect("asked").map(|status| format!("QEMU ended with {status}"));
        if let Some(why) = end.or_else(|| self.trouble(began)) {
            panic!("{otherwise}: {why}; {}; logs: {}", self.read("qemu.log"), self.dir.display());
        }
    }

    /// The figures that its script has told.
    pub fn measured(&self) -> Vec<String> {
        verdict::read(&self.read("checks.log"), "").measured
    }

    fn trouble(&self, began: Instant) -> Option<String> {
        let kernel = self.read("kernel.log");
        let late = began.elapsed() > self.patience;
        let late = late.then(|| format!("no end after {} s", self.patience.as_secs()));
        verdict::fatal(&kernel).map(str::to_owned).or(late)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// Prints what was measured, and fails with all that is wrong and the end of the kernel's log.
    #[track_caller]
    pub fn is_well(&self) {
        for line in &self.verdict.measured {
            eprintln!("measured: {line}");
        }
        let lines: Vec<&str> = self.kernel.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        let qemu = fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
        assert!(
            self.verdict.wrong.is_empty(),
            "{}\nheld: {}\nlogs: {}\n{qemu}{tail}",
            self.verdict.wrong.join("\n"),
            self.verdict.held.join(", "),
            self.dir.display()
        );
    }
}
