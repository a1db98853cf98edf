/*
 * How long a TCP connection takes to be set up:
 *
 *     connect listen PORT             answers until it is killed
 *     connect to ADDRESS PORT ROUNDS  sets up as many, one after the other; prints p50 and p99 in microseconds as JSON
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int opened(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	/* Closed by a reset: no port is left waiting. */
	struct linger linger = { 1, 0 };
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		err(1, "socket");
	return fd;
}

static void answer(struct sockaddr_in *address)
{
	int fd = opened();
	if (bind(fd, (struct sockaddr *)address, sizeof(*address)) || listen(fd, 1024))
		err(1, "listen");
	for (;;)
		close(accept(fd, NULL, NULL));
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	if (argc == 3 && !strcmp(argv[1], "listen")) {
		address.sin_port = htons(atoi(argv[2]));
		answer(&address);
	}
	int rounds = argc == 5 ? atoi(argv[4]) : 0;
	if (rounds < 1 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) {
		fprintf(stderr, "usage: connect listen PORT | connect to ADDRESS PORT ROUNDS\n");
		return 2;
	}
	address.sin_port = htons(atoi(argv[3]));
	double *took = calloc(rounds, sizeof(*took));
	if (!took)
		err(1, "calloc");
	for (int n = 0; n < rounds; n++) {
		int fd = opened();
		double began = now_us();
		/* The other end resets at once: heard before connect returns, it says that there was a connection. */
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) && errno != ECONNRESET)
			err(1, "connect to %s", argv[2]);
		took[n] = now_us() - began;
		close(fd);
	}
	qsort(took, rounds, sizeof(*took), ascending);
	printf("{\"p50_us\": %.1f, \"p99_us\": %.1f}\n", took[rounds / 2], took[rounds * 99 / 100]);
	return 0;
}
