/* SPDX-License-Identifier: Apache-2.0
 *
 * Bare: the least that could answer a handoff. It takes handoff/1 without checking anything, accepts, and writes the
 * bytes that handoffd's demo backend writes, each event with a call of its own, as much time apart: what is left of the
 * cost is the kernel's.
 *
 *     bare SOCKET BODY MILLISECONDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <time.h>

#include "answer.h"
#include "lib/fdpass.h"
#include "listen.h"

#define CLIENTS_MAX 65536
#define EVENTS_MAX  256
#define PIECES_MAX  256

static const char head[] = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                           "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
                           "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";

struct client {
	TAILQ_ENTRY(client) waiting;
	int64_t due_ms;
	int fd;
	uint32_t next;
	char prompt[PROMPT_LEN];
};

static struct body body;
static size_t ends[PIECES_MAX], n_pieces;
static int64_t gap_ms;
static int epoll;
static struct client *clients[CLIENTS_MAX]; /* by descriptor; NULL: a connection of the module's */
static TAILQ_HEAD(, client) waiting = TAILQ_HEAD_INITIALIZER(waiting);

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void cut_into_pieces(void)
{
	for (size_t i = 2; i <= body.len; i++)
		if (n_pieces < PIECES_MAX && body.bytes[i - 1] == '\n' && body.bytes[i - 2] == '\n')
			ends[n_pieces++] = i;
}

static void write_piece(const struct client *client)
{
	char bytes[4096], start[16];
	size_t begin = client->next == 0 ? 0 : ends[client->next - 1];
	size_t len = ends[client->next] - begin;
	bool last = client->next == n_pieces - 1;
	struct iovec iov[4] = {{.iov_base = (void *)(uintptr_t)head, .iov_len = sizeof(head) - 1},
	                       {.iov_base = start, .iov_len = (size_t)snprintf(start, sizeof(start), "%zx\r\n", len)},
	                       {.iov_base = bytes, .iov_len = len},
	                       {.iov_base = last ? "\r\n0\r\n\r\n" : "\r\n", .iov_len = last ? 7 : 2}};
	bool first = client->next == 0;

	memcpy(bytes, body.bytes + begin, len);
	if (body.prompt_at >= begin && body.prompt_at < ends[client->next])
		memcpy(bytes + (body.prompt_at - begin), client->prompt, PROMPT_LEN);
	struct msghdr message = {.msg_iov = first ? iov : iov + 1, .msg_iovlen = first ? 4 : 3};

	sendmsg(client->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* What is due of one client; the end comes at once behind the last event. */
static void answer(struct client *client)
{
	do {
		write_piece(client);
		client->next++;
	} while (client->next == n_pieces - 1);
	if (client->next == n_pieces) {
		shutdown(client->fd, SHUT_WR);
		return;
	}
	client->due_ms = now_ms() + gap_ms;
	TAILQ_INSERT_TAIL(&waiting, client, waiting);
}

static void watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
		perror("epoll_ctl");
		exit(1);
	}
}

/* False when the connection is to be closed. */
static bool take_handoff(int connection)
{
	static const char name[] = "\"prompt\":\"";
	static uint8_t message[WIRE_REQUEST_MAX];
	const struct wire_reply reply = {.kind = WIRE_ACCEPTED, .reason = REASON_OK, .status = 200, .stream_id = 1};
	uint8_t bytes[WIRE_REPLY_LEN];
	int fds[WIRE_FDS_MAX];
	size_t n_fds;
	ssize_t len = fdpass_receive(connection, message, sizeof(message), fds, WIRE_FDS_MAX, &n_fds, 0);

	if (len <= 0 || n_fds != 2)
		return false;
	const uint8_t *prompt = memmem(message, (size_t)len, name, sizeof(name) - 1);
	struct client *client = calloc(1, sizeof(*client));
	int fd = fds[WIRE_FD_CLIENT];

	if (prompt == NULL || client == NULL || fd >= CLIENTS_MAX)
		return false;
	memcpy(client->prompt, prompt + sizeof(name) - 1, PROMPT_LEN);
	wire_reply_write(&reply, bytes);
	send(fds[WIRE_FD_REPLY], bytes, sizeof(bytes), MSG_NOSIGNAL);
	close(fds[WIRE_FD_REPLY]);
	client->fd = fd;
	clients[fd] = client;
	watch(fd);
	answer(client);
	return true;
}

/* The client has closed: this goes by whole answers only. */
static void take_end(int fd)
{
	char bytes[4096];

	if (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		return;
	if (clients[fd]->next < n_pieces)
		TAILQ_REMOVE(&waiting, clients[fd], waiting);
	free(clients[fd]);
	clients[fd] = NULL;
	close(fd);
}

static void serve(int listener)
{
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		struct client *first = TAILQ_FIRST(&waiting);
		int64_t wait = first == NULL ? -1 : first->due_ms - now_ms();
		int n = epoll_wait(epoll, events, EVENTS_MAX, first == NULL ? -1 : wait > 0 ? (int)wait : 0);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == listener)
				watch(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
			else if (clients[fd] != NULL)
				take_end(fd);
			else if (!take_handoff(fd))
				close(fd);
		}
		for (int64_t now = now_ms(); (first = TAILQ_FIRST(&waiting)) != NULL && first->due_ms <= now;) {
			TAILQ_REMOVE(&waiting, first, waiting);
			answer(first);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: bare SOCKET BODY MILLISECONDS\n");
		return 2;
	}
	if (body_load(&body, argv[2]) != 0) {
		perror(argv[2]);
		return 1;
	}
	cut_into_pieces();
	gap_ms = strtol(argv[3], NULL, 10);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	int listener = listen_at(argv[1]);
	if (listener < 0 || epoll < 0) {
		perror(argv[1]);
		return 1;
	}
	watch(listener);
	serve(listener);
	return 0;
}
