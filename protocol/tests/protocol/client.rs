//! The client against a peer on a real socket that does exactly what each test tells it to.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use netslot_protocol::client::{Client, ClientError, Lease, LeaseOptions};
use netslot_protocol::error::{ErrorCode, Refusal};
use netslot_protocol::event::Event;
use netslot_protocol::frame::{self, Header};
use netslot_protocol::limits::{FRAME_BYTES_MAX, REQUEST_BYTES_MAX};
use netslot_protocol::snapshot::SnapshotHeader;
use netslot_protocol::{Body, Call, Request, reply, request};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, accept, bind, listen, recv, sendmsg, socket_with,
};
use tempfile::TempDir;
use zerocopy::IntoBytes;

use crate::samples;

/// The daemon's end of the one connection that a test makes.
struct Peer(OwnedFd);

impl Peer {
    /// The next request; `None` when the client has closed.
    fn next(&self) -> Option<(Header, Request)> {
        let mut room = [0; REQUEST_BYTES_MAX];
        let (len, _) = recv(&self.0, &mut room, RecvFlags::empty()).expect("recv");
        (len > 0).then(|| Request::read(&room[..len]).expect("the client sends good requests"))
    }

    fn send(&self, datagram: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(KERNEL_FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "at most 253 fds");
        }
        sendmsg(&self.0, &[IoSlice::new(datagram)], &mut control, SendFlags::NOSIGNAL).expect("sendmsg");
    }

    fn put(&self, kind: u16, id: u32, body: &impl Body, fds: &[BorrowedFd<'_>]) {
        let mut room = [0; FRAME_BYTES_MAX];
        let len = frame::join(Header { version: 1, kind, id }, body, &mut room).expect("fits");
        self.send(&room[..len], fds);
    }

    /// Takes one request and answers it.
    fn answer<C: Call>(&self, reply: &C::Reply, fds: &[BorrowedFd<'_>]) -> Request {
        let (header, request) = self.next().expect("a request");
        assert_eq!(request.kind(), C::KIND);
        self.put(C::KIND.reply(), header.id, reply, fds);
        request
    }

    fn refuse(&self, code: ErrorCode) {
        let (header, _) = self.next().expect("a request");
        self.put(0x8000, header.id, &Refusal::new(code, format_args!("no")), &[]);
    }

    fn hello(self) -> Self {
        self.answer::<request::Hello>(&samples::hello_reply(), &[]);
        self
    }
}

struct Daemon {
    thread: JoinHandle<()>,
    path: PathBuf,
    _dir: TempDir,
}

/// A daemon that takes one connection.
fn daemon(serve: impl FnOnce(Peer) + Send + 'static) -> Daemon {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let listener = listener(&path);
    listen(&listener, 1).expect("listen");
    let thread = spawn(move || serve(Peer(accept(&listener).expect("accept"))));
    Daemon { thread, path, _dir: dir }
}

fn listener(path: &Path) -> OwnedFd {
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socket");
    bind(&listener, &SocketAddrUnix::new(path).expect("a short path")).expect("bind");
    listener
}

impl Daemon {
    fn client(&self) -> Client {
        Client::connect(&self.path).expect("connect")
    }

    fn patient(&self, timeout_ms: u64) -> Client {
        Client::connect_as(&self.path, "test", Duration::from_millis(timeout_ms)).expect("connect")
    }

    /// What the peer asserted counts too.
    fn end(self) {
        self.thread.join().expect("the peer's assertions hold");
    }
}

fn inode(fd: impl AsFd) -> u64 {
    File::from(fd.as_fd().try_clone_to_owned().expect("dup")).metadata().expect("fstat").ino()
}

const BOTH: LeaseOptions<'static> = LeaseOptions {
    count: 2,
    wait: Duration::ZERO,
    tag: "",
    policy: netslot_protocol::Policy::Explicit,
    want_netns: true,
    want_tap: true,
    own_stack: false,
};

fn memfd() -> File {
    memfd_create("netslot-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memfd_create").into()
}

#[test]
fn hello_is_said_once_and_remembered() {
    let daemon = daemon(|peer| {
        let peer = peer.hello();
        assert_eq!(peer.next(), None);
    });
    let client = daemon.client();
    assert_eq!(client.hello(), &samples::hello_reply());
    drop(client);
    daemon.end();
}

#[test]
fn each_lease_gets_its_own_fds_namespaces_first() {
    let files: Vec<File> = (0..4).map(|_| memfd()).collect();
    let inodes: Vec<u64> = files.iter().map(inode).collect();
    let daemon = daemon(move |peer| {
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let Request::Lease(lease) = peer.hello().answer::<request::Lease>(&samples::lease_reply(), &fds) else {
            panic!("not a lease")
        };
        assert_eq!((lease.count, lease.want_netns_fd, lease.want_tap_fd), (2, true, true));
    });
    let leases = daemon.client().lease(&BOTH).expect("leased");
    let got = |fd: &Option<OwnedFd>| fd.as_ref().map(inode);
    let [a, b]: [Lease; 2] = leases.try_into().expect("two");
    assert_eq!((a.id.slot, b.id.slot), (42, 3_999));
    assert_eq!(a.netns_path, Path::new("/run/netns/slot-0042"));
    let seen = [&a.netns, &b.netns, &a.tap, &b.tap].map(got);
    assert_eq!(seen.to_vec(), inodes.into_iter().map(Some).collect::<Vec<_>>());
    for fd in [a.netns, a.tap].into_iter().flatten() {
        let flags = rustix::io::fcntl_getfd(&fd).expect("fcntl");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "a child would inherit the fd");
    }
    daemon.end();
}

#[test]
fn taps_alone_are_not_taken_for_namespaces() {
    let daemon = daemon(|peer| {
        let (a, b) = (memfd(), memfd());
        peer.hello().answer::<request::Lease>(&samples::lease_reply(), &[a.as_fd(), b.as_fd()]);
    });
    let leases = daemon.client().lease(&LeaseOptions { want_netns: false, ..BOTH }).expect("leased");
    assert!(leases.iter().all(|lease| lease.netns.is_none() && lease.tap.is_some()));
    daemon.end();
}

/// `SCM_MAX_FD`, include/net/scm.h: far more than the client has room for.
const KERNEL_FDS_MAX: usize = 253;

/// The kernel passes what fits and says that it was not all.
#[test]
fn fds_that_were_cut_off_are_all_closed_and_the_leases_given_back() {
    let (mut read, write) = std::io::pipe().expect("pipe");
    let daemon = daemon(move |peer| {
        let peer = peer.hello();
        peer.answer::<request::Lease>(&samples::lease_reply(), &[write.as_fd(); KERNEL_FDS_MAX]);
        drop(write);
        for grant in &*samples::lease_reply().grants {
            let released = peer.answer::<request::Release>(&(), &[]);
            assert_eq!(released, Request::Release(request::Release { lease: grant.lease }));
        }
        // Ends only when no copy of the pipe's other end is left open.
        assert_eq!(read.read(&mut [0]).expect("read"), 0);
    });
    let mut client = daemon.client();
    let error = client.lease(&BOTH).expect_err("the fds did not fit");
    assert!(matches!(error, ClientError::FdsCut), "{error}");
    daemon.end();
}

#[test]
fn a_reply_with_fds_missing_gives_the_leases_back() {
    let daemon = daemon(|peer| {
        let peer = peer.hello();
        peer.answer::<request::Lease>(&samples::lease_reply(), &[]);
        peer.answer::<request::Release>(&(), &[]);
        peer.answer::<request::Release>(&(), &[]);
    });
    let error = daemon.client().lease(&BOTH).expect_err("four fds are missing");
    assert!(matches!(error, ClientError::FdCount { want: 4, got: 0 }), "{error}");
    daemon.end();
}

#[test]
fn a_refusal_leaves_the_connection_usable() {
    let daemon = daemon(|peer| {
        let peer = peer.hello();
        peer.refuse(ErrorCode::PoolEmpty);
        peer.answer::<request::Status>(&samples::status_reply(), &[]);
    });
    let mut client = daemon.client();
    let error = client.lease(&LeaseOptions::default()).expect_err("refused");
    assert_eq!(
        (error.code(), error.to_string()),
        (Some(ErrorCode::PoolEmpty), "lease refused (pool-empty): no".into())
    );
    assert_eq!(client.status().expect("a status"), samples::status_reply());
    daemon.end();
}

#[test]
fn the_reason_for_a_refused_connection_is_read_before_its_end() {
    let daemon = daemon(|peer| {
        peer.put(0x8000, 0, &Refusal::new(ErrorCode::QuotaConnections, format_args!("too many")), &[]);
    });
    let error = Client::connect(&daemon.path).expect_err("refused");
    assert_eq!(error.code(), Some(ErrorCode::QuotaConnections), "{error}");
    daemon.end();
}

#[test]
fn silence_ends_the_connection_so_that_the_daemon_takes_the_lease_back() {
    let daemon = daemon(|peer| {
        let peer = peer.hello();
        assert!(peer.next().is_some());
        assert_eq!(peer.next(), None, "the client must close");
    });
    let mut client = daemon.patient(1_000);
    let error = client.lease(&LeaseOptions::default()).expect_err("no answer");
    assert!(matches!(error, ClientError::TimedOut(_)), "{error}");
    assert!(matches!(client.status(), Err(ClientError::Broken)));
    daemon.end();
}

#[test]
fn a_lease_that_waits_may_take_longer_than_an_answer_that_does_not() {
    let daemon = daemon(|peer| {
        let peer = peer.hello();
        let (header, _) = peer.next().expect("a lease");
        std::thread::sleep(Duration::from_millis(1_200));
        peer.put(request::Lease::KIND.reply(), header.id, &samples::lease_reply_ipv4(), &[]);
    });
    let wait = LeaseOptions { wait: Duration::from_secs(50), ..LeaseOptions::default() };
    assert_eq!(daemon.patient(1_000).lease(&wait).expect("leased").len(), 1);
    daemon.end();
}

#[test]
fn no_daemon_and_a_dead_daemons_socket_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let kind = |path: &Path| match Client::connect(path) {
        Err(ClientError::Connect { source, .. }) => source.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(&path), std::io::ErrorKind::NotFound);
    drop(listener(&path));
    assert_eq!(kind(&path), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn answers_that_are_none_close_the_connection() {
    type Bad = fn(&Peer, u32);
    let cases: [(Bad, &str); 6] = [
        (|peer, _| peer.send(b"hello", &[]), "is no frame"),
        (|peer, id| peer.put(0x8032, id + 1, &samples::status_reply(), &[]), "not request"),
        (|peer, id| peer.put(0x8020, id, &samples::status_reply(), &[]), "with kind 0x8020"),
        (|peer, id| peer.put(0x8032, id, &(), &[]), "cannot be read"),
        (|peer, _| peer.send(&[0; FRAME_BYTES_MAX + 1], &[]), "longer than any frame"),
        (|_, _| (), "closed the connection"),
    ];
    for (bad, words) in cases {
        let daemon = daemon(move |peer| {
            let peer = peer.hello();
            let (header, _) = peer.next().expect("a status");
            bad(&peer, header.id);
        });
        let mut client = daemon.client();
        let error = client.status().expect_err("not an answer");
        assert!(error.to_string().contains(words) && error.breaks(), "{error}");
        assert!(matches!(client.status(), Err(ClientError::Broken)));
        daemon.end();
    }
}

fn snapshot(seals: SealFlags) -> (File, u64) {
    let mut file = memfd();
    file.write_all(SnapshotHeader::new(4, 5).as_bytes()).expect("write");
    for slot in samples::slots() {
        file.write_all(slot.record().as_bytes()).expect("write");
    }
    fcntl_add_seals(&file, seals).expect("seal");
    (file, 32 + 4 * 128)
}

const SEALED: SealFlags =
    SealFlags::from_bits_retain(SealFlags::SEAL.bits() | SealFlags::SHRINK.bits() | SealFlags::GROW.bits());

fn list(file: File, bytes: u64) -> Result<netslot_protocol::client::Listing, ClientError> {
    let daemon = daemon(move |peer| {
        peer.hello().answer::<request::List>(&reply::List { bytes }, &[file.as_fd()]);
    });
    let listing = daemon.client().list();
    daemon.end();
    listing
}

#[test]
fn a_list_is_read_from_a_sealed_file_only() {
    let (file, bytes) = snapshot(SEALED | SealFlags::WRITE);
    let listing = list(file, bytes).expect("a listing");
    assert_eq!((listing.taken_at_ns, &*listing.slots), (5, samples::slots().as_slice()));

    let (file, bytes) = snapshot(SEALED);
    assert!(matches!(list(file, bytes), Err(ClientError::SnapshotFile(_))), "it can still be written to");
    let (file, bytes) = snapshot(SEALED | SealFlags::WRITE);
    assert!(matches!(list(file, bytes + 128), Err(ClientError::SnapshotFile(_))), "it is shorter than announced");
    let file = memfd();
    file.set_len(64).expect("ftruncate");
    fcntl_add_seals(&file, SEALED | SealFlags::WRITE).expect("seal");
    assert!(matches!(list(file, 64), Err(ClientError::Snapshot(_))), "it has no magic");
}

#[test]
fn a_get_gives_the_record_and_its_words() {
    let daemon = daemon(|peer| {
        peer.hello().answer::<request::Get>(&samples::get_reply(), &[]);
    });
    let (slot, words) = daemon.client().get(250).expect("a slot");
    assert_eq!((slot, &*words), (samples::quarantined(250), "tap0 is held open"));
    daemon.end();
}

#[test]
fn a_watch_gives_events_until_the_daemon_goes() {
    let daemon = daemon(|peer| {
        let peer = peer.hello();
        let (header, _) = peer.next().expect("a watch");
        peer.put(request::Watch::KIND.reply(), header.id, &(), &[]);
        peer.put(0x4040, header.id, &samples::changed(), &[]);
        peer.put(0x4041, header.id, &samples::lagged(), &[]);
        peer.put(0x8000, 0, &Refusal::new(ErrorCode::ShuttingDown, format_args!("bye")), &[]);
    });
    let mut watch = daemon.client().watch().expect("watching");
    assert!(matches!(watch.next(), Some(Ok(Event::Changed(changed))) if changed == samples::changed()));
    assert!(matches!(watch.next(), Some(Ok(Event::Lagged(lagged))) if lagged == samples::lagged()));
    assert!(matches!(watch.next(), Some(Err(ClientError::Refused { .. }))));
    assert!(watch.next().is_none());
    daemon.end();
}

#[test]
fn a_watch_can_be_looked_at_without_waiting_for_ever() {
    let daemon = daemon(|peer| {
        let peer = peer.hello();
        peer.answer::<request::Watch>(&(), &[]);
        assert_eq!(peer.next(), None);
    });
    let mut watch = daemon.client().watch().expect("watching");
    assert!(matches!(watch.next_within(Duration::from_millis(1)), Ok(None)));
    drop(watch);
    daemon.end();
}
