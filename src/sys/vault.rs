//! The vault: one private mount namespace that holds every slot's network namespace as a file, itself held by one
//! bind at `<run_dir>/vault`. Keeps and finds namespaces; knows nothing of what is inside them.
//!
//! Not N mounts in the host's table: each costs every reader of it and every copy of the mount namespace (systemd's
//! daemon-reload took 15-20 s with tens of thousands, systemd#36856). The vault survives the process that made it, and
//! a change of root, as `/run` moves along.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::sys::stat::{Mode, stat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Pid, UnlinkatFlags, chroot, fchdir, pivot_root, unlinkat};

use crate::address;
use crate::slot::SlotId;
use crate::sys::{fault, thread};

/// `NSFS_MAGIC`, linux/magic.h: tells a bound namespace from the empty file under it.
const NSFS: FsType = FsType(0x6e73_6673);

/// A step of making, finding or changing the vault that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} {path}: {errno}", path = path.display())]
pub struct VaultError {
    call: &'static str,
    path: PathBuf,
    errno: Errno,
}

impl VaultError {
    /// The kernel's word.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }
}

/// An open vault.
#[derive(Debug)]
pub struct Vault {
    mount_namespace: OwnedFd,
    root: OwnedFd,
}

impl Vault {
    /// Opens the vault at `<run_dir>/vault`; `None` where there is none.
    ///
    /// # Errors
    /// [`VaultError`]: EPERM without CAP_SYS_ADMIN.
    pub fn open(run_dir: &Path) -> Result<Option<Self>, VaultError> {
        let pin = run_dir.join("vault");
        let mount_namespace = match open(&pin, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(failed("open", &pin)(errno)),
        };
        if !is_namespace(mount_namespace.as_fd()).map_err(failed("statfs", &pin))? {
            return Ok(None); // the empty file of a pass that was killed before it bound the vault there
        }
        let root = thread::apart(|| {
            enter(mount_namespace.as_fd()).map_err(failed("setns to", &pin))?;
            open_root().map_err(failed("open the root of", &pin))
        })
        .map_err(failed("start a thread for", &pin))??;
        Ok(Some(Self { mount_namespace, root }))
    }

    /// Makes an empty vault and binds it at `<run_dir>/vault`. The caller has seen that there is none.
    ///
    /// Only a mount namespace with a greater number than the binder's own can be bound (mnt_ns_loop,
    /// fs/namespace.c). Linux 6.18 hands the numbers out in batches per CPU (ns_tree_gen_id, kernel/nstree.c; 7.x
    /// counts again), so a new namespace may have the smaller one: then it is made on the next CPU, and at the latest
    /// on that of the binder's own it has a greater one. The host's first mount namespace has the smallest of all;
    /// containers and tests meet this (3 of 15 runs, measured).
    ///
    /// # Errors
    /// [`VaultError`]: EPERM without CAP_SYS_ADMIN.
    pub fn make(run_dir: &Path) -> Result<Self, VaultError> {
        fs::create_dir_all(run_dir).map_err(|e| failed("mkdir", run_dir)(errno_of(&e)))?;
        fault::point();
        // A mount-namespace file can only be bound where the parent mount is private: else it could propagate into
        // the namespace that it is (fs/namespace.c, do_loopback and mnt_ns_loop).
        if !is_mount_point(run_dir).map_err(failed("read the mounts for", run_dir))? {
            bind(run_dir, run_dir)?;
        }
        mount(None::<&str>, run_dir, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(failed("make private", run_dir))?;
        fault::point();
        let pin = run_dir.join("vault");
        File::create(&pin).map_err(|e| failed("create", &pin)(errno_of(&e)))?;
        fault::point();
        let mut refused = None;
        for cpu in 0..CpuSet::count() {
            let made = thread::apart(|| run_on(cpu).then(|| Self::furnish(run_dir)));
            let Some(vault) = made.map_err(failed("start a thread for", &pin))?.transpose()? else { continue };
            match bind(Path::new(&format!("/proc/self/fd/{}", vault.mount_namespace.as_raw_fd())), &pin) {
                Ok(()) => return Ok(vault),
                Err(error) if error.errno == Errno::EINVAL => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| failed("find a CPU for", &pin)(Errno::EINVAL)))
    }

    /// The slots whose namespaces are kept here, in order.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn slots(&self) -> Result<Vec<SlotId>, VaultError> {
        let err = failed("read", "the vault");
        let mut dir = Dir::openat(&self.root, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(&err)?;
        let mut slots = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(&err)?;
            slots.extend(entry.file_name().to_str().ok().and_then(address::slot_of_vault_name));
        }
        slots.sort_unstable();
        Ok(slots)
    }

    /// The slot's namespace; `None` where the vault has none, or an empty file that a killed process left.
    ///
    /// # Errors
    /// [`VaultError`]: EMFILE past RLIMIT_NOFILE.
    pub fn netns(&self, slot: SlotId) -> Result<Option<OwnedFd>, VaultError> {
        let name = address::vault_name(slot);
        let fd = match openat(&self.root, name.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed("open", &name)(errno)),
        };
        let bound = is_namespace(fd.as_fd()).map_err(failed("statfs", &name))?;
        Ok(bound.then_some(fd))
    }

    /// Moves the calling thread into the vault, where namespaces can be kept and forgotten. The thread sees none of
    /// the host's files from then on, and must end there.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn enter(&self) -> Result<Inside<'_>, VaultError> {
        enter(self.mount_namespace.as_fd()).map_err(failed("setns to", "the vault"))?;
        Ok(Inside { vault: self, on_this_thread: PhantomData })
    }

    /// Lets go of the vault and of every namespace that only it keeps: the bind and the private mount of `run_dir`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn destroy(self, run_dir: &Path) -> Result<(), VaultError> {
        let pin = run_dir.join("vault");
        umount2(&pin, MntFlags::MNT_DETACH).map_err(failed("umount", &pin))?;
        fault::point();
        match fs::remove_file(&pin).map_err(|e| errno_of(&e)) {
            Ok(()) => fault::point(),
            // systemd from 254 on binds /run to the new root and leaves the old one under it (switch-root.c): that
            // copy of our bind is out of reach for good, and holds the vault. So nothing may be left in it.
            Err(Errno::EBUSY) => self.empty()?,
            Err(errno) => return Err(failed("unlink", &pin)(errno)),
        }
        Self::clear(run_dir)
    }

    /// Takes away what is left at `run_dir` without a vault: by a pass that was killed before it had bound one there, or
    /// a destroy that was killed after it had let go of it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn clear(run_dir: &Path) -> Result<(), VaultError> {
        let pin = run_dir.join("vault");
        match fs::remove_file(&pin).map_err(|e| errno_of(&e)) {
            Ok(()) => fault::point(),
            // Busy: see above.
            Err(Errno::ENOENT | Errno::EBUSY) => {}
            Err(errno) => return Err(failed("unlink", &pin)(errno)),
        }
        if is_bound_to_itself(run_dir).map_err(failed("read the mounts for", run_dir))? {
            umount2(run_dir, MntFlags::MNT_DETACH).map_err(failed("umount", run_dir))?;
            fault::point();
        }
        Ok(())
    }

    /// Forgets every slot's namespace.
    fn empty(&self) -> Result<(), VaultError> {
        let slots = self.slots()?;
        thread::apart(|| {
            let inside = self.enter()?;
            slots.iter().try_for_each(|slot| inside.forget(*slot))
        })
        .map_err(failed("start a thread in", Path::new("the vault")))?
    }

    /// On a thread of its own: a new mount namespace with nothing in it but an empty tmpfs. The copies of the host's
    /// mounts are dropped, or the vault would keep every file system of the host busy for good.
    ///
    /// In a chroot this thread's root is not its mount namespace's, and replacing that one would leave the host's files as
    /// the vault's root to whoever enters it. Entering the namespace in which it is takes a thread to the true root.
    fn furnish(run_dir: &Path) -> Result<Self, VaultError> {
        let err = |call| failed(call, "the vault");
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(err("unshare for"))?;
        fault::point();
        let mount_namespace = open("/proc/thread-self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(err("open the mount namespace of"))?;
        let own_root = open_root().map_err(failed("open", "/"))?;
        let to_true_root = || setns(&mount_namespace, CloneFlags::CLONE_NEWNS).map_err(err("setns to"));
        to_true_root()?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(err("make private for"))?;
        // Back to where `run_dir` means what the caller means by it.
        fchdir(&own_root).and_then(|()| chroot(".")).map_err(err("chroot for"))?;
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("netslot"), run_dir, Some("tmpfs"), quiet, Some("mode=0700")).map_err(err("mount the tmpfs of"))?;
        fault::point();
        let tmpfs = open(run_dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(err("open the tmpfs of"))?;
        to_true_root()?;
        fchdir(&tmpfs).map_err(err("chdir into"))?;
        match pivot_root(".", ".") {
            Ok(()) => umount2(".", MntFlags::MNT_DETACH).map_err(err("umount the old root of"))?,
            // In an initramfs the root is the rootfs itself, which nothing can replace: cover it, as switch_root does.
            Err(Errno::EINVAL) => {
                mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(err("move the root of"))?;
                chroot(".").map_err(err("chroot into"))?;
            }
            Err(errno) => return Err(err("pivot_root into")(errno)),
        }
        fault::point();
        let root = open_root().map_err(err("open the root of"))?;
        Ok(Self { mount_namespace, root })
    }
}

/// A thread's stay in the vault.
#[derive(Debug)]
pub struct Inside<'a> {
    vault: &'a Vault,
    on_this_thread: PhantomData<*const ()>,
}

impl Inside<'_> {
    /// Keeps a namespace under the slot's name: from here on it outlives us.
    ///
    /// # Errors
    /// [`VaultError`]: ENOSPC past `fs.mount-max`.
    pub fn keep(&self, slot: SlotId, netns: BorrowedFd<'_>) -> Result<(), VaultError> {
        let name = address::vault_name(slot);
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(&self.vault.root, name.as_str(), flags, Mode::empty()).map_err(failed("create", &name))?;
        fault::point();
        let tree = clone_mount(netns).map_err(failed("open_tree for", &name))?;
        let target = std::ffi::CString::new(name.as_str()).expect("a name without zeroes");
        // SAFETY: two open descriptors and two zero-terminated strings that live through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                tree.as_raw_fd(),
                c"".as_ptr(),
                self.vault.root.as_raw_fd(),
                target.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        Errno::result(result).map_err(failed("move_mount to", &name))?;
        fault::point();
        Ok(())
    }

    /// Forgets the slot's namespace; the kernel takes it down once nobody else holds it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn forget(&self, slot: SlotId) -> Result<(), VaultError> {
        let name = address::vault_name(slot);
        match umount2(Path::new("/").join(&name).as_path(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL) => {} // EINVAL: the empty file that a killed process left
            Err(errno) => return Err(failed("umount", &name)(errno)),
        }
        fault::point();
        unlinkat(&self.vault.root, name.as_str(), UnlinkatFlags::NoRemoveDir).map_err(failed("unlink", &name))?;
        fault::point();
        Ok(())
    }
}

fn failed(call: &'static str, path: impl AsRef<Path>) -> impl Fn(Errno) -> VaultError {
    move |errno| VaultError { call, path: path.as_ref().into(), errno }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn bind(from: &Path, to: &Path) -> Result<(), VaultError> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed("bind a mount at", to))?;
    fault::point();
    Ok(())
}

/// setns to a mount namespace needs a thread that shares its root and working directory with no other
/// (mntns_install, fs/namespace.c).
fn enter(mount_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_FS)?;
    setns(mount_namespace, CloneFlags::CLONE_NEWNS)
}

fn open_root() -> Result<OwnedFd, Errno> {
    open("/", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Keeps the calling thread on one CPU; `false` where there is no such CPU for it.
fn run_on(cpu: usize) -> bool {
    let mut only = CpuSet::new();
    only.set(cpu).is_ok() && sched_setaffinity(Pid::from_raw(0), &only).is_ok()
}

fn is_namespace(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(fstatfs(fd)?.filesystem_type() == NSFS)
}

/// A detached copy of the mount that the descriptor stands on: lets a namespace be bound without any /proc in sight.
fn clone_mount(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // uapi/linux/mount.h
    const OPEN_TREE_CLONE: libc::c_int = 1;
    const OPEN_TREE_CLOEXEC: libc::c_int = libc::O_CLOEXEC;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH;
    // SAFETY: an open descriptor and a zero-terminated string that live through the call.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) };
    let tree = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call returned a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(tree) })
}

/// Whether the directory is covered by itself, as [`Vault::make`] does it: by the file system that its parent is on. A
/// file system of its own that somebody mounted there is not ours to take away.
fn is_bound_to_itself(dir: &Path) -> Result<bool, Errno> {
    Ok(is_mount_point(dir)? && stat(dir)?.st_dev == stat(&dir.join(".."))?.st_dev)
}

/// Whether the directory that the path leads to is the root of a mount. Asked of the kernel, as the mount table also
/// lists what a later mount covers.
fn is_mount_point(path: &Path) -> Result<bool, Errno> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: statx is plain numbers, for which all zeroes is a value.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a zero-terminated string and a structure to fill that live through the call.
    let result = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, 0, &raw mut status) };
    Errno::result(result)?;
    let mount_root = u64::try_from(libc::STATX_ATTR_MOUNT_ROOT).map_err(|_| Errno::EINVAL)?;
    Ok(status.stx_attributes & mount_root != 0)
}
