/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream: see stream.h.
 */
#include "stream.h"

#include <stdlib.h>

#include "backend.h"
#include "clock.h"
#include "daemon/common/log.h"
#include "head.h"

#define LINGER_MS    2000
#define SCRATCH_KEPT 65536 /* an unusually large event does not leave its memory behind */
#define NEVER        INT64_MAX

/* ---------------------------------------------------------------- ending */

static bool is_upstream_fault(enum outcome outcome)
{
	return outcome == OUTCOME_UPSTREAM_REFUSED || outcome == OUTCOME_UPSTREAM_ERROR ||
	       outcome == OUTCOME_UPSTREAM_TIMEOUT;
}

static void count_end(const struct stream *stream)
{
	enum outcome outcome = (enum outcome)stream->outcome;
	int64_t duration_us = (clock_ms() - stream->accepted_ms) * 1000;

	metrics_count(METRIC_STREAMS, outcome);
	if (outcome != OUTCOME_DONE)
		metrics_count(METRIC_STREAM_ERRORS, outcome);
	metrics_observe(METRIC_STREAM_DURATION, duration_us);
	if (stream->head_only) /* the backend was not asked */
		return;
	metrics_observe(METRIC_BACKEND_DURATION, duration_us);
	if (is_upstream_fault(outcome))
		metrics_add(METRIC_BACKEND_ERRORS, 1);
}

static void count_event(struct stream *stream)
{
	stream->events++;
	metrics_add(METRIC_CHUNKS_SENT, 1);
}

static void log_end(const struct stream *stream)
{
	const struct streamer *streamer = stream->streamer;
	struct span subject = span_of(stream->text, stream->subject_len);
	struct span request_id = span_of(stream->text + stream->subject_len, stream->request_id_len);

	log_event(LOG_INFO, "stream-end", LOG_INT("id", stream->id), LOG_STR("backend", streamer->backend->name),
	          LOG_SPAN("subject", subject), LOG_SPAN("request", request_id), LOG_INT("status", stream->status),
	          LOG_INT("bytes", stream->client.sent), LOG_INT("events", stream->events),
	          LOG_INT("duration_ms", clock_ms() - stream->accepted_ms),
	          LOG_INT("first_byte_ms", stream->first_event_ms),
	          LOG_STR("outcome", outcome_name((enum outcome)stream->outcome)),
	          LOG_STR("relay", stream->relayed ? "yes" : "no"));
	count_end(stream);
}

/* See to it once the event batch is over: send a held head, let go of the backend's work after the end, and of the
 * stream itself when it is closed. */
static void defer(struct stream *stream)
{
	if (stream->is_deferred)
		return;
	stream->is_deferred = true;
	STAILQ_INSERT_TAIL(&stream->streamer->deferred, stream, deferred);
}

static void close_now(struct stream *stream)
{
	if (stream->state < STREAM_LINGERING)
		log_end(stream);
	stream->state = STREAM_CLOSED;
	ev_timer_stop(stream->streamer->loop, &stream->timer);
	client_close(&stream->client);
	defer(stream);
}

static void end_lost(struct stream *stream, enum outcome outcome)
{
	/* While lingering, or with the answer whole and the client gone before its last byte, only the latter counts.
	 */
	stream->outcome = (uint8_t)outcome;
	close_now(stream);
}

static void schedule(struct stream *stream);

static void linger(struct stream *stream)
{
	log_end(stream);
	stream->state = STREAM_LINGERING;
	stream->shut_ms = clock_ms();
	client_shutdown(&stream->client);
	schedule(stream);
}

/* Nothing more will be added. */
static void end_output(struct stream *stream, enum outcome outcome)
{
	stream->outcome = (uint8_t)outcome;
	stream->state = STREAM_FLUSHING;
	stream->whole = outcome == OUTCOME_DONE;
	defer(stream);
	if (client_unsent(&stream->client) == 0)
		linger(stream);
	else
		schedule(stream);
}

/* ---------------------------------------------------------------- deadlines */

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t seconds_after(int64_t start_ms, unsigned seconds)
{
	return start_ms + (int64_t)seconds * 1000;
}

/* The nearest deadline. One timer serves all: activity only moves deadlines back, which costs nothing until the timer
 * fires too early and is set again. */
static int64_t next_deadline(const struct stream *stream)
{
	const struct config_backend *backend = stream->streamer->backend;
	bool upstream = stream->streamer->ops->has_upstream;
	bool unsent = client_unsent(&stream->client) > 0;
	int64_t at = NEVER;

	if (stream->state == STREAM_LINGERING)
		return stream->shut_ms + LINGER_MS;
	if (unsent)
		at = earlier(at, seconds_after(stream->client.progress_ms, backend->write_timeout_s));
	if (stream->state == STREAM_FLUSHING)
		return at; /* what is unsent is little, and progress is asked for */
	at = earlier(at, seconds_after(stream->accepted_ms, backend->max_duration_s));
	if (upstream && stream->state == STREAM_WAITING)
		at = earlier(at, seconds_after(stream->accepted_ms, backend->first_byte_timeout_s));
	if (upstream && stream->state == STREAM_OPEN && !stream->paused)
		at = earlier(at, seconds_after(stream->heard_ms, backend->idle_timeout_s));
	if (stream->state == STREAM_OPEN && !unsent && backend->keepalive_s > 0)
		at = earlier(at, seconds_after(stream->spoken_ms, backend->keepalive_s));
	return at;
}

/* Make sure that the timer fires no later than the nearest deadline. */
static void schedule(struct stream *stream)
{
	int64_t at = next_deadline(stream);
	struct ev_loop *loop = stream->streamer->loop;
	int64_t wait;

	if (at == NEVER || (ev_is_active(&stream->timer) && stream->armed_ms <= at))
		return;
	stream->armed_ms = at;
	wait = at - clock_ms();
	ev_timer_stop(loop, &stream->timer);
	ev_timer_set(&stream->timer, wait > 0 ? (double)wait / 1000 : 0.0, 0.0);
	ev_timer_start(loop, &stream->timer);
}

static void keep_alive(struct stream *stream);

static void upstream_silent(struct stream *stream)
{
	stream_fail(stream, &(struct stream_error){.outcome = OUTCOME_UPSTREAM_TIMEOUT,
	                                           .status = 504,
	                                           .message = "The service that answers was silent for too long."});
}

static void too_long(struct stream *stream)
{
	stream_fail(stream, &(struct stream_error){.outcome = OUTCOME_MAX_DURATION,
	                                           .status = 504,
	                                           .message = "The answer took longer than allowed."});
}

/* The timer has fired: act on the deadline that has passed, if any. */
static void deadline_passed(struct stream *stream, int64_t now)
{
	const struct config_backend *backend = stream->streamer->backend;
	bool upstream = stream->streamer->ops->has_upstream;
	int64_t silent_since = stream->state == STREAM_WAITING ? stream->accepted_ms : stream->heard_ms;
	unsigned patience = stream->state == STREAM_WAITING ? backend->first_byte_timeout_s : backend->idle_timeout_s;

	if (stream->state == STREAM_LINGERING)
		close_now(stream);
	else if (client_unsent(&stream->client) > 0 &&
	         now >= seconds_after(stream->client.progress_ms, backend->write_timeout_s))
		end_lost(stream, OUTCOME_WRITE_TIMEOUT);
	else if (!stream_is_live(stream))
		return;
	else if (now >= seconds_after(stream->accepted_ms, backend->max_duration_s))
		too_long(stream);
	else if (upstream && !stream->paused && now >= seconds_after(silent_since, patience))
		upstream_silent(stream);
	else
		keep_alive(stream);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct stream *stream = (struct stream *)((char *)timer - offsetof(struct stream, timer));
	int64_t now = clock_ms();

	(void)loop;
	(void)revents;
	if (now >= next_deadline(stream))
		deadline_passed(stream, now);
	if (stream->state != STREAM_CLOSED)
		schedule(stream);
}

/* ---------------------------------------------------------------- output */

bool stream_is_live(const struct stream *stream)
{
	return stream->state <= STREAM_OPEN;
}

/* After something was given to the client: notice a lost or slow one. */
static void sent(struct stream *stream, int rc)
{
	if (rc != 0) {
		end_lost(stream, OUTCOME_CLIENT_GONE);
		return;
	}
	stream->spoken_ms = clock_ms();
	if (client_unsent(&stream->client) == 0)
		return;
	if (!stream->paused && stream_is_live(stream) && client_unsent(&stream->client) > CLIENT_PENDING_BOUND) {
		stream->paused = true;
		metrics_add(METRIC_PAUSES, 1);
		stream->streamer->ops->pause(stream, true);
	}
	schedule(stream);
}

static struct text *scratch_take(struct stream *stream)
{
	text_reset(&stream->streamer->scratch, SCRATCH_KEPT);
	return &stream->streamer->scratch;
}

static void scratch_send(struct stream *stream, bool last)
{
	struct text *scratch = &stream->streamer->scratch;

	if (text_ok(scratch))
		sent(stream, client_send(&stream->client, text_span(scratch), last));
	else
		end_lost(stream, OUTCOME_NO_MEMORY); /* without a last chunk: the client sees that it is not whole */
}

static void head_sent(struct stream *stream, unsigned status)
{
	stream->status = (uint16_t)status;
	free(stream->headers);
	stream->headers = NULL;
	stream->headers_len = 0;
}

/* Keep alive: comments are for nobody but proxies on the way. */
static void keep_alive(struct stream *stream)
{
	static const char comment[] = ": ping\n\n";

	if (stream->state == STREAM_OPEN)
		sent(stream, client_send(&stream->client, span_of(comment, sizeof(comment) - 1), false));
}

void stream_heard(struct stream *stream)
{
	stream->heard_ms = clock_ms();
}

void stream_begin(struct stream *stream)
{
	struct head head = {
	    .status = head_stream_status(stream->application_status),
	    .content_type = HEAD_EVENT_STREAM,
	    .application = span_of(stream->headers, stream->headers_len),
	    .now = time(NULL),
	    .content_length = -1,
	    .chunked = stream->client.framing == FRAMING_CHUNKED,
	    .relay = stream->relayed,
	};
	struct text *scratch;

	if (stream->state != STREAM_WAITING)
		return;
	scratch = scratch_take(stream);
	head_write(scratch, &head);
	if (!text_ok(scratch) || client_hold(&stream->client, text_span(scratch)) != 0) {
		end_lost(stream, OUTCOME_NO_MEMORY);
		return;
	}
	head_sent(stream, head.status);
	stream->state = STREAM_OPEN;
	stream->heard_ms = stream->spoken_ms = clock_ms();
	defer(stream);
	schedule(stream);
}

void stream_content(struct stream *stream, struct span utf8)
{
	struct text *scratch;

	if (stream->state != STREAM_OPEN || stream->head_only)
		return;
	scratch = scratch_take(stream);
	text_add_string(scratch, "data: {\"content\":\"");
	text_add_json(scratch, utf8);
	text_add_string(scratch, "\"}\n\n");
	count_event(stream);
	if (stream->first_event_ms < 0) {
		stream->first_event_ms = (int32_t)(clock_ms() - stream->accepted_ms);
		metrics_observe(METRIC_BACKEND_TTFB, (int64_t)stream->first_event_ms * 1000);
	}
	scratch_send(stream, false);
}

void stream_done(struct stream *stream)
{
	if (stream->state == STREAM_WAITING)
		stream_begin(stream);
	if (stream->state != STREAM_OPEN)
		return;
	if (stream->head_only) {
		sent(stream, client_send(&stream->client, SPAN_EMPTY, true));
	} else {
		text_add_string(scratch_take(stream), "data: [DONE]\n\n");
		count_event(stream);
		scratch_send(stream, true);
	}
	if (stream->state == STREAM_OPEN)
		end_output(stream, OUTCOME_DONE);
}

static void add_error_json(struct text *out, const struct stream_error *error)
{
	text_add_string(out, "{\"error\":{\"message\":\"");
	text_add_json(out, span_of_string(error->message));
	text_add_format(out, "\",\"code\":\"%s\"}}", outcome_name(error->outcome));
}

/* A whole response in place of the stream. */
static void answer_error(struct stream *stream, const struct stream_error *error)
{
	struct text body = {0};
	struct head head = {
	    .status = error->status,
	    .content_type = HEAD_JSON,
	    .application = span_of(stream->headers, stream->headers_len),
	    .now = time(NULL),
	    .retry_after = error->retry_after,
	    .relay = stream->relayed,
	};
	struct text *scratch = scratch_take(stream);

	add_error_json(&body, error);
	text_add_string(&body, "\n");
	head.content_length = (int64_t)body.len;
	head_write(scratch, &head);
	head_sent(stream, error->status);
	if (!stream->relayed)
		stream->client.framing = FRAMING_NONE;
	if (text_ok(scratch) && text_ok(&body) && client_hold(&stream->client, text_span(scratch)) == 0)
		sent(stream, client_send(&stream->client, stream->head_only ? SPAN_EMPTY : text_span(&body), true));
	else
		end_lost(stream, OUTCOME_NO_MEMORY);
	text_free(&body);
}

static void send_error_event(struct stream *stream, const struct stream_error *error)
{
	struct text *scratch = scratch_take(stream);

	text_add_string(scratch, "event: error\ndata: ");
	add_error_json(scratch, error);
	text_add_string(scratch, "\n\n");
	count_event(stream);
	scratch_send(stream, true);
}

void stream_fail(struct stream *stream, const struct stream_error *error)
{
	if (!stream_is_live(stream))
		return;
	if (stream->state == STREAM_WAITING)
		answer_error(stream, error);
	else
		send_error_event(stream, error);
	if (stream_is_live(stream))
		end_output(stream, error->outcome);
}

/* ---------------------------------------------------------------- what the client does */

static struct stream *stream_of(struct client *client)
{
	return (struct stream *)((char *)client - offsetof(struct stream, client));
}

static void on_gone(struct client *client)
{
	struct stream *stream = stream_of(client);

	if (stream->state == STREAM_LINGERING)
		close_now(stream);
	else
		end_lost(stream, OUTCOME_CLIENT_GONE);
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
	if (headers.len > 0) {
		stream->headers = malloc(headers.len);
		if (stream->headers == NULL) {
			free(stream);
			return NULL;
		}
		memcpy(stream->headers, headers.data, headers.len);
		stream->headers_len = (uint32_t)headers.len;
	}
	return stream;
}

void stream_discard(struct stream *stream)
{
	if (stream->work != NULL)
		stream->streamer->ops->stop(stream->work, stream->whole);
	free(stream->headers);
	free(stream);
}

void stream_start(struct stream *stream, int client)
{
	struct streamer *streamer = stream->streamer;

	client_open(&stream->client, streamer->loop, client, stream->client.framing, &client_events,
	            streamer->backend->write_timeout_s * 1000);
	stream->accepted_ms = stream->heard_ms = clock_ms();
	ev_timer_init(&stream->timer, on_timer, 0.0, 0.0);
	LIST_INSERT_HEAD(&streamer->streams, stream, all);
	streamer->n_streams++;
	streamer->n_relays += stream->relayed;
	metrics_add(METRIC_RELAYED, stream->relayed);
	metrics_set(METRIC_ACTIVE_RELAYS, streamer->n_relays);
	metrics_set(METRIC_ACTIVE_STREAMS, streamer->n_streams);
	metrics_set(METRIC_PEAK_STREAMS, streamer->n_streams);
	if (stream->head_only) {
		stream_done(stream); /* the upstream is not asked for an answer that nobody gets */
		return;
	}
	metrics_add(METRIC_BACKEND_REQUESTS, 1);
	streamer->ops->start(stream);
	if (stream->state != STREAM_CLOSED)
		schedule(stream);
}

/* What callbacks of libraries could not do themselves. */
static void after_batch(struct streamer *streamer)
{
	struct stream *stream;

	while ((stream = STAILQ_FIRST(&streamer->deferred)) != NULL) {
		STAILQ_REMOVE_HEAD(&streamer->deferred, deferred);
		stream->is_deferred = false;
		if (stream->state == STREAM_OPEN)
			sent(stream, client_flush(&stream->client));
		if (stream->work != NULL && !stream_is_live(stream)) {
			streamer->ops->stop(stream->work, stream->whole);
			stream->work = NULL;
		}
		if (stream->state != STREAM_CLOSED)
			continue;
		LIST_REMOVE(stream, all);
		streamer->n_streams--;
		streamer->n_relays -= stream->relayed;
		metrics_set(METRIC_ACTIVE_RELAYS, streamer->n_relays);
		metrics_set(METRIC_ACTIVE_STREAMS, streamer->n_streams);
		stream_discard(stream);
		if (streamer->n_streams == 0 && streamer->idle != NULL)
			streamer->idle(streamer);
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
