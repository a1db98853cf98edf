//! Classic BPF filters on sockets: what the kernel drops before it wakes anybody; which packets those are, the caller says.

use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::libc::{self, sock_filter};

/// Keeps only rtnetlink messages of that type; the kernel sends each notification in a datagram of its own.
///
/// # Errors
/// Those of setsockopt(2).
pub fn keep_netlink_type(socket: &impl AsFd, kind: u16) -> Result<(), Errno> {
    // Half words are loaded as big-endian, and nlmsg_type (the third one of the header) is in host order.
    let swapped = kind.to_be();
    let program = [
        statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 4),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, swapped.into()),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    attach(socket, &program)
}

/// Puts a filter on a socket, in the place of the one that is there.
///
/// # Errors
/// Those of setsockopt(2): EINVAL for a program that the kernel does not take, as one of no or of over 4,096 statements.
pub fn attach(socket: &impl AsFd, program: &[sock_filter]) -> Result<(), Errno> {
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("sixteen");
    // SAFETY: the kernel reads a sock_fprog and the statements that it points at (it copies them and writes none,
    // __get_filter, net/core/filter.c), all of which live through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    Errno::result(result).map(drop)
}

/// One statement: a code of linux/bpf_common.h, how many statements to skip where a comparison holds and where not, and
/// its operand.
#[must_use]
pub fn statement(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("codes are below 256"), jt, jf, k }
}
