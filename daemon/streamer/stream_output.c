/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream: what its client gets to see, see stream.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "backend.h"
#include "clock.h"
#include "head.h"
#include "response_headers.h"
#include "stream_internal.h"

#define SCRATCH_KEPT 65536 /* an unusually large event does not leave its memory behind */

static enum config_output output_of(const struct stream *stream)
{
	return stream->streamer->output;
}

/* There is no place in it for anything of ours: no comments, no [DONE], no errors. */
static bool is_bare(const struct stream *stream)
{
	return output_of(stream) == OUTPUT_TEXT || output_of(stream) == OUTPUT_RAW;
}

static void count_event(struct stream *stream)
{
	stream->events++;
	metrics_add(METRIC_CHUNKS_SENT, 1);
}

void stream_sent(struct stream *stream, int rc)
{
	if (rc != 0) {
		stream_gone(stream);
		return;
	}
	stream->spoken_ms = clock_ms();
	if (stream->draining && stream->client.discarded > stream->streamer->backend->drain_bytes) {
		stream_lost(stream, OUTCOME_CLIENT_GONE);
		return;
	}
	if (client_unsent(&stream->client) == 0)
		return;
	if (!stream->paused && stream_is_live(stream) && client_unsent(&stream->client) > CLIENT_PENDING_BOUND) {
		stream->paused = true;
		metrics_add(METRIC_PAUSES, 1);
		stream->streamer->ops->pause(stream, true);
	}
	stream_schedule(stream);
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
		stream_sent(stream, client_send(&stream->client, text_span(scratch), last));
	else
		stream_lost(stream, OUTCOME_NO_MEMORY); /* without a last chunk: the client sees that it is not whole */
}

static void head_sent(struct stream *stream, unsigned status)
{
	stream->status = (uint16_t)status;
	free(stream->headers);
	stream->headers = NULL;
	stream->headers_len = 0;
}

void stream_keep_alive(struct stream *stream)
{
	static const char comment[] = ": ping\n\n";

	if (stream->state == STREAM_OPEN)
		stream_sent(stream, client_send(&stream->client, span_of(comment, sizeof(comment) - 1), false));
}

void stream_heard(struct stream *stream)
{
	stream->heard_ms = clock_ms();
}

/* It goes out with what comes first after it. */
static void hold_head(struct stream *stream, const struct head *head)
{
	struct text *scratch = scratch_take(stream);

	head_write(scratch, head);
	if (!text_ok(scratch) || client_hold(&stream->client, text_span(scratch)) != 0) {
		stream_lost(stream, OUTCOME_NO_MEMORY);
		return;
	}
	head_sent(stream, head->status);
	stream->state = STREAM_OPEN;
	stream->spoken_ms = clock_ms();
	stream_defer(stream);
}

void stream_open(struct stream *stream)
{
	struct head head = {
	    .status = head_stream_status(stream->application_status),
	    .content_type = output_of(stream) == OUTPUT_TEXT ? HEAD_PLAIN_TEXT : HEAD_EVENT_STREAM,
	    .application = span_of(stream->headers, stream->headers_len),
	    .now = time(NULL),
	    .content_length = -1,
	    .chunked = stream->client.framing == FRAMING_CHUNKED,
	    .relay = stream->relayed,
	};

	hold_head(stream, &head);
}

/* The body's end is where its length says, or there is none. */
static void hold_answer(struct stream *stream, const struct stream_answer *answer, struct span lines)
{
	if (!stream->relayed && (answer->bodiless || answer->length >= 0))
		stream->client.framing = FRAMING_NONE;
	hold_head(stream, &(struct head){
	                      .status = answer->status,
	                      .application = lines,
	                      .now = time(NULL),
	                      .content_length = answer->bodiless ? -1 : answer->length,
	                      .chunked = stream->client.framing == FRAMING_CHUNKED,
	                      .relay = stream->relayed,
	                  });
}

int stream_answer(struct stream *stream, const struct stream_answer *answer)
{
	struct text lines = {0};
	int rc;

	if (stream->state != STREAM_WAITING)
		return 0;
	rc = response_headers_replace(span_of(stream->headers, stream->headers_len), answer->headers, &lines);
	if (rc == 0) {
		stream->answered = true;
		stream->heard_ms = clock_ms();
		hold_answer(stream, answer, text_span(&lines));
	} else if (rc == -ENOMEM) {
		stream_lost(stream, OUTCOME_NO_MEMORY);
		rc = 0;
	}
	text_free(&lines);
	if (stream->state == STREAM_OPEN)
		stream_schedule(stream);
	return rc;
}

void stream_begin(struct stream *stream)
{
	if (!stream_is_live(stream) || stream->answered)
		return;
	stream->answered = true;
	stream->heard_ms = clock_ms();
	if (stream->state == STREAM_WAITING)
		stream_open(stream);
	if (stream->state == STREAM_OPEN)
		stream_schedule(stream);
}

static void count_first(struct stream *stream)
{
	if (stream->first_event_ms >= 0)
		return;
	stream->first_event_ms = (int32_t)(clock_ms() - stream->accepted_ms);
	metrics_observe(METRIC_BACKEND_TTFB, (int64_t)stream->first_event_ms * 1000);
}

void stream_event(struct stream *stream, const struct sse_event *event)
{
	if (stream->state != STREAM_OPEN || output_of(stream) != OUTPUT_PASSTHROUGH)
		return;
	sse_write(scratch_take(stream), event);
	count_event(stream);
	count_first(stream);
	scratch_send(stream, false);
}

void stream_content(struct stream *stream, struct span utf8)
{
	struct text *scratch;

	if (stream->state != STREAM_OPEN)
		return;
	stream->pieces++;
	if (output_of(stream) == OUTPUT_PASSTHROUGH)
		return;
	count_event(stream);
	count_first(stream);
	if (output_of(stream) == OUTPUT_TEXT) {
		stream_sent(stream, client_send(&stream->client, utf8, false));
		return;
	}
	scratch = scratch_take(stream);
	text_add_string(scratch, "data: {\"content\":\"");
	text_add_json(scratch, utf8);
	text_add_string(scratch, "\"}\n\n");
	scratch_send(stream, false);
}

void stream_bytes(struct stream *stream, struct span bytes)
{
	if (stream->state != STREAM_OPEN || bytes.len == 0)
		return;
	count_event(stream);
	count_first(stream);
	stream_sent(stream, client_send(&stream->client, bytes, false));
}

void stream_usage(struct stream *stream, uint32_t prompt, uint32_t completion)
{
	stream->usage = (struct usage){.prompt = prompt, .completion = completion, .kind = USAGE_EXACT};
}

void stream_done(struct stream *stream)
{
	stream_begin(stream);
	if (stream->state != STREAM_OPEN)
		return;
	if (stream->head_only || is_bare(stream)) {
		stream_sent(stream, client_send(&stream->client, SPAN_EMPTY, true));
	} else {
		text_add_string(scratch_take(stream), "data: [DONE]\n\n");
		count_event(stream);
		scratch_send(stream, true);
	}
	if (stream->state == STREAM_OPEN)
		stream_end_output(stream, OUTCOME_DONE);
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
		stream_sent(stream,
		            client_send(&stream->client, stream->head_only ? SPAN_EMPTY : text_span(&body), true));
	else
		stream_lost(stream, OUTCOME_NO_MEMORY);
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
	else if (is_bare(stream))
		/* The body stays without its end, which shows. */
		stream_sent(stream, client_flush(&stream->client));
	else
		send_error_event(stream, error);
	if (stream_is_live(stream))
		stream_end_output(stream, error->outcome);
}
