//! A whole Debian host: systemd on a disk of its own, an initramfs made by Debian's own tools with this tree's hooks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::kernel::{Kernel, Line};
use crate::machine::{Machine, QEMU};
use crate::packages;
use crate::scenario::{binary, possible, skip};

/// Boots it with so many slots, and asserts what `scenarios/boot.sh` checks.
#[track_caller]
fn boots(maker: &str, slots: u32) {
    let dir = packages::cache().join(format!("runs/debian-{maker}-{slots}"));
    let append = format!("root=/dev/vda rw net.ifnames=0 slots={slots} systemd.show_status=0");
    let kernel = match possible().and_then(|()| Kernel::get(Line::V6_12)) {
        Ok(kernel) => kernel,
        Err(why) => return skip(&why),
    };
    let package = packages::cache().join(format!("linux-image-{}", kernel.release));
    let mut make = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/debian.sh"));
    make.arg(&dir).arg(package).args([&kernel.release, maker]).env("NETSLOT", binary()).env("APPEND", &append);
    if let Err(why) = packages::output(&mut make) {
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
    machine.start(Command::new(QEMU), &dir.join("run")).wait().is_well();
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn debian_boots_with_slots_made_in_its_initramfs() {
    boots("initramfs-tools", 200);
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn debian_boots_with_a_thousand_slots() {
    boots("initramfs-tools", 1_000);
}

#[test]
#[ignore = "makes and boots a Debian root: make test-vm"]
fn debian_boots_with_slots_made_in_a_dracut_initramfs() {
    boots("dracut", 200);
}
