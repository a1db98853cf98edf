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

/// What a machine left behind.
#[derive(Debug)]
pub struct Ran {
    pub verdict: verdict::Verdict,
    /// Where the logs are.
    pub dir: PathBuf,
    pub kernel: String,
}

impl Machine<'_> {
    /// Boots it and waits for its end; its files are below `dir`.
    pub fn run(&self, dir: &Path) -> Ran {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).expect("target is ours");
        let path = |name: &str| dir.join(name);
        fs::write(path("initramfs"), self.initramfs).expect("written");
        let mut child = Guard(self.command(dir).spawn().expect("QEMU starts"));
        let read = |name: &str| String::from_utf8_lossy(&fs::read(path(name)).unwrap_or_default()).into_owned();
        let began = Instant::now();
        let mut ended = None;
        while child.0.try_wait().expect("asked").is_none() {
            if let Some(line) = verdict::fatal(&read("kernel.log")) {
                ended = Some(line.to_owned());
            } else if began.elapsed() > self.patience {
                ended = Some(format!("no end after {} s", self.patience.as_secs()));
            }
            if ended.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(child);
        let kernel = read("kernel.log");
        let mut verdict = verdict::read(&read("checks.log"), &kernel);
        verdict.wrong.extend(ended.map(|why| format!("QEMU was ended: {why}")));
        if verdict.wrong.is_empty() {
            let _ = fs::remove_file(path("initramfs"));
        }
        Ran { verdict, dir: dir.to_owned(), kernel }
    }

    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(QEMU);
        // Never KVM because /dev/kvm exists: on nested hosts it may be there and hang.
        command.args("-nodefaults -no-user-config -no-reboot -display none -accel tcg -cpu max -smp 2".split(' '));
        command.arg("-m").arg(self.memory_mb.to_string());
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(dir.join("initramfs"));
        for line in ["kernel.log", "checks.log"] {
            command.arg("-serial").arg(format!("file:{}", dir.join(line).display()));
        }
        // Stalls are counted in the guest's time, which passes while the host runs others: three times the defaults.
        command.arg("-append").arg(format!(
            "console=ttyS0 quiet loglevel=5 log_buf_len=4M panic=-1 oops=panic rcupdate.rcu_cpu_stall_timeout=63 {}",
            self.append
        ));
        command.args(self.more).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(dir.join("qemu.log")).expect("target is ours"));
        command
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

/// Ends QEMU whatever becomes of the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
