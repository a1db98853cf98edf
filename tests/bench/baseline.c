/*
 * The yardstick for `netslot up`: makes the same kernel objects with the same flags, in straight-line code, on as many
 * threads as given. It plans nothing, looks at nothing, repairs nothing, and stops at the first error.
 *
 *     baseline SLOTS THREADS MTU DIRECTORY
 *
 * Prints one line of JSON with the times when all slots are made, then waits until its stdin ends: the namespaces are
 * bound in DIRECTORY in a mount namespace of its own, and go with it. That they equal netslot's is checked by same.sh.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/neighbour.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	IFINDEX_BASE = 100000,
	BRIDGE = 102, /* ifindexes in a slot */
	UP0 = 103,
	GROUP_BASE = 0x4e530000,
	GROUP_SLOTS = 50,
	INGRESS_BLOCK = 0x4e530001,
	EGRESS_BLOCK = 0x4e530002,
	ROUTE_PROTOCOL = 78,
	BATCH_BYTES = 128 * 1024,
	BATCH_MESSAGES = 256,
};

/* netslot's defaults; addresses in host order. */
static const uint8_t gateway_mac[6] = {0x06, 0x00, 0xac, 0x10, 0x00, 0x01};
static const uint8_t guest_mac[6] = {0x06, 0x00, 0xac, 0x10, 0x00, 0x02};
static const uint8_t tap_mac[6] = {0x02, 0x4e, 0x53, 0xff, 0xff, 0xff};
static const unsigned char dormant = 5; /* IF_OPER_DORMANT: nobody holds the tap */
static const uint32_t gateway_ip = 0xac100001, guest_ip = 0xac100002; /* 172.16.0.1, .2 */
static const uint32_t slot_net = 0x64400000;			      /* 100.64.0.0 */

static const char *const sysctls[][2] = {
	{"ipv4/ip_forward", "1"},
	{"ipv4/conf/all/rp_filter", "1"},
	{"ipv4/conf/default/rp_filter", "1"},
	{"ipv4/conf/all/accept_redirects", "0"},
	{"ipv4/conf/default/accept_redirects", "0"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	{"ipv6/conf/all/accept_ra", "0"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/all/accept_redirects", "0"},
	{"ipv6/conf/default/accept_redirects", "0"},
	{"ipv6/conf/default/addr_gen_mode", "1"},
	{"ipv6/conf/default/dad_transmits", "0"},
	{"ipv6/conf/default/router_solicitations", "0"},
	{"ipv4/conf/all/route_localnet", "0"},
	{"ipv4/conf/default/route_localnet", "0"},
	{"ipv4/conf/all/proxy_arp", "0"},
	{"ipv4/conf/default/proxy_arp", "0"},
	{"ipv4/conf/all/arp_ignore", "0"},
	{"ipv4/conf/default/arp_ignore", "0"},
	{"ipv4/conf/all/arp_announce", "0"},
	{"ipv4/conf/default/arp_announce", "0"},
	{"ipv4/conf/all/accept_local", "0"},
	{"ipv4/conf/default/accept_local", "0"},
	{"ipv4/conf/all/accept_source_route", "0"},
	{"ipv4/conf/default/accept_source_route", "0"},
	{"ipv4/conf/all/src_valid_mark", "0"},
	{"ipv4/conf/default/src_valid_mark", "0"},
	{"ipv6/conf/all/proxy_ndp", "0"},
	{"ipv6/conf/default/proxy_ndp", "0"},
	{"ipv6/conf/all/forwarding", "0"},
};

static int slots, mtu, root_ns, template_ns, program;
static const char *directory;
static int *sockets; /* of each slot: its rtnetlink socket */
static uint32_t *slot_us;
static atomic_int next_slot;

static void fail(const char *format, ...)
{
	int error = errno;
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "baseline: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static int must(int result, const char *call)
{
	if (result < 0)
		fail("%s", call);
	return result;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put(const char *path, const char *value)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC), path);
	if (write(fd, value, strlen(value)) < 0)
		fail("write %s", path);
	close(fd);
}

/* Writes the value, and keeps the first word of what was there. */
static void turn(const char *path, const char *value, char old[32])
{
	FILE *file = fopen(path, "re");
	if (!file || fscanf(file, "%31s", old) != 1)
		fail("read %s", path);
	fclose(file);
	put(path, value);
}

/* A batch of rtnetlink messages. */
struct batch {
	char bytes[BATCH_BYTES];
	size_t len, last;
	int count;
};

static void append(struct batch *b, const void *bytes, size_t len)
{
	memcpy(b->bytes + b->len, bytes, len);
	memset(b->bytes + b->len + len, 0, NLMSG_ALIGN(len) - len);
	b->len += NLMSG_ALIGN(len);
}

static void attribute(struct batch *b, int type, const void *value, size_t len)
{
	struct rtattr header = {.rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = (unsigned short)type};
	append(b, &header, sizeof header);
	append(b, value, len);
}

static void attribute32(struct batch *b, int type, uint32_t value)
{
	attribute(b, type, &value, sizeof value);
}

static void attribute_ip(struct batch *b, int type, uint32_t ip)
{
	uint8_t bytes[4] = {(uint8_t)(ip >> 24), (uint8_t)(ip >> 16), (uint8_t)(ip >> 8), (uint8_t)ip};
	attribute(b, type, bytes, sizeof bytes);
}

static size_t nest(struct batch *b, int type)
{
	size_t at = b->len;
	attribute(b, type, "", 0);
	return at;
}

static void unnest(struct batch *b, size_t at)
{
	((struct rtattr *)(b->bytes + at))->rta_len = (unsigned short)(b->len - at);
}

static void begin(struct batch *b, int type, int flags, const void *fixed, size_t len)
{
	struct nlmsghdr header = {.nlmsg_type = (uint16_t)type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
	header.nlmsg_seq = (uint32_t)b->count++;
	b->last = b->len;
	append(b, &header, sizeof header);
	append(b, fixed, len);
}

static void end(struct batch *b)
{
	((struct nlmsghdr *)(b->bytes + b->last))->nlmsg_len = (uint32_t)(b->len - b->last);
}

static int rtnetlink(void)
{
	int fd = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "socket(AF_NETLINK)");
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	must(connect(fd, (struct sockaddr *)&kernel, sizeof kernel), "connect");
	return fd;
}

/* Sends the batch; its last message asks for the ACK, any other answers only with an error. */
static void flush(struct batch *b, int fd, const char *what)
{
	char answer[8192];
	if (b->count == 0)
		return;
	((struct nlmsghdr *)(b->bytes + b->last))->nlmsg_flags |= NLM_F_ACK;
	if (send(fd, b->bytes, b->len, 0) < 0)
		fail("%s: send", what);
	ssize_t len = recv(fd, answer, sizeof answer, 0);
	const struct nlmsghdr *header = (struct nlmsghdr *)answer;
	if (len < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || header->nlmsg_type != NLMSG_ERROR)
		fail("%s: recv", what);
	errno = -((struct nlmsgerr *)NLMSG_DATA(header))->error;
	if (errno)
		fail("%s: message %u", what, header->nlmsg_seq);
	b->len = 0;
	b->count = 0;
}

static void link_begin(struct batch *b, int flags, int index)
{
	struct ifinfomsg info = {.ifi_index = index};
	begin(b, RTM_NEWLINK, flags, &info, sizeof info);
}

static void raise_link(struct batch *b, int index)
{
	struct ifinfomsg info = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	begin(b, RTM_NEWLINK, 0, &info, sizeof info);
	end(b);
}

static void device(struct batch *b, const char *name, const uint8_t *mac)
{
	attribute(b, IFLA_IFNAME, name, strlen(name) + 1);
	attribute(b, IFLA_ADDRESS, mac, 6);
	attribute32(b, IFLA_MTU, (uint32_t)mtu);
}

/* A program that lets all pass: what hanging one costs does not depend on what it does. */
static int load_program(void)
{
	static const struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = TC_ACT_OK},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SCHED_CLS,
		.insns = (uintptr_t)code,
		.insn_cnt = sizeof code / sizeof *code,
		.license = (uintptr_t) "Dual MIT/GPL",
	};
	return must((int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr), "bpf(BPF_PROG_LOAD)");
}

/* A qdisc for programs, in both blocks where `in_blocks`. */
static void qdisc(struct batch *b, int index, const char *kind, int in_blocks)
{
	struct tcmsg tc = {.tcm_ifindex = index, .tcm_handle = 0xffff0000, .tcm_parent = TC_H_CLSACT};
	begin(b, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &tc, sizeof tc);
	attribute(b, TCA_KIND, kind, strlen(kind) + 1);
	if (in_blocks) {
		attribute32(b, TCA_INGRESS_BLOCK, INGRESS_BLOCK);
		attribute32(b, TCA_EGRESS_BLOCK, EGRESS_BLOCK);
	}
	end(b);
}

static void filter(struct batch *b, int index, uint32_t parent, const char *name)
{
	struct tcmsg tc = {.tcm_ifindex = index, .tcm_handle = 1, .tcm_parent = parent};
	tc.tcm_info = 1u << 16 | (uint32_t)((ETH_P_ALL & 0xff) << 8);
	begin(b, RTM_NEWTFILTER, NLM_F_CREATE, &tc, sizeof tc);
	attribute(b, TCA_KIND, "bpf", 4);
	size_t options = nest(b, TCA_OPTIONS);
	attribute32(b, TCA_BPF_FD, (uint32_t)program);
	attribute(b, TCA_BPF_NAME, name, strlen(name) + 1);
	attribute32(b, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	unnest(b, options);
	end(b);
}

static void one_queue(struct batch *b)
{
	attribute32(b, IFLA_NUM_TX_QUEUES, 1);
	attribute32(b, IFLA_NUM_RX_QUEUES, 1);
}

static void address(struct batch *b, int index, uint32_t ip, int prefix)
{
	struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)prefix, .ifa_index = (uint32_t)index};
	begin(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof info);
	attribute_ip(b, IFA_LOCAL, ip);
	attribute_ip(b, IFA_ADDRESS, ip);
	end(b);
}

static void neighbour(struct batch *b, int index, uint32_t ip, const uint8_t *mac)
{
	struct ndmsg info = {.ndm_family = AF_INET, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};
	begin(b, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof info);
	attribute_ip(b, NDA_DST, ip);
	attribute(b, NDA_LLADDR, mac, 6);
	end(b);
}

static struct rtmsg route(int prefix, int scope, unsigned flags)
{
	return (struct rtmsg){.rtm_family = AF_INET,
			      .rtm_dst_len = (uint8_t)prefix,
			      .rtm_table = RT_TABLE_MAIN,
			      .rtm_protocol = ROUTE_PROTOCOL,
			      .rtm_scope = (uint8_t)scope,
			      .rtm_type = RTN_UNICAST,
			      .rtm_flags = flags};
}

static void slot_mac(uint8_t mac[6], uint8_t first, int slot)
{
	const uint8_t bytes[6] = {first, 0x4e, 0x53, (uint8_t)(slot >> 16), (uint8_t)(slot >> 8), (uint8_t)slot};
	memcpy(mac, bytes, 6);
}

static uint32_t slot_ip(int slot)
{
	return slot_net + 2 + (uint32_t)slot;
}

static void make_tap(int slot)
{
	int index = IFINDEX_BASE + slot;
	int fd = must(open("/dev/net/tun", O_RDWR | O_CLOEXEC), "open /dev/net/tun");
	struct ifreq request = {.ifr_name = "tap0"};
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	must(ioctl(fd, TUNSETIFINDEX, &index), "TUNSETIFINDEX");
	must(ioctl(fd, TUNSETIFF, &request), "TUNSETIFF");
	must(ioctl(fd, TUNSETPERSIST, 1), "TUNSETPERSIST");
	close(fd);
}

static void add_bridge(struct batch *b)
{
	const uint8_t off = 0;
	const uint16_t none = 0;
	link_begin(b, NLM_F_CREATE | NLM_F_EXCL, BRIDGE);
	device(b, "br0", gateway_mac);
	size_t info = nest(b, IFLA_LINKINFO);
	attribute(b, IFLA_INFO_KIND, "bridge", 6);
	size_t data = nest(b, IFLA_INFO_DATA);
	attribute(b, IFLA_BR_MCAST_SNOOPING, &off, sizeof off);
	attribute(b, IFLA_BR_VLAN_DEFAULT_PVID, &none, sizeof none);
	unnest(b, data);
	unnest(b, info);
	end(b);
}

static void add_veth(struct batch *b, int slot)
{
	uint8_t mac[6];
	char name[IFNAMSIZ];
	struct ifinfomsg far = {.ifi_index = IFINDEX_BASE + slot};
	link_begin(b, NLM_F_CREATE | NLM_F_EXCL, UP0);
	slot_mac(mac, 0x02, slot);
	device(b, "up0", mac);
	one_queue(b);
	size_t info = nest(b, IFLA_LINKINFO);
	attribute(b, IFLA_INFO_KIND, "veth", 4);
	size_t data = nest(b, IFLA_INFO_DATA);
	size_t peer = nest(b, VETH_INFO_PEER);
	append(b, &far, sizeof far);
	slot_mac(mac, 0x06, slot);
	snprintf(name, sizeof name, "slot%d", slot);
	device(b, name, mac);
	one_queue(b);
	attribute32(b, IFLA_NET_NS_FD, (uint32_t)root_ns);
	attribute32(b, IFLA_GROUP, (uint32_t)(GROUP_BASE + slot / GROUP_SLOTS));
	unnest(b, peer);
	unnest(b, data);
	unnest(b, info);
	end(b);
}

static void make(struct batch *b, int slot)
{
	char path[256];
	double began = now();
	must(setns(template_ns, CLONE_NEWNET), "setns");
	must(unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)");
	sockets[slot] = rtnetlink();
	snprintf(path, sizeof path, "%s/slot-%04d", directory, slot);
	close(must(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), path));
	must(mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL), "bind the namespace");
	make_tap(slot);
	add_bridge(b);
	add_veth(b, slot);
	link_begin(b, 0, IFINDEX_BASE + slot);
	attribute(b, IFLA_ADDRESS, tap_mac, 6);
	attribute32(b, IFLA_MTU, (uint32_t)mtu);
	attribute32(b, IFLA_MASTER, BRIDGE);
	attribute(b, IFLA_OPERSTATE, &dormant, 1);
	end(b);
	address(b, BRIDGE, gateway_ip, 30);
	address(b, UP0, slot_ip(slot), 32);
	flush(b, sockets[slot], "make");
	slot_us[slot] = (uint32_t)((now() - began) * 1e6);
}

static void raise_slot(struct batch *b, int slot)
{
	uint8_t mac[6];
	struct rtmsg default_route = route(0, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK);
	qdisc(b, IFINDEX_BASE + slot, "ingress", 0);
	filter(b, IFINDEX_BASE + slot, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), "guest_in");
	raise_link(b, 1);
	raise_link(b, BRIDGE);
	raise_link(b, IFINDEX_BASE + slot);
	raise_link(b, UP0);
	begin(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &default_route, sizeof default_route);
	attribute_ip(b, RTA_GATEWAY, slot_net + 1);
	attribute32(b, RTA_OIF, UP0);
	end(b);
	slot_mac(mac, 0x06, slot);
	neighbour(b, UP0, slot_net + 1, mac);
	neighbour(b, BRIDGE, guest_ip, guest_mac);
	flush(b, sockets[slot], "raise");
}

static void host(void)
{
	static struct batch b;
	char path[256];
	uint8_t mac[6];
	int fd = rtnetlink();
	for (int slot = 0; slot < slots; slot++) {
		snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/slot%d/disable_ipv6", slot);
		put(path, "1");
	}
	for (int slot = 0; slot < slots; slot++) {
		qdisc(&b, IFINDEX_BASE + slot, "clsact", 1);
		if (b.count == BATCH_MESSAGES)
			flush(&b, fd, "join the blocks");
	}
	filter(&b, (int)TCM_IFINDEX_MAGIC_BLOCK, INGRESS_BLOCK, "slot_out");
	filter(&b, (int)TCM_IFINDEX_MAGIC_BLOCK, EGRESS_BLOCK, "slot_in");
	flush(&b, fd, "the blocks' programs");
	for (int group = 0; group <= (slots - 1) / GROUP_SLOTS; group++) {
		struct ifinfomsg info = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
		begin(&b, RTM_NEWLINK, 0, &info, sizeof info);
		attribute32(&b, IFLA_GROUP, (uint32_t)(GROUP_BASE + group));
		size_t spec = nest(&b, IFLA_AF_SPEC), inet = nest(&b, AF_INET), conf = nest(&b, IFLA_INET_CONF);
		attribute32(&b, IPV4_DEVCONF_FORWARDING, 1);
		unnest(&b, conf);
		unnest(&b, inet);
		unnest(&b, spec);
		end(&b);
		if (b.count == BATCH_MESSAGES)
			flush(&b, fd, "raise the host ends");
	}
	flush(&b, fd, "raise the host ends");
	for (int slot = 0; slot < slots; slot++) {
		struct rtmsg to_slot = route(32, RT_SCOPE_LINK, 0);
		begin(&b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &to_slot, sizeof to_slot);
		attribute_ip(&b, RTA_DST, slot_ip(slot));
		attribute32(&b, RTA_OIF, (uint32_t)(IFINDEX_BASE + slot));
		end(&b);
		slot_mac(mac, 0x02, slot);
		neighbour(&b, IFINDEX_BASE + slot, slot_ip(slot), mac);
		if (b.count == BATCH_MESSAGES)
			flush(&b, fd, "host routes");
	}
	flush(&b, fd, "host routes");
}

static void *worker(void *work)
{
	struct batch *b = calloc(1, sizeof *b);
	if (!b)
		fail("calloc");
	for (int slot; (slot = atomic_fetch_add(&next_slot, 1)) < slots;)
		((void (*)(struct batch *, int))work)(b, slot);
	free(b);
	return NULL;
}

static double on_threads(int threads, void (*work)(struct batch *, int))
{
	pthread_t ids[64];
	double began = now();
	atomic_store(&next_slot, 0);
	for (int n = 0; n < threads; n++)
		if ((errno = pthread_create(&ids[n], NULL, worker, (void *)work)))
			fail("pthread_create");
	for (int n = 0; n < threads; n++)
		pthread_join(ids[n], NULL);
	return now() - began;
}

/* The namespace whose sysctls every slot's takes over (devconf_inherit_init_net = 3). */
static void *make_template(void *unused)
{
	char path[256];
	must(unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)");
	for (size_t n = 0; n < sizeof sysctls / sizeof *sysctls; n++) {
		snprintf(path, sizeof path, "/proc/sys/net/%s", sysctls[n][0]);
		put(path, sysctls[n][1]);
	}
	template_ns = must(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), "open the template namespace");
	return unused;
}

static int by_size(const void *a, const void *b)
{
	return (*(const uint32_t *)a > *(const uint32_t *)b) - (*(const uint32_t *)a < *(const uint32_t *)b);
}

static uint32_t median(const uint32_t *times, int count)
{
	uint32_t *sorted = malloc((size_t)count * sizeof *sorted);
	if (!sorted)
		fail("malloc");
	memcpy(sorted, times, (size_t)count * sizeof *sorted);
	qsort(sorted, (size_t)count, sizeof *sorted, by_size);
	uint32_t middle = sorted[count / 2];
	free(sorted);
	return middle;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	char expedited[32], printk[32];
	pthread_t id;
	int threads = argc == 5 ? atoi(argv[2]) : 0;
	slots = argc == 5 ? atoi(argv[1]) : 0;
	mtu = argc == 5 ? atoi(argv[3]) : 0;
	directory = argv[argc - 1];
	if (slots < 1 || threads < 1 || threads > 64 || mtu < 576) {
		fprintf(stderr, "usage: baseline SLOTS THREADS MTU DIRECTORY\n");
		return 2;
	}
	sockets = calloc((size_t)slots, sizeof *sockets);
	slot_us = calloc((size_t)slots, sizeof *slot_us);
	if (!sockets || !slot_us)
		fail("calloc");
	must(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
	files.rlim_cur = files.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	must(unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)");
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make all mounts private");
	must(mount("baseline", directory, "tmpfs", 0, NULL), "mount a tmpfs");

	double began = now();
	turn("/sys/kernel/rcu_expedited", "1", expedited);
	turn("/proc/sys/kernel/printk", "4", printk);
	root_ns = must(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "open the root namespace");
	if ((errno = pthread_create(&id, NULL, make_template, NULL)))
		fail("pthread_create");
	pthread_join(id, NULL);
	program = load_program();
	double made = on_threads(threads, make);
	double raised = on_threads(threads, raise_slot);
	double host_began = now();
	host();
	double ended = now();
	put("/sys/kernel/rcu_expedited", expedited);
	put("/proc/sys/kernel/printk", printk);

	int edge = slots < 500 ? slots : 500;
	printf("{\"slots\":%d,\"seconds\":%.6f,\"phases\":[{\"name\":\"make\",\"seconds\":%.6f},"
	       "{\"name\":\"raise\",\"seconds\":%.6f},{\"name\":\"host\",\"seconds\":%.6f}],"
	       "\"slot_us\":{\"first_500_p50\":%u,\"last_500_p50\":%u}}\n",
	       slots, ended - began, made, raised, ended - host_began, median(slot_us, edge),
	       median(slot_us + slots - edge, edge));
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
