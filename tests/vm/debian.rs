//! A whole Debian host: systemd on a disk of its own, an initramfs made by Debian's own tools with this tree's hooks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::kernel::{Kernel, Line};
use crate::machine::{Machine, QEMU};
use crate::packages;
use crate::scenario::{binary, possible, skip};

/// Which Debian, and what is done in it.
struct Host {
    /// `bookworm` has systemd 252, `trixie` 257.
    suite: &'static str,
    /// What makes its initramfs.
    maker: &'static str,
    /// The file of `scenarios/` that runs once it has booted.
    scenario: &'static str,
    slots: u32,
}

impl Host {
    const fn bookworm(scenario: &'static str, slots: u32) -> Self {
        Self { suite: "bookworm", maker: "initramfs-tools", scenario, slots }
    }

    /// Boots it, and asserts what its scenario checks.
    #[track_caller]
    fn boots(&self) {
        let Self { suite, maker, scenario, slots } = self;
        let dir = packages::cache().join(format!("runs/{scenario}-{suite}-{maker}-{slots}"));
        let append = format!("root=/dev/vda rw net.ifnames=0 slots={slots} systemd.show_status=0");
        let kernel = match possible().and_then(|()| Kernel::get(Line::V6_12)) {
            Ok(kernel) => kernel,
            Err(why) => return skip(&why),
        };
        let package = packages::cache().join(format!("linux-image-{}", kernel.release));
        let mut make = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/debian.sh"));
        make.arg(&dir).arg(package).args([&kernel.release, *suite, *maker, *scenario]);
        if let Err(why) = packages::output(make.env("NETSLOT", binary()).env("APPEND", &append)) {
            return skip(&why);
        }
        let initramfs = std::fs::read(dir.join("initrd")).expect("made");
        let more = [
            "-drive".to_owned(),
            format!("file={},format=raw,if=virtio,snapshot=on", dir.join("root.img").display()),
            "-netdev".into(),
            "user,id=net,restrict=on".into(),
            "-device".into(),
            "virtio-net-pci,netdev=net,romfile=".into(),
        ];
        let machine = Machine {
            kernel: &kernel.image,
            initramfs: &initramfs,
            memory_mb: 2_048,
            append: &append,
            more: &more,
            patience: Duration::from_secs(900),
        };
        let ran = machine.start(Command::new(QEMU), &dir.join("run")).wait();
        let _ = std::fs::remove_file(dir.join("root.img"));
        ran.is_well();
    }
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn debian_boots_with_slots_made_in_its_initramfs() {
    Host::bookworm("boot", 200).boots();
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn debian_boots_with_a_thousand_slots() {
    Host::bookworm("boot", 1_000).boots();
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn debian_boots_with_slots_made_in_a_dracut_initramfs() {
    Host { maker: "dracut", ..Host::bookworm("boot", 200) }.boots();
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn debian_boots_without_a_pool_where_none_can_be_made_and_has_one_once_the_fault_is_mended() {
    Host::bookworm("broken", 4).boots();
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn an_upgrade_of_the_package_and_the_way_back_keep_leases_and_connections() {
    Host::bookworm("package", 4).boots();
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn after_a_soft_reboot_the_units_make_the_pool_anew() {
    Host { suite: "trixie", ..Host::bookworm("soft", 20) }.boots();
}
