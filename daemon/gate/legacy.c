/* SPDX-License-Identifier: Apache-2.0
 *
 * Legacy: gathering the data until the sender closes, then one handoff in the form that streamers take.
 */
#include "legacy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "lib/fdpass.h"
#include "lib/token.h"
#include "pool.h"
#include "request.h"

/* Seconds from accept() to the end of file: senders write once and close. */
#define DEADLINE      5.
#define CAPACITY_MIN  4096
#define RECEIVE_BATCH 4

struct legacy {
	struct connection *connection;
	struct request request; /* its client descriptor, from the first bytes on */
	uint8_t *data;
	size_t len;
	size_t capacity;
	ev_timer deadline;
};

static void log_refused(const struct connection *connection, enum reason reason)
{
	char peer[REQUEST_PEER_MAX];

	request_peer(&connection->legacy->request, peer);
	metrics_count(METRIC_HANDOFF_ERRORS, reason);
	log_event(LOG_WARNING, "refused", LOG_STR("reason", reason_name(reason)),
	          LOG_STR("listener", connection->listener->config->path), LOG_STR("peer", peer));
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct legacy *legacy = watcher->data;

	(void)loop;
	(void)events;
	log_refused(legacy->connection, REASON_MESSAGE_MALFORMED);
	connection_close(legacy->connection);
}

int legacy_open(struct connection *connection)
{
	struct legacy *legacy = calloc(1, sizeof(*legacy));
	struct ev_loop *loop = connection->listener->gate->loop;

	if (legacy == NULL)
		return -ENOMEM;
	legacy->connection = connection;
	legacy->request = (struct request){.fds = {-1, -1, -1}};
	ev_timer_init(&legacy->deadline, on_deadline, DEADLINE, 0.);
	legacy->deadline.data = legacy;
	ev_timer_start(loop, &legacy->deadline);
	connection->legacy = legacy;
	return 0;
}

void legacy_close(struct connection *connection)
{
	struct legacy *legacy = connection->legacy;

	ev_timer_stop(connection->listener->gate->loop, &legacy->deadline);
	request_close(&legacy->request);
	free(legacy->data);
	free(legacy);
	connection->legacy = NULL;
}

void legacy_refuse(const struct connection *connection, enum reason reason)
{
	if (connection->legacy->request.n_fds > 0)
		log_refused(connection, reason);
}

static enum reason keep(struct legacy *legacy, struct span piece)
{
	size_t capacity = legacy->capacity;

	if (piece.len > WIRE_INLINE_DATA_MAX - legacy->len)
		return REASON_DATA_TOO_LARGE;
	while (capacity < legacy->len + piece.len)
		capacity = capacity == 0 ? CAPACITY_MIN : capacity * 2;
	if (capacity > legacy->capacity) {
		uint8_t *grown = realloc(legacy->data, capacity);

		if (grown == NULL)
			return REASON_NO_MEMORY;
		legacy->data = grown;
		legacy->capacity = capacity;
	}
	memcpy(legacy->data + legacy->len, piece.data, piece.len);
	legacy->len += piece.len;
	return REASON_OK;
}

/* Exactly one descriptor, with the first bytes. */
static enum reason take(struct legacy *legacy, struct span piece, int *client)
{
	struct request *request = &legacy->request;

	if ((*client >= 0) != (legacy->len == 0))
		return REASON_DESCRIPTORS;
	if (*client >= 0) {
		request->fds[WIRE_FD_CLIENT] = *client;
		request->n_fds = 1;
		*client = -1;
	}
	return keep(legacy, piece);
}

/* Returns the length received, 0 at the end of file or -EAGAIN, with *reason REASON_OK; any other fault is a reason. */
static ssize_t receive(struct legacy *legacy, enum reason *reason)
{
	/* One byte more than allowed, so that too much is seen. */
	static uint8_t buffer[WIRE_INLINE_DATA_MAX + 1];
	int client FD_CLEANUP = -1;
	size_t n_fds = 0;
	ssize_t len = fdpass_receive(legacy->connection->fd, buffer, sizeof(buffer), &client, 1, &n_fds, MSG_DONTWAIT);

	*reason = REASON_OK;
	if (len > 0)
		*reason = take(legacy, span_of(buffer, (size_t)len), &client);
	else if (len == -EMSGSIZE)
		*reason = REASON_DATA_TOO_LARGE;
	else if (len < 0 && len != -EAGAIN)
		*reason = len == -EBADMSG ? REASON_DESCRIPTORS : REASON_MESSAGE_MALFORMED;
	return len;
}

/* The handoff as a module would have sent it, so that all streamers know it. The empty binding is what the pool
 * takes out again. Data of one NUL byte stands for none: a descriptor does not travel without a byte. */
static enum reason compose(struct legacy *legacy, const struct listener *listener, uint8_t *message)
{
	struct span data = span_of(legacy->data, legacy->len == 1 && legacy->data[0] == 0 ? 0 : legacy->len);
	struct wire_request wire = {.flags = WIRE_FLAG_LEGACY};
	uint8_t digest[TOKEN_DIGEST_LEN];
	uint8_t status[2];
	size_t size;

	token_digest(digest, data);
	put_le16(status, 200);
	wire.field[WIRE_BINDING] = span_of("", 0);
	wire.field[WIRE_SOCKET_PATH] = span_of_string(listener->config->path);
	wire.field[WIRE_DATA_DIGEST] = span_of(digest, sizeof(digest));
	wire.field[WIRE_METHOD] = SPAN_LITERAL("GET");
	wire.field[WIRE_TARGET] = SPAN_LITERAL("/");
	wire.field[WIRE_PROTOCOL] = SPAN_LITERAL("HTTP/1.1");
	wire.field[WIRE_STATUS] = span_of(status, sizeof(status));
	wire.field[WIRE_DATA] = data;
	size = wire_request_size(&wire);
	legacy->request.message = span_of(message, wire_request_write(&wire, message, size));
	return wire_request_parse(legacy->request.message, &legacy->request.wire) < 0 ? REASON_INTERNAL : REASON_OK;
}

/* A reply socket at whose other end nobody is, as the streamer gets one with every client. */
static enum reason add_reply_socket(struct request *request)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return REASON_INTERNAL;
	request->fds[WIRE_FD_REPLY] = pair[0];
	request->n_fds = WIRE_FD_REPLY + 1;
	fd_close(&pair[1]);
	return REASON_OK;
}

static enum reason pass_on(struct legacy *legacy)
{
	static uint8_t message[WIRE_REQUEST_MAX];
	struct listener *listener = legacy->connection->listener;
	struct request *request = &legacy->request;
	uint64_t stream_id = 0;
	unsigned retry_after_s = 0; /* nobody to tell it to */
	enum reason reason =
	    request_check_client(request->fds[WIRE_FD_CLIENT], listener->netns_cookie, &request->client);

	if (reason == REASON_OK)
		reason = compose(legacy, listener, message);
	if (reason == REASON_OK)
		reason = add_reply_socket(request);
	if (reason == REASON_OK)
		reason = listener_forward(listener, request, &stream_id, &retry_after_s);
	if (reason != REASON_OK)
		return reason;
	metrics_add(METRIC_FORWARDED, 1);
	log_event(LOG_DEBUG, "forwarded", LOG_INT("stream", stream_id), LOG_STR("listener", listener->config->path));
	return REASON_OK;
}

/* The sender has closed. Returns whether the connection is needed still: the pool may have no room at the moment. The
 * end of file is there again when it has. */
static bool complete(struct connection *connection)
{
	struct legacy *legacy = connection->legacy;
	struct gate *gate = connection->listener->gate;
	struct pool *pool = &gate->pools[connection->listener->config->backend];

	ev_timer_stop(gate->loop, &legacy->deadline);
	/* Somebody who only looked whether we are there. */
	if (legacy->len == 0)
		return false;
	if (pool_must_wait(pool)) {
		ev_io_stop(gate->loop, &connection->readable);
		list_append(&pool->waiting, &connection->pool_node);
		return true;
	}
	enum reason reason = pass_on(legacy);

	if (reason != REASON_OK)
		log_refused(connection, reason);
	return false;
}

void legacy_on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct connection *connection = watcher->data;

	(void)events;
	connection->used = ev_now(loop);
	list_remove(&connection->node);
	list_append(&connection->listener->connections, &connection->node);
	for (int i = 0; i < RECEIVE_BATCH; i++) {
		enum reason reason;
		ssize_t len = receive(connection->legacy, &reason);

		if (reason != REASON_OK)
			log_refused(connection, reason);
		if (reason != REASON_OK || (len == 0 && !complete(connection))) {
			connection_close(connection);
			return;
		}
		if (len <= 0)
			return;
	}
}
