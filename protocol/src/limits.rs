//! Every bound on what crosses the socket, each with its derivation; no logic.

/// Bytes of the frame header.
pub const HEADER_BYTES: usize = 16;

/// Largest frame, header included: one page, so that the kernel needs one small buffer for it. The largest message, a
/// lease reply for [`LEASE_COUNT_MAX`] slots, is 3,741 bytes (a test encodes it).
pub const FRAME_BYTES_MAX: usize = 4096;

/// Largest request, header included. The largest one, a bind with IPv6 everywhere, is 74 bytes (a test encodes it); the
/// rest is room for later fields. The daemon reads into a buffer of this size and one more.
pub const REQUEST_BYTES_MAX: usize = 128;

/// Slots in one lease request. The kernel passes at most 253 fds with one message (`SCM_MAX_FD`, include/net/scm.h) and
/// a slot has up to [`FDS_PER_SLOT`]; the power of two below that also keeps the reply within [`FRAME_BYTES_MAX`].
pub const LEASE_COUNT_MAX: usize = 64;

/// Fds per leased slot: its namespace and its tap.
pub const FDS_PER_SLOT: usize = 2;

/// Fds in one reply.
pub const FDS_MAX: usize = LEASE_COUNT_MAX * FDS_PER_SLOT;

/// Longest wait for a slot, in milliseconds: one hour. A client that would wait longer asks again; the daemon's own
/// bound, told in the hello reply, is usually far below.
pub const WAIT_MS_MAX: u32 = 3_600_000;

/// Bytes of a lease's tag. The ledger's record stores it in place (`netslot_abi::TAG_BYTES`; a test compares them).
pub const TAG_BYTES_MAX: usize = 24;

/// Bytes of a client's or server's name and version in hello: for logs.
pub const NAME_BYTES_MAX: usize = 32;

/// Bytes of a device name, without its terminating zero (`IFNAMSIZ` − 1).
pub const LINK_NAME_BYTES_MAX: usize = 15;

/// Bytes of a namespace's name under the daemon's `netns_dir`; `slot-65535` needs 10.
pub const NETNS_NAME_BYTES_MAX: usize = 16;

/// Bytes of the daemon's `netns_dir`: what fits a one-byte length in memory, and twice any sensible path.
pub const PATH_BYTES_MAX: usize = 255;

/// Bytes of an error's explanation: three lines on a terminal.
pub const DETAIL_BYTES_MAX: usize = 255;

/// Slots in a pool, hence records in a snapshot (a test in the daemon's crate compares it with its own bound).
pub const SLOTS_MAX: u32 = 65_536;

/// Largest virtual network identifier: 24 bits in the Geneve header.
pub const VNI_MAX: u32 = (1 << 24) - 1;

/// Bytes of a snapshot's header.
pub const SNAPSHOT_HEADER_BYTES: usize = 32;

/// Bytes of one slot's record in a snapshot: two cache lines.
pub const RECORD_BYTES: usize = 128;

/// Largest snapshot: 8 MiB and its header.
pub const SNAPSHOT_BYTES_MAX: usize = SNAPSHOT_HEADER_BYTES + SLOTS_MAX as usize * RECORD_BYTES;

/// `SCM_MAX_FD`, include/net/scm.h.
const KERNEL_FDS_PER_MESSAGE_MAX: usize = 253;

const _: () = assert!(FDS_MAX <= KERNEL_FDS_PER_MESSAGE_MAX);
const _: () = assert!(REQUEST_BYTES_MAX <= FRAME_BYTES_MAX && HEADER_BYTES < REQUEST_BYTES_MAX);
