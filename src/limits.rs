//! Every bound on what comes from outside, in one place, each with its derivation; no logic.

/// Most slots a pool may hold. Each holds one fd in the daemon, and 0.4 MB of kernel memory: 65,536 are 27 GB, past
/// any worker today, and stay below every 17-bit field (names, ifindexes, addresses) that is derived from a slot.
pub const SLOTS_MAX: u32 = 65_536;

/// Longest device name, without its terminating zero (`IFNAMSIZ` − 1).
pub const LINK_NAME_BYTES_MAX: usize = 15;

/// Largest VNI: 24 bits in the Geneve header.
pub const VNI_MAX: u32 = (1 << 24) - 1;

/// Builder threads at most: RTNL is one global mutex, and past four threads only the waiting grows.
pub const THREADS_MAX: usize = 4;

/// Messages in one netlink batch. Each error or ACK the kernel queues is charged about 768 bytes (skb truesize)
/// against the receive buffer; 256 of them fit the default 212,992 bytes.
pub const BATCH_MESSAGES_MAX: usize = 256;

/// Bytes of one netlink batch. The kernel refuses more than the socket's send buffer less 32; the default is 212,992.
pub const BATCH_BYTES_MAX: usize = 128 * 1024;

/// Receive buffer for one datagram of a dump: the kernel fills at most 32 KiB per datagram (`NLMSG_GOODSIZE` grows to
/// the reader's buffer, and stops there).
pub const DUMP_BYTES_MAX: usize = 32 * 1024;

/// Seconds to wait for the kernel's answer on a netlink socket. Namespace teardown elsewhere on the host has stalled
/// RTNL for 65 s (measured on 6.18); twice that means something is broken.
pub const NETLINK_WAIT_S: i64 = 130;

/// Slots of one lease. Each sends its namespace and may send its tap by `SCM_RIGHTS`, and the kernel takes 253 fds in
/// one message (`SCM_MAX_FD`, include/net/scm.h).
pub const LEASE_SLOTS_MAX: u32 = 64;

/// Lease requests that wait for a slot, in all. A waiter is 128 bytes, so the queue is half a megabyte; more of them
/// than this are not served by waiting but by a larger pool.
pub const WAITERS_MAX: u32 = 4_096;

/// Connections that root has beyond `quotas.connections`, so that an admin can look at a daemon whose clients have
/// taken all others.
pub const CONNECTIONS_KEPT_FOR_ROOT: u32 = 8;

const _: () = assert!(BATCH_MESSAGES_MAX * 768 <= 212_992);
const _: () = assert!(SLOTS_MAX <= 1 << 17);
const _: () = assert!(LEASE_SLOTS_MAX * 2 <= 253);
