/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream: its deadlines, see stream.h.
 */
#include "backend.h"
#include "clock.h"
#include "stream_internal.h"

#define LINGER_MS 2000
#define NEVER     INT64_MAX

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t seconds_after(int64_t start_ms, unsigned seconds)
{
	return start_ms + (int64_t)seconds * 1000;
}

/* When the upstream, held back by nobody, has been silent for too long. */
static int64_t silence_deadline(const struct stream *stream)
{
	const struct config_backend *backend = stream->streamer->backend;
	int64_t at = NEVER;

	if (!stream->streamer->ops->has_upstream || stream->paused)
		return NEVER;
	if (stream->first_event_ms < 0 && backend->first_token_timeout_s > 0)
		at = seconds_after(stream->accepted_ms, backend->first_token_timeout_s);
	return earlier(at, stream->answered ? seconds_after(stream->heard_ms, backend->idle_timeout_s)
	                                    : seconds_after(stream->accepted_ms, backend->first_byte_timeout_s));
}

/* When the client is to get something although there is no content: a head, then comments. */
static int64_t speak_deadline(const struct stream *stream)
{
	const struct config_backend *backend = stream->streamer->backend;

	if (stream->streamer->output == OUTPUT_RAW)
		return NEVER; /* it is for the program to say */
	if (stream->state == STREAM_WAITING && backend->head_after_s > 0)
		return seconds_after(stream->accepted_ms, backend->head_after_s);
	if (stream->state == STREAM_OPEN && client_unsent(&stream->client) == 0 && backend->keepalive_s > 0 &&
	    stream->streamer->output != OUTPUT_TEXT)
		return seconds_after(stream->spoken_ms, backend->keepalive_s);
	return NEVER;
}

/* When a client that takes nothing is given up. */
static int64_t write_deadline(const struct stream *stream)
{
	if (client_unsent(&stream->client) == 0)
		return NEVER;
	return seconds_after(stream->client.progress_ms, stream->streamer->backend->write_timeout_s);
}

/* The nearest deadline. One timer serves all: activity only moves deadlines back, which costs nothing until the timer
 * fires too early and is set again. */
static int64_t next_deadline(const struct stream *stream)
{
	int64_t at;

	if (stream->state == STREAM_LINGERING)
		return stream->shut_ms + LINGER_MS;
	if (stream->state == STREAM_FLUSHING)
		return write_deadline(stream); /* what is unsent is little, and progress is asked for */
	at = seconds_after(stream->accepted_ms, stream->streamer->backend->max_duration_s);
	at = earlier(at, write_deadline(stream));
	at = earlier(at, silence_deadline(stream));
	return earlier(at, speak_deadline(stream));
}

void stream_schedule(struct stream *stream)
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
	if (stream->state == STREAM_LINGERING)
		stream_close(stream);
	else if (now >= write_deadline(stream))
		stream_lost(stream, OUTCOME_WRITE_TIMEOUT);
	else if (!stream_is_live(stream))
		return;
	else if (now >= seconds_after(stream->accepted_ms, stream->streamer->backend->max_duration_s))
		too_long(stream);
	else if (now >= silence_deadline(stream))
		upstream_silent(stream);
	else if (stream->state == STREAM_WAITING)
		stream_open(stream);
	else
		stream_keep_alive(stream);
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
		stream_schedule(stream);
}

void stream_deadlines_init(struct stream *stream)
{
	ev_timer_init(&stream->timer, on_timer, 0.0, 0.0);
}
