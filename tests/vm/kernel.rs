//! A Debian kernel taken from its package: the image that QEMU boots, and modules with all that they need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;

/// Which kernel.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    /// Required: Debian 13's, and Debian 12's from its backports or its security archive.
    V6_12,
    /// Debian 12's own.
    V6_1,
}

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Kernel {
    /// `6.12.117+deb12-cloud-amd64`
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
}

/// A module, ready to be loaded.
#[derive(Debug)]
pub struct Module {
    pub name: String,
    /// The ELF file.
    pub data: Vec<u8>,
    /// Names of all modules that it needs, those that they need too: modprobe asks no further.
    pub needs: Vec<String>,
    /// Under what the kernel asks for it.
    pub aliases: Vec<String>,
}

impl Kernel {
    /// Fetches and unpacks it, or says why it cannot be had.
    ///
    /// # Errors
    /// The package manager's words.
    pub fn get(line: Line) -> Result<Self, String> {
        let (prefix, metas) = match line {
            Line::V6_12 => ("linux-image-6.12.", ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"]),
            Line::V6_1 => ("linux-image-6.1.", ["linux-image-6.1-cloud-amd64", "linux-image-cloud-amd64"]),
        };
        let cached = fs::read_dir(packages::cache()).map_err(|e| e.to_string())?.filter_map(Result::ok);
        let cached = cached
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .find(|name| name.starts_with(prefix) && name.ends_with("-cloud-amd64"));
        let found =
            || metas.iter().filter_map(|meta| packages::behind(meta).ok()).find(|name| name.starts_with(prefix));
        let package = cached.or_else(found).ok_or_else(|| format!("apt knows no {prefix}*-cloud-amd64"))?;
        let dir = packages::unpacked(&package)?;
        let release = package.strip_prefix("linux-image-").expect("so it begins").to_owned();
        let image = dir.join(format!("boot/vmlinuz-{release}"));
        let root = ["lib/modules", "usr/lib/modules"].map(|at| dir.join(at).join(&release));
        let root = root.into_iter().find(|at| at.exists()).ok_or("the package holds no modules")?;
        let mut modules = BTreeMap::new();
        collect(&root, &mut modules);
        Ok(Self { release, image, modules })
    }

    /// The modules and all that they need, each after what it needs. One that the kernel has built in is left out.
    pub fn modules(&self, names: &[&str]) -> Vec<Module> {
        let mut list: Vec<Module> = Vec::new();
        for name in names {
            self.add(name, &mut list);
        }
        list
    }

    fn add(&self, name: &str, list: &mut Vec<Module>) {
        if list.iter().any(|module| module.name == name) {
            return;
        }
        let Some(path) = self.modules.get(name) else { return };
        let data = elf(path);
        let info = |key| strings(&data, key);
        let direct: Vec<String> = info("depends=").iter().flat_map(|all| all.split(',')).map(normal).collect();
        let aliases = info("alias=");
        let mut needs: Vec<String> = Vec::new();
        for need in direct.into_iter().filter(|name| !name.is_empty()) {
            self.add(&need, list);
            let further = list.iter().find(|module| module.name == need).map_or(&[][..], |module| &module.needs);
            needs.extend(further.iter().chain([&need]).cloned());
        }
        list.push(Module { name: name.to_owned(), data, needs, aliases });
    }
}

/// File names write some modules with a hyphen; the kernel knows underscores alone.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn collect(dir: &Path, modules: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(dir).expect("unpacked").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, modules);
        } else if let Some((name, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            modules.insert(normal(name), path);
        }
    }
}

fn elf(path: &Path) -> Vec<u8> {
    if path.extension().is_some_and(|end| end == "xz") {
        let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).output().expect("xz is there");
        assert!(output.status.success(), "xz {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        return output.stdout;
    }
    fs::read(path).expect("unpacked")
}

/// The values of a key in a module's `.modinfo` section: strings `key=value` between zero bytes.
fn strings(elf: &[u8], key: &str) -> Vec<String> {
    let value =
        |text: &[u8]| text.strip_prefix(key.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
    elf.split(|byte| *byte == 0).filter_map(value).collect()
}
