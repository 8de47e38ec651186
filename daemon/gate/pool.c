/* SPDX-License-Identifier: Apache-2.0
 *
 * Pool: whose turn it is, and what happens when nobody can.
 */
#include "pool.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

/* Seconds a handoff waits for room. The module behind it waits too, with a deadline of its own. */
#define PATIENCE      1.0
#define RETRY_AFTER_S 1

/* Offer a handoff to each worker once, beginning with whose turn it is. Returns 0, -EAGAIN when one is connected but
 * full, or -ENOTCONN. */
static int offer(struct pool *pool, const struct message_handoff *body, const struct span *pieces, size_t n_pieces,
                 const int *fds, size_t n_fds, struct ticket *ticket)
{
	int result = -ENOTCONN;

	for (size_t i = 0; i < pool->n_workers; i++) {
		struct peer *worker = &pool->workers[pool->next];

		pool->next = (pool->next + 1) % pool->n_workers;
		if (peer_ready(worker) && peer_send(worker, MESSAGE_HANDOFF, body, pieces, n_pieces, fds, n_fds) == 0) {
			tickets_add(&worker->tickets, ticket, body->stream_id);
			return 0;
		}
		if (worker->busy)
			result = -EAGAIN;
	}
	return result;
}

static void log_refused(const struct pool *pool, const struct request *request, uint64_t stream_id)
{
	char peer[REQUEST_PEER_MAX];

	request_peer(request, peer);
	metrics_count(METRIC_HANDOFF_ERRORS, REASON_NO_STREAMER);
	log_event(LOG_WARNING, "refused", LOG_STR("reason", reason_name(REASON_NO_STREAMER)),
	          LOG_STR("backend", pool->gate->config->backends[pool->backend].name), LOG_STR("peer", peer),
	          LOG_INT("stream", stream_id));
}

static void drop_held(struct pool *pool)
{
	request_close(&pool->held.request);
	free(pool->held.bytes);
	pool->held.bytes = NULL;
	pool->held.ticket = NULL;
	ev_timer_stop(pool->gate->loop, &pool->patience);
}

static void refuse_held(struct pool *pool)
{
	log_refused(pool, &pool->held.request, pool->held.body.stream_id);
	request_refuse(&pool->held.request, REASON_NO_STREAMER, RETRY_AFTER_S);
	ticket_end(pool->held.ticket);
	drop_held(pool);
}

static void wake_waiting(struct pool *pool)
{
	while (!list_empty(&pool->waiting)) {
		struct list *node = pool->waiting.next;

		list_remove(node);
		pool->on_room(node);
	}
}

static void on_patience_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct pool *pool = watcher->data;

	(void)loop;
	(void)events;
	pool->stalled = true;
	refuse_held(pool);
	wake_waiting(pool);
}

/* Keep a copy of the request; its descriptors move. */
static enum reason hold(struct pool *pool, const struct message_handoff *body, const struct span pieces[2],
                        struct request *request, struct ticket *ticket)
{
	struct held *held = &pool->held;

	held->len = pieces[0].len + pieces[1].len;
	held->bytes = malloc(held->len);
	if (held->bytes == NULL)
		return REASON_NO_MEMORY;
	memcpy(held->bytes, pieces[0].data, pieces[0].len);
	memcpy(held->bytes + pieces[0].len, pieces[1].data, pieces[1].len);
	held->body = *body;
	held->ticket = ticket;
	held->request = (struct request){.client = request->client, .n_fds = request->n_fds};
	memcpy(held->request.fds, request->fds, sizeof(request->fds));
	for (size_t i = 0; i < WIRE_FDS_MAX; i++)
		request->fds[i] = -1;
	request->n_fds = 0;
	ev_timer_set(&pool->patience, PATIENCE, 0.);
	ev_timer_start(pool->gate->loop, &pool->patience);
	return REASON_OK;
}

enum reason pool_forward(struct pool *pool, struct request *request, size_t listener, struct ticket *ticket,
                         uint64_t *stream_id)
{
	struct message_handoff body = {
	    .stream_id = pool->gate->next_stream_id++,
	    .arrived_us = metrics_clock_us(),
	    .listener = (uint32_t)listener,
	    .flags = ticket != NULL ? MESSAGE_HANDOFF_COUNTED : 0,
	};
	uint8_t header[WIRE_HEADER_LEN];
	struct span pieces[2];
	int result;

	*stream_id = body.stream_id;
	request_strip(request, header, pieces);
	result = offer(pool, &body, pieces, 2, request->fds, request->n_fds, ticket);
	if (result == 0)
		return REASON_OK;
	if (result == -EAGAIN && !pool->stalled)
		return hold(pool, &body, pieces, request, ticket);
	return REASON_NO_STREAMER;
}

void pool_changed(struct pool *pool)
{
	struct held *held = &pool->held;

	if (held->bytes != NULL) {
		struct span piece = span_of(held->bytes, held->len);
		int result = offer(pool, &held->body, &piece, 1, held->request.fds, held->request.n_fds, held->ticket);

		if (result == -EAGAIN)
			return;
		if (result == 0)
			drop_held(pool);
		else
			refuse_held(pool);
	}
	pool->stalled = false;
	wake_waiting(pool);
}

void pool_init(struct pool *pool, struct gate *gate, size_t backend, void (*on_room)(struct list *node))
{
	*pool = (struct pool){
	    .gate = gate,
	    .backend = backend,
	    .on_room = on_room,
	    .held = {.request = {.fds = {-1, -1, -1}}},
	};
	list_init(&pool->waiting);
	ev_init(&pool->patience, on_patience_end);
	pool->patience.data = pool;
}

void pool_stop(struct pool *pool)
{
	if (pool->held.bytes == NULL)
		return;
	metrics_count(METRIC_HANDOFF_ERRORS, REASON_STOPPING);
	request_refuse(&pool->held.request, REASON_STOPPING, RETRY_AFTER_S);
	ticket_end(pool->held.ticket);
	drop_held(pool);
}
