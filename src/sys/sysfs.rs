//! A /sys that shows the calling process its own network namespace; changes no mount that another process sees.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fstat, stat};

/// A step that failed; those before it have happened to the calling process only.
#[derive(Debug, thiserror::Error)]
#[error("{call} {path}: {source}", path = path.display())]
pub struct SysfsError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Gives the calling thread a mount namespace of its own with a fresh sysfs at /sys, for the network namespace that it
/// is in: an old sysfs goes on showing the devices of the namespace it was mounted from, and Cloud Hypervisor reads
/// `/sys/class/net/<tap>/tun_flags`. What the host has mounted below /sys (cgroups, bpffs) stays in its place, as the
/// VMM's jailer needs it.
///
/// # Errors
/// [`SysfsError`]: EPERM without CAP_SYS_ADMIN, or where a container forbids a second sysfs.
pub fn make_private() -> Result<(), SysfsError> {
    let sys = Path::new("/sys");
    let root = Path::new("/");
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare the mounts of", root))?;
    // Slave: what the host mounts later still appears here, what is mounted here does not appear there.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, root, None::<&str>, slave, None::<&str>).map_err(failed("make slave the mounts of", root))?;

    let table = Path::new("/proc/self/mountinfo");
    let mut text = String::new();
    let read = File::open(table).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|source| SysfsError { call: "read", path: table.into(), source })?;
    // Held open before they are covered, so that they can be shown again on top.
    let mut below: Vec<(PathBuf, OwnedFd)> = Vec::new();
    let covered_by = stat(sys).map_err(failed("stat", sys))?.st_dev;
    for path in mounts_below(&text, "/sys/") {
        let fd = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed("open", &path))?;
        // The table also has what another mount at /sys covers already: its place is a directory like any other.
        if fstat(&fd).map_err(failed("stat", &path))?.st_dev != covered_by {
            below.push((path, fd));
        }
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), sys, Some("sysfs"), flags, None::<&str>).map_err(failed("mount sysfs at", sys))?;
    for (path, fd) in below {
        let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let tree = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(from.as_str()), &path, None::<&str>, tree, None::<&str>).map_err(failed("bind again", &path))?;
    }
    Ok(())
}

fn failed<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> SysfsError + 'a {
    move |errno| SysfsError { call, path: path.into(), source: errno.into() }
}

/// Where something is mounted directly below that directory, by /proc/self/mountinfo; what is mounted below one of those
/// moves with it.
fn mounts_below(mountinfo: &str, dir: &str) -> Vec<PathBuf> {
    let mut tops: Vec<&str> = Vec::new();
    // The fifth field. Blanks in it are octal escapes: nothing below /sys has any, so a path with one is left alone.
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| point.starts_with(dir) && !point.contains('\\')) {
        let covered = |top: &&str| point == *top || point.strip_prefix(*top).is_some_and(|rest| rest.starts_with('/'));
        // A parent stands before its children in the table.
        if !tops.iter().any(covered) {
            tops.push(point);
        }
    }
    tops.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_sys_is_found_once() {
        let mountinfo = "\
22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
24 22 0:7 / /sys/kernel/security rw shared:8 - securityfs securityfs rw
29 22 0:25 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw
30 29 0:26 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw
31 22 0:27 / /sys/fs/bpf rw shared:11 - bpf bpf rw
32 22 0:27 / /sys/fs/bpf rw shared:11 - bpf bpf rw
33 28 0:28 / /system rw - tmpfs tmpfs rw
34 22 0:29 / /sys/with\\040blank rw - tmpfs tmpfs rw
";
        let found = mounts_below(mountinfo, "/sys/");
        assert_eq!(found, ["/sys/kernel/security", "/sys/fs/cgroup", "/sys/fs/bpf"].map(PathBuf::from));
    }
}
