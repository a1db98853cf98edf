//! Gives up what the daemon has no use for: capabilities, privileges to be gained, system calls. Of the calling thread and of
//! the threads that it starts from then on; nothing is ever given back.
//!
//! What is kept was found by trying: all daemon tests run with it. No Landlock: it forbids whoever is under it to mount,
//! which the builder must, and threads that share their memory share their rights as well.

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;

/// `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// To give the socket to its group: until it listens.
    Chown = 0,
    /// To see who holds a slot's tap among the processes of other users.
    DacReadSearch = 2,
    /// Devices, addresses, routes, rules, taps; programs on them.
    NetAdmin = 12,
    /// To enter the vault: setns(2) to a mount namespace asks for it.
    SysChroot = 18,
    /// To see what files other processes hold.
    SysPtrace = 19,
    /// Namespaces and mounts; programs, maps, and their numbers.
    SysAdmin = 21,
}

/// What a serving daemon needs.
pub const SERVING: [Capability; 5] = [
    Capability::DacReadSearch,
    Capability::NetAdmin,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysAdmin,
];

/// What it needs besides until it serves.
pub const STARTING: [Capability; 6] = [
    Capability::Chown,
    Capability::DacReadSearch,
    Capability::NetAdmin,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysAdmin,
];

/// Largest number a capability may have: `CAP_TO_INDEX` of version 3 knows 64.
const CAPABILITIES: libc::c_ulong = 64;

/// Calls that nothing here ever makes, by which a daemon that somebody else has taken over could reach further: into the
/// kernel, into other processes, into the clock, past the file system's paths.
const REFUSED: [libc::c_long; 32] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mknodat,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_userfaultfd,
];

/// Keeps those capabilities and gives up all others, for good.
///
/// # Errors
/// Those of capset(2). Where the thread has them not to begin with, nothing is gained and nothing is an error.
pub fn keep(kept: &[Capability]) -> Result<(), Errno> {
    let kept = kept.iter().fold(0_u64, |mask, capability| mask | 1 << *capability as u8);
    for number in (0..CAPABILITIES).filter(|number| kept & (1 << number) == 0) {
        // SAFETY: takes plain numbers. EPERM without CAP_SETPCAP, and EINVAL past the last one that the kernel knows, in
        // both of which there is nothing to give up.
        let _ = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
    }
    // SAFETY: takes plain numbers.
    let _ = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let mut sets = capabilities()?;
    for set in sets.chunks_exact_mut(3).enumerate() {
        let (half, [effective, permitted, inheritable]) = set else { continue };
        let mask = u32::try_from(kept >> (32 * half) & u64::from(u32::MAX)).unwrap_or_default();
        *permitted &= mask;
        *effective &= mask;
        *inheritable = 0;
    }
    // SAFETY: the kernel reads the header and, of version 3, two structures of three words each.
    let result = unsafe { libc::syscall(libc::SYS_capset, (&raw const HEADER).cast_mut(), sets.as_ptr()) };
    Errno::result(result).map(drop)
}

/// `_LINUX_CAPABILITY_VERSION_3`, and the calling thread.
static HEADER: [u32; 2] = [0x2008_0522, 0];

/// The calling thread's: effective, permitted and inheritable, for the first 32 and for the others.
fn capabilities() -> Result<[u32; 6], Errno> {
    let (mut header, mut sets) = (HEADER, [0_u32; 6]);
    // SAFETY: the kernel reads and writes the header, and writes two structures of three words each.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    Errno::result(result).map(|_| sets)
}

/// No program that is started gains anything, and [`REFUSED`] calls fail with EPERM, which the audit log tells of
/// (`type=1326`, with the call's number).
///
/// # Errors
/// EINVAL on a kernel without seccomp filters; no_new_privs is set then.
pub fn refuse() -> Result<(), Errno> {
    prctl::set_no_new_privs()?;
    let program = filter();
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, whose length it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            &raw const program,
        )
    };
    Errno::result(result).map(drop)
}

/// Classic BPF over `struct seccomp_data`: the call's number at 0, the architecture at 4.
fn filter() -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut program = vec![
        // Another architecture's numbers mean other calls.
        step(LOAD, 4, 0, 0),
        step(EQUAL, ARCHITECTURE, 1, 0),
        step(RETURN, eperm, 0, 0),
        step(LOAD, 0, 0, 0),
        // So do those of x32 (`__X32_SYSCALL_BIT`), which no other architecture reaches.
        step(AT_LEAST, 0x4000_0000, 0, 1),
        step(RETURN, eperm, 0, 0),
    ];
    for call in REFUSED {
        program.push(step(EQUAL, u32::try_from(call).unwrap_or(u32::MAX), 0, 1));
        program.push(step(RETURN, eperm, 0, 0));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    program
}

/// `AUDIT_ARCH_*`, linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

#[cfg(test)]
mod tests {
    use super::*;

    fn status(field: &str) -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("readable");
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.expect("the kernel tells it").trim().to_owned()
    }

    #[test]
    fn a_thread_keeps_what_is_named_and_calls_are_refused() {
        // Threads of their own: the others go on with all they have.
        let confined = || {
            keep(&SERVING).expect("given up");
            refuse().expect("refused");
            // SAFETY: takes plain numbers; it is refused before it does anything.
            let traced = Errno::result(unsafe { libc::syscall(libc::SYS_ptrace, 0, 0, 0, 0) });
            let name = std::fs::read_to_string("/proc/thread-self/comm").map(|_| ());
            let caps = ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"].map(status);
            (caps, status("NoNewPrivs"), traced, name.is_ok())
        };
        let ([effective, permitted, bounding, inheritable, ambient], no_new_privs, traced, reads) =
            super::super::thread::apart(confined).expect("a thread");
        let named = SERVING.iter().fold(0_u64, |mask, capability| mask | 1 << *capability as u8);
        let mask = |text: &str| u64::from_str_radix(text, 16).expect("hex");
        if nix::unistd::geteuid().is_root() {
            assert_eq!((mask(&effective), mask(&permitted), mask(&bounding)), (named, named, named));
        } else {
            assert_eq!(mask(&effective) & !named, 0);
        }
        assert_eq!((mask(&inheritable), mask(&ambient), no_new_privs.as_str()), (0, 0, "1"));
        assert_eq!((traced, reads), (Err(Errno::EPERM), true));
    }
}
