//! Every bound on what comes from outside, in one place, each with its derivation; no logic.

/// Most slots a pool may hold. Each holds one fd in the daemon, and 0.4 MB of kernel memory: 65,536 are 27 GB, past
/// any worker today, and stay below every 17-bit field (names, ifindexes, addresses) that is derived from a slot.
pub const SLOTS_MAX: u32 = 65_536;

/// Longest device name, without its terminating zero (`IFNAMSIZ` − 1).
pub const LINK_NAME_BYTES_MAX: usize = 15;

/// Smallest `ifindex_base`. The kernel numbers devices from 1 up, and a host end must stay far from the small indexes
/// inside the slots (see `address::inside::UP_INDEX`); a host has made 1,000 devices by hand when these two meet.
pub const IFINDEX_BASE_MIN: u32 = 1_000;

/// Largest device index: the kernel keeps it in a signed 32-bit field.
pub const IFINDEX_MAX: u32 = i32::MAX as u32;

/// Smallest MTU of a guest: what every IPv4 host must be able to take (RFC 791).
pub const MTU_MIN: u32 = 576;

/// Smallest MTU that carries IPv6 (RFC 8200); below it the kernel gives a device no IPv6 at all.
pub const MTU_MIN_IPV6: u32 = 1_280;

/// Name servers that DHCP tells of: what the record of the programs has room for (`ebpf/abi`, `DHCP_OPTIONS_BYTES`).
pub const NAME_SERVERS_MAX: usize = 8;

/// Routes that DHCP tells of (option 121): of the record's 128 bytes the other options take at most 56, the option's head
/// 2, and a route at most 9 (RFC 3442): 1 of prefix, 4 of network, 4 of gateway.
pub const GUEST_ROUTES_MAX: usize = 7;

/// Shortest DHCP lease, seconds: clients ask again at half of it (RFC 2131, 4.4.5), and RFC 2131 has them wait a minute
/// between two tries.
pub const DHCP_LEASE_S_MIN: u32 = 120;

/// Longest DHCP lease, seconds: the number above it means "for ever" (RFC 2131, 3.3).
pub const DHCP_LEASE_S_MAX: u32 = u32::MAX - 1;

/// Largest MTU of a tap: 65,535 less its Ethernet header (`tun_net_initialize`, drivers/net/tun.c).
pub const MTU_MAX: u32 = 65_521;

/// Bytes of a Unix socket's path: `sun_path` holds 108, one of them the terminating zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Bytes of any other path in the configuration: what the hello reply can carry of `netns_dir`.
pub const PATH_BYTES_MAX: usize = 255;

/// Bytes of one configuration file. The annotated example has about 9,000; a file past this is something else.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Files in `netslot.toml.d`.
pub const CONFIG_FILES_MAX: usize = 256;

/// Connections to the daemon at most, each one fd: as many as slots.
pub const CONNECTIONS_MAX: u32 = SLOTS_MAX;

/// Bytes of unread replies that a connection must be allowed: the largest frame of the protocol.
pub const REPLY_BYTES_MIN: u32 = 4_096;

/// Bytes of unread replies that a connection may be allowed: whoever is 4,096 of the largest replies behind reads no more.
pub const REPLY_BYTES_MAX: u32 = 16 << 20;

/// Longest wait for a slot that can be configured, milliseconds: the protocol's own bound, one hour.
pub const WAIT_MS_MAX: u32 = 3_600_000;

/// Users above the quotas.
pub const RESERVE_UIDS_MAX: usize = 1_024;

/// Largest VNI: 24 bits in the Geneve header.
pub const VNI_MAX: u32 = (1 << 24) - 1;

/// Builder threads at most: RTNL is one global mutex, and past four threads only the waiting grows.
pub const THREADS_MAX: usize = 4;

/// Messages in one netlink batch. Each error or ACK the kernel queues is charged about 768 bytes (skb truesize)
/// against the receive buffer; 256 of them fit the default 212,992 bytes.
pub const BATCH_MESSAGES_MAX: usize = 256;

/// Questions in one netlink batch: an answer about a device is charged up to 4.6 KB (a 4 KB skb and its head).
pub const BATCH_QUESTIONS_MAX: usize = 32;

/// Bytes of one netlink batch. The kernel refuses more than the socket's send buffer less 32; the default is 212,992.
pub const BATCH_BYTES_MAX: usize = 128 * 1024;

/// Receive buffer for one datagram of a dump: the kernel fills at most 32 KiB per datagram (`NLMSG_GOODSIZE` grows to
/// the reader's buffer, and stops there).
pub const DUMP_BYTES_MAX: usize = 32 * 1024;

/// Bytes of one slot's rules as one transaction. 51 objects are 12 KB and take 0.33 ms; this is about 4,500 of them, 30 ms
/// in every slot, and what N slots keep of it in the kernel is past any worker's memory long before.
pub const RULES_BYTES_MAX: usize = 1 << 20;

/// Bytes of one message of set elements: the list is one attribute, whose length is a 16-bit field.
pub const RULES_ELEMENTS_BYTES_MAX: usize = 32 * 1024;

/// Bytes of one rules file, as written by people: the text that makes the most objects of a megabyte.
pub const RULES_TEXT_BYTES_MAX: usize = 1 << 20;

/// Files that one image of rules is compiled from: nft's, iptables' and ip6tables', and some room.
pub const RULES_SOURCES_MAX: usize = 8;

/// How often rules that were just loaded are looked at again until two looks say the same, and the pause in between,
/// milliseconds: a hash that has grown is moved by a work item that takes a few (rht_deferred_worker, lib/rhashtable.c).
pub const RULES_LOOKS: u32 = 20;
/// See [`RULES_LOOKS`].
pub const RULES_LOOK_PAUSE_MS: u64 = 10;

/// Bytes of an image of rules: its objects, its sources, and their framing.
pub const RULES_IMAGE_BYTES_MAX: usize = 2 * RULES_BYTES_MAX + RULES_SOURCES_MAX * RULES_TEXT_BYTES_MAX;

/// Depth of chains that are written inside rules, `jump { … }` within `jump { … }`: the kernel follows 16 jumps
/// (NFT_JUMP_STACK_SIZE, include/net/netfilter/nf_tables.h).
pub const RULES_DEPTH_MAX: usize = 16;

/// Seconds to wait for the kernel's answer on a netlink socket. Namespace teardown elsewhere on the host has stalled
/// RTNL for 65 s (measured on 6.18); twice that means something is broken.
pub const NETLINK_WAIT_S: i64 = 130;

/// Seconds for the last carrier of a pass to come on. Each waits for linkwatch at most; where the kernel does not
/// settle it on request (before 6.8) that is one second for every 100 devices that stand before it in the queue, and
/// a pass raises few in each.
pub const CARRIER_WAIT_S: u64 = 60;

/// Slots of one lease. Each sends its namespace and may send its tap by `SCM_RIGHTS`, and the kernel takes 253 fds in
/// one message (`SCM_MAX_FD`, include/net/scm.h).
pub const LEASE_SLOTS_MAX: u32 = 64;

/// Lists that a user's connections have been sent and have not read, one for each of them: the rest is written when one has
/// been. A list of 4,000 slots is a file of 512 KB, which lasts as long as the message that carries it, and does not count
/// against what a connection may leave unread: so many are 4 MB for each user of the socket, and 67 MB of the largest pool.
pub const LISTS_UNREAD_PER_USER: usize = 8;

/// Lease requests that wait for a slot, in all. A waiter is 128 bytes, so the queue is half a megabyte; more of them
/// than this are not served by waiting but by a larger pool.
pub const WAITERS_MAX: u32 = 4_096;

/// Connections that root has beyond `quotas.connections`, so that an admin can look at a daemon whose clients have
/// taken all others.
pub const CONNECTIONS_KEPT_FOR_ROOT: u32 = 8;

/// Datagrams read from one connection before the others get their turn: a client that floods the daemon delays each
/// other request by about 8 × 10 µs.
pub const READS_PER_TURN: usize = 8;

/// Connections accepted before requests get their turn: as many calls as a few requests are.
pub const ACCEPTS_PER_TURN: usize = 8;

/// Pause before the kernel is asked again for a connection that it could not give, milliseconds: what it lacks (memory, files
/// of the whole host) others must let go of first, and a client does not see the difference.
pub const ACCEPT_PAUSE_MS: u64 = 20;

/// State changes that are kept for watchers who have not read them yet: two for each of 4,000 slots, so that a watcher
/// misses nothing when a whole such pool is leased or given back at once.
pub const EVENTS_KEPT: usize = 8_192;

/// Events sent to one watcher before requests get their turn.
pub const EVENTS_PER_TURN: usize = 64;

/// How long a lease lasts before its slot is shown by name to others than its client, milliseconds: a person does not see
/// the difference, and a lease that is over by then has cost no names.
pub const NAME_DELAY_MS: u64 = 1;

/// Pause before a name is tried again that could not be made, milliseconds: each try costs 4 µs, so that those of 4,000 slots
/// take less than a fiftieth of the loop's time.
pub const NAME_RETRY_MS: u64 = 1_000;

/// Names of leased slots shown or taken away before requests get their turn: each is a call of 4 µs, a third of a
/// request, and nobody waits for it.
pub const NAMES_PER_TURN: usize = 1;

/// How long a scrub waits for a tap that somebody holds, milliseconds. A VMM that was told to end gets the 10 s that
/// orchestrators give, twice; then the slot is made anew, and the old tap is deleted under whoever holds it
/// (`execute/strip.rs`).
pub const SCRUB_PATIENCE_MS: u64 = 20_000;

/// First and longest pause between two looks at a held tap, milliseconds: a VMM that is ending lets go within a few, and
/// each look takes the kernel's network lock.
pub const SCRUB_PAUSE_MS: (u64, u64) = (2, 500);

/// Looks that are spared where sockets are waited for: the first pause is then 16 ms, a grace period at 250 Hz.
pub const SCRUB_TRIES_SPARED: u32 = 3;

/// First and longest pause before a slot is made again that could not be, or was lost before anybody leased it, milliseconds.
pub const REBUILD_PAUSE_MS: (u64, u64) = (1_000, 60_000);

/// Slots that are looked at through one proc file system: the mount costs about 60 µs, spread over so many, and each of
/// some 46 reads walks a chain half as long at 60 to 125 ns an entry. Of 8 and 64: 7 + 17 and 1 + 133 µs a slot.
pub const PROCFS_SLOTS: u32 = 8;

/// Of the time of one thread, which part may go into counting who is in which namespace: one in so many. A look at 10,000
/// tasks takes about 20 ms.
pub const CENSUS_SHARE: u32 = 5;

/// Closed TCP connections that are ended one by one when a slot is given back: to find and end 1,000 took 1.6 ms, as much as
/// all else of a scrub. A slot with more of them is made anew.
pub const WAITING_MAX: u32 = 1_000;

/// Holders of a slot that are told of by name.
pub const HOLDERS_TOLD: usize = 8;

/// Rounds of setting back what differs: the second sees what the first has brought about (an address takes its routes
/// with it), and what is not right after the third will not be.
pub const MENDS: u32 = 3;

/// Sockets that wait to be closed: with 500 slots a second that need their rules made again, and 15 ms for each grace period,
/// eight do at a time.
pub const SOCKETS_CLOSING: usize = 64;

/// Differences of a slot that are told in a log.
pub const DIFFERENCES_TOLD: usize = 4;

/// Bytes of the list that a daemon leaves to its successor: 65,536 connections of 150, as many leases of 20, 4,096 requests
/// that wait of 150, and 8,192 changes of 30 are 12 MB.
pub const ESTATE_BYTES_MAX: u64 = 32 << 20;

/// Connections that outlast a restart by systemd's store of file descriptors; those beyond end with the daemon. The unit's
/// FileDescriptorStoreMax= is this and a few. Each is 19 bytes of `$LISTEN_FDNAMES`, and an environment variable may have
/// 128 KiB (MAX_ARG_STRLEN, linux/binfmts.h).
pub const FDSTORE_CONNECTIONS_MAX: usize = 4_096;

/// How long a daemon that is to hand over waits for the jobs of its clients' requests, and for the successor's word,
/// milliseconds; nobody is served meanwhile. Opening a tap takes one, unless the kernel's network lock is held.
pub const HAND_OVER_MS: u64 = 5_000;

/// How long a successor waits for the end of the daemon before it, seconds: a worker that stands in a netlink call is
/// waited for.
pub const SUCCESSION_WAIT_S: u64 = NETLINK_WAIT_S.unsigned_abs() + 20;

/// Shortest time between two of the status lines that the service manager is told, milliseconds: people read them.
pub const STATUS_PAUSE_MS: u64 = 1_000;

/// Fds that the daemon needs besides one for each slot, two for each connection (socket and process) and one for each
/// lease that ends with a process: epoll, signals, netlink, logs, the workers' own.
pub const FDS_SPARE: u64 = 64;

/// Bytes kept of a traced frame, unless told otherwise: every frame that the kernel cuts or gathers (GSO, 64 KiB), whole.
pub const TRACE_SNAPLEN: u32 = 65_536 + 64;

/// Bytes kept of a traced frame at least: the Ethernet, IPv6 and TCP headers with all their options.
pub const TRACE_SNAPLEN_MIN: u32 = 14 + 40 + 60;

/// Bytes kept of a traced frame at most: what readers of captures take (MAXIMUM_SNAPLEN, libpcap).
pub const TRACE_SNAPLEN_MAX: u32 = 262_144;

/// Receive buffer of each socket of a trace: some 4,000 frames of full size wait there while lines are written, and three
/// of them are the most memory that a trace takes in the kernel.
pub const TRACE_BUFFER_BYTES: usize = 8 << 20;

/// Frames read from one socket of a trace before the others get their turn.
pub const TRACE_FRAMES_PER_TURN: usize = 256;

/// How long a trace waits for frames before it looks whether the slot's lease and binding are what they were, and so how
/// long it shows frames of a lease that is over at most, milliseconds.
pub const TRACE_LOOK_MS: u64 = 100;

const _: () = assert!(BATCH_MESSAGES_MAX * 768 <= 212_992);
const _: () = assert!(BATCH_QUESTIONS_MAX * 4_608 + 768 <= 212_992);
const _: () = assert!(SLOTS_MAX <= 1 << 17);
const _: () = assert!(LEASE_SLOTS_MAX * 2 <= 253);
const _: () = assert!(FDSTORE_CONNECTIONS_MAX * 19 < 128 << 10);

// What the protocol's crate bounds as well, since it knows nothing of this one.
const _: () = assert!(SLOTS_MAX == netslot_protocol::limits::SLOTS_MAX && VNI_MAX == netslot_protocol::limits::VNI_MAX);
const _: () = assert!(WAIT_MS_MAX == netslot_protocol::limits::WAIT_MS_MAX);
const _: () = assert!(REPLY_BYTES_MIN as usize == netslot_protocol::limits::FRAME_BYTES_MAX);
const _: () = assert!(PATH_BYTES_MAX == netslot_protocol::limits::PATH_BYTES_MAX);
const _: () = assert!(LINK_NAME_BYTES_MAX == netslot_protocol::limits::LINK_NAME_BYTES_MAX);
