//! Unix sockets of type `SOCK_SEQPACKET`, the daemon's side: listen, accept, one datagram in, one out with fds. Allocates
//! nothing after `listen`; knows no message.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect,
    getsockname, getsockopt, listen, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::fault;

/// Fds that one message carries: a namespace and a tap for each slot of a lease.
pub const FDS_MAX: usize = 2 * crate::limits::LEASE_SLOTS_MAX as usize;

/// A peer as the kernel names it: of the time at which it called connect(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id in the caller's pid namespace; 0 for a process outside it.
    pub pid: u32,
}

/// A datagram at the start of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its bytes in the room; 0 also at the end of the stream.
    pub bytes: usize,
    /// There were more, and they are gone.
    pub cut: bool,
    /// Fds came with it, and were closed unseen.
    pub had_fds: bool,
}

/// A listening socket at `path`, which must not exist, with those access rights from the first moment on.
///
/// # Errors
/// Those of socket(2), fchmod(2), bind(2) and listen(2).
pub fn listen_at(path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    // The file that bind makes takes the mode of the socket's own inode (unix_bind_bsd, net/unix/af_unix.c).
    fchmod(&fd, mode)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    fault::point();
    // As many as the host allows (net.core.somaxconn, to which the kernel cuts it): clients that find the queue full
    // wait in connect(2).
    listen(&fd, Backlog::new(i32::from(i16::MAX)).unwrap_or(Backlog::MAXCONN))?;
    fault::point();
    Ok(fd)
}

/// Takes over a listening socket that somebody else opened, as a service manager does.
///
/// # Errors
/// Why it is not one: its type, or that it does not listen.
pub fn adopt_listener(fd: OwnedFd) -> io::Result<OwnedFd> {
    let number = fd.as_raw_fd();
    let not = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("fd {number} is {what}"));
    if getsockopt(&fd, sockopt::SockType)? != SockType::SeqPacket {
        return Err(not("no socket of type SOCK_SEQPACKET (ListenSequentialPacket= in the .socket unit)"));
    }
    if !getsockopt(&fd, sockopt::AcceptConn)? {
        return Err(not("a socket that does not listen"));
    }
    let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL)?;
    let flags = nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    Ok(fd)
}

/// The next connection.
///
/// # Errors
/// Those of accept4(2): EAGAIN when there is none, EMFILE past RLIMIT_NOFILE.
pub fn accept(listener: &impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = accept4(listener.as_fd().as_raw_fd(), flags)?;
    // SAFETY: the call returned a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Who is at the other end.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer(socket: &impl AsFd) -> Result<Credentials, Errno> {
    let peer = getsockopt(socket, sockopt::PeerCredentials)?;
    let pid = u32::try_from(peer.pid()).unwrap_or_default();
    Ok(Credentials { uid: peer.uid(), gid: peer.gid(), pid })
}

/// The process at the other end, as a pidfd: of the very process, whatever has become of its number since.
///
/// # Errors
/// ENOPROTOOPT before 6.5; ESRCH, EINVAL or ENODATA for a process that is gone, though 6.18 gives an fd for it too.
pub fn peer_pidfd(socket: &impl AsFd) -> Result<OwnedFd, Errno> {
    let mut fd: RawFd = -1;
    let mut len = libc::socklen_t::try_from(size_of::<RawFd>()).expect("four");
    // SAFETY: the kernel writes one int through the pointer and reads and writes its length, both of which live on.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut len,
        )
    };
    Errno::result(result)?;
    // SAFETY: the call returned a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The path that the socket is bound to; `None` where it is bound to none.
#[must_use]
pub fn path(socket: &impl AsFd) -> Option<PathBuf> {
    let addr: UnixAddr = getsockname(socket.as_fd().as_raw_fd()).ok()?;
    addr.path().map(Path::to_path_buf)
}

/// Bounds what a peer may leave unread: a send past it gives EAGAIN. The kernel counts whole buffers, not only the bytes
/// in them, and doubles the number for that (SO_SNDBUF, socket(7)).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, past `net.core.wmem_max`.
pub fn set_unread_max(socket: &impl AsFd, bytes: usize) -> Result<(), Errno> {
    setsockopt(socket, sockopt::SndBuf, &bytes)?;
    if getsockopt(socket, sockopt::SndBuf)? >= bytes {
        return Ok(());
    }
    setsockopt(socket, sockopt::SndBufForce, &bytes)
}

/// Whether the peer has left anything unread.
#[must_use]
pub fn has_unread(socket: &impl AsFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int through the pointer.
    let asked = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    // SIOCOUTQ, which has that number, counts whole buffers; while the last of them is let go, and the poll is told of it,
    // there is one byte left (sock_wfree, net/core/sock.c).
    asked == 0 && bytes > 1
}

/// Whether the peer has gone, whatever it has left to be read here.
#[must_use]
pub fn has_hung_up(socket: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    let told = poll(&mut asked, PollTimeout::ZERO).is_ok_and(|told| told > 0);
    told && asked[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// The next datagram, without waiting. Fds that come with it never enter this process: there is no room for them to be
/// put into, so the kernel closes them (`scm_recv`, include/net/scm.h).
///
/// # Errors
/// EAGAIN when there is none; ECONNRESET, once, where the peer has closed with something of ours unread.
pub fn receive(socket: &impl AsFd, room: &mut [u8]) -> Result<Received, Errno> {
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let mut message = empty_message();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // SAFETY: the kernel writes at most `room.len()` bytes into `room`, which is borrowed for the call, and the header,
    // which lives on; there is no address and no control buffer.
    let result = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let bytes = usize::try_from(Errno::result(result)?).expect("not negative");
    Ok(Received {
        bytes,
        cut: message.msg_flags & libc::MSG_TRUNC != 0,
        had_fds: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// The next datagram with the fds that came with it, without waiting: for a peer that is trusted with them.
///
/// # Errors
/// EAGAIN when there is none; EMSGSIZE where it or its fds were cut, which are closed then.
pub fn receive_with_fds(socket: &impl AsFd, room: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut parts = [io::IoSliceMut::new(room)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: recvmsg has just put these fds into this process, and nobody else knows them.
            fds.extend(numbers.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((message.bytes, fds))
}

/// A connection to a socket of this type.
///
/// # Errors
/// Those of socket(2) and connect(2).
pub fn connect_to(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// Sends a datagram with those fds, at most [`FDS_MAX`], whole or not at all, without waiting.
///
/// # Errors
/// EAGAIN where the peer has left too much unread; EPIPE or ECONNRESET where it is gone; ETOOMANYREFS where too many fds
/// are under way and this process has neither CAP_SYS_RESOURCE nor CAP_SYS_ADMIN (too_many_unix_fds, net/unix/scm.c).
pub fn send<'a>(
    socket: &impl AsFd,
    bytes: &[u8],
    fds: impl ExactSizeIterator<Item = BorrowedFd<'a>>,
) -> Result<(), Errno> {
    with_message(bytes, fds, |message| {
        // SAFETY: the kernel reads the message and what it leads to, all of which live through the call.
        let result = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), message, SEND_FLAGS) };
        Errno::result(result).map(drop)
    })
}

/// As [`send`], and has the kernel write the message's length into the last of those words, if it has taken the message,
/// within the same call. The last word must be 0; the others are overwritten.
///
/// # Errors
/// As [`send`].
pub fn send_noted<'a>(
    socket: &impl AsFd,
    bytes: &[u8],
    fds: impl ExactSizeIterator<Item = BorrowedFd<'a>>,
    note: &[AtomicU64; NOTE_WORDS],
) -> Result<(), Errno> {
    with_message(bytes, fds, |message| {
        for (cell, word) in note.iter().zip(as_words(message)) {
            cell.store(word, Ordering::Release);
        }
        let one: libc::c_uint = 1;
        // SAFETY: the words are a `struct mmsghdr` of the kernel's, aligned as one, that nobody else changes meanwhile; it
        // reads what they lead to, all of which lives through the call, and writes the length into the last of them, a
        // cell that only atomics touch.
        let result =
            unsafe { libc::syscall(libc::SYS_sendmmsg, socket.as_fd().as_raw_fd(), note.as_ptr(), one, SEND_FLAGS) };
        Errno::result(result).map(drop)
    })
}

/// Words of a `struct mmsghdr`: a message, and the length that the kernel notes.
pub const NOTE_WORDS: usize = MESSAGE_WORDS + 1;

const MESSAGE_WORDS: usize = 7;

const _: () = assert!(size_of::<libc::msghdr>() == MESSAGE_WORDS * 8 && size_of::<libc::mmsghdr>() == NOTE_WORDS * 8);

const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// A message without an address as the kernel has it (`struct user_msghdr`, linux/socket.h).
fn as_words(message: &libc::msghdr) -> [u64; MESSAGE_WORDS] {
    let address = |pointer: usize| pointer as u64;
    [
        0,
        0,
        address(message.msg_iov.expose_provenance()),
        message.msg_iovlen as u64,
        address(message.msg_control.expose_provenance()),
        message.msg_controllen as u64,
        0,
    ]
}

fn with_message<'a>(
    bytes: &[u8],
    fds: impl ExactSizeIterator<Item = BorrowedFd<'a>>,
    send: impl FnOnce(&libc::msghdr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = empty_message();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let mut control = Control { header: MaybeUninit::uninit(), fds: [0; FDS_MAX] };
    let count = fds.len().min(FDS_MAX);
    if count > 0 {
        control.header.write(libc::cmsghdr {
            // CMSG_LEN: the header and the numbers behind it.
            cmsg_len: size_of::<libc::cmsghdr>() + count * size_of::<RawFd>(),
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        });
        for (place, fd) in control.fds.iter_mut().zip(fds) {
            *place = fd.as_raw_fd();
        }
        message.msg_control = (&raw mut control).cast();
        // CMSG_SPACE: as CMSG_LEN, rounded up to the alignment of the header. It lies within `control` (asserted below).
        message.msg_controllen =
            (size_of::<libc::cmsghdr>() + count * size_of::<RawFd>()).next_multiple_of(align_of::<libc::cmsghdr>());
    }
    send(&message)?;
    fault::point();
    Ok(())
}

/// A control message with fds: the numbers stand right behind the header, which is what CMSG_DATA says too.
#[repr(C)]
struct Control {
    header: MaybeUninit<libc::cmsghdr>,
    fds: [RawFd; FDS_MAX],
}

const _: () = assert!(std::mem::offset_of!(Control, fds) == size_of::<libc::cmsghdr>());
const _: () = assert!(size_of::<Control>().is_multiple_of(align_of::<libc::cmsghdr>()));

fn empty_message() -> libc::msghdr {
    // SAFETY: msghdr is plain data, for which all zeroes is a value: no address, no parts, no control buffer.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        nix::sys::socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a pair")
    }

    fn none() -> std::iter::Empty<BorrowedFd<'static>> {
        std::iter::empty()
    }

    #[test]
    fn a_listener_has_its_mode_from_the_start_and_knows_its_clients() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let listener = listen_at(&path, Mode::from_bits_truncate(0o600)).expect("listens");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(accept(&listener).map(drop), Err(Errno::EAGAIN));
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        nix::sys::socket::connect(client.as_raw_fd(), &UnixAddr::new(&path).expect("short")).expect("connects");
        let accepted = accept(&listener).expect("there is one");
        let me = Credentials {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            pid: std::process::id(),
        };
        assert_eq!(peer(&accepted), Ok(me));
        assert!(adopt_listener(client).is_err(), "not listening");
        assert!(adopt_listener(nix::unistd::dup(&listener).expect("a copy")).is_ok());
    }

    #[test]
    fn fds_arrive_as_the_files_they_were_and_in_order() {
        let (ours, theirs) = pair();
        let dir = tempfile::tempdir().expect("a directory");
        let files: Vec<File> = (0..FDS_MAX)
            .map(|n| {
                std::fs::write(dir.path().join(n.to_string()), n.to_string()).expect("written");
                File::open(dir.path().join(n.to_string())).expect("opened")
            })
            .collect();
        send(&ours, b"hello", files.iter().map(AsFd::as_fd)).expect("sent");
        let (bytes, got) = receive_with_fds(&theirs, &mut [0; 16]).expect("received");
        let got: Vec<File> = got.into_iter().map(File::from).collect();
        assert_eq!(bytes, 5);
        assert_eq!(got.len(), FDS_MAX);
        for (n, file) in got.iter().enumerate() {
            let mut text = [0; 3];
            let len = file.read_at(&mut text, 0).expect("read");
            assert_eq!(text[..len], *n.to_string().as_bytes());
        }
    }

    #[test]
    fn fds_from_a_client_are_seen_and_never_kept() {
        let (ours, theirs) = pair();
        // A pipe tells: its reader sees the end once nobody at all holds the other end.
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        send(&theirs, b"x", [writer.as_fd()].into_iter()).expect("sent");
        drop(writer);
        let got = receive(&ours, &mut [0; 8]);
        assert_eq!(got, Ok(Received { bytes: 1, cut: false, had_fds: true }));
        assert_eq!(nix::unistd::read(&reader, &mut [0; 1]), Ok(0));
    }

    #[test]
    fn a_datagram_is_cut_to_the_room_and_the_end_is_an_empty_one() {
        let (ours, theirs) = pair();
        send(&theirs, &[7; 300], none()).expect("sent");
        assert_eq!(receive(&ours, &mut [0; 129]), Ok(Received { bytes: 129, cut: true, had_fds: false }));
        assert_eq!(receive(&ours, &mut [0; 129]), Err(Errno::EAGAIN));
        drop(theirs);
        assert_eq!(receive(&ours, &mut [0; 8]), Ok(Received { bytes: 0, cut: false, had_fds: false }));
        assert_eq!(send(&ours, b"x", none()), Err(Errno::EPIPE));
    }

    #[test]
    fn what_is_unread_and_who_has_gone_is_seen() {
        let (ours, theirs) = pair();
        assert!(!has_unread(&ours) && !has_hung_up(&ours));
        send(&ours, b"one", none()).expect("sent");
        send(&ours, b"two", none()).expect("sent");
        send(&theirs, b"last words", none()).expect("sent");
        assert!(has_unread(&ours));
        receive(&theirs, &mut [0; 8]).expect("there");
        assert!(has_unread(&ours));
        receive(&theirs, &mut [0; 8]).expect("there");
        assert!(!has_unread(&ours) && !has_hung_up(&ours));
        drop(theirs);
        assert!(has_hung_up(&ours), "though there is something to be read");
    }

    #[test]
    fn a_peer_that_closes_with_something_unread_is_told_apart() {
        let (ours, theirs) = pair();
        send(&ours, b"unread", none()).expect("sent");
        send(&theirs, b"last words", none()).expect("sent");
        drop(theirs);
        assert_eq!(receive(&ours, &mut [0; 16]), Err(Errno::ECONNRESET), "said once, before what is left to read");
        assert_eq!(receive(&ours, &mut [0; 16]).map(|r| r.bytes), Ok(10));
        assert_eq!(receive(&ours, &mut [0; 16]).map(|r| r.bytes), Ok(0));
    }

    #[test]
    fn what_a_peer_may_leave_unread_is_bounded() {
        let (ours, _theirs) = pair();
        set_unread_max(&ours, 8_192).expect("set");
        let sent = (0..10_000).take_while(|_| send(&ours, &[0; 256], none()).is_ok()).count();
        assert!((8..100).contains(&sent), "{sent} datagrams of 256 bytes went into 8 KiB");
        assert_eq!(send(&ours, &[0; 256], none()), Err(Errno::EAGAIN));
    }
}
