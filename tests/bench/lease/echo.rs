//! An empty SOCK_SEQPACKET echo: what an exchange of so many bytes costs between two processes, and nothing besides.
//! The server blocks in recv, where a daemon waits for many: the least that an exchange can cost.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, stdin};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send, sendmsg,
    socketpair,
};
use nix::unistd::close;

use netslot_protocol::limits::FRAME_BYTES_MAX;

/// The request begins with the length of the answer and whether an fd shall come with it; the rest is filling.
const HEAD_BYTES: usize = 5;

/// Bytes of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of the request.
    pub request: usize,
    /// Of the answer.
    pub answer: usize,
}

/// The client's end, and the server behind it, which ends with it.
#[derive(Debug)]
pub struct Echo {
    socket: OwnedFd,
    server: Child,
}

impl Echo {
    /// Starts the server, a process of its own as the daemon is.
    pub fn start() -> std::io::Result<Self> {
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let server = Command::new(std::env::current_exe()?).arg("echo").stdin(Stdio::from(theirs)).spawn()?;
        Ok(Self { socket, server })
    }

    /// One exchange, timed.
    pub fn exchange(&self, sizes: Sizes, with_fd: bool) -> nix::Result<Duration> {
        let mut room = [0; FRAME_BYTES_MAX];
        let began = Instant::now();
        let answer = u32::try_from(sizes.answer).expect("a frame is short");
        room[..4].copy_from_slice(&answer.to_ne_bytes());
        room[4] = with_fd.into();
        send(self.socket.as_raw_fd(), &room[..sizes.request.max(HEAD_BYTES)], MsgFlags::MSG_NOSIGNAL)?;
        let mut space = cmsg_space!(RawFd);
        let mut parts = [IoSliceMut::new(&mut room)];
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let took = began.elapsed();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = part {
                fds.into_iter().try_for_each(close)?;
            }
        }
        Ok(took)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // A server that has ended already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The server, on its stdin, until the client is gone.
pub fn serve() -> std::io::Result<()> {
    let socket = stdin().as_fd().try_clone_to_owned()?;
    let namespace = File::open("/proc/self/ns/net")?;
    let fds = [namespace.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let mut room = [0; FRAME_BYTES_MAX];
    loop {
        let len = recv(socket.as_raw_fd(), &mut room, MsgFlags::empty())?;
        let Some((head, _)) = room[..len].split_first_chunk::<HEAD_BYTES>() else { return Ok(()) };
        let [a, b, c, d, with_fd] = *head;
        let answer = u32::from_ne_bytes([a, b, c, d]) as usize;
        let rights = if with_fd == 0 { &[][..] } else { &rights };
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&room[..answer])], rights, MsgFlags::MSG_NOSIGNAL, None)?;
    }
}
