//! What bpf(2) can do and the loader's library does not offer.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::fault;

/// `BPF_MAP_FREEZE`, linux/bpf.h.
const MAP_FREEZE: libc::c_int = 22;

/// `BPF_OBJ_PIN`, linux/bpf.h.
const OBJ_PIN: libc::c_int = 6;

/// Pins a map or a program. The library's own calls want the object for themselves, which other threads are using.
///
/// # Errors
/// EEXIST where there is something of that name, EPERM on another file system than a bpffs.
pub fn pin(object: impl AsFd, path: &Path) -> Result<(), Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut attributes = [0; 16];
    // bpf_attr: u64 pathname, u32 bpf_fd, u32 file_flags.
    attributes[..8].copy_from_slice(&(path.as_ptr() as u64).to_ne_bytes());
    attributes[8..12].copy_from_slice(&object.as_fd().as_raw_fd().to_ne_bytes());
    // SAFETY: the command reads the attributes, whose length it is told, and the path, which lives until the end.
    let result = unsafe { libc::syscall(libc::SYS_bpf, OBJ_PIN, attributes.as_ptr(), attributes.len()) };
    Errno::result(result)?;
    fault::point();
    Ok(())
}

/// Forbids every later write to a map by a system call.
///
/// # Errors
/// EBUSY while a writable mapping of it exists, EPERM for a map that was opened without the right to write.
pub fn freeze(map: impl AsFd) -> Result<(), Errno> {
    let attributes = map.as_fd().as_raw_fd().to_ne_bytes();
    // SAFETY: the command reads one u32, the map's descriptor, and is told how long its argument is.
    let result = unsafe { libc::syscall(libc::SYS_bpf, MAP_FREEZE, attributes.as_ptr(), attributes.len()) };
    Errno::result(result)?;
    fault::point();
    Ok(())
}

/// Where programs hang that neither tc nor a device's own message shows.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// tcx, on what a device of the calling thread's namespace receives.
    TcxIngress(u32),
    /// tcx, on what it sends.
    TcxEgress(u32),
    /// The namespace's flow dissector.
    FlowDissector(&'a OwnedFd),
    /// The namespace's choice of sockets for what it receives.
    SocketLookup(&'a OwnedFd),
}

/// Programs asked for at most: a slot has none, so that each is one too many.
const PROGRAMS: usize = 8;

/// The numbers of the programs at that place, the first eight. None where the kernel has no such place.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub fn programs(place: Place<'_>) -> Result<Vec<u32>, Errno> {
    // linux/bpf.h: BPF_PROG_QUERY and its part of union bpf_attr; BPF_FLOW_DISSECTOR, BPF_SK_LOOKUP, BPF_TCX_*.
    const PROG_QUERY: libc::c_int = 16;
    #[repr(C)]
    struct Query {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
        more: [u64; 4],
    }
    let (target, attach_type) = match place {
        Place::TcxIngress(index) => (index, 46),
        Place::TcxEgress(index) => (index, 47),
        Place::FlowDissector(netns) => (netns.as_raw_fd().cast_unsigned(), 17),
        Place::SocketLookup(netns) => (netns.as_raw_fd().cast_unsigned(), 36),
    };
    let mut ids = [0_u32; PROGRAMS];
    let count = u32::try_from(PROGRAMS).expect("a few");
    let (zero, ids_at) = (0, ids.as_mut_ptr() as u64);
    let mut query = Query {
        target,
        attach_type,
        query_flags: zero,
        attach_flags: zero,
        ids: ids_at,
        count,
        padding: 0,
        more: [0; 4],
    };
    // SAFETY: the kernel reads and writes the structure, whose length it is told, and writes at most `count` numbers to
    // the array that it points to; both live through the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    match Errno::result(result) {
        // ENOSPC: there are more, and the array is full.
        Ok(_) | Err(Errno::ENOSPC) => {}
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    }
    let there = usize::try_from(query.count).unwrap_or(PROGRAMS).min(PROGRAMS);
    Ok(ids[..there].to_vec())
}
