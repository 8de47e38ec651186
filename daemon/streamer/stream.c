/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream: see stream.h. Here: how one begins and ends, and what its client does. Its output is in stream_output.c, its
 * deadlines are in stream_deadline.c, what is told of it afterwards is in stream_account.c.
 */
#include "stream.h"

#include <stdlib.h>

#include "access_log.h"
#include "backend.h"
#include "clock.h"
#include "stream_internal.h"

/* ---------------------------------------------------------------- ending */

void stream_defer(struct stream *stream)
{
	if (stream->is_deferred)
		return;
	stream->is_deferred = true;
	STAILQ_INSERT_TAIL(&stream->streamer->deferred, stream, deferred);
}

void stream_close(struct stream *stream)
{
	if (stream->state < STREAM_LINGERING)
		stream_account(stream);
	stream->state = STREAM_CLOSED;
	ev_timer_stop(stream->streamer->loop, &stream->timer);
	client_close(&stream->client);
	stream_defer(stream);
}

void stream_lost(struct stream *stream, enum outcome outcome)
{
	/* While lingering, or with the answer whole and the client gone before its last byte, only the latter counts.
	 */
	stream->outcome = (uint8_t)outcome;
	stream_close(stream);
}

void stream_gone(struct stream *stream)
{
	const struct streamer *streamer = stream->streamer;

	if (stream->draining || !stream_is_live(stream) || !streamer->ops->has_upstream ||
	    streamer->backend->on_disconnect != DISCONNECT_DRAIN) {
		stream_lost(stream, OUTCOME_CLIENT_GONE);
		return;
	}
	client_close(&stream->client);
	stream->draining = true;
	stream->heard_ms = clock_ms();
	stream_defer(stream);
	stream_schedule(stream);
}

static void linger(struct stream *stream)
{
	stream_account(stream);
	stream->state = STREAM_LINGERING;
	stream->shut_ms = clock_ms();
	client_shutdown(&stream->client);
	stream_schedule(stream);
}

void stream_end_output(struct stream *stream, enum outcome outcome)
{
	stream->outcome = (uint8_t)outcome;
	stream->state = STREAM_FLUSHING;
	stream->whole = outcome == OUTCOME_DONE;
	stream_defer(stream);
	if (stream->draining) {
		stream_lost(stream, OUTCOME_CLIENT_GONE);
		return;
	}
	if (client_unsent(&stream->client) == 0)
		linger(stream);
	else
		stream_schedule(stream);
}

/* ---------------------------------------------------------------- what the client does */

bool stream_is_live(const struct stream *stream)
{
	return stream->state <= STREAM_OPEN;
}

static struct stream *stream_of(struct client *client)
{
	return (struct stream *)((char *)client - offsetof(struct stream, client));
}

static void on_gone(struct client *client)
{
	struct stream *stream = stream_of(client);

	if (stream->state == STREAM_LINGERING)
		stream_close(stream);
	else
		stream_gone(stream);
}

static void on_drained(struct client *client)
{
	struct stream *stream = stream_of(client);

	if (stream->state == STREAM_FLUSHING) {
		linger(stream);
	} else if (stream->paused && stream_is_live(stream)) {
		stream->paused = false;
		stream->heard_ms = clock_ms(); /* it was we who did not listen */
		stream->streamer->ops->pause(stream, false);
	}
}

static const struct client_events client_events = {.gone = on_gone, .drained = on_drained};

/* ---------------------------------------------------------------- life */

static enum client_framing framing_of(const struct stream *stream, const struct wire_request *wire)
{
	if (stream->relayed)
		return FRAMING_RELAY;
	/* Only known HTTP/1.1 gets chunks; anything else the end of the connection as the end of the body. */
	if (stream->head_only || !span_equal(wire->field[WIRE_PROTOCOL], SPAN_LITERAL("HTTP/1.1")))
		return FRAMING_NONE;
	return FRAMING_CHUNKED;
}

struct stream *stream_new(struct streamer *streamer, uint64_t id, const struct wire_request *wire)
{
	struct span subject = wire->field[WIRE_SUBJECT];
	struct span request_id = wire->field[WIRE_REQUEST_ID];
	struct span headers = wire->field[WIRE_RESPONSE_HEADERS];
	struct stream *stream = calloc(1, sizeof(*stream) + subject.len + request_id.len);

	if (stream == NULL)
		return NULL;
	stream->streamer = streamer;
	stream->id = id;
	stream->first_event_ms = -1;
	stream->application_status = get_le16(wire->field[WIRE_STATUS].data);
	stream->relayed = wire->flags & WIRE_FLAG_RELAY;
	stream->head_only = span_equal(wire->field[WIRE_METHOD], SPAN_LITERAL("HEAD"));
	stream->subject_len = (uint32_t)subject.len;
	stream->request_id_len = (uint32_t)request_id.len;
	if (subject.len > 0)
		memcpy(stream->text, subject.data, subject.len);
	if (request_id.len > 0)
		memcpy(stream->text + subject.len, request_id.data, request_id.len);
	stream->client.framing = framing_of(stream, wire);
	stream->client.watcher.fd = -1;
	if (headers.len > 0)
		stream->headers = malloc(headers.len);
	if (access_log_is_open())
		stream->access = access_request_new(wire);
	if ((headers.len > 0 && stream->headers == NULL) || (access_log_is_open() && stream->access == NULL)) {
		stream_discard(stream);
		return NULL;
	}
	if (headers.len > 0)
		memcpy(stream->headers, headers.data, headers.len);
	stream->headers_len = (uint32_t)headers.len;
	return stream;
}

void stream_discard(struct stream *stream)
{
	if (stream->work != NULL)
		stream->streamer->ops->stop(stream->work, stream->whole);
	free(stream->headers);
	free(stream->access);
	free(stream);
}

void stream_start(struct stream *stream, int client)
{
	struct streamer *streamer = stream->streamer;

	client_open(&stream->client, streamer->loop, client, stream->client.framing, &client_events,
	            streamer->backend->write_timeout_s * 1000);
	stream->accepted_ms = stream->heard_ms = clock_ms();
	stream_deadlines_init(stream);
	LIST_INSERT_HEAD(&streamer->streams, stream, all);
	streamer->n_streams++;
	streamer->n_relays += stream->relayed;
	metrics_add(METRIC_RELAYED, stream->relayed);
	metrics_set(METRIC_ACTIVE_RELAYS, streamer->n_relays);
	metrics_set(METRIC_ACTIVE_STREAMS, streamer->n_streams);
	metrics_set(METRIC_PEAK_STREAMS, streamer->n_streams);
	if (stream->head_only && streamer->output != OUTPUT_RAW) {
		stream_done(stream); /* the backend is not asked for an answer that nobody gets */
		return;
	}
	stream->asked = true;
	metrics_add(METRIC_BACKEND_REQUESTS, 1);
	streamer->ops->start(stream);
	if (stream->state != STREAM_CLOSED)
		stream_schedule(stream);
}

void streamer_check_idle(struct streamer *streamer)
{
	if (streamer->n_streams == 0 && streamer->waiting.n == 0 && streamer->idle != NULL)
		streamer->idle(streamer);
}

/* What callbacks of libraries could not do themselves. */
static void after_batch(struct streamer *streamer)
{
	struct stream *stream;

	while ((stream = STAILQ_FIRST(&streamer->deferred)) != NULL) {
		STAILQ_REMOVE_HEAD(&streamer->deferred, deferred);
		stream->is_deferred = false;
		if (stream->state == STREAM_OPEN)
			stream_sent(stream, client_flush(&stream->client));
		if (stream->draining && stream->paused && stream_is_live(stream)) {
			stream->paused = false;
			streamer->ops->pause(stream, false);
		}
		if (stream->work != NULL && !stream_is_live(stream)) {
			streamer->ops->stop(stream->work, stream->whole);
			stream->work = NULL;
		}
		/* Closed by what was done here, it is in the queue once more. */
		if (stream->state != STREAM_CLOSED || stream->is_deferred)
			continue;
		LIST_REMOVE(stream, all);
		streamer->n_streams--;
		streamer->n_relays -= stream->relayed;
		metrics_set(METRIC_ACTIVE_RELAYS, streamer->n_relays);
		metrics_set(METRIC_ACTIVE_STREAMS, streamer->n_streams);
		stream_discard(stream);
		streamer_check_idle(streamer);
	}
}

static void on_prepare(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
	(void)loop;
	(void)revents;
	after_batch(watcher->data);
}

void streams_init(struct streamer *streamer)
{
	LIST_INIT(&streamer->streams);
	STAILQ_INIT(&streamer->deferred);
	ev_prepare_init(&streamer->after_batch, on_prepare);
	streamer->after_batch.data = streamer;
	ev_prepare_start(streamer->loop, &streamer->after_batch);
}

void streams_end(struct streamer *streamer)
{
	struct stream *stream;

	LIST_FOREACH(stream, &streamer->streams, all)
	{
		stream_fail(stream, &(struct stream_error){.outcome = OUTCOME_STOPPED,
		                                           .status = 503,
		                                           .message = "The service is being restarted.",
		                                           .retry_after = 1});
	}
}
