/* SPDX-License-Identifier: Apache-2.0
 *
 * Connection: what a module sends is received, checked, and forwarded or refused,
 * all at once: between two events nothing of a request stays here, except one that its pool holds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "legacy.h"
#include "lib/fdpass.h"
#include "lib/wire_status.h"
#include "listener.h"
#include "pool.h"
#include "request.h"
#include "status.h"

/* Messages of one connection taken at a time. */
#define RECEIVE_BATCH 4
#define RETRY_AFTER_S 1

static struct pool *pool_of(const struct connection *connection)
{
	const struct listener *listener = connection->listener;

	return &listener->gate->pools[listener->config->backend];
}

static void log_refused(const struct connection *connection, const struct request *request, enum reason reason)
{
	char peer[REQUEST_PEER_MAX];

	request_peer(request, peer);
	metrics_count(METRIC_HANDOFF_ERRORS, reason);
	log_event(LOG_WARNING, "refused", LOG_STR("reason", reason_name(reason)),
	          LOG_STR("listener", connection->listener->config->path), LOG_STR("peer", peer),
	          LOG_STR("kid", request->kid), LOG_SPAN("request", request->wire.field[WIRE_REQUEST_ID]));
}

static bool is_violation(enum reason reason)
{
	return reason != REASON_OK && reason != REASON_CLIENT_GONE && reason != REASON_RELAY_FORBIDDEN;
}

enum reason listener_forward(struct listener *listener, struct request *request, uint64_t *stream_id,
                             unsigned *retry_after_s)
{
	struct pool *pool = &listener->gate->pools[listener->config->backend];
	struct ticket *ticket = NULL;
	enum reason reason = limiter_enter(&listener->limiter, request->wire.field[WIRE_SUBJECT],
	                                   (int64_t)metrics_clock_us(), &ticket, retry_after_s);

	if (reason == REASON_OK)
		reason = pool_forward(pool, request, listener->index, ticket, stream_id);
	if (reason == REASON_OK)
		return REASON_OK;
	ticket_end(ticket);
	if (reason_status(reason) == 503)
		*retry_after_s = RETRY_AFTER_S;
	return reason;
}

/* A question instead of a handoff. Returns whether the connection may stay. */
static bool take_status(const struct connection *connection, struct request *request)
{
	enum reason reason = status_take(connection->listener->gate, request);

	if (reason != REASON_OK)
		log_refused(connection, request, reason);
	return reason == REASON_OK;
}

/* Judge a request and pass it on. Returns whether the connection may stay. Descriptors are the caller's to close. */
static bool take(struct connection *connection, struct request *request)
{
	struct listener *listener = connection->listener;
	struct request_rules rules = {
	    .keys = listener->gate->keys,
	    .path = listener->config->path,
	    .netns_cookie = listener->netns_cookie,
	    .relay = listener->config->relay,
	    .connection = connection->fd,
	    .now = time(NULL),
	};
	uint64_t stream_id = 0;
	unsigned retry_after_s = 0;

	if (wire_status_meant(request->message))
		return take_status(connection, request);
	enum reason reason = request_check_form(request, &rules);

	if (is_violation(reason)) {
		log_refused(connection, request, reason);
		return false;
	}
	if (reason == REASON_OK)
		reason = request_check_token(request, &rules);
	if (reason == REASON_OK)
		reason = listener_forward(listener, request, &stream_id, &retry_after_s);
	if (reason != REASON_OK) {
		log_refused(connection, request, reason);
		request_refuse(request, reason, retry_after_s);
		return true;
	}
	metrics_add(METRIC_FORWARDED, 1);
	log_event(LOG_DEBUG, "forwarded", LOG_INT("stream", stream_id), LOG_STR("listener", listener->config->path),
	          LOG_STR("kid", request->kid), LOG_SPAN("request", request->wire.field[WIRE_REQUEST_ID]));
	return true;
}

/* A message that could not even be received. Returns whether the connection may stay. */
static bool receive_failed(const struct connection *connection, const struct request *request, int error)
{
	if (error == -EAGAIN)
		return true;
	if (error == -EMSGSIZE)
		log_refused(connection, request, REASON_MESSAGE_MALFORMED);
	else if (error == -EBADMSG)
		log_refused(connection, request, REASON_DESCRIPTORS);
	else if (error != 0 && error != -ECONNRESET)
		log_event(LOG_WARNING, "receive-failed", LOG_STR("listener", connection->listener->config->path),
		          LOG_STR("error", strerror(-error)));
	return false;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	/* One for all connections: what it holds is dealt with before the next message is received. */
	static uint8_t buffer[WIRE_REQUEST_MAX];
	struct connection *connection = watcher->data;
	struct pool *pool = pool_of(connection);
	struct request request;

	(void)events;
	connection->used = ev_now(loop);
	list_remove(&connection->node);
	list_append(&connection->listener->connections, &connection->node);
	for (int i = 0; i < RECEIVE_BATCH; i++) {
		if (pool_must_wait(pool)) {
			ev_io_stop(loop, watcher);
			list_append(&pool->waiting, &connection->pool_node);
			return;
		}

		int result = request_receive(connection->fd, buffer, &request);
		bool stay = result > 0 ? take(connection, &request) : receive_failed(connection, &request, result);
		request_close(&request);
		if (!stay) {
			connection_close(connection);
			return;
		}
		if (result < 0)
			return;
	}
}

int connection_open(struct listener *listener, int fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (connection == NULL)
		return -ENOMEM;
	connection->listener = listener;
	if (listener->config->legacy && legacy_open(connection) < 0) {
		free(connection);
		return -ENOMEM;
	}
	connection->fd = fd;
	connection->used = ev_now(listener->gate->loop);
	list_init(&connection->pool_node);
	list_append(&listener->connections, &connection->node);
	listener->n_connections++;
	listener->gate->n_connections++;
	metrics_add(METRIC_CONNECTIONS, 1);
	metrics_set(METRIC_ACTIVE_CONNECTIONS, listener->gate->n_connections);
	ev_io_init(&connection->readable, listener->config->legacy ? legacy_on_readable : on_readable, fd, EV_READ);
	connection->readable.data = connection;
	ev_io_start(listener->gate->loop, &connection->readable);
	return 0;
}

void connection_close(struct connection *connection)
{
	struct listener *listener = connection->listener;

	ev_io_stop(listener->gate->loop, &connection->readable);
	list_remove(&connection->node);
	list_remove(&connection->pool_node);
	listener->n_connections--;
	listener->gate->n_connections--;
	metrics_set(METRIC_ACTIVE_CONNECTIONS, listener->gate->n_connections);
	if (connection->legacy != NULL)
		legacy_close(connection);
	fd_close(&connection->fd);
	free(connection);
}

void connection_abandon(struct connection *connection, enum reason reason)
{
	if (connection->legacy != NULL)
		legacy_refuse(connection, reason);
	connection_close(connection);
}

void connection_resume(struct list *pool_node)
{
	struct connection *connection = LIST_ENTRY(pool_node, struct connection, pool_node);

	ev_io_start(connection->listener->gate->loop, &connection->readable);
}
