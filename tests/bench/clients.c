/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients: a load generator for answers that end with the connection. So many clients at a time, each with a new
 * connection for each request; the next begins when the last has ended (a closed loop).
 *
 *     clients PORT TARGET CLIENTS REQUESTS [METHOD]
 *
 * Prints one line of JSON: seconds, and microseconds from connect() to the end of the connection (p50, p99, max), our
 * own CPU time, and how many answers were wrong: not 200, or not as long as the first.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 1024
#define PATIENCE_MS 10000

struct client {
	int fd;
	int64_t started;
	size_t len;
	char head[16];
};

static struct {
	struct sockaddr_in server;
	char request[4096];
	size_t request_len;
	int epoll;
	size_t wanted, begun, ended, wrong, first_len;
	int64_t *took;
} run;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The next request of this client, when there is one left. */
static void begin(struct client *client)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};

	client->fd = -1;
	if (run.begun == run.wanted)
		return;
	run.begun++;
	client->len = 0;
	client->started = now_ns();
	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&run.server, sizeof(run.server)) != 0)
		fail("connect");
	if (send(client->fd, run.request, run.request_len, MSG_NOSIGNAL) != (ssize_t)run.request_len)
		fail("send");
	if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, client->fd, &event) != 0)
		fail("epoll_ctl");
}

static void end(struct client *client)
{
	close(client->fd);
	if (run.first_len == 0)
		run.first_len = client->len;
	if (client->len != run.first_len || memcmp(client->head, "HTTP/1.1 200 ", 13) != 0)
		run.wrong++;
	run.took[run.ended++] = now_ns() - client->started;
}

/* Whether the connection goes on. */
static int read_some(struct client *client)
{
	char buffer[65536];
	ssize_t len = recv(client->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (len <= 0)
		return 0;
	if (client->len < sizeof(client->head)) {
		size_t room = sizeof(client->head) - client->len;
		memcpy(client->head + client->len, buffer, (size_t)len < room ? (size_t)len : room);
	}
	client->len += (size_t)len;
	return 1;
}

static int compare(const void *a, const void *b)
{
	int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;

	return (first > second) - (first < second);
}

static double microseconds(double part)
{
	return (double)run.took[(size_t)(part * (double)(run.ended - 1))] / 1000;
}

static void report(int64_t ns)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	qsort(run.took, run.ended, sizeof(*run.took), compare);
	printf("{\"seconds\": %.6f, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f, \"cpu\": %.6f, \"wrong\": %zu}\n",
	       (double)ns / 1e9, microseconds(0.5), microseconds(0.99), microseconds(1), cpu, run.wrong);
}

int main(int argc, char **argv)
{
	static struct client clients[CLIENTS_MAX];
	struct epoll_event events[64];
	size_t n_clients = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;

	if (argc < 5 || n_clients < 1 || n_clients > CLIENTS_MAX) {
		fprintf(stderr, "usage: clients PORT TARGET CLIENTS REQUESTS [METHOD]\n");
		return 2;
	}
	run.wanted = strtoul(argv[4], NULL, 10);
	run.took = calloc(run.wanted + 1, sizeof(*run.took));
	run.server = (struct sockaddr_in){.sin_family = AF_INET,
	                                  .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
	                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	run.request_len = (size_t)snprintf(run.request, sizeof(run.request),
	                                   "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
	                                   argc > 5 ? argv[5] : "GET", argv[2]);
	run.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (run.took == NULL || run.epoll < 0 || run.request_len >= sizeof(run.request))
		fail("start");

	int64_t started = now_ns();
	for (size_t i = 0; i < n_clients; i++)
		begin(&clients[i]);
	while (run.ended < run.wanted) {
		int n = epoll_wait(run.epoll, events, 64, PATIENCE_MS);
		if (n <= 0)
			fail("no answer");
		for (int i = 0; i < n; i++) {
			struct client *client = events[i].data.ptr;
			if (read_some(client))
				continue;
			end(client);
			begin(client);
		}
	}
	report(now_ns() - started);
	return 0;
}
