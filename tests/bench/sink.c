/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink: the least that a daemon can do, to measure what it costs to get a client there: takes it, writes one small
 * response, closes. It checks nothing.
 *
 *     sink handoff PATH     handoff/1, accepts every client at once
 *     sink raw PATH         raw mode, as the original module's receivers
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "lib/wire.h"
#include "listen.h"

static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

static void answer(int client)
{
	send(client, response, sizeof(response) - 1, MSG_NOSIGNAL);
	shutdown(client, SHUT_WR);
}

/* One message. False when the connection is to be closed. */
static bool serve_handoff(int connection)
{
	static uint8_t message[WIRE_REQUEST_MAX];
	const struct wire_reply reply = {.kind = WIRE_ACCEPTED, .reason = REASON_OK, .status = 200, .stream_id = 1};
	uint8_t bytes[WIRE_REPLY_LEN];
	int fds[WIRE_FDS_MAX];
	size_t n_fds;

	if (fdpass_receive(connection, message, sizeof(message), fds, WIRE_FDS_MAX, &n_fds, 0) <= 0)
		return false;
	if (n_fds > WIRE_FD_REPLY) {
		wire_reply_write(&reply, bytes);
		if (send(fds[WIRE_FD_REPLY], bytes, sizeof(bytes), MSG_NOSIGNAL) == (ssize_t)sizeof(bytes))
			answer(fds[WIRE_FD_CLIENT]);
	}
	fd_close_all(fds, n_fds);
	return true;
}

static void serve_raw(int connection)
{
	uint8_t data[8192];
	int client = -1;
	size_t n_fds;

	if (fdpass_receive(connection, data, sizeof(data), &client, 1, &n_fds, 0) > 0 && n_fds == 1)
		answer(client);
	fd_close(&client);
}

/* Connections of handoff/1 stay open, so each gets its turn; for raw ones accept() alone would do, and they pay for
 * nothing more than that. */
static void serve_all(int listener)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};

	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	while (epoll_wait(epoll, &event, 1, -1) >= 0) {
		int fd = event.data.fd;

		if (fd == listener) {
			event.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
		} else if (!serve_handoff(fd)) {
			close(fd);
		}
	}
}

static void serve_each(int listener)
{
	for (;;) {
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (connection < 0)
			return;
		serve_raw(connection);
		close(connection);
	}
}

int main(int argc, char **argv)
{
	bool raw = argc == 3 && strcmp(argv[1], "raw") == 0;

	if (!raw && (argc != 3 || strcmp(argv[1], "handoff") != 0)) {
		fprintf(stderr, "usage: sink handoff|raw PATH\n");
		return 2;
	}
	int listener = listen_at(argv[2]);
	if (listener < 0) {
		perror(argv[2]);
		return 1;
	}
	if (raw)
		serve_each(listener);
	else
		serve_all(listener);
	perror("sink");
	return 1;
}
