/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstream: see upstream.h.
 */
#include "upstream.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "breaker.h"
#include "clock.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

/* Milliseconds before the second attempt; each further one waits twice as long, up to the longest. Half of it is
 * chance, so that those that failed together do not come back together. */
#define RETRY_MS     100u
#define RETRY_MS_MAX 2000u
/* Connections that close are nobody's fault: after each the request goes out on another at once, so often. */
#define MOVES_MAX    12

struct upstream {
	struct ev_loop *loop;
	const struct config_upstream *config;
	const struct transport_ops *http;
	struct transport *transport;
	struct breaker breaker;
};

struct upstream_call {
	struct upstream *upstream;
	struct transfer *transfer; /* NULL between two attempts */
	const struct transfer_events *events;
	void *user;
	ev_timer retry;
	struct request_body *body; /* NULL: it has been sent, and cannot be sent again */
	unsigned retries;
	unsigned moves;
	bool probe; /* of the breaker */
	bool heard; /* the head has come: what follows says nothing about whether to ask */
	size_t n_fields;
	struct transfer_field fields[];
};

static void call_free(struct upstream_call *call)
{
	ev_timer_stop(call->upstream->loop, &call->retry);
	free(call);
}

/* ---------------------------------------------------------------- what comes of an attempt */

static void end(struct upstream_call *call, enum transfer_error error)
{
	const struct transfer_events *events = call->events;
	struct breaker *breaker = &call->upstream->breaker;
	void *user = call->user;

	if (!call->heard && (error == TRANSFER_NO_MEMORY || error == TRANSFER_BUSY)) {
		/* Our own want says nothing about the upstream. */
		if (call->probe)
			breaker_forget(breaker);
	} else if (!call->heard) {
		breaker_failed(breaker, clock_ms());
	}
	call_free(call);
	events->end(user, error);
}

/* How long to wait before the next attempt; -1: there is none. */
static int retry_after(struct upstream_call *call, enum transfer_error error)
{
	unsigned wait_ms = RETRY_MS_MAX;

	if (call->heard || call->body == NULL)
		return -1;
	if (error == TRANSFER_MOVED)
		return call->moves++ < MOVES_MAX ? 0 : -1;
	if ((error != TRANSFER_UNREACHABLE && error != TRANSFER_UNSEEN) ||
	    call->retries >= call->upstream->config->retries)
		return -1;
	if (RETRY_MS << call->retries < RETRY_MS_MAX)
		wait_ms = RETRY_MS << call->retries;
	call->retries++;
	return (int)(wait_ms / 2 + randombytes_uniform(wait_ms / 2 + 1));
}

static void on_request_sent(void *user)
{
	struct upstream_call *call = user;

	call->body = NULL;
	call->events->request_sent(call->user);
}

static void on_head(void *user, const struct transfer_head *head)
{
	struct upstream_call *call = user;

	call->heard = true;
	if (head->status >= 500)
		breaker_failed(&call->upstream->breaker, clock_ms());
	else
		breaker_succeeded(&call->upstream->breaker);
	call->events->head(call->user, head);
}

static void on_body(void *user, struct span piece)
{
	struct upstream_call *call = user;

	call->events->body(call->user, piece);
}

static void on_end(void *user, enum transfer_error error)
{
	struct upstream_call *call = user;
	int wait_ms = retry_after(call, error);

	call->transfer = NULL;
	if (wait_ms < 0) {
		end(call, error);
		return;
	}
	ev_timer_set(&call->retry, wait_ms / 1000., 0.);
	ev_timer_start(call->upstream->loop, &call->retry);
}

static const struct transfer_events attempt_events = {
    .request_sent = on_request_sent, .head = on_head, .body = on_body, .end = on_end};

/* ---------------------------------------------------------------- attempts */

static int attempt(struct upstream_call *call)
{
	struct upstream *upstream = call->upstream;
	const struct transfer_request request = {
	    .body = call->body, .fields = call->fields, .n_fields = call->n_fields};

	call->transfer = upstream->http->start(upstream->transport, &request, &attempt_events, call);
	return call->transfer != NULL ? 0 : -ENOMEM;
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct upstream_call *call = timer->data;

	(void)loop;
	(void)revents;
	metrics_add(METRIC_RETRIES, 1);
	request_body_rewind(call->body);
	if (attempt(call) != 0)
		end(call, TRANSFER_NO_MEMORY);
}

/* ---------------------------------------------------------------- for backends */

struct upstream *upstream_init(struct streamer *streamer, const char *path, const char *authorization)
{
	const struct config_upstream *config = &streamer->config->upstreams[streamer->backend->upstream];
	struct upstream *upstream = calloc(1, sizeof(*upstream));

	if (upstream == NULL)
		fatal("out of memory");
	upstream->loop = streamer->loop;
	upstream->config = config;
	upstream->breaker.upstream = config;
	upstream->http = config->http == HTTP_2 ? &transport_h2 : &transport_curl;
	upstream->transport = upstream->http->init(streamer, config, path, authorization);
	return upstream;
}

static struct upstream_call *call_new(struct upstream *upstream, const struct transfer_request *request)
{
	struct upstream_call *call = calloc(1, sizeof(*call) + request->n_fields * sizeof(call->fields[0]));

	if (call == NULL)
		return NULL;
	call->upstream = upstream;
	call->body = request->body;
	call->n_fields = request->n_fields;
	for (size_t i = 0; i < request->n_fields; i++)
		call->fields[i] = request->fields[i];
	ev_init(&call->retry, on_retry);
	call->retry.data = call;
	return call;
}

struct upstream_call *upstream_start(struct upstream *upstream, const struct transfer_request *request,
                                     const struct transfer_events *events, void *user, unsigned *retry_after_s)
{
	struct upstream_call *call;
	bool probe;

	if (!breaker_ask(&upstream->breaker, clock_ms(), &probe, retry_after_s))
		return NULL;
	call = call_new(upstream, request);
	if (call != NULL) {
		call->events = events;
		call->user = user;
		call->probe = probe;
		if (attempt(call) == 0)
			return call;
		call_free(call);
	}
	if (probe)
		breaker_forget(&upstream->breaker);
	return NULL;
}

void upstream_pause(struct upstream_call *call, bool paused)
{
	if (call->transfer != NULL)
		call->upstream->http->pause(call->transfer, paused);
}

void upstream_release(struct upstream_call *call)
{
	if (call->transfer != NULL)
		call->upstream->http->release(call->transfer);
	call_free(call);
}

void upstream_cancel(struct upstream_call *call, bool silent)
{
	struct breaker *breaker = &call->upstream->breaker;

	if (call->transfer != NULL)
		call->upstream->http->cancel(call->transfer);
	if (!call->heard && silent)
		breaker_failed(breaker, clock_ms());
	else if (!call->heard && call->probe)
		breaker_forget(breaker);
	call_free(call);
}
