//! Texts of /proc and /sys → values; pure, and never panicking on any text.

use std::path::{Path, PathBuf};

/// A mount, as in /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub id: u32,
    /// The mount on which it is mounted.
    pub parent: u32,
    pub point: PathBuf,
    pub kind: String,
    pub read_only: bool,
}

/// Whether /proc/kallsyms lists a function. The compiler may have added a suffix behind a dot to a static one's name.
pub(super) fn has_symbol(kallsyms: &str, symbol: &str) -> bool {
    let name_of =
        |line: &str| line.split_ascii_whitespace().nth(2).and_then(|name| name.split('.').next()) == Some(symbol);
    kallsyms.lines().any(name_of)
}

/// Whether modules.dep or modules.builtin lists a module. File names have '-' where module names may have '_'.
pub(super) fn has_module(list: &str, module: &str) -> bool {
    list.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split_once(".ko").is_some_and(|(name, _)| name.replace('-', "_") == module)
    })
}

pub(super) fn capabilities(status: &str) -> Option<u64> {
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

/// Whether a uid_map maps every id to itself.
pub(super) fn is_identity(uid_map: &str) -> bool {
    uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

pub(super) fn memory_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// How many CPUs a list like `0-3,8` names.
pub(super) fn cpus(list: &str) -> Option<u32> {
    let mut count = 0_u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

/// `36 35 98:0 /root /mnt/a\040b ro,noatime shared:1 - ext3 /dev/root rw` (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<Mount> {
    let (this, filesystem) = line.split_once(" - ")?;
    let mut fields = this.split(' ');
    let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let point = PathBuf::from(unescape(fields.nth(2)?));
    let flags = fields.next()?;
    let mut filesystem = filesystem.split(' ');
    let kind = filesystem.next()?.to_owned();
    let of_filesystem = filesystem.nth(1).unwrap_or_default();
    let read_only = [flags, of_filesystem].iter().any(|flags| flags.split(',').any(|flag| flag == "ro"));
    Some(Mount { id, parent, point, kind, read_only })
}

/// The mount that a path is on, found as the kernel finds it: from the root's mount over each that hangs on the one
/// before. Neither the order of the lines nor the depth of the points tells: a mount hides older, deeper ones.
pub(super) fn covering<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    // An initramfs' root is its own parent; that of any other hangs on a mount that is not listed.
    let hangs_on = |mount: &Mount, m: &Mount| m.id == mount.parent && m.id != mount.id;
    let is_root = |mount: &&Mount| mount.point == Path::new("/") && !mounts.iter().any(|m| hangs_on(mount, m));
    let mut on = mounts.iter().find(is_root)?;
    for _ in mounts {
        let next = mounts.iter().filter(|m| m.parent == on.id && m.id != on.id && path.starts_with(&m.point));
        let Some(next) = next.min_by_key(|mount| mount.point.components().count()) else { break };
        on = next;
    }
    Some(on)
}

/// Space, tab, newline and backslash stand as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, c) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escaped, c);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn status_gives_the_effective_capabilities() {
        let status = "Name:\tx\nUid:\t0\t0\t0\t0\nCapInh:\t0000000000000000\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n";
        assert_eq!(capabilities(status), Some(0x1ff_feff_ffff));
        assert_eq!(capabilities("CapPrm:\t00\n"), None);
    }

    #[test]
    fn only_the_map_of_the_host_is_the_identity() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("         0       1000          1\n"));
        assert!(!is_identity("0 0 65536\n"));
    }

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, count) in [("0\n", 1), ("0-1\n", 2), ("0-3,8,10-11\n", 7), ("0-191", 192)] {
            assert_eq!(cpus(list), Some(count), "{list}");
        }
        for bad in ["", "\n", "a", "3-1", "0-", "0-4294967295"] {
            assert_eq!(cpus(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn meminfo_gives_what_is_available() {
        assert_eq!(memory_available("MemTotal: 9 kB\nMemAvailable:   24000 kB\n"), Some(24_576_000));
        assert_eq!(memory_available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn mountinfo_gives_point_kind_and_whether_it_is_read_only() {
        let text = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    31 27 0:30 / /mnt/a\\040b ro,nosuid shared:7 master:1 - tmpfs x rw\n\
                    32 27 0:31 / /sys/fs/bpf rw - bpf bpf ro,mode=700\nnonsense\n";
        let mount = |id, parent, point: &str, kind: &str, read_only| Mount {
            id,
            parent,
            point: point.into(),
            kind: kind.into(),
            read_only,
        };
        assert_eq!(
            mounts(text),
            [
                mount(27, 1, "/", "ext4", false),
                mount(31, 27, "/mnt/a b", "tmpfs", true),
                mount(32, 27, "/sys/fs/bpf", "bpf", true)
            ]
        );
    }

    #[test]
    fn a_path_is_on_the_mount_that_the_kernel_would_find() {
        // The root's line is not the first; the second bpffs lies over the first; a tmpfs over /run hides /run/a's mount.
        let text = "22 27 0:1 / /sys rw - sysfs x rw\n27 1 0:2 / / rw - ext4 x rw\n\
                    30 22 0:3 / /sys/fs/bpf rw - bpf below rw\n31 30 0:4 / /sys/fs/bpf rw - bpf above rw\n\
                    40 27 0:5 / /run/a rw - xfs x rw\n41 27 0:6 / /run rw - tmpfs x rw\n";
        let mounts = mounts(text);
        let on = |path: &str| covering(&mounts, Path::new(path)).map(|mount| mount.id);
        assert_eq!(on("/sys/fs/bpf/netslot"), Some(31));
        assert_eq!(on("/sys/fs"), Some(22));
        assert_eq!(on("/sysx"), Some(27));
        assert_eq!(on("/run/a/b"), Some(41));
        assert_eq!(covering(&[], Path::new("/")), None);
        let initramfs = super::mounts("1 1 0:2 / / rw - rootfs rootfs rw\n22 1 0:3 / /sys rw - sysfs x rw\n");
        let on = |path: &str| covering(&initramfs, Path::new(path)).map(|mount| mount.id);
        assert_eq!((on("/run"), on("/sys/fs/bpf")), (Some(1), Some(22)));
        let circle = Mount { id: 1, parent: 2, ..mounts[1].clone() };
        let back = Mount { id: 2, parent: 1, ..mounts[1].clone() };
        assert_eq!(covering(&[circle, back], Path::new("/x")), None);
    }

    #[test]
    fn symbols_and_modules_are_found_by_their_whole_name() {
        let kallsyms = "0000000000000000 t tun_chr_open\n0000000000000000 t clsact_init.isra.0\n\
                        ffffffffc0000000 T br_dev_setup\t[bridge]\n";
        for (symbol, there) in
            [("tun_chr_open", true), ("clsact_init", true), ("br_dev_setup", true), ("tun_chr", false)]
        {
            assert_eq!(has_symbol(kallsyms, symbol), there, "{symbol}");
        }
        let dep = "kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko.xz kernel/drivers/net/veth.ko.xz\n\
                   kernel/net/sched/sch-ingress.ko:\n";
        for (module, there) in [("bridge", true), ("sch_ingress", true), ("veth", false), ("ridge", false)] {
            assert_eq!(has_module(dep, module), there, "{module}");
        }
        assert!(has_module("kernel/drivers/net/tun.ko\n", "tun"), "modules.builtin");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "[0-9a-zA-Z:, \\-\\\\\n.]{0,120}") {
            let _ = (capabilities(&text), cpus(&text), memory_available(&text), mounts(&text));
            let _ = (has_symbol(&text, "x"), has_module(&text, "x"), is_identity(&text));
        }
    }
}
