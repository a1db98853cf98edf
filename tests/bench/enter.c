/*
 * Runs a command in a network namespace whose file is in another mount namespace, where no program is:
 *
 *     enter MOUNT_NAMESPACE FILE COMMAND [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

static int opened(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(1, "open %s", path);
	return fd;
}

static void enter(int fd, int kind, const char *path)
{
	if (setns(fd, kind))
		err(1, "setns %s", path);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: enter MOUNT_NAMESPACE FILE COMMAND [ARGUMENT...]\n");
		return 2;
	}
	int own = opened("/proc/self/ns/mnt"), there = opened(argv[1]);
	enter(there, CLONE_NEWNS, argv[1]);
	int netns = opened(argv[2]);
	enter(own, CLONE_NEWNS, "/proc/self/ns/mnt");
	enter(netns, CLONE_NEWNET, argv[2]);
	/* A /sys that shows this namespace's devices: `ip` reads some of what it prints there. */
	if (unshare(CLONE_NEWNS) || mount("sys", "/sys", "sysfs", 0, NULL))
		err(1, "mount /sys");
	execvp(argv[3], argv + 3);
	err(1, "%s", argv[3]);
}
