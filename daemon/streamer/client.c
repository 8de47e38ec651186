/* SPDX-License-Identifier: Apache-2.0
 *
 * Client: see client.h.
 */
#include "client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "clock.h"
#include "daemon/common/metrics.h"
#include "lib/fdpass.h"
#include "lib/wire.h"

#define KEEPALIVE_IDLE_S 60
#define SEND_BUFFER      65536 /* the kernel takes twice that; left to itself, megabytes for a client that does not read */
#define SEND_PIECES_MAX  4     /* held output, start of a frame, piece, end of the frame and of the body */
#define FRAME_START_MAX  24

static void watch(struct client *client, int events)
{
	if (ev_is_active(&client->watcher) && (client->watcher.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(client->loop, &client->watcher);
	ev_io_set(&client->watcher, client->watcher.fd, events);
	ev_io_start(client->loop, &client->watcher);
}

static void took(struct client *client, size_t len)
{
	client->sent += len;
	metrics_add(METRIC_BYTES_SENT, len);
	client->progress_ms = clock_ms();
}

static void pending_skip(struct client *client, size_t len)
{
	client->start += (uint32_t)len;
	client->len -= (uint32_t)len;
	if (client->len > 0)
		return;
	free(client->pending);
	client->pending = NULL;
	client->start = client->capacity = 0;
}

static int pending_add(struct client *client, const void *bytes, size_t len)
{
	size_t needed = (size_t)client->len + len;

	if (len == 0)
		return 0;
	if (needed > UINT32_MAX / 2)
		return -ENOMEM;
	if (client->start > 0) {
		memmove(client->pending, client->pending + client->start, client->len);
		client->start = 0;
	}
	if (needed > client->capacity) {
		/* Grown to what is needed, not beyond: a held head is short-lived, a slow client is paused soon. */
		char *grown = realloc(client->pending, needed);
		if (grown == NULL)
			return -ENOMEM;
		client->pending = grown;
		client->capacity = (uint32_t)needed;
	}
	memcpy(client->pending + client->len, bytes, len);
	client->len += (uint32_t)len;
	return 0;
}

/* Number of bytes the socket took (0 when it is full), or -errno. */
static ssize_t send_pieces(const struct client *client, struct iovec *pieces, size_t n)
{
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = n};
	ssize_t sent = sendmsg(client->watcher.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return sent;
}

/* Keep of n pieces what comes after the first `sent` bytes, and wait for the socket. */
static int keep_rest(struct client *client, const struct iovec *pieces, size_t n, size_t sent)
{
	for (size_t i = 0; i < n; i++) {
		size_t skip = sent < pieces[i].iov_len ? sent : pieces[i].iov_len;
		int rc = pending_add(client, (const char *)pieces[i].iov_base + skip, pieces[i].iov_len - skip);

		if (rc != 0)
			return rc;
		sent -= skip;
	}
	if (client->len > 0)
		watch(client, EV_READ | EV_WRITE);
	return 0;
}

/* Send pieces after what is held; pieces[0] is free for that. */
static int send_or_keep(struct client *client, struct iovec *pieces, size_t n)
{
	ssize_t sent;
	size_t held = client->len;

	if (held > 0 && !client->held)
		return keep_rest(client, pieces + 1, n - 1, 0); /* the socket is full already */
	pieces[0] = (struct iovec){.iov_base = client->pending + client->start, .iov_len = held};
	sent = send_pieces(client, held > 0 ? pieces : pieces + 1, held > 0 ? n : n - 1);
	if (sent < 0)
		return (int)sent;
	client->held = false;
	took(client, (size_t)sent);
	if (held > 0) {
		size_t skip = (size_t)sent < held ? (size_t)sent : held;

		pending_skip(client, skip);
		sent -= (ssize_t)skip;
	}
	return keep_rest(client, pieces + 1, n - 1, (size_t)sent);
}

int client_hold(struct client *client, struct span bytes)
{
	if (!client_is_open(client))
		return 0;
	client->held = client->held || client->len == 0;
	return pending_add(client, bytes.data, bytes.len);
}

int client_flush(struct client *client)
{
	struct iovec pieces[1];

	return client->held ? send_or_keep(client, pieces, 1) : 0;
}

static struct iovec piece_of(const void *data, size_t len)
{
	union {
		const void *in;
		void *out;
	} pointer = {.in = data}; /* sendmsg() does not write, but its struct is shared with recvmsg() */

	return (struct iovec){.iov_base = pointer.out, .iov_len = len};
}

/* What goes in front of a piece of this length. */
static size_t frame_start(enum client_framing framing, char out[FRAME_START_MAX], size_t len)
{
	switch (framing) {
	case FRAMING_CHUNKED:
		return (size_t)snprintf(out, FRAME_START_MAX, "%zx\r\n", len);
	case FRAMING_RELAY:
		put_le32((uint8_t *)out, (uint32_t)len);
		return WIRE_PIECE_LEN;
	default:
		return 0;
	}
}

/* What goes behind it. */
static struct span frame_end(enum client_framing framing, bool is_empty, bool last)
{
	static const uint8_t zero[WIRE_PIECE_LEN];

	if (framing == FRAMING_RELAY && last)
		return span_of(zero, sizeof(zero));
	if (framing == FRAMING_CHUNKED && is_empty)
		return last ? SPAN_LITERAL("0\r\n\r\n") : SPAN_EMPTY;
	if (framing == FRAMING_CHUNKED)
		return last ? SPAN_LITERAL("\r\n0\r\n\r\n") : SPAN_LITERAL("\r\n");
	return SPAN_EMPTY;
}

int client_send(struct client *client, struct span piece, bool last)
{
	struct iovec pieces[SEND_PIECES_MAX];
	char start[FRAME_START_MAX];
	size_t start_len = frame_start(client->framing, start, piece.len);
	struct span end = frame_end(client->framing, piece.len == 0, last);
	size_t n = 1;

	if (!client_is_open(client)) {
		client->discarded += piece.len;
		return 0;
	}
	if (piece.len > 0 && start_len > 0)
		pieces[n++] = piece_of(start, start_len);
	if (piece.len > 0)
		pieces[n++] = piece_of(piece.data, piece.len);
	if (end.len > 0)
		pieces[n++] = piece_of(end.data, end.len);
	return n > 1 || client->held ? send_or_keep(client, pieces, n) : 0;
}

size_t client_unsent(const struct client *client)
{
	return client->held ? 0 : client->len;
}

/* What a client sends after its request is of no interest; that it has gone is. */
static bool read_and_discard(const struct client *client)
{
	static char discarded[16384];
	ssize_t len = recv(client->watcher.fd, discarded, sizeof(discarded), MSG_DONTWAIT);

	return len > 0 || (len < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool send_pending(struct client *client)
{
	struct iovec piece = {.iov_base = client->pending + client->start, .iov_len = client->len};
	ssize_t sent = send_pieces(client, &piece, 1);

	if (sent < 0)
		return false;
	if (sent > 0) {
		took(client, (size_t)sent);
		pending_skip(client, (size_t)sent);
	}
	return true;
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct client *client = (struct client *)((char *)watcher - offsetof(struct client, watcher));

	(void)loop;
	if ((revents & EV_READ) && !read_and_discard(client)) {
		client->events->gone(client);
		return;
	}
	if (!(revents & EV_WRITE) || client->held || client->len == 0)
		return;
	if (!send_pending(client)) {
		client->events->gone(client);
		return;
	}
	if (client->len == 0) {
		watch(client, EV_READ);
		client->events->drained(client);
	}
}

bool client_has_gone(int fd)
{
	struct pollfd client = {.fd = fd, .events = POLLRDHUP};

	return poll(&client, 1, 0) == 1 && client.revents != 0;
}

static void option(int fd, int level, int name, int value)
{
	/* An option that cannot be set (a client that is gone already) is no reason to drop the stream. */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void set_tcp_options(int fd, unsigned user_timeout_ms)
{
	option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	option(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
	option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)user_timeout_ms);
}

void client_open(struct client *client, struct ev_loop *loop, int fd, enum client_framing framing,
                 const struct client_events *events, unsigned user_timeout_ms)
{
	*client = (struct client){.loop = loop, .framing = framing, .events = events, .progress_ms = clock_ms()};
	if (framing != FRAMING_RELAY)
		set_tcp_options(fd, user_timeout_ms);
	ev_io_init(&client->watcher, on_ready, fd, EV_READ);
	ev_io_start(loop, &client->watcher);
}

void client_shutdown(struct client *client)
{
	(void)shutdown(client->watcher.fd, SHUT_WR);
}

void client_close(struct client *client)
{
	int fd = client->watcher.fd;

	if (fd < 0)
		return;
	ev_io_stop(client->loop, &client->watcher);
	ev_io_set(&client->watcher, -1, 0);
	pending_skip(client, client->len);
	fd_close(&fd);
}

bool client_is_open(const struct client *client)
{
	return client->watcher.fd >= 0;
}
