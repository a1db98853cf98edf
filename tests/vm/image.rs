//! An initramfs put together: busybox, modules, programs with their libraries, and a script as init.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::archive::Archive;
use crate::kernel::Kernel;
use crate::packages;

/// Names under which busybox is called by the kernel and by scripts with an absolute path.
const APPLETS: [&str; 3] = ["sbin/modprobe", "sbin/switch_root", "bin/busybox"];

/// An initramfs in the making.
#[derive(Debug, Default)]
pub struct Image {
    archive: Archive,
    /// What is in it already; directories too.
    there: BTreeSet<String>,
}

impl Image {
    /// With a shell, and busybox under all its names. The shell is not busybox's: that one takes its own `ip` for any
    /// other on the PATH.
    ///
    /// # Errors
    /// That the package cannot be had.
    pub fn new() -> Result<Self, String> {
        let busybox = packages::unpacked("busybox-static")?.join("bin/busybox");
        let mut image = Self::default();
        for dir in ["dev", "proc", "sys", "run", "tmp", "etc", "root", "var"] {
            image.directory(dir);
        }
        // The kernel opens it for init's standard streams before devtmpfs can be mounted.
        image.archive.character_device("dev/console", (5, 1));
        image.file("usr/lib/busybox", 0o755, &read(&busybox));
        let applets = packages::output(Command::new(&busybox).arg("--list"))?;
        for applet in applets.lines() {
            image.symlink(&format!("usr/bin/{applet}"), "/usr/lib/busybox");
        }
        image.program(Path::new("/bin/dash"), "bin/sh");
        for path in APPLETS {
            image.symlink(path, "/usr/lib/busybox");
        }
        Ok(image)
    }

    /// A file of that content.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        if self.is_new(path) {
            self.archive.file(path, mode, data);
        }
    }

    /// A program of this machine, with the libraries that it is linked to.
    pub fn program(&mut self, from: &Path, to: &str) {
        self.file(to, 0o755, &read(from));
        // A static program has none, and ldd fails.
        let output = Command::new("ldd").arg(from).output().expect("ldd is there");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some(library) = line.split_ascii_whitespace().find(|word| word.starts_with('/')) {
                self.file(&library[1..], 0o755, &read(Path::new(library)));
            }
        }
    }

    /// A program that this machine has on its PATH, under its own name.
    pub fn command(&mut self, name: &str) {
        let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let path = dirs.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
        let path = path.unwrap_or_else(|| panic!("{name} is not on this machine: tests/tools.sh vm"));
        // Before busybox's: PATH in lib.sh begins here.
        self.program(&path, &format!("usr/sbin/{name}"));
    }

    /// Modules with all that they need, and the lists by which modprobe finds them.
    pub fn modules(&mut self, kernel: &Kernel, names: &[&str]) {
        let dir = format!("lib/modules/{}", kernel.release);
        let (mut dep, mut alias) = (String::new(), String::new());
        for module in kernel.modules(names) {
            let path = |name: &str| format!("kernel/{name}.ko");
            self.file(&format!("{dir}/{}", path(&module.name)), 0o644, &module.data);
            // modprobe loads from the end of the line to its begin.
            let needs: Vec<String> = module.needs.iter().rev().map(|need| path(need)).collect();
            dep += &format!("{}: {}\n", path(&module.name), needs.join(" "));
            for name in &module.aliases {
                alias += &format!("alias {name} {}\n", module.name);
            }
        }
        self.file(&format!("{dir}/modules.dep"), 0o644, dep.as_bytes());
        self.file(&format!("{dir}/modules.alias"), 0o644, alias.as_bytes());
    }

    pub fn symlink(&mut self, path: &str, to: &str) {
        if self.is_new(path) {
            self.archive.symlink(path, to);
        }
    }

    pub fn directory(&mut self, path: &str) {
        if self.is_new(path) {
            self.archive.directory(path);
        }
    }

    /// The archive that the kernel is given.
    pub fn finish(self) -> Vec<u8> {
        self.archive.finish()
    }

    /// Whether nothing is there under that name; makes the directories above it.
    fn is_new(&mut self, path: &str) -> bool {
        if self.there.contains(path) {
            return false;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.there.insert(path.to_owned())
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
